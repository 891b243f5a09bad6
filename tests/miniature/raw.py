"""The Runtime API on a bare socket: for tests that write the answers themselves, byte by byte or a hundred thousand times.

api.py is the Lambda in miniature's. This is less: one thread, one runtime, one request at a time.

    with RawApi() as api, api.start(root) as runtime:
        request = api.request()                  # GET next
        api.send(event("id-1", b"{}"))
        request = api.request()                  # POST .../id-1/response
"""

import os
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

BOOTSTRAP = Path(__file__).resolve().parents[2] / "bootstrap"
BOUND = 30  # seconds after which a runtime that does nothing hangs
BASE = "/2018-06-01/runtime/"
NEXT = BASE + "invocation/next"
ACCEPTED = b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"OK"}'


def event(request_id, body):
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %b\r\n"
        b"Lambda-Runtime-Deadline-Ms: 4102444800000\r\nContent-Length: %d\r\n\r\n%b"
    ) % (request_id.encode(), len(body), body)


class Request:
    """What the runtime sent. `kind` and `request_id` as in api.Request; `trailers` as `headers`, names in lower case."""

    def __init__(self, method, path, headers):
        self.method, self.path, self.headers = method, path, headers
        self.body, self.trailers = b"", {}
        end = path[len(BASE) :] if path.startswith(BASE) else path
        found = re.fullmatch("invocation/([^/]+)/(response|error)", end)
        self.kind = found[2] if found else end.replace("invocation/next", "next")
        self.request_id = found[1] if found else None

    def __repr__(self):
        return f"{self.method} {self.path} {self.body[:200]!r} {self.trailers or ''}"


def fields(data):
    """Header fields by name in lower case; strict, for they judge the runtime."""
    result = {}
    for line in data.split(b"\r\n") if data else []:
        name, colon, value = line.partition(b": ")
        assert colon and re.fullmatch(rb"[A-Za-z0-9-]+", name), f"header line {line[:200]!r}"
        assert re.fullmatch(rb"[ -~]*", value), f"header value {line[:200]!r}"
        name = name.decode("ascii").lower()
        assert name not in result, f"{name} twice"
        result[name] = value.decode("ascii")
    return result


