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
RECORD = re.compile(r"[^/]+\.dist-info/RECORD$")
# pip and uv say the same of a package without a wheel as of a registry that they have not reached, but for these words.
UNREACHABLE = re.compile("connection broken|error sending request|dns error|Connection(Error| refused| timed out)|Failed to fetch")


class NotInstalled(Exception):
    """An installer has failed; the text is what it said, in one line."""


# ---- Requirements ---------------------------------------------------------------------


def install(requirements, arch, read_tree):
    """The files that a requirements file stands for, for this Python on Linux: {name: (content, executable)}.

    With uv where there is one, which also judges markers for the other machine, else with pip. Wheels only: what a
    source distribution builds here is for this machine. The bytes are the same whichever it was.
    """
    editable = re.search(r"(?m)^\s*(-e|--editable)\b.*", open(requirements, encoding="utf-8").read())
    if editable:
        raise NotInstalled(f"{editable[0].strip()}: an editable package stays where it is; name it without -e")
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
        # A person's configuration must not send it elsewhere.
        environment = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_ROOT_USER_ACTION": "ignore"}
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
        )
        if done.returncode:
            raise NotInstalled(complaint(done.stdout, "uv" if uv else "pip", version, arch))
        return settled(read_tree(folder, lambda path: os.path.basename(path) == "__pycache__"))


def complaint(said, installer, version, arch):
    """What an installer has to say, without its progress and hints."""
    if "No module named pip" in said:
        return f"{sys.executable} has no pip, and there is no uv on PATH: install one of them"
    return f"{installer}, wheels for Python {version} on {arch}: {reason(said, installer)}"


def reason(said, installer="pip"):
    """Why an installer has failed, and what to do: its last word is the same offline as where there is no such wheel."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line[len("ERROR:"):].strip() for line in lines if line.startswith("ERROR:")] or lines or ["no message"]
    text = " ".join(errors if installer == "uv" else errors[-1:])[:400]
    if UNREACHABLE.search(said):
        return f"{text}; the package registry was not reached: are you online?"
    if text.startswith("No matching distribution"):
        return f"{text}; no release of it fits: name another version, or another Python"
    return text


def settled(files):
    """The same bytes whichever installer on whichever machine: without scripts, notes, and the order of lists."""
    result = {}
    for name, (content, _) in files.items():
        if name.startswith("bin/") or name == ".lock" or NOTES.match(name):
            continue
        if RECORD.match(name):
            lines = content.decode("utf-8").splitlines()
            kept = [line for line in lines if not re.match(r"\"?((\.\./)*bin/|\.\./)", line)
                    and not NOTES.match(line.split(",")[0]) and "__pycache__/" not in line]
            content = ("\n".join(sorted(kept)) + "\n").encode("utf-8")
        result[name] = content, content[:2] == b"#!"
    return result


# ---- Imports --------------------------------------------------------------------------


def missing_imports(own, files):
    """{module: file of the function's that imports it} of top-level modules that neither files nor Python have."""
    provided = standard_library() | {"runtime", "__main__"}
    provided |= {re.split(r"[./]", name)[0] for name in files if "/" in name or re.search(r"\.(py|so|pyc)$", name)}
    provided |= {re.split(r"[./]", name[len("python/"):])[0] for name in files if name.startswith("python/")}
    vendored = {  # by `pip install --target`: its optional imports are not this function's
        line.split(",")[0] for name, (content, _) in own.items() if RECORD.match(name)
        for line in content.decode("utf-8", "replace").splitlines()
    }
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
