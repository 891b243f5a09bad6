"""Imports from one file: what package.py writes, and that nothing but the time it takes tells a function of it."""

import contextlib
import io
import os
import pathlib
import shutil
import sys
import sysconfig
import tempfile
import unittest
from unittest import mock

import package
from miniature import IMPORTLIBS_OWN, Lambda

EPOCH = package.EPOCH
WAYS = "onefile", "pycache", "sources"  # where a module's code came from, which WHERE in its source becomes


def pack(folder, files, **facts):
    """Write files with compiled code and `.modules`, in each of the three another value for WHERE.

    facts: what one_file() shall see in place of the truth.
    """
    code = {}
    for way in WAYS:
        sources = {name: (text.replace("WHERE", repr(way)).encode(), False) for name, text in files.items()}
        code[way] = package.compiled(sources, "/var/task")  # it lies elsewhere, as in `make run`
    # The last of them is what is there; the code in the one file is told to be of it.
    pretended = {name: (code["sources"][name][0][:16] + pyc[16:], False) for name, (pyc, _) in code["onefile"].items()}
    with mock.patch.multiple(package, **{"FEW": 1, **facts}):
        one_file = package.one_file({**sources, **pretended})
    package.write(f"{folder}/", {**sources, **code["pycache"], **one_file})


def in_folder(test):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="one-file-"))
    test.addCleanup(shutil.rmtree, folder)
    return folder


def binary():
    """An extension module of the standard library's, for a copy of it."""
    paths = list(pathlib.Path(sysconfig.get_path("stdlib"), "lib-dynload").glob("_*.so"))
    wanted = "_json", "_bisect", "_heapq", "_csv", "_struct", "_zoneinfo", "_queue", "_lsprof"
    return next((path for name in wanted for path in paths if path.name.split(".")[0] == name), None)


WHERE = """
import module
from package import inner
def handler(event, context):
    return [module.where, inner.where]
"""


