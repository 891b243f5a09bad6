"""The files of a function that its author may change, and that the function may not, on Lambda."""

import contextlib
import functools
import glob
import os
import pathlib
import re
import stat
import time

OF_EDITORS = re.compile(r"\..*\.sw[a-z]|4913|.*~|#.*#|.*___jb_(tmp|old)___|\.goutputstream-.*")  # which come and go while one edits


def written_warning(paths):
    """A line for files that have changed during an invocation, or None: nobody can tell who has written them."""
    paths = [path for path in paths if not path.endswith(".py")]  # its author does, meanwhile
    if not paths:
        return None
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return (
        f"warning: {paths[0]}{more} changed while the function ran: what it writes into its own folder fails on Lambda, "
        "which has it read-only; write to /tmp"
    )


def own_output():
    """The files, as (device, inode), that this process's stdout and stderr go to, also through pipes, as to `tee`."""
    files, pipes, paths = set(), set(), ["/dev/fd/1", "/dev/fd/2"]
    for path in paths:  # which grows
        with contextlib.suppress(OSError):
            found = os.stat(path)
            this = found.st_dev, found.st_ino
            if stat.S_ISREG(found.st_mode):
                files.add(this)
            elif stat.S_ISFIFO(found.st_mode) and this not in pipes:
                pipes.add(this)
                for stdin in glob.glob("/proc/[0-9]*/fd/0"):
                    with contextlib.suppress(OSError):
                        if os.path.samefile(stdin, path):
                            paths += glob.glob(stdin[:-1] + "[1-9]*")
    return files


class Files:
    """The files of a function that its author may change."""

    NOT_OURS = ("__pycache__", "node_modules", "site-packages", "dist-packages")

    def __init__(self, folder):
        self.folder = folder
        self.own_output = own_output()
        self.known = self.look()

    def changed(self):
        """The paths, relative to the folder, that have changed, come or gone since the last call."""
        now = self.look()
        changed = self.differing(now)
        self.known = now
        for path in changed:
            self.forget_compiled(pathlib.Path(self.folder, path))
        return changed

    def differing(self, now):
        before = self.known
        return sorted(path for path in now.keys() | before.keys() if now.get(path) != before.get(path))

    def forget_compiled(self, path):
        """Python takes a compiled file for the source's if the second and the size are the same: two quick edits may be."""
        if path.suffix == ".py":
            for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
                with contextlib.suppress(OSError):
                    compiled.unlink()

    def look(self):
        """What tells one state of the files from another: no file is read. `seconds`: the processor time that the last look has taken."""
        began = time.thread_time()  # a busy machine makes no folder large
        files, folders, seen = {}, [""], set()
        while folders:
            folder = folders.pop()
            try:
                found = os.stat(os.path.join(self.folder, folder))
                entries = list(os.scandir(os.path.join(self.folder, folder)))
            except OSError:
                continue  # it has just gone
            names = {entry.name for entry in entries}
            if (found.st_dev, found.st_ino) in seen or "pyvenv.cfg" in names:
                continue
            seen.add((found.st_dev, found.st_ino))
            skipped = {*self.NOT_OURS, *self.installed(folder, names)}
            for entry in entries:
                if entry.name in skipped or OF_EDITORS.fullmatch(entry.name):
                    continue
                path = os.path.join(folder, entry.name)
                with contextlib.suppress(OSError):
                    found = entry.stat()
                    if stat.S_ISREG(found.st_mode) and (found.st_dev, found.st_ino) not in self.own_output:
                        files[path] = (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)
                    elif stat.S_ISDIR(found.st_mode) and not entry.name.startswith("."):
                        folders.append(path)
        self.seconds = time.thread_time() - began
        return files

    def installed(self, folder, names):
        """The names in a folder that belong to packages which pip has put there."""
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                yield name
                record = os.path.join(self.folder, folder, name, "RECORD")
                with contextlib.suppress(OSError):
                    yield from installed_by(record, os.stat(record).st_mtime_ns)


@functools.lru_cache(maxsize=None)
def installed_by(record, mtime):
    """The topmost names that a package's RECORD lists."""
    with open(record, encoding="utf-8", errors="replace") as file:
        return {line.lstrip('"').split(",")[0].split("/")[0].strip() for line in file} - {"", ".", ".."}


