"""A Python runtime for AWS Lambda, in one file on the standard library.

`bootstrap` calls `main()`. It puts the function's folders on `sys.path`, resolves
`_HANDLER` (`file.function`) and reports what goes wrong on the way as an init error.
Then it loops until Lambda ends the process: get the next event from the Runtime API,
call the handler, post the response, the stream or the error. A script that is its own
bootstrap calls `run(handler)` instead.

The loop is written once, as a coroutine. For a plain function its socket blocks, so no
`await` in it ever suspends and asyncio is never imported. The first handler that needs
an event loop gets one, and the same coroutine goes on as a task on it.

The Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

# Each import is paid at every cold start. json, socket and contextvars are taken at
# their C modules: `import json, socket` costs 12 ms where `python -c pass` takes 19.
import _json
import _socket
import itertools
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

__all__ = ["LambdaContext", "main", "run"]

_INVOCATION = "/2018-06-01/runtime/invocation"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_RESTORE = "/2018-06-01/runtime/restore"
_EXTENSION = "/2020-01-01/extension"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"

_now = time.time  # a function may replace it
_forked = False  # true in a child that the function has forked


# ---- The Runtime API client ----------------------------------------------------------

_RECEIVE = 1 << 16  # bytes asked of the kernel at once: head and event of most invocations
_LARGEST_HEAD = 1 << 20  # bytes; Lambda's own heads are below 8 kB
_LARGEST_BODY = 1 << 28  # bytes; Lambda's largest event is 6 MB: more is a broken length


class _ApiError(Exception):
    """The Runtime API is not there, broke HTTP or broke its own rules: the runtime ends."""


class _HungUp(Exception):
    """The Runtime API closed the connection in the middle of a response stream."""


class _EventLoopNeeded:
    """Awaited where an event loop is needed: suspends up to _drive(), which makes one."""

    def __await__(self) -> "Any":
        yield


class _Connection:
    """One keep-alive connection to the Runtime API: all the HTTP of the loop.

    While `loop` is None the socket blocks and the coroutines here never suspend. With a
    loop the socket does not block, and they wait on the loop.
    """

    def __init__(self, api: str) -> None:
        self.host, self.port, self.prefix = _parse_api(api)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.host_header = f"Host: {host}:{self.port}\r\n"
        self.get_next = self.request("GET", f"{_INVOCATION}/next")
        self.addresses: "list[Any]" = []
        self.sock: "Any" = None
        self.keep = False
        self.loop: "Any" = None

    def begin(self, path: str, fields: str, content_type: str) -> bytes:
        """The head of a response stream, on a connection that is fit to carry it."""
        if not self.usable():
            self.open()
        fields += (
            f"Content-Type: {content_type}\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\n"
            "Transfer-Encoding: chunked\r\n"
            f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n"
        )
        return self.request("POST", path, fields)

    def request(self, method: str, path: str, fields: str = "") -> bytes:
        head = f"{method} {self.prefix}{path} HTTP/1.1\r\n{self.host_header}{fields}\r\n"
        return head.encode("ascii")

    async def next(self) -> "tuple[Headers, Buffer]":
        """Header fields and body of the next event. No timeout: Lambda freezes the process."""
        while True:
            status, headers, body = await self.exchange(self.get_next)
            if status == 200 and headers.get("lambda-runtime-aws-request-id"):
                return headers, body
            if status != 204:  # 204: nothing yet, ask again
                raise _ApiError(f"answered {status} without a request id to GET next: {bytes(body[:200])!r}")

    async def post(self, path: str, fields: str, body: "Buffer") -> int:
        """Post an answer; log a refusal (4xx: Lambda has told its caller already)."""
        fields = f"{fields}Content-Length: {len(body)}\r\n"
        status, _, answer = await self.exchange(self.request("POST", path, fields), body)
        return self.accepted(path, status, answer)

    def accepted(self, path: str, status: int, answer: "Buffer") -> int:
        if status >= 500:  # "container error": the runtime has to exit promptly
            raise _ApiError(f"answered {status} to POST {path}: {bytes(answer[:200])!r}")
        if status >= 300:
            _note(f"the Runtime API answered {status} to POST {path}: {bytes(answer[:200])!r}")
        return status

    async def exchange(self, *request: "Buffer") -> "tuple[int, Headers, Buffer]":
        """Send a request and return status, header fields and body of its answer."""
        kept = self.usable()
        while True:
            if not kept:
                self.open()
            try:
                await self.send(*request)
            except ConnectionError:
                pass  # it may have answered (413) and hung up before it had read all
            data = await self.receive()
            if data:
                return await self.answer(data)
            if not kept:
                raise _ApiError("closed the connection without an answer")
            kept = False  # it was closed while idle (RFC 9112, 9.5): once more on a new one

    async def feed(self, *parts: "Buffer") -> None:
        """Send a part of a stream."""
        try:
            await self.send(*parts)
        except ConnectionError:
            self.keep = False
            raise _HungUp from None

    async def finish(self, path: str, end: bytes) -> None:
        """End a stream and read its answer."""
        await self.feed(end)
        data = await self.receive()
        if not data:
            self.keep = False
            raise _HungUp
        status, _, answer = await self.answer(data)
        self.accepted(path, status, answer)

    def usable(self) -> bool:
        """Whether the kept connection can carry a request.

        Bytes that come when nothing was asked are no answer (RFC 9112, 9.2).
        """
        if not self.keep:
            return False
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def open(self) -> None:
        # Only now is the old socket closed: its descriptor is free for the new one even
        # when the function has used up all others.
        self.close()
        try:
            if not self.addresses:
                self.addresses = _socket.getaddrinfo(self.host, self.port, 0, _socket.SOCK_STREAM)
            for family, kind, protocol, _, address in self.addresses:
                self.sock = _socket.socket(family, kind, protocol)
                try:
                    self.sock.connect(address)
                    break
                except OSError as exception:
                    self.close()
                    refusal = exception
            else:
                raise refusal
        except OSError as exception:
            raise _ApiError(f"cannot connect: {exception.strerror}") from None
        self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.sock.setblocking(self.loop is None)

    def close(self) -> None:
        self.keep = False
        if self.sock is not None:
            self.sock.close()
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
            _note("a forked child came back from the handler; it ends here")
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
        """What has come, at least one byte; nothing when the API has hung up."""
        while True:
            try:
                return self.sock.recv(_RECEIVE)  # type: ignore[no-any-return]
            except BlockingIOError:
                await self.ready(self.loop.add_reader, self.loop.remove_reader)
            except ConnectionError:
                return b""

    async def more(self) -> bytes:
        data = await self.receive()
        if not data:
            raise _ApiError("closed the connection in the middle of an answer")
        return data

    async def answer(self, data: bytes) -> "tuple[int, Headers, Buffer]":
        """Read the answer that begins with `data` (RFC 9112, sections 4 to 7)."""
        status = 100
        while status < 200:  # 1xx answers precede the one that counts
            split = _split_head(data)
            while split is None:
                if len(data) > _LARGEST_HEAD:
                    raise _ApiError(f"sent more than {_LARGEST_HEAD} bytes of headers")
                data += await self.more()
                split = _split_head(data)
            head, data = split
            version, status, headers = _parse_head(head)
        # Section 6.3, in its order of precedence.
        body: "Buffer"
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        self.keep = version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
        if status in (204, 304):
            body, rest = b"", data
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise _ApiError("sent Transfer-Encoding other than chunked, or with Content-Length")
            body, rest = await self.chunked(bytearray(data))
        elif length is not None:
            size = _content_length(length)
            body, rest = data[:size], data[size:]
            if len(body) < size:
                body = await self.fill(body, size)
        else:
            chunks = [data]
            while chunks[-1]:
                chunks.append(await self.receive())
            body, rest, self.keep = b"".join(chunks), b"", False
        if rest:  # nobody asked for it, so it answers nothing
            self.keep = False
        return status, headers, body

    async def fill(self, start: bytes, size: int) -> bytearray:
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
                except ConnectionError:
                    count = 0
                if not count:
                    raise _ApiError(f"hung up after {have} of {size} bytes of an answer")
                have += count
        return body

    async def chunked(self, data: bytearray) -> "tuple[bytearray, bytearray]":
        """Decode a chunked body (section 7.1); return it and what came behind it."""
        body = bytearray()
        lines: "list[str]" = []
        size = -1
        while size:
            line = await self.line(data)
            digits = line.partition(";")[0].rstrip(" \t")
            if not digits or digits.strip("0123456789abcdefABCDEF") or len(digits) > 16:
                raise _ApiError(f"sent a broken chunk size: {digits[:40]!r}")
            size = int(digits, 16)
            if len(body) + size > _LARGEST_BODY:
                raise _ApiError(f"sent a body of more than {_LARGEST_BODY} bytes")
            if size:
                while len(data) < size + 2:
                    data += await self.more()
                if data[size : size + 2] != b"\r\n":
                    raise _ApiError("sent a chunk longer than its size")
                body += memoryview(data)[:size]
                del data[: size + 2]
        while not lines or lines[-1]:
            lines.append(await self.line(data))
        _parse_fields(lines[:-1])  # trailers: nobody asks for them, but they have to be sound
        return body, data

    async def line(self, data: bytearray) -> str:
        """Take a line off `data`, which grows as needed."""
        while True:
            end = data.find(b"\r\n")
            if end >= 0:
                break
            if len(data) > _RECEIVE:
                raise _ApiError("sent a chunk header that does not end")
            data += await self.more()
        line = data[:end].decode("utf-8", "surrogateescape")
        del data[: end + 2]
        return line


def _parse_api(api: str) -> "tuple[str, int, str]":
    """Host, port and path prefix of AWS_LAMBDA_RUNTIME_API.

    Lambda gives host:port; cargo-lambda's emulator http://host:port/.rt.
    """
    host, _, port = api.rpartition(":")
    if host.replace(".", "").isalnum() and port.isdigit():
        return host, int(port), ""
    from urllib.parse import quote, urlsplit

    try:
        url = urlsplit(api if "://" in api else f"http://{api}")
        if url.scheme == "http" and url.hostname:
            return url.hostname, url.port or 80, quote(url.path.rstrip("/"), safe="/%")
    except ValueError:
        pass
    raise _ApiError("is not host:port or http://host:port/path")


def _split_head(data: bytes) -> "Optional[tuple[bytes, bytes]]":
    """An answer's head and what follows it, or None before the empty line has come.

    A line may end in LF alone (RFC 9112, 2.2).
    """
    crlf = data.find(b"\n\r\n")
    lf = data.find(b"\n\n", 0, crlf) if crlf >= 0 else data.find(b"\n\n")
    if lf >= 0:
        return data[: lf + 1], data[lf + 2 :]
    if crlf >= 0:
        return data[: crlf + 1], data[crlf + 3 :]
    return None


def _parse_head(head: bytes) -> "tuple[str, int, Headers]":
    """HTTP version, status and header fields (RFC 9112, sections 4 and 5)."""
    text = str(head, "utf-8", "surrogateescape").replace("\r\n", "\n")
    if "\r" in text or "\0" in text:  # "invalid and dangerous" (RFC 9110, 5.5)
        raise _ApiError("sent a bare CR or a NUL in its headers")
    if "\n " in text or "\n\t" in text:  # obs-fold (RFC 9112, 5.2)
        text = text.replace("\n\t", "\n ").replace("\n ", " ")
    status_line, *lines = text.split("\n")
    version, status = status_line[:8], status_line[9:12]
    if not (
        version in ("HTTP/1.1", "HTTP/1.0")
        and status.isascii()
        and status.isdigit()
        and len(status) == 3
        and status_line[8] == " "
        and status_line[12:13] in ("", " ")
        and status != "101"  # nobody asked to change the protocol
        and status >= "100"
    ):
        raise _ApiError(f"sent no HTTP answer but {status_line[:80]!r}")
    lines.pop()  # what follows the last line break
    return version, int(status), _parse_fields(lines)


_field_names: "Headers" = {}  # as they came: in lower case. Lambda sends the same every time


def _parse_fields(lines: "list[str]") -> "Headers":
    fields: "Headers" = {}
    for line in lines:
        name, colon, value = line.partition(":")
        known = _field_names.get(name)
        if known is None:
            known = name.lower()
            if not colon or not known or known.strip("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"):
                raise _ApiError(f"sent a broken header line: {line[:80]!r}")
            if len(_field_names) < 100:
                _field_names[name] = known
        value = value.strip(" \t")
        # A field that comes twice is a list (RFC 9110, 5.3).
        fields[known] = f"{fields[known]}, {value}" if known in fields else value
    return fields


def _content_length(value: str) -> int:
    """One length, even if it is said more than once (RFC 9112, 6.3, rule 5)."""
    lengths = {length.strip(" \t") for length in value.split(",")}
    length = lengths.pop()
    if lengths or not length.isdigit() or not length.isascii() or len(length) > 20:
        raise _ApiError(f"sent a broken Content-Length: {value[:80]!r}")
    if int(length) > _LARGEST_BODY:
        raise _ApiError(f"sent a body of more than {_LARGEST_BODY} bytes")
    return int(length)


def _field(text: str) -> str:
    """Text as a header value: printable ASCII (RFC 9110, 5.5), all else as escapes."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _once(
    api: str, method: str, path: str, fields: "Headers", body: bytes = b"", answered: bool = True
) -> "Any":
    """A call that is made once in the life of a process, on a connection of its own."""
    import http.client

    host, port, prefix = _parse_api(api)
    connection = http.client.HTTPConnection(host, port)
    connection.request(method, prefix + path, body or None, fields)
    if not answered:
        return connection
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    if response.status >= 300:
        raise _ApiError(f"answered {response.status} to {method} {path}: {answer[:200]!r}")
    return response


