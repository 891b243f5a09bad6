"""The Lambda in miniature: its Runtime API on a port of this machine, and the real `bootstrap` as a process that talks to it.

The tests use it as

    with function(function="def handler(event, context): return event") as root, Lambda(root) as function_:
        assert function_.invoke({"k": 1}).json == {"k": 1}

and `make run` as a program: python3 tests/miniature run FOLDER [FILE.FUNCTION], the event in the variable EVENT.
"""

import base64
import collections
import contextlib
import errno
import http.client
import http.server
import json
import math
import os
import pathlib
import re
import selectors
import shlex
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import symtable
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import uuid
import warnings

REPO = pathlib.Path(__file__).resolve().parents[2]
LIMIT = 6 * 1024 * 1024 + 100  # bytes of a buffered response; above it Lambda answers 413
SPLIT = b"\0" * 8  # between the metadata and the body of a streamed HTTP response
STREAMED_HTTP = "application/vnd.awslambda.http-integration-response"

ROUTES = [
    ("next", "GET", r"/2018-06-01/runtime/invocation/next"),
    ("response", "POST", r"/2018-06-01/runtime/invocation/([^/]+)/response"),
    ("error", "POST", r"/2018-06-01/runtime/invocation/([^/]+)/error"),
    ("init/error", "POST", r"/2018-06-01/runtime/init/error"),
    ("restore/next", "GET", r"/2018-06-01/runtime/restore/next"),
    ("restore/error", "POST", r"/2018-06-01/runtime/restore/error"),
    ("extension/register", "POST", r"/2020-01-01/extension/register"),
    ("extension/event/next", "GET", r"/2020-01-01/extension/event/next"),
]


class Request:
    """What the runtime sent: its head when that has arrived, then its body chunk by chunk.

    `kind` is a name from ROUTES. Of a "response" or "error", `request_id` is the invocation's.
    """

    def __init__(self, lambda_, method, path, headers, connection):
        self.method, self.path, self.headers = method, path, headers
        self.connection = connection  # 1 for the first that was made, and so on
        self.kind = self.request_id = None
        self.time = time.monotonic()
        self.chunks = []  # (time.monotonic(), bytes), as they arrived; one with Content-Length
        self.trailers = http.client.HTTPMessage()
        self.ended = None  # time.monotonic() when no more of it would come
        self.complete = False  # it came to its end
        self.status = None  # what the API answered; 0: nothing, it closed the connection
        self.taken = False  # the API counts it
        self._lambda = lambda_

    @property
    def done(self):
        return self.ended is not None

    @property
    def body(self):
        return b"".join([data for _, data in self.chunks])

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def streaming(self):
        return self.headers.get("Lambda-Runtime-Function-Response-Mode", "").lower() == "streaming"

    @property
    def error_type(self):
        name = "Lambda-Runtime-Function-Error-Type"
        return self.trailers.get(name) or self.headers.get(name)

    def wait(self, timeout=10):
        self._lambda.await_process(lambda: self.done, f"no end of {self}", timeout)
        return self

    def wait_chunks(self, n, timeout=10):
        """The data of the first n chunks, as soon as they are here."""
        self._lambda.await_process(lambda: self.done or len(self.chunks) >= n, f"no chunk {n} of {self}", timeout)
        if len(self.chunks) < n:
            self._lambda.fail(f"{self} ended after {len(self.chunks)} chunks, not {n}")
        return [data for _, data in self.chunks[:n]]

    def stream(self, timeout=10):
        """The data of each chunk, as it arrives."""
        n = 0
        while True:
            self._lambda.await_process(
                lambda n=n: self.done or len(self.chunks) > n, f"no chunk {n + 1} of {self}", timeout
            )
            if n == len(self.chunks):
                return
            yield self.chunks[n][1]
            n += 1

    def __repr__(self):
        end = "" if self.complete else " (incomplete)" if self.done else " (on its way)"
        return f"{self.method} {self.path} -> {self.status}{end}"


class Fault:
    """How the API answers one request otherwise than it should; handed to `Lambda.answers`."""

    def __init__(self, status=None, *, raw=None, close=False, silently=False, after=None, taken=False, hold=None):
        self.status = status  # this one; 0: none, the connection closes instead; None: the usual answer
        self.raw = raw  # these bytes in place of an answer
        self.close = close or silently or status == 0  # the connection, after the answer
        self.silently = silently  # without the header that says so
        self.after = after  # so many chunks, the rest unread; the connection then closes
        self.taken = taken  # the post counts, though its answer (status 0) never arrives
        self.hold = hold  # a threading.Event to wait for before answering


