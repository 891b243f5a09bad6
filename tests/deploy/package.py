"""Build what is uploaded to Lambda.

    python3 tests/deploy/package.py function FOLDER    writes dist/function.zip, or --output NAME.zip, or FOLDER/
    python3 tests/deploy/package.py layer              writes dist/layer.zip, or --output
    python3 tests/deploy/package.py layer --prefix /path/to/python    the interpreter too

`make dist` and `make layer` call it. Code is compiled for the Python that runs this
file, or for the one in the prefix. The same input gives the same bytes.

The compiled code of a folder lies there once more in one file, `.modules`, from which runtime.py
imports (its section "Imports from one file"). Numbers are little-endian; ONE_FILE=0 leaves it out.

    | bytes | what                                                                      |
    | ----- | ------------------------------------------------------------------------- |
    | 16    | lambda-modules-1                                                          |
    | 16    | importlib.util.MAGIC_NUMBER of the Python, then zeros                     |
    | 8     | size of the whole file                                                    |
    | 8     | time of modification that the sources have: 1980, as in each zip          |
    | 8     | size of the index                                                         |
    |       | the index: a hash, then {"package/module.py": (offset behind the index,   |
    |       | size, size of the source, importlib.util.source_hash of it)}, marshalled  |
    |       | for each module: a hash, then its code object, marshalled                 |

A hash is 8 bytes, the _imp.source_hash(0, ...) of what follows.

`__pycache__` lies beside it, for the Pythons that the function starts: they import from there. A child
(`python -m`, multiprocessing's spawn) that imports boto3 takes 0.42 s of processor time with it and
0.72 without, FastAPI 0.43 and 0.83. And what is wrong with `.modules` costs a start no more than that.
"""

import _imp
import argparse
import contextlib
import fnmatch
import importlib.util
import marshal
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile

from dependencies import NotInstalled, install, missing_imports
from elf import Elf, built_for

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LIMIT = 250 << 20  # bytes that a function and its layers may have unpacked
EPOCH = 315532800  # 1980, the oldest time that a zip can hold
UPLOAD = 50 << 20  # bytes that a zip may have that does not go through S3
FEW = 20  # modules: with fewer of them it takes as long to read the index as it saves
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
GLIBC = (2, 34)  # what Amazon Linux 2023 has

# A function's folder: what is secret; what version control, editors and tools leave behind.
SECRETS = re.compile(
    r"""(\.env.* | \.aws | \.ssh | \.gnupg | \.docker | \.kube | \.azure | [._]netrc | \.pypirc | \.npmrc | \.yarnrc.*
    | \.pgpass | \.my\.cnf | \.boto | \.s3cfg | \.git-credentials | \.htpasswd | \.vault-token | id_(rsa|dsa|ecdsa|ed25519)(\.pub)?
    | .*\.tfstate.* | .*\.tfvars(\.json)? | \.terraform.* | \.terragrunt-cache | \.pulumi | Pulumi\..*\.yaml | .*\.kdbx)$""",
    re.VERBOSE,
)
LEFTOVERS = re.compile(
    r"""(__pycache__ | \.git | \.git(attributes|ignore|modules|-blame-ignore-revs) | \.hg | \.svn | \.tox | \.nox | \.idea | \.vscode
    | \.(mypy|pytest|ruff|pytype)?_?cache | \.hypothesis | \.ipynb_checkpoints | \.DS_Store | Thumbs\.db | \.coverage(\..*)? | htmlcov
    | .*~ | .*\.sw[op] | \.aws-sam | cdk\.out | \.serverless | \.chalice | \.sst | \.direnv | \.devcontainer | \.claude | \.cursor
    | node_modules | \.eggs | .*\.egg(-info)? | \.github | \.gitlab | \.gitlab-ci\.yml | \.circleci | \.buildkite | \.travis\.yml
    | azure-pipelines\.yml | bitbucket-pipelines\.yml | \.drone\.yml | Jenkinsfile | \.pre-commit-config\.yaml | \.dockerignore | \.editorconfig
    | \.python-version | \.tool-versions | (poetry|uv|pdm|Pipfile|package|conda)\.lock | (package-lock|npm-shrinkwrap)\.json | yarn\.lock
    | pnpm-lock\.yaml | pylock(\..*)?\.toml | .*\.whl)$""",
    re.VERBOSE,
)
BUILT = ("dist", "build")  # of the folder itself, unless they are packages
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
# An interpreter: what no function uses. `sampling` is profiling's, whose rest cProfile needs, and pdb needs
# _pyrepl. readline (GPL, for terminals), nis and
# ossaudiodev would each bring libraries of the build machine along.
UNUSED = re.compile(
    r"""(tests? | idle_test | idlelib | turtledemo | turtle\.py | tkinter | _?tkinter\..*
    | ensurepip | venv | lib2to3 | _?curses(_panel)?(\..*\.so)? | pydoc_data
    | sampling | _remote_debugging\..*\.so | site-packages | dist-packages | config-.* | .*\.a
    | EXTERNALLY-MANAGED | _(c?test|xxtest|ctypes_test).*\.so | xxlimited.*\.so
    | (readline|nis|ossaudiodev)\..*\.so)$""",
    re.VERBOSE,
)
# Lambda's image has glibc; a copy of another one would break every program there.
IN_GLIBC = re.compile(
    r"(ld-linux.*|lib(c|m|dl|pthread|rt|util|resolv|anl|nsl|nss_.*|thread_db))\.so\.\d|ld64\.so\.\d"
)


