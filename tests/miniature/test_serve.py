"""`make serve`, as clients of Lambda and of function URLs see it. The real clients are in tests/conformance/test_serve.py."""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

from miniature import REPO, bounded, function, tell, until, until_asleep
from miniature.files import Files

PATH = "/2015-03-31/functions/%s/invocations"
STREAM = "/2021-11-15/functions/function/response-streaming-invocations"
OURS = ("EVENT", "TASK_ROOT", "HANDLER", "TIMEOUT", "PORT", "CONCURRENCY", "INVOKE_MODE")

ECHO = """
    import os
    def handler(event, context):
        return event
    def about(event, context):
        return [
            os.getpid(), context.invoked_function_arn, context.tenant_id, os.environ.get("_X_AMZN_TRACE_ID"),
            context.client_context and context.client_context.custom, context.aws_request_id,
        ]
"""


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Served:
    """A `make serve` that runs. `root`: the function's folder; what it prints is in `log`. shell: what follows the command in a shell."""

    def __init__(self, root, handler=None, port="0", stdin=subprocess.DEVNULL, shell="", **variables):
        env = {k: v for k, v in os.environ.items() if k not in OURS and not k.startswith(("AWS_", "PYTHON"))}
        command = [sys.executable, "tests/miniature", "serve", root, *([] if handler is None else [handler])]
        command = ["sh", "-c", f'"$0" "$@" {shell}', *command] if shell else command
        self.root, self.stderr = root, tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command, cwd=REPO, env={**env, "PORT": port, **variables}, start_new_session=True, stdin=stdin,
            stdout=subprocess.PIPE, stderr=self.stderr,
        )
        self.url = self.line().partition("=")[2].strip()
        self.port = int(self.url.rpartition(":")[2] or 0)

    def line(self):
        """The next line that it prints."""
        with bounded():
            return self.process.stdout.readline().decode()

    def ask(self, method, path, body=None, headers={}):
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def get(self, path="/", **headers):
        return self.ask("GET", path, headers=headers)

    def invoke(self, event=None, name="function", headers={}):
        return self.ask("POST", PATH % name, None if event is None else json.dumps(event), headers)

    @property
    def log(self):
        return os.pread(self.stderr.fileno(), 10_000_000, 0).decode()

    def wait_log(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.log):
            if time.monotonic() > end:
                raise AssertionError(f"{pattern} is not in\n{self.log}")
            time.sleep(0.005)

    def write(self, name, text):
        pathlib.Path(self.root, name).write_text(text)

    def stop(self, number=signal.SIGINT):
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)  # as a terminal does: its functions are in sessions of their own
        self.rest = self.process.communicate(timeout=30)[0].decode()
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with self.stderr:
            self.stop()


@contextlib.contextmanager
def serving(source, handler=None, **variables):
    with function(function=source) as root, Served(root, handler, **variables) as served:
        yield served


def frames(response):
    """The messages of an event stream, as they come: (type, payload). It judges the framing."""
    while True:
        prelude = response.read(12)
        if not prelude:
            return
        total, head, checksum = struct.unpack(">III", prelude)
        assert zlib.crc32(prelude[:8]) == checksum
        rest = response.read(total - 12)
        assert len(rest) == total - 12 and zlib.crc32(prelude + rest[:-4]) == struct.unpack(">I", rest[-4:])[0]
        headers, at = {}, 0
        while at < head:
            size = rest[at]
            name = rest[at + 1 : at + 1 + size].decode()
            kind, length = struct.unpack_from(">BH", rest, at + 1 + size)
            assert kind == 7
            at += 4 + size + length
            headers[name] = rest[at - length : at].decode()
        assert at == head and headers[":message-type"] == "event" and "/" in headers[":content-type"]
        yield headers[":event-type"], rest[head:-4]


