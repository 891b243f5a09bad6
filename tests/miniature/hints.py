"""What to do about a function that does not start, in one line: a name that is nearly right, a package that is not installed."""

import difflib
import os
import pathlib
import platform
import re
import shlex
import symtable
import sys
import sysconfig
import warnings

from .process import REPO

# What PyPI calls a module otherwise than Python does.
OF_PYPI = {
    "Crypto": "pycryptodome", "PIL": "pillow", "attr": "attrs", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "dateutil": "python-dateutil",
    "dotenv": "python-dotenv", "jose": "python-jose", "jwt": "pyjwt", "OpenSSL": "pyopenssl", "psycopg2": "psycopg2-binary", "sklearn": "scikit-learn",
    "slugify": "python-slugify", "yaml": "pyyaml",
}
# What Python 3.9 had in its standard library, and 3.15 has not.
GONE = (
    "aifc asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils formatter imghdr imp lib2to3 mailcap nis nntplib ossaudiodev parser "
    "pipes smtpd sndhdr spwd sunau symbol telnetlib uu xdrlib"
).split()


def hint(folder, handler, error):
    """What to do about an error's document, or None where its message says it all."""
    error_type, message = error.get("errorType", ""), error.get("errorMessage", "")
    file, _, name = handler.rpartition(".")
    named = ("Runtime.HandlerNotFound", "Runtime.MalformedHandlerName") + (() if module_exists(folder, file) else ("Runtime.ImportModuleError",))
    if error_type in named or not file or not name or handler.startswith("/"):
        return near_miss(folder, handler)
    if message.startswith("not an HTTP event"):
        return """an HTTP event, to begin with: EVENT='{"httpMethod": "GET", "path": "/"}'; make serve makes them of a browser's requests"""
    # An application that is called as one of the other kind, or as a handler, with the event and the context.
    if re.search(r"\(\) missing 1 required positional argument: 'send'", message):
        return "an ASGI application? Its handler is runtime.asgi(app): neither runtime.wsgi(app) nor the application itself"
    if re.search(r"\b__call__\(\) takes 3 positional arguments but 4 were|^'(wsgi\.\w+|REQUEST_METHOD|PATH_INFO|SCRIPT_NAME)'$|'LambdaContext' object is not callable", message):
        return "a WSGI application? Its handler is runtime.wsgi(app): neither runtime.asgi(app) nor the application itself"
    if error_type in ("Runtime.ImportModuleError", "ModuleNotFoundError", "ImportError"):
        return built_for_another(folder, message) or missing_module(folder, handler, message)
    return None


def module_exists(folder, name):
    if name.startswith((".", "/")):
        return False
    path = os.path.join(folder, name.replace(".", "/"))
    return os.path.isfile(f"{path}.py") or os.path.isfile(os.path.join(path, "__init__.py"))


