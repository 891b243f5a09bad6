"""A Python runtime for AWS Lambda, in one file on the standard library.

`bootstrap` calls `main()`. It puts the function's folders on `sys.path`, resolves `_HANDLER`
(`file.function`) and reports what goes wrong on the way as an init error. Then it loops until
Lambda ends the process: get the next event from the Runtime API, call the handler, post the
response, the stream or the error. A script that is its own bootstrap calls `run(handler)`.

The loop is written once, as a coroutine. For a plain function its socket blocks, so no `await`
in it ever suspends and asyncio is never imported. The first handler that needs an event loop
gets one, and the same coroutine goes on as a task on it.

The Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

# Each import is paid at every cold start. json, socket and contextvars are taken at their C
# modules: `import json` costs 9 ms and `import socket` 8 where `python -c pass` takes 14.
import _json
import _socket
import marshal
import os
import sys
import time
from _contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable, Coroutine, NoReturn, Optional, Sequence, Union

    Handler = Callable[[Any, "LambdaContext"], Any]
    Headers = dict[str, str]
    Buffer = Union[bytes, bytearray, memoryview]
    Answer = tuple[int, Headers, Buffer]
    Frame = tuple[str, int, str, str]

__all__ = ["LambdaContext", "main", "run"]

_INVOCATION = "/2018-06-01/runtime/invocation"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_RESTORE = "/2018-06-01/runtime/restore"
_EXTENSION = "/2020-01-01/extension"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"

_now, _monotonic = time.time, time.monotonic  # a function may replace them
_forked = False  # true in a child that the function has forked


# ---- The Runtime API client ------------------------------------------------------------------

_RECEIVE = 1 << 16  # bytes asked of the kernel at once: head and event of most invocations
_LARGEST_HEAD = 1 << 20  # bytes; Lambda's own heads are below 8 kB
_LARGEST_BODY = 1 << 28  # bytes; Lambda's largest event is 6 MB: more is a broken length


class _ApiError(Exception):
    """The Runtime API is not there, breaks HTTP or breaks its own rules: the runtime ends."""


class _HungUp(Exception):
    """The connection was lost in the middle of a response stream."""


class _EventLoopNeeded:
    """Awaited where an event loop is needed: makes one and suspends up to _drive()."""

    def __await__(self) -> "Any":
        _event_loop()  # here, so that what it meets is an error of this invocation
        yield


class _Connection:
    """One keep-alive connection to the Runtime API: all the HTTP of the loop.

    While `loop` is None the socket blocks and the coroutines here never suspend. With a loop
    the socket does not block, and they wait on the loop.
    """

    def __init__(self, api: str) -> None:
        self.host, self.port, self.prefix = _parse_api(api)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.host_header = f"Host: {host}:{self.port}\r\n"
        self.get_next = self.head("GET", f"{_INVOCATION}/next")
        self.addresses: "list[Any]" = []
        self.sock: "Any" = None
        self.keep = False  # the connection can carry another request
        self.heard = 0.0  # when the last answer of the usual form came; 0: look before what is sent next
        self.accepted = b""  # the bytes of the last answer that said 202
        self.loop: "Any" = None
        self.ending = False  # the process ends: no more events

    def head(self, method: str, path: str, fields: str = "") -> bytes:
        return f"{method} {self.prefix}{path} HTTP/1.1\r\n{self.host_header}{fields}\r\n".encode("ascii")

    def post(self, path: str, fields: str, body: "Buffer") -> "Coroutine[Any, Any, Answer]":
        head = self.head("POST", path, f"{fields}Content-Length: {len(body)}\r\n")
        return self.exchange(self.fit(), head, body, path)

    def refused(self, path: str, answer: "Answer") -> None:
        """A post was not accepted: the end after a 5xx, else one line in the log."""
        status, _, body = answer
        problem = f"POST {path} was answered {status} {bytes(body[:200])!r}"
        if status >= 500:  # "container error": the runtime has to exit promptly
            raise _ApiError(problem)
        _note(problem)  # Lambda has told its caller, and goes on

    async def exchange(self, kept: bool, head: bytes, body: "Buffer" = b"", path: str = "") -> "Answer":
        """Send a request and return status, header fields and body of its answer.

        `kept`: on the connection that stands. `path`: of a post, whose refusal is to be reported.
        """
        while True:
            if not kept:
                self.open()
            try:
                if self.loop is None and len(body) < _RECEIVE and not _forked:
                    self.sock.sendall(head + body)  # 2 us less than send()
                else:
                    await self.send(head, body)
            except OSError as exception:
                if exception.errno is None:
                    raise  # not the kernel's: a signal handler of the function raised it
                # The API may have answered (413) and hung up before it had read all.
            try:
                data = self.sock.recv(_RECEIVE) if self.loop is None else await self.receive()
            except OSError as exception:
                if exception.errno is None:
                    raise
                data = b""
            if data:
                if data == self.accepted:
                    return 202, {}, b""
                self.heard = _monotonic()
                answer = _plain_answer(data)
                if answer is None:
                    answer = await self.answer(data)
                elif answer[0] == 202:
                    self.accepted = data  # of the same second, the next one is the same
                if path and answer[0] >= 300:
                    self.refused(path, answer)
                return answer
            if not kept:
                raise _ApiError("closed the connection without an answer")
            kept = False  # it was closed while idle (RFC 9112, 9.5): once more on a new one

    def stream_head(self, path: str, fields: str, metadata: bool = False) -> bytes:
        """The head of a response stream; after it come feed() and finish()."""
        self.heard = 0.0  # look in any case: a stream cannot be sent once more
        if not self.fit():
            self.open()
        kind = "vnd.awslambda.http-integration-response" if metadata else "octet-stream"
        streaming = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
        trailer = f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n"
        return self.head("POST", path, f"Content-Type: application/{kind}\r\n{streaming}{trailer}{fields}")

    async def feed(self, *parts: "Buffer") -> None:
        try:
            await self.send(*parts)
        except BaseException as exception:
            self.keep = False  # a chunk may be half sent: nothing can follow it
            if isinstance(exception, OSError) and exception.errno is not None:
                raise _HungUp from None
            raise

    async def finish(self, path: str, end: bytes) -> None:
        """End a response stream and read its answer."""
        await self.feed(end)
        try:
            data = await self.more()
        except (OSError, _ApiError):
            self.keep = False
            raise _HungUp from None
        answer = await self.answer(data)
        if answer[0] >= 300:
            self.refused(path, answer)

    def fit(self) -> bool:
        """Whether the kept connection is fit for a request: still open, and nothing came unasked.

        What comes when nothing was asked is no answer to what is asked next (RFC 9112, 9.2).
        Within a millisecond of an answer of the usual form it is not looked at: that takes 4 us.
        """
        if not self.keep or _monotonic() - self.heard < 0.001:
            return self.keep
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except OSError as exception:
            return isinstance(exception, BlockingIOError)
        return False

    def open(self) -> None:
        # Only now is the old socket closed: its descriptor is free for the new one even when
        # the function has used up all others.
        self.close()
        for fd in (0, 1, 2):
            try:
                os.fstat(fd)
            except OSError:  # the function has closed it; what it prints must not come here
                os.open(os.devnull, os.O_RDWR)
        try:
            if not self.addresses:
                host = self.host.encode("ascii")  # as str it would import the idna codec: 7 ms
                self.addresses = _socket.getaddrinfo(host, self.port, 0, _socket.SOCK_STREAM)
            for family, kind, protocol, _, address in self.addresses:
                try:
                    self.sock = _socket.socket(family, kind, protocol)
                    self.sock.setblocking(True)  # whatever socket.setdefaulttimeout() said
                    self.sock.connect(address)
                    break
                except OSError as exception:
                    self.close()
                    refusal = exception
            else:
                raise refusal
        except OSError as exception:
            raise _ApiError(f"cannot connect: {exception.strerror or exception}") from None
        self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.sock.setblocking(self.loop is None)
        self.keep = True

    def close(self) -> None:
        self.keep = False
        if self.sock is not None:
            try:
                self.sock.close()
            except OSError:
                pass  # the function has closed the descriptor
            self.sock = None

    async def ready(self, add: "Any", remove: "Any") -> None:
        future = self.loop.create_future()
        add(self.sock, future.set_result, None)
        try:
            await future
        finally:
            remove(self.sock)

    async def send(self, *parts: "Buffer") -> None:
        """Send all parts, in one call to the kernel where it takes them: no small writes."""
        if _forked:
            # fork() in the handler returned twice: the invocation is the parent's to answer.
            _note("a forked child came back from the function's code; it ends here")
            os._exit(0)
        rest = list(parts)
        while rest:
            try:
                sent = self.sock.sendmsg(rest)
            except BlockingIOError:
                await self.ready(self.loop.add_writer, self.loop.remove_writer)
                continue
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if sent:
                rest[0] = memoryview(rest[0])[sent:]

    async def receive(self) -> bytes:
        """What has come, at least one byte; nothing when the API has closed its side."""
        while True:
            try:
                return self.sock.recv(_RECEIVE)  # type: ignore[no-any-return]
            except BlockingIOError:
                pass
            await self.ready(self.loop.add_reader, self.loop.remove_reader)

    async def more(self) -> bytes:
        data = await self.receive()
        if not data:
            raise _ApiError("closed the connection in the middle of an answer")
        return data

    async def answer(self, data: bytes) -> "Answer":
        """Read the answer that begins with `data` (RFC 9112, sections 4 to 7)."""
        rest = bytearray(data)
        status = 100
        while status < 200:  # 1xx answers precede the one that counts
            status, self.keep, headers = _parse_head(await self.lines(rest))
        # Section 6.3, in its order of precedence.
        body = bytearray()
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if status in (204, 304):
            pass
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise _ApiError("sent Transfer-Encoding other than chunked, or with Content-Length")
            body = await self.chunked(rest)
        elif length is not None:
            size = _content_length(length)
            body, rest = rest[:size], rest[size:]
            if len(body) < size:
                body = await self.fill(body, size)
        else:
            body, rest, self.keep = rest, bytearray(), False
            while data := await self.receive():
                body += data
                _check_size(len(body))
        if rest:  # nobody asked for it, so it answers nothing
            self.keep = False
        self.heard = 0.0  # what follows may be in the kernel still: fit() has to look
        return status, headers, body

    async def line(self, data: bytearray) -> bytearray:
        """Take a line off `data`, which grows as needed, without its LF."""
        while (end := data.find(b"\n")) < 0:
            if len(data) > _LARGEST_HEAD:
                raise _ApiError(f"sent a line of more than {_LARGEST_HEAD} bytes")
            data += await self.more()
        line = data[:end]
        del data[: end + 1]
        return line

    async def lines(self, data: bytearray) -> "list[str]":
        """Take lines up to an empty one off `data`. They may end in LF alone (section 2.2)."""
        lines: "list[str]" = []
        size = 0
        while line := (await self.line(data)).removesuffix(b"\r"):
            text = line.decode("utf-8", "surrogateescape")
            if "\r" in text or "\0" in text:  # "invalid and dangerous" (RFC 9110, 5.5)
                raise _ApiError("sent a bare CR or a NUL in its headers")
            if text[0] in " \t" and lines:  # obs-fold (section 5.2)
                lines[-1] += f" {text[1:]}"
            else:
                lines.append(text)
            size += len(line) + 2
            if size > _LARGEST_HEAD:
                raise _ApiError(f"sent more than {_LARGEST_HEAD} bytes of headers")
        return lines

    async def fill(self, start: bytearray, size: int) -> bytearray:
        """A body of `size` bytes that begins with `start`, received into one buffer."""
        body = bytearray(size)
        body[: len(start)] = start
        have = len(start)
        with memoryview(body) as view:
            while have < size:
                try:
                    count = self.sock.recv_into(view[have:], 0, _socket.MSG_WAITALL)
                except BlockingIOError:
                    await self.ready(self.loop.add_reader, self.loop.remove_reader)
                    continue
                if not count:
                    raise _ApiError(f"hung up after {have} of {size} bytes of an answer")
                have += count
        return body

    async def chunked(self, data: bytearray) -> bytearray:
        """Take a chunked body off `data` (section 7.1), which grows as needed."""
        body = bytearray()
        size = -1
        while size:
            line = await self.line(data)
            digits = line[:-1].partition(b";")[0].rstrip(b" \t")
            broken = line[-1:] != b"\r" or digits.strip(b"0123456789abcdefABCDEF")
            if broken or not 0 < len(digits) <= 16:
                raise _ApiError(f"sent a broken chunk size: {bytes(line[:40])!r}")
            size = int(digits, 16)
            _check_size(len(body) + size)
            if size:
                while len(data) < size + 2:
                    data += await self.more()
                if data[size : size + 2] != b"\r\n":
                    raise _ApiError("sent a chunk longer than its size")
                body += memoryview(data)[:size]
                del data[: size + 2]
        _parse_fields(await self.lines(data))  # nobody asks for trailers, but they have to be sound
        return body


def _parse_api(api: str) -> "tuple[str, int, str]":
    """Host, port and path prefix of AWS_LAMBDA_RUNTIME_API.

    Lambda gives host:port; cargo-lambda's emulator http://host:port/.rt.
    """
    if not api:
        raise _ApiError("is not set: Lambda sets it, and so do its emulators")
    host, _, port = api.rpartition(":")
    number = int(port) if port.isdecimal() and len(port) < 6 else 0
    if api.isascii() and host.replace(".", "").isalnum() and 0 < number < 1 << 16:
        return host, number, ""
    from urllib.parse import quote, urlsplit

    try:
        url = urlsplit(api if "://" in api else f"http://{api}")
        if api.isascii() and url.scheme == "http" and url.hostname:
            return url.hostname, url.port or 80, quote(url.path.rstrip("/"), safe="/%")
    except ValueError:
        pass
    raise _ApiError("is not host:port or http://host:port/path")


# Status lines and field names that the strict parser has found sound; not those that say how
# the answer is framed.
_statuses: "dict[str, int]" = {}
_names: "dict[str, str]" = {}


def _plain_answer(data: bytes) -> "Optional[Answer]":
    """The answer in `data`, if it is whole and has nothing that the strict parser is there for.

    Lambda's answers are such, after the first. It takes a third of the strict parser's time.
    """
    head, empty_line, body = data.partition(b"\r\n\r\n")
    fields = {}
    try:
        text = head.decode("ascii")
        lines = text.split("\r\n")
        status = _statuses[lines.pop(0)]
        for line in lines:
            name, value = line.split(": ", 1)
            fields[_names[name]] = value.strip(" \t")
        sound = fields["content-length"] == str(len(body)) and len(fields) == len(lines)
    except (KeyError, ValueError):
        return None
    if sound and empty_line and text.count("\r") == text.count("\n") == len(lines) and "\0" not in text:
        return status, fields, body
    return None


def _parse_head(lines: "list[str]") -> "tuple[int, bool, Headers]":
    """Status, whether the connection stays open, and header fields (RFC 9112, 4 and 5)."""
    status_line, *lines = lines or [""]
    version, status = status_line[:9], status_line[9:12]
    sound = version in ("HTTP/1.1 ", "HTTP/1.0 ") and status_line[12:13] in ("", " ") and len(status) == 3
    if not (sound and status.isascii() and status.isdecimal()) or status < "100" or status == "101":
        raise _ApiError(f"sent no HTTP answer but {status_line[:80]!r}")
    fields = _parse_fields(lines)
    if version == "HTTP/1.1 " and status in ("200", "202") and len(_statuses) < 20:
        _statuses[status_line] = int(status)
    return int(status), version == "HTTP/1.1 " and "close" not in fields.get("connection", "").lower(), fields


_TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # of RFC 9110, 5.6.2


def _parse_fields(lines: "list[str]") -> "Headers":
    fields: "Headers" = {}
    for line in lines:
        name, colon, value = line.partition(":")
        lower = name.lower()
        # ASCII: the Kelvin sign is a letter whose lower case is a "k".
        if not (colon and name and name.isascii()) or lower.strip(_TOKEN):
            raise _ApiError(f"sent a broken header line: {line[:80]!r}")
        if lower not in ("connection", "transfer-encoding") and len(_names) < 100:
            _names[name] = lower
        value = value.strip(" \t")
        # A field that comes twice is a list (RFC 9110, 5.3).
        fields[lower] = f"{fields[lower]}, {value}" if lower in fields else value
    return fields


def _content_length(value: str) -> int:
    """One length, even if it is said more than once (RFC 9112, 6.3, rule 5)."""
    length, *others = {length.strip(" \t") for length in value.split(",")}
    if others or not (length.isdecimal() and length.isascii() and len(length) < 20):
        raise _ApiError(f"sent a broken Content-Length: {value[:80]!r}")
    return _check_size(int(length))


def _check_size(size: int) -> int:
    if size > _LARGEST_BODY:
        raise _ApiError(f"sent a body of more than {_LARGEST_BODY} bytes")
    return size


def _field(text: str) -> str:
    """Text as a header value: printable ASCII (RFC 9110, 5.5), all else as escapes."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _once(
    api: str, method: str, path: str, fields: "Headers", body: bytes = b"", answered: bool = True
) -> "Any":
    """A call that is made once in the life of a process, on a connection of its own."""
    import http.client

    host, port, prefix = _parse_api(api)
    connection = http.client.HTTPConnection(host, port, timeout=None)
    try:
        connection.request(method, prefix + path, body or None, fields)
        if not answered:
            return connection
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as exception:
        connection.close()
        raise _ApiError(f"{method} {path}: {exception}") from None
    connection.close()
    if response.status >= 300:
        raise _ApiError(f"{method} {path} was answered {response.status} {answer[:200]!r}")
    return response