def head(status, headers):
    """The first bytes of an answer, up to its body."""
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines + ["", ""]).encode("utf-8")


class BadRequest(Exception):
    pass


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of the runtime. Stricter than http.server: RFC 9112 to the letter, for it judges the runtime."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.lambda_ = self.server.lambda_
        with self.lambda_.condition:
            self.lambda_.connections.add(self.connection)
            self.lambda_.connected += 1
            self.number = self.lambda_.connected

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()

    def handle(self):
        # A runtime that died or was killed leaves a broken connection, and that is no error of the API.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def parse_request(self):
        """In place of http.server's: a header of any length (X-Ray's may have 1 MiB), and no leniency."""
        self.close_connection = False
        self.request_version = "HTTP/1.1"
        try:
            if not self.raw_requestline.endswith(b"\n") and len(self.raw_requestline) < 65537:
                raise ConnectionError("cut")
            line = re.fullmatch(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1\r\n", self.raw_requestline)
            if not line:
                raise BadRequest(f"request line {self.raw_requestline!r}")
            self.command, self.path = (word.decode("ascii") for word in line.groups())
            self.headers = self.read_headers()
            self.check_framing()
        except BadRequest as error:
            self.refuse(error)
            return False
        return True

    def read_headers(self):
        headers = http.client.HTTPMessage()
        while True:
            line = self.rfile.readline()
            if line == b"\r\n":
                return headers
            if not line.endswith(b"\n"):
                raise ConnectionError("cut")
            field = re.fullmatch(
                rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[^\x00-\x08\x0a-\x1f\x7f]*[!-~\x80-\xff])?)[ \t]*\r\n", line
            )
            if not field:
                raise BadRequest(f"header line {line[:200]!r}")
            headers[field[1].decode("ascii")] = field[2].decode("iso-8859-1")

    def check_framing(self):
        headers = self.headers
        if len(headers.get_all("Host", [])) != 1:
            raise BadRequest("not exactly one Host")
        lengths, codings = headers.get_all("Content-Length", []), headers.get_all("Transfer-Encoding", [])
        if len(lengths) + len(codings) != (self.command == "POST"):
            raise BadRequest(f"{self.command} with Content-Length {lengths}, Transfer-Encoding {codings}")
        if lengths and not re.fullmatch("[0-9]+", lengths[0]) or codings and codings[0].lower() != "chunked":
            raise BadRequest(f"Content-Length {lengths}, Transfer-Encoding {codings}")

    def refuse(self, error):
        with self.lambda_.condition:
            self.lambda_.violations.append(str(error))
            self.lambda_.condition.notify_all()
        self.reply(400, {"errorMessage": str(error), "errorType": "BadRequest"}, Fault(close=True))

    def reply(self, status, document=None, fault=None, **headers):
        """Send an answer, in one write."""
        body = b"" if document is None else json.dumps(document).encode()
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if status != 204:
            fields.update({"Content-Type": "application/json", "Content-Length": len(body)})
        self.send(fault, lambda fields: [head(status, fields) + body], fields)

    def send(self, fault, wire, fields):
        """Send what wire(header fields) yields, each piece by itself, and close where the fault or a None says so."""
        fault = fault or Fault()
        self.close_connection = self.close_connection or fault.close
        if fault.close and not fault.silently:
            fields["Connection"] = "close"
        for piece in [] if fault.status == 0 else [fault.raw] if fault.raw is not None else wire(fields):
            if piece is None:
                self.close_connection = True
            else:
                self.connection.sendall(piece)

    def do_GET(self):
        request = Request(self.lambda_, self.command, self.path, self.headers, self.number)
        for kind, method, path in ROUTES:
            found = re.fullmatch(re.escape(self.lambda_.prefix) + path, self.path)
            if found and method == self.command:
                request.kind = kind
                request.request_id = found[1] if found.groups() else None
        with self.lambda_.condition:
            self.lambda_.requests.append(request)
            self.lambda_.condition.notify_all()
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if request.kind is None:
                raise BadRequest(f"{self.command} {self.path} is not of the Runtime API")
            if self.command == "GET":
                request.ended, request.complete = request.time, True
            getattr(self, "on_" + re.sub("[/]", "_", request.kind))(request)
        except BadRequest as error:
            request.status = 400
            self.end(request)
            self.refuse(error)
        except OSError:
            request.status = request.status or 0
            self.end(request)
            self.close_connection = True

    do_POST = do_GET

    def end(self, request):
        with self.lambda_.condition:
            request.ended = time.monotonic()
            self.lambda_.condition.notify_all()

    def read_body(self, request, stop=None):
        """Read a post's body into request.chunks; not further than `stop` chunks."""
        def more(size):
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionError("cut")
            return data

        def keep(data):
            with self.lambda_.condition:
                request.chunks.append((time.monotonic(), data))
                if self.lambda_.echo:
                    self.lambda_.drain()  # what was printed before it was sent
                    self.lambda_.echo(data, request)
                self.lambda_.condition.notify_all()

        if stop != 0 and "Content-Length" in self.headers:
            keep(more(int(self.headers["Content-Length"])))
        else:
            while len(request.chunks) != stop:
                line = self.rfile.readline(100)
                if not line:
                    raise ConnectionError("cut")
                if not re.fullmatch(rb"[0-9A-Fa-f]+\r\n", line):
                    raise BadRequest(f"chunk size {line!r}")
                if int(line, 16) == 0:
                    break
                keep(more(int(line, 16)))
                if more(2) != b"\r\n":
                    raise BadRequest("no line break after a chunk")
            else:
                self.close_connection = True
                return
            request.trailers = self.read_headers()
            announced = {name.strip().lower() for name in self.headers.get("Trailer", "").split(",")}
            for name in request.trailers:
                if name.lower() not in announced:
                    raise BadRequest(f"trailer {name} was not announced")
        request.complete = True

    def post(self, request, judge, **headers):
        """Take a post: judge() gives the usual status, and its document."""
        fault = self.lambda_.fault(request.kind) or Fault()
        self.read_body(request, fault.after)
        if fault.hold:
            fault.hold.wait(10)
        with self.lambda_.condition:
            status, document = judge()
            request.taken = status < 300 and (fault.status is None or fault.taken)
            if fault.status is not None:
                status, document = fault.status, {"errorMessage": "as the test wants it", "errorType": "Fault"}
            request.status = status
            request.ended = time.monotonic()
            self.lambda_.condition.notify_all()
        self.reply(status, document, fault, **headers)

    def on_next(self, request):
        lambda_ = self.lambda_
        with lambda_.condition:
            lambda_.first_next = lambda_.first_next or time.monotonic()
            lambda_.polling += 1
            lambda_.condition.notify_all()
            faults = lambda_.faults["next"]
            try:
                self.block(lambda: lambda_.pending or faults and (faults[0].status is not None or faults[0].raw))
            finally:
                lambda_.polling -= 1
            fault = lambda_.fault("next") or Fault()
            if fault.status is None and fault.raw is None:
                invocation = lambda_.pending.popleft()
                lambda_.delivered[invocation.request_id] = time.monotonic()
                request.status, request.request_id = 200, invocation.request_id
            else:
                request.status = fault.status
            lambda_.condition.notify_all()
        if fault.hold:
            fault.hold.wait(10)
        if request.status != 200 or fault.raw is not None:
            return self.reply(fault.status or 0, None, fault)
        fields = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": int((time.time() + lambda_.timeout) * 1000),
            "Lambda-Runtime-Invoked-Function-Arn": lambda_.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent=53995c3f42cd8ad8;Sampled=1",
        }
        replaced = {name.lower() for name in invocation.headers}
        fields = {name: value for name, value in fields.items() if name.lower() not in replaced}
        fields.update({name: value for name, value in invocation.headers.items() if value is not None})
        self.send(fault, lambda fields: invocation.wire(fields, invocation.body), fields)

    def block(self, ready):
        """Wait, with the condition held, for as long as the runtime is at the other end."""
        while not ready() or self.hung_up():
            if self.lambda_.closing or self.hung_up():
                raise ConnectionError("gone")
            self.lambda_.condition.wait()

    def hung_up(self):
        """Whether the runtime has closed this connection: a killed worker must not be given an event."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def on_response(self, request):
        lambda_ = self.lambda_
        with lambda_.condition:
            known = request.request_id in lambda_.delivered
            earlier = lambda_.posts.get(request.request_id)
            again = earlier is not None and earlier.taken
            if known and not again:
                lambda_.posts[request.request_id] = request
                lambda_.condition.notify_all()

        def judge():
            if not known:
                return 400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}
            if again:
                return 403, {"errorMessage": "State transition is not allowed", "errorType": "InvalidStateTransition"}
            if request.kind == "response" and not request.streaming and len(request.body) > LIMIT:
                return 413, {"errorMessage": f"Exceeded maximum allowed payload size ({LIMIT} bytes).",
                             "errorType": "RequestEntityTooLarge"}
            return 202, {"status": "OK"}

        self.post(request, judge)

    on_error = on_response

    def on_init_error(self, request):
        def judge():
            # Workers share one environment: the first to report an error is heard.
            if [other for other in self.lambda_.sent(request.kind) if other.taken and other.time > self.lambda_.started]:
                return 403, {"errorMessage": "State transition is not allowed", "errorType": "InvalidStateTransition"}
            return 202, {"status": "OK"}

        self.post(request, judge)

    on_restore_error = on_init_error

    def on_restore_next(self, request):
        fault = self.lambda_.fault(request.kind)
        with self.lambda_.condition:
            self.lambda_.restoring = True
            self.lambda_.condition.notify_all()
            self.block(lambda: self.lambda_.restored)
            self.lambda_.restoring = False
            request.status = 200 if fault is None or fault.status is None else fault.status
        self.reply(request.status, None, fault)

    def on_extension_register(self, request):
        identifier = str(uuid.uuid4())

        def judge():
            if self.lambda_.first_next is not None:
                return 403, {"errorMessage": "Extension registration closed already", "errorType": "Extension.RegistrationClosed"}
            if not request.headers.get("Lambda-Extension-Name"):
                return 403, {"errorMessage": "Empty extension name", "errorType": "Extension.InvalidExtensionName"}
            self.lambda_.extensions.add(identifier)
            return 200, {"functionName": "function", "functionVersion": "$LATEST", "handler": self.lambda_.handler}

        self.post(request, judge, Lambda_Extension_Identifier=identifier)

    def on_extension_event_next(self, request):
        fault = self.lambda_.fault(request.kind)
        if fault is None and request.headers.get("Lambda-Extension-Identifier") in self.lambda_.extensions:
            with self.lambda_.condition:
                self.block(lambda: False)
        request.status = 403 if fault is None or fault.status is None else fault.status
        self.reply(request.status, {"errorMessage": "Unknown extension", "errorType": "Extension.UnknownIdentifier"}, fault)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128

    def shutdown_request(self, request):
        super().shutdown_request(request)
        with self.lambda_.condition:  # only now: who waits for the end of a connection wants it to be closed
            self.lambda_.connections.discard(request)
            self.lambda_.condition.notify_all()

    def handle_error(self, request, client_address):
        self.lambda_.violations.append(traceback.format_exc())


Invocation = collections.namedtuple("Invocation", "request_id headers body wire")


def plain(fields, body):
    """An event's way over the wire, unless a test has another."""
    yield head(200, {**fields, "Content-Length": len(body)}) + body


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