class Refused(Exception):
    """What was asked for cannot be built; the text says why and what to do."""


def main():
    if sys.version_info < (3, 9):
        sys.exit("package.py: Python %d.%d.%d is too old: run this with 3.9 or later" % sys.version_info[:3])
    parser = argparse.ArgumentParser(description="Build what is uploaded to Lambda.")
    parser.add_argument("--arch", default=os.environ.get("ARCH"), help="arm64 or x86_64")
    parser.add_argument("--restarted", action="store_true", help=argparse.SUPPRESS)
    kinds = parser.add_subparsers(dest="kind", required=True)
    function = kinds.add_parser("function", help="a folder with bootstrap and runtime.py")
    function.add_argument("folder")
    function.add_argument("--without-runtime", action="store_true", help="the layer has it")
    function.add_argument("--requirements", help="a file for pip; FOLDER/requirements.txt if there is one, '' for none")
    function.add_argument("--exclude", default=os.environ.get("EXCLUDE", ""), help="patterns of what stays out: '*/tests/* *.md'")
    function.add_argument("--output", default=os.environ.get("OUTPUT") or "dist/function.zip", help="a .zip, or a folder/")
    layer = kinds.add_parser("layer", help="bootstrap and runtime.py for /opt")
    layer.add_argument("--prefix", help="an interpreter to put into the layer")
    layer.add_argument("--output", default=os.environ.get("OUTPUT") or "dist/layer.zip", help="a .zip, or a folder/")
    options = parser.parse_args()

    try:
        arch = architecture(options.arch)
        interpreter = None
        if options.kind == "layer" and options.prefix:
            interpreter = Interpreter(options.prefix, arch)
        if not options.restarted:
            restart(compiler(interpreter))
        if options.kind == "function":
            packed_from(options.folder)
            check_output(options.output, options.folder)
            files = function_files(options.folder, options.output, options.exclude.split())
            root = "/var/task"
            add_requirements(files, options.folder, options.requirements, arch, options.exclude.split())
            warn_about_binaries(files, arch)
            warn_about_the_layer(options.output)
            idle = [pattern for pattern in options.exclude.split() if pattern not in excluding]
            if idle:
                note(f"warning: EXCLUDE={' '.join(idle)}: no file is called so (patterns are separated by spaces; ? stands for one)")
            if not options.without_runtime:
                add_runtime(files, options.folder)
        else:
            packed_from(options.prefix)
            check_output(options.output, options.prefix)
            files = interpreter.files() if interpreter else {}
            root = "/opt"
            add_runtime(files, options.prefix)
        files.update(compiled(files, root))
        stdlib = interpreter.stdlib_in_layer() + "/" if interpreter else ""
        files.update(one_file(files, stdlib))
        write(options.output, files)
        report(options.output, files, interpreter, options.kind)
    except (Refused, NotInstalled) as error:
        sys.exit(f"{os.path.basename(__file__)}: {error}")
    except OSError as error:
        sys.exit(f"{os.path.basename(__file__)}: {readable(error.filename or options.output)}: {error.strerror}")


INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave(number, frame):
    """End at a signal, by way of what removes half of a zip; once, for make passes a Ctrl-C on as a second one."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def compiler(interpreter):
    """The Python that compiles for this one: itself, or where it does not run, one of its version."""
    if interpreter and interpreter.runs():
        return interpreter.executable
    if interpreter and interpreter.version != f"{sys.version_info[0]}.{sys.version_info[1]}":
        raise Refused(
            f"{interpreter.executable} does not run on this machine, and only a Python "
            f"{interpreter.version} can compile for it: add PYTHON=python{interpreter.version}"
        )
    return sys.executable


def restart(python):
    """Start again on the Python to compile for, in a state that does not vary.

    Before Python 3.11 the order of a frozenset in compiled code is that of its hashes.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment["PYTHONHASHSEED"] = "0"
    flags = ["-s", "-S", "-B"]  # without site-packages; and the prefix stays as it is
    os.execve(python, [python, *flags, os.path.abspath(__file__), "--restarted", *sys.argv[1:]], environment)


def architecture(name):
    if name and name not in TRIPLETS:
        raise Refused(f"ARCH={name}: arm64 or x86_64")
    return name or this_machine()


def this_machine():
    return "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"


def note(text):
    # SAM shows what make writes to stdout, and of stderr what made it fail.
    say(f"{os.path.basename(__file__)}: {packed + ': ' if packed else ''}{text}", sys.stdout if os.environ.get("ARTIFACTS_DIR") else sys.stderr)


def say(text, file):
    try:
        print(text, file=file, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # or the interpreter says so once more
        raise Refused(f"{file.name.strip('<>')} cannot be written to: {error.strerror}") from None


packed = ""  # the folder that is packed, which every line names


def packed_from(folder):
    global packed
    packed = folder or ""


def readable(name):
    """With what is not UTF-8 escaped, as no terminal could show it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def some(names, limit=5):
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# ---- What goes in: a dict from the name in the zip to (content, executable) ----------


def add_runtime(files, folder):
    """Put bootstrap and runtime.py beside the function's files, over nothing of its own: a bootstrap may be the function's."""
    for name, executable in (("bootstrap", True), ("runtime.py", False)):
        with open(os.path.join(REPO, name), "rb") as file:
            ours = file.read()
        if files.get(name, (ours,))[0] != ours:
            if name == "runtime.py" or files[name][0].startswith(ours.partition(b", version")[0]):  # another version of ours
                raise Refused(f"{os.path.join(folder, name)} would be replaced by this runtime's: rename or remove it")
            note(f"kept {os.path.join(folder, name)}, which Lambda starts in place of this runtime's")
            ours = files[name][0]
        files[name] = ours, executable
    for name in "runtime.py", "bootstrap":
        hiding = name.partition(".")[0]
        if any(path.startswith(f"{hiding}/") for path in files):
            raise Refused(f"{os.path.join(folder, hiding)} would hide {name}: rename that folder")


def check_function(folder):
    if not folder:
        raise Refused("FUNCTION= is empty: pass the folder with the function's files")
    if not os.path.isdir(folder):
        raise Refused(f"FUNCTION={folder}: " + ("pass the folder that it is in" if os.path.isfile(folder) else "no such folder"))
    if os.path.samefile(folder, "/"):
        raise Refused(f"FUNCTION={folder} is this machine's root: pass the folder with the function's files")
    if os.path.samefile(folder, REPO):
        raise Refused(f"FUNCTION={folder} is this runtime's own folder: pass one with only the function's files")


def function_files(folder, output, patterns=()):
    """The function's own files; what stays out is said, and where a link leads out of the folder."""
    check_function(folder)
    output = os.path.realpath(output)
    left_out, outward = [], []

    def stays_out(path):
        if os.path.islink(path) and not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
            outward.append(f"{os.path.relpath(path, folder)} -> {os.path.realpath(path)}")
        if os.path.realpath(path) == output:
            return True
        name = os.path.basename(path)
        built = os.path.relpath(path, folder) in BUILT and not os.path.exists(os.path.join(path, "__init__.py"))
        secret = SECRETS.match(name)
        if secret or LEFTOVERS.match(name) or is_venv(path) or built and os.path.isdir(path) or has_this_runtime(path):
            if name != "__pycache__":  # made anew, for the target
                left_out.append((not secret, os.path.relpath(path, folder) + "/" * os.path.isdir(path)))
            return True
        return is_excluded(os.path.relpath(path, folder), patterns)

    files = read_tree(folder, stays_out)
    if not files:
        raise Refused(f"FUNCTION={folder} has no files to pack: pass the folder with the function's files")
    names = [name for _, name in sorted(left_out)]  # secrets first
    if names:
        note("left out: " + ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else ""))
    outward = [link for link in outward if not any(link.startswith(name.rstrip("/") + " ") for name in names)]
    if outward:
        note(f"packed what these links out of the folder point to: {some(outward)}")
    keys = [name for name, (content, _) in files.items() if not name.endswith(".py") and PRIVATE_KEY.search(content)]
    if keys:
        note(f"warning: packed private keys: {some(keys)} (EXCLUDE={sorted(keys)[0]} leaves one out)")
    return files