# ---- The context -----------------------------------------------------------------------------

# The invocation whose code runs here. Follows the function's tasks, and its threads where Python
# hands the context on (asyncio.to_thread, contextvars.copy_context).
_invocation: "ContextVar[Optional[LambdaContext]]" = ContextVar("invocation", default=None)
# The same for threads without a context; None where invocations share the process.
_only_invocation: "Optional[LambdaContext]" = None

_function: "dict[str, Optional[str]]" = {}  # what _read_function() gave before the first event


def _read_function() -> "dict[str, Optional[str]]":
    names = "LOG_GROUP_NAME LOG_STREAM_NAME FUNCTION_NAME FUNCTION_MEMORY_SIZE FUNCTION_VERSION"
    return {name: os.environ.get(f"AWS_LAMBDA_{name}") for name in names.split()}


class LambdaContext:
    """What Lambda tells the handler about an invocation: its second argument.

    `aws_request_id`, `invoked_function_arn`, `tenant_id` and `trace_id` (X-Ray's header) are the
    invocation's; `function_name`, `function_version`, `memory_limit_in_mb` (a str),
    `log_group_name` and `log_stream_name` the function's; `client_context` and `identity` come
    from the AWS Mobile SDK. What Lambda did not give is None.
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(
        self,
        invoke_id: "Optional[str]",
        client_context: "Any",
        cognito_identity: "Any",
        epoch_deadline_time_in_ms: int,
        invoked_function_arn: "Optional[str]" = None,
        tenant_id: "Optional[str]" = None,
        trace_id: "Optional[str]" = None,
    ) -> None:
        function = _function or _read_function()
        self.aws_request_id = invoke_id
        self.log_group_name = function["LOG_GROUP_NAME"]
        self.log_stream_name = function["LOG_STREAM_NAME"]
        self.function_name = function["FUNCTION_NAME"]
        self.memory_limit_in_mb = function["FUNCTION_MEMORY_SIZE"]
        self.function_version = function["FUNCTION_VERSION"]
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self.trace_id = trace_id
        self.identity = CognitoIdentity(cognito_identity or {})
        self.client_context: "Optional[ClientContext]" = None
        self._w3c: "dict[str, str]" = {}
        if client_context is not None:
            w3c = client_context.pop("w3c", None)
            if isinstance(w3c, dict):
                names = ("traceparent", "tracestate", "baggage")
                self._w3c = {name: w3c[name] for name in names if isinstance(w3c.get(name), str)}
            self.client_context = ClientContext(client_context)
        self._epoch_deadline_time_in_ms = epoch_deadline_time_in_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation; 0 when that time has passed."""
        return max(0, self._epoch_deadline_time_in_ms - int(_now() * 1000))

    def w3c(self) -> "dict[str, str]":
        """The W3C trace context: `traceparent`, `tracestate`, `baggage` where given."""
        return dict(self._w3c)

    def log(self, message: object) -> None:
        """Write `message` to the function's log as it is, without a line break."""
        _log(str(message))

    def __repr__(self) -> str:
        names = (
            "aws_request_id log_group_name log_stream_name function_name memory_limit_in_mb "
            "function_version invoked_function_arn client_context identity tenant_id"
        )
        return _describe(self, names.split())