class Lambda:
    """A Runtime API and the process that it invokes; a context manager that leaves neither behind.

    task_root: the function's folder. env: variables over Lambda's own, None takes one away.
    python: the interpreter that `python3` is on PATH. command: another runtime in place of bootstrap.
    prefix: the API lives under this path, and its address is a URL. start=False: `start()` does it later.
    telemetry: `_LAMBDA_TELEMETRY_LOG_FD` is open, `frames` has what came. log_sockets: the same for
    `_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET` and `worker_logs`. echo: `log` has stderr too, and echo(bytes) gets it as it comes;
    echo(bytes, request) gets the bodies, with `condition` held.
    """

    arn = "arn:aws:lambda:us-east-1:123456789012:function:function"

    def __init__(self, task_root, handler="function.handler", *, env=None, args=(), python=sys.executable,
                 bootstrap=REPO / "bootstrap", command=None, start=True, prefix="", timeout=60, telemetry=False,
                 log_sockets=False, echo=None):
        self.task_root, self.handler, self.prefix, self.timeout = os.path.abspath(task_root), handler, prefix, timeout
        self.command = [os.fspath(word) for word in command or [bootstrap, *args]]
        self.echo = echo
        self.condition = threading.Condition()
        self.requests = []  # all that the runtime sent, oldest first
        self.violations = []  # what was not HTTP or not the Runtime API: an error at the end of `with`
        self.pending = collections.deque()  # invocations that no `next` has taken yet
        self.delivered = {}  # request id: time.monotonic() when its event went out
        self.posts = {}  # request id: the response or error
        self.faults = collections.defaultdict(collections.deque)
        self.extensions, self.connections, self.connected = set(), set(), 0
        self.polling = 0  # `next` calls that wait now
        self.restoring = self.restored = self.closing = False
        self.process = self.status = self.started = self.first_next = None
        self.watchers = []

        self.folder = tempfile.mkdtemp(prefix="lambda-")
        shim = pathlib.Path(self.folder, "python3")  # a symbolic link would make a venv's interpreter forget its venv
        shim.write_text(f'#!/bin/sh\nexec {shlex.quote(os.fspath(python))} "$@"\n')
        shim.chmod(0o755)

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.lambda_ = self
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

        self.selector = selectors.DefaultSelector()
        self.wakeup = os.pipe()
        self.selector.register(self.wakeup[0], selectors.EVENT_READ)
        self.stdout, self.error, self.telemetry, self.workers = [], [], [], []
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
        stdout = self.pipe(self.stdout, self.echo)
        stderr = stdout if self.echo else self.pipe(self.error)
        inherited = [self.pipe(self.telemetry)] if self.wants_telemetry else []
        for fd in inherited:
            env = {**env, "_LAMBDA_TELEMETRY_LOG_FD": str(fd)}
        with self.condition:
            self.status = self.first_next = None
        self.started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                self.command, env=env, cwd=self.task_root, pass_fds=inherited, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
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
                os.killpg(self.process.pid, signal.SIGKILL)
        for watcher in self.watchers:
            watcher.join()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=10):
        """The exit status of the process, minus the signal's number when one ended it."""
        self.wait_for(lambda: self.status is not None, timeout, "the process goes on")
        return self.status

    def close(self):
        """End the process and all that it started, the API and its threads."""
        self.kill()
        with self.condition:
            self.closing = True
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.condition.notify_all()
        with contextlib.suppress(OSError), socket.create_connection(self.server.server_address):
            pass  # the acceptor waits for a connection, so that it need not look for `closing` every so often
        self.acceptor.join()
        self.server.server_close()
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

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()
        if self.violations and kind is None:
            self.fail("the runtime sent what is not of the Runtime API: " + "; ".join(self.violations))

    # ---- its output

    def sources(self):
        return [*self.stdout, *self.error, *self.telemetry, *self.workers]

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
        return self.log_bytes.decode("utf-8", "backslashreplace")

    @property
    def stderr(self):
        return self.collect(self.error).decode("utf-8", "backslashreplace")

    @property
    def frames(self):
        """What came over _LAMBDA_TELEMETRY_LOG_FD: (type, microseconds, message) of each whole frame."""
        data, at, frames = self.collect(self.telemetry), 0, []
        while at + 16 <= len(data):
            kind, length, stamp = struct.unpack_from(">IIQ", data, at)
            if at + 16 + length > len(data):
                break
            frames.append((kind, stamp, data[at + 16 : at + 16 + length].decode("utf-8")))
            at += 16 + length
        return frames

    @property
    def worker_logs(self):
        """What came over each connection to the provider socket, oldest connection first."""
        self.drain()
        return [source.data.decode("utf-8", "backslashreplace") for source in self.workers]

    # ---- invocations

    def accept(self):
        while not self.closing:
            self.server.handle_request()

    def send(self, event={}, *, body=None, headers=None, wire=plain):
        """Queue an invocation; its request id.

        body: the event's bytes. headers: over those that Lambda sends with it, None takes one away.
        wire(header fields, body): yields the bytes of the answer to `next`, None to close the connection.
        """
        headers = dict(headers or {})
        request_id = next((v for k, v in headers.items() if k.lower() == "lambda-runtime-aws-request-id" and v), None)
        request_id = request_id or str(uuid.uuid4())
        body = json.dumps(event).encode() if body is None else body
        with self.condition:
            self.pending.append(Invocation(request_id, headers, body, wire))
            self.condition.notify_all()
        return request_id

    def answer(self, request_id, timeout=10, whole=True):
        """The response or error posted for an invocation; whole=False: as soon as its head is here."""
        def ready():
            post = self.posts.get(request_id)
            # A post that arrived but was dropped (status 0) is sent again; one that was cut is not.
            return post and (not whole or post.taken or post.done and (post.status != 0 or not post.complete))

        self.await_process(ready, f"no answer to {request_id}", timeout)
        return self.posts[request_id]

    def invoke(self, event={}, *, body=None, headers=None, wire=plain, timeout=10):
        return self.answer(self.send(event, body=body, headers=headers, wire=wire), timeout)

    def answers(self, kind, *faults):
        """How the next requests of a kind are answered: a status or a Fault for each, in order."""
        with self.condition:
            self.faults[kind].extend(fault if isinstance(fault, Fault) else Fault(fault) for fault in faults)
            self.condition.notify_all()

    def fault(self, kind):
        with self.condition:
            return self.faults[kind].popleft() if self.faults[kind] else None

    def restore(self, timeout=10):
        """Wait until the runtime is ready for its snapshot, and let it go on as if restored from it."""
        self.wait_for(lambda: self.restoring, timeout, "no restore/next")
        with self.condition:
            self.restored = True
            self.condition.notify_all()

    def sent(self, kind):
        """The requests of a kind, oldest first."""
        with self.condition:
            return [request for request in self.requests if request.kind == kind]

    @property
    def init_error(self):
        return next((request for request in self.sent("init/error") if request.done), None)

    @property
    def restore_error(self):
        return next((request for request in self.sent("restore/error") if request.done), None)

    def wait_for(self, predicate, timeout=10, what="it did not happen"):
        """Wait until predicate() is true; it is asked after each thing that happens here."""
        with self.condition:
            if not self.condition.wait_for(predicate, timeout):
                self.fail(f"{what} within {timeout} s")

    def await_process(self, predicate, what, timeout=10):
        """The same for what only a living process can do."""
        with self.condition:
            self.condition.wait_for(lambda: predicate() or self.status is not None, timeout)
            if not predicate() and self.status is not None:
                # What it sent before it died may still be on its way through a thread of the server.
                self.condition.wait_for(lambda: predicate() or not self.connections, 1)
            if not predicate():
                self.fail(what + (f" within {timeout} s" if self.status is None else ", and the process has ended"))

    def fail(self, what):
        state = "runs" if self.status is None else f"ended with status {self.status}"
        requests = "\n".join([repr(request) for request in self.requests[-10:]])
        raise AssertionError(
            f"{what}\n-- the process {state}\n-- last requests:\n{requests}\n-- end of stdout:\n{self.log[-4000:]}"
            f"\n-- end of stderr:\n{self.stderr[-4000:]}"
        )


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