class UsedOrNot(unittest.TestCase):
    """Where the code of a module comes from, and what is said about it."""

    def setUp(self):
        self.folder = in_folder(self)
        pack(self.folder, {"function.py": WHERE, "module.py": "where = WHERE\n", "package/__init__.py": "", "package/inner.py": "where = WHERE\n"})
        self.file = self.folder / ".modules"
        self.data = self.file.read_bytes()

    def outcome(self, **env):
        with Lambda(self.folder, env=env) as aws:
            where = aws.invoke().json
        lines = [line for line in aws.stderr.splitlines() if ".modules" in line]
        return where, lines

    def gives(self, module, inner, **env):
        self.assertEqual(self.outcome(**env), ([module, inner], []))

    def test_sound(self):
        self.gives("onefile", "onefile")

    def test_a_folder_that_the_interpreter_has_looked_into_before(self):
        self.gives("onefile", "onefile", PYTHONPATH=self.folder)  # for a sitecustomize

    def test_no_file(self):
        self.file.unlink()
        self.gives("pycache", "pycache")

    def test_no_compiled_files_beside_it(self):
        shutil.rmtree(self.folder / "__pycache__")
        self.gives("onefile", "onefile")

    def test_a_source_that_is_newer_wins(self):
        """Over the file and over __pycache__, which is as old."""
        (self.folder / "module.py").write_text("where = 'edited.'\n")
        self.gives("edited.", "onefile")
        (self.folder / "module.py").write_text("where = 'longer by a few'\n")
        self.gives("longer by a few", "onefile")

    def test_a_source_is_looked_at_once(self):
        """By its finder, in a way that does not show here."""
        (self.folder / "function.py").write_text("""
import os
asked, stat = [], os.stat
os.stat = lambda path, *rest, **more: asked.append(str(path)) or stat(path, *rest, **more)
import module
os.stat = stat
def handler(event, context):
    return module.where, [path for path in asked if "module" in path]
""")
        self.assertEqual(self.outcome(), (["onefile", []], []))

    def test_a_source_that_is_newer_and_wrong(self):
        """Its error has the traceback that it has without the file."""
        (self.folder / "module.py").write_text("where = (\n")
        (self.folder / "function.py").write_text(
            "import traceback\ntry:\n    import module\nexcept SyntaxError:\n    error = traceback.format_exc()\n"
            "def handler(event, context):\n    return error\n"
        )
        with_file = self.outcome()
        self.file.unlink()
        shutil.rmtree(self.folder / "__pycache__")
        self.assertEqual(with_file, self.outcome())

    def test_a_source_with_another_time_but_the_same_content(self):
        for path in self.folder.rglob("*.py"):
            os.utime(path)
        self.gives("onefile", "onefile")

    def test_a_module_that_was_added_and_one_that_was_removed(self):
        (self.folder / "module.py").unlink()
        (self.folder / "module").mkdir()
        (self.folder / "module/__init__.py").write_text("where = 'new'")
        self.gives("new", "onefile")

    def test_a_module_that_the_function_writes(self):
        (self.folder / "function.py").write_text("""
import pathlib, sys
sys.dont_write_bytecode = True
root = pathlib.Path(__file__).parent
def handler(event, context):
    found = []
    for name in "late", "package.late":
        try:
            __import__(name)
        except ImportError:
            path = root / (name.replace(".", "/") + ".py")
            path.write_text("")
            found.append(str(sys.modules.get(name)))
            import importlib
            importlib.invalidate_caches()  # as with any folder, for a clock that is too coarse
            __import__(name)
            found.append(sys.modules[name].__file__ == str(path))
    return found
""")
        with Lambda(self.folder) as aws:
            self.assertEqual(aws.invoke().json, ["None", True, "None", True])

    def test_python_that_leaves_asserts_out(self):
        self.gives("sources", "sources", PYTHONOPTIMIZE="1")

    def test_not_sound(self):
        """Said in one line; the function starts from the other files."""
        data = self.data
        broken = {
            "is cut or damaged": [data[:-1], data[:40], data + b"x", data[:60] + b"xxxx" + data[64:], data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]],
            "is of another Python": [data[:16] + b"\1\2\r\n" + data[20:]],
            "is of another version of this runtime": [b"", b"lambda-modules-2" + data[16:]],
        }
        for reason, contents in broken.items():
            for content in contents:
                with self.subTest(reason, size=len(content)):
                    self.file.write_bytes(content)
                    where, lines = self.outcome()
                    self.assertIn(where, (["pycache", "pycache"], ["onefile", "pycache"]))
                    line = f"runtime: {self.file} {reason}: its modules are imported from their own files (make dist builds it anew)"
                    self.assertEqual(lines, [line])

    def test_it_is_read_ahead_once_a_few_modules_are_imported(self):
        """And where the kernel does not know how to, the modules come from it all the same."""
        names = [f"module_{number}" for number in range(20)]
        reads = "import os, errno\ncalls = []\ndef fadvise(descriptor, *arguments):\n    calls.append([imported, *arguments])\n    raise OSError(errno.ENOSYS, '')\n"
        source = (
            f"{reads}os.posix_fadvise = fadvise\nimported = 0\nwhere = []\nfor name in {names}:\n    where.append(__import__(name).where)\n    imported += 1\n"
            "def handler(event, context):\n    return [calls, set(where) == {'onefile'}, os.POSIX_FADV_WILLNEED]\n"
        )
        pack(self.folder, {"function.py": source, **{f"{name}.py": "where = WHERE\n" for name in names}})
        ((calls, all_from_it, will_need), lines) = self.outcome()
        self.assertEqual([calls, all_from_it, lines], [[[4, 0, 1 << 20, will_need]], True, []])

    def test_a_folder_of_that_name(self):
        self.file.unlink()
        self.file.mkdir()
        where, (line,) = self.outcome()
        self.assertEqual(where, ["pycache", "pycache"])
        self.assertIn("Is a directory", line)

    def test_of_another_folder(self):
        (self.folder / "module.py").write_text("another = where = 'source'\n")
        os.utime(self.folder / "module.py", (EPOCH, EPOCH))
        where, (line,) = self.outcome()
        self.assertEqual(where, ["pycache", "pycache"])
        self.assertIn(" is not of this folder: ", line)

    def test_that_is_gone_when_a_module_is_imported(self):
        self.file.with_name("function.py").write_text("import os\nos.remove(__file__.replace('function.py', '.modules'))\n" + WHERE)
        where, (line,) = self.outcome()
        self.assertEqual(where, ["pycache", "pycache"])
        self.assertIn("No such file", line)


