"""make dist and make layer: what is in the zips, and that Lambda can start it."""

import ast
import functools
import io
import marshal
import os
import pathlib
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import unittest
import warnings
import zipfile
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from unittest import mock

import package
from dependencies import MAKE_A_WHEEL, built_here, complaint, settled
from elf import Elf
from miniature import REPO, Lambda, until_asleep
from root_fs import ENVIRONMENT, RootFS, enter, needs_chroot, unpack
from test_one_file import pack

TAG = sys.implementation.cache_tag
VERSION = "%d.%d" % sys.version_info[:2]
GREETING = "def handler(event, context):\n    return [event, __file__]\n"


def started(*arguments, **environment):
    """Run package.py; its output and messages, with the exit status."""
    result = subprocess.run(
        [sys.executable, str(REPO / "tests/deploy/package.py"), *map(str, arguments)],
        env={**os.environ, "FORCE": "1", **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,  # this Python may want any glibc
        universal_newlines=True, timeout=60,
    )
    return result.returncode, result.stdout


once = functools.lru_cache(maxsize=None)(compile)  # most zips have the same runtime.py in them, which takes longest


def build(*arguments, **environment):
    """The same in this process, in a tenth of the time: package.py itself is two, for it starts anew in a state that does not vary."""
    environment = {**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, "FORCE": "1", **environment}
    said = io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment, clear=True))
        stack.enter_context(mock.patch.object(sys, "argv", ["package.py", *map(str, arguments)]))
        stack.enter_context(mock.patch.multiple(package, create=True, restart=lambda python: None, compile=once, packed="", excluding=set()))
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(redirect_stdout(said))
        stack.enter_context(redirect_stderr(said))
        try:
            package.main()
        except SystemExit as error:
            if isinstance(error.code, int):
                return error.code, said.getvalue()
            return 1, f"{said.getvalue()}{error.code}\n"
    return 0, said.getvalue()


def read(archive):
    """{name: (mode, content)} of a zip, in its order."""
    with zipfile.ZipFile(archive) as file:
        return {entry.filename: (entry.external_attr >> 16, file.read(entry)) for entry in file.infolist()}


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="package-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.output = self.folder / "out/function.zip"

    def pack(self, *arguments, by=build, **environment):
        return by("function", self.folder / "code", "--output", self.output, *arguments, **environment)

    def write(self, name, content=""):
        path = self.folder / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def refused(self, text, **environment):
        status, said = self.pack(**environment)
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn(text, said)
        self.assertFalse(self.output.exists())