def tell(fifo, text="", timeout=10):
    """Write to a FIFO once somebody reads it: how a test lets a function go on that waits in open("fifo").read()."""
    end = time.monotonic() + timeout
    while True:
        try:
            with open(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK), "w") as file:
                file.write(text)
            return
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                raise
        time.sleep(0.001)


# ---- make run: the function's log goes to stderr as it comes, the response to stdout, the rest to stderr

LONGEST = 900  # seconds: what Lambda allows a function at most, and what TIMEOUT= is if it is not given
LONGEST_INIT = 10  # seconds: what Lambda allows its import
ERROR = re.compile(rb'^\[ERROR\] |"errorType": ', re.M)  # what the runtime logs when the function has failed
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(folder, handler=""):
    if sys.version_info < (3, 9):
        sys.exit(f"Python {sys.version.split()[0]} is too old: 3.9 or later, as in make run PYTHON=python3.13")
    if not folder:
        sys.exit("TASK_ROOT= is empty: pass the folder that the function is in")
    if not os.path.isdir(folder):
        sys.exit(f"TASK_ROOT={folder}: " + ("pass the folder that it is in" if os.path.isfile(folder) else "no such folder"))
    if handler and folder == "tests/hello":  # which `make run` takes when it is given none
        print(f"TASK_ROOT={folder}", file=sys.stderr)
    handler = handler or find_handler(folder)
    timeout = os.environ.get("TIMEOUT") or str(LONGEST)
    if not timeout.isdecimal() or not 0 < int(timeout) <= LONGEST:
        sys.exit(f"TIMEOUT={timeout}: seconds from 1 to {LONGEST}")
    event = read_event(os.environ.get("EVENT", ""), folder)
    for number in INTERRUPTS:
        signal.signal(number, leave)
    with Lambda(folder, handler, start=False, timeout=int(timeout)) as lambda_:
        screen = Screen(lambda_)
        lambda_.env = environment(lambda_.env)
        lambda_.restored = True  # a function for SnapStart goes on at once
        request_id = lambda_.send(body=event)
        lambda_.start()
        return show(screen, request_id)