excluding = set()  # the patterns of EXCLUDE that have matched


def is_excluded(name, patterns):
    """Whether a pattern of EXCLUDE matches the path, or a folder that it lies in."""
    parts = name.split("/")
    for pattern in patterns:
        for end in range(1, len(parts) + 1):
            path = "/" + "/".join(parts[:end])
            if any(fnmatch.fnmatchcase(candidate, pattern.rstrip("/") or pattern) for candidate in (path, path[1:])):
                excluding.add(pattern)
                return True
    return False


def add_requirements(files, folder, requirements, arch, patterns):
    """Put what the requirements file names beside the function's own files, which go before a dependency's."""
    own, path = dict(files), os.path.join(folder, "requirements.txt")
    if requirements is None:
        requirements = os.environ.get("REQUIREMENTS", path if os.path.isfile(path) else "")
    if requirements:
        if not os.path.isfile(requirements):
            raise Refused(f"REQUIREMENTS={requirements}: no such file")
        try:
            installed = install(requirements, arch, read_tree)
        except NotInstalled as error:
            raise Refused(f"{requirements}: {error}") from None
        installed = {name: item for name, item in installed.items() if not is_excluded(name, patterns)}
        hidden = [name for name in installed if name in own and own[name][0] != installed[name][0]]
        if hidden:
            note(f"packed the function's own in place of what {requirements} brings: {some(hidden)}")
        files.update({**installed, **own})
    missing = missing_imports(own, files)
    if missing:
        named = some(f"{module} (in {name})" for module, name in missing.items())
        other = next((name for name in ("pyproject.toml", "Pipfile") if not requirements and os.path.isfile(os.path.join(folder, name))), None)
        unread = f" ({other} is not read: uv export --no-emit-project -o {path})" if other else ""
        note(f"warning: imported, and not provided by anything in the folder: {named}; name it in {path}{unread}, unless a layer has it")


def read_tree(folder, skipped):
    """The files under a folder. Symbolic links are followed: the zip holds what they point to."""
    files = {}

    def walk(path, name, parents):
        if os.path.isdir(path):
            real = os.path.realpath(path)
            if real in parents:
                raise Refused(f"{path} is a symbolic link to a folder that holds it: remove it")
            for entry in sorted(os.listdir(path)):
                inner = os.path.join(path, entry)
                if not skipped(inner):
                    walk(inner, f"{name}/{entry}" if name else entry, parents | {real})
        elif os.path.isfile(path):
            check_name(name)
            with open(path, "rb") as file:
                files[name] = file.read(), bool(os.fstat(file.fileno()).st_mode & 0o100)
        elif os.path.islink(path):
            raise Refused(f"{path} is a symbolic link to nothing: remove it")
        else:
            note(f"left out {path}: not a file")

    walk(folder, "", frozenset())
    return files


def check_name(name):
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Refused(f"{readable(name)} is not UTF-8: rename that file") from None


def has_this_runtime(path):
    """Whether it is a clone of this repository, or what was built of a function, unpacked or not."""
    if path.endswith(".zip"):
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return {"bootstrap", "runtime.py"} <= {*archive.namelist()}
    return os.path.isfile(os.path.join(path, "bootstrap")) and os.path.isfile(os.path.join(path, "runtime.py"))


def is_venv(path):
    return os.path.isfile(os.path.join(path, "pyvenv.cfg"))


