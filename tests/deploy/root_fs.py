"""A root file system as Lambda's: a shell, glibc, /dev/null, /tmp, and no Python.

It is entered with chroot as an unprivileged user, so that what root unpacked into it is
read-only there. Needs root, and Linux.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

# What Lambda sets, beyond the variables that miniature.Lambda gives.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin/:/bin:/opt/bin",
    "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    "LAMBDA_TASK_ROOT": "/var/task",
}
ENTER = """
import os, sys
root, *command = sys.argv[1:]
os.chroot(root)
os.chdir("/var/task")
os.setgroups([])
os.setgid(990)
os.setuid(993)
os.execv(command[0], command)
"""

needs_chroot = unittest.skipUnless(hasattr(os, "geteuid") and os.geteuid() == 0, "this machine gives no root, which chroot needs")


def enter(root, *command):
    """The command line that runs a command of the root file system inside it."""
    return [sys.executable, "-I", "-S", "-c", ENTER, os.fspath(root), *command]


class RootFS:
    """`with RootFS() as root:` a folder, gone after the block."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="root-")
        root = pathlib.Path(self.folder, "root")
        for name in ("bin", "dev", "tmp", "opt", "var/task", "var/runtime", "var/lang/bin", "usr/local/bin"):
            (root / name).mkdir(parents=True)
        for name in ("dev", "tmp"):
            (root / name).chmod(0o1777)
        try:
            os.mknod(root / "dev/null", 0o020666, os.makedev(1, 3))
        except PermissionError:  # a container without CAP_MKNOD
            (root / "dev/null").touch()
        (root / "dev/null").chmod(0o666)
        shutil.copy(os.path.realpath("/bin/sh"), root / "bin/sh")
        listed = subprocess.run(["ldd", "/bin/sh"], check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
        for path in re.findall(r"(/\S+)", listed):
            # The whole of glibc: an interpreter needs more of it than a shell.
            glibc = pathlib.Path(path).parent.glob("lib[cmdpru]*.so.[0126]") if "libc.so" in path else []
            for library in {path, *map(str, glibc)}:
                if library == path or re.search(r"/lib(c|m|dl|pthread|rt|util)\.so\.", library):
                    target = pathlib.Path(f"{root}{library}")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(library, target)
        return root

    def __exit__(self, *exception):
        shutil.rmtree(self.folder)


def unpack(archive, folder):
    """As Lambda does: with the modes that the zip says."""
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            path = pathlib.Path(file.extract(entry, folder))
            path.chmod(entry.external_attr >> 16)
    for path in pathlib.Path(folder).rglob("*"):
        if path.is_dir():
            path.chmod(0o755)