# ---- The context ---------------------------------------------------------------------

# The invocation whose code runs here: follows the function's tasks, and its threads
# where Python hands the context on (asyncio.to_thread; every thread from 3.14t on).
_invocation: "ContextVar[Optional[LambdaContext]]" = ContextVar("invocation", default=None)
# The same for threads that were started without a context. Stays None where
# invocations share the process.
_only_invocation: "Optional[LambdaContext]" = None

_FUNCTION = {
    "log_group_name": "AWS_LAMBDA_LOG_GROUP_NAME",
    "log_stream_name": "AWS_LAMBDA_LOG_STREAM_NAME",
    "function_name": "AWS_LAMBDA_FUNCTION_NAME",
    "memory_limit_in_mb": "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "function_version": "AWS_LAMBDA_FUNCTION_VERSION",
}
_function: "dict[str, Optional[str]]" = {}  # read once, before the first invocation


def _read_function() -> "dict[str, Optional[str]]":
    return {name: os.environ.get(variable) for name, variable in _FUNCTION.items()}


class LambdaContext:
    """What Lambda tells the handler about an invocation, its second argument.

    `aws_request_id`, `invoked_function_arn`, `tenant_id` and `trace_id` (the X-Ray
    header) are the invocation's own; `function_name`, `function_version`,
    `memory_limit_in_mb` (a str), `log_group_name` and `log_stream_name` the function's;
    `client_context` and `identity` come from the AWS Mobile SDK. A value that Lambda did
    not give is None. https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    log_group_name: "Optional[str]"
    log_stream_name: "Optional[str]"
    function_name: "Optional[str]"
    memory_limit_in_mb: "Optional[str]"
    function_version: "Optional[str]"

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
        self.__dict__.update(_function or _read_function())
        self.aws_request_id = invoke_id
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self.trace_id = trace_id
        self.identity = CognitoIdentity(cognito_identity)
        self._epoch_deadline_time_in_ms = epoch_deadline_time_in_ms
        self._w3c: "dict[str, str]" = {}
        self.client_context: "Optional[ClientContext]" = None
        if client_context is not None:
            w3c = client_context.pop("w3c", None)
            if isinstance(w3c, dict):
                names = ("traceparent", "tracestate", "baggage")
                self._w3c = {name: w3c[name] for name in names if isinstance(w3c.get(name), str)}
            self.client_context = ClientContext(client_context)

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
        ).split()
        return _describe(self, names)


def _describe(thing: object, names: "Any") -> str:
    values = ",".join(f"{name}={getattr(thing, name)}" for name in names)
    return f"{type(thing).__name__}([{values}])"


class _Record:
    """A part of the context: an attribute for each slot, from the key of that name."""

    __slots__ = ()

    def __init__(self, values: "Any") -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    def __repr__(self) -> str:
        return _describe(self, self.__slots__)


class CognitoIdentity(_Record):
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values: "Any") -> None:
        values = values or {}
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")


class Client(_Record):
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")


class ClientContext(_Record):
    __slots__ = ("custom", "env", "client")

    def __init__(self, values: "Any") -> None:
        super().__init__(values)
        if self.client is not None:
            self.client: "Any" = Client(self.client)


def _make_context(headers: "Headers") -> LambdaContext:
    """The context of the invocation that `headers` announce."""
    get = headers.get
    deadline = get("lambda-runtime-deadline-ms", "")
    return LambdaContext(
        headers["lambda-runtime-aws-request-id"],
        _header_object(get("lambda-runtime-client-context"), "Client Context"),
        _header_object(get("lambda-runtime-cognito-identity"), "Cognito Identity"),
        int(deadline) if deadline.isdigit() and len(deadline) < 20 else 0,
        get("lambda-runtime-invoked-function-arn"),
        get("lambda-runtime-aws-tenant-id"),
        get("lambda-runtime-trace-id"),
    )


def _header_object(value: "Optional[str]", name: str) -> "Any":
    if not value:
        return None
    try:
        parsed = _from_json(value.encode("utf-8", "surrogateescape"))
        if parsed is None or isinstance(parsed, dict):
            return parsed
        raise ValueError(f"it is not an object: {value[:40]}")
    except Exception as exception:
        message = f"Unable to parse {name} JSON: {exception}"
        raise _Fault("Runtime.LambdaContextUnmarshalError", message) from None


# ---- Finding the handler -------------------------------------------------------------


class _Fault(Exception):
    """An error that the runtime itself finds, with the type that Lambda knows it by."""

    def __init__(self, error_type: str, message: str, trace: "Optional[list[str]]" = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


def _set_path(task_root: str) -> None:
    """sys.path as Lambda has it: the function, the layers, the interpreter's own."""
    own = os.path.dirname(__file__)
    library = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    rest = [path for path in sys.path if path not in ("", own)]
    sys.path[:] = [task_root, f"/opt/python/lib/{library}/site-packages", "/opt/python", *rest]


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
        raise _Fault("Runtime.ImportModuleError", message) from exception
    except SyntaxError as exception:
        message = f"Syntax error in module '{module_name}': {_text(exception)}"
        trace = f'  File "{exception.filename}" Line {exception.lineno}\n    {exception.text}'
        raise _Fault("Runtime.UserCodeSyntaxError", message, [trace]) from exception
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