class Invoke(unittest.TestCase):
    def test_value(self):
        with serving(ECHO) as served:
            answer = served.invoke({"k": "é"})
            self.assertEqual((answer.status, answer.json), (200, {"k": "é"}))
            self.assertEqual(answer.headers["Content-Type"], "application/json")
            self.assertEqual(answer.headers["X-Amz-Executed-Version"], "$LATEST")
            self.assertRegex(answer.headers["x-amzn-RequestId"], r"\A[0-9a-f-]{36}\Z")
            self.assertNotIn("X-Amz-Function-Error", answer.headers)
            self.assertNotIn("X-Amz-Log-Result", answer.headers)
            self.assertEqual(served.invoke().json, {})  # without a payload
            self.assertRegex(
                served.log, r"\ASTART RequestId: (\S+) Version: \$LATEST\nEND RequestId: \1\nREPORT RequestId: \1\tDuration: .*Init Duration: .*\n"
                r"START RequestId: (\S+) .*\nEND RequestId: \2\nREPORT RequestId: \2\tDuration: [^I]*\n\Z"
            )

    def test_what_reaches_the_function(self):
        context = base64.b64encode(b'{"custom": {"a":\n "\xc3\xa9"}}').decode()
        trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
        headers = {"X-Amz-Client-Context": context, "X-Amz-Tenant-Id": "blue", "X-Amzn-Trace-Id": trace}
        with serving(ECHO, "function.about") as served:
            answer = served.invoke(headers=headers)
            self.assertEqual(answer.json[2:], ["blue", trace, {"a": "é"}, answer.headers["x-amzn-RequestId"]])

    def test_names(self):
        arn = "arn:aws:lambda:us-east-1:123456789012:function:function"
        with serving(ECHO, "function.about") as served:
            for name, called in (
                ("function", arn), (arn, arn), (arn + ":live", arn + ":live"), ("function:$LATEST", arn + ":$LATEST"),
                ("123456789012:function:function", arn), ("function?Qualifier=7", arn + ":7"),
                (arn.replace(":", "%3A") + "%3A%24LATEST", arn + ":$LATEST"),
            ):
                name, _, query = name.partition("?")
                answer = served.ask("POST", PATH % name + ("?" + query if query else ""), "{}")
                self.assertEqual((answer.status, answer.json[1]), (200, called), name)
        with serving(ECHO, "function.about", AWS_LAMBDA_FUNCTION_NAME="orders", AWS_REGION="eu-central-1") as served:
            self.assertEqual(served.invoke(name="orders").json[1], "arn:aws:lambda:eu-central-1:123456789012:function:orders")
            self.assertEqual(served.invoke().status, 404)

    def test_refused(self):
        with serving(ECHO) as served:
            for path, body, headers, status, code in (
                (PATH % "other", "{}", {}, 404, "ResourceNotFoundException"),
                (PATH % "no%20name", "{}", {}, 400, "ValidationException"),
                (PATH % "function:a" + "?Qualifier=b", "{}", {}, 400, "InvalidParameterValueException"),
                (PATH % "function", "{", {}, 400, "InvalidRequestContentException"),
                (PATH % "function", b"\xff", {}, 400, "InvalidRequestContentException"),
                (PATH % "function", "[NaN]", {}, 400, "InvalidRequestContentException"),
                (PATH % "function", "[" * 100_000, {}, 400, "InvalidRequestContentException"),
                (PATH % "function", "{}", {"X-Amz-Client-Context": "{}"}, 400, "InvalidRequestContentException"),
                (PATH % "function", "{}", {"X-Amz-Invocation-Type": "Soon"}, 400, "ValidationException"),
                (PATH % "function", '"%s"' % ("x" * 7_000_000), {}, 413, "RequestTooLargeException"),
                (PATH % "function", '"%s"' % ("x" * 1_100_000), {"X-Amz-Invocation-Type": "Event"}, 413, "RequestTooLargeException"),
                (STREAM, "{}", {"X-Amz-Invocation-Type": "Event"}, 400, "ValidationException"),
            ):
                answer = served.ask("POST", path, body, headers)
                self.assertEqual((answer.status, answer.headers["x-amzn-ErrorType"]), (status, code), (path, headers))
                self.assertEqual(answer.json["Type"], "User")
                self.assertTrue(answer.json["Message"])
            self.assertEqual(served.get(PATH % "function").status, 405)
            self.assertNotIn("START", served.log)
            self.assertIn("other: no such function here: it is function (AWS_LAMBDA_FUNCTION_NAME=other names it so)\n", served.log)

    def test_other_operations(self):
        """Of Lambda's API and of the Runtime API. The function would make a success of each."""
        with serving("def handler(event, context): return 1") as served:
            for method, path in (
                ("GET", "/2015-03-31/functions/"), ("GET", "/2015-03-31/functions/function"), ("POST", "/2014-11-13/functions/function/invoke-async/"),
                ("GET", "/2018-10-31/layers?find=LayerVersion&Arn=x"), ("GET", "/2016-08-19/account-settings"), ("GET", "/2018-06-01/runtime/invocation/next"),
                ("GET", "/2025-12-01/durable-executions/x"),
            ):
                answer = served.ask(method, path, "{}" if method == "POST" else None)
                self.assertEqual((answer.status, answer.headers["x-amzn-ErrorType"]), (404, "UnknownOperationException"), path)
                path = path.partition("?")[0]
                self.assertEqual(answer.json["Message"], f"Unknown operation: {method} {path} (make serve has Invoke and InvokeWithResponseStream)")
                self.assertIn(f"404: {method} {path}: of Lambda's API, only Invoke and InvokeWithResponseStream are here\n", served.log)
            self.assertNotIn("START", served.log)
            for path in "/2025-01-31/report", "/2015/03/31/functions", "/x/2015-03-31/functions/", "/2015-03-31/functionsx":
                self.assertEqual((served.get(path).status, served.get(path).body), (200, b"1"), path)

    def test_event_and_dry_run(self):
        source = "import os\ndef handler(event, context):\n    with open(event['fifo'], 'w') as file: file.write(event['say'])"
        with serving(source) as served:
            fifo = os.path.join(served.root, ".fifo")
            os.mkfifo(fifo)
            answer = served.invoke({"fifo": fifo, "say": "done"}, headers={"X-Amz-Invocation-Type": "Event"})
            self.assertNotIn("X-Amz-Executed-Version", answer.headers)
            self.assertEqual((answer.status, answer.body), (202, b""))  # the function cannot have ended: nobody reads
            with open(fifo) as file:
                self.assertEqual(file.read(), "done")
            answer = served.invoke({}, headers={"X-Amz-Invocation-Type": "DryRun"})
            self.assertEqual((answer.status, answer.body), (204, b""))
            served.wait_log("REPORT")
            self.assertEqual(served.log.count("START"), 1)

    def test_error_and_log(self):
        source = """
            import sys
            def handler(event, context):
                print("x" * event)
                print("last", file=sys.stderr)
                raise ValueError("bad")
        """
        with serving(source) as served:
            for size in 10, 5000:
                answer = served.invoke(size, headers={"X-Amz-Log-Type": "Tail"})
                self.assertEqual((answer.status, answer.headers["X-Amz-Function-Error"]), (200, "Unhandled"))
                self.assertEqual((answer.json["errorType"], answer.json["errorMessage"]), ("ValueError", "bad"))
                tail = base64.b64decode(answer.headers["X-Amz-Log-Result"])
                self.assertRegex(tail, rb"(?s)x\nlast\n\[ERROR\] ValueError: bad.*\nEND .*\nREPORT .*\n\Z")
                self.assertEqual((len(tail) == 4096, tail.startswith(b"START")), (size == 5000, size == 10))

    def test_a_line_without_an_end(self):
        source = """
            import sys, threading
            def between():
                open("gate").close()
                print("between", end="")
                open("printed").close()
            def handler(event, context):
                print("out" if event else "err", end="", file=sys.stdout if event else sys.stderr)
                if event == "between": threading.Thread(target=between).start()
                if event == "wait": open("gate").close()
        """
        with serving(source) as served:
            for event, printed in (1, b"out"), (0, b"err"):
                tail = base64.b64decode(served.invoke(event, headers={"X-Amz-Log-Type": "Tail"}).headers["X-Amz-Log-Result"])
                self.assertRegex(tail, rb"\ASTART .*\n%b\nEND .*\nREPORT .*\n\Z" % printed)
            gate, printed = os.path.join(served.root, "gate"), os.path.join(served.root, "printed")
            os.mkfifo(gate)
            os.mkfifo(printed)
            served.invoke("between")
            tell(gate)
            tell(printed)
            thread = threading.Thread(target=served.invoke, args=("wait",))
            thread.start()
            served.wait_log("between\nSTART .*\nout")
            served.invoke(1)  # by another process
            tell(gate)
            thread.join(30)
            self.assertNotRegex(served.log, r"[^\n](START|END|REPORT|out|err)\b")
            self.assertNotIn("\n\n", served.log)

    def test_response_over_6_mb(self):
        with serving("def handler(event, context): return 'x' * 7_000_000") as served:
            answer = served.invoke()
            self.assertEqual((answer.json["errorType"], answer.headers["X-Amz-Function-Error"]), ("Function.ResponseSizeTooLarge", "Unhandled"))

    def test_a_stream_over_6_mb(self):
        """It is for who has asked for a stream. The function comes to its end."""
        source = """
            def handler(event, context):
                if event.get("rawPath") == "/http":
                    yield {"statusCode": 200}
                for _ in range(event.get("chunks", 7)):
                    yield b"x" * (1 << 20)
                print("ended")
        """
        for mode in "RESPONSE_STREAM", "BUFFERED":
            with serving(source, INVOKE_MODE=mode) as served:
                answer = served.invoke({})
                self.assertEqual((answer.json["errorType"], answer.headers["X-Amz-Function-Error"]), ("Function.ResponseSizeTooLarge", "Unhandled"))
                self.assertEqual(len(served.invoke({"chunks": 6}).body), 6 << 20)
                for path in "/", "/http":
                    answer = served.get(path)
                    self.assertEqual((answer.status, len(answer.body)), (502, 21) if mode == "BUFFERED" else (200, 7 << 20))
                self.assertEqual(served.log.count(" has streamed over 6291556 bytes: "), 3 if mode == "BUFFERED" else 1)
                self.assertEqual(served.log.count("ended\n"), 4)

    def test_a_stream_arrives_as_a_whole(self):
        with serving("def handler(event, context):\n    yield 'a'\n    yield 'b'\n    if event: raise ValueError('late')") as served:
            self.assertEqual(served.invoke().body, b"ab")
            answer = served.invoke(1)
            self.assertEqual((answer.headers["X-Amz-Function-Error"], answer.json["errorMessage"]), ("Unhandled", "late"))