def leave(number, frame):
    """End at a signal: once, for a second Ctrl-C shall not keep the process from being put away."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def find_handler(folder):
    """The handler that the folder seems to have, function.handler first."""
    files = sorted(path.name for path in pathlib.Path(folder).glob("*.py") if path.name != "runtime.py")
    names = ["function.py", "lambda_function.py", "app.py", "main.py", "index.py", "handler.py"]
    file = next((name for name in names if name in files), files[0] if len(files) == 1 else None)
    if file is None:
        sys.exit(f"TASK_ROOT={folder} has {', '.join(files) or 'no .py file'}: pass HANDLER=file.function")
    bound, functions = top_level(os.path.join(folder, file))
    name = next((name for name in ("handler", "lambda_handler") if name in bound), None)
    if functions and not name:
        which = functions[0] if len(functions) == 1 else "function"
        sys.exit(f"{file} defines {', '.join(functions)}: pass HANDLER={file[:-3]}.{which}")
    handler = f"{file[:-3]}.{name or 'handler'}"
    if handler != "function.handler":
        print(f"HANDLER={handler}", file=sys.stderr)
    return handler


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


def read_event(given, folder):
    """The bytes of the event: given as JSON or as @file, else event.json in the folder, else {}."""
    def refuse(constant):
        raise ValueError(f"it has {constant}")

    if given == "@":
        sys.exit("EVENT=@: pass the file's name as well, as in EVENT=@event.json")
    path = given[1:] if given.startswith("@") else os.path.join(folder, "event.json")
    name = f"EVENT={given}" if given.startswith("@") else "EVENT" if given else path
    try:
        text = given if name == "EVENT" else pathlib.Path(path).read_text("utf-8-sig")
        json.loads(text, parse_constant=refuse)
        return text.encode("utf-8")
    except FileNotFoundError:
        if not given:
            return b"{}"
        sys.exit(f"{name}: no such file")
    except OSError as error:
        sys.exit(f"{name}: {error.strerror}")
    except ValueError as error:
        hint = f" (a file is EVENT=@{given})" if name == "EVENT" and os.path.isfile(given) else ""
        sys.exit(f"{name} is not JSON: {error}{hint}")


def environment(lambdas):
    """The caller's variables, since a function is configured through them, under those that Lambda itself sets."""
    fixed = {name: value for name, value in lambdas.items() if not name.startswith("AWS_") or name == "AWS_LAMBDA_RUNTIME_API"}
    fixed["PATH"] = lambdas["PATH"].split(":")[0] + ":" + os.environ.get("PATH", os.defpath)
    return {**lambdas, **os.environ, **fixed}