# ---- JSON ----------------------------------------------------------------------------


class _Decoding:
    """The settings that json.decoder.JSONDecoder gives the C scanner, but for one."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(name: str) -> "NoReturn":
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Decoding)


def _from_json(data: "Buffer") -> "Any":
    """The value of a JSON text in UTF-8. Raises ValueError."""
    text = str(data, "utf-8").strip(" \t\n\r\ufeff")
    try:
        value, end = _scan(text, 0)
    except StopIteration as stop:
        raise ValueError(_at("Expecting value", text, stop.value)) from None
    if end != len(text):
        raise ValueError(_at("Extra data", text, end))
    return value


def _at(message: str, text: str, index: int) -> str:
    line, column = text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)
    return f"{message}: line {line} column {column} (char {index})"


class _Digits(str):
    """A number's digits, which go out without quotes."""


def _refuse(value: object) -> "NoReturn":
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encoder(encode_string: "Any") -> "Any":
    return _json.make_encoder(None, _refuse, encode_string, None, ": ", ", ", False, False, True)


def _encode_string_or_digits(value: str) -> str:
    return str(value) if type(value) is _Digits else _json.encode_basestring(value)


_encode = _make_encoder(_json.encode_basestring)
_encode_exact = _make_encoder(_encode_string_or_digits)


