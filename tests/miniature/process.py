"""The real `bootstrap` as a process that talks to the Runtime API in api.py, and what it prints."""

import contextlib
import errno
import fcntl
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

from .api import Api

REPO = pathlib.Path(__file__).resolve().parents[2]


class Source:
    """A pipe or connection on which the function's output arrives."""

    def __init__(self, fd, echo=None):
        os.set_blocking(fd, False)
        self.fd, self.echo, self.data, self.open = fd, echo, bytearray(), True

    def drain(self):
        with contextlib.suppress(BlockingIOError):
            for _ in range(16):  # a pipe holds 1 MiB at most, and who never stops printing shall not keep us here
                try:
                    data = os.read(self.fd, 1 << 16)
                except ConnectionError:
                    data = b""
                self.data += data
                self.open = bool(data)
                if not data:
                    return
                if self.echo:
                    self.echo(data)


# What `python3` is for the function, and its version: the tests' own, unless the variable names another.
FUNCTION_PYTHON, FUNCTION_VERSION, has_cookies = sys.executable, sys.version_info[:2], True
if os.environ.get("FUNCTION_PYTHON"):
    FUNCTION_PYTHON = os.environ["FUNCTION_PYTHON"]
    program = """
import socket, sys
try:
    has_cookies = bool(socket.socket().getsockopt(socket.SOL_SOCKET, 57, 8))
except OSError:
    has_cookies = False
print(*sys.version_info[:2], int(has_cookies))
"""
    *FUNCTION_VERSION, has_cookies = map(int, subprocess.check_output([FUNCTION_PYTHON, "-c", program]).split())
    FUNCTION_VERSION = tuple(FUNCTION_VERSION)


# In Python's development mode asyncio logs each step of more than 0.1 s. It says how busy the machine is, not what the
# function prints.
SLOW_STEP = re.compile(
    r'(?:\[WARNING\]\t[^\t\n]*\t[^\t\n]*\t|\{[^\n]*")?Executing <[^\n]*> took \d+\.\d+ seconds(?:"[^\n]*)?(?:\n|\Z)'
)


def text_of(data, errors="backslashreplace"):
    text = data.decode("utf-8", errors)
    return SLOW_STEP.sub("", text) if sys.flags.dev_mode and "Executing <" in text else text


def as_shown(data):
    """A log with the line breaks that CloudWatch shows: the runtime ends the lines within a record with \\r, at which a terminal overwrites the line."""
    return re.sub(rb"\r(?!\n)", b"\n", data)


OURS = "miniature-"  # how the folder begins that a Lambda has among the temporary ones


def remove_left_behind():
    """Remove the folders of processes that were killed; a living one holds a lock on its own."""
    for entry in os.scandir(tempfile.gettempdir()):
        with contextlib.suppress(OSError):
            if entry.name.startswith(OURS) and entry.stat(follow_symlinks=False).st_mtime < time.time() - 60:  # or it is being made
                folder = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if {*os.listdir(folder)} <= {"python3", "provider.sock"}:
                        shutil.rmtree(entry.path)
                finally:
                    os.close(folder)


def own_bootstrap(folder):
    """The `bootstrap` in a function's folder, which Lambda starts; None where there is none, or a copy of this repository's of any version."""
    path, ours = pathlib.Path(folder, "bootstrap"), (REPO / "bootstrap").read_bytes().partition(b", version")[0]
    return path if path.is_file() and not path.read_bytes().startswith(ours) else None


