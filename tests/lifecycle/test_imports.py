"""Quicker imports: what find_spec() and get_code() of this runtime give is what importlib's own give."""

import pathlib
import py_compile
import shutil
import sys
import tempfile
import unittest

from miniature import IMPORTLIBS_OWN, Lambda

FUNCTION = r'''
import importlib.machinery, importlib.util, marshal, os, pathlib, py_compile, sys, tempfile, threading, traceback
from importlib.machinery import FileFinder, SourceFileLoader

SourceLoader = SourceFileLoader.__mro__[2]
CACHE_TAG = sys.implementation.cache_tag
TIME, UNCHECKED, CHECKED = (py_compile.PycInvalidationMode[name] for name in ("TIMESTAMP", "UNCHECKED_HASH", "CHECKED_HASH"))
opened = []  # compiled files, and the way: io.open_code() tells a mode, os.open() none
during_load = []  # what another thread is to import while a module is loaded, or what is raised then
hold = threading.Event(), threading.Event()  # a thread named "holds" has begun to load a module; it may go on


def audit(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".pyc"):
        opened.append(arguments[1])
    elif event == "marshal.loads" and threading.current_thread().name == "holds":
        hold[0].set()
        hold[1].wait(20)
    elif event == "marshal.loads" and during_load:
        if isinstance(during_load[0], Exception):
            raise during_load.pop()
        thread = threading.Thread(target=__import__, args=(during_load.pop(),))
        thread.start()
        thread.join()


sys.addaudithook(audit)


def write(name, more="", mode=TIME):
    """A module whose compiled file says "compiled", and its source, of the same size and time, "source"."""
    path = pathlib.Path(folder, f"{name}.py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("where = 'compiled'" + more)
    os.utime(path, (1, 1))
    compiled = pathlib.Path(py_compile.compile(str(path), dfile="/elsewhere.py", invalidation_mode=mode))
    path.write_text("where = 'source'  " + more)
    os.utime(path, (1, 1))
    return path, compiled


def where(name):
    importlib.invalidate_caches()
    importlib.util.find_spec("nowhere")  # which lists the folder: the next to look for something finds it listed
    opened.clear()
    try:
        return __import__(name, fromlist="where").where
    except Exception as exception:
        return type(exception).__name__
    finally:
        ways[name] = list(opened)


def damage(name, change):
    path, compiled = write(name)
    compiled.write_bytes(change(compiled.read_bytes()))
    return where(name)


def replaced(owner, name, new, module):
    """What an import gives while a function of importlib's is replaced."""
    write(module)
    mine = name in vars(owner)
    old = getattr(owner, name)
    setattr(owner, name, new(old))
    try:
        return where(module)
    finally:
        setattr(owner, name, old) if mine else delattr(owner, name)


def scenarios():
    write("sound")
    yield "sound", where("sound")
    yield "how it was opened", ways["sound"]
    module = sys.modules["sound"]
    spec = module.__spec__
    yield "spec", [
        type(spec).__name__, type(spec.loader).__name__, sorted(vars(spec.loader)), spec.name, spec.parent, spec.has_location,
        spec.submodule_search_locations, spec.origin == module.__file__ == f"{folder}/sound.py",
        spec.cached == importlib.util.cache_from_source(spec.origin), spec.loader.get_code("sound").co_filename == spec.origin,
    ]
    try:
        spec.loader.get_code("other")
    except ImportError as exception:
        yield "another name", str(exception)

    path, _ = write("older")
    os.utime(path, (2, 2))
    yield "another time", where("older")
    path, _ = write("longer")
    path.write_text("where = 'longer source'")
    os.utime(path, (1, 1))
    yield "another size", where("longer")
    path, compiled = write("before_1970")
    os.utime(path, (-1.5, -1.5))
    data = compiled.read_bytes()
    compiled.write_bytes(data[:8] + b"\xfe\xff\xff\xff" + data[12:])
    yield "a time before 1970", where("before_1970")
    yield "another Python", damage("magic", lambda data: b"1234" + data[4:])
    yield "unknown flags", damage("flags", lambda data: data[:4] + b"\4" + data[5:])
    write("read_before")
    where("read_before")
    yield "empty, and the buffer has the head of another", damage("empty", lambda data: b"")
    yield "cut in the head", damage("half_head", lambda data: data[:8])
    yield "nothing but a head", damage("head", lambda data: data[:16])
    yield "cut", damage("cut", lambda data: data[:30])
    yield "no code", damage("number", lambda data: data[:16] + marshal.dumps(1))
    yield "large", [write("large", "\ntext = '" + "x" * 300_000 + "'") and where("large"), sys.modules["large"].text.count("x")]
    write("unchecked", mode=UNCHECKED)
    yield "unchecked", where("unchecked")
    yield "how that was opened", ways["unchecked"]
    write("unchecked_2", mode=UNCHECKED)
    sys.modules["_imp"].check_hash_based_pycs = "always"
    yield "unchecked, and all are to be checked", where("unchecked_2")
    sys.modules["_imp"].check_hash_based_pycs = "default"
    write("checked", mode=CHECKED)
    yield "checked", where("checked")
    _, compiled = write("missing")
    compiled.unlink()
    yield "missing", where("missing")
    _, compiled = write("directory")
    compiled.unlink()
    compiled.mkdir()
    descriptors = len(os.listdir("/dev/fd"))
    yield "a directory", where("directory")
    yield "open descriptors more", len(os.listdir("/dev/fd")) - descriptors

    write("package/__init__")
    write("package/inner")
    write("package")
    yield "a package comes before a module", [where("package"), sys.modules["package"].__path__ == [f"{folder}/package"]]
    specs = [importlib.machinery.PathFinder.find_spec(name, [folder]) for name in ("sound", "package")]
    yield "how they were found", [vars(spec)["_cached"] is None for spec in specs]
    yield "inside", where("package.inner")
    yield "its parent", sys.modules["package.inner"].__spec__.parent
    pathlib.Path(folder, "space").mkdir()
    write("space/inner")
    write("space")
    yield "a module comes before a folder without __init__.py", where("space")
    pathlib.Path(folder, "only_space").mkdir()
    write("only_space/inner")
    yield "a folder without __init__.py", where("only_space.inner")
    pathlib.Path(folder, "named.py").mkdir()
    yield "a folder with the name of a file", where("named")
    write("extension")
    pathlib.Path(folder, "extension.so").write_text("no such thing")
    yield "an extension module comes first", where("extension")
    pathlib.Path(folder, "compiled_only.pyc").write_bytes(write("of_another")[1].read_bytes())
    yield "a compiled file without a source", [where("compiled_only"), sys.modules["compiled_only"].__spec__.cached == folder + "/compiled_only.pyc"]
    yield "not there", where("comes_later")
    write("comes_later")
    yield "there now", where("comes_later")
    path, _ = write("goes")
    importlib.util.find_spec("goes")
    status = os.stat(folder)
    path.unlink()
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))
    yield "in the list of its folder, but not there", importlib.util.find_spec("goes")
    write("unlisted")
    write("unlisted_package/__init__")
    os.utime(folder, ns=(status.st_atime_ns, status.st_mtime_ns))
    yield "in the folder, not in its list, and its time is the same", [importlib.util.find_spec(name) for name in ("unlisted", "unlisted_package")]
    os.utime(folder, (3, 3))
    yield "in the folder, and not in its list", importlib.util.find_spec("unlisted").name
    write("grows")
    importlib.invalidate_caches()
    importlib.util.find_spec("nowhere")
    write("grows/__init__")
    os.utime(folder, (4, 4))
    yield "a package has come beside a module", importlib.util.find_spec("grows").origin == f"{folder}/grows/__init__.py"
    importlib.invalidate_caches()
    yield "and caches are invalid", importlib.util.find_spec("grows").origin == f"{folder}/grows/__init__.py"
    pathlib.Path(folder, "leaves").mkdir()
    finder = FileFinder(folder + "/leaves", (SourceFileLoader, [".py"]))
    finder.find_spec("nowhere")
    pathlib.Path(folder, "leaves").rmdir()
    yield "the folder is gone", finder.find_spec("nowhere")
    sys.path[0] += "//"
    write("behind_slashes")
    yield "a folder that ends in slashes", [where("behind_slashes"), sys.modules["behind_slashes"].__file__ == f"{folder}/behind_slashes.py"]
    sys.path[0] = folder

    write("first")
    write("second", "\nother = 1")
    during_load.append("second")
    yield "two threads at a time", [where("first"), sys.modules["second"].where, vars(sys.modules["first"]).get("other")]
    write("third")
    write("fourth")
    thread = threading.Thread(target=__import__, args=("fourth",), name="holds")

    def profile(frame, event, argument):
        if event == "c_call" and argument.__name__ == "rpartition" and frame.f_code.co_name == "get_code":
            sys.setprofile(None)
            thread.start()
            hold[0].wait(20)

    sys.setprofile(profile)
    yield "another thread, a moment before", where("third")
    sys.setprofile(None)
    hold[1].set()
    if thread.ident:
        thread.join()
    write("in_time")
    during_load.append(TimeoutError())
    yield "a signal handler raises TimeoutError", where("in_time")

    external = sys.modules["_frozen_importlib_external"]
    get_data = lambda old: lambda self, path: old(self, path).replace(b"compiled", b"get_data")
    yield "get_data() is replaced", replaced(SourceFileLoader, "get_data", get_data, "with_get_data")
    yield "path_stats() is replaced", replaced(SourceFileLoader, "path_stats", lambda old: lambda self, path: {"mtime": 5, "size": 5}, "with_path_stats")
    get_code = lambda old: lambda self, name: compile("where = 'get_code'", "", "exec")
    yield "get_code() is replaced", replaced(SourceLoader, "get_code", get_code, "with_get_code")
    compile_bytecode = lambda old: lambda *_, **__: compile("where = '_compile_bytecode'", "", "exec")
    yield "_compile_bytecode() is replaced", replaced(external, "_compile_bytecode", compile_bytecode, "with_compile_bytecode")
    proxy = lambda old: Proxy(get_data(old))
    yield "get_data() is replaced by what is equal to it", replaced(SourceFileLoader, "get_data", proxy, "with_proxy")
    asked = []
    for name in "stat", "open", "readv", "close":
        replaced(os, name, lambda old: lambda *rest, **more: asked.append(name) or old(*rest, **more), f"with_{name}")
    yield "functions of os are replaced", asked
    asked = []
    get_spec = lambda old: lambda self, loader, name, *rest: asked.append(name) or old(self, loader, name, *rest)
    yield "_get_spec() is replaced", [replaced(FileFinder, "_get_spec", get_spec, "with_get_spec"), asked]
    yield "cache_from_source() is replaced", replaced(external, "cache_from_source", lambda old: lambda *_, **__: "/nowhere", "with_cache")
    with tempfile.TemporaryDirectory() as sys.pycache_prefix:
        path, compiled = write("prefix")
        yield "pycache_prefix", [where("prefix"), sys.modules["prefix"].__spec__.cached == str(compiled), str(compiled).startswith(sys.pycache_prefix)]
    sys.pycache_prefix = None
    write("no_tag")
    sys.implementation.cache_tag = None
    yield "cache_tag is None", where("no_tag")
    sys.implementation.cache_tag = CACHE_TAG
    loader = SourceFileLoader("own", str(write("own")[0]))
    loader.path_stats = lambda path: {"mtime": 5, "size": 5}
    yield "a loader with a method of its own", loader.get_code("own").co_consts[0]

    class Loader(SourceFileLoader):
        def get_data(self, path):
            return super().get_data(path).replace(b"compiled", b"subclass")

    class Finder(FileFinder):
        def _get_spec(self, loader_class, name, path, places, target):
            asked.append(target)
            return super()._get_spec(Loader, name, path, places, target)

    write("subclass")
    finder, asked = Finder(folder, (SourceFileLoader, [".py"])), []
    finder.find_spec("nowhere")
    yield "classes of its own", [finder.find_spec("subclass", "target").loader.get_code("subclass").co_consts[0], asked]

    class Mixin(SourceLoader):
        def get_code(self, name):
            return compile("where = 'mixin'", "", "exec")

    yield "a loader with another base", type("Both", (SourceFileLoader, Mixin), {})("own", loader.path).get_code("own").co_consts[0]
    path, compiled = write("tool")
    compiled.with_name(f".{CACHE_TAG}{compiled.name.partition(CACHE_TAG)[2]}").write_bytes(compiled.read_bytes())
    for name in "tool.box.py", "toolbox":
        path = path.rename(f"{folder}/{name}")
        yield f"the path is {name}", SourceFileLoader("tool", str(path)).get_code("tool").co_consts[0]
    compiled.unlink()
    yield "a path that is no string", SourceFileLoader("tool", path).get_code("tool").co_consts[0]
    write("relative")
    os.chdir(folder)
    opened.clear()
    yield "a relative path", [SourceFileLoader("own", "relative.py").get_code("own").co_consts[0], len(opened)]
    write("package/")
    importlib.util.find_spec("package.nowhere")
    yield "a name that ends in a dot", importlib.util.find_spec("package.").cached == importlib.util.cache_from_source(folder + "/package/.py")

    pathlib.Path(folder, "wrong.py").write_text("x = (\n")
    try:
        import wrong
    except SyntaxError:
        yield "the lines of a traceback", traceback.format_exc().count("  File ")

    def refuse(name, path):
        raise ImportError

    finder = sys.path_importer_cache[folder] = FileFinder(folder, (refuse, [".py"]))
    finder.find_spec("nowhere")
    try:
        import unlisted
    except ImportError:
        yield "and of another", traceback.format_exc().count("  File ")


class Proxy:  # as wrapt's, with which tracers replace functions
    def __init__(self, function):
        self.function = function

    def __get__(self, loader, owner):
        return self if loader is None else lambda path: self.function(loader, path)

    def __eq__(self, other):
        return True


folder = tempfile.mkdtemp()
sys.path.insert(0, folder)
ways = {}


def handler(event, context):
    return [folder, list(scenarios())]
'''