def parse(data):
    """The request with which `data` begins and its length, or None as long as it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, _, lines = bytes(data[:end]).partition(b"\r\n")
    words = re.fullmatch(rb"(GET|POST) (/[!-~]*) HTTP/1\.1", line)
    assert words, f"request line {line[:200]!r}"
    request = Request(words[1].decode("ascii"), words[2].decode("ascii"), fields(lines))
    at = end + 4
    framing = [name for name in ("content-length", "transfer-encoding") if name in request.headers]
    assert len(framing) == (request.method == "POST") and "host" in request.headers, f"headers {request.headers}"
    if framing == ["content-length"]:
        size = int(request.headers["content-length"])
        request.body, at = bytes(data[at : at + size]), at + size
        return (request, at) if len(data) >= at else None
    while framing:
        end = data.find(b"\r\n", at)
        if end < 0:
            return None
        assert re.fullmatch(rb"[0-9a-f]{1,8}", data[at:end]), f"chunk size {bytes(data[at:end])[:100]!r}"
        size = int(data[at:end], 16)
        if size == 0:
            last = data.find(b"\r\n\r\n", end)
            if last < 0:
                return None
            request.trailers = fields(bytes(data[end + 2 : last]))
            announced = request.headers.get("trailer", "").lower().split(", ")
            assert set(request.trailers) <= set(announced), f"trailers {request.trailers}"
            return request, last + 4
        chunk = data[end + 2 : end + 4 + size]
        if len(chunk) < size + 2:
            return None
        assert chunk.endswith(b"\r\n"), "no line break after a chunk"
        request.body += bytes(chunk[:size])
        at = end + 4 + size
    return request, at


class Process:
    """A runtime as a process, and its stderr; a context manager that leaves neither behind."""

    def __init__(self, pid, stderr):
        self.pid, self.stderr = pid, stderr
        self.status = None  # once it has ended: exit status, minus the signal's number when one ended it
        self.errors = b""
        os.set_blocking(stderr, False)

    def read(self):
        """Take what is on stderr; at its end wait for the process."""
        while self.stderr is not None:
            try:
                data = os.read(self.stderr, 1 << 16)
            except BlockingIOError:
                return
            self.errors += data
            if not data:
                os.close(self.stderr)
                self.stderr = None
                self.reap()

    def reap(self):
        bound = time.monotonic() + BOUND
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            else:
                assert time.monotonic() < bound, f"the process has closed its stderr and goes on; {self.errors[-2000:]}"
                time.sleep(0.0005)  # it has closed its files: it is about to end

    def close(self):
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.reap()
        if self.stderr is not None:
            os.close(self.stderr)
            self.stderr = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class RawApi:
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.connection, self.data = None, bytearray()
        self.connected = 0  # how many connections have been made
        self.used = False  # whether this one has had an answer
        self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.hang_up()
        self.listener.close()

    def start(self, task_root, handler="function.handler", stdout=None, **env):
        """The real `bootstrap`, as a process. Its stdout goes to a descriptor, or nowhere."""
        env = {
            "PATH": os.defpath,
            "LAMBDA_TASK_ROOT": str(task_root),
            "AWS_LAMBDA_RUNTIME_API": self.address,
            "_HANDLER": handler,
            **env,
        }
        if sys.flags.dev_mode:
            env["PYTHONDEVMODE"] = "1"
        if sys.warnoptions:
            env["PYTHONWARNINGS"] = ",".join(sys.warnoptions)
        self.forget()
        read, write = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        files = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((null, stdout or null, write))]
        try:
            pid = os.posix_spawn(BOOTSTRAP, [BOOTSTRAP, sys.executable], env, file_actions=files)
        finally:
            os.close(null)
            os.close(write)
        return self.attach(Process(pid, read))

    def forget(self):
        """Forget what an earlier process has left behind."""
        self.hang_up()
        while select.select([self.listener], [], [], 0)[0]:
            self.listener.accept()[0].close()

    def attach(self, process):
        self.process = process
        return process

    def request(self, bound=BOUND):
        """The next request as soon as it is whole; None when the process has ended without one."""
        end = time.monotonic() + bound
        while True:
            found = parse(self.data) if self.data else None
            if found:
                del self.data[: found[1]]
                return found[0]
            if self.process.status is not None:
                return None
            self.wait(end)

    def ended(self, bound=BOUND):
        """The exit status."""
        end = time.monotonic() + bound
        while self.process.status is None:
            self.wait(end)
        return self.process.status

    def wait(self, end):
        """Wait for one thing to happen, and take it in."""
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.process.stderr, select.POLLIN)
        if self.connection:
            poll.register(self.connection, select.POLLIN)
        ready = [fd for fd, _ in poll.poll(max(0, end - time.monotonic()) * 1000)]
        assert ready, f"the runtime hangs; has sent {bytes(self.data[:500])!r}; stderr: {self.process.errors[-2000:]!r}"
        if self.connection and self.connection.fileno() in ready:
            try:
                data = self.connection.recv(1 << 18)
            except ConnectionError:
                data = b""
            self.data += data
            if not data:
                self.hang_up()
        elif self.listener.fileno() in ready:
            self.hang_up()  # the runtime has one connection at a time
            self.connection = self.listener.accept()[0]
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connected += 1
            self.used = False
        elif self.process.stderr in ready:
            self.process.read()

    def send(self, *pieces):
        """Send bytes, each piece by itself; the runtime may hang up meanwhile."""
        self.used = True
        try:
            for piece in pieces:
                self.connection.sendall(piece)
        except (ConnectionError, AttributeError):
            pass

    def send_last(self, data):
        """Send bytes and hang up in one segment: who reads them can see that the connection is closed."""
        self.connection.sendall(data, socket.MSG_MORE)
        self.hang_up()

    def end(self):
        """Say that no more will be sent."""
        try:
            self.connection.shutdown(socket.SHUT_WR)
        except (OSError, AttributeError):
            pass

    def hang_up(self, reset=False):
        if self.connection:
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
        self.connection = None
        self.data.clear()