def _to_json(value: object, default: "Callable[[object], object]" = _refuse) -> str:
    """JSON as awslambdaric writes it: UTF-8 unescaped, NaN, and a Decimal's exact digits.

    The C encoder takes a named tuple, which goes out as an object, for a tuple. marshal
    takes nothing but the built-in types: what passes it can go straight to the encoder
    (an extra 20 % of the encoder's time); the rest is made plain first.
    """
    try:
        marshal.dumps(value)
        return "".join(_encode(value, 0))
    except Exception:
        return "".join(_encode_exact(_plain(value, default, ()), 0))


def _plain(value: "Any", default: "Callable[[object], object]", parents: "tuple[int, ...]") -> "Any":
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
            key.decode() if isinstance(key, bytes) else key: _plain(item, default, parents)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, default, parents) for item in value]
    decimal = sys.modules.get("decimal")
    if decimal and isinstance(value, decimal.Decimal):
        return _Digits("NaN" if value.is_nan() else value)
    return _plain(default(value), default, parents)


def _marshal_response(value: object) -> bytes:
    try:
        return _to_json(value).encode()
    except Exception as exception:
        message = f"Unable to marshal response: {_text(exception)}"
        raise _Fault("Runtime.MarshalError", message) from None


# ---- Errors --------------------------------------------------------------------------

_LARGEST_CAUSE = 1 << 20  # bytes of the X-Ray header; Lambda refuses more
# Go's HTTP server, which the Runtime API and AWS's emulator are, takes a trailer section
# of at most 4,096 bytes; base64 makes four of three.
_LARGEST_TRAILER = 2900


def _text(exception: BaseException) -> str:
    try:
        return str(exception)
    except BaseException:
        return "<exception str() failed>"


def _frames(traceback: "Optional[TracebackType]") -> "list[tuple[str, int, str, str]]":
    """File, line, function and source line of each call, without the runtime's own.

    `traceback` is not imported: out of file descriptors, its import and its look at the
    source fail, and the error has to be reported all the same.
    """
    frames = []
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        code = frame.f_code
        if frames or code.co_filename != __file__:
            try:
                import linecache

                source = linecache.getline(code.co_filename, line, frame.f_globals).strip()
            except Exception:
                source = ""
            frames.append((code.co_filename, line, code.co_name, source))
        traceback = traceback.tb_next
    return frames


def _stack_trace(frames: "list[tuple[str, int, str, str]]") -> "list[str]":
    """The frames as Python prints them, a repeated one three times."""
    trace = []
    for (file, line, name, source), group in itertools.groupby(frames):
        count = len(list(group))
        entry = f'  File "{file}", line {line}, in {name}\n' + (f"    {source}\n" if source else "")
        trace += [entry] * min(count, 3)
        if count > 3:
            trace.append(f"  [Previous line repeated {count - 3} more time{'s' if count > 4 else ''}]\n")
    return trace