def warn_about_binaries(files, arch):
    """Say it here when a dependency was installed for another machine, system or Python."""
    other_python, other_machine, musl, binaries = [], [], [], {}
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for name, (content, _) in files.items():
        if re.search(r"\.(so|pyd|dylib)(\.|$)", name):
            elf = Elf.read(content)
            if not elf or elf.arch != arch:
                other_machine.append(name)
            else:
                binaries[name] = elf
                if re.search(r"-musl\w*\.so$", name) or any("musl" in needed for needed in elf.needed):
                    musl.append(name)
            if built_for(name) not in (None, version + ("t" if "t" in sys.abiflags else "")):
                other_python.append(name)
    if other_machine:
        note(f"warning: not built for Linux on {arch}: {some(other_machine)} (ARCH=arm64 or x86_64 names the function's)")
    if musl:
        note(f"warning: built for musl, and Lambda has glibc: {some(musl)} (install wheels for manylinux)")
    if other_python:
        note(f"warning: not built for Python {version}: {some(other_python)} (PYTHON=python3.X names the function's)")
    warn_about_glibc(binaries)


def warn_about_the_layer(output):
    """Say it when code is compiled for another Python than that of the layer which was built for it."""
    tag = sys.implementation.cache_tag
    for path in {os.path.join(os.path.dirname(output.rstrip("/")), "layer.zip"), os.path.join("dist", "layer.zip")}:
        try:
            with zipfile.ZipFile(path) as archive:
                (compiled_for,) = [n.split(".")[1] for n in archive.namelist() if re.fullmatch(r"__pycache__/runtime\.[\w-]+\.pyc", n)]
        except (OSError, ValueError, zipfile.BadZipFile):
            continue
        if compiled_for != tag:
            note(f"warning: compiled for {tag}, and {path} for {compiled_for}: PYTHON=python3.X has to be the same for both")


def warn_about_glibc(binaries):
    newer = [f"{name} ({'.'.join(map(str, elf.glibc))})" for name, elf in binaries.items() if elf.glibc > GLIBC]
    if newer:
        want = "1 file wants" if len(newer) == 1 else f"{len(newer)} files want"
        note(f"warning: {want} a newer glibc than Amazon Linux 2023's 2.34: {some(newer)}")


def compiled(files, root):
    """Code for every .py, checked against its source by nobody: /var/task and /opt cannot change.

    What is compiled at run time is compiled at every cold start, since both are read-only.
    """
    result, broken = {}, []
    warnings.simplefilter("ignore")  # a dependency's invalid escapes are not this user's business
    for name, (source, _) in sorted(files.items()):
        if name.endswith(".py"):
            path = f"{root}/{name}"  # in tracebacks; a right one also saves the import from putting it right
            try:
                code = compile(source, path, "exec", dont_inherit=True, optimize=0)
            except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
                line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""
                broken.append(f"{name}{line}: {getattr(error, 'msg', str(error)) or type(error).__name__}")
                continue
            # PEP 552: magic number, flags (1: by hash, unchecked), hash of the source.
            head = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source)
            cache = importlib.util.cache_from_source(path, optimization="")
            result[os.path.relpath(cache, root)] = head + dumped(code), False
    if broken:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        what, they = ("file does", "ships as it is") if len(broken) == 1 else ("files do", "ship as they are")
        more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
        note(f"{len(broken)} {what} not compile on Python {version} and {they}: {'; '.join(broken[:3])}{more}")
    return result


def one_file(files, folder=""):
    """The compiled code of the modules at and below a folder, in one file; the format is told at the top."""
    index, code, size = {}, [], 0
    for name, (source, _) in sorted(files.items()):
        # What is left out is imported from its own file: this runtime, before the first of them, and
        # tests of packages, half of pandas' code, hardly ever.
        left_out = re.search("(^|/)tests?/|^runtime.py$", name[len(folder) :])
        if name.startswith(folder) and name.endswith(".py") and not left_out:
            pyc, _ = files.get(importlib.util.cache_from_source(name, optimization=""), (b"", False))
            if pyc:
                code.append(with_hash(pyc[16:]))
                index[name[len(folder) :]] = size, len(code[-1]), len(source), pyc[8:16]
                size += len(code[-1])
    if len(index) < FEW or os.environ.get("ONE_FILE") == "0":
        return {}
    index = with_hash(marshal.dumps(index, 2))  # version 2 has no references, which depend on who else holds a name
    size += 56 + len(index)
    unpacked = sum(len(content) for content, _ in files.values())
    if unpacked <= LIMIT < unpacked + size:
        note(f"left out the file with all modules ({megabytes(size)}): with it, it would be over Lambda's 250 MB")
        return {}
    head = struct.pack("<16s16sQQQ", b"lambda-modules-1", importlib.util.MAGIC_NUMBER, size, EPOCH, len(index))
    return {f"{folder}.modules": (b"".join([head, index, *code]), False)}


