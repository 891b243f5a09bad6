"""make serve: a function behind a port of this machine, as clients of Lambda and browsers know it.

    python3 tests/miniature serve FOLDER [FILE.FUNCTION]

The path decides: Invoke and InvokeWithResponseStream of Lambda's API, whose other operations are refused, and the function's URL on
all others. environments.py has the processes. Variables: PORT, TIMEOUT, CONCURRENCY, INVOKE_MODE. An empty handler: somebody else
starts the process, an IDE.
"""

import base64
import contextlib
import http.server
import json
import os
import re
import shlex
import signal
import socket
import struct
import sys
import threading
import time
import urllib.parse
import uuid
import zlib

from .api import SPLIT, STREAMED_HTTP
from .environments import Closing, Fleet, Settings, arn, say
from .process import REPO
from .run import (
    DEFAULT_TIMEOUT,
    INTERRUPTS,
    check_folder,
    find_handler,
    is_given,
    leave,
    name_example,
    read_timeout,
)

REQUEST_LIMIT = 6 * 1024 * 1024  # bytes of an event that somebody waits for
EVENT_LIMIT = 1024 * 1024  # of one that nobody waits for
FRAME = 1 << 20  # bytes of a response in one event-stream frame, at most: botocore refuses 24 MB
MODES = ("BUFFERED", "RESPONSE_STREAM")
BODILESS = (204, 304)  # answers that end with their head, whatever it says (RFC 9112, 6.3); the function's cannot be 1xx
# Paths of Lambda's API, whose first part is the date of an operation, and of the Runtime API, which has another port.
API = (
    r"/20\d\d-\d\d-\d\d/(functions|event-source-mappings|layers|account-settings|tags|code-signing-configs|capacity-providers"
    r"|durable-[a-z-]+|runtime|extension)(/.*)?"
)
LEAVING = 1  # seconds that a function has to end a stream of which the client has had all that it gets


# ---- the command


def main(folder, handler=None):
    check_folder(folder)
    attached = handler == ""
    name_example(folder, handler)
    handler = handler or find_handler(folder, needed=not attached)
    port = number("PORT", 9000, 0, 65535 - attached)
    timeout = read_timeout("0" if attached else str(DEFAULT_TIMEOUT), least=0)
    concurrency = number("CONCURRENCY", 10 if timeout and not attached else 1, 1, 1000)
    mode = os.environ.get("INVOKE_MODE") if is_given("INVOKE_MODE") else None
    mode = mode or "RESPONSE_STREAM"
    if mode not in MODES:
        sys.exit(f"INVOKE_MODE={mode}: BUFFERED or RESPONSE_STREAM")
    for signal_ in INTERRUPTS:
        signal.signal(signal_, leave)
    allow_connections()
    behind = (port + 1 if port else 0) if attached else None  # the Runtime API's, for a process that somebody else starts
    fleet = Fleet(Settings(folder, handler, timeout, behind), concurrency)
    try:
        server = Server(port)
        first = fleet.prepare()
    except OSError as error:
        ports = f"PORT={port}" + (f" (and {behind} for the Runtime API)" if behind else "")
        sys.exit(f"{ports}: {error.strerror}: choose another, as in make serve PORT=9100")
    try:
        server.fleet, server.mode, server.env = fleet, mode, first.env
        introduce(server, first, timeout)
        server.serve_forever()
    finally:
        fleet.close()
        server.server_close()


def number(name, default, least, most):
    text = os.environ.get(name) if is_given(name) else None
    text = text or str(default)
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        sys.exit(f"{name}={text}: a number from {least} to {most}")
    return int(text)