class Streaming(unittest.TestCase):
    def ask(self, served, event, **headers):
        connection = served.connect()
        self.addCleanup(connection.close)
        connection.request("POST", STREAM, json.dumps(event), headers)
        response = connection.getresponse()
        self.addCleanup(response.close)
        self.assertEqual((response.status, response.headers["Content-Type"]), (200, "application/vnd.amazon.eventstream"))
        return frames(response)

    def test_each_chunk_as_it_is_made(self):
        source = """
            import os
            def handler(event, context):
                yield "first"
                open(event).close()
                yield "second"
        """
        with serving(source) as served:
            gate = os.path.join(served.root, ".gate")
            os.mkfifo(gate)
            messages = self.ask(served, gate)
            self.assertEqual(next(messages), ("PayloadChunk", b"first"))
            tell(gate)
            self.assertEqual(list(messages), [("PayloadChunk", b"second"), ("InvokeComplete", b"{}")])

    def test_errors_and_log(self):
        source = """
            import os
            def handler(event, context):
                if event == "early": raise ValueError("bad")
                yield "x"
                if event == "die": os._exit(3)
                raise ValueError("bad")
        """
        with serving(source) as served:
            for event, code, chunks in (("early", "ValueError", 0), ("late", "ValueError", 1), ("die", "Runtime.ExitError", 1)):
                *data, (name, payload) = self.ask(served, event, **{"X-Amz-Log-Type": "Tail"})
                self.assertEqual((data, name), ([("PayloadChunk", b"x")] * chunks, "InvokeComplete"))
                complete = json.loads(payload)
                self.assertEqual((complete["ErrorCode"], json.loads(complete["ErrorDetails"])["errorType"]), (code, code))
                self.assertRegex(base64.b64decode(complete["LogResult"]).decode(), r"(?s)\ASTART .*\nREPORT .*\n\Z")

    def test_a_value_is_one_chunk_or_a_few(self):
        with serving("def handler(event, context): return 'x' * event") as served:
            self.assertEqual(list(self.ask(served, 1)), [("PayloadChunk", b'"x"'), ("InvokeComplete", b"{}")])
            *data, last = self.ask(served, 5_000_000)
            self.assertEqual(b"".join([payload for _, payload in data]), b'"%s"' % (b"x" * 5_000_000))
            (name, payload), = self.ask(served, 7_000_000)
            self.assertEqual(json.loads(payload)["ErrorCode"], "Function.ResponseSizeTooLarge")