def with_hash(data):
    return _imp.source_hash(0, data) + data


def dumped(code):
    """marshal.dumps, with the same bytes each time.

    It marks a string to which something else refers. Names are shared by the whole process,
    so something may be the cache of attribute look-ups, whose content depends on addresses.
    Here there is one reference more to every string: all are marked.
    """
    strings = list(strings_of(code))
    result = marshal.dumps(code)
    strings.clear()
    return result


def strings_of(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (tuple, frozenset)):
        for item in value:
            yield from strings_of(item)
    elif isinstance(value, type(dumped.__code__)):
        yield from strings_of((value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars))
        yield from strings_of((value.co_filename, value.co_name, getattr(value, "co_qualname", "")))
        yield from strings_of(value.co_consts)


def check_output(output, folder):
    """A folder that is replaced must hold nothing but what was built before."""
    there = output.rstrip("/")
    while there and not os.path.lexists(there):
        there = os.path.dirname(there)
    if there and not os.path.isdir(there) and (there != output or os.path.islink(there) and not os.path.exists(there)):
        raise Refused(f"OUTPUT={output}: {there} is there, and no folder")
    if is_folder(output):
        inside = os.path.realpath(folder) + os.sep if folder else ""
        if inside.startswith(os.path.join(os.path.realpath(output), "")):
            raise Refused(f"OUTPUT={output} holds {folder}, which is packed: pass another")
        if os.path.isdir(output) and os.listdir(output) and not any(map(built_here, os.scandir(output))):
            raise Refused(f"OUTPUT={output} has files that were not built here: pass a new or an empty folder")
    elif not output.endswith(".zip"):
        raise Refused(f"OUTPUT={output}: NAME.zip, or FOLDER/ for an unpacked one")


def built_here(entry):
    return entry.name == "bootstrap" or entry.is_file() and entry.stat().st_mtime == EPOCH


def is_folder(output):
    return output.endswith("/") or os.path.isdir(output)


def write(output, files):
    if not is_folder(output):
        return write_zip(output, files)
    os.makedirs(output, exist_ok=True)
    for entry in os.listdir(output):  # of an earlier build
        path = os.path.join(output, entry)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)
    # What lies in the folder itself comes first: a build that was broken off is known again by the date.
    for name, (content, executable) in sorted(files.items(), key=lambda item: (item[0].count("/"), item[0])):
        path = os.path.join(output, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o755 if executable else 0o644)
        os.utime(path, (EPOCH, EPOCH))
    for folder, _, _ in os.walk(output):
        os.chmod(folder, 0o755)  # whatever the umask: Lambda's user has to read it


def write_zip(output, files):
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    part = output + ".part"
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
            for name, (content, executable) in sorted(files.items()):
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                entry.create_system = 3  # Unix: the modes below count
                entry.external_attr = (0o100755 if executable else 0o100644) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, content)
        os.replace(part, output)
    finally:
        if os.path.exists(part):
            os.remove(part)


def report(output, files, interpreter=None, kind="function"):
    size = sum(len(content) for content, _ in files.values())
    if interpreter:
        python = f"Python {interpreter.full_version()} for {interpreter.arch}"
    else:
        python = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        if kind == "layer":
            python = f"compiled for {python}, no interpreter"
    say(
        f"{output}: {len(files)} files{' from ' + packed if packed else ''}, "
        f"{'' if is_folder(output) else megabytes(os.path.getsize(output)) + ', '}{megabytes(size)} unpacked (Lambda's limit for a function and its layers: 250 MB), "
        f"{python}",
        sys.stdout,
    )
    if size > LIMIT:
        note(f"warning: {megabytes(size)} unpacked is over Lambda's 250 MB: use a container image or remove files")
    if not is_folder(output) and os.path.getsize(output) > UPLOAD:
        note(f"{output} is over 50 MB: it has to go through S3 (aws s3 cp, then --s3-bucket and --s3-key in place of --zip-file)")


def megabytes(size):
    return f"{size / (1 << 20):.1f} MB" if size >= 1 << 20 else f"{size / 1024:.1f} kB"


# ---- The interpreter ----------------------------------------------------------------