def allow_connections():
    """As many open connections as the system lets us have: many shells allow 1,024 files."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def introduce(server, environment_, timeout):
    """What a person copies from the terminal."""
    url = f"http://127.0.0.1:{server.server_port}"
    name = environment_.env["AWS_LAMBDA_FUNCTION_NAME"]
    print(f"export AWS_ENDPOINT_URL_LAMBDA={url}")
    print(f"curl -N {url}/                          # the function's URL")
    print(f"curl {url}/2015-03-31/functions/{name}/invocations -d '{{}}'")
    if not timeout or timeout > 60:
        seconds = timeout or 3600
        print(
            "boto3 waits 60 s for an answer and then invokes the function again: "
            f'boto3.client("lambda", config=Config(read_timeout={seconds}, retries={{"total_max_attempts": 1}})), '
            f"aws --cli-read-timeout {seconds}"
        )
    if environment_.attached:
        print("\nThe process of the function is yours to start, with these variables:")
        names = "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "_HANDLER"
        ours = {key: value for key, value in environment_.env.items() if key in names or key.startswith("AWS_LAMBDA_")}
        for key in sorted(ours):
            print(f"export {key}={shlex.quote(ours[key])}")
        repo, bootstrap = shlex.quote(os.fspath(REPO)), shlex.quote(environment_.command[0])
        own = bool(environment_.paths)
        print(f"PYTHONPATH={repo} {bootstrap}" if own else bootstrap)
        program = bootstrap if own else "-c 'import runtime; runtime.main()'"
        print(f"or, where a debugger wants Python: PYTHONPATH={repo} python3 {program}")
    sys.stdout.flush()


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True
    block_on_close = False

    def __init__(self, port):
        super().__init__(("127.0.0.1", port), Handler)

    def server_bind(self):
        super(http.server.HTTPServer, self).server_bind()  # HTTPServer's asks a name server for our name
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            say(f"a request has got no answer: {error}")
        elif not isinstance(error, (ConnectionError, Closing)):
            super().handle_error(request, client_address)


class Refused(Exception):
    """A request that the function does not see: AWS's status, error code and message."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code = status, code


