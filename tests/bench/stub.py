"""The Runtime API of make bench: one epoll, prebuilt answers, nothing parsed that need not be."""

import functools
import json
import os
import re
import select
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

TIMEOUT = 30  # seconds without a byte from a contender: it hangs
CHUNK, CHUNKS = 64 * 1024, 1600  # 100 MiB
TOKEN_COUNT = 20_000

class Event:
    """An event as `next` brings it; the request id changes each time, the date each second.

    Framed as AWS's server does it: up to 2,048 bytes with their length, more in a chunk.
    """

    number = 0

    def __init__(self, value, framing=None):
        self.body = json.dumps(value).encode()
        if framing is None:
            framing = "length" if len(self.body) <= 2048 else "chunk"
        framed = b"Content-Length: %d" % len(self.body)
        if framing == "chunk":
            framed = b"Transfer-Encoding: chunked"
            self.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.body), self.body)
        self.head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %%b\r\n"
            b"Lambda-Runtime-Deadline-Ms: %d\r\n"
            b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:bench\r\n"
            b"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
            b"Date: %%b\r\n%b\r\n\r\n"
        ) % ((time.time() + 3600) * 1000, framed)

    def send(self, connection):
        """Answer `next`; returns the request id."""
        Event.number += 1
        request_id = b"8476a536-e9f4-11e8-9739-%012d" % Event.number
        head = self.head % (request_id, date(int(time.time())))
        if len(self.body) < 1 << 16:
            connection.sendall(head + self.body)
        else:
            connection.sendall(head + self.body[:4096])  # Go's buffer; what does not fit follows
            connection.sendall(memoryview(self.body)[4096:])
        return request_id


# Of a runtime that registers an extension, for SIGTERM. Its question for the next event is never answered.
REGISTER, EXTENSION_NEXT = b"POST /2020-01-01/extension/register ", b"GET /2020-01-01/extension/event/next "
REGISTERED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Lambda-Extension-Identifier: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\nContent-Length: 2\r\n\r\n{}"
)
ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nDate: %b\r\n"
    b'Content-Length: 16\r\n\r\n{"status":"OK"}\n'
)