def _error(exception: BaseException, request_id: str = "") -> "tuple[dict[str, Any], str]":
    """The error document, for the Runtime API and the log, and the X-Ray cause, in ASCII.

    The document's fields are awslambdaric's. The exception that this one was raised from,
    or while handling, is its `cause`, as in the documents of Lambda's Java runtime.
    """
    fault = exception if isinstance(exception, _Fault) else None
    frames = [] if fault else _frames(exception.__traceback__)
    error_type = fault.error_type if fault else type(exception).__name__
    document: "dict[str, Any]" = {
        "errorMessage": _text(exception),
        "errorType": error_type,
        "requestId": request_id,
        "stackTrace": fault.trace if fault else _stack_trace(frames),
    }
    inner, effect, seen = document, exception, {id(exception)}
    while not fault and len(seen) < 10:
        cause = effect.__cause__ or (None if effect.__suppress_context__ else effect.__context__)
        if cause is None or id(cause) in seen:
            break
        seen.add(id(cause))
        inner["cause"] = {
            "errorMessage": _text(cause),
            "errorType": type(cause).__name__,
            "stackTrace": _stack_trace(_frames(cause.__traceback__)),
        }
        inner, effect = inner["cause"], cause

    try:
        working_directory = os.getcwd()
    except OSError:
        working_directory = ""
    xray = {
        "message": document["errorMessage"],
        "type": "LambdaValidationError" if fault else error_type,
        "stack": [{"label": name, "path": file, "line": line} for file, line, name, _ in frames],
    }
    paths = list(dict.fromkeys(file for file, *_ in frames))
    xray_cause = {"working_directory": working_directory, "exceptions": [xray], "paths": paths}
    return document, "".join(_make_encoder(_json.encode_basestring_ascii)(xray_cause, 0))


def _error_fields(error_type: str) -> str:
    return f"Content-Type: application/json\r\n{_ERROR_TYPE}: {_field(error_type)}\r\n"


def _error_body(document: "dict[str, Any]") -> bytes:
    # backslashreplace writes a lone surrogate as JSON does: \udc80.
    return _to_json(document).encode("utf-8", "backslashreplace")


def _error_trailers(document: "dict[str, Any]") -> bytes:
    """The end of a stream that failed: the last chunk and the trailers announced for it."""
    import binascii

    body = _error_body(document)
    if len(body) > _LARGEST_TRAILER:
        short = {key: document[key][:500] for key in ("errorMessage", "errorType", "requestId")}
        body = _error_body({**short, "stackTrace": []})
    error = binascii.b2a_base64(body[:_LARGEST_TRAILER], newline=False).decode()
    error_type = _field(document["errorType"])[:500]
    return f"0\r\n{_ERROR_TYPE}: {error_type}\r\n{_ERROR_BODY}: {error}\r\n\r\n".encode()


# ---- Logs ----------------------------------------------------------------------------

_TEXT_FRAME = 0xA55A0003  # frame types of _LAMBDA_TELEMETRY_LOG_FD; a level adds to it
_telemetry_fd: "Optional[int]" = None


def _log(text: str, frame: int = _TEXT_FRAME) -> None:
    """Write to the function's log: in a frame where Lambda gave a descriptor for them.

    Straight to the descriptor: a function may have replaced or closed sys.stdout.
    """
    data = text.encode("utf-8", "backslashreplace")
    if _telemetry_fd is not None:
        size, microseconds = len(data).to_bytes(4, "big"), int(_now() * 1e6).to_bytes(8, "big")
        data = frame.to_bytes(4, "big") + size + microseconds + data
    _write(1 if _telemetry_fd is None else _telemetry_fd, data)


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


def _frame(level: int, base: int = _TEXT_FRAME) -> int:
    tens = min(50, max(0, level)) // 10
    return base + 4 * (tens + 1) if tens else base


def _json_format() -> bool:
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def _log_error(document: "dict[str, Any]") -> None:
    """Log an error as awslambdaric does: with CR inside on stdout, so that it stays one event."""
    if _json_format():
        timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_now()))
        text = _to_json({"timestamp": timestamp, "level": "ERROR", **document})
        frame = _frame(40, _TEXT_FRAME - 1)
    else:
        lines = []
        error, intro = document, "[ERROR]"
        while error:
            colon = ": " if error["errorType"] and error["errorMessage"] else ""
            lines.append(f"{intro} {error['errorType']}{colon}{error['errorMessage']}")
            lines.append("Traceback (most recent call last):")
            for entry in error["stackTrace"]:
                for line in entry.splitlines():
                    text = line.lstrip(" ")
                    lines.append("\u00a0" * (len(line) - len(text)) + text)
            error, intro = error.get("cause"), "Caused by"
        text = ("\r" if _telemetry_fd is None else "\n").join(lines)
        frame = _frame(40)
    _log(text if _telemetry_fd is not None else text + "\n", frame)


class _LoggingHook:
    """Sets up the root logger when the function first imports logging, before its first line.

    A finder on sys.meta_path: importing logging here would cost each cold start 9 ms.
    """

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != "logging":
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        load = spec.loader.exec_module  # type: ignore[union-attr]

        def load_and_set_up(module: "Any") -> None:
            load(module)
            _set_up_logging()

        spec.loader.exec_module = load_and_set_up  # type: ignore[union-attr, method-assign]
        return spec


def _set_up_logging() -> None:
    """Give the root logger the handler, the format and the level that awslambdaric gives it."""
    import logging

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
            frame = getattr(record, "_frame_type", None)
            _log(text, frame or (_frame(record.levelno) if framed_by_level else _TEXT_FRAME))

    class JsonFormatter(logging.Formatter):
        def format(self, record: "Any") -> str:
            record._frame_type = _frame(record.levelno, _TEXT_FRAME - 1)
            error = record.exc_info or (None, None, None)
            message = record.msg
            if record.args or not isinstance(message, dict):
                message = record.getMessage()
            line = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10),
                "message": message,
                "logger": record.name,
                "stackTrace": _format_tb(error[2]) if record.exc_info else None,
                "errorType": error[0].__name__ if error[0] else None,
                "errorMessage": str(error[1]) if record.exc_info else None,
                "requestId": record.aws_request_id,
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if record.exc_info else None,
                "tenantId": record.tenant_id,
            }
            for name, value in vars(record).items():  # what came as `extra`
                if name not in own and name not in line:
                    line[name] = value
            line = {name: value for name, value in line.items() if value is not None}
            return _to_json(line, default=str) + "\n"

    own = {*vars(logging.makeLogRecord({})), "aws_request_id", "tenant_id", "_frame_type"}
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