class Url(unittest.TestCase):
    def test_the_event(self):
        with serving(ECHO) as served:
            with contextlib.closing(served.connect()) as connection:
                connection.putrequest("PUT", "/a%20b/?q=1&q=%C3%A9&empty=&plus=a+b", skip_accept_encoding=True)
                for name, value in (("X-Two", "1"), ("X-Two", "2"), ("Cookie", "a=1; b=2"), ("Cookie", "c=3"), ("X-Utf8", b"\xc3\xa9"),
                                    ("Content-Type", "application/json; charset=utf-8"), ("Content-Length", "4"), ("User-Agent", "me")):
                    connection.putheader(name, value)
                connection.endheaders(b'"\xc3\xa9"')
                event = json.loads(connection.getresponse().read())
            host = f"127.0.0.1:{served.port}"
            context = event.pop("requestContext")
            trace = event["headers"].pop("x-amzn-trace-id")
            self.assertRegex(trace, "^Root=1-")
            self.assertEqual(event, {
                "version": "2.0", "routeKey": "$default", "rawPath": "/a%20b/", "rawQueryString": "q=1&q=%C3%A9&empty=&plus=a+b",
                "cookies": ["a=1", "b=2", "c=3"], "body": '"é"', "isBase64Encoded": False,
                "queryStringParameters": {"q": "1,é", "empty": "", "plus": "a b"},
                "headers": {
                    "host": host, "x-two": "1,2", "x-utf8": "é", "content-type": "application/json; charset=utf-8", "content-length": "4",
                    "user-agent": "me", "x-forwarded-for": "127.0.0.1", "x-forwarded-port": str(served.port), "x-forwarded-proto": "http",
                },
            })
            self.assertRegex(context.pop("time"), r"\A\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\Z")
            self.assertLess(abs(context.pop("timeEpoch") / 1000 - time.time()), 60)
            self.assertRegex(context.pop("requestId"), "^[0-9a-f-]{36}$")
            self.assertEqual(context, {
                "accountId": "anonymous", "apiId": "local", "domainName": "local.lambda-url.us-east-1.on.aws", "domainPrefix": "local",
                "routeKey": "$default", "stage": "$default",
                "http": {"method": "PUT", "path": "/a%20b/", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "me"},
            })

    def test_what_is_not_escaped(self):
        """curl sends a URL as it was typed."""
        with serving(ECHO) as served, socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
            client.sendall("GET /é?ä=ö HTTP/1.0\r\n\r\n".encode())
            event = json.loads(b"".join(iter(lambda: client.recv(1000), b"")).split(b"\r\n\r\n", 1)[1])
            self.assertEqual((event["rawPath"], event["rawQueryString"], event["queryStringParameters"]), ("/é", "ä=ö", {"ä": "ö"}))

    def test_bodies(self):
        with serving(ECHO) as served:
            for kind, sent, body in (
                ("text/plain", "é".encode(), "é"), ("application/vnd.api+json", b"{}", "{}"), ("application/octet-stream", b"{}", b"{}"),
                ("application/x-www-form-urlencoded", b"a=1", b"a=1"), ("text/plain", b"\xff", b"\xff"), ("image/png", bytes(range(256)), bytes(range(256))),
            ):
                event = served.ask("POST", "/", sent, {"Content-Type": kind}).json
                self.assertEqual(event["isBase64Encoded"], isinstance(body, bytes), kind)
                self.assertEqual(base64.b64decode(event["body"]) if isinstance(body, bytes) else event["body"], body)
            event = served.ask("POST", "/", iter([b"in ", b"chunks"]), {"Content-Type": "text/plain"}).json
            self.assertEqual(event["body"], "in chunks")
            self.assertNotIn("body", served.get().json)
            self.assertEqual(served.ask("POST", "/", b"x" * 7_000_000).status, 413)

    def test_expect_100_continue(self):
        with serving(ECHO) as served, socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            self.assertEqual(client.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            client.sendall(b"hi")
            self.assertTrue(client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n"))

    def test_answers(self):
        source = """
            def handler(event, context):
                import base64, json
                return json.loads(base64.b64decode(event["body"])) if event.get("body") else b"\\xff"
        """
        with serving(source) as served:
            for value, status, kind, body in (
                ({"a": 1}, 200, "application/json", b'{"a": 1}'), ("text", 200, "application/json", b'"text"'), (None, 200, "application/json", b"null"),
                ([1], 200, "application/json", b"[1]"), ({"statusCode": 201}, 201, "application/json", b""),
                ({"statusCode": 200, "body": "é"}, 200, "application/json", "é".encode()),
                ({"statusCode": "404", "headers": {"Content-Type": "text/html"}, "body": "<p>"}, 404, "text/html", b"<p>"),
                ({"statusCode": 200, "body": "/w==", "isBase64Encoded": True}, 200, "application/json", b"\xff"),
                ({"statusCode": 200, "body": {}}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": "x"}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 100}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 200, "headers": {"a": "b\nc: d"}}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 200, "headers": {"a b": "c"}}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 200, "headers": {"x-list": ["c"]}}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 200, "headers": []}, 200, "application/json", b""),
                ({"statusCode": 200, "headers": ["a"]}, 502, "text/plain", b"Internal Server Error"),
                ({"statusCode": 200, "body": "x", "isBase64Encoded": True}, 502, "text/plain", b"Internal Server Error"),
            ):
                answer = served.ask("POST", "/", json.dumps(value))
                self.assertEqual((answer.status, answer.headers["Content-Type"], answer.body), (status, kind, body), value)
            self.assertEqual(served.get().status, 502)
            for told in (
                "502: body is dict: it has to be a string", "502: statusCode is 'x': a number from 200 to 599", "502: header a has a line break",
                "502: 'a b' is no name of a header", "502: header x-list is list: it has to be a string; several go into multiValueHeaders\n",
                "502: isBase64Encoded is true, and body is not base64", "502: the response is not JSON: return a dict",
            ):
                self.assertIn(told, served.log)
            value = {"statusCode": 200, "headers": {"X-N": 1, "X-B": True, "X-U": "é", "Content-Length": "99"}, "cookies": ["a=1; Path=/", "b=2"]}
            answer = served.ask("POST", "/", json.dumps(value))
            self.assertEqual([answer.headers[name] for name in ("X-N", "X-B", "Content-Length")], ["1", "true", "0"])
            self.assertEqual(answer.headers["X-U"].encode("latin-1").decode(), "é")
            self.assertEqual(answer.headers.get_all("Set-Cookie"), ["a=1; Path=/", "b=2"])

    def test_without_a_body(self):
        with serving("def handler(event, context): return {'statusCode': 204 if event['rawPath'] == '/204' else 200, 'body': 'text'}") as served:
            with contextlib.closing(served.connect()) as connection:  # a kept one: a body that is too much would break what follows
                for method, path, status, length in (("HEAD", "/", 200, "4"), ("GET", "/204", 204, None), ("DELETE", "/", 200, "4")):
                    connection.request(method, path)
                    response = connection.getresponse()
                    self.assertEqual((response.status, response.headers["Content-Length"]), (status, length))
                    self.assertEqual(response.read(), b"text" if method == "DELETE" else b"")

    def test_a_stream_without_a_body(self):
        """Not a byte follows the head: a client would take it for the next answer. One that leaves then has left nothing behind."""
        source = """
            def handler(event, context):
                method, path = event["requestContext"]["http"]["method"], event["rawPath"]
                yield {"statusCode": int(path[1:4])}
                if "gate" in path:
                    yield "x"
                    open("gate").close()
                while "endless" in path:
                    yield "x"
                yield "text"
                print("ended", method, path)
        """
        with serving(source) as served:
            os.mkfifo(os.path.join(served.root, "gate"))
            for method, path in ("GET", "/204"), ("GET", "/304"), ("HEAD", "/200"), ("HEAD", "/204"):
                with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
                    client.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\nGET /201 HTTP/1.0\r\n\r\n".encode())
                    head, _, rest = b"".join(iter(lambda: client.recv(1000), b"")).partition(b"\r\n\r\n")
                    self.assertTrue(head.startswith(f"HTTP/1.1 {path[1:]} ".encode()), head)
                    self.assertEqual(b"Transfer-Encoding" in head, path == "/200")
                    self.assertTrue(rest.startswith(b"HTTP/1.1 201 Created\r\n") and rest.endswith(b"\r\n\r\ntext"), rest)
            for method, path in ("GET", "/204/gate"), ("GET", "/304/gate"), ("HEAD", "/200/gate"):
                with contextlib.closing(served.connect()) as client:
                    client.request(method, path)
                    client.getresponse()
                tell(os.path.join(served.root, "gate"))
                served.wait_log(f"ended {method} {path}\n")
            self.assertNotIn("cut off", served.log)
            self.assertEqual(served.ask("HEAD", "/200/endless").body, b"")
            served.wait_log("cut off")

    STREAM = """
        def handler(event, context):
            path = event["rawPath"]
            if path == "/bytes":
                yield b"a"
            else:
                yield {"statusCode": 201, "headers": {"Content-Type": "text/event-stream"}, "cookies": ["a=1", "b=2"]}
                yield "data: 1\\n\\n"
            if "gate" in path:
                open("." + path).close()
            if path == "/late":
                raise ValueError("late")
            yield "data: 2\\n\\n"
    """

    def test_stream(self):
        with serving(self.STREAM) as served:
            os.mkfifo(os.path.join(served.root, "gate"))
            with contextlib.closing(served.connect()) as connection:
                connection.request("GET", "/gate")
                response = connection.getresponse()
                self.assertEqual((response.status, response.headers["Content-Type"]), (201, "text/event-stream"))
                self.assertEqual(response.headers.get_all("Set-Cookie"), ["a=1", "b=2"])
                self.assertEqual(response.readline() + response.readline(), b"data: 1\n\n")
                tell(os.path.join(served.root, "gate"))
                self.assertEqual(response.read(), b"data: 2\n\n")
            answer = served.get("/bytes")
            self.assertEqual((answer.status, answer.headers["Content-Type"], answer.body), (200, "application/octet-stream", b"adata: 2\n\n"))
            with self.assertRaises(http.client.IncompleteRead) as raised:
                served.get("/late")
            self.assertEqual(raised.exception.partial, b"data: 1\n\n")
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
                client.sendall(b"GET /old HTTP/1.0\r\n\r\n")
                head, body = b"".join(iter(lambda: client.recv(1000), b"")).split(b"\r\n\r\n", 1)
                self.assertEqual(body, b"data: 1\n\ndata: 2\n\n")
                self.assertNotIn(b"chunked", head)

    def test_a_web_application_streams(self):
        """asgi() and wsgi() know the function URL, as on AWS; the URLs that they make are those that the client can ask for."""
        source = """
            import runtime
            def app(environ, start_response):
                start_response("200 OK", [])
                yield environ["HTTP_HOST"].encode()
                with open("gate") as gate: yield gate.read().encode()
            handler = runtime.wsgi(app)
        """
        with serving(source) as served:
            os.mkfifo(os.path.join(served.root, "gate"))
            with contextlib.closing(served.connect()) as connection:
                connection.request("GET", "/")
                response, host = connection.getresponse(), f"127.0.0.1:{served.port}"
                self.assertEqual(response.read(len(host)), host.encode())
                tell(os.path.join(served.root, "gate"), "later")
                self.assertEqual(response.read(), b"later")

    def test_buffered(self):
        with serving(self.STREAM, INVOKE_MODE="BUFFERED") as served:
            answer = served.get("/")
            self.assertEqual((answer.status, answer.headers["Content-Length"], answer.body), (201, "18", b"data: 1\n\ndata: 2\n\n"))
            self.assertEqual(served.get("/late").status, 502)

    def test_error(self):
        source = """
            import os
            def handler(event, context):
                if event["rawPath"] == "/die": os._exit(1)
                if event["rawPath"] == "/status":
                    yield {"statusCode": 99}
                    yield "x"
                raise ValueError("bad")
        """
        with serving(source) as served:
            for path in "/", "/die", "/status":
                answer = served.get(path)
                self.assertEqual((answer.status, answer.body), (502, b"Internal Server Error"), path)
            self.assertIn("ValueError: bad", served.log)

    def test_a_client_that_leaves_a_stream(self):
        source = """
            import time
            def handler(event, context):
                try:
                    while event["rawPath"] == "/endless":
                        yield "x" * 1000
                        time.sleep(0.001)
                    yield "end"
                finally:
                    print("closed", event["rawPath"])
        """
        with serving(source, CONCURRENCY="1") as served:
            with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
                client.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
                client.recv(10)
            self.assertEqual(served.get("/next").body, b"end")  # by the same process, which is free
            self.assertRegex(served.log, r"(?s)closed /endless\n.*REPORT .*START .*closed /next\n")
            self.assertEqual(served.log.count("Init Duration"), 1)

    def test_a_client_that_leaves_a_stream_that_waits(self):
        source = """
            import runtime
            async def app(scope, receive, send):
                if scope["type"] == "lifespan": return
                await receive()
                await send({"type": "http.response.start", "status": 200})
                await send({"type": "http.response.body", "body": b"x", "more_body": scope["path"] == "/waits"})
                print((await receive())["type"])
            handler = runtime.asgi(app)
        """
        with serving(source, CONCURRENCY="1") as served:
            with contextlib.closing(served.connect()) as client:
                client.request("GET", "/waits")
                self.assertEqual(client.getresponse().read(1), b"x")
            served.wait_log("http.disconnect\n")
            self.assertEqual(served.get("/next").body, b"x")
            with contextlib.closing(served.connect()) as client:  # one that stays is not taken for one that leaves
                for _ in range(3):
                    client.request("GET", "/next")
                    self.assertEqual(client.getresponse().read(), b"x")
            self.assertEqual(served.log.count("Init Duration"), 1)


class Reload(unittest.TestCase):
    def test_an_edit(self):
        with serving("def handler(event, context): return 1") as served:
            self.assertEqual(served.invoke().json, 1)
            for n in range(2, 6):  # of the same size, within the same second: Python's compiled file does not tell them apart
                served.write("function.py", f"def handler(event, context): return {n}")
                self.assertEqual(served.invoke().json, n)
            self.assertEqual(served.log.count("function.py changed: the function starts anew\n"), 4)
            served.write("new.txt", "")
            served.invoke()
            self.assertEqual(served.log.count("Init Duration"), 6)
            served.invoke()
            self.assertEqual(served.log.count("Init Duration"), 6)

    def test_a_process_that_is_late_to_ask_for_the_next_event(self):
        """As on a busy machine: the answer waits, so that the next event starts no other process."""
        source = """
            import runtime, time
            wait_next_invocation = runtime.LambdaRuntimeClient.wait_next_invocation
            def wait_longer(client):
                time.sleep(0.2)
                return wait_next_invocation(client)
            runtime.LambdaRuntimeClient.wait_next_invocation = wait_longer
            def handler(event, context): return event
        """
        with serving(source) as served:
            self.assertEqual([served.invoke(n).json for n in range(2)], [0, 1])
            self.assertEqual(served.log.count("Init Duration"), 1)

    def test_a_syntax_error(self):
        with serving("def handler(event, context): return 1") as served:
            served.invoke()
            served.write("function.py", "def handler(")
            answer = served.invoke()
            self.assertEqual((answer.json["errorType"], answer.headers["X-Amz-Function-Error"]), ("Runtime.UserCodeSyntaxError", "Unhandled"))
            self.assertEqual(served.get().status, 502)
            self.assertIn("[ERROR] Runtime.UserCodeSyntaxError", served.log)
            served.write("function.py", "def handler(event, context): return 2")
            self.assertEqual(served.invoke().json, 2)

    def test_the_folder_goes_and_comes(self):
        with serving("def handler(event, context): return 1") as served:
            os.rename(served.root, served.root + "-away")
            answer = served.invoke()
            os.rename(served.root + "-away", served.root)
            self.assertEqual((answer.json["errorType"], answer.headers["X-Amz-Function-Error"]), ("Runtime.InvalidEntrypoint", "Unhandled"))
            self.assertRegex(served.log, rf"Error: .*No such file or directory: '{served.root}'\nREPORT ")
            self.assertEqual(served.invoke().json, 1)

    def test_the_machine_is_at_fault(self):
        with tempfile.TemporaryDirectory() as folder:
            temporary = os.path.join(folder, "tmp")
            os.mkdir(temporary)
            with serving("def handler(event, context): return 1", TMPDIR=temporary) as served:
                os.rename(temporary, temporary + "-away")
                served.write("function.py", "def handler(event, context): return 2")
                with self.assertRaises(http.client.RemoteDisconnected):
                    served.invoke()
                os.rename(temporary + "-away", temporary)
                served.wait_log(r"a request has got no answer: \[Errno 2\] No such file or directory: ")
                self.assertEqual(served.invoke().json, 2)

    def test_its_sigterm_handler_runs(self):
        source = """
            import os, signal, sys, threading
            signal.signal(signal.SIGTERM, lambda number, frame: (print("bye", os.getpid()), threading.Event().wait() if {!r} else sys.exit()))
            def handler(event, context): return os.getpid()
        """
        for hangs in False, True:
            with serving(source.format(hangs)) as served:
                first = served.invoke().json
                until_asleep(first)
                served.write("data", "")
                self.assertNotEqual(served.invoke().json, first)
                self.assertRegex(served.log, rf"(?s)data changed.*\nbye {first}\nSTART")
                with self.assertRaises(ProcessLookupError):
                    os.kill(first, 0)

    def test_an_invocation_that_is_under_way_ends_as_it_began(self):
        with serving("import os\nN = 1\ndef handler(event, context):\n    if event: open('.gate').close()\n    return N") as served:
            os.mkfifo(os.path.join(served.root, ".gate"))
            answers = []
            thread = threading.Thread(target=lambda: answers.append(served.invoke(1).json))
            thread.start()
            served.wait_log("START")
            served.write("function.py", "def handler(event, context): return 2")
            self.assertEqual(served.invoke().json, 2)
            tell(os.path.join(served.root, ".gate"))
            thread.join(30)
            self.assertEqual(answers, [1])
            for _ in range(3):
                self.assertEqual(served.invoke().json, 2)

    def test_its_own_output_in_the_folder(self):
        for shell in "2>{}", "2>&1 | tee {}", "2>&1 | cat | tee {}":
            with function(function="def handler(event, context): return 1") as root:
                path = pathlib.Path(root, "serve.log")
                with Served(root, shell=shell.format(path)) as served:
                    for n in range(1, 4):
                        self.assertEqual(served.invoke().json, 1)
                        until(lambda path=path, n=n: path.read_text().count("REPORT") == n)
                    self.assertNotIn("changed", path.read_text(), shell)
                    served.write("function.py", "def handler(event, context): return 2")
                    self.assertEqual(served.invoke().json, 2)

    def test_what_counts(self):
        with tempfile.TemporaryDirectory() as folder:
            def write(name, text=""):
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

            write("requests-2.dist-info/RECORD", "requests/__init__.py,sha256=x,1\n../../bin/x,,\nsix.py,,\n\"a,b.py\",,\n")
            write("requests/__init__.py")
            write("venv/pyvenv.cfg")
            os.symlink(".", os.path.join(folder, "loop"))
            files = Files(folder)
            for name in (
                "__pycache__/x.pyc", "deep/__pycache__/x.pyc", ".git/x", ".venv/x", "requests/new.py", "six.py", "venv/lib/x.py", "node_modules/x.js",
                "site-packages/x.py", "requests-2.dist-info/INSTALLER", ".function.py.swp", "function.py~", "4913", "deep/#function.py#",
            ):
                write(name)
                self.assertEqual(files.changed(), [], name)
            for name in "new.py", "deep/new.py", "data.json", ".env":
                write(name)
                self.assertEqual(files.changed(), [name])
            write("new.py", "x")
            os.remove(os.path.join(folder, "data.json"))
            self.assertEqual(files.changed(), ["data.json", "new.py"])
            self.assertEqual(files.changed(), [])


class AsLambda(unittest.TestCase):
    def test_processes_on_demand(self):
        source = """
            import os
            def handler(event, context):
                if event:
                    print("waits")
                    open(event).close()
                return os.getpid()
        """
        with serving(source, CONCURRENCY="2") as served:
            gate = os.path.join(served.root, ".gate")
            os.mkfifo(gate)
            pids = []
            threads = [threading.Thread(target=lambda: pids.append(served.invoke(gate).json)) for _ in range(3)]
            for thread in threads:
                thread.start()
            served.wait_log("(?s)waits.*waits")
            while any(thread.is_alive() for thread in threads):
                with contextlib.suppress(AssertionError):
                    tell(gate, timeout=0.01)
            self.assertEqual((len(pids), len(set(pids))), (3, 2))
            until(lambda: len({served.invoke().json for _ in range(3)}) == 1, "not always the one that was used last")

    def test_ends(self):
        source = """
            import os, signal, sys, time
            def handler(event, context):
                if event == "exit": os._exit(3)
                if event == "kill": os.kill(os.getpid(), signal.SIGKILL)
                if event == "sys": sys.exit(4)
                if event == "sleep": time.sleep(60)
                return os.getpid()
        """
        with serving(source, TIMEOUT="1", CONCURRENCY="1") as served:  # else another may take the event
            before = served.invoke().json
            for event, error, message, said, status in (
                ("exit", "Runtime.ExitError", "Error: Runtime exited with error: exit status 3", "", "error"),
                ("kill", "Runtime.ExitError", "Error: Runtime exited with error: signal: killed", "", "error"),
                ("sys", "SystemExit", "4", "Error: Runtime exited with error: exit status 4", "error"),
                ("sleep", "Sandbox.Timedout", "Error: Task timed out after 1.00 seconds", "Task timed out after 1.00 seconds", "timeout"),
            ):
                answer = served.invoke(event)
                self.assertEqual((answer.status, answer.headers["X-Amz-Function-Error"]), (200, "Unhandled"))
                self.assertEqual(answer.json["errorType"], error)
                request_id = answer.headers["x-amzn-RequestId"]
                self.assertEqual(answer.json["errorMessage"], message if error == "SystemExit" else f"RequestId: {request_id} {message}")
                self.assertRegex(served.log, rf"{request_id} {said or message}\nEND RequestId: {request_id}\nREPORT .*\tStatus: {status}")
                after = served.invoke().json
                self.assertNotEqual(after, before)
                before = after

    def test_managed_instances(self):
        """The runtime itself answers at the deadline, and for a worker that has died, and goes on."""
        source = """
            import os, threading
            def handler(event, context):
                return threading.Event().wait() if event == "hang" else os._exit(3) if event == "die" else stream(event)
            def stream(event):
                yield "begun"
                if event == "hang on": threading.Event().wait()
                if event == "die on": os._exit(3)
        """
        with serving(source, TIMEOUT="1", CONCURRENCY="2", AWS_LAMBDA_MAX_CONCURRENCY="3") as served:
            answers, events = {}, ("hang", "hang on", "die", "die on")
            threads = [threading.Thread(target=lambda event=event: answers.update({event: served.invoke(event).json})) for event in events]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            for event, error in zip(events, (["Sandbox.Timedout"] * 2 + ["Runtime.ExitError"] * 2)):
                self.assertEqual(answers[event]["errorType"], error, event)
            self.assertEqual(served.invoke().body, b"begun")
            self.assertLessEqual(served.log.count("Init Duration"), 2)
            self.assertEqual(len(re.findall("(?m)^runtime: RequestId: .* Error: ", served.log)), 4)
            self.assertNotIn("Status:", served.log)

    def test_init_error(self):
        with serving("import nowhere") as served:
            for _ in range(2):
                answer = served.invoke()
                self.assertEqual((answer.json["errorType"], answer.headers["X-Amz-Function-Error"]), ("Runtime.ImportModuleError", "Unhandled"))
            self.assertEqual(served.log.count("[ERROR] Runtime.ImportModuleError"), 2)
        with serving("import os; os._exit(5)") as served:
            self.assertRegex(served.invoke().json["errorMessage"], "Error: Runtime exited with error: exit status 5$")

    def test_a_hint(self):
        """What make run says of a mistake as well; the caller's log has Lambda's lines only."""
        with serving("import no_such\ndef handler(event, context): pass") as served:
            answer = served.invoke(headers={"X-Amz-Log-Type": "Tail"})
            served.wait_log(r"REPORT .*\nno_such is not installed: .* no_such")
            self.assertNotIn(b"not installed", base64.b64decode(answer.headers["X-Amz-Log-Result"]))
            served.write("function.py", "def handler(event, context): import no_such.thing")
            served.invoke()
            served.wait_log("(?s)(no_such is not installed.*){2}")
        with serving("def handler(event, context): pass", "function.hander") as served:
            served.invoke()
            served.wait_log(r"REPORT .*\nHANDLER=function.hander: function.py defines handler: HANDLER=function.handler\?\n")

    def test_a_write_into_its_folder(self):
        with serving("def handler(event, context):\n    if event: open(event, 'a').write('x')\n    return event") as served:
            served.invoke()
            self.assertNotIn("warning", served.log)
            for n, name in enumerate(["data", "data", "other"]):
                self.assertEqual(served.invoke(name).json, name)
                served.wait_log(rf"(?s)\A([^\n]*\n)*?warning: {name} changed while the function ran: what it writes into its own folder fails on Lambda")
                served.wait_log(f"(?s)(REPORT.*){{{n + 2}}}")
            self.assertEqual(served.log.count("warning: data changed"), 1)

    def test_a_process_that_dies_while_it_is_idle(self):
        source = """
            import os, threading
            def handler(event, context):
                if event: threading.Timer(0.02, os._exit, [0]).start()
                return os.getpid()
        """
        with serving(source) as served:
            first = served.invoke(1).json
            answers = [served.invoke() for _ in range(50)]
            self.assertEqual({answer.status for answer in answers}, {200})
            while served.invoke().json == first:
                pass

    def test_memory(self):
        with serving("data = b'x' * 80_000_000\ndef handler(event, context): return 1", AWS_LAMBDA_FUNCTION_MEMORY_SIZE="64") as served:
            self.assertEqual(served.invoke().json, 1)
            self.assertRegex(served.log, r"\nwarning: the function used \d+ MB, more than its 64 MB: .*AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128 ")

    def test_ctrl_c_ends_all_at_once(self):
        source = """
            import os, subprocess
            def handler(event, context):
                child = subprocess.Popen(["sleep", "60"])
                print("pids", os.getpid(), child.pid)
                child.wait()
        """
        for number, status in (signal.SIGINT, 130), (signal.SIGTERM, 143):
            with tempfile.TemporaryDirectory() as temporary, serving(source, TMPDIR=temporary) as served:
                threads = [threading.Thread(target=self.ask_in_vain, args=(served,)) for _ in range(3)]
                for thread in threads:
                    thread.start()
                served.wait_log("(?s)(pids.*){3}")
                self.assertEqual(len(os.listdir(temporary)), 3)
                self.assertEqual(served.stop(number), status)
                for thread in threads:
                    thread.join(30)
                pids = re.findall(r"\d+", " ".join(re.findall(r"pids (.*)", served.log)))
                self.assertEqual(len(pids), 6)
                until(lambda pids=pids: not any(map(alive, pids)), "a process is left")  # SIGKILL has been sent
                self.assertEqual(os.listdir(temporary), [])
                with self.assertRaises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", served.port))
                self.assertNotRegex(served.log, "Traceback|exited|REPORT")

    def test_ctrl_c_while_a_process_is_replaced(self):
        source = """
            import os, signal, time
            def terminate(number, frame):
                print("terminates", os.getpid())
                time.sleep(60)
            signal.signal(signal.SIGTERM, terminate)
            def handler(event, context): return os.getpid()
        """
        with tempfile.TemporaryDirectory() as temporary, serving(source, TMPDIR=temporary) as served:
            pid = served.invoke().json
            until_asleep(pid)
            served.write("function.py", "")
            thread = threading.Thread(target=self.ask_in_vain, args=(served,))
            thread.start()
            served.wait_log(f"terminates {pid}")
            self.assertEqual(served.stop(), 130)
            thread.join(30)
            until(lambda: not alive(pid), "the process is left")
            self.assertEqual(os.listdir(temporary), [])

    def ask_in_vain(self, served):
        with self.assertRaises((OSError, http.client.HTTPException)):
            served.invoke()

    def test_a_port_that_is_taken(self):
        with serving(ECHO) as served, Served(served.root, port=str(served.port)) as other:
            self.assertEqual(other.process.wait(30), 1)
            self.assertEqual(other.log, f"PORT={served.port}: Address already in use: choose another, as in make serve PORT=9100\n")

    def test_the_example_is_named(self):
        with Served("tests/hello", "page.handler") as served:
            self.assertTrue(served.get("/").body.startswith(b"<!doctype html>"))
            self.assertTrue(served.log.startswith("FUNCTION=tests/hello\nSTART "), served.log)
            with contextlib.closing(served.connect()) as connection:
                connection.request("GET", "/hello?name=%C3%89va")
                response = connection.getresponse()
                self.assertEqual(response.headers["Content-Type"], "text/event-stream")
                self.assertEqual([response.readline() for _ in range(3)], [b'data: "Hello, "\n', b"\n", b'data: "\\u00c9va! "\n'])

    def test_many_at_once(self):
        with serving("def handler(event, context): return event", CONCURRENCY="4") as served:
            request = "POST " + PATH % "function" + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n%d"
            number = min(300, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 100)  # serve has the same limit
            clients = [socket.create_connection(("127.0.0.1", served.port), timeout=30) for _ in range(number)]
            for n, client in enumerate(clients):
                client.sendall((request % (1000 + n)).encode())
            for n, client in enumerate(clients):
                with client:
                    answer = b"".join(iter(lambda client=client: client.recv(1000), b""))
                    self.assertTrue(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n%d" % (1000 + n)), answer)
            self.assertEqual(served.log.count("Init Duration"), 4)


def alive(pid):
    """Whether a process runs; not one that has ended and that nobody has asked about."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


class Debugging(unittest.TestCase):
    def test_breakpoint(self):
        with serving("def handler(event, context):\n    answer = 41\n    breakpoint()\n    return answer", stdin=subprocess.PIPE, TIMEOUT="0") as served:
            answers = []
            thread = threading.Thread(target=lambda: answers.append(served.invoke().json))
            thread.start()
            served.wait_log(r"\(Pdb\) \Z")
            served.process.stdin.write(b"answer = 42\nc\n")
            served.process.stdin.flush()
            thread.join(30)
            self.assertEqual(answers, [42])

    def test_a_bootstrap_of_its_own(self):
        """Which the folder needs no other file beside; and where somebody else starts it, the command is told."""
        with function(**{"bootstrap.sh": "#!/usr/bin/env python3\nimport runtime\nruntime.run(lambda event, context: 'its own')\n"}) as root:
            path = os.path.join(root, "bootstrap")
            os.rename(f"{path}.sh", path)
            os.chmod(path, 0o755)
            with Served(root) as served:
                self.assertEqual(served.invoke().json, "its own", served.log)
            with Served(root, "") as served:
                python_path = f"PYTHONPATH={shlex.quote(str(REPO))}"
                last = f"or, where a debugger wants Python: {python_path} python3 {path}\n"
                *_, command = iter(lambda: served.line() or self.fail(served.log), last)
            self.assertEqual(command, f"{python_path} {path}\n")
        with function() as root, Served(root, "") as served:  # what somebody else starts may lie elsewhere
            self.assertEqual(served.stop(), 130, served.log)

    def test_a_process_that_somebody_else_starts(self):
        with serving(ECHO, "", AWS_LAMBDA_FUNCTION_NAME="orders") as served, tempfile.TemporaryDirectory() as folder:
            python = pathlib.Path(folder, "python3")  # which a machine with several versions need not have
            python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
            python.chmod(0o755)
            told = ""
            while not told.endswith("runtime.main()'\n"):
                told += served.line()
            variables = {name: shlex.split(value)[0] for name, value in re.findall(r"(?m)^export (\w+)=(.*)$", told)}
            path = f"{folder}:{os.environ['PATH']}"
            self.assertEqual((variables["_HANDLER"], variables["LAMBDA_TASK_ROOT"]), ("function.handler", served.root))
            command = told.splitlines()[-1].partition(": ")[2]  # PYTHONPATH=... python3 -c '...'
            self.assertNotEqual(variables["AWS_LAMBDA_RUNTIME_API"], f"127.0.0.1:{served.port}")
            answers = []
            thread = threading.Thread(target=lambda: answers.append(served.invoke(1, "orders").json))
            thread.start()
            served.wait_log(r"\A[0-9a-f-]{36} waits for the function's process, which is yours to start: ")
            for n in range(2):
                process = subprocess.Popen(["sh", "-c", f"exec env {command}"], env={**os.environ, **variables, "PATH": path})
                thread.join(30)
                self.assertEqual(answers, [1])
                if n == 0:  # and starts again: an event that comes meanwhile waits
                    process.kill()
                    process.wait()
                    answers.clear()
                    thread = threading.Thread(target=lambda: answers.append(served.invoke(1, "orders").json))
                    thread.start()
            process.kill()
            process.wait()
            served.write("function.py", "import nowhere")
            thread = threading.Thread(target=lambda: answers.append(served.invoke(1, "orders").json["errorType"]))
            thread.start()
            for _ in range(10):  # one that fails before the event is there is not the one that answers it
                subprocess.run([os.path.join(REPO, "bootstrap")], env={**os.environ, **variables, "PATH": path}, stdout=subprocess.DEVNULL, check=False)
                thread.join(1)
                if not thread.is_alive():
                    break
            self.assertEqual(answers, [1, "Runtime.ImportModuleError"])


if __name__ == "__main__":
    unittest.main()