# What the function can see of its modules, and what tools look at. Twice: with the file, and without.
SURROUNDINGS = {
    "function.py": """
import sys, os, re
ROOT = os.path.dirname(os.path.abspath(__file__))
def show(value):
    return re.sub(r"0x[0-9a-f]+", "0x", repr(value))
def facts(name):
    __import__(name)
    module = sys.modules[name]
    loader = getattr(module, "__loader__", None)
    spec = module.__spec__
    return {
        "vars": {k: show(v) for k, v in sorted(vars(module).items()) if k != "__builtins__"},
        "loader": [show(type(loader)), show(getattr(loader, "__dict__", 0) if hasattr(loader, "path") else 0)],
        "spec": {k: show(v) for k, v in sorted(vars(spec).items()) if k != "loader"}, "cached": spec.cached,
    }
def attempt(action):
    try:
        return show(action())
    except BaseException as error:
        return show(error)
def spawned(pipe):
    import package.inner, hidden
    pipe.send([package.inner.f(), hidden.where, type(package.__loader__).__name__])
def handler(event, context):
    sys.path.insert(0, ROOT + "/front")
    sys.path.insert(0, ROOT + "/vendor/")
    import importlib, importlib.util, importlib.machinery, inspect, pickle, pkgutil, runpy, traceback
    import importlib.metadata, importlib.resources, multiprocessing
    names = ["package", "package.inner", "package.deep", "package.deep.er", "space", "space.one", "space.two", "by_pth", "hidden",
             "on_pythonpath", "no_python.NAME", "twice"]
    result = {name: attempt(lambda: facts(name)) for name in names}
    import package.inner
    result["imported by .pth"] = "started" in sys.modules
    result["not there"] = [attempt(lambda: __import__(name)) for name in ("nowhere", "package.nowhere", "package.inner.x", "data", "package.data")]
    result["specs"] = [attempt(lambda: importlib.util.find_spec(name)) for name in (*names, "package.__main__", "nowhere", "package.nowhere")]
    result["code"] = [attempt(lambda: importlib.util.find_spec("package.deep").loader.get_code(name).co_filename) for name in ("package.deep", "other")]
    result["pickled"] = [show(pickle.loads(pickle.dumps(package.__loader__)).path), package.__loader__ == pickle.loads(pickle.dumps(package.__loader__))]
    result["source"] = [inspect.getsource(package.inner), inspect.getsourcefile(package.inner), package.inner.__loader__.get_source("package.inner")]
    result["data"] = [pkgutil.get_data("package", "data.txt").decode(), package.__loader__.get_data(ROOT + "/package/data.txt").decode()]
    result["resources"] = [attempt(lambda: importlib.resources.files(n).joinpath("data.txt").read_text()) for n in ("package", "space")]
    result["metadata"] = [importlib.metadata.version("thing"), attempt(lambda: sorted(p.name for p in importlib.metadata.distribution("thing").files))]
    result["modules"] = [[m.name, m.ispkg] for m in pkgutil.walk_packages([ROOT, *package.__path__], onerror=lambda name: None)]
    result["importers"] = [show(pkgutil.get_importer(ROOT)), show(type(pkgutil.get_importer(ROOT)))]
    result["finders"] = sorted(show((k, v)) for k, v in sys.path_importer_cache.items() if k.startswith(ROOT))
    result["path"] = sys.path
    def fail():
        package.inner.fail()
    try:
        fail()
    except ZeroDivisionError:
        result["traceback"] = traceback.format_exc()
    for name in "fails", "imports_nothing", "wrong_syntax":
        try:
            __import__(name)
        except BaseException:
            result[name] = traceback.format_exc()
    before = package.inner.f
    importlib.reload(package.inner)
    result["reload"] = [before is package.inner.f, facts("package.inner")]
    import warnings
    warnings.simplefilter("ignore")
    result["runpy"] = sorted((k, show(v)) for k, v in runpy.run_module("package", alter_sys=True).items() if k != "__builtins__")
    result["runpy, a module"] = sorted((k, show(v)) for k, v in runpy.run_module("package.inner").items() if k != "__builtins__")
    if "load_module" in dir(importlib.machinery.SourceFileLoader):
        del sys.modules["by_pth"]
        result["load_module"] = attempt(lambda: importlib.util.find_spec("by_pth").loader.load_module("by_pth"))
    class Hook:  # as wrapt's, ddtrace's and OpenTelemetry's: finds with the others, and wraps the loader
        def find_spec(self, name, path=None, target=None):
            if name == "watched":
                spec = importlib.machinery.PathFinder.find_spec(name, path)
                watch(spec.loader)
                return spec
    seen = []
    def watch(loader):
        load, get = loader.exec_module, loader.get_code
        def exec_module(module):
            load(module)
            seen.append(module.__name__)
        def get_code(name):
            seen.append("code")
            return get(name)
        loader.exec_module, loader.get_code = exec_module, get_code
    sys.meta_path.insert(0, Hook())
    import watched
    result["watched"] = [seen, watched.where]
    class Loader(importlib.machinery.SourceFileLoader):  # as beartype's and typeguard's: a path hook with a loader of its own
        def source_to_code(self, data, path, *, _optimization=-1):
            return super().source_to_code(data.replace(b"replaced", b"by a loader"), path)
        def get_code(self, name):
            return self.source_to_code(self.get_data(self.path), self.path)
    sys.path_hooks.insert(0, importlib.machinery.FileFinder.path_hook((Loader, [".py"])))
    sys.path_importer_cache.clear()
    import hooked
    result["hooked"] = [hooked.where, show(hooked.__loader__)]
    del sys.path_hooks[0]
    sys.path_importer_cache.clear()
    start = multiprocessing.get_context("spawn")
    ours, theirs = start.Pipe()
    child = start.Process(target=spawned, args=(theirs,))
    child.start()
    theirs.close()
    result["spawned"] = ours.recv()
    child.join()
    return result
""",
    "package/__init__.py": "'''Words.'''\nfrom . import inner\nx: int = 1\n",
    "package/__main__.py": "import package\nprint(end='')\nmain = __name__, __file__, __spec__.name\n",
    "package/inner.py": "def f():\n    return 'text'\n\ndef fail():\n    1 / 0\n",
    "package/data.txt": "some data", "package/data": "no module", "data/x.txt": "", "space/data.txt": "more data",
    "package/deep/__init__.py": "", "package/deep/er.py": "from .. import inner\n",
    "space/one.py": "one = 1\n", "vendor/space/two.py": "two = 2\n", "elsewhere/space/three.py": "",
    "a.pth": "elsewhere\nimport started\n", "elsewhere/by_pth.py": "where = WHERE\n", "elsewhere/started.py": "",
    "hidden.py": "where = 'root'\n", "front/hidden.py": "where = 'front'\n", "twice.py": "'root'", "vendor/twice/__init__.py": "'vendor'",
    "more/on_pythonpath.py": "", "more/hidden.py": "where = 'PYTHONPATH'",
    "fails.py": "def f():\n    raise ValueError(1)\n\n\nf()\n", "imports_nothing.py": "import nowhere_at_all\n", "wrong_syntax.py": "x = (\n",
    "watched.py": "where = 'watched'\n", "hooked.py": "where = 'replaced'\n",
    "no_python/__init__.py": "", "no_python/NAME.py": "raise SystemExit('an extension module comes first')\n",
    "thing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n", "thing-1.0.dist-info/RECORD": "package/__init__.py,,\n",
}


