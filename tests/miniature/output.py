"""What a command does whose stdout is closed, or full, or a pipe that nobody reads any more."""

import errno
import os
import sys
import tempfile


def exit_with(main, *arguments):
    """End the program with the status that main returns. What cannot be written is told in a line, and once."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(fd)
        except OSError:  # closed: the next file that is opened would be it
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(fd, "w" if fd else "r", closefd=False))
    try:
        try:
            status = main(*arguments)
        finally:
            sys.stdout.flush()
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO) and error.filename is None
        if not full and not isinstance(error, BrokenPipeError):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter says so once more
        status = f"{error.strerror}: stdout cannot be written to, or {tempfile.gettempdir()}" if full else 141
    sys.exit(status)