class Screen:
    """What is printed, in the order in which it came: the log on stderr, the chunks of a stream on stdout.

    A terminal shows both: a line that one of them has begun is ended before something else is printed.
    """

    def __init__(self, lambda_):
        self.lambda_ = lambda_
        self.coming = []  # (bytes, None) of the log and (bytes, request) of a body
        self.begun = None  # the file whose last line has no end
        self.metadata = None  # of a streamed HTTP response, as far as it is here; None: no stream has begun
        lambda_.echo = lambda data, request=None: self.coming.append((data, request))

    def wait(self, ready, seconds):
        """Print what comes until ready(), for so many seconds at most; whether it is."""
        end = time.monotonic() + seconds
        while True:
            with self.lambda_.condition:
                self.lambda_.condition.wait_for(lambda: self.coming or ready(), end - time.monotonic())
                if any(request is None and ERROR.search(data) for data, request in self.coming):
                    # It ends a stream, but may be here before the last chunks are.
                    self.lambda_.condition.wait_for(self.answered, 0.5)
                    self.coming.sort(key=lambda piece: piece[1] is None)
                is_ready = ready()
                over = is_ready or time.monotonic() >= end
                if over:
                    self.lambda_.drain()
                coming, self.coming = self.coming, []
            for data, request in coming:
                if request is None:
                    # The runtime ends the lines within a record with \r, which CloudWatch shows as a line break
                    # and a terminal does not.
                    self.write(re.sub(rb"\r(?!\n)", b"\n", data), sys.stderr)
                elif request.streaming:
                    self.chunk(data, request.headers.get("Content-Type") == STREAMED_HTTP)
            if over:
                return is_ready

    def answered(self):
        return self.lambda_.status is not None or any(post.done for post in self.lambda_.posts.values())

    def chunk(self, data, http):
        """Print a stream's chunk, after the metadata if there is."""
        if self.metadata is None:
            self.say("")
            self.metadata = b""
        if http and SPLIT not in self.metadata:
            self.metadata += data
            if SPLIT not in self.metadata:
                return
            head, data = self.metadata.split(SPLIT, 1)
            self.say(pretty(head.decode("utf-8")) + "\n")
        self.write(data, sys.stdout)

    def write(self, data, file):
        if self.begun is not file:
            self.end_line()
        with open(file.fileno(), "wb", closefd=False) as whole:  # file.buffer may stop halfway with PYTHONUNBUFFERED set
            whole.write(data)
        if data:
            self.begun = None if data.endswith(b"\n") else file

    def say(self, text):
        self.end_line()
        print(text, file=sys.stderr, flush=True)

    def end_line(self):
        if self.begun:
            print(file=sys.stderr, flush=True)
            self.begun = None


