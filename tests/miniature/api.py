"""The Runtime API of the Lambda in miniature, strict: it judges the runtime in all tests.

`Api` has what was asked and what will be answered, `Handler` is a connection of the runtime, `Fault` an answer that is
not the usual one. process.py adds the process.
"""

import base64
import collections
import contextlib
import http.client
import http.server
import json
import re
import socket
import socketserver
import threading
import time
import traceback
import uuid

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

    `kind` is a name from ROUTES. Of a "response" or "error", `request_id` is the invocation's. What `Lambda.invoke` returns
    is such a post, the answer: `error` is None when the invocation has succeeded, and then `json` or `content` is what the
    function returned. `chunks` has (time.monotonic() in seconds, bytes) of each chunk, as it went over the wire: of a
    streamed HTTP response the first two are the metadata and eight NULs.
    """

    def __init__(self, api, method, path, headers, connection):
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
        self.unwanted = False  # the API has hung up on it
        self._api, self._socket = api, None

    @property
    def done(self):
        return self.ended is not None

    @property
    def body(self):
        return b"".join([data for _, data in self.chunks])

    @property
    def json(self):
        """The response, or the error's document, read as JSON; ValueError where it is none."""
        return json.loads(self.content)

    @property
    def metadata(self):
        """Of a streamed HTTP response the dict that the function yielded first; None of any other answer."""
        head, split, _ = self.body.partition(SPLIT)
        return json.loads(head) if split and self.headers.get("Content-Type") == STREAMED_HTTP else None

    @property
    def content(self):
        """The bytes of the response, without the metadata of a streamed one."""
        return self.body if self.metadata is None else self.body.partition(SPLIT)[2]

    @property
    def error(self):
        """The document of the error that the invocation ended with: a dict of errorType, errorMessage, stackTrace and others.

        None if it succeeded. A stream that fails has one behind the chunks that were sent before. A response of more than
        6 MB is an error, as on Lambda.
        """
        if self.kind == "response" and self.status == 413:
            return too_large()
        if self.kind != "response":
            return self.json
        document = base64.b64decode(self.trailers.get("Lambda-Runtime-Function-Error-Body", ""))
        if document or self.error_type:
            return json.loads(document or json.dumps({"errorType": self.error_type, "errorMessage": ""}))
        return None

    @property
    def log(self):
        """What the function has printed and logged from its event on until the next event, as text."""
        return self._api.log_of(self.request_id)

    @property
    def streaming(self):
        return self.headers.get("Lambda-Runtime-Function-Response-Mode", "").lower() == "streaming"

    @property
    def error_type(self):
        name = "Lambda-Runtime-Function-Error-Type"
        return self.trailers.get(name) or self.headers.get(name)

    def wait(self, timeout=30):
        self._api.await_process(lambda: self.done, f"no end of {self}", timeout)
        return self

    def wait_chunks(self, n, timeout=30):
        """The data of the first n chunks, as soon as they are here."""
        self._api.await_process(lambda: self.done or len(self.chunks) >= n, f"no chunk {n} of {self}", timeout)
        if len(self.chunks) < n:
            self._api.fail(f"{self} ended after {len(self.chunks)} chunks, not {n}")
        return [data for _, data in self.chunks[:n]]

    def stream(self, timeout=30):
        """The data of each chunk, as it arrives."""
        n = 0
        while True:
            self._api.await_process(
                lambda n=n: self.done or len(self.chunks) > n, f"no chunk {n + 1} of {self}", timeout
            )
            if n == len(self.chunks):
                return
            yield self.chunks[n][1]
            n += 1

    def hang_up(self):
        """Read no more of it, and close the connection, as the API does when nobody wants the rest."""
        self.unwanted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

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


