"""Nothing gets out or in but by the Runtime API's rules: what an event, an exception or a header holds stays data."""

import json
import os
import re
import tempfile
import unittest
import urllib.parse
from pathlib import Path

from miniature import Fault, Lambda, function
from miniature.raw import ACCEPTED, BASE, RawApi, event

ODD = [
    "with space", "tab\tinside", "100%", "%0d%0aX-Injected: 1", "\\r\\nX-Injected: 1", "a/b/../../c", "a?b=c#d", "é\u2028\U0001f600",
    "'\"<>;,&", "a, b", "\x01\x0b\x0c\x1b[31m\x7f", "x" * 5000, "..", "0", "é",
]  # fmt: skip


class Injection(unittest.TestCase):
    """RawApi fails on any request whose line or header fields hold more than printable ASCII, and on fields that come twice."""

    source = """
    def handler(event, context):
        if event == "error":
            raise ValueError(context.aws_request_id)
        if event == "stream":
            return stream(context)
        return context.aws_request_id

    def stream(context):
        yield "first"
        raise ValueError(context.aws_request_id)
    """

    def invoke(self, api, request_id, event_, **headers):
        self.assertEqual(api.request().kind, "next")
        lines = "".join(f"\r\n{name.replace('_', '-')}: {value}" for name, value in headers.items())
        answer = event(request_id, json.dumps(event_).encode())
        api.send(answer.replace(b"\r\n", lines.encode() + b"\r\n", 1))
        request = api.request()
        api.send(ACCEPTED)
        return request

    def test_request_ids(self):
        """An id is one segment of the path, and the same for the function as for the Runtime API."""
        with function(function=self.source) as root, RawApi() as api, api.start(root):
            for request_id in ODD:
                for event_, kind in (("value", "response"), ("error", "error"), ("stream", "response")):
                    with self.subTest(request_id=request_id[:50], event=event_):
                        request = self.invoke(api, request_id, event_)
                        self.assertRegex(request.path, f"^{BASE}invocation/[^/?#]+/{kind}$")
                        self.assertEqual(urllib.parse.unquote(request.request_id), request_id)
                        if event_ == "value":
                            self.assertEqual(json.loads(request.body), request_id)

    def test_request_ids_that_are_not_utf_8(self):
        with function(function=self.source) as root, RawApi() as api, api.start(root):
            api.request()
            api.send(event("REPLACED", b'"error"').replace(b"REPLACED", b"\xff\xfe\x80"))
            request = api.request()
            self.assertEqual(urllib.parse.unquote_to_bytes(request.request_id), b"\xff\xfe\x80")
            self.assertEqual(json.loads(request.body)["requestId"], "\udcff\udcfe\udc80")

    def test_trace_ids_that_are_not_utf_8(self):
        source = "import os\ndef handler(event, context): return list(os.environb[b'_X_AMZN_TRACE_ID'])"
        with function(function=source) as root, RawApi() as api, api.start(root):
            api.request()
            api.send(event("id", b"0").replace(b"\r\n", b"\r\nLambda-Runtime-Trace-Id: \xff\xe9\r\n", 1))
            self.assertEqual(json.loads(api.request().body), [0xFF, 0xE9])

    def test_invocation_ids(self):
        """Sent back as they came where a header can carry that, with escapes otherwise."""
        with function(function=self.source) as root, RawApi() as api, api.start(root):
            for invocation_id in ODD:
                for event_ in ("value", "error", "stream"):
                    with self.subTest(invocation_id=invocation_id[:50], event=event_):
                        request = self.invoke(api, "id", event_, Lambda_Runtime_Invocation_Id=invocation_id)
                        sent = request.headers["lambda-runtime-invocation-id"]
                        printable = invocation_id.isascii() and invocation_id.isprintable()
                        self.assertEqual(sent, invocation_id if printable else ascii(invocation_id)[1:-1])

    def test_exceptions(self):
        """Neither what an exception is called nor what it says, nor where, leaves its header field."""
        source = """
        def handler(event, context):
            name, message, stream = event
            code = compile("raise type(name, (Exception,), {})(message)", name.replace(chr(0), "") or "x", "exec")
            code = code.replace(co_name=name)
            return chunks(code, name, message) if stream else exec(code, {"name": name, "message": message})

        def chunks(code, name, message):
            yield "first"
            exec(code, {"name": name, "message": message})
        """
        breaks = ["a\r\nX-Injected: 1", "a\nb", "a\rb", "\r\n\r\n0\r\n\r\n", "\x00", "\x85\u2028\u2029", "é", "\U0001f600", "a" * 100_000, " "]
        with function(function=source) as root, RawApi() as api, api.start(root):
            for name in breaks:
                with self.subTest(name=name[:50]):
                    if "\0" in name:  # no class can be called that
                        request = self.invoke(api, "id", ["Error", name, False])
                    else:
                        request = self.invoke(api, "id", [name, name, False])
                        self.assertEqual(json.loads(request.body)["errorType"], name)
                        escaped = name if name.isascii() and name.isprintable() else ascii(name)[1:-1]
                        sent = request.headers["lambda-runtime-function-error-type"]
                        self.assertTrue(sent and escaped.strip().startswith(sent.strip()[:500]), sent[:100])
                    self.assertEqual(json.loads(request.body)["errorMessage"], name)
                    json.loads(request.headers["lambda-runtime-function-xray-error-cause"])
                    late = self.invoke(api, "id", [name.replace("\0", "0"), name, True])
                    self.assertEqual(late.body, b"first")
                    self.assertIn("lambda-runtime-function-error-type", late.trailers)

    def test_names_of_init_errors(self):
        """RawApi refuses what is not one request with printable fields."""
        source = "raise type('a\\r\\nX-Injected: 1', (Exception,), {})('b\\r\\n\\r\\nGET / HTTP/1.1')"
        with function(function=source) as root, RawApi() as api, api.start(root):
            request = api.request()
            self.assertEqual(request.headers["lambda-runtime-function-error-type"], r"a\r\nX-Injected: 1")
            api.send(ACCEPTED)
            self.assertEqual(api.ended(), 1)

    def test_metadata_of_a_stream(self):
        """It is the body's: no header of the request to the Runtime API comes of it."""
        source = """
        def handler(event, context):
            yield {"statusCode": "200\\r\\nX: y", "headers": {"X-Injected\\r\\nX: y": "\\r\\n\\r\\n"}, "cookies": ["\\0"]}
        """
        with function(function=source) as root, RawApi() as api, api.start(root):
            request = self.invoke(api, "id", None)
            self.assertEqual(json.loads(request.body.partition(b"\0" * 8)[0])["statusCode"], "200\r\nX: y")

    def test_lines_of_the_runtimes_own(self):
        """What the API says cannot break out of the runtime's line on stderr, nor steer a terminal."""
        odd = "a\x1b[2J\x7f\x9b\u2028b"
        with function(function=self.source) as root, RawApi() as api, api.start(root) as process:
            self.assertEqual(api.request().kind, "next")
            api.send(event(odd, b'"stream"'))
            self.assertEqual(api.request().kind, "response")
            api.hang_up()  # which is noted, with the request id
            self.assertEqual(api.request().kind, "next")
            body = odd.encode()
            api.send(b"HTTP/1.1 503 X\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            self.assertEqual(api.ended(), 1)
            lines = process.errors.decode("ascii").splitlines(keepends=True)
            self.assertEqual(len(lines), 2, lines)
            for line in lines:
                self.assertRegex(line, r"\Aruntime: [ -~]*a\\x1b\[2J[ -~]*b[ -~]*\n\Z")


AUDIT = """
import os, sys

def audit(name, arguments):
    # Of `open` the arguments are path, mode and flags.
    if name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        os.write(2, f"AUDIT {name} {arguments}\\n".encode())
    if name.startswith(("socket.bind", "socket.connect", "socket.listen", "tempfile.", "subprocess.", "os.system", "os.exec", "os.spawn")):
        os.write(2, f"AUDIT {name} {arguments[-1]}\\n".encode())

sys.addaudithook(audit)
"""
EVERYTHING = """
import logging

async def later(event):
    logging.error("later")
    return event

def handler(event, context):
    if event == "error":
        raise ValueError("an error")
    return iter(["first", 1]) if event == "stream" else later(event) if event == "later" else event
"""


class Traces(unittest.TestCase):
    def play(self, aws):
        for event_ in ("value", "error", "stream", "later", "value", "error"):
            aws.answers("response", Fault(close=True))
            aws.invoke(event_)
        aws.answers("next", 500)
        aws.wait()

    def test_no_files_and_no_connections_but_to_the_runtime_api(self):
        """Seen with an audit hook from the interpreter's start on: nothing opened for writing, bound, or started."""
        with tempfile.TemporaryDirectory() as folder, function(function=EVERYTHING) as root:
            Path(folder, "sitecustomize.py").write_text(AUDIT)
            env = {"PYTHONPATH": folder, "TMPDIR": folder, "HOME": folder, "PYTHONDONTWRITEBYTECODE": "1"}
            with Lambda(root, env=env) as aws:
                host, port = aws.address.split(":")
                self.play(aws)
                seen = [line for line in aws.stderr.splitlines() if line.startswith("AUDIT")]
                # The objects for stdout and stderr, on the descriptors that are there.
                seen = [line for line in seen if not re.match(r"AUDIT open \([12], ", line)]
                self.assertTrue(seen)
                # Python's text layer gets a raw file of the runtime's on the descriptors that it has.
                seen = [line for line in seen if not line.startswith(("AUDIT open (1,", "AUDIT open (2,"))]
                self.assertEqual(set(seen), {f"AUDIT socket.connect {(host, int(port))}"})
            self.assertEqual(set(os.listdir(folder)) - {"__pycache__"}, {"sitecustomize.py"})

    def test_secrets_in_the_environment_stay_there(self):
        """Neither in the log nor in what is sent, whatever goes wrong and in whichever format."""
        secrets = {
            name: f"secret-{number}"
            for number, name in enumerate(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DB_PASSWORD"))
        }
        for source, log_format in ((EVERYTHING, "Text"), (EVERYTHING, "JSON"), ("1 / 0", "JSON"), ("import missing", "Text"), (")", "Text")):
            env = {**secrets, "AWS_LAMBDA_LOG_FORMAT": log_format, "AWS_LAMBDA_LOG_LEVEL": "TRACE", "PYTHONFAULTHANDLER": "1"}
            with self.subTest(source, format=log_format), function(function=source) as root, Lambda(root, env=env) as aws:
                if source == EVERYTHING:
                    self.play(aws)
                    self.assertEqual(len(aws.sent("error")), 2)
                else:
                    aws.wait()
                    self.assertTrue(aws.init_error)
                sent = [str(request.headers) + request.body.decode() + str(request.trailers) for request in aws.requests]
                self.assertIn("ERROR", aws.log)
                self.assertNotIn("secret-", "".join([aws.log, aws.stderr, *sent]))


if __name__ == "__main__":
    unittest.main()