class Lambda(Api):
    """A function as a process of its own, with the real `bootstrap` or its own, and the Runtime API that invokes it.

        with Lambda("src", "app.handler") as function:
            answer = function.invoke({"name": "Ada"})
            assert answer.error is None and answer.json == {"hello": "Ada"}, answer.log

    The `with` leaves no process, port or file behind, whatever the function has started. It raises AssertionError at its end
    when the runtime has sent what is not of the Runtime API. `start()` starts the process anew after its end.

    task_root: the function's folder, which is its working directory as well. handler: file.function.
    env: the function's variables over Lambda's own (no other is passed on); None takes one away.
    timeout: the seconds that the function is told it may take; it is not ended after them.
    terminal: the function reads this process's stdin, for a debugger's sake, and is in its process group, so that Ctrl-C ends both.
    python: the interpreter, with the packages it has; the variable FUNCTION_PYTHON names another for all. What the process has printed so far is text in `log` and, of stderr, `stderr`,
    as it was written: the lines within a record end with \\r. An answer's `log` has line breaks there.

    For tests of the runtime: command: another runtime in place of bootstrap. start=False: `start()` does it later.
    prefix: the API lives under this path, and its address is a URL. port: its port, 0 for any.
    telemetry: `_LAMBDA_TELEMETRY_LOG_FD` is open, `frames` has what came. log_sockets: the same for
    `_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET` and `worker_logs`. echo: `log` has stderr too, and echo(bytes) gets it as it comes;
    echo(bytes, request) gets the bodies, with `condition` held.
    """

    def __init__(self, task_root, handler="function.handler", *, env=None, args=(), python=FUNCTION_PYTHON,
                 bootstrap=None, command=None, start=True, prefix="", timeout=60, telemetry=False,
                 log_sockets=False, echo=None, terminal=False, port=0):
        super().__init__(handler, prefix, timeout, port)
        self.task_root = os.path.abspath(task_root)
        own = None if command or bootstrap else own_bootstrap(self.task_root)
        self.command = [os.fspath(word) for word in command or [bootstrap or own or REPO / "bootstrap", *args]]
        self.paths = [os.fspath(REPO)] if own else []  # where it imports `runtime` from, unless that lies beside it
        self.echo, self.terminal = echo, terminal
        self.process = None
        self.watchers = []

        self.folder = tempfile.mkdtemp(prefix=OURS)
        self.lock = os.open(self.folder, os.O_RDONLY)
        fcntl.flock(self.lock, fcntl.LOCK_SH)
        shim = pathlib.Path(self.folder, "python3")  # a symbolic link would make a venv's interpreter forget its venv
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(os.fspath(python))} "$@"\n')
        shim.chmod(0o755)

        self.selector = selectors.DefaultSelector()
        self.wakeup = os.pipe()
        self.selector.register(self.wakeup[0], selectors.EVENT_READ)
        self.stdout, self.error, self.telemetry, self.workers = [], [], [], []
        self.printed = bytearray()  # on both, in the order in which it arrived
        self.began = []  # for each event that went out, how much of it was there before
        self.nth = {}  # request id: which of them
        self.listener = None
        if log_sockets:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(os.path.join(self.folder, "provider.sock"))
            self.listener.listen(128)
            self.listener.setblocking(False)
            self.selector.register(self.listener, selectors.EVENT_READ, self.listener)
        self.wants_telemetry = telemetry
        self.reader = threading.Thread(target=self.read_output, daemon=True)
        self.reader.start()

        self.env = {
            "PATH": f"{self.folder}:/usr/local/bin:/usr/bin/:/bin:/opt/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": self.task_root,
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/function",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2025/01/31/[$LATEST]6b1a5dce3f0e4a66b8a4d2c3e0f1a2b3",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_RUNTIME_API": f"http://{self.address}{prefix}" if prefix else self.address,
            "_HANDLER": handler,
        }
        if log_sockets:
            self.env["_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET"] = os.path.join(self.folder, "provider.sock")
        # `python -W error -X dev -m unittest` is meant for the runtime as well.
        if sys.flags.dev_mode:
            self.env["PYTHONDEVMODE"] = "1"
        if sys.warnoptions:
            self.env["PYTHONWARNINGS"] = ",".join(sys.warnoptions)
        self.env.update(env or {})
        self.env = {name: os.fspath(value) for name, value in self.env.items() if value is not None}
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    # ---- the process

    def start(self):
        """Start the runtime, or start it again after it ended, as Lambda does."""
        self.kill()
        env = self.env
        if self.paths:
            env = {**env, "PYTHONPATH": os.pathsep.join(filter(None, [env.get("PYTHONPATH"), *self.paths]))}
        stdout = self.pipe(self.stdout, self.print)
        stderr = stdout if self.echo else self.pipe(self.error, self.print)
        inherited = [self.pipe(self.telemetry)] if self.wants_telemetry else []
        for fd in inherited:
            env = {**env, "_LAMBDA_TELEMETRY_LOG_FD": str(fd)}
        with self.condition:
            self.status = self.first_next = None
        self.started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                self.command, env=env, cwd=self.task_root, pass_fds=inherited, start_new_session=not self.terminal,
                stdin=None if self.terminal else subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            )
        finally:
            for fd in {stdout, stderr, *inherited}:
                os.close(fd)
        watcher = threading.Thread(target=self.watch, args=(self.process,), daemon=True)
        self.watchers.append(watcher)
        watcher.start()

    def watch(self, process):
        status = process.wait()
        with self.condition:
            self.status = status
            self.condition.notify_all()

    def kill(self):
        """Kill the process and what it left behind, as Lambda does before it starts another in its place."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self.process.kill() if self.terminal else os.killpg(self.process.pid, signal.SIGKILL)
        for watcher in self.watchers:
            watcher.join()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=30):
        """The exit status of the process, minus the signal's number when one ended it."""
        self.wait_for(lambda: self.status is not None, timeout, "the process goes on")
        return self.status

    def wait_until_idle(self):
        """Wait until the process sleeps in a `next`. A signal in the microsecond before would wait for the end of that sleep: so is Python."""
        self.wait_for_next()
        until_asleep(self.process.pid)

    def close(self):
        """End the process and all that it started, the API and its threads."""
        self.kill()
        super().close()
        os.write(self.wakeup[1], b"x")
        self.reader.join()
        self.drain()  # what was printed last
        self.selector.close()
        for fd in [*self.wakeup, *[source.fd for source in self.sources()]]:
            os.close(fd)
        for source in self.sources():
            source.open = False
        if self.listener:
            self.listener.close()
            self.listener = None
        shutil.rmtree(self.folder)
        os.close(self.lock)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()
        if self.violations and kind is None:
            self.fail("the runtime sent what is not of the Runtime API: " + "; ".join(self.violations))

    # ---- its output

    def sources(self):
        return [*self.stdout, *self.error, *self.telemetry, *self.workers]

    def print(self, data):
        self.printed += data
        if self.echo:
            self.echo(data)

    def sending(self, invocation):
        self.drain()
        self.nth[invocation.request_id] = len(self.began)
        self.began.append(len(self.printed))

    def log_of(self, request_id):
        self.drain()
        n = self.nth[request_id]
        end = self.began[n + 1] if n + 1 < len(self.began) else None
        return text_of(as_shown(self.printed[self.began[n] : end]))

    def received(self, request, data):
        if self.echo:
            self.drain()  # what was printed before it was sent
            self.echo(data, request)

    def pipe(self, sources, echo=None):
        read, write = os.pipe()
        self.listen(sources, read, echo)
        return write

    def listen(self, sources, fd, echo=None):
        source = Source(fd, echo)
        with self.condition:
            sources.append(source)
            self.selector.register(fd, selectors.EVENT_READ, source)

    def drain(self):
        """Read what has been written. Who asks for the log reads it himself, for the thread that does may be late."""
        with self.condition:
            with contextlib.suppress(BlockingIOError):
                while self.listener:
                    self.listen(self.workers, self.listener.accept()[0].detach())
            for source in self.sources():
                if source.open:
                    source.drain()
                    if not source.open:
                        self.selector.unregister(source.fd)
            self.condition.notify_all()

    def read_output(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
            self.drain()

    def collect(self, sources):
        self.drain()
        return b"".join([bytes(source.data) for source in sources])

    @property
    def log_bytes(self):
        return self.collect(self.stdout)

    @property
    def log(self):
        """All on stdout so far."""
        return text_of(self.log_bytes)

    @property
    def stderr(self):
        return text_of(self.collect(self.error))

    @property
    def frames(self):
        """What came over _LAMBDA_TELEMETRY_LOG_FD: (type, microseconds, message) of each whole frame."""
        data, at, frames = self.collect(self.telemetry), 0, []
        while at + 16 <= len(data):
            kind, length, stamp = struct.unpack_from(">IIQ", data, at)
            if at + 16 + length > len(data):
                break
            message = text_of(data[at + 16 : at + 16 + length], "strict")
            if message or not length:
                frames.append((kind, stamp, message))
            at += 16 + length
        return frames

    @property
    def worker_logs(self):
        """What came over each connection to the provider socket, oldest connection first."""
        self.drain()
        return [text_of(source.data) for source in self.workers]

    def circumstances(self):
        state = "runs" if self.status is None else f"ended with status {self.status}"
        stdout, stderr = (text_of(as_shown(self.collect(sources)))[-4000:] for sources in (self.stdout, self.error))
        ends = {"stdout": stdout, "stderr": stderr, "the workers' logs": "".join(self.worker_logs)[-4000:]}
        ends = "".join(f"\n-- end of {name}:\n{text}" for name, text in ends.items() if text)
        return f"-- the process {state}\n{super().circumstances()}{ends}"


@contextlib.contextmanager
def function(**files):
    """A task root for the time of a `with`: function="source" is function.py, other names carry their suffix.

    with function(function="def handler(event, context): ...", **{"package/data.json": "{}"}) as root:
    """
    with tempfile.TemporaryDirectory(prefix="function-") as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name if "." in name else name + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode("utf-8"))
        yield folder