@functools.lru_cache(maxsize=1)
def date(second):
    """The Date field, made once a second as Go's servers do."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()


RESPONSE = len(b"POST /2018-06-01/runtime/invocation/")  # where the request id begins
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CORES = sorted(os.sched_getaffinity(0))


def say(text):
    print(text, file=sys.stderr, flush=True)


FAILURES = []


class Failed(Exception):
    """A contender did not start, hangs or answered wrongly."""


def failed(failure):
    say(failure)
    FAILURES.append(failure)


class Contender:
    """A process and the Runtime API it talks to."""

    buffer = memoryview(bytearray(16 << 20))

    def __init__(self, name, command, task_root, cores=None, **env):
        self.name = name
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.connections = {}
        env = {
            "PYTHONDONTWRITEBYTECODE": "1",  # as on Lambda, where nothing can be written beside the code
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(task_root),
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % self.listener.getsockname()[1],
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            **env,
        }
        command = [str(part) for part in command]
        path = shutil.which(command[0], path=env["PATH"]) or command[0]
        self.log = os.memfd_create("log")
        os.chdir(task_root)
        os.sched_setaffinity(0, cores or CORES[-1:])
        try:
            self.started = time.perf_counter()
            output = [(os.POSIX_SPAWN_DUP2, self.log, 1), (os.POSIX_SPAWN_DUP2, self.log, 2)]
            self.pid = os.posix_spawn(path, command, env, setpgroup=0, file_actions=output)
        except OSError as error:
            raise Failed(f"{name}: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has exited, and begin() has noticed
        self.epoll.close()
        os.close(self.log)
        for connection in (self.listener, *self.connections.values()):
            connection.close()

    def fail(self, what):
        output = os.pread(self.log, 1 << 16, 0).decode(errors="replace")
        raise Failed(f"{self.name}: {what}; its output: {output[-2000:] or 'none'}")

    def begin(self):
        """The connection and the size of what came first on it."""
        for _ in range(TIMEOUT):
            events = self.epoll.poll(1, 1)
            if not events:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    self.fail("has exited")
                continue
            connection = self.connections.get(events[0][0])
            if connection is None:
                connection = self.listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections[connection.fileno()] = connection
                self.epoll.register(connection, select.EPOLLIN)
                continue
            size = connection.recv_into(self.buffer)
            if size:
                return connection, size
            self.epoll.unregister(connection)
            del self.connections[connection.fileno()]
            connection.close()
        self.fail(f"nothing for {TIMEOUT} s")

    def request(self):
        """One whole request: its connection, and its body or None for `next`."""
        connection, size = self.begin()
        data = self.buffer.obj
        while (end := data.find(b"\r\n\r\n", 0, size)) < 0:
            size += connection.recv_into(self.buffer[size:])
        if data.startswith(b"GET /2018-06-01/runtime/invocation/next "):
            return connection, None
        if data.startswith(EXTENSION_NEXT):
            return self.request()
        if data.find(b"/response ", 0, end) < 0 and not data.startswith(REGISTER):
            self.fail(f"sent {bytes(data[:size])}")
        size -= end + 4
        length = int(LENGTH.search(data, 0, end)[1])
        while size < length:
            size += connection.recv_into(self.buffer[end + 4 + size :])
        if data.startswith(REGISTER):
            connection.sendall(REGISTERED)
            return self.request()
        return connection, self.buffer[end + 4 : end + 4 + length]

    def start(self):
        """Seconds from exec to the first `next`."""
        self.waiting, body = self.request()
        return time.perf_counter() - self.started

    def first(self, event):
        """Seconds from exec, and from the event, to the first response; the process then waits for the next event."""
        asked = time.perf_counter()
        event.send(self.waiting)
        connection, body = self.request()
        answered, self.body = time.perf_counter(), bytes(body)
        connection.sendall(ACCEPTED % date(int(time.time())))
        self.waiting, _ = self.request()
        return answered - self.started, answered - asked

    def invoke(self, event, expected=None):
        """Seconds from the event's first byte to the arrival of the `next` after the response."""
        start = time.perf_counter()
        request_id = event.send(self.waiting)
        connection, body = self.request()
        if self.buffer.obj[RESPONSE : RESPONSE + 36] != request_id and self.name != "trivial client":
            self.fail(f"answered another invocation: {bytes(self.buffer[:100])}")
        if expected is not None and json.loads(bytes(body)) != expected:
            self.fail(f"answered {bytes(body[:200])}")
        self.body = bytes(body[:100])
        connection.sendall(ACCEPTED % date(int(time.time())))
        self.waiting, body = self.request()
        return time.perf_counter() - start

    def stream(self, event, least=CHUNK * CHUNKS):
        """Seconds from the event to the stream's first body byte, and to its end."""
        start = time.perf_counter()
        event.send(self.waiting)
        connection, size = self.begin()
        data, total = self.buffer.obj, 0
        while (end := data.find(b"\r\n\r\n", 0, size) + 4) in (3, size):
            size += connection.recv_into(self.buffer[size:])
        first = time.perf_counter() - start
        room = self.buffer[: 1 << 20]
        total = size - end
        while data[max(size - 5, 0) : size] != b"0\r\n\r\n":
            size = connection.recv_into(room)
            total += size
            if not size:
                self.fail("hung up in mid-stream")
        seconds = time.perf_counter() - start
        if total < least:
            self.fail(f"streamed {total} bytes only")
        connection.sendall(ACCEPTED % date(int(time.time())))
        self.waiting, body = self.request()
        return first, seconds

    def processor(self, pid=None):
        """Seconds of processor time, all threads of the process, dead ones too (CLOCK_PROCESS_CPUTIME_ID of a pid)."""
        return time.clock_gettime(~(pid or self.pid) << 3 | 2)

    def memory(self, field, pid=None):
        """MB of VmRSS or VmHWM (peak) from status, Pss from smaps_rollup."""
        file = "smaps_rollup" if field == "Pss" else "status"
        text = Path(f"/proc/{pid or self.pid}/{file}").read_text()
        return int(re.search(rf"(?m)^{field}:\s+(\d+) kB", text)[1]) / 1024

    def processes(self):
        """All processes of its process group."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if group_of(pid) == self.pid]


def group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