def _describe(thing: "Any", names: "Sequence[str]" = ()) -> str:
    values = ",".join(f"{name}={getattr(thing, name)}" for name in names or thing.__slots__)
    return f"{type(thing).__name__}([{values}])"


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values: "dict[str, Any]") -> None:
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    __repr__ = _describe


class Client:
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, values: "dict[str, Any]") -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    __repr__ = _describe


class ClientContext:
    __slots__ = ("custom", "env", "client")

    def __init__(self, values: "dict[str, Any]") -> None:
        client = values.get("client")
        self.custom = values.get("custom")
        self.env = values.get("env")
        self.client = None if client is None else Client(client)

    __repr__ = _describe


def _make_context(headers: "Headers") -> LambdaContext:
    """The context of the invocation that `headers` announce."""
    get = headers.get
    client, identity = get("lambda-runtime-client-context"), get("lambda-runtime-cognito-identity")
    return LambdaContext(
        headers["lambda-runtime-aws-request-id"],
        _header_object(client, "Client Context") if client else None,
        _header_object(identity, "Cognito Identity") if identity else None,
        _deadline(headers),
        get("lambda-runtime-invoked-function-arn"),
        get("lambda-runtime-aws-tenant-id"),
        get("lambda-runtime-trace-id"),
    )


def _deadline(headers: "Headers") -> int:
    """Unix time in milliseconds; 0 if there is none."""
    deadline = headers.get("lambda-runtime-deadline-ms", "")
    return int(deadline) if deadline.isdecimal() and len(deadline) < 16 else 0