class FunctionZip(Folder):
    def test_what_is_in_it(self):
        self.write("function.py", GREETING)
        self.write("lib/data.json", "{}")
        self.write("lib/tool.sh", "#!/bin/sh\n").chmod(0o711)
        self.write("lib/secret.pem").chmod(0o600)
        self.write("lib/__pycache__/old.cpython-38.pyc")
        self.write(".git/HEAD")
        self.write("env/pyvenv.cfg")
        self.write("env/lib/big.py")
        self.write("function.py~")
        self.write("old.libs/liba.so.1.txt")
        status, said = self.pack(by=started)
        self.assertEqual(status, 0, said)
        files = read(self.output)
        self.assertEqual(
            [f"{mode:o} {name}" for name, (mode, _) in files.items()],
            [
                f"100644 __pycache__/function.{TAG}.pyc",
                f"100644 __pycache__/runtime.{TAG}.pyc",
                "100755 bootstrap",
                "100644 function.py",
                "100644 lib/data.json",
                "100644 lib/secret.pem",
                "100755 lib/tool.sh",
                "100644 old.libs/liba.so.1.txt",
                "100644 runtime.py",
            ],
        )
        self.assertEqual(files["runtime.py"][1], (REPO / "runtime.py").read_bytes())
        self.assertEqual(files["bootstrap"][1], (REPO / "bootstrap").read_bytes())
        self.assertIn(f"package.py: {self.folder}/code: left out: .git/, env/, function.py~\n", said)
        self.assertRegex(said, rf"function.zip: 9 files from {self.folder}/code, .* unpacked \(Lambda's limit .* 250 MB\), Python " + VERSION)

    def test_what_is_secret_or_left_by_a_tool(self):
        secret = [".env", ".env.prod", ".envrc", ".aws/credentials", ".ssh/id", ".netrc", ".pypirc", ".npmrc", "deep/.env",
                  "terraform.tfstate", "terraform.tfstate.backup", "prod.tfvars", ".terraform/x", ".terraform.lock.hcl", "id_rsa"]
        tools = ["cdk.out/x", ".serverless/x", "deep/node_modules/x", "dist/x", "build/x", "a.egg-info/PKG-INFO", ".eggs/x", "poetry.lock",
                 "uv.lock", "package-lock.json", ".github/x", ".gitlab-ci.yml", ".circleci/x", ".gitignore", ".pre-commit-config.yaml"]
        packed = ["function.py", "deep/build/x", "environment.py", "env.py", "lib/cacert.pem", "build_tools.py", "requirements.txt.in"]
        for name in secret + tools + packed:
            self.write(name)
        status, said = self.pack()
        self.assertEqual(status, 0, said)
        self.assertEqual([n for n in read(self.output) if "__pycache__" not in n], sorted([*packed, "bootstrap", "runtime.py"]))
        (line,) = [line for line in said.splitlines() if "left out" in line]
        for name in secret[:5]:
            self.assertIn(name.split("/")[0], line)  # secrets are named first
        self.write("built/bootstrap")  # a clone of this repository, or what was built before: bootstrap and runtime.py
        self.write("built/runtime.py")
        self.write("wheels/lib-1.0-py3-none-any.whl")
        shutil.copy(self.output, self.folder / "code" / "built.zip")
        self.write("no.zip")
        self.pack()
        self.assertEqual([n for n in read(self.output) if n.startswith(("built", "wheels", "no."))], ["no.zip"])
        self.write("dist/__init__.py")  # a package of that name
        self.pack()
        self.assertIn("dist/x", read(self.output))

    def test_exclude(self):
        for name in ("function.py", "tests/a.py", "lib/tests/b.py", "lib/testsuite.py", "docs/x.md", "lib/y.md"):
            self.write(name)
        self.pack(EXCLUDE="*/tests/* *.md docs")
        names = [n for n in read(self.output) if "__pycache__" not in n]
        self.assertEqual(names, ["bootstrap", "function.py", "lib/testsuite.py", "runtime.py"])
        said = self.pack(EXCLUDE="tests,docs lib/ *.rst docs/?.md")[1]
        self.assertIn("warning: EXCLUDE=tests,docs *.rst: no file is called so (", said)
        self.assertNotIn("warning", self.pack(EXCLUDE="docs")[1])

    def test_a_private_key_is_named(self):
        self.write("lib/client.pem", "-----BEGIN RSA PRIVATE KEY-----\n")
        self.write("lib/cacert.pem", "-----BEGIN CERTIFICATE-----\n")
        self.assertIn("warning: packed private keys: lib/client.pem (", self.pack()[1])

    def test_an_import_that_nothing_provides(self):
        self.write("function.py", """
import json, os.path, missing_one.deep, package.module, runtime
from typing import TYPE_CHECKING
from . import sibling
if TYPE_CHECKING:
    import only_typing
try:
    import optional
except ImportError:
    optional = None
def handler(event, context):
    from missing_two import x
""")
        self.write("package/module.py", "import vendored, beside")
        self.write("package/beside.py")
        self.write("vendored/__init__.py", "import optional_of_vendored")
        self.write("vendored-1.dist-info/RECORD", "vendored/__init__.py,,\n")
        said = self.pack()[1]
        self.assertIn(
            "warning: imported, and not provided by anything in the folder: "
            f"missing_one (in function.py), missing_two (in function.py); name it in {self.folder}/code/requirements.txt", said
        )

    def test_an_import_that_something_else_provides(self):
        """A folder that the function puts on the path; what pip has installed into a folder below."""
        self.write("function.py", "import sys; sys.path.insert(0, 'src'); import pay, module")
        self.write("src/pay/__init__.py", "import absent")
        self.write("src/module.py")
        self.write("vendor/vendored/__init__.py", "import optional_of_vendored")
        self.write("vendor/vendored-1.dist-info/RECORD", "vendored/__init__.py,,\n")
        self.assertRegex(self.pack()[1], r": absent \(in src/pay/__init__.py\); name it in \S+/requirements.txt, unless")
        self.write("function.py", "import pay")
        self.write("pyproject.toml")
        self.assertRegex(self.pack()[1], r", pay \(in function.py\); .* \(pyproject.toml is not read: uv export --no-emit-project -o \S+/requirements.txt\)")
        self.write("requirements.txt", "# nothing")
        self.assertNotIn("is not read", self.pack(REQUIREMENTS=str(self.folder / "code/requirements.txt"))[1])

    def test_requirements_from_a_wheel(self):
        """Into the zip, not into the folder; without scripts and what differs from machine to machine."""
        wheels = self.folder / "wheels"
        wheels.mkdir()
        with zipfile.ZipFile(wheels / "needed-1.0-py3-none-any.whl", "w") as wheel:
            info = "needed-1.0.dist-info"
            files = {
                "needed.py": "x = 1\n", "needed_tests/test.py": "", f"{info}/METADATA": "Metadata-Version: 2.1\nName: needed\nVersion: 1.0\n",
                f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
                f"{info}/entry_points.txt": "[console_scripts]\nneeded = needed:x\n",
            }
            files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
            for name, content in files.items():
                wheel.writestr(name, content)
            for name in "needed_program", "needed_module.py":
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o100755 << 16
                wheel.writestr(entry, "")
        self.write("function.py", "import needed")
        self.write("requirements.txt", "needed==1.0\n")
        tools = self.folder / "no uv"
        tools.mkdir()
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull, "PATH": str(tools), "PIP_EXTRA_INDEX_URL": ""}
        # A person's own configuration of pip sends it nowhere else.
        offline.update({"PIP_ROOT": str(tools), "PIP_PREFIX": str(tools), "PIP_TARGET": str(tools), "PIP_DRY_RUN": "1", "PIP_USER": "1"})
        before = sorted(self.folder.rglob("code/**/*"))
        status, said = self.pack(EXCLUDE="*_tests", **offline)
        if "has no pip" in said:
            self.skipTest("this Python has no pip")
        self.assertEqual(status, 0, said)
        self.assertNotIn("warning", said)
        self.assertEqual(sorted(self.folder.rglob("code/**/*")), before)
        names = [n for n in read(self.output) if "__pycache__" not in n]
        self.assertEqual(
            names, ["bootstrap", "function.py", *(f"{info}/{n}" for n in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
                    "needed.py", "needed_module.py", "needed_program", "requirements.txt", "runtime.py"]
        )
        self.assertEqual([n for n, (mode, _) in read(self.output).items() if mode & 0o111], ["bootstrap", "needed_program"])
        self.assertIn(f"__pycache__/needed.{TAG}.pyc", read(self.output))
        self.output.unlink()
        self.write("requirements.txt", "missing==1.0\n")
        self.refused("No matching distribution found for missing==1.0", **offline)
        self.refused("REQUIREMENTS=nowhere.txt: no such file", REQUIREMENTS="nowhere.txt")
        self.write("requirements.txt", "-e ../elsewhere\n")
        self.refused("requirements.txt: -e ../elsewhere: only wheels are installed: make one in wheels/ beside this file (pip wheel ", **offline)
        self.assertEqual(self.pack(REQUIREMENTS="")[0], 0)  # none

    def test_a_wheel_that_there_is_none_of_and_a_registry_out_of_reach(self):
        last = "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\nERROR: No matching distribution found for x==1\n"
        broken = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('...: Failed to establish a new connection')': /simple/x/\n"
        pip = "pip, wheels for Python 3.99 on arm64: No matching distribution found for x==1; "
        for said, installer, text in (
            (last, "pip", pip + f"only wheels are installed: name another version or another Python, or {MAKE_A_WHEEL}"),
            (broken + last, "pip", pip + "the package registry was not reached: are you online?"),
            ("error: Failed to fetch: `https://x/`\n  Caused by: dns error\n", "uv",
             "uv, wheels for Python 3.99 on arm64: error: Failed to fetch: `https://x/` Caused by: dns error; the package registry was not reached: are you online?"),
            ("x No solution found\nx has no wheels with a matching Python ABI tag\n", "uv",
             "uv, wheels for Python 3.99 on arm64: x No solution found x has no wheels with a matching Python ABI tag"),
        ):
            self.assertEqual(complaint(said, installer, "3.99", "arm64"), text)

    def test_a_requirement_that_would_be_built_here(self):
        """Named before pip builds it in its own folder, or packs an editable one's path; in files of any encoding."""
        (self.folder / "lib").mkdir()
        included = self.write("more.txt", "-r requirements.txt\nsix\n")
        for line in ("-e ./lib", "--editable=lib", f"{self.folder}/lib", f"lib[x] @ file://{self.folder}/lib ; python_version > '3'", ".",
                     "six @ git+https://host/six.git@main#egg=six", "git+ssh://git@host/six.git", "https://host/six-1.0.tar.gz#sha256=1", "./six-1.0.zip"):
            with self.subTest(line):
                path = str(self.write("requirements.txt", f"\ufeffidna\r\n{line}  # why\r\n-r gone.txt\r\n"))
                self.assertEqual((built_here(path), built_here(str(included))), (line, line))
        for text in (b"six\n# -e ./lib\nlib\nsix --hash=sha256:1 \\\n  --hash=sha256:2\n--find-links wheels\n./wheels/a-1-py3-none-any.whl\n"
                     b"-c constraints.txt\nemail-editable\n", b"\xff\xfes\0i\0x\0", b"# caf\xe9\nsix", b""):
            self.assertIsNone(built_here(str(self.write("requirements.txt", text))))

    def test_the_same_whichever_installer(self):
        info = "a-1.dist-info"
        uv = {f"{info}/RECORD": (f"b.py,,\na.py,,\n../../bin/a,,\n{info}/INSTALLER,,\n".encode(), False), f"{info}/INSTALLER": (b"uv", False),
              f"{info}/uv_cache.json": (b"{}", False), ".lock": (b"", False), "bin/a": (b"", True), "a.py": (b"", True), "a.so": (b"", True)}
        pip = {f"{info}/RECORD": (f"a.py,,\n__pycache__/a.pyc,,\nb.py,,\n{info}/REQUESTED,,\n".encode(), False), f"{info}/REQUESTED": (b"", False),
               "a.py": (b"", False), "a.so": (b"", False)}
        self.assertEqual(settled(uv), settled(pip))
        self.assertEqual(settled(uv)[f"{info}/RECORD"][0], b"a.py,,\nb.py,,\n")

    def test_what_an_installer_says_in_one_line(self):
        for said, text in {
            "WARNING: x\nERROR: Ignored\nERROR: NO MATCH\n    six: Expected 1\n      Got 2\n": "NO MATCH six: Expected 1 Got 2",
            "ERROR: Exception:\nTraceback (most recent call last):\n  x\nUnicodeDecodeError: bad\n": "UnicodeDecodeError: bad",
            "ERROR: No matching distribution found for six": "No matching distribution found for six; only wheels are installed: name ",
            "": "no message",
        }.items():
            self.assertIn(f"pip, wheels for Python 3.13 on arm64: {text}", complaint(said, "pip", "3.13", "arm64"))
        said = "error: No solution\n  cause: six has no usable wheels.\nhint: x\n"
        self.assertIn("arm64: error: No solution cause: six has no usable wheels; only wheels ", complaint(said, "uv", "3.13", "arm64"))

    def test_a_folder_in_place_of_a_zip(self):
        self.write("function.py", GREETING)
        self.write("tool.sh", "#!/bin/sh").chmod(0o700)
        self.output = self.folder / "code/unpacked/"
        for _ in "first", "again":
            self.output.mkdir(exist_ok=True)
            (self.output / "bootstrap").touch()
            (self.output / "stale.py").touch()
            status, said = build("function", self.folder / "code", "--output", f"{self.output}/")
            self.assertEqual(status, 0, said)
            modes = {p.name: p.stat().st_mode & 0o777 for p in self.output.iterdir() if p.is_file()}
            self.assertEqual(modes, {"bootstrap": 0o755, "function.py": 0o644, "runtime.py": 0o644, "tool.sh": 0o755})
        (self.output / "bootstrap").unlink()  # as of a build that was broken off, whose files have its date
        self.assertEqual(build("function", self.folder / "code", "--output", f"{self.output}/")[0], 0)
        for path in self.output.iterdir():
            os.utime(path)
        (self.output / "bootstrap").unlink()
        self.assertIn("has files that were not built here", build("function", self.folder / "code", "--output", f"{self.output}/")[1])
        for around in self.folder, self.folder / "code":
            self.assertIn("/code, which is packed: pass another", build("function", self.folder / "code", "--output", f"{around}/")[1])
        self.assertIn("NAME.zip, or FOLDER/", build("function", self.folder / "code", "--output", self.folder / "name")[1])

    def test_what_is_known_as_built_here_comes_first(self):
        with self.assertRaises(ValueError):
            package.write(f"{self.output}/", {"a/\0": (b"", False), "b": (b"", False)})
        self.assertEqual([entry.name for entry in os.scandir(self.output) if package.built_here(entry)], ["b"])

    def test_a_folder_is_readable_whatever_the_umask(self):
        self.write("deep/function.py", GREETING)
        self.addCleanup(os.umask, os.umask(0o077))
        build("function", self.folder / "code", "--output", f"{self.output}/")
        self.assertEqual([f"{path.stat().st_mode & 0o777:o}" for path in (self.output, self.output / "deep")], ["755", "755"])

    def test_an_output_that_cannot_be_written(self):
        self.write("function.py", GREETING)
        file = self.folder / "file"
        file.touch()
        (self.folder / "link").symlink_to("gone")
        for output in f"{file}/", f"{file}/x.zip", f"{self.folder}/link/x.zip", f"{self.folder}/link/":
            there = output[:output.index("/", len(f"{self.folder}/"))]
            said = build("function", self.folder / "code", "--output", output)
            self.assertEqual(said, (1, f"package.py: OUTPUT={output}: {there} is there, and no folder\n"))
        said = build("function", self.folder / "code", "--output", "/proc/function.zip")
        self.assertEqual(said, (1, "package.py: /proc/function.zip.part: No such file or directory\n"))
        with mock.patch("builtins.open", side_effect=PermissionError(13, "Permission denied", "a/b\udce9.py")):
            with self.assertRaisesRegex(SystemExit, r"^package.py: a/b\\xe9.py: Permission denied$"):
                with mock.patch.object(sys, "argv", ["package.py", "--restarted", "function", str(self.folder / "code")]):
                    package.main()

    def test_an_interrupt(self):
        """While it installs, say: no traceback, nothing left behind."""
        self.write("function.py", GREETING)
        self.write("requirements.txt", "six")
        (self.folder / "bin").mkdir()
        (self.folder / "tmp").mkdir()
        (self.folder / "bin/uv").write_text(f"#!/bin/sh\necho >{self.folder}/fifo\nexec sleep 60\n")
        (self.folder / "bin/uv").chmod(0o755)
        os.mkfifo(self.folder / "fifo")
        command = [sys.executable, REPO / "tests/deploy/package.py", "function", self.folder / "code", "--output", self.output]
        env = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "TMPDIR": str(self.folder / "tmp")}
        for number in signal.SIGINT, signal.SIGTERM:
            process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            (self.folder / "fifo").read_text()  # uv has begun
            until_asleep(process.pid)  # and is waited for: in between, subprocess would not end it
            process.send_signal(number)
            self.assertEqual((process.communicate(timeout=30)[0], process.returncode), (b"", 128 + number))
            self.assertEqual((list((self.folder / "tmp").iterdir()), self.output.exists()), ([], False))

    def test_a_layer_for_another_python_is_named(self):
        self.write("function.py", GREETING)
        self.output.parent.mkdir()
        for tag, warned in (("cpython-38", True), (TAG, False)):
            with zipfile.ZipFile(self.output.parent / "layer.zip", "w") as layer:
                layer.writestr(f"__pycache__/runtime.{tag}.pyc", "")
            self.assertEqual(f"warning: compiled for {TAG}, and " in self.pack()[1], warned)

    def test_compiled_code_is_for_the_path_on_lambda_and_never_checked(self):
        self.write("deep/module.py", "def f(): pass\n")
        self.pack()
        pyc = read(self.output)[f"deep/__pycache__/module.{TAG}.pyc"][1]
        self.assertEqual(pyc[4:8], b"\1\0\0\0")  # PEP 552: by hash, not checked
        code = marshal.loads(pyc[16:])
        self.assertEqual([c.co_filename for c in (code, code.co_consts[0])], ["/var/task/deep/module.py"] * 2)

    def test_same_input_same_bytes(self):
        for number in range(20):
            self.write(f"module_{number}.py", f"def f{number}(x):\n    return x in {{'a', 'b', 'c', {number}.5, None}}\n")
        self.pack(by=started, PYTHONHASHSEED="1")
        first = self.output.read_bytes()
        for path in self.folder.rglob("*.py"):
            os.utime(path, (1, 1))
        self.pack(by=started, PYTHONHASHSEED="2", TZ="Asia/Tokyo", SOME="variable" * 100, PYTHONPYCACHEPREFIX=f"{self.folder}/cache", PYTHONOPTIMIZE="2")
        self.assertEqual(first, self.output.read_bytes())

    def test_same_code_same_bytes_whoever_else_uses_its_names(self):
        source = "def function(a_name): return another_name"
        alone = package.dumped(compile(source, "file.py", "exec"))
        used = [sys.intern("_".join([word, "name"])) for word in ("a", "another")]
        self.assertEqual(package.dumped(compile(source, "file.py", "exec")), alone, used)

    def test_code_that_does_not_compile_ships_as_it_is(self):
        self.write("function.py", GREETING)
        self.write("template.py", "class {{ name }}:\n")
        self.write("nul.py", b"x = '\0'\n")
        self.write("latin.py", b"x = '\xe9'\n")
        self.write("escape.py", "x = '\\d'\n")
        status, said = self.pack()
        self.assertEqual(status, 0)
        count = f"3 files do not compile on Python {VERSION} and ship as they are: "
        self.assertRegex(said, count + r"latin.py.*: .*(?:utf|UTF)-8.*; nul.py.*: .*null bytes.*; template.py, line 1: invalid syntax\n")
        files = read(self.output)
        self.assertIn(f"__pycache__/escape.{TAG}.pyc", files)
        self.assertNotIn("Warning", said)
        self.assertEqual(files["template.py"][1], b"class {{ name }}:\n")
        self.assertNotIn(f"__pycache__/template.{TAG}.pyc", files)

    def test_one_file_or_many_that_do_not_compile(self):
        self.write("deep/one.py", "\n\nx = 1 2\n")
        self.assertRegex(self.pack()[1], rf": 1 file does not compile on Python {VERSION} and ships as it is: deep/one.py, line 3: \w.*\n")
        for number in range(4):
            self.write(f"many_{number}.py", "x = 1 2\n")
        self.assertRegex(self.pack()[1], r": 5 files do not .*: deep/one.py, .*; many_0.py, .*; many_1.py, line 1: \w.*; and 2 more\n")

    def test_symbolic_links_are_followed(self):
        self.write("../elsewhere/shared.py", "x = 1\n")
        self.write("function.py", GREETING)
        (self.folder / "code/package").symlink_to(self.folder / "elsewhere")
        (self.folder / "code/alias.py").symlink_to("function.py")
        self.pack()
        files = read(self.output)
        self.assertEqual(files["package/shared.py"], (0o100644, b"x = 1\n"))
        self.assertEqual(files["alias.py"], (0o100644, GREETING.encode()))
        self.assertIn(f"packed what these links out of the folder point to: package -> {self.folder}/elsewhere\n", self.pack()[1])

    def test_a_link_to_nothing_or_in_a_circle_is_refused(self):
        link = self.write("function.py").parent / "link"
        link.symlink_to("gone")
        self.refused("link is a symbolic link to nothing")
        link.unlink()
        link.symlink_to(".")
        self.refused("link is a symbolic link to a folder that holds it")

    def test_a_link_to_nothing_is_refused_beside_an_older_zip(self):
        link = self.write("function.py").parent / "link"
        self.pack()
        link.symlink_to("gone")
        self.assertEqual(self.pack(), (1, f"package.py: {link} is a symbolic link to nothing: remove it\n"))

    @unittest.skipUnless(os.path.exists("/dev/full"), "this machine has no /dev/full")
    def test_a_stdout_that_is_full(self):
        self.write("function.py")
        command = [sys.executable, REPO / "tests/deploy/package.py", "function", self.folder / "code", "--output", self.output]
        with open("/dev/full", "w") as full:
            ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
        self.assertEqual((ran.returncode, ran.stderr), (1, b"package.py: stdout cannot be written to: No space left on device\n"))
        self.assertTrue(self.output.exists())

    def test_the_zip_itself_is_left_out(self):
        self.write("function.py")
        self.output = self.folder / "code/function.zip"
        for _ in "first", "again":
            self.pack()
            self.assertNotIn("function.zip", read(self.output))

    def test_its_own_runtime_or_an_older_bootstrap_is_refused(self):
        older = (REPO / "bootstrap").read_text().replace("version 1", "version 0")
        for name, text in ("runtime.py", "mine"), ("bootstrap", older):
            path = self.write(name, text)
            self.refused(f"{name} would be replaced by this runtime's")
            path.unlink()
        for name, what in ("runtime", "runtime.py"), ("bootstrap", "bootstrap"):
            path = self.write(f"{name}/__init__.py")
            self.refused(f"/code/{name} would hide {what}: rename that folder")
            shutil.rmtree(path.parent)

    def test_its_own_bootstrap_is_kept(self):
        """A script that calls runtime.run(): Lambda starts it."""
        self.write("bootstrap", "#!/usr/bin/env python3\nimport runtime\nruntime.run(print)\n")
        status, said = self.pack()
        self.assertEqual((status, said.count("\n")), (0, 2), said)
        code = self.folder / "code"
        self.assertIn(f"package.py: {code}: kept {code}/bootstrap, which Lambda starts in place of this runtime's\n", said)
        files = read(self.output)
        self.assertEqual((files["bootstrap"][0], files["bootstrap"][1][-20:]), (0o100755, b"\nruntime.run(print)\n"))
        self.assertEqual(files["runtime.py"][1], (REPO / "runtime.py").read_bytes())

    def test_a_copy_of_this_bootstrap_and_runtime_is_not(self):
        self.write("bootstrap", (REPO / "bootstrap").read_bytes())
        self.write("runtime.py", (REPO / "runtime.py").read_bytes())
        status, said = self.pack()
        self.assertEqual(status, 0, said)
        self.assertEqual(read(self.output)["bootstrap"][0], 0o100755)

    def test_without_runtime_for_use_with_the_layer(self):
        self.write("function.py", GREETING)
        self.pack("--without-runtime")
        self.assertEqual(list(read(self.output)), [f"__pycache__/function.{TAG}.pyc", "function.py"])

    def test_no_such_folder(self):
        self.refused(f"FUNCTION={self.folder}/code: no such folder")
        (self.folder / "code").touch()
        self.refused(f"FUNCTION={self.folder}/code: pass the folder that it is in")

    def test_a_folder_with_nothing_to_pack(self):
        self.write("__pycache__/old.cpython-38.pyc")
        self.refused(f"FUNCTION={self.folder}/code has no files to pack")

    def test_no_name_and_this_repository(self):
        for folder, text in (("", "FUNCTION= is empty"), ("/", "FUNCTION=/ is this machine's root: pass the folder"), (REPO, f"FUNCTION={REPO} is this runtime's own folder")):
            status, said = build("function", folder, "--output", self.output)
            self.assertEqual((status, said.count("\n"), self.output.exists()), (1, 1, False), said)
            self.assertIn(text, said)

    def test_arch_from_the_environment(self):
        self.write("function.py", GREETING)
        self.refused("ARCH=aarch64: arm64 or x86_64\n", ARCH="aarch64")
        self.assertEqual(self.pack(ARCH="")[0], 0)

    def test_a_python_that_is_too_old(self):
        for name in "package.py", "dependencies.py", "elf.py":  # it has to get as far as to say it
            ast.parse((REPO / "tests/deploy" / name).read_text(), feature_version=(3, 8))
        with mock.patch.object(sys, "version_info", (3, 8, 18)), self.assertRaises(SystemExit) as left:
            package.main()
        self.assertEqual(left.exception.code, "package.py: Python 3.8.18 is too old: run this with 3.9 or later")

    def test_binaries_for_another_machine_system_or_python_are_named(self):
        ours = next(pathlib.Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")).read_bytes()
        other = {"x86_64": 183, "arm64": 62}[package.this_machine()]
        self.write("right.so", ours)
        self.write("wrong.so", ours[:18] + bytes([other, 0]) + ours[20:])
        self.write("mac.so", b"\xcf\xfa\xed\xfe" + bytes(100))
        self.write("cut.so", ours[:200])
        self.write("old.cpython-38-x86_64-linux-gnu.so", ours)
        free = "" if "t" in sys.abiflags else "t"
        self.write(f"free.{TAG}{free}-x86_64-linux-gnu.so", ours)
        self.write(f"alpine.{TAG}-x86_64-linux-musl.so", ours)
        status, said = self.pack()
        self.assertEqual(status, 0, said)
        self.assertRegex(said, r"warning: not built for Linux on \w+: cut.so, mac.so, wrong.so \(")
        self.assertRegex(said, rf"warning: not built for Python {VERSION}: free.{TAG}{free}-x86_64-linux-gnu.so, old.cpython-38-x86_64-linux-gnu.so \(")
        self.assertIn(f"warning: built for musl, and Lambda has glibc: alpine.{TAG}-x86_64-linux-musl.so (", said)
        self.assertNotIn("right.so", said)

    def test_a_newer_glibc_than_lambdas_is_named(self):
        for path in sorted(pathlib.Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("*.so")):
            newer, found = re.subn(rb"\0GLIBC_2\.\d\d\0", b"\0GLIBC_2.99\0", path.read_bytes())
            if found:
                break
        self.write("newer.so", newer)
        status, said = self.pack()
        self.assertEqual(status, 0, said)
        self.assertIn("warning: 1 file wants a newer glibc than Amazon Linux 2023's 2.34: newer.so (2.99)\n", said)

    def test_the_limit(self):
        self.write("function.py", GREETING)
        self.pack()
        for megabytes, over in ((249, False), (251, True)):
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
                package.report(str(self.output), {"model.bin": (bytes(megabytes << 20), False)}, None)
            self.assertEqual("251.0 MB unpacked is over Lambda's 250 MB" in said.getvalue(), over)
        for size, over in ((50 << 20, False), ((50 << 20) + 1, True)):
            os.truncate(self.output, size)  # a hole, which takes no room
            with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()) as said:
                package.report(str(self.output), {}, None)
            self.assertEqual(f"{self.output} is over 50 MB: it has to go through S3 (" in said.getvalue(), over)