class NothingElseChanges(unittest.TestCase):
    maxDiff = None

    def test_what_a_function_sees(self):
        folder = in_folder(self)
        extension = binary()
        name = extension.name.split(".")[0] if extension else "NAME"
        files = {file.replace("NAME", name): text.replace("NAME", name) for file, text in SURROUNDINGS.items()}
        with contextlib.redirect_stderr(io.StringIO()):  # one has wrong syntax
            pack(folder, files)
        if extension:
            shutil.copy(extension, folder / "no_python")
        results = []
        for change in (lambda: None, (folder / ".modules").unlink, lambda: (folder / "elsewhere/started.py").write_text(IMPORTLIBS_OWN)):
            change()
            with Lambda(folder, env={"PYTHONPATH": f"{folder}/more", "PYTHONDONTWRITEBYTECODE": "1"}) as aws:
                answer = aws.invoke()
                self.assertIsNone(answer.error, aws.log)
                results.append(answer.json)
            self.assertNotIn(".modules", aws.stderr)
        with_file, *without = results
        self.assertIn("'onefile'", with_file["by_pth"])  # it was used
        for result in results:
            for key in list(result):
                result[key] = repr(result[key]).replace("onefile", "pycache")
        for result in without:
            self.assertEqual(with_file.keys(), result.keys())
            for key in with_file:
                with self.subTest(key):
                    self.assertEqual(with_file[key], result[key])