def _header_object(value: str, name: str) -> "Any":
    try:
        parsed = _from_json(value.encode("utf-8", "surrogateescape"))
        if parsed is None or isinstance(parsed, dict):
            return parsed
        raise ValueError(f"not an object: {value[:40]}")
    except Exception as exception:
        message = f"Unable to parse {name} JSON: {exception}"
        raise _Fault("Runtime.LambdaContextUnmarshalError", message) from None


# ---- Finding the handler ---------------------------------------------------------------------


class _Fault(Exception):
    """An error that the runtime itself finds, with the type that Lambda knows it by."""

    def __init__(self, error_type: str, message: str, trace: "Optional[list[str]]" = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


def _set_path(task_root: str) -> None:
    """sys.path as Lambda has it: the function, the layers, the interpreter's own."""
    own = os.path.dirname(__file__)
    packages = f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    rest = [path for path in sys.path if path not in ("", own)]
    sys.path[:] = [task_root, packages, "/opt/python", *rest]


def _find_handler(name: str) -> "Handler":
    """The function that `file.function` names. Raises what becomes the init error."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        message = f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        raise _Fault("Runtime.MalformedHandlerName", message)
    dotted = module_name.replace("/", ".")
    if dotted.partition(".")[0] in (*sys.builtin_module_names, __name__):
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise _Fault("Runtime.BuiltInModuleConflict", message)
    try:
        __import__(dotted)
        module = sys.modules[dotted]
    except ImportError as exception:
        message = f"Unable to import module '{module_name}': {_text(exception)}"
        raise _Fault("Runtime.ImportModuleError", message) from None
    except SyntaxError as exception:
        message = f"Syntax error in module '{module_name}': {_text(exception)}"
        trace = f'  File "{exception.filename}" Line {exception.lineno}\n    {exception.text}'
        raise _Fault("Runtime.UserCodeSyntaxError", message, [trace]) from None
    try:
        return getattr(module, function_name)  # type: ignore[no-any-return]
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise _Fault("Runtime.HandlerNotFound", message) from None


def _is_async(handler: object) -> bool:
    """Whether calling it gives a coroutine or an async generator, as far as can be told."""
    handler = getattr(handler, "func", handler)  # functools.partial
    code = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return bool(getattr(code, "co_flags", 0) & 0x280)  # CO_COROUTINE, CO_ASYNC_GENERATOR


# ---- JSON ------------------------------------------------------------------------------------


class _Decoding:
    """The settings that json.decoder.JSONDecoder gives the C scanner; NaN is refused."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None  # array_hook: from Python 3.15 on
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(name: str) -> "NoReturn":
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Decoding)  # type: ignore[arg-type]


def _from_json(data: "Buffer") -> "Any":
    """The value of a JSON text in UTF-8. Raises ValueError."""
    text = str(data, "utf-8").removeprefix("\ufeff")
    stripped = text.strip(" \t\n\r")
    try:
        value, end = _scan(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, SystemError):  # 3.10 and 3.11 do not import the error that they mean to raise
        pass
    import json

    json.loads(text)  # raises, and says what is wrong and where
    raise ValueError("it is not JSON")  # if that json is the function's own


class _Digits(str):
    """A number's digits, which go out without quotes."""


def _refuse(value: object) -> "NoReturn":
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encoder(encode_string: "Any", default: "Any" = _refuse, markers: "Any" = None) -> "Any":
    return _json.make_encoder(markers, default, encode_string, None, ": ", ", ", False, False, True)


def _encode_string_or_digits(value: str) -> str:
    return str(value) if type(value) is _Digits else _json.encode_basestring(value)


_FLAT = frozenset((str, int, float, bool, type(None)))
_encode = _make_encoder(_json.encode_basestring)
_encode_exact = _make_encoder(_encode_string_or_digits)


def _to_json(value: "Any") -> str:
    """JSON as awslambdaric writes it: UTF-8 unescaped, NaN, and a Decimal's exact digits.

    The C encoder would write a named tuple, which is to be an object, as a list. marshal takes
    nothing but the built-in types: what passes it goes straight to the encoder (for 20 % more
    time than the encoder's alone); anything else is made plain first.
    """
    try:
        inner = [item for item in value.values() if type(item) not in _FLAT] if type(value) is dict else value
        if inner and type(inner) is not str:
            marshal.dumps(inner)
        return "".join(_encode(value, 0))
    except Exception:
        return "".join(_encode_exact(_plain(value, ()), 0))