class Interpreter:
    """A Python installation: PREFIX/bin/python3, PREFIX/lib/python3.X and its libraries."""

    def __init__(self, prefix, arch):
        self.prefix = os.path.abspath(prefix)
        inside = re.fullmatch("(.+)/bin(/python3[^/]*)?", self.prefix)
        if inside and os.path.isfile(f"{inside[1]}/bin/python3"):
            raise Refused(f"PYTHON_PREFIX={prefix} lies in the interpreter's folder: pass {inside[1]}")
        if not os.path.isdir(prefix):
            raise Refused(f"no folder {prefix}: PYTHON_PREFIX names the one that holds bin/python3")
        if is_venv(prefix):
            with open(os.path.join(prefix, "pyvenv.cfg")) as file:
                home = re.search(r"^home *= *(.*)/bin/?$", file.read(), re.MULTILINE)
            raise Refused(f"{prefix} is a virtual environment" + (f" of {home[1]}: use that" if home else ""))
        names = os.listdir(os.path.join(prefix, "bin")) if os.path.isdir(os.path.join(prefix, "bin")) else []
        found = [n for n in names if re.fullmatch(r"python3\.\d+t?", n) and self.stdlib(n)]
        if not found:
            raise Refused(f"no interpreter in {prefix}: it needs bin/python3.X and lib/python3.X/os.py")
        # Of several: the version that runs this, for PYTHON= names it; else the one that is python3.
        running = f"python{sys.version_info[0]}.{sys.version_info[1]}{sys.abiflags.replace('d', '')}"
        usual = os.path.basename(os.path.realpath(self.path("bin", "python3")))
        self.name = next((name for name in (running, usual) if name in found), found[0])
        if len(found) > 1 and self.name not in (running, usual):
            raise Refused(f"{prefix} has {', '.join(sorted(found))}: choose with PYTHON={sorted(found)[-1]}")
        self.version = self.name[len("python"):].rstrip("t")
        self.executable = self.path("bin", self.name)
        if int(self.version[2:]) < 9:
            raise Refused(f"{prefix} has Python {self.version}, which is too old: PYTHON_PREFIX needs 3.9 or later")
        with open(self.executable, "rb") as file:
            elf = Elf.read(file.read())
        if not elf:
            raise Refused(f"{self.executable} is not a Linux program: PYTHON_PREFIX must be a Python built for Linux")
        if elf.arch != arch:
            raise Refused(f"{self.executable} is built for {elf.arch}, the layer for {arch}: choose with ARCH={elf.arch}")
        if any("musl" in name for name in elf.needed + [elf.loader]):
            raise Refused(f"{self.executable} is built for musl, and Lambda has glibc: use a Python built for gnu")
        self.arch = arch

    def path(self, *names):
        return os.path.join(self.prefix, *names)

    def runs(self):
        """Whether it runs on this machine: it is built for it, and finds a libc that is new enough."""
        command = [self.executable, "-I", "-S", "-c", "import os"]
        try:
            return self.arch == this_machine() and not subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
        except OSError:
            return False

    def full_version(self):
        """With the third number, which the program or its library holds as a string where it does not run here."""
        if os.path.realpath(self.executable) == os.path.realpath(sys.executable):
            return platform.python_version()
        libraries = [f"{folder}/lib{self.name}.so.1.0" for folder in self.own_folders()]
        for path in [self.executable, *filter(os.path.isfile, libraries)]:
            with open(path, "rb") as file:
                found = re.search(rb"(?<![0-9.])(%s\.\d+[a-z0-9+]*)\0" % re.escape(self.version.encode()), file.read())
            if found:
                return found[1].decode()
        return self.version

    def stdlib(self, name):
        """The folder of its standard library: lib64 on Amazon Linux, Fedora and their kin."""
        folders = [self.path(lib, name) for lib in ("lib", "lib64")]
        return next((folder for folder in folders if os.path.isfile(os.path.join(folder, "os.py"))), None)

    def stdlib_in_layer(self):
        return os.path.relpath(self.stdlib(self.name), self.prefix)  # where it looks: lib64 stays lib64

    def files(self):
        stdlib = self.stdlib_in_layer()
        tree = read_tree(self.stdlib(self.name), lambda p: UNUSED.match(os.path.basename(p)) or LEFTOVERS.match(os.path.basename(p)))
        files = {f"{stdlib}/{name}": (content, False) for name, (content, _) in tree.items()}
        with open(self.executable, "rb") as file:
            files["bin/python3"] = file.read(), True
        files.update(self.shared_libraries(files))
        binaries = {}
        for name, (content, executable) in files.items():
            elf = Elf.read(content)
            if elf:
                binaries[name] = elf
                files[name] = elf.with_library_path(os.path.relpath("lib", os.path.dirname(name))), executable
        warn_about_glibc(binaries)
        strip(files, [name for name, elf in binaries.items() if elf.symbols], self.arch)
        return files

    def shared_libraries(self, files):
        """The libraries that files need and glibc does not have, from the prefix or this machine.

        Lambda's LD_LIBRARY_PATH names /lib64 and /usr/lib64 before /opt/lib: where its
        image has a library of that name, its own (patched by AWS) is used.
        """
        found, missing, foreign = {}, [], []
        queue = [(name, Elf.read(content)) for name, (content, _) in sorted(files.items())]
        while queue:
            user, elf = queue.pop(0)
            for needed in elf.needed if elf else ():
                library = os.path.basename(needed)  # python-build-standalone had $ORIGIN/../lib/ before it
                if f"lib/{library}" in found or IN_GLIBC.fullmatch(library):
                    continue
                for folder in self.library_folders():
                    path = os.path.join(folder, library)
                    if os.path.isfile(path):
                        with open(path, "rb") as file:
                            content = file.read()
                        inner = Elf.read(content)
                        if inner and inner.arch == self.arch:
                            found[f"lib/{library}"] = content, False
                            queue.append((library, inner))
                            if folder not in self.own_folders():
                                foreign.append(library)
                            break
                else:
                    missing.append(f"{library} (wanted by {user})")
        self.refuse_newer_glibc({"bin/python3": files["bin/python3"], **found})
        if foreign:
            note(f"copied from this machine into lib/: {', '.join(sorted(foreign))}")
        if missing:
            where = "the prefix" if self.has_own_system() else "this machine"
            note(f"warning: not found on {where}, and importing what wants them may fail: {some(set(missing))}")
        return found

    def refuse_newer_glibc(self, files):
        """A module that wants one is missed by who imports it; the interpreter would not start."""
        for name, (content, _) in files.items():
            elf = Elf.read(content) if re.match(r"bin/python3$|lib/libpython", name) else None
            if elf and elf.glibc > GLIBC and not os.environ.get("FORCE"):
                raise Refused(
                    f"{os.path.basename(name)} in {self.prefix} wants glibc {'.'.join(map(str, elf.glibc))}, and Lambda has 2.34: "
                    f"take a Python built for older systems (uv python install {self.version}), or FORCE=1 to build all the same"
                )

    def own_folders(self):
        """Where the prefix has libraries; ROOT/usr of another system has some in ROOT as well."""
        root = os.path.dirname(self.prefix) if os.path.basename(self.prefix) == "usr" else ""
        prefixes = [self.prefix] + ([root] if root.strip("/") else [])
        return [os.path.join(p, lib) for p in prefixes for lib in ("lib", f"lib/{TRIPLETS[self.arch]}", "lib64")]

    def has_own_system(self):
        """Whether it is another system's root: its libraries are not to be mixed with this machine's."""
        return self.prefix != "/usr" and any(os.path.isfile(os.path.join(folder, "libc.so.6")) for folder in self.own_folders())

    def library_folders(self):
        if self.has_own_system():
            return self.own_folders()
        triplet = TRIPLETS[self.arch]
        system = [f"/usr/local/lib/{triplet}", "/usr/local/lib", f"/lib/{triplet}", f"/usr/lib/{triplet}"]
        return self.own_folders() + system + ["/lib64", "/usr/lib64", "/lib", "/usr/lib"]


def strip(files, names, arch):
    """Drop symbol tables and debug information, where this machine has a program for it."""
    if not names:
        return
    program = shutil.which(f"{TRIPLETS[arch]}-strip") or shutil.which("strip")
    if not program:
        return note(f"no `strip` on this machine: {len(names)} files keep their symbols")
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, str(number)) for number in range(len(names))]
        for path, name in zip(paths, names):
            with open(path, "wb") as file:
                file.write(files[name][0])
        failed = subprocess.run([program, *paths], stderr=subprocess.DEVNULL).returncode
        for path, name in zip(paths, names):
            with open(path, "rb") as file:
                files[name] = file.read(), files[name][1]
    if failed:
        note(f"`strip` could not handle all of {len(names)} files: some keep their symbols")


if __name__ == "__main__":
    for number in INTERRUPTS:
        signal.signal(number, leave)
    main()