class Written(unittest.TestCase):
    def files(self, count=30, **more):
        files = {f"module_{number}.py": (b"x = %d" % number, False) for number in range(count)}
        files.update({name: (text, False) for name, text in more.items()})
        return {**files, **package.compiled(files, "/var/task")}

    def test_same_bytes_whoever_else_uses_its_names(self):
        files = self.files()
        first = package.one_file(files)
        self.assertEqual(list(first), [".modules"])
        names = [sys.intern(name) for name in files]
        self.assertEqual(package.one_file(files), first, names)

    def test_in_a_folder(self):
        files = {f"lib/{name}": item for name, item in self.files().items()}
        self.assertEqual(package.one_file(files, "lib/")["lib/.modules"], package.one_file(self.files())[".modules"])

    def test_few_modules_and_ONE_FILE_0(self):
        self.assertEqual(package.one_file(self.files(package.FEW - 1)), {})
        with mock.patch.dict(os.environ, ONE_FILE="0"):
            self.assertEqual(package.one_file(self.files()), {})

    def test_what_is_left_to_its_own_files(self):
        usual = package.one_file(self.files())
        left_out = {"package/tests/test_it.py": b"", "runtime.py": b"", "data.txt": b"", "wrong.py": b"("}
        with contextlib.redirect_stderr(io.StringIO()):
            self.assertEqual(package.one_file(self.files(**left_out)), usual)
        self.assertNotEqual(package.one_file(self.files(**{"contests.py": b""})), usual)

    def test_the_limit(self):
        """What could be uploaded without it can be with it."""
        files = self.files()
        files["model.bin"] = bytes(package.LIMIT - sum(len(content) for content, _ in files.values())), False
        with contextlib.redirect_stderr(io.StringIO()) as said:
            self.assertEqual(package.one_file(files), {})
        self.assertIn("package.py: left out the file with all modules (", said.getvalue())


if __name__ == "__main__":
    unittest.main()