def _plain(value: "Any", parents: "tuple[int, ...]") -> "Any":
    """The same value in types that the C encoder writes as they are meant."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if id(value) in parents:
        raise ValueError("Circular reference detected")
    parents += (id(value),)
    as_dict = getattr(value, "_asdict", None)
    if callable(as_dict):
        value = as_dict()
    if isinstance(value, dict):
        return {
            key.decode() if isinstance(key, bytes) else key: _plain(item, parents)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, parents) for item in value]
    decimal = sys.modules.get("decimal")
    if isinstance(value, getattr(decimal, "Decimal", ())):
        return _Digits("NaN" if value.is_nan() else value)
    _refuse(value)


def _marshal(value: object) -> bytes:
    """A response as JSON. Raises _Fault."""
    try:
        return _to_json(value).encode()
    except Exception as exception:
        message = f"Unable to marshal response: {_text(exception)}"
        raise _Fault("Runtime.MarshalError", message) from None


# ---- Errors ----------------------------------------------------------------------------------

_LARGEST_CAUSE = 1 << 20  # bytes of the X-Ray header; Lambda refuses more
# Go's HTTP server, which the Runtime API and AWS's emulator are, takes a trailer section of at
# most 4,096 bytes; base64 makes four of three.
_LARGEST_TRAILER = 2700
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException:
        return "<exception str() failed>"


def _frames(traceback: "Optional[TracebackType]") -> "list[Frame]":
    """File, line, function and source line of each call, without the runtime's own.

    `traceback` is not imported: out of file descriptors, its import and its look at the source
    fail, and the error has to be reported all the same.
    """
    frames: "list[Frame]" = []
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        file = frame.f_code.co_filename
        if file != __file__:
            try:
                import linecache

                # From 3.13 on, linecache knows bootstrap's `-c` code by the name that exec() gives too.
                source = "" if file == "<string>" else linecache.getline(file, line, frame.f_globals).strip()
            except BaseException:  # the module may be the function's own
                source = ""
            frames.append((file, line, frame.f_code.co_name, source))
        traceback = traceback.tb_next
    return frames


def _stack_trace(frames: "list[Frame]") -> "list[str]":
    """The frames as Python prints them, a repeated one three times."""
    trace, times = [], 0
    for frame, following in zip(frames, [*frames[1:], None]):
        file, line, name, source = frame
        times += 1
        if times <= 3:
            trace.append(f'  File "{file}", line {line}, in {name}\n' + (f"    {source}\n" if source else ""))
        if frame != following:
            if times > 3:
                trace.append(f"  [Previous line repeated {times - 3} more time{'s' if times > 4 else ''}]\n")
            times = 0
    return trace


def _error(exception: BaseException, request_id: str = "") -> "tuple[dict[str, Any], str]":
    """The error document, for the Runtime API and the log, and the X-Ray cause, in ASCII.

    The document's fields are awslambdaric's. The exception that this one was raised from, or
    while handling, is its `cause`, as in the documents of Lambda's Java runtime.
    """
    fault = exception if isinstance(exception, _Fault) else None
    frames = _frames(exception.__traceback__)
    document: "dict[str, Any]" = {
        "errorMessage": _text(exception),
        "errorType": fault.error_type if fault else type(exception).__name__,
        "requestId": request_id,
        "stackTrace": fault.trace if fault else _stack_trace(frames),
    }
    inner, seen = document, {id(exception)}
    while len(seen) < 10:
        # "raise from" suppresses the context, with None for a cause too.
        cause = exception.__cause__ if exception.__suppress_context__ else exception.__context__
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        inner["cause"] = {
            "errorMessage": _text(cause),
            "errorType": type(cause).__name__,
            "stackTrace": _stack_trace(_frames(cause.__traceback__)),
        }
        inner, exception = inner["cause"], cause
    try:
        working_directory = os.getcwd()
    except OSError:
        working_directory = ""
    kind = "LambdaValidationError" if fault else document["errorType"]
    stack = [{"label": name, "path": file, "line": line} for file, line, name, _ in frames]
    xray_cause = {
        "working_directory": working_directory,
        "exceptions": [{"message": document["errorMessage"], "type": kind, "stack": stack}],
        "paths": list(dict.fromkeys(file for file, *_ in frames)),
    }
    return document, "".join(_make_encoder(_json.encode_basestring_ascii)(xray_cause, 0))


def _report(exception: BaseException, request_id: str = "") -> "tuple[dict[str, Any], str]":
    """Log an error; return its document and X-Ray cause, whatever the exception does."""
    try:
        document, xray_cause = _error(exception, request_id)
        _log_error(document)
    except Exception as problem:  # a hostile __name__, a recursion limit without room
        message = f"the error could not be described: {_text(problem)}"
        document = {"errorMessage": message, "errorType": "Runtime.Unknown", "requestId": request_id}
        document["stackTrace"], xray_cause = [], "{}"
        _note(message)
    return document, xray_cause


def _error_fields(error_type: str) -> str:
    return f"Content-Type: application/json\r\n{_ERROR_TYPE}: {_field(error_type)}\r\n"


def _error_body(document: "dict[str, Any]") -> bytes:
    # backslashreplace writes a lone surrogate as JSON does: \udc80.
    return _to_json(document).encode("utf-8", "backslashreplace")


def _error_trailers(document: "dict[str, Any]") -> bytes:
    """The end of a stream that failed: the last chunk and the trailers announced for it."""
    body, limit = _error_body(document), 500
    while len(body) > _LARGEST_TRAILER:
        short = {key: document[key][:limit] for key in ("errorMessage", "errorType", "requestId")}
        body, limit = _error_body({**short, "stackTrace": []}), limit // 2
    # Base64 by hand: out of file descriptors, binascii cannot be imported.
    body += b" " * (-len(body) % 3)
    bits = int.from_bytes(body, "big")
    base64 = "".join(_BASE64[bits >> shift & 63] for shift in range(8 * len(body) - 6, -1, -6))
    error_type = _field(document["errorType"])[:200]
    return f"0\r\n{_ERROR_TYPE}: {error_type}\r\n{_ERROR_BODY}: {base64}\r\n\r\n".encode()


# ---- Logs ------------------------------------------------------------------------------------

_TEXT_FRAME = 0xA55A0003  # frame types of _LAMBDA_TELEMETRY_LOG_FD; a level adds to it
_JSON_FRAME = 0xA55A0002
_telemetry_fd: "Optional[int]" = None


def _log(text: str, frame: int = _TEXT_FRAME) -> None:
    """Write to the function's log: in a frame where Lambda gave a descriptor for them.

    Straight to the descriptor: the function may have replaced or closed sys.stdout.
    """
    data = text.encode("utf-8", "backslashreplace")
    if _telemetry_fd is None:
        _write(1, data)
    else:
        size, microseconds = len(data).to_bytes(4, "big"), int(_now() * 1e6).to_bytes(8, "big")
        _write(_telemetry_fd, frame.to_bytes(4, "big") + size + microseconds + data)


def _note(message: str) -> None:
    """One line of the runtime's own on stderr."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    _write(2, f"runtime: {line}\n".encode("utf-8", "backslashreplace"))


def _write(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError:
        pass  # the function has closed it; the event still has to be answered


def _level_frame(base: int, level: int) -> int:
    tens = min(50, max(0, level)) // 10
    return base + 4 * (tens + 1) if tens else base


def _json_format() -> bool:
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def _log_error(document: "dict[str, Any]") -> None:
    """Log an error as awslambdaric does: on stdout with CR between the lines of one event."""
    lines, frame = [], _JSON_FRAME
    if _json_format():
        timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_now()))
        lines.append(_to_json({"timestamp": timestamp, "level": "ERROR", **document}))
    else:
        error: "Optional[dict[str, Any]]" = document
        intro, frame = "[ERROR]", _TEXT_FRAME
        while error:
            lines.append(f"{intro} " + ": ".join(filter(None, (error["errorType"], error["errorMessage"]))))
            lines.append("Traceback (most recent call last):")
            for entry in error["stackTrace"]:
                for line in entry.splitlines():
                    text = line.lstrip(" ")
                    lines.append("\u00a0" * (len(line) - len(text)) + text)
            error, intro = error.get("cause"), "Caused by"
    if _telemetry_fd is None:
        _log("\r".join(lines) + "\n")
    else:
        _log("\n".join(lines), _level_frame(frame, 40))


class _LoggingHook:
    """Sets up the root logger when the function first imports logging, before its first line.

    A finder on sys.meta_path, since an import of logging here would cost 15 ms of cold start.
    """

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != "logging":
            return None
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in specs if spec is not None), None)
        load = getattr(spec and spec.loader, "exec_module", None)
        if spec is None or load is None:
            return spec

        def load_and_set_up(module: "Any") -> None:
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            spec.loader.exec_module = load  # type: ignore[union-attr, method-assign]
            load(module)
            _set_up_logging()

        spec.loader.exec_module = load_and_set_up  # type: ignore[union-attr, method-assign]
        return spec