# ---- one connection


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name):
        if name.startswith("do_"):  # do_GET, do_POST and so on: any method is the function URL's
            return self.serve
        raise AttributeError(name)

    def log_message(self, *arguments):
        """Nothing: the function's START and END tell."""

    def handle(self):
        with contextlib.suppress(ConnectionError, Closing):
            super().handle()

    def serve(self):
        self.request_id = str(uuid.uuid4())
        self.path, _, self.query = self.path.partition("?")
        operation = re.fullmatch(
            r"(/2015-03-31/functions/([^/]*)/invocations|/2021-11-15/functions/([^/]*)/response-streaming-invocations)/?", self.path
        )
        try:
            body = self.read_body()
            if operation is None and not re.fullmatch(API, self.path):
                return self.function_url(body)
            if operation is None:
                say(f"404: {self.command} {self.path}: of Lambda's API, only Invoke and InvokeWithResponseStream are here")
                message = f"Unknown operation: {self.command} {self.path} (make serve has Invoke and InvokeWithResponseStream)"
                raise Refused(404, "UnknownOperationException", message)
            if self.command != "POST":
                raise Refused(405, "MethodNotAllowedException", f"{self.command}: the method of this path is POST")
            self.invoke(urllib.parse.unquote(operation[2] or operation[3] or ""), body, streaming=operation[3] is not None)
        except Refused as error:
            self.respond(
                error.status, {"Content-Type": "application/json", "x-amzn-ErrorType": error.code, "x-amzn-RequestId": self.request_id},
                json.dumps({"Type": "User", "Message": str(error)}).encode(),
            )

    def read_body(self):
        """The request's body. One that is too long is read to its end all the same, or the client would not see the answer."""
        lengths, codings = self.headers.get_all("Content-Length", []), self.headers.get_all("Transfer-Encoding", [])
        chunked = [coding.lower() for coding in codings] == ["chunked"]
        if codings and not chunked or len({*lengths}) + chunked > 1 or not all(re.fullmatch("[0-9]+", length) for length in lengths):
            self.close_connection = True
            raise Refused(400, "InvalidRequestContentException", "The body's length is not told by one Content-Length or chunked coding")
        pieces, size = [], 0
        for piece in self.read_chunks() if chunked else self.read_length(int(lengths[0]) if lengths else 0):
            size += len(piece)
            if size <= REQUEST_LIMIT:
                pieces.append(piece)
        if size > REQUEST_LIMIT:
            raise too_large(REQUEST_LIMIT)
        return b"".join(pieces)

    def read_length(self, size):
        while size:
            piece = self.rfile.read(min(size, 1 << 16))
            if not piece:
                raise ConnectionError("cut")
            size -= len(piece)
            yield piece

    def read_chunks(self):
        while True:
            line = self.rfile.readline(1000)
            found = re.match(rb"([0-9A-Fa-f]{1,8})[ \t]*(;.*)?\r?\n\Z", line)
            if not found:
                raise ConnectionError("cut")
            if int(found[1], 16) == 0:
                while self.rfile.readline(65537).strip():
                    pass  # trailers
                return
            yield from self.read_length(int(found[1], 16))
            self.rfile.readline(3)

    def respond(self, status, headers, body):
        """An answer that is here as a whole. headers: a dict, or a list of (name, value) for those that come twice."""
        self.begin(status, headers)
        if status not in BODILESS:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.has_body(status):
            self.wfile.write(body)

    def has_body(self, status):
        return self.command != "HEAD" and status not in BODILESS

    def begin(self, status, headers):
        self.send_response_only(status)
        self.send_header("Date", self.date_time_string())
        for name, value in headers.items() if isinstance(headers, dict) else headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")

    def stream(self, status, headers, pieces, answer=None):
        """An answer that goes out piece by piece; who must not take it for a whole one gets no end of it.

        answer: what the function has posted. The Runtime API hangs up on it when the client leaves, though nothing comes that
        would have to be written to the client.
        """
        if answer and answer.streaming and status not in BODILESS:
            threading.Thread(target=self.wait_for_client, args=(answer,), daemon=True).start()
        self.close_connection = self.close_connection or self.request_version == "HTTP/1.0"
        chunked = self.request_version != "HTTP/1.0" and status not in BODILESS
        self.begin(status, [*headers, ("Transfer-Encoding", "chunked")] if chunked else headers)
        self.end_headers()
        for piece in pieces:  # where there is no body as well: the function goes on to its end
            if piece and self.has_body(status):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked and self.has_body(status):
            self.wfile.write(b"0\r\n\r\n")

    def wait_for_client(self, answer):
        with contextlib.suppress(OSError):
            if self.connection.recv(1, socket.MSG_PEEK):
                return  # its next request
        if self.command == "HEAD":  # it has had its answer, and that it leaves is no news
            with contextlib.suppress(AssertionError):
                answer.wait(LEAVING)
        if not answer.done:
            answer.hang_up()

    # ---- Lambda's API

    def invoke(self, name, body, streaming):
        kind = self.headers.get("X-Amz-Invocation-Type") or "RequestResponse"
        tail = self.headers.get("X-Amz-Log-Type", "None")
        allowed = ("RequestResponse", "DryRun") if streaming else ("RequestResponse", "Event", "DryRun")
        for value, field, values in (kind, "invocationType", allowed), (tail, "logType", ("None", "Tail")):
            if value not in values:
                raise invalid(value, field, f"enum value set: [{', '.join(values)}]")
        headers = self.event_headers(self.find_function(name))
        if kind == "Event" and len(body) > EVENT_LIMIT:
            raise too_large(EVENT_LIMIT, "InvokeAsync")
        check_json(body)
        common = {"x-amzn-RequestId": self.request_id, "X-Amz-Executed-Version": self.server.env["AWS_LAMBDA_FUNCTION_VERSION"]}
        if kind == "DryRun":
            return self.respond(204, common, b"")
        if kind == "Event":
            threading.Thread(target=self.invoke_later, args=(body or b"{}", headers), daemon=True).start()
            return self.respond(202, {"x-amzn-RequestId": self.request_id}, b"")
        with self.server.fleet.invoke(body or b"{}", headers) as invocation:
            if streaming:
                fields = {**common, "Content-Type": "application/vnd.amazon.eventstream"}
                return self.stream(200, [*fields.items()], frames(invocation, tail == "Tail"), invocation.answer)
            content = invocation.content() if invocation.answer else b""
            if invocation.error and not (invocation.answer and invocation.answer.kind == "error"):
                content = json.dumps(invocation.error).encode()
            invocation.end()
            fields = {**common, "Content-Type": "application/json"}
            if invocation.error:
                fields["X-Amz-Function-Error"] = "Unhandled"
            if tail == "Tail":
                fields["X-Amz-Log-Result"] = base64.b64encode(invocation.log).decode()
            self.respond(200, fields, content)

    def invoke_later(self, body, headers):
        with contextlib.suppress(Closing), self.server.fleet.invoke(body, headers) as invocation:
            if invocation.answer:
                invocation.content()

    def find_function(self, name):
        """The ARN under which the function was called; Refused if it is another's. Every version and alias is this one."""
        env = self.server.env
        found = re.fullmatch(
            r"(?:(?:arn:aws[a-z-]*:lambda:[a-z]{2}(?:-[a-z]+)+-\d:)?\d{12}:function:)?([a-zA-Z0-9-_]+)(?::(\$LATEST|[a-zA-Z0-9-_]+))?",
            name,
        )
        if not found or len(name) > 170:
            raise invalid(name, "functionName", "regular expression pattern: (arn:(aws[a-zA-Z-]*)?:lambda:)?… NAME(:QUALIFIER)?")
        given = urllib.parse.parse_qs(self.query).get("Qualifier", [None])[0]
        if given is not None and not re.fullmatch(r"\$LATEST|[a-zA-Z0-9-_]{1,128}", given):
            raise invalid(given, "qualifier", "regular expression pattern: (|[a-zA-Z0-9$_-]+)")
        if found[2] and given and found[2] != given:
            message = "The derived qualifier from the function name does not match the specified qualifier."
            raise Refused(400, "InvalidParameterValueException", message)
        qualifier = found[2] or given
        called = arn({**env, "AWS_LAMBDA_FUNCTION_NAME": found[1]}) + (f":{qualifier}" if qualifier else "")
        if found[1] != env["AWS_LAMBDA_FUNCTION_NAME"]:
            say(f"{found[1]}: no such function here: it is {env['AWS_LAMBDA_FUNCTION_NAME']} (AWS_LAMBDA_FUNCTION_NAME={found[1]} names it so)")
            raise Refused(404, "ResourceNotFoundException", f"Function not found: {called}")
        return called

    def event_headers(self, called):
        """What the Runtime API sends with the event."""
        headers = {"Lambda-Runtime-Aws-Request-Id": self.request_id, "Lambda-Runtime-Invoked-Function-Arn": called}
        context = self.headers.get("X-Amz-Client-Context")
        if context:
            try:
                document = json.loads(base64.b64decode(context, validate=True))
            except (ValueError, RecursionError):
                raise Refused(400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.") from None
            headers["Lambda-Runtime-Client-Context"] = json.dumps(document)
        for ours, theirs in ("X-Amz-Tenant-Id", "Lambda-Runtime-Aws-Tenant-Id"), ("X-Amzn-Trace-Id", "Lambda-Runtime-Trace-Id"):
            if self.headers.get(ours):
                headers[theirs] = text(self.headers[ours])
        return headers

    # ---- the function's URL

    def function_url(self, body):
        event = json.dumps(self.event(body), ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(event) > REQUEST_LIMIT:
            raise too_large(REQUEST_LIMIT)
        headers = self.event_headers(arn(self.server.env))
        with self.server.fleet.invoke(event, headers) as invocation:
            answer = invocation.answer
            if answer and answer.streaming:
                return self.stream_url(invocation, answer.headers)
            content = invocation.content() if answer else b""
            invocation.end()
            self.answer_url(invocation, lambda: by_the_rules(content))

    def answer_url(self, invocation, answer):
        """An answer that is whole, or a 502."""
        try:
            if invocation.error:
                raise ValueError
            status, headers, body = answer()
        except ValueError as error:
            if str(error):
                say(f"502: {error}")
            status, headers, body = 502, [("Content-Type", "text/plain")], b"Internal Server Error"
        self.respond(status, [("x-amzn-RequestId", self.request_id), *headers], body)

    def stream_url(self, invocation, told):
        buffered = self.server.mode == "BUFFERED"
        chunks = iter([invocation.content()]) if buffered else invocation.chunks()
        head, body = None, b""
        if told.get("Content-Type") == STREAMED_HTTP:
            head = b""
            for chunk in chunks:
                head += chunk
                if SPLIT in head:
                    head, body = head.split(SPLIT, 1)
                    break

        def metadata(body):
            if head is None:
                return 200, [("Content-Type", told.get("Content-Type", "application/octet-stream"))], body
            return by_metadata(json.loads(head), "application/octet-stream", body)

        if buffered:
            body += b"".join(chunks)
            invocation.end()
            return self.answer_url(invocation, lambda: metadata(body))
        try:
            if invocation.error:
                raise ValueError
            status, headers, _ = metadata(b"")
        except ValueError:
            return self.answer_url(invocation, lambda: metadata(b""))

        def pieces():
            yield body
            yield from chunks
            if invocation.error:
                self.close_connection = True
                raise ConnectionError("the client has to see that the rest is missing")

        self.stream(status, [("x-amzn-RequestId", self.request_id), *headers], pieces(), invocation.answer)

    def event(self, body):
        """The request as a function URL's event, format 2.0."""
        headers, cookies = {}, []
        for name, value in self.headers.items():
            if name.lower() == "cookie":
                cookies += [cookie.strip() for cookie in text(value).split(";") if cookie.strip()]
            else:
                name = name.lower()
                headers[name] = f"{headers[name]},{text(value)}" if name in headers else text(value)
        headers.setdefault("host", f"127.0.0.1:{self.server.server_port}")
        headers.update({
            "x-amzn-trace-id": headers.get("x-amzn-trace-id") or f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}",
            "x-forwarded-for": self.client_address[0], "x-forwarded-port": str(self.server.server_port), "x-forwarded-proto": "http",
        })
        now = time.time()
        path, query = text(self.path), text(self.query)
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "rawQueryString": query,
            "headers": headers,
            "requestContext": {
                "accountId": "anonymous",
                "apiId": "local",
                # By this name asgi() and others know a function URL, and that it streams; what the client asked for is in Host.
                "domainName": f"local.lambda-url.{self.server.env['AWS_REGION']}.on.aws",
                "domainPrefix": "local",
                "http": {
                    "method": self.command,
                    "path": path,
                    "protocol": self.request_version,
                    "sourceIp": self.client_address[0],
                    "userAgent": headers.get("user-agent", ""),
                },
                "requestId": self.request_id,
                "routeKey": "$default",
                "stage": "$default",
                "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
                "timeEpoch": int(now * 1000),
            },
            "isBase64Encoded": False,
        }
        if cookies:
            event["cookies"] = cookies
        parameters = {}
        for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
            parameters[name] = f"{parameters[name]},{value}" if name in parameters else value
        if parameters:
            event["queryStringParameters"] = parameters
        if body:
            event["body"], event["isBase64Encoded"] = as_text(body, headers.get("content-type", ""))
        return event