def _format_tb(traceback: "Any") -> "list[str]":
    from traceback import format_tb

    return format_tb(traceback)


# ---- One invocation ------------------------------------------------------------------

_DIRECT = frozenset((dict, str, list, type(None), bytes, int, bool, float, tuple))
_HTTP = "application/vnd.awslambda.http-integration-response"


async def _invoke(
    connection: _Connection, handler: "Handler", headers: "Headers", body: "Buffer", shared: bool
) -> None:
    """Call the handler with one event and post what comes of it; SystemExit passes through."""
    global _only_invocation
    request_id = headers["lambda-runtime-aws-request-id"]
    path = f"{_INVOCATION}/{_path_segment(request_id)}"
    invocation_id = headers.get("lambda-runtime-invocation-id")
    echo = f"Lambda-Runtime-Invocation-Id: {_field(invocation_id)}\r\n" if invocation_id else ""
    try:
        context = _make_context(headers)
        _invocation.set(context)
        if not shared:
            _only_invocation = context
            if context.trace_id:
                os.environ["_X_AMZN_TRACE_ID"] = context.trace_id
            else:
                os.environ.pop("_X_AMZN_TRACE_ID", None)
        event = _unmarshal(body, headers.get("content-type"))
        del body
        result = handler(event, context)
        del event
        streamed = False
        if type(result) not in _DIRECT:
            if hasattr(result, "__await__"):
                if connection.loop is None:
                    await _EventLoopNeeded()
                result = await result
            streamed = hasattr(result, "__aiter__") or hasattr(result, "__next__")
        if isinstance(result, bytes):
            content_type, payload = "application/unknown", result
        elif not streamed:
            content_type, payload = "application/json", _marshal_response(result)
    except BaseException as exception:
        await _post_error(connection, path, echo, request_id, exception)
        return
    if streamed:
        await _stream(connection, path, echo, request_id, result)
    else:
        await connection.post(f"{path}/response", f"Content-Type: {content_type}\r\n{echo}", payload)


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
    document, xray_cause = _error(exception, request_id)
    _log_error(document)
    fields = _error_fields(document["errorType"]) + echo
    if len(xray_cause) < _LARGEST_CAUSE:
        fields += f"Lambda-Runtime-Function-XRay-Error-Cause: {xray_cause}\r\n"
    await connection.post(f"{path}/error", fields, _error_body(document))
    if isinstance(exception, SystemExit):
        raise exception


async def _stream(
    connection: _Connection, path: str, echo: str, request_id: str, chunks: "Any"
) -> None:
    """Post what an iterator yields, each chunk as soon as it is there.

    An error before the first byte is an ordinary one; a later one goes into the trailers.
    """
    path_of_answer = f"{path}/response"
    begun, end, failure = False, b"0\r\n\r\n", None
    try:
        try:
            iterate = None
            if hasattr(chunks, "__aiter__"):
                if connection.loop is None:
                    await _EventLoopNeeded()
                iterate = chunks.__aiter__().__anext__
            while True:
                try:
                    chunk = await iterate() if iterate else next(chunks)
                except (StopIteration, StopAsyncIteration):
                    break
                if begun:
                    data = _chunk_bytes(chunk)
                    if data:
                        await connection.feed(b"%x\r\n" % len(data), data, b"\r\n")
                elif isinstance(chunk, dict):
                    begun = True
                    data = _marshal_response(chunk)
                    # The JSON and the eight NULs in chunks of their own: cargo-lambda's
                    # emulator looks for them there.
                    head = connection.begin(path_of_answer, echo, _HTTP)
                    await connection.feed(head, b"%x\r\n%b\r\n8\r\n%b\r\n" % (len(data), data, bytes(8)))
                else:
                    data = _chunk_bytes(chunk)
                    if data:
                        begun = True
                        head = connection.begin(path_of_answer, echo, "application/octet-stream")
                        await connection.feed(head, b"%x\r\n" % len(data), data, b"\r\n")
            if not begun:
                begun = True
                await connection.feed(connection.begin(path_of_answer, echo, "application/octet-stream"))
        except (_HungUp, _ApiError):
            raise
        except BaseException as exception:
            if not begun:
                return await _post_error(connection, path, echo, request_id, exception)
            failure = exception
            document, _ = _error(exception, request_id)
            _log_error(document)
            end = _error_trailers(document)
        finally:
            await _close(chunks)
        await connection.finish(path_of_answer, end)
    except _HungUp:
        _note(f"the Runtime API hung up during the response stream of {request_id}")
    if isinstance(failure, SystemExit):
        raise failure


def _chunk_bytes(chunk: "Any") -> "Buffer":
    if isinstance(chunk, bytes):
        return chunk
    try:
        return chunk.encode() if isinstance(chunk, str) else memoryview(chunk).cast("B")
    except (TypeError, ValueError) as exception:
        kind = type(chunk).__name__
        message = f"Unable to marshal response: a chunk of a stream is str or bytes-like, not {kind}"
        if isinstance(chunk, str):
            message = f"Unable to marshal response: {exception}"
        elif isinstance(chunk, dict):
            message += " (the metadata comes first)"
        raise _Fault("Runtime.MarshalError", message) from None


async def _close(chunks: "Any") -> None:
    """Close a generator or a file, so that its `finally` runs now."""
    try:
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
        elif hasattr(chunks, "close"):
            chunks.close()
    except BaseException as exception:
        _log_error(_error(exception)[0])


# ---- The loop ------------------------------------------------------------------------