def _set_up_logging() -> None:
    """Give the root logger the handler, the format and the level that awslambdaric gives it."""
    import logging
    import traceback  # logging has imported it

    if not hasattr(logging, "Handler"):
        return  # a module of the function's own that bears the name

    class LambdaLoggerHandler(logging.Handler):
        def filter(self, record: "Any") -> "Any":
            invocation = _invocation.get() or _only_invocation
            record.aws_request_id = invocation.aws_request_id if invocation else ""
            record.tenant_id = invocation.tenant_id if invocation else None
            return super().filter(record)

        def emit(self, record: "Any") -> None:
            text = self.format(record)
            if _telemetry_fd is None and not text.endswith("\n"):
                text += "\n"
            frame = _level_frame(_TEXT_FRAME, record.levelno) if framed_by_level else _TEXT_FRAME
            _log(text, getattr(record, "_frame_type", frame))

    class JsonFormatter(logging.Formatter):
        def format(self, record: "Any") -> str:
            record._frame_type = _level_frame(_JSON_FRAME, record.levelno)
            message = record.msg
            if record.args or not isinstance(message, dict):
                message = record.getMessage()
            failed = record.exc_info
            kind, exception, trace = failed or (None, None, None)
            line = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10),
                "message": message,
                "logger": record.name,
                "stackTrace": traceback.format_tb(trace) if failed else None,
                "errorType": kind.__name__ if kind else None,
                "errorMessage": str(exception) if failed else None,
                "requestId": record.aws_request_id,
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if failed else None,
            }
            if record.tenant_id is not None:
                line["tenantId"] = record.tenant_id
            for name, value in vars(record).items():  # what came as `extra`
                if name not in own and name not in line:
                    line[name] = value
            line = {name: value for name, value in line.items() if value is not None}
            return "".join(_make_encoder(_json.encode_basestring, str, {})(line, 0)) + "\n"

    own = {*vars(logging.makeLogRecord({})), "aws_request_id", "tenant_id", "_frame_type"} - {"taskName"}
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper().replace("TRACE", "DEBUG")
    framed_by_level = _json_format() or bool(level)
    formatter: "logging.Formatter"
    if _json_format():
        formatter = JsonFormatter(datefmt="%Y-%m-%dT%H:%M:%SZ")
    else:
        text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
        formatter = logging.Formatter(text, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = LambdaLoggerHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    if level in logging._nameToLevel:
        root.setLevel(level)


# ---- One invocation --------------------------------------------------------------------------

_DIRECT = frozenset((dict, str, list, type(None), bytes, int, bool, float, tuple))


async def _invoke(
    connection: _Connection, handler: "Handler", headers: "Headers", body: "Buffer", shared: bool
) -> None:
    """Call the handler with one event and post what comes of it; SystemExit passes through."""
    global _only_invocation
    request_id = headers["lambda-runtime-aws-request-id"]
    path = f"{_INVOCATION}/{_path_segment(request_id)}"
    invocation_id = headers.get("lambda-runtime-invocation-id")
    echo = f"Lambda-Runtime-Invocation-Id: {_field(invocation_id)}\r\n" if invocation_id else ""
    streamed = False
    try:
        context = _make_context(headers)
        _invocation.set(context)
        if not shared:
            _only_invocation = context
            if context.trace_id:
                # 1 us less than os.environ, which encodes the name as well.
                os.environb[b"_X_AMZN_TRACE_ID"] = context.trace_id.encode("utf-8", "surrogateescape")
            else:
                os.environ.pop("_X_AMZN_TRACE_ID", None)
        event = _unmarshal(body, headers.get("content-type"))
        del body
        result = handler(event, context)
        del event
        if type(result) not in _DIRECT:
            if hasattr(result, "__await__"):
                if connection.loop is None:
                    await _EventLoopNeeded()
                result = await result
            streamed = hasattr(result, "__aiter__") or hasattr(result, "__next__")
        if isinstance(result, bytes):
            kind, payload = "application/unknown", result
        elif not streamed:
            kind, payload = "application/json", _marshal(result)
    except BaseException as exception:
        await _post_error(connection, path, echo, request_id, exception)
        return
    if streamed:
        await _stream(connection, path, echo, request_id, result)
    else:
        await connection.post(f"{path}/response", f"Content-Type: {kind}\r\n{echo}", payload)


def _path_segment(request_id: str) -> str:
    if request_id.isascii() and request_id.replace("-", "").isalnum():
        return request_id
    from urllib.parse import quote

    return quote(request_id, safe="", errors="surrogateescape")


def _unmarshal(body: "Buffer", content_type: "Optional[str]") -> "Any":
    if content_type is not None and content_type != "application/json":
        if content_type.partition(";")[0].rstrip().lower() != "application/json":
            return bytes(body)
    try:
        return _from_json(body)
    except Exception as exception:
        message = f"Unable to unmarshal input: {_text(exception)}"
        raise _Fault("Runtime.UnmarshalError", message) from None


async def _post_error(
    connection: _Connection, path: str, echo: str, request_id: str, exception: BaseException
) -> None:
    if _forked and isinstance(exception, SystemExit):
        raise exception  # the usual end of a child
    document, xray_cause = _report(exception, request_id)
    fields = _error_fields(document["errorType"]) + echo
    if len(xray_cause) < _LARGEST_CAUSE:
        fields += f"Lambda-Runtime-Function-XRay-Error-Cause: {xray_cause}\r\n"
    await connection.post(f"{path}/error", fields, _error_body(document))
    if isinstance(exception, SystemExit):
        raise exception


async def _stream(connection: _Connection, path: str, echo: str, request_id: str, chunks: "Any") -> None:
    """Post what an iterator yields, each chunk as soon as it is there.

    An error before the first byte is an ordinary one; a later one goes into the trailers.
    """
    begun, end, failure = False, b"0\r\n\r\n", None
    try:
        try:
            iterate = None
            if hasattr(chunks, "__aiter__"):
                if connection.loop is None:
                    await _EventLoopNeeded()
                chunks = chunks.__aiter__()
                iterate = chunks.__anext__
            while True:
                try:
                    chunk = await iterate() if iterate else next(chunks)
                except (StopIteration, StopAsyncIteration):
                    break
                is_metadata = not begun and isinstance(chunk, dict)
                data = _marshal(chunk) if is_metadata else _chunk_bytes(chunk)
                if data:
                    head = b"" if begun else connection.stream_head(f"{path}/response", echo, is_metadata)
                    begun = True
                    # JSON and NULs in chunks of their own: cargo-lambda's emulator wants it so.
                    tail = b"\r\n8\r\n%b\r\n" % bytes(8) if is_metadata else b"\r\n"
                    await connection.feed(head + b"%x\r\n" % len(data), data, tail)
                chunk = data = b""  # the function may want to resize a buffer that it has sent
            if not begun:
                end = connection.stream_head(f"{path}/response", echo) + end
        except (_HungUp, _ApiError):
            raise
        except BaseException as exception:
            if not begun:
                return await _post_error(connection, path, echo, request_id, exception)
            failure = exception if isinstance(exception, SystemExit) else None
            end = _error_trailers(_report(exception, request_id)[0])
            if not connection.keep:
                raise _HungUp from None
        finally:
            await _close(chunks)
        await connection.finish(f"{path}/response", end)
    except _HungUp:
        _note(
            f"the response stream of {request_id} was cut off: the Runtime API hung up, or a chunk was interrupted"
        )
    if failure is not None:
        raise failure


def _chunk_bytes(chunk: "Any") -> "Buffer":
    if isinstance(chunk, bytes):
        return chunk
    try:
        return chunk.encode() if isinstance(chunk, str) else memoryview(chunk).cast("B")
    except UnicodeError as exception:
        reason = str(exception)
    except (TypeError, ValueError):
        hint = " (the metadata comes first)" if isinstance(chunk, dict) else ""
        reason = f"a chunk of a stream is str or bytes-like, not {type(chunk).__name__}{hint}"
    raise _Fault("Runtime.MarshalError", f"Unable to marshal response: {reason}")


async def _close(chunks: "Any") -> None:
    """Close a generator or a file, so that its `finally` runs now."""
    try:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
        elif hasattr(chunks, "close"):
            chunks.close()
    except BaseException as exception:
        _report(exception)


# ---- The loop --------------------------------------------------------------------------------


async def _invocations(
    connection: _Connection, handler: "Handler", shared: bool, invoke: "Any"
) -> SystemExit:
    """Answer one invocation after the other; return how the process is to end."""
    try:
        if connection.loop is None and _is_async(handler):
            await _EventLoopNeeded()  # from the start, so that it runs while `next` waits
        while not connection.ending:
            kept = (connection.keep and connection.heard > 0) or connection.fit()
            # No timeout: Lambda freezes the process while it waits.
            status, headers, body = await connection.exchange(kept, connection.get_next)
            if status == 204:
                continue  # nothing yet: ask again
            if status != 200 or not headers.get("lambda-runtime-aws-request-id"):
                raise _ApiError(f"GET next was answered {status} {bytes(body[:200])!r}, without a request id")
            answering = invoke(connection, handler, headers, body, shared)
            del body  # a large event is freed while the handler runs
            await answering
        return SystemExit(0)
    except SystemExit as exit:
        return exit  # raised, it would be an error of the event loop's
    finally:
        connection.close()  # Python 3.9 with -X dev crashes at its end on a socket that is left open


def _drive(loops: "list[Coroutine[Any, Any, SystemExit]]", connections: "list[_Connection]") -> "NoReturn":
    """Run the loop, or several at a time on one event loop, until it ends."""
    if len(loops) == 1:
        try:
            loops[0].send(None)  # comes back only when an event loop is needed
        except StopIteration as stop:
            raise stop.value from None
    import asyncio

    loop = _event_loop()
    for connection in connections:
        connection.loop = loop
        if connection.sock is not None:
            connection.sock.setblocking(False)
    tasks = [loop.create_task(coroutine) for coroutine in loops]
    for task in tasks:  # the first that ends stops the loop; it goes on for what is cancelled below
        task.add_done_callback(lambda _: connections[0].ending or loop.stop())
    try:
        loop.run_forever()
        for task in tasks:
            if task.done() and not task.cancelled():
                raise task.result()
        _note("the function has stopped the event loop, and with it the runtime")
        sys.exit(0)
    finally:
        for connection in connections:
            connection.ending = True
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest, timeout=0.3))  # Lambda gives 0.5 s
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen, or asyncio would log it
        loop.close()