def show(screen, request_id):
    """Print what comes of the invocation, and give the exit status."""
    lambda_ = screen.lambda_

    def answered():
        return lambda_.init_error or lambda_.restore_error or lambda_.posts.get(request_id)

    def over():  # once the next one is asked for: what the function says until then belongs to it
        return lambda_.status is not None or answered() and answered().done and lambda_.polling

    in_time = screen.wait(lambda: over() or request_id in lambda_.delivered, LONGEST_INIT)
    in_time = in_time and screen.wait(over, lambda_.timeout)
    if lambda_.status is not None:  # what it sent before it died may still be on its way through a thread of the server
        screen.wait(lambda: not lambda_.connections, 1)
    answer, failed = answered(), True
    ended = answer.ended if in_time and answer and answer.done else time.monotonic()
    if answer and answer.complete:
        failed = (end_stream if answer.streaming else show_document)(screen, answer)
    trouble = what_went_wrong(lambda_, request_id, answer, in_time)
    if trouble:
        screen.say(trouble)
    screen.say(report(lambda_, request_id, answer, ended))
    return 1 if failed or trouble else 0


def what_went_wrong(lambda_, request_id, answer, in_time):
    """The line that Lambda writes into the log of a function that did not go on to the next invocation; or a hint."""
    file, _, name = lambda_.handler.rpartition(".")
    if answer and answer.kind not in ("response", "error"):  # of the init or restore: the log says it
        return None if file and name else f"HANDLER={lambda_.handler}: it is file.function, as in function.handler"
    if exited(lambda_, answer):
        status = lambda_.status
        if status == 0:
            return f"RequestId: {request_id} Error: Runtime exited without providing a reason"
        reason = f"exit status {status}" if status > 0 else f"signal: {signal.strsignal(-status).lower()}"
        return f"RequestId: {request_id} Error: Runtime exited with error: {reason}"
    if in_time:
        return None
    if request_id in lambda_.delivered:
        hint = "" if os.environ.get("PYTHONFAULTHANDLER") else " (PYTHONFAULTHANDLER=1 shows where)"
        return f"{request_id} Task timed out after {lambda_.timeout}.00 seconds{hint}"
    late = f"the import of {file.replace('.', '/')}.py has not ended after {LONGEST_INIT} s"
    return f"Init timed out: {late}: let it do less, or the first invocation do it"