async def _invocations(
    connection: _Connection, handler: "Handler", shared: bool, invoke: "Any"
) -> SystemExit:
    """Answer one invocation after the other; return how the function wants to exit."""
    try:
        if connection.loop is None and _is_async(handler):
            await _EventLoopNeeded()  # from the start: it runs while `next` blocks
        while True:
            # No variable holds the event here: a large one is freed while the handler runs.
            await invoke(connection, handler, *await connection.next(), shared)
    except SystemExit as exit:
        return exit  # raised, it would be an error of the event loop's


def _drive(loops: "list[Coroutine[Any, Any, SystemExit]]", connections: "list[_Connection]") -> "NoReturn":
    """Run the loop, or several at a time on one event loop, until it ends."""
    if len(loops) == 1:
        try:
            loops[0].send(None)  # comes back only if an event loop is needed
        except StopIteration as stop:
            raise stop.value from None
    import asyncio

    loop = _event_loop()
    for connection in connections:
        connection.loop = loop
        if connection.sock is not None:
            connection.sock.setblocking(False)
    tasks = [loop.create_task(coroutine) for coroutine in loops]
    try:
        ended, _ = loop.run_until_complete(asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))
        raise ended.pop().result()
    except asyncio.CancelledError:
        sys.exit(0)  # the function has cancelled every task: it wants to end
    finally:
        rest = asyncio.all_tasks(loop)
        for task in rest:
            task.cancel()
        if rest:
            loop.run_until_complete(asyncio.wait(rest, timeout=0.3))
        loop.close()


def _event_loop() -> "Any":
    """The loop that the function's module has set up, with its signal handlers, or a new one."""
    import asyncio
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loop = asyncio.get_event_loop()
        if not loop.is_closed():
            return loop
    except (RuntimeError, DeprecationWarning):
        pass
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def _finish(coroutine: "Coroutine[Any, Any, Any]") -> "Any":
    """Run a coroutine of a blocking connection."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


# ---- Lifecycle: initialisation, snapshot, shutdown, concurrency ----------------------


def _work(
    api: str, find: "Callable[[], Handler]", shares: "Sequence[int]" = (1,), index: int = 0, ready: int = -1
) -> "NoReturn":
    """Initialise the function and serve its invocations until SystemExit or _ApiError.

    `shares` says how many invocations each process takes at once if the handler is
    async; `ready` is the descriptor on which the parent waits, if there is one.
    """
    connection = _Connection(api)
    os.register_at_fork(after_in_child=_mark_forked)
    if "logging" in sys.modules:
        _set_up_logging()
    else:
        sys.meta_path.insert(0, _LoggingHook())  # type: ignore[arg-type]
    try:
        handler = find()
    except BaseException as exception:
        _fail_init(connection, exception, 1)
    asynchronous = _is_async(handler)
    if index == 0:
        _ask_for_sigterm(api, asynchronous)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        _take_snapshot(api, connection)
    _function.update(_read_function())
    if ready >= 0:
        _tell_parent(ready, asynchronous)
    invoke = _watched(_invoke) if os.environ.get("PYTHONFAULTHANDLER") else _invoke
    share = shares[index] if asynchronous else 1
    connections = [connection, *(_Connection(api) for _ in range(share - 1))]
    try:
        _drive([_invocations(each, handler, share > 1, invoke) for each in connections], connections)
    finally:
        for each in connections:
            each.close()


def _mark_forked() -> None:
    global _forked
    _forked = True


def _fail_init(
    connection: _Connection, exception: BaseException, status: int, error_type: str = ""
) -> "NoReturn":
    """Report an init error and exit."""
    document, _ = _error(exception)
    _log_error(document)
    fields = _error_fields(error_type or document["errorType"])
    try:
        _finish(connection.post(_INIT_ERROR, fields, _error_body(document)))
    finally:
        connection.close()
    sys.exit(status)


def _take_snapshot(api: str, connection: _Connection) -> None:
    """SnapStart: run the function's hooks around the snapshot, which `restore/next` waits for."""
    hooks = sys.modules.get("snapshot_restore_py")
    try:
        before = hooks.get_before_snapshot() if hooks else []
        while before:  # the last registered runs first
            function, args, kwargs = before.pop()
            function(*args, **kwargs)
        connection.close()  # no connection survives the snapshot
        _once(api, "GET", f"{_RESTORE}/next", {})
    except BaseException as exception:
        _fail_init(connection, exception, 64, "Runtime.BeforeSnapshotError")
    try:
        random = sys.modules.get("random")
        if random:
            random.seed()  # or each of a thousand restores would draw the same numbers
        for function, args, kwargs in hooks.get_after_restore() if hooks else []:
            function(*args, **kwargs)
    except BaseException as exception:
        document, _ = _error(exception)
        _log_error(document)
        fields = {_ERROR_TYPE: "Runtime.AfterRestoreError", "Content-Type": "application/json"}
        _once(api, "POST", f"{_RESTORE}/error", fields, _error_body(document))
        sys.exit(65)


_extension: "Any" = None  # the open connection of an extension that waits for no event


def _ask_for_sigterm(api: str, asynchronous: bool) -> None:
    """Have Lambda send SIGTERM before it ends the process, if the function handles it.

    Lambda does so when an extension is registered; an internal one without events will do.
    """
    global _extension
    import _signal

    handler = _signal.getsignal(_signal.SIGTERM)
    if not callable(handler):
        return
    try:
        fields = {"Lambda-Extension-Name": "python-runtime", "Content-Type": "application/json"}
        response = _once(api, "POST", f"{_EXTENSION}/register", fields, b'{"events": []}')
        identifier = {"Lambda-Extension-Identifier": response.headers["Lambda-Extension-Identifier"]}
        # Has to be asked for init to end, and is never answered.
        _extension = _once(api, "GET", f"{_EXTENSION}/event/next", identifier, answered=False)
    except Exception as exception:
        _note(f"the SIGTERM handler will not run, no extension could be registered: {exception}")
    if getattr(handler, "__module__", "").startswith("asyncio") and not asynchronous:
        # loop.add_signal_handler(), but the loop does not run while `next` blocks.
        loop = _event_loop()

        def run_callbacks(signum: int, frame: object) -> None:
            if not loop.is_running():
                loop.call_later(0.3, loop.stop)  # of the 500 ms that Lambda gives
                loop.run_forever()

        _signal.signal(_signal.SIGTERM, run_callbacks)