SAME_AS_IMPORTLIBS = {
    "sound": "compiled",
    "how it was opened": [None],
    "spec": ["ModuleSpec", "SourceFileLoader", ["name", "path"], "sound", "", True, None, True, True, True],
    "another name": "loader for sound cannot handle other",
    "another time": "source",
    "another size": "longer source",
    "a time before 1970": "source",
    "another Python": "source",
    "unknown flags": "source",
    "empty, and the buffer has the head of another": "source",
    "cut in the head": "source",
    "nothing but a head": "EOFError",
    "cut": "EOFError",
    "no code": "ImportError",
    "large": ["compiled", 300_000],
    "unchecked": "compiled",
    "how that was opened": [None],
    "unchecked, and all are to be checked": "source",
    "checked": "source",
    "missing": "source",
    "a directory": "source",
    "open descriptors more": 0,
    "a package comes before a module": ["compiled", True],
    "how they were found": [sys.version_info >= (3, 15)] * 2,  # from there on both leave it to who asks for it
    "inside": "compiled",
    "its parent": "package",
    "a module comes before a folder without __init__.py": "compiled",
    "a folder without __init__.py": "compiled",
    "a folder with the name of a file": "ModuleNotFoundError",
    "an extension module comes first": "ImportError",
    "a compiled file without a source": ["compiled", True],
    "not there": "ModuleNotFoundError",
    "there now": "compiled",
    "in the list of its folder, but not there": None,
    "in the folder, not in its list, and its time is the same": [None, None],
    "in the folder, and not in its list": "unlisted",
    "a package has come beside a module": False,
    "and caches are invalid": True,
    "the folder is gone": None,
    "a folder that ends in slashes": ["compiled", True],
    "two threads at a time": ["compiled", "compiled", None],
    "another thread, a moment before": "compiled",
    "a signal handler raises TimeoutError": "TimeoutError",
    "get_data() is replaced": "get_data",
    "path_stats() is replaced": "source",
    "get_code() is replaced": "get_code",
    "_compile_bytecode() is replaced": "_compile_bytecode",
    "get_data() is replaced by what is equal to it": "get_data",
    "functions of os are replaced": [],
    "_get_spec() is replaced": ["compiled", ["with_get_spec"]],
    "cache_from_source() is replaced": "source",
    "pycache_prefix": ["compiled", True, True],
    "cache_tag is None": "source",
    "a loader with a method of its own": "source",
    "classes of its own": ["subclass", ["target"]],
    "a loader with another base": "mixin",
    "the path is tool.box.py": "source",
    "the path is toolbox": "source",
    "a path that is no string": "source",
    "a relative path": ["compiled", 1],
    "a name that ends in a dot": True,
    "the lines of a traceback": 2,
    "and of another": 2,
}