class Template(unittest.TestCase):
    """The example's API is open to everyone: what they can cost is bounded."""

    def test_the_api_is_throttled_and_the_functions_concurrency_reserved(self):
        resources = re.split(r"\n  (?=\w+:\n)", (REPO / "tests/deploy/template.yaml").read_text())
        bounded = {name: re.search(rf"(?m)^ +{name}: (.*)$", text)[1] for text in resources for name in re.findall(r"(\w+(?:Limit|Executions)):", text)}
        self.assertEqual(bounded, {"ThrottlingRateLimit": "10", "ThrottlingBurstLimit": "20", "ReservedConcurrentExecutions": "!Ref Concurrency"})


class LayerWithInterpreter(unittest.TestCase):
    """One build with the Python that runs this test, looked at, unpacked and started in several places."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="layer-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.layer, cls.unpacked, cls.function, cls.alone = (
            cls.folder / name for name in ("layer.zip", "un packed", "function.zip", "alone.zip")
        )
        cls.status, cls.said = started("layer", "--prefix", sys.base_prefix, "--output", cls.layer)
        unpack(cls.layer, cls.unpacked)
        (cls.folder / "code").mkdir()
        (cls.folder / "code/function.py").write_text(GREETING)
        build("function", cls.folder / "code", "--output", cls.function)
        build("function", cls.folder / "code", "--without-runtime", "--output", cls.alone)

    def test_what_is_said(self):
        self.assertEqual(self.status, 0, self.said)
        python = f"Python {platform.python_version()} for {package.this_machine()}\n"
        self.assertRegex(self.said, rf"layer.zip: \d+ files from {sys.base_prefix}, .* unpacked \(Lambda's limit .* 250 MB\), " + python)

    def test_what_is_in_it(self):
        files = read(self.layer)
        stdlib = f"lib/python{VERSION}"
        self.assertEqual([n for n in files if files[n][0] != 0o100644], ["bin/python3", "bootstrap"])
        for name in ("runtime.py", f"__pycache__/runtime.{TAG}.pyc", f"{stdlib}/os.py", f"{stdlib}/__pycache__/os.{TAG}.pyc", f"{stdlib}/.modules"):
            self.assertIn(name, files)
        unused = r"/tests?/|/(site|dist)-packages/|/idlelib/|/ensurepip/|/lib2to3/|/venv/|\d/curses/|dynload/_curses|/sampling/|_remote_debugging|/config-|\.[ah]$|_tkinter|_testcapi|dynload/readline\."
        self.assertEqual([n for n in files if re.search(unused, n)], [])
        self.assertEqual([n for n in files if n.endswith(".pyc") and not n.endswith(f".{TAG}.pyc")], [])
        code = marshal.loads(files[f"{stdlib}/json/__pycache__/decoder.{TAG}.pyc"][1][16:])
        self.assertEqual(code.co_filename, f"/opt/{stdlib}/json/decoder.py")
        self.assertLess(sum(len(content) for _, content in files.values()), 60 << 20)

    def test_it_runs_from_any_folder(self):
        for path in [self.unpacked / "bin/python3", *self.unpacked.glob("lib/**/*.so*")]:
            elf = Elf.read(path.read_bytes())
            self.assertFalse(elf.symbols and shutil.which("strip"), path)
            if elf.library_path:
                folder = elf.string(elf.library_path).replace("$ORIGIN", str(path.parent))
                self.assertEqual(os.path.normpath(folder), str(self.unpacked / "lib"), path)
        # Of what is left out none is missed by pdb (3.14's imports _pyrepl), cProfile and their kin.
        program = "import cProfile, doctest, pdb, pydoc, sys; print(sys.prefix, [m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)])"
        result = subprocess.run(
            [self.unpacked / "bin/python3", "-c", program],
            env={"LD_LIBRARY_PATH": str(self.unpacked / "lib")}, stdout=subprocess.PIPE, universal_newlines=True, timeout=30,
        )
        prefix, files = result.stdout.split(" [", 1)
        self.assertEqual(prefix, str(self.unpacked))
        self.assertEqual([f for f in ast.literal_eval("[" + files) if not f.startswith(prefix + "/lib/")], [])

    @needs_chroot
    def test_layer_and_function_where_there_is_no_python(self):
        with RootFS() as root:
            self.install(root / "opt", "")
            unpack(self.alone, root / "var/task")
            self.assertGreets(root, "/opt/bootstrap")

    @needs_chroot
    def test_packages_in_a_layer_come_from_its_one_file(self):
        with RootFS() as root:
            self.install(root / "opt", "")
            # `package.py function FOLDER --without-runtime --output layer/python/` writes such a one.
            pack(root / "opt/python", {"one.py": "where = WHERE\n", "package/__init__.py": "", "package/inner.py": "where = WHERE, __file__\n"})
            pack(root / f"opt/python/lib/python{VERSION}/site-packages", {"two.py": "where = WHERE\n"})
            source = "import one, two, package.inner\ndef handler(event, context): return [one.where, two.where, package.inner.where]\n"
            (root / "var/task/function.py").write_text(source)
            env = {"_HANDLER": "function.handler", **ENVIRONMENT}
            with Lambda(root / "var/task", env=env, command=enter(root, "/opt/bootstrap")) as aws:
                self.assertEqual(aws.invoke().json, ["onefile", "onefile", ["onefile", "/opt/python/package/inner.py"]])
                self.assertEqual(aws.stderr, "")

    @needs_chroot
    def test_function_zip_and_only_an_interpreter_in_the_layer(self):
        with RootFS() as root:
            self.install(root / "opt", "bin", "lib")
            unpack(self.function, root / "var/task")
            self.assertGreets(root, "/var/task/bootstrap")

    @needs_chroot
    def test_wrapper_on_a_managed_runtime(self):
        with RootFS() as root:
            self.install(root / "var/lang", "bin", "lib")
            (root / "var/lang/bin/python3").rename(root / f"var/lang/bin/python{VERSION}")
            (root / "var/runtime/bootstrap.py").write_text("raise SystemExit('what the wrapper replaces was started')\n")
            (root / "var/runtime/boto3.py").touch()
            build("layer", "--output", self.folder / "plain.zip")
            unpack(self.folder / "plain.zip", root / "opt")
            unpack(self.alone, root / "var/task")
            (root / "var/task/with_boto3.py").write_text("import boto3\n" + GREETING)
            self.assertGreets(
                root, "/opt/bootstrap", f"/var/lang/bin/python{VERSION}", "/var/runtime/bootstrap.py", file="with_boto3",
                AWS_LAMBDA_EXEC_WRAPPER="/opt/bootstrap", PYTHONPATH="/var/runtime",
                LD_LIBRARY_PATH="/var/lang/lib:" + ENVIRONMENT["LD_LIBRARY_PATH"],
            )

    @needs_chroot
    def test_container_image_from_any_base(self):
        # ENTRYPOINT is bootstrap, CMD the handler, WORKDIR the task root.
        with RootFS() as root:
            self.install(root / "usr/local", "bin", "lib")
            unpack(self.function, root / "var/task")
            self.assertGreets(
                root, "/var/task/bootstrap", "function.handler",
                _HANDLER=None, LAMBDA_TASK_ROOT=None, LD_LIBRARY_PATH="/usr/local/lib",
            )

    @needs_chroot
    def test_container_image_from_lambdas_base(self):
        # Its entry point makes CMD the variable _HANDLER and starts /var/runtime/bootstrap.
        with RootFS() as root:
            self.install(root / "usr/local", "bin", "lib")
            (root / "usr/local/bin/python3").rename(root / f"usr/local/bin/python{VERSION}")
            (root / "usr/local/bin/python3").symlink_to(f"/usr/local/bin/python{VERSION}")
            for name in ("bootstrap", "runtime.py"):
                shutil.copy(REPO / name, root / "var/runtime")
            unpack(self.alone, root / "var/task")
            self.assertGreets(root, "/var/runtime/bootstrap", LD_LIBRARY_PATH="/usr/local/lib")

    @needs_chroot
    def test_customer_managed_runtime(self):
        # The image's file system with the runtime in /var/runtime and AWS's Python in /var/lang; the function is a zip.
        with RootFS() as root:
            self.install(root / "var/lang", "bin", "lib")
            for name in ("bootstrap", "runtime.py"):
                shutil.copy(REPO / name, root / "var/runtime")
            unpack(self.alone, root / "var/task")
            lang = {"LD_LIBRARY_PATH": "/var/lang/lib:" + ENVIRONMENT["LD_LIBRARY_PATH"]}
            self.assertGreets(root, "/var/runtime/bootstrap", **lang)
            # SnapStart, which images have when their runtime calls restore/next.
            env = {"_HANDLER": "function.handler", **ENVIRONMENT, **lang, "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
            with Lambda(root / "var/task", env=env, command=enter(root, "/var/runtime/bootstrap")) as aws:
                aws.restore()
                self.assertEqual(aws.invoke(1).json, [1, "/var/task/function.py"])
                self.assertEqual([request.kind for request in aws.requests][:2], ["restore/next", "next"])

    def install(self, folder, *names):
        for name in names:
            shutil.copytree(self.unpacked / name, folder / name, copy_function=os.link, dirs_exist_ok=True)

    def assertGreets(self, root, *command, file="function", **environment):
        # The source of the runtime is spoiled: it is the compiled code that answers.
        for path in (root / "opt/runtime.py", root / "var/task/runtime.py"):
            if path.exists():
                path.unlink()
                path.write_text("raise SystemExit('the source was read')\n")
        env = {"_HANDLER": f"{file}.handler", **ENVIRONMENT, **environment}
        with Lambda(root / "var/task", env=env, command=enter(root, *command)) as aws:
            for event in ({"k": 1}, "again"):
                self.assertEqual(aws.invoke(event).json, [event, f"/var/task/{file}.py"])


class RefusedPrefix(unittest.TestCase):
    """PYTHON_PREFIX that cannot become a layer: one line that says why."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="prefix-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.elf = pathlib.Path(os.path.realpath(sys.executable)).read_bytes()
        self.ours, self.other, self.machine = {"x86_64": ("x86_64", "arm64", 183), "arm64": ("arm64", "x86_64", 62)}[package.this_machine()]

    def prefix(self, binary, version=VERSION):
        for name, content in ((f"bin/python{version}", binary), (f"lib/python{version}/os.py", b"")):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)
        return self.folder

    def refused(self, text, prefix, *options):
        status, said = build(*options, "layer", "--prefix", prefix, "--output", self.folder / "refused.zip")
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn(text, said)
        self.assertFalse((self.folder / "refused.zip").exists())

    def test_no_such_folder(self):
        self.refused("no folder /nowhere: PYTHON_PREFIX names the one that holds bin/python3", "/nowhere")

    def test_no_interpreter(self):
        self.refused(f"no interpreter in {self.folder}: it needs bin/python3.X and lib/python3.X/os.py", self.folder)

    def test_of_several_versions_that_of_PYTHON_then_python3(self):
        def chosen():
            return package.Interpreter(str(self.folder), self.ours).name

        for version in "3.98", "3.99":
            self.prefix(self.elf, version)
        self.refused(f"{self.folder} has python3.98, python3.99: choose with PYTHON=python3.9", self.folder)
        (self.folder / "bin/python3").symlink_to("python3.98")
        self.assertEqual(chosen(), "python3.98")
        self.prefix(self.elf)
        self.assertEqual(chosen(), f"python{VERSION}")

    def test_newer_glibc_than_lambdas(self):
        elf = re.sub(rb"\0GLIBC_2\.\d\d\0", b"\0GLIBC_2.99\0", self.elf)
        words = "layer", "--prefix", self.prefix(elf), "--output", self.folder / "new.zip"
        status, said = build(*words, FORCE="")
        self.assertEqual((status, said.count("\n")), (1, 1), said)
        self.assertIn("wants glibc 2.99, and Lambda has 2.34: take a Python built for older systems", said)
        self.assertEqual(build(*words, FORCE="1")[0], 0)

    def test_root_of_another_system(self):
        """lib64 of Amazon Linux, the libraries of the root and none of this machine."""
        (self.folder / "usr/lib64/python3.99").mkdir(parents=True)
        (self.folder / "usr/lib64/python3.99/os.py").touch()
        (self.folder / "usr/bin").mkdir()
        (self.folder / "usr/bin/python3.99").write_bytes(self.elf)
        found = package.Interpreter(str(self.folder / "usr"), self.ours)
        self.assertEqual(found.stdlib(found.name), f"{self.folder}/usr/lib64/python3.99")
        self.assertIn("/usr/lib", found.library_folders())
        (self.folder / "usr/lib64/libc.so.6").touch()
        self.assertEqual([path for path in found.library_folders() if not path.startswith(f"{self.folder}/")], [])
        for inside in "usr/lib64", "lib64", "usr/lib/" + package.TRIPLETS[self.ours]:
            self.assertIn(f"{self.folder}/{inside}", found.library_folders())

    def test_what_is_in_the_prefix(self):
        (self.prefix(self.elf) / "bin/python3").symlink_to(f"python{VERSION}")
        for inside in "bin", "bin/python3", f"bin/python{VERSION}":
            text = f"PYTHON_PREFIX={self.folder}/{inside} lies in the interpreter's folder: pass {self.folder}\n"
            self.refused(text, self.folder / inside)

    def test_too_old(self):
        text = f"{self.folder} has Python 3.8, which is too old: PYTHON_PREFIX needs 3.9 or later"
        self.refused(text, self.prefix(self.elf, "3.8"))

    def test_a_virtual_environment(self):
        (self.folder / "pyvenv.cfg").write_text("home = /the/base/bin\n")
        self.refused(f"{self.folder} is a virtual environment of /the/base: use that", self.folder)

    def test_not_for_linux(self):
        self.refused(f"python{VERSION} is not a Linux program", self.prefix(b"\xcf\xfa\xed\xfe" + self.elf[4:100]))

    def test_not_for_glibc(self):
        loader = re.compile(rb"/lib\w*/ld-linux-[^\0]+")
        musl = loader.sub(lambda found: b"/lib/ld-musl".ljust(len(found[0]), b"\0"), self.elf, count=1)
        self.refused("is built for musl, and Lambda has glibc", self.prefix(musl))

    def test_another_architecture(self):
        self.refused("ARCH=aarch64: arm64 or x86_64\n", self.prefix(self.elf), "--arch", "aarch64")
        self.refused(f"is built for {self.ours}, the layer for {self.other}", self.prefix(self.elf), "--arch", self.other)
        foreign = self.prefix(self.elf[:18] + bytes([self.machine, 0]) + self.elf[20:])
        self.refused(f"is built for {self.other}, the layer for {self.ours}: choose with ARCH={self.other}", foreign)

    def test_another_architecture_and_version(self):
        # It does not run here, and this Python writes other bytecode than its.
        foreign = self.prefix(self.elf[:18] + bytes([self.machine, 0]) + self.elf[20:], "3.99")
        self.refused("add PYTHON=python3.99", foreign, "--arch", self.other)


if __name__ == "__main__":
    unittest.main()