def _watched(invoke: "Any") -> "Any":
    """`invoke` that dumps all stacks 100 ms before the deadline (PYTHONFAULTHANDLER=1).

    faulthandler's own thread does it, without the GIL, and has no place for a text: the
    request id gets into the dump as the name of the frame that calls the handler.
    """
    import faulthandler

    deadlines: "dict[object, float]" = {}

    def arm() -> None:
        faulthandler.cancel_dump_traceback_later()
        if deadlines:
            timeout = min(deadlines.values()) - _now() - 0.1
            faulthandler.dump_traceback_later(max(timeout, 0.001), file=2)

    async def watched(connection: _Connection, handler: "Handler", headers: "Headers", *rest: "Any") -> None:
        request_id = headers["lambda-runtime-aws-request-id"]
        code = invoke.__code__.replace(co_name=f"RequestId: {_field(request_id)}")
        deadline = int(headers.get("lambda-runtime-deadline-ms") or 0) / 1000
        key, timer = object(), None
        if deadline > _now():
            deadlines[key] = deadline
            arm()
            if connection.loop is not None:
                timer = connection.loop.call_later(deadline - _now() - 0.1, _dump_tasks, request_id)
        try:
            await type(invoke)(code, invoke.__globals__)(connection, handler, headers, *rest)
        finally:
            if deadlines.pop(key, None):
                arm()
            if timer is not None:
                timer.cancel()

    return watched


def _dump_tasks(request_id: str) -> None:
    import asyncio

    _note(f"RequestId: {request_id} is about to time out; the tasks that wait:")
    for task in asyncio.all_tasks():
        task.print_stack()


def _tell_parent(ready: int, asynchronous: bool) -> None:
    try:
        os.write(ready, b"a" if asynchronous else b"p")
    except BrokenPipeError:
        pass  # it does not wait for this one
    os.close(ready)


def _supervise(api: str, find: "Callable[[], Handler]", slots: int) -> "NoReturn":
    """Managed Instances: fork workers that share `slots` concurrent invocations.

    The first worker tells what the handler is: plain handlers get a process for each
    slot, async ones a process for each processor.
    """
    import _signal

    processors = min(slots, len(os.sched_getaffinity(0)))
    shares = [slots // processors + (index < slots % processors) for index in range(processors)]
    workers: "dict[int, tuple[int, float]]" = {}
    stopping = False

    def stop(signum: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in workers:
            os.kill(pid, _signal.SIGTERM)

    def start(index: int) -> int:
        reader, ready = os.pipe()
        _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGTERM])
        pid = os.fork()
        if not pid:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGTERM])
            os.close(reader)
            _redirect_output()
            _work(api, find, shares, index, ready)
        workers[pid] = index, _now()
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGTERM])
        os.close(ready)
        return reader

    _signal.signal(_signal.SIGTERM, stop)
    reader = start(0)
    kind = os.read(reader, 1)
    os.close(reader)
    if kind and not stopping:
        for index in range(1, len(shares) if kind == b"a" else slots):
            os.close(start(index))
    failures = 0
    while workers:
        pid, status = os.wait()
        if pid not in workers:
            continue
        index, started = workers.pop(pid)
        if stopping:
            continue
        if not kind:  # the init error is reported
            sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
        if _now() - started > 1:
            failures = 0
        elif status == 1 << 8:  # it could not start, or found no Runtime API
            failures += 1
            if failures > 3:
                stop(0, None)
                sys.exit(1)
            time.sleep(failures / 10)
        os.close(start(index))
    sys.exit(0)


def _redirect_output() -> None:
    """Connect stdout and stderr to the log socket of Managed Instances, one connection each."""
    path = os.environ.get("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET")
    if path:
        for fd in (1, 2):
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            sock.connect(path)
            os.dup2(sock.fileno(), fd)
            sock.close()


# ---- run() and main() ----------------------------------------------------------------


def run(handler: "Handler") -> "NoReturn":
    """Serve invocations with `handler(event, context)` until Lambda ends the process.

    For a script that is its own bootstrap. The handler may be any callable: what it
    returns goes out as JSON (bytes as they are), an awaitable is awaited, an iterator or
    async iterator is streamed. Raises SystemExit when the Runtime API cannot be reached
    or misbehaves, and when the handler does.
    """
    if not sys.flags.unbuffered:
        import io

        for name, fd in (("stdout", 1), ("stderr", 2)):
            stream = getattr(sys, name)
            stream.flush()
            raw = io.FileIO(fd, "w", closefd=False)
            setattr(sys, name, io.TextIOWrapper(raw, stream.encoding, stream.errors, write_through=True))
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
    try:
        if slots.isdigit() and int(slots):
            _supervise(api, find, int(slots))
        if telemetry_fd.isdigit():
            _telemetry_fd = int(telemetry_fd)
        _work(api, find)
    except _ApiError as exception:
        _note(f"AWS_LAMBDA_RUNTIME_API={api}: {exception}")
        status = 1
    except KeyboardInterrupt:
        status = 130
    except SystemExit as exit:
        if isinstance(exit.code, int):
            _exit_soon(exit.code)
        raise
    finally:
        if _extension is not None:
            _extension.close()
    _exit_soon(status)
    sys.exit(status)


def _exit_soon(status: int) -> None:
    """See to it that a thread which the function has left does not keep the process alive."""
    import _thread

    def end() -> None:
        time.sleep(1)
        os._exit(status)

    _thread.start_new_thread(end, ())