class QuickerImports(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.task_root = pathlib.Path(tempfile.mkdtemp(prefix="imports-"))
        self.addCleanup(shutil.rmtree, self.task_root)
        (self.task_root / "function.py").write_text(FUNCTION)

    def found(self, **env):
        with Lambda(self.task_root, env={"PYTHONDONTWRITEBYTECODE": "1", **env}) as aws:
            answer = aws.invoke()
            self.assertIsNone(answer.error, aws.log)
            self.log = aws.stderr
        folder, outcomes = answer.json
        shutil.rmtree(folder)
        return dict(outcomes)

    def test_same_as_importlibs(self):
        found = self.found()
        self.assertEqual(list(found), list(SAME_AS_IMPORTLIBS))
        for name, expected in SAME_AS_IMPORTLIBS.items():
            with self.subTest(name):
                self.assertEqual(found[name], expected)

    def test_importlibs_own(self):
        """The list above is importlib's, but for its own way, and for what it finds without being told that caches are invalid."""
        (self.task_root / "function.py").write_text(IMPORTLIBS_OWN + FUNCTION)
        differs = {"how it was opened": ["r"], "how that was opened": ["r"], "how they were found": [True, True], "a package has come beside a module": True}
        self.assertEqual(self.found(), {**SAME_AS_IMPORTLIBS, **differs})

    def test_optimised(self):
        self.assertEqual(self.found(PYTHONOPTIMIZE="1"), SAME_AS_IMPORTLIBS)

    def test_replaced_before(self):
        """What a sitecustomize has put into importlib is called."""
        (self.task_root / "site").mkdir()
        (self.task_root / "function.py").write_text("import sys\n\ndef handler(event, context):\n    return any('function' in name for name in sys.asked)\n")
        py_compile.compile(str(self.task_root / "function.py"))
        for name, replacement in (
            ("FileFinder.find_spec", "replace"),
            ("SourceFileLoader.get_code", "replace"),
            ("SourceFileLoader.get_code", "Proxy()"),
            ("SourceFileLoader.get_data", "replace"),
        ):
            with self.subTest(name, replacement=replacement):
                (self.task_root / "site/sitecustomize.py").write_text(f"""
import sys
from importlib.machinery import FileFinder, SourceFileLoader
old, sys.asked = {name}, set()
def replace(self, name, *rest):
    sys.asked.add(name)
    return old(self, name, *rest)
class Proxy:  # as wrapt's
    __code__ = old.__code__
    def __get__(self, loader, owner):
        return self if loader is None else lambda name: replace(loader, name)
{name} = {replacement}
""")
                with Lambda(self.task_root, env={"PYTHONPATH": f"{self.task_root}/site", "PYTHONDONTWRITEBYTECODE": "1"}) as aws:
                    self.assertIs(aws.invoke().json, True, aws.log)

    def test_verbose(self):
        """Python says of each module where its code comes from."""
        self.assertEqual(self.found(PYTHONVERBOSE="1")["sound"], "compiled")
        self.assertRegex(self.log, r"/sound\..*pyc matches /.*/sound\.py")


if __name__ == "__main__":
    unittest.main()