# ---- what goes in


def text(value):
    """What a header or path has: http.server reads it as Latin-1, and clients write UTF-8."""
    value = value.encode("iso-8859-1", "replace")
    try:
        value = value.decode("utf-8")
    except UnicodeDecodeError:
        value = value.decode("iso-8859-1")
    return re.sub(r"[\r\n\t ]+", " ", value)


def as_text(body, content_type):
    """A body in an event: as it is, if its type says that it is text, else in base64; and which of them."""
    kind = content_type.split(";")[0].strip().lower()
    if re.fullmatch(r"text/.*|application/(json|javascript|xml|.*\+json|.*\+xml)", kind):
        with contextlib.suppress(UnicodeDecodeError):
            return body.decode("utf-8"), False
    return base64.b64encode(body).decode("ascii"), True


def check_json(body):
    def refuse(constant):
        raise ValueError(f"{constant} is no JSON")

    try:
        if body:
            json.loads(body.decode("utf-8"), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Refused(400, "InvalidRequestContentException", f"Could not parse request body into json: {error}") from None


def too_large(limit, operation="InvokeFunction"):
    message = f"Request must be smaller than {limit} bytes for the {operation} operation"
    return Refused(413, "RequestTooLargeException", message)


def invalid(value, field, constraint):
    message = f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: Member must satisfy {constraint}"
    return Refused(400, "ValidationException", message)


# ---- what comes out


def frames(invocation, tail):
    """The answer to InvokeWithResponseStream: each chunk in a frame, and how it ended in the last."""
    if invocation.answer and invocation.answer.kind == "response":
        for chunk in invocation.chunks():
            for at in range(0, len(chunk) if not invocation.error or invocation.answer.streaming else 0, FRAME):
                yield frame("PayloadChunk", "application/octet-stream", chunk[at : at + FRAME])
    invocation.end()
    complete = {}
    if invocation.error:
        complete["ErrorCode"] = invocation.error.get("errorType", "Unhandled")
        complete["ErrorDetails"] = json.dumps(invocation.error)
    if tail:
        complete["LogResult"] = base64.b64encode(invocation.log).decode()
    yield frame("InvokeComplete", "application/json", json.dumps(complete).encode())


def frame(event_type, content_type, payload):
    """One message of application/vnd.amazon.eventstream: lengths and their CRC, headers, payload, the CRC of all that."""
    headers = b""
    for name, value in (":event-type", event_type), (":content-type", content_type), (":message-type", "event"):
        headers += struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()  # 7: a string
    message = struct.pack(">II", 4 + 4 + 4 + len(headers) + len(payload) + 4, len(headers))
    message += struct.pack(">I", zlib.crc32(message)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def by_the_rules(content):
    """What a function URL makes of a response: status, headers, body; ValueError where it makes a 502 of it."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("the response is not JSON: return a dict with statusCode, isBase64Encoded and the body in base64") from None
    if not isinstance(value, dict) or "statusCode" not in value:
        return 200, [("Content-Type", "application/json")], content
    body = value.get("body")
    if body is None:
        body = ""
    if not isinstance(body, str):
        raise ValueError(f"body is {type(body).__name__}: it has to be a string, as json.dumps makes one")
    if value.get("isBase64Encoded"):
        try:
            body = base64.b64decode(body)
        except ValueError:
            raise ValueError("isBase64Encoded is true, and body is not base64") from None
    else:
        body = body.encode("utf-8", "replace")
    return by_metadata(value, "application/json", body)


def by_metadata(value, content_type, body):
    """Status, headers and body of a response that has statusCode, headers and cookies."""
    status = value.get("statusCode", 200) if isinstance(value, dict) else None
    if isinstance(status, str) and status.isdecimal():
        status = int(status)
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"statusCode is {status!r}: a number from 200 to 599")
    fields = []
    single, multiple = value.get("headers") or {}, value.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(multiple, dict):
        raise ValueError("headers has to be an object of names and values")
    for name, values in [*multiple.items(), *[(name, [value]) for name, value in single.items()]]:
        fields += [(name, header(name, value)) for value in (values if isinstance(values, list) else [values])]
    cookies = value.get("cookies") or []
    if not isinstance(cookies, list):
        raise ValueError("cookies has to be a list of strings")
    fields += [("Set-Cookie", header("cookies", cookie)) for cookie in cookies]
    ours = ("connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
    fields = [(name, value) for name, value in fields if name.lower() not in ours]
    if not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", content_type))
    return status, fields, body


def header(name, value):
    """A header's value as http.server writes it; UTF-8 on the wire."""
    value = {True: "true", False: "false", None: ""}.get(value, value) if isinstance(value, (bool, type(None))) else value
    if not re.fullmatch("[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ValueError(f"{name!r} is no name of a header")
    if not isinstance(value, (str, int, float)):
        raise ValueError(f"header {name} is {type(value).__name__}: it has to be a string" + "; several go into multiValueHeaders" * isinstance(value, list))
    value = str(value)
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
        raise ValueError(f"header {name} has a line break or another control character")
    return value.strip().encode("utf-8", "replace").decode("iso-8859-1")