def _event_loop() -> "Any":
    """The loop that the function's module has set up, with its signal handlers, or a new one."""
    import asyncio
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop = asyncio.get_event_loop()
        if not (loop.is_closed() or loop.is_running()):
            return loop
    except (RuntimeError, DeprecationWarning):
        pass
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


# ---- Lifecycle: initialisation, snapshot, shutdown, concurrency ------------------------------


def _work(api: str, find: "Callable[[], Handler]", share: int = 1, first: bool = True) -> "NoReturn":
    """Initialise the function and serve its invocations until SystemExit or _ApiError.

    `share` is how many invocations this process takes at once if the handler is async.
    """
    connection = _Connection(api)
    connection.open()  # before the function can use up all descriptors
    connections = [connection]
    os.register_at_fork(after_in_child=lambda: _mark_forked(connections))
    if "logging" in sys.modules:
        _set_up_logging()
    else:
        sys.meta_path.insert(0, _LoggingHook())
    try:
        handler = find()
        asynchronous = _is_async(handler)
        if asynchronous:
            _event_loop()  # here, so that what it meets is an init error
    except BaseException as exception:
        _fail_init(connection, exception, 1)
    _prepare_for_sigterm(api, asynchronous, register=first)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        _take_snapshot(api, connection)
    _function.update(_read_function())
    _tell_parent(b"aa" if asynchronous else b"pp")
    invoke = _watched(_invoke) if os.environ.get("PYTHONFAULTHANDLER") else _invoke
    share = share if asynchronous else 1
    connections += [_Connection(api) for _ in range(share - 1)]
    _drive([_invocations(each, handler, share > 1, invoke) for each in connections], connections)


def _mark_forked(connections: "list[_Connection]") -> None:
    """In a child of the function's. It lets go of the connections: held open, a dead parent's
    `next` would be given an event that nobody reads."""
    global _forked, _to_parent
    _forked = True
    if _to_parent >= 0:
        os.close(_to_parent)
        _to_parent = -1
    for connection in connections:
        connection.close()


def _fail_init(
    connection: _Connection, exception: BaseException, status: int, error_type: str = ""
) -> "NoReturn":
    """Report an init error and exit."""
    if _forked and isinstance(exception, SystemExit):
        raise exception  # the usual end of a child
    document, _ = _report(exception)
    fields = _error_fields(error_type or document["errorType"])
    try:
        connection.post(_INIT_ERROR, fields, _error_body(document)).send(None)
    except StopIteration:
        pass  # how a coroutine returns
    finally:
        connection.close()
    sys.exit(status)


def _take_snapshot(api: str, connection: _Connection) -> None:
    """SnapStart: run the function's hooks around the snapshot, for which `restore/next` waits."""
    hooks = sys.modules.get("snapshot_restore_py")
    try:
        for function, args, kwargs in reversed(hooks.get_before_snapshot() if hooks else []):
            function(*args, **kwargs)  # the last registered runs first
        connection.close()  # no connection survives the snapshot
        _once(api, "GET", f"{_RESTORE}/next", {})
    except BaseException as exception:
        _fail_init(connection, exception, 64, "Runtime.BeforeSnapshotError")
    try:
        seed = getattr(sys.modules.get("random"), "seed", None)
        if seed:
            seed()  # or each of a thousand restores would draw the same numbers
        for function, args, kwargs in hooks.get_after_restore() if hooks else []:
            function(*args, **kwargs)
    except BaseException as exception:
        document, _ = _report(exception)
        fields = {_ERROR_TYPE: "Runtime.AfterRestoreError", "Content-Type": "application/json"}
        _once(api, "POST", f"{_RESTORE}/error", fields, _error_body(document))
        sys.exit(65)


_extension: "Any" = None  # the open connection of an extension that waits for no event


def _prepare_for_sigterm(api: str, asynchronous: bool, register: bool) -> None:
    """Have Lambda send SIGTERM before it ends the process, if the function handles it.

    Lambda does so when an extension is registered; an internal one without events will do.
    """
    global _extension
    import _signal  # type: ignore[import-not-found]

    handler = _signal.getsignal(_signal.SIGTERM)
    if not callable(handler):
        return
    if register:
        try:
            fields = {"Lambda-Extension-Name": "python-runtime", "Content-Type": "application/json"}
            response = _once(api, "POST", f"{_EXTENSION}/register", fields, b'{"events": []}')
            identifier = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}
            # Has to be asked for init to end, and is never answered.
            _extension = _once(api, "GET", f"{_EXTENSION}/event/next", identifier, answered=False)
        except Exception as exception:
            _note(f"the SIGTERM handler will not run, no extension could be registered: {exception}")
    if (getattr(handler, "__module__", None) or "").startswith("asyncio") and not asynchronous:
        # loop.add_signal_handler(), but the loop does not run while `next` blocks.
        loop = _event_loop()

        def run_callbacks(signum: int, frame: object) -> None:
            if not loop.is_running():
                loop.call_later(0.3, loop.stop)  # of the 500 ms that Lambda gives
                loop.run_forever()

        _signal.signal(_signal.SIGTERM, run_callbacks)