def too_large():
    """The error that the caller of a function gets in place of a response of more than LIMIT bytes."""
    message = f"Response payload size exceeded maximum allowed payload size ({LIMIT} bytes)."
    return {"errorMessage": message, "errorType": "Function.ResponseSizeTooLarge"}


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
        self.api = self.server.api
        with self.api.condition:
            self.api.connections.add(self.connection)
            self.api.connected += 1
            self.number = self.api.connected

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
        with self.api.condition:
            self.api.violations.append(str(error))
            self.api.condition.notify_all()
        self.reply(400, {"errorMessage": str(error), "errorType": "BadRequest"}, Fault(close=True))

    def reply(self, status, document=None, fault=None, **headers):
        """Send an answer, in one write."""
        body = b"" if document is None or status == 204 else json.dumps(document).encode()
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
        request = Request(self.api, self.command, self.path, self.headers, self.number)
        request._socket = self.connection
        for kind, method, path in ROUTES:
            found = re.fullmatch(re.escape(self.api.prefix) + path, self.path)
            if found and method == self.command:
                request.kind = kind
                request.request_id = found[1] if found.groups() else None
        with self.api.condition:
            self.api.requests.append(request)
            self.api.condition.notify_all()
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
        with self.api.condition:
            request.ended = time.monotonic()
            self.api.condition.notify_all()

    def read_body(self, request, stop=None):
        """Read a post's body into request.chunks; not further than `stop` chunks."""
        def more(size):
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionError("cut")
            return data

        def keep(data):
            if request.unwanted:
                raise ConnectionError("nobody wants the rest")
            with self.api.condition:
                request.chunks.append((time.monotonic(), data))
                self.api.received(request, data)
                self.api.condition.notify_all()

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
        fault = self.api.fault(request.kind) or Fault()
        self.read_body(request, fault.after)
        if fault.hold:
            fault.hold.wait(30)
        with self.api.condition:
            status, document = judge()
            request.taken = status < 300 and (fault.status is None or fault.taken)
            if fault.status is not None:
                status, document = fault.status, {"errorMessage": "as the test wants it", "errorType": "Fault"}
            request.status = status
            request.ended = time.monotonic()
            self.api.condition.notify_all()
        self.reply(status, document, fault, **headers)

    def on_next(self, request):
        api = self.api
        with api.condition:
            api.first_next = api.first_next or time.monotonic()
            api.polling += 1
            api.condition.notify_all()
            faults = api.faults["next"]
            try:
                self.block(lambda: api.pending or faults and (faults[0].status is not None or faults[0].raw))
            finally:
                api.polling -= 1
            fault = api.fault("next") or Fault()
            if fault.status is None and fault.raw is None:
                invocation = api.pending.popleft()
                api.sending(invocation)
                api.delivered[invocation.request_id] = time.monotonic()
                deadline = time.time() + api.timeout  # here: who sees it delivered may change the timeout for the next
                request.status, request.request_id = 200, invocation.request_id
            else:
                request.status = fault.status
            api.condition.notify_all()
        if fault.hold:
            fault.hold.wait(30)
        if request.status != 200 or fault.raw is not None:
            return self.reply(fault.status or 0, None, fault)
        fields = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": int(deadline * 1000),
            "Lambda-Runtime-Invoked-Function-Arn": api.arn,
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Parent=53995c3f42cd8ad8;Sampled=1",
        }
        replaced = {name.lower() for name in invocation.headers}
        fields = {name: value for name, value in fields.items() if name.lower() not in replaced}
        fields.update({name: value for name, value in invocation.headers.items() if value is not None})
        self.send(fault, lambda fields: invocation.wire(fields, invocation.body), fields)

    def block(self, ready):
        """Wait, with the condition held, for as long as the runtime is at the other end."""
        while not ready() or self.hung_up():
            if self.api.closing or self.hung_up():
                raise ConnectionError("gone")
            self.api.condition.wait()

    def hung_up(self):
        """Whether the runtime has closed this connection: a killed worker must not be given an event."""
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def on_response(self, request):
        api = self.api
        with api.condition:
            known = request.request_id in api.delivered
            earlier = api.posts.get(request.request_id)
            # What a dead worker has sent of a response may be read after the error that is reported in its place.
            is_outrun = earlier is not None and not earlier.done and (earlier.kind, request.kind) == ("error", "response")
            if known and not (earlier is not None and earlier.taken) and not is_outrun:
                api.posts[request.request_id] = request
                api.condition.notify_all()

        def judge():
            if not known:
                return 400, {"errorMessage": "Invalid request ID", "errorType": "InvalidRequestID"}
            if api.posts.get(request.request_id) is not request:  # another was taken, or has come while this one was read
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
            if [other for other in self.api.sent(request.kind) if other.taken and other.time > self.api.started]:
                return 403, {"errorMessage": "State transition is not allowed", "errorType": "InvalidStateTransition"}
            return 202, {"status": "OK"}

        self.post(request, judge)

    on_restore_error = on_init_error

    def on_restore_next(self, request):
        fault = self.api.fault(request.kind)
        with self.api.condition:
            self.api.restoring = True
            self.api.condition.notify_all()
            self.block(lambda: self.api.restored)
            self.api.restoring = False
            request.status = 200 if fault is None or fault.status is None else fault.status
        self.reply(request.status, None, fault)

    def on_extension_register(self, request):
        identifier = str(uuid.uuid4())

        def judge():
            if self.api.first_next is not None:
                return 403, {"errorMessage": "Extension registration closed already", "errorType": "Extension.RegistrationClosed"}
            if not request.headers.get("Lambda-Extension-Name"):
                return 403, {"errorMessage": "Empty extension name", "errorType": "Extension.InvalidExtensionName"}
            self.api.extensions.add(identifier)
            return 200, {"functionName": "function", "functionVersion": "$LATEST", "handler": self.api.handler}

        self.post(request, judge, Lambda_Extension_Identifier=identifier)

    def on_extension_event_next(self, request):
        fault = self.api.fault(request.kind)
        if fault is None and request.headers.get("Lambda-Extension-Identifier") in self.api.extensions:
            with self.api.condition:
                self.block(lambda: False)
        request.status = 403 if fault is None or fault.status is None else fault.status
        self.reply(request.status, {"errorMessage": "Unknown extension", "errorType": "Extension.UnknownIdentifier"}, fault)


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 128

    def shutdown_request(self, request):
        super().shutdown_request(request)
        with self.api.condition:  # only now: who waits for the end of a connection wants it to be closed
            self.api.connections.discard(request)
            self.api.condition.notify_all()

    def handle_error(self, request, client_address):
        self.api.violations.append(traceback.format_exc())


