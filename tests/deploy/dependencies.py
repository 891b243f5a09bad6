"""What a function needs beside its own files: its requirements from wheels, and imports that nothing provides."""

import ast
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import warnings

MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
# The glibc versions that wheels are tagged with, from Amazon Linux 2023's 2.34 down; pip takes each for itself only.
PLATFORMS = [f"manylinux_2_{minor}" for minor in range(34, 16, -1)] + ["manylinux2014", "linux"]

# What an installer notes about itself: which one it was, from where, for whom.
NOTES = re.compile(r"[^/]+\.dist-info/(INSTALLER|REQUESTED|direct_url\.json|uv_build\.json|uv_cache\.json)$")
RECORD = re.compile(r"(.*/)?[^/]+\.dist-info/RECORD$")
# pip and uv say the same of a package without a wheel as of a registry that they have not reached, but for these words.
UNREACHABLE = re.compile("connection broken|error sending request|dns error|Connection(Error| refused| timed out)|Failed to fetch")
MAKE_A_WHEEL = "make one in wheels/ beside this file (pip wheel --no-deps --wheel-dir …/wheels …), and write `--find-links wheels` and the package's name"


class NotInstalled(Exception):
    """An installer has failed; the text is what it said, in one line."""


# ---- Requirements ---------------------------------------------------------------------


def install(requirements, arch, read_tree):
    """The files that a requirements file stands for, for this Python on Linux: {name: (content, executable)}.

    With uv where there is one, which also judges markers for the other machine, else with pip. Wheels only: what a
    source distribution builds here is for this machine. The bytes are the same whichever it was.
    """
    source = built_here(requirements)
    if source:
        raise NotInstalled(f"{source}: only wheels are installed: {MAKE_A_WHEEL}")
    version = "%d.%d" % sys.version_info[:2]
    with tempfile.TemporaryDirectory(prefix="requirements-") as folder:
        common = ["install", "--quiet", "--target", folder, "--requirement", requirements, "--python-version", version]
        uv = shutil.which("uv")
        if uv:
            platform = f"{MACHINES[arch]}-manylinux_2_34"
            command = [uv, "pip", *common, "--python", sys.executable, "--python-platform", platform,
                       "--only-binary", ":all:", "--link-mode", "copy"]
        else:
            platforms = [f"--platform={platform}_{MACHINES[arch]}" for platform in PLATFORMS]
            command = [sys.executable, "-m", "pip", *common, *platforms, "--implementation=cp",
                       "--only-binary=:all:", "--no-compile", "--no-warn-script-location", "--disable-pip-version-check"]
            command += ["--root=/", "--prefix="]  # a person's configuration must not send it elsewhere
        environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DRY_RUN": "0", "PIP_ROOT_USER_ACTION": "ignore"}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
        if done.returncode:
            raise NotInstalled(complaint(done.stdout, "uv" if uv else "pip", version, arch))
        return settled(read_tree(folder, lambda path: os.path.basename(path) == "__pycache__"))


def built_here(requirements, seen=()):
    """The first line, of the file or those it includes, that names sources in place of a wheel; None if there is none.

    pip would build them, in the sources' own folder and for this machine, and leave in what it packs of an editable
    one nothing but that folder's path. uv refuses them.
    """
    with open(requirements, "rb") as file:
        text = re.sub(r"\\\r?\n", "", file.read().decode("utf-8-sig", "replace"))
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).strip()
        target = re.sub(r"^([\w.-]+(\[.*?\])?\s*@\s*)?(file:(//)?)?|\s+(;|--).*|#.*", "", line)
        included = re.match(r"(?:-r|--requirement)[\s=]*(.+)", line)
        if included:
            path = os.path.join(os.path.dirname(requirements), included[1])
            inner = built_here(path, (*seen, requirements)) if os.path.isfile(path) and path not in seen else None
            if inner:
                return inner
        elif re.match(r"(-e|--editable)[\s=]|(.*@\s*)?(git|hg|svn|bzr)\+", line) or re.search(r"\.(tar(\.\w+)?|tgz|tbz2?|zip)$", target):
            return line
        elif (target in (".", "..") or "/" in target or "file:" in line) and os.path.isdir(target):
            return line
    return None