def _watched(invoke: "Any") -> "Any":
    """`invoke` that dumps all stacks 100 ms before the deadline (PYTHONFAULTHANDLER=1).

    faulthandler's own thread does it, without the GIL, and has no place for a text: the request
    id gets into the dump as the name of the frame that calls the handler. Where an event loop
    runs, a timer of its own comes first, since that thread may not read frames that change; the
    thread follows 20 ms later if the handler blocks the loop.
    """
    import faulthandler

    moments: "dict[object, float]" = {}  # when to dump, of each invocation under way

    def arm() -> None:
        faulthandler.cancel_dump_traceback_later()
        waits = [wait for wait in (moment - _now() for moment in moments.values()) if wait > 0]
        if waits:
            faulthandler.dump_traceback_later(min(waits), file=2)

    async def watched(connection: _Connection, handler: "Handler", headers: "Headers", *rest: "Any") -> None:
        name = f"RequestId: {_field(headers['lambda-runtime-aws-request-id'])}"
        named = type(invoke)(invoke.__code__.replace(co_name=name), invoke.__globals__)
        wait = min(_deadline(headers) / 1000 - 0.1 - _now(), 1e6)
        timer = None

        def dump() -> None:
            del moments[named]
            arm()
            faulthandler.dump_traceback(file=2)
            _dump_tasks(name)

        if connection.loop is not None and wait > 0:
            timer = connection.loop.call_later(wait, dump)
            wait += 0.02
        moments[named] = _now() + wait
        arm()
        try:
            await named(connection, handler, headers, *rest)
        finally:
            moments.pop(named, None)
            arm()
            if timer is not None:
                timer.cancel()

    return watched


def _dump_tasks(name: str) -> None:
    """Say where each task of the event loop waits; faulthandler sees running code only."""
    import asyncio
    import gc

    lines = [f"{name} is about to time out; the tasks that wait:\n"]
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        frames = []
        waiting: "Any" = task.get_coro()
        while waiting is not None:
            # Of __anext__() of an async generator only the collector knows the generator.
            inside = (waiting, *gc.get_referents(waiting))
            known = ((each, kind) for each in inside for kind in ("cr", "ag", "gi"))
            each, kind = next((pair for pair in known if hasattr(pair[0], f"{pair[1]}_frame")), (None, "cr"))
            frame = getattr(each, f"{kind}_frame", None)
            if frame is not None and frame.f_code.co_filename != __file__:
                code = frame.f_code
                frames.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}\n')
            waiting = getattr(each, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
        if frames:
            lines += [f"{task.get_name()}:\n", *frames]
    _write(2, "".join(lines).encode("utf-8", "backslashreplace"))


def _supervise(api: str, find: "Callable[[], Handler]", slots: int) -> "NoReturn":
    """Managed Instances: fork workers that share `slots` concurrent invocations.

    The first worker tells what the handler is: plain handlers get a process for each slot, async
    ones a process for each processor.
    """
    import _signal

    processors = min(slots, len(os.sched_getaffinity(0)))
    workers: "dict[int, tuple[int, int]]" = {}  # by process: its index, and where it tells of itself
    kind, stopping = b"", False  # b"a", async, or b"p", plain: once the first worker has told

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in workers:
            try:
                os.kill(pid, _signal.SIGTERM)
            except ProcessLookupError:
                pass  # it has just been waited for

    def start(index: int) -> int:
        global _to_parent
        reader, writer = os.pipe()
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTERM])
        pid = os.fork()
        if not pid:
            _to_parent = writer
            for _, other in workers.values():
                os.close(other)
            os.close(reader)
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGTERM])
            _redirect_output()
            _work(api, find, len(range(index % processors, slots, processors)), first=not kind)
        workers[pid] = index, reader
        if stopping:
            os.kill(pid, _signal.SIGTERM)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGTERM])
        os.close(writer)
        return reader

    _signal.signal(_signal.SIGTERM, stop)
    kind = os.read(start(0), 1)
    count = {b"a": processors, b"p": slots}.get(kind, 0)
    for index in range(1, count):
        start(index)
    failures = 0
    while workers:
        pid, status = os.wait()
        if pid not in workers:
            continue  # a child of what the interpreter was before
        index, reader = workers.pop(pid)
        told = os.read(reader, 3)
        os.close(reader)
        if stopping:
            continue
        if not count:  # the init error is reported
            sys.exit(os.WEXITSTATUS(status) or 1)
        # One that could not start, or found no Runtime API: the next will hardly fare better.
        failures = 0 if told[-1:] == kind else failures + 1
        if failures > 3:
            stop(0, None)
        else:
            time.sleep(failures / 10)
            start(index)
    sys.exit(int(failures > 3))


# A worker's pipe. Once it is ready, the kind of its handler: twice, since _supervise() takes one from
# the first worker, and looks for one when a worker ends. "!" if the API is gone.
_to_parent = -1


def _tell_parent(fact: bytes) -> None:
    if _to_parent >= 0:
        try:
            os.write(_to_parent, fact)
        except OSError:
            pass  # it has gone; the Runtime API will tell


def _redirect_output() -> None:
    """Connect stdout and stderr to the log socket of Managed Instances, one connection each."""
    path = os.environ.get("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET", "")
    try:
        for fd in (1, 2) if path else ():
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            sock.connect(path)
            os.dup2(sock.fileno(), fd)
            sock.close()
    except OSError as exception:
        _note(f"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET={path}: {exception.strerror}")


# ---- run() and main() ------------------------------------------------------------------------


def run(handler: "Handler") -> "NoReturn":
    """Serve invocations with `handler(event, context)` until Lambda ends the process.

    For a script that is its own bootstrap. The handler may be any callable: what it returns goes
    out as JSON (bytes as they are), an awaitable is awaited, an iterator or async iterator is
    streamed. Raises SystemExit: with status 1 when the Runtime API cannot be reached or
    misbehaves, and when the handler does.
    """
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not getattr(stream, "write_through", True):  # make it unbuffered, as `python -u` does
            stream.flush()
            raw = open(fd, "wb", 0, closefd=False)
            setattr(sys, name, type(stream)(raw, stream.encoding, stream.errors, write_through=True))
    _start(lambda: handler)


def main() -> "NoReturn":
    """Serve invocations with the handler that `_HANDLER` names: what `bootstrap` calls."""
    task_root = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()

    def find() -> "Handler":
        os.chdir(task_root)
        return _find_handler(os.environ.get("_HANDLER", ""))

    sys.argv[:] = [__file__]
    _set_path(task_root)
    _start(find)


def _start(find: "Callable[[], Handler]") -> "NoReturn":
    global _telemetry_fd
    api = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    telemetry_fd = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
    slots = os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "")
    status = 1
    try:
        if slots.isdecimal() and int(slots):
            _supervise(api, find, int(slots))
        if telemetry_fd.isdecimal():
            _telemetry_fd = int(telemetry_fd)
        _work(api, find)
    except Exception as exception:
        if isinstance(exception, _ApiError) or getattr(exception, "errno", None) is not None:
            name = f"AWS_LAMBDA_RUNTIME_API={api}:" if api else "AWS_LAMBDA_RUNTIME_API"
            _note(f"{name} {getattr(exception, 'strerror', exception)}")
            _tell_parent(b"!")
        else:
            _report(exception)  # from a signal handler of the function's
    except KeyboardInterrupt:
        status = 130
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            status = exit.code or 0
        else:
            _write(2, f"{exit.code}\n".encode("utf-8", "backslashreplace"))
    if _extension is not None:
        _extension.close()
    import _signal

    # A thread which the function has left must not keep the process alive.
    _signal.signal(_signal.SIGALRM, lambda signum, frame: os._exit(status))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
    _signal.alarm(1)
    sys.exit(status)