def tell(fifo, text="", timeout=30):
    """Write to a FIFO once somebody reads it: how a test lets a function go on that waits in open("fifo").read()."""
    def is_read():
        try:
            descriptors.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        return descriptors

    descriptors = []
    until(is_read, f"nobody reads {fifo}", timeout)
    with open(descriptors[0], "w") as file:
        file.write(text)


# ---- what nobody tells of, and has to be asked for again and again


def count_processors(*files):
    """How many processors a function finds here: in a container whose quota is narrower than the machine, fewer than the machine has."""
    program = "import runtime, sys; print(runtime._count_processors(*sys.argv[1:]))"
    return int(subprocess.check_output([sys.executable, "-c", program, *files], cwd=REPO))


@contextlib.contextmanager
def bounded(what="nothing came", timeout=30):
    """Let no read in here wait for ever, by SIGALRM: for the main thread, which has one such block at a time."""
    def fail(number, frame):
        raise AssertionError(f"{what} within {timeout} s")

    alarm = signal.signal(signal.SIGALRM, fail)
    signal.alarm(timeout)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, alarm)


def until(condition, what="it did not happen", timeout=30):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"{what} within {timeout} s"
        time.sleep(0.001)


def until_asleep(pid):
    """Wait until a process waits in the kernel."""
    def is_asleep():
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    until(is_asleep, f"process {pid} is never idle")


def until_gone(pid):
    """Wait until a process has ended and its parent has learnt of it."""
    def is_gone():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True

    until(is_gone, f"process {pid} is still there")