def complaint(said, installer, version, arch):
    """What an installer has to say, without its progress."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip, and there is no uv on PATH: install one of them"
    return f"{installer}, wheels for Python {version} on {arch}: {reason(said, installer)}"


def reason(said, installer="pip"):
    """Why an installer has failed, and what to do: its last error is the same offline as where there is no such wheel."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no message"]
    if installer == "pip":  # its last error, with the lines that belong to it
        last = max([number for number, line in enumerate(lines) if line.startswith("ERROR:")], default=0)
        lines = lines[-1:] if "Traceback" in said else lines[last:]
    text = re.sub("^ERROR: ", "", " ".join(lines))[:600]
    if UNREACHABLE.search(said):
        return f"{text}; the package registry was not reached: are you online?"
    if re.search("No matching distribution|no usable wheels", text):
        text = text.split(" hint:")[0].rstrip(".")
        return f"{text}; only wheels are installed: name another version or another Python, or {MAKE_A_WHEEL}"
    return text


def settled(files):
    """The same bytes whichever installer on whichever machine: without scripts, notes, and the order of lists."""
    result = {}
    for name, (content, executable) in files.items():
        if name.startswith("bin/") or name == ".lock" or NOTES.match(name):
            continue
        if RECORD.match(name):
            lines = content.decode("utf-8").splitlines()
            kept = [line for line in lines if not re.match(r"\"?((\.\./)*bin/|\.\./)", line)
                    and not NOTES.match(line.split(",")[0]) and "__pycache__/" not in line]
            content = ("\n".join(sorted(kept)) + "\n").encode("utf-8")
        result[name] = content, executable and not re.search(r"\.(so|py)(\.|$)", name)  # programs, such as ffmpeg's
    return result


# ---- Imports --------------------------------------------------------------------------


def missing_imports(own, files):
    """{module: file of the function's that imports it} of top-level modules that neither files nor Python have."""
    provided = standard_library() | {"runtime", "__main__"}
    provided |= {re.split(r"[./]", name)[0] for name in files if "/" in name or re.search(r"\.(py|so|pyc)$", name)}
    provided |= {re.split(r"[./]", name[len("python/"):])[0] for name in files if name.startswith("python/")}
    vendored = {  # by `pip install --target`: its optional imports are not this function's
        (RECORD.match(name)[1] or "") + line.split(",")[0] for name, (content, _) in own.items() if RECORD.match(name)
        for line in content.decode("utf-8", "replace").splitlines()
    }
    if any(b"sys.path" in content for name, (content, _) in own.items() if name.endswith(".py") and name not in vendored):
        provided |= {part.split(".")[0] for name in own for part in name.split("/")}  # from a folder such as src/
    missing = {}
    for name, (content, _) in sorted(own.items()):
        if name.endswith(".py") and name not in vendored:
            beside = {re.split(r"[./]", other[len(os.path.dirname(name)) + 1:])[0] for other in own if os.path.dirname(name) and
                      other.startswith(os.path.dirname(name) + "/")}  # a script's folder may be put on the path
            for module in imports(content):
                if module not in provided and module not in beside:
                    missing.setdefault(module, name)
    return missing


def standard_library():
    names = getattr(sys, "stdlib_module_names", None)  # since Python 3.10
    if names is None:
        folders = [sysconfig.get_path("stdlib"), os.path.join(sysconfig.get_path("platstdlib"), "lib-dynload")]
        names = {entry.split(".")[0] for folder in folders if os.path.isdir(folder) for entry in os.listdir(folder)}
    return set(names) | set(sys.builtin_module_names)


def imports(source):
    """The top-level modules that code imports for certain: not within `try`, nor under a condition on system or version."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its invalid escapes
            pending = [ast.parse(source)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.If) and re.search("TYPE_CHECKING|'(platform|version_info|name)'", ast.dump(node.test)):
            continue
        elif type(node).__name__ in ("Try", "TryStar"):
            pending += [*node.orelse, *node.finalbody]
        else:
            pending += ast.iter_child_nodes(node)