def missing_module(folder, handler, message):
    """Where a module is that an import has not found, or how it is installed."""
    found = re.search(r"No module named '(\w+)", message)
    if not found or found[1] == "runtime":
        return None
    name, parent = found[1], os.path.dirname(os.path.realpath(folder))
    if name in GONE:
        return f"{name} has left Python's standard library, and this is {platform.python_version()}: take what its documentation names instead"
    inside = os.path.basename(os.path.realpath(folder))
    for where, right in (parent, f"{inside}.{handler}"), (os.path.dirname(parent), f"{os.path.basename(parent)}.{inside}.{handler}"):
        if where != "/" and module_exists(where, name):
            variable = os.environ.get("MAKE_FUNCTION", "FUNCTION")
            return f"{name} is in {where}: {variable}={os.path.relpath(where)} HANDLER={right}?"
    package, requirements = OF_PYPI.get(name, name), os.path.join(folder, "requirements.txt")
    try:
        named = re.search(rf"(?mi)^\s*{re.sub('[-_.]', '[-_.]', package)}\b", pathlib.Path(requirements).read_text("utf-8", "replace"))
    except OSError:
        named = None
    what = f"-r {shlex.quote(requirements)}" if named else package
    python, then = shlex.quote(sys.executable), "" if named else f"; named in {requirements}, make dist installs it as well"
    if sys.prefix == sys.base_prefix and os.path.isfile(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")):
        return f"{name} is not installed: {python} -m venv .venv && .venv/bin/pip install {what}, and then PYTHON=.venv/bin/python3{then}"
    return f"{name} is not installed: {python} -m pip install {what}{then}"


def built_for_another(folder, message):
    """The extension modules of the packages in a message that are for another Python or machine than this, as make dist names them."""
    sys.path.append(os.path.join(REPO, "tests", "deploy"))  # as `deploy` it would be deploy.py, for who has that folder on the path
    from elf import MACHINES, built_for

    version = f"{sys.version_info[0]}.{sys.version_info[1]}" + ("t" if "t" in getattr(sys, "abiflags", "") else "")
    system, words = platform.system(), set(re.findall(r"\w+", message))
    arch = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    here, pythons, machines = set(), {}, []
    for path in sorted(pathlib.Path(folder).rglob("*.so")):
        name = path.relative_to(folder).as_posix()
        if re.split("[./]", name)[0] not in words:
            continue
        with open(path, "rb") as file:
            head = file.read(20)
        machine = MACHINES.get(int.from_bytes(head[18:20], "little")) if head[:4] == b"\x7fELF" else None
        if (machine != arch) if system == "Linux" else machine:
            machines.append(name)
        elif built_for(name) in (None, version):
            here.add(name.partition(".")[0])
        else:
            pythons[name] = built_for(name)
    pythons = {name: python for name, python in pythons.items() if name.partition(".")[0] not in here}

    def some(names):
        return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")

    if pythons:
        python = next(iter(pythons.values()))
        return f"not built for Python {version}: {some([*pythons])} (PYTHON=python{python} runs it)"
    if machines:
        return f"not built for {system} on {arch}: {some(machines)} (install it anew, here)"
    return None


def top_level(path):
    """The names that a file gives to something, and the public functions among them, without running it."""
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = symtable.symtable(file.read(), path, "exec")
    except (OSError, SyntaxError, ValueError):
        return set(), []  # its import will say what is wrong
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    functions = [child.get_name() for child in table.get_children() if isinstance(child, symtable.Function)]
    return bound, [name for name in functions if name in bound and not name.startswith("_")]


def near_miss(folder, handler):
    """What to write in place of a HANDLER that names nothing, from what the folder has; None if it is not to blame."""
    def defined(module):
        path = f"{module}.py" if os.path.isfile(os.path.join(folder, f"{module}.py")) else f"{module}/__init__.py"
        return path, *top_level(os.path.join(folder, path))

    variable = os.environ.get("MAKE_FUNCTION", "FUNCTION")
    plain = re.sub(r"^\./|\(.*\)$", "", handler.strip()).replace(":", ".")
    way, _, rest = plain.rpartition("/")
    if plain.startswith("/") or ".." in way.split("/"):
        where = next((path for path in (way or "/", os.path.join(folder, way), folder) if module_exists(path, rest.rpartition(".")[0])), None)
        return f"HANDLER={handler}: its folder has a variable of its own" + (f": {variable}={os.path.relpath(where)} HANDLER={rest}?" if where else f", which is {variable}")
    file, _, name = re.sub(r"\.py\b", "", plain).rpartition(".")
    files = {path.relative_to(folder).as_posix()[:-3].removesuffix("/__init__") for path in pathlib.Path(folder).rglob("*.py")}
    module = file.replace(".", "/")
    parent, _, last = module.rpartition("/")
    if not file or not name:
        hint = "it is file.function, as in function.handler"
    elif module not in files and parent in files and last in defined(parent)[1]:
        hint = f"it is file.function: HANDLER={parent}.{last}?"
    elif module not in files:
        close = [each for each in files if each.lower() == module.lower()] or difflib.get_close_matches(module, sorted(files), 1)
        hint = f"there is no {module}.py in {folder}"
        if module_exists(os.curdir, file):
            hint += f", but here: {variable}=. HANDLER={handler}?"
        elif close:
            path, bound, functions = defined(close[0])
            hint += f": HANDLER={close[0]}.{name}?" if name in bound else f", but {path}, which defines {', '.join(functions) or 'no function'}"
    else:
        path, bound, functions = defined(module)
        close = [name] if name in bound else difflib.get_close_matches(name, functions, 1)
        right = f"{file}.{close[0]}" if close else None
        if right == handler and file in getattr(sys, "stdlib_module_names", ()):
            return f"HANDLER={handler}: {path} is hidden by Python's own {file}, as on AWS: give it another name"
        if right == handler:
            return None  # it is there: its import, or what it imports, has failed
        defines = f"{path} defines {', '.join(functions) or 'no function'}"
        hint = (defines if name not in bound else "it is file.function") + (f": HANDLER={right}?" if right else "")
    return f"HANDLER={handler}: {hint}"