Invocation = collections.namedtuple("Invocation", "request_id headers body wire")


def plain(fields, body):
    """An event's way over the wire, unless a test has another."""
    yield head(200, {**fields, "Content-Length": len(body)}) + body


class Api:
    """The Runtime API at `address`, what the runtime has asked of it, and what it will be answered.

    prefix: it lives under this path. timeout: seconds that an invocation may take.
    """

    arn = "arn:aws:lambda:us-east-1:123456789012:function:function"
    # Of the process that it serves: time.monotonic() at its start, and how it ended.
    started, status = 0, None

    def __init__(self, handler, prefix="", timeout=60, port=0):
        self.handler, self.prefix, self.timeout = handler, prefix, timeout
        self.condition = threading.Condition()  # notified of each thing that happens
        self.requests = []  # all that the runtime sent, oldest first
        self.violations = []  # what was not HTTP or not the Runtime API
        self.pending = collections.deque()  # invocations that no `next` has taken yet
        self.delivered = {}  # request id: time.monotonic() when its event went out
        self.posts = {}  # request id: the response or error
        self.faults = collections.defaultdict(collections.deque)
        self.extensions, self.connections, self.connected = set(), set(), 0
        self.first_next = None  # time.monotonic() of it
        self.polling = 0  # `next` calls that wait now
        self.restoring = self.restored = self.closing = False
        self.server = Server(("127.0.0.1", port), Handler)
        self.server.api = self
        self.address = "127.0.0.1:%d" % self.server.server_address[1]
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while not self.closing:
            self.server.handle_request()

    def close(self):
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

    def received(self, request, data):
        """What a piece of a body is told to, with `condition` held."""

    def sending(self, invocation):
        """What an invocation is told to before its event goes out, with `condition` held."""

    def log_of(self, request_id):
        """What was printed during an invocation: nothing here, where there is no process."""
        return ""

    # ---- invocations

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

    def answer(self, request_id, timeout=30, whole=True):
        """The response or error posted for an invocation; whole=False: as soon as its head is here."""
        def ready():
            post = self.posts.get(request_id)
            # A post that arrived but was dropped (status 0) is sent again; one that was cut is not.
            return post and (not whole or post.taken or post.done and (post.status != 0 or not post.complete))

        self.await_process(ready, f"no answer to {request_id}", timeout)
        return self.posts[request_id]

    def invoke(self, event={}, *, body=None, headers=None, wire=plain, timeout=30):
        """Send an event, JSON or as `send` has it, and wait for the answer: a `Request`, with its error if it failed.

        AssertionError, with the end of the log, if there is none within `timeout` seconds or the process ends without one.
        """
        return self.answer(self.send(event, body=body, headers=headers, wire=wire), timeout)

    def answers(self, kind, *faults):
        """How the next requests of a kind are answered: a status or a Fault for each, in order."""
        with self.condition:
            self.faults[kind].extend(fault if isinstance(fault, Fault) else Fault(fault) for fault in faults)
            self.condition.notify_all()

    def fault(self, kind):
        with self.condition:
            return self.faults[kind].popleft() if self.faults[kind] else None

    def restore(self, timeout=30):
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
    def kinds(self):
        """The kinds of all requests, oldest first."""
        with self.condition:
            return [request.kind for request in self.requests]

    @property
    def init_error(self):
        return next((request for request in self.sent("init/error") if request.done), None)

    @property
    def restore_error(self):
        return next((request for request in self.sent("restore/error") if request.done), None)

    def wait_for(self, predicate, timeout=30, what="it did not happen"):
        """Wait until predicate() is true; it is asked after each thing that happens here."""
        with self.condition:
            if not self.condition.wait_for(predicate, timeout):
                self.fail(f"{what} within {timeout} s")

    def wait_for_next(self, count=None):
        """Wait until a `next` blocks, or exactly so many: the invocation before it is over, and what it logged is here."""
        self.wait_for(lambda: self.polling if count is None else self.polling == count, what=f"not {count or 'one'} next")

    def await_process(self, predicate, what, timeout=30):
        """The same for what only a living process can do."""
        with self.condition:
            self.condition.wait_for(lambda: predicate() or self.status is not None, timeout)
            if not predicate() and self.status is not None:
                # What it sent before it died may still be on its way through a thread of the server.
                self.condition.wait_for(lambda: predicate() or not self.connections, 1)
            if not predicate():
                if self.status is None:
                    self.fail(f"{what} within {timeout} s")
                error = self.init_error and self.init_error.json
                why = f": {error['errorType']}: {error['errorMessage']}" if error else ""
                self.fail(f"{what}, and the process has ended{why}")

    def fail(self, what):
        raise AssertionError(f"{what}\n{self.circumstances()}")

    def circumstances(self):
        return "-- last requests:\n" + "\n".join([repr(request) for request in self.requests[-10:]])