def exited(lambda_, answer):
    """Whether the process ended by itself; after an error of the init or restore it has to."""
    return lambda_.status is not None and (answer is None or answer.kind in ("response", "error"))


def show_document(screen, answer):
    """A buffered response or an error; whether it is an error."""
    screen.say("")
    body = answer.body
    if answer.status == 413:
        body = json.dumps({
            "errorMessage": f"Response payload size exceeded maximum allowed payload size ({LIMIT} bytes).",
            "errorType": "Function.ResponseSizeTooLarge",
        }).encode()
    with contextlib.suppress(ValueError):
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            body = pretty(body.decode("utf-8")).encode("utf-8") + b"\n"
    screen.write(body, sys.stdout)
    screen.say("")
    return answer.kind != "response" or answer.status == 413


def end_stream(screen, answer):
    """The error of a stream that failed on the way; whether it did."""
    screen.say("")
    document = base64.b64decode(answer.trailers.get("Lambda-Runtime-Function-Error-Body", ""))
    if document:
        screen.say(pretty(document.decode("utf-8")) + "\n")
    return bool(answer.error_type)


def pretty(text):
    """JSON with line breaks and indentation, its numbers and strings as they were written."""
    json.loads(text)
    lines, depth = [""], 0
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|\[\s*\]|\{\s*\}|[\[\]{},:]|[^\s\[\]{},:"]+', text):
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if token in ("]", "}"):
            lines.append("  " * depth)
        lines[-1] += {":": ": "}.get(token, token if token.startswith('"') else "".join(token.split()))
        if token in ("[", "{", ","):
            lines.append("  " * depth)
    return "\n".join(lines)


def report(lambda_, request_id, answer, ended):
    """The line that Lambda ends an invocation with; its init is billed as well."""
    fields = {}
    started = lambda_.delivered.get(request_id)
    init = ((lambda_.first_next or (answer.time if answer else time.monotonic())) - lambda_.started) * 1000
    if started:
        duration = (ended - started) * 1000
        fields["Duration"] = f"{duration:.2f} ms"
        fields["Billed Duration"] = f"{math.ceil(duration + init)} ms"
    fields["Memory Size"] = lambda_.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] + " MB"
    memory = peak_memory(lambda_.process.pid)
    if memory:
        fields["Max Memory Used"] = f"{memory} MB"
    fields["Init Duration"] = f"{init:.2f} ms"
    if exited(lambda_, answer):
        fields.update({"Status": "error", "Error Type": "Runtime.ExitError"})
    return f"REPORT RequestId: {request_id}\t" + "\t".join(f"{name}: {value}" for name, value in fields.items())


def peak_memory(pid):
    """The process's in MB, rounded up; None when it is gone."""
    try:
        return math.ceil(int(re.search(r"VmHWM:\s*([0-9]+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024)
    except (OSError, TypeError):  # no such file, or no memory left in it
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], stdout=subprocess.PIPE).stdout.strip()
        return math.ceil(int(found) / 1024) if int(found or 0) else None
