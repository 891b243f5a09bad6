"""asgi() and wsgi(), with applications written by hand after the specifications; tests/conformance/test_web.py has real ones."""

import base64
import contextlib
import json
import os
import signal
import socket
import unittest

from miniature import (
    SPLIT,
    STREAMED_HTTP,
    Fault,
    Lambda,
    Served,
    count_processors,
    function,
    head,
    keeps_connections,
    tell,
    until_asleep,
)

# One request, GET /a%20b/%C3%A9?x=1&y=%20&x=2 with two cookies, as each front end tells of it.
COOKIES = ["a=1", "b=2"]
HOST = {
    "function URL": "id.lambda-url.us-east-1.on.aws",
    "HTTP API": "id.execute-api.us-east-1.amazonaws.com",
    "HTTP API, stage": "id.execute-api.us-east-1.amazonaws.com",
    "HTTP API, format 1.0": "id.execute-api.us-east-1.amazonaws.com",
    "REST API": "id.execute-api.us-east-1.amazonaws.com",
    "REST API, own domain": "api.example.com",
    "ALB": "lb-1.us-east-1.elb.amazonaws.com",
    "ALB, multi-value": "lb-1.us-east-1.elb.amazonaws.com",
}
FRONT_ENDS = list(HOST)
IDENTITY = {"sourceIp": "203.0.113.7"}
STAGE = {"HTTP API, stage": "/dev", "HTTP API, format 1.0": "/dev", "REST API": "/dev"}


def event(front_end="function URL", method="GET", path="/a%20b/%C3%A9", body=None, headers=None):
    """The event; headers are [(name, value)] over the usual ones, body is bytes."""
    host = HOST[front_end]
    fields = [("Host", host), ("X-Forwarded-For", "198.51.100.1, 203.0.113.7"), ("X-Forwarded-Port", "443"),
              ("X-Forwarded-Proto", "https"), *(headers or [])]
    multiple = {}
    for name, value in fields:
        multiple.setdefault(name, []).append(value)
    joined = {name: ",".join(values) for name, values in multiple.items()}
    last = {name: values[-1] for name, values in multiple.items()}
    text, is_base64 = None if body is None else body.decode("latin-1"), False
    if body is not None and not body.isascii():
        text, is_base64 = base64.b64encode(body).decode(), True
    made = {"body": text, "isBase64Encoded": is_base64}
    stage = STAGE.get(front_end, "")
    if front_end in ("function URL", "HTTP API", "HTTP API, stage"):
        context = {"http": {"method": method, "path": stage + path, "protocol": "HTTP/1.1", **IDENTITY},
                   "domainName": host, "stage": stage.strip("/") or "$default"}
        return {"version": "2.0", "rawPath": stage + path, "rawQueryString": "x=1&y=%20&x=2", "cookies": COOKIES,
                "headers": {name.lower(): value for name, value in joined.items()}, "requestContext": context, **made}
    made.update(httpMethod=method, path=path)
    if front_end.startswith("ALB"):
        made["requestContext"] = {"elb": {"targetGroupArn": "arn"}}
        if front_end == "ALB":
            last["cookie"] = "; ".join(COOKIES)
            return {**made, "headers": {name.lower(): value for name, value in last.items()},
                    "queryStringParameters": {"x": "2", "y": "%20"}}
        multiple["cookie"] = ["; ".join(COOKIES)]
        return {**made, "multiValueHeaders": {name.lower(): values for name, values in multiple.items()},
                "multiValueQueryStringParameters": {"x": ["1", "2"], "y": ["%20"]}}
    multiple["Cookie"], last["Cookie"] = ["; ".join(COOKIES)], "; ".join(COOKIES)
    made.update(headers=last, multiValueHeaders=multiple, queryStringParameters={"x": "2", "y": " "},
                multiValueQueryStringParameters={"x": ["1", "2"], "y": [" "]})
    made["requestContext"] = {"stage": "dev", "domainName": host, "path": stage + path, "identity": IDENTITY}
    if front_end == "HTTP API, format 1.0":
        made.update(version="1.0", path=stage + path)
    return made


def body_of(answer):
    """The body that the client gets of a buffered answer."""
    document = answer.json
    return base64.b64decode(document["body"], validate=True) if document["isBase64Encoded"] else document["body"].encode()


def split(answer):
    """Metadata and body of a streamed answer."""
    metadata, body = answer.body.split(SPLIT, 1)
    return json.loads(metadata), body


class Web(Served):
    """An application that is asked what a front end asks."""

    def buffered(self, sent, status=200):
        answer = self.aws.invoke(sent)
        self.assertEqual((answer.kind, answer.streaming), ("response", False), answer.body)
        self.assertEqual(answer.json["statusCode"], status)
        return answer

    def streamed(self, sent, error=None):
        answer = self.aws.invoke(sent)
        self.assertEqual((answer.kind, answer.streaming, answer.complete), ("response", True, True), answer.body)
        self.assertEqual(answer.headers["Content-Type"], STREAMED_HTTP)
        self.assertEqual(answer.error_type, error)
        return answer

    def fails(self, sent, error_type, message):
        answer = self.aws.invoke(sent)
        self.assertEqual((answer.kind, answer.error_type), ("error", error_type), answer.body)
        self.assertRegex(answer.json["errorMessage"], message)
        return answer.json


TELL = """
    import json, runtime

    def as_text(value):
        if isinstance(value, bytes): return value.decode("latin-1")
        return value.aws_request_id if hasattr(value, "aws_request_id") else repr(value)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        message = await receive()
        assert message["type"] == "http.request" and message["more_body"] is False
        told = {**scope, "body": message["body"], "event is the event": scope["aws.event"] is event_seen}
        body = json.dumps(told, default=as_text).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": body})

    event_seen = None
    handlers = {
        "": runtime.asgi(app, streaming=False),
        "root": runtime.asgi(app, root_path="v1/", streaming=False),
        "no root": runtime.asgi(app, root_path="", streaming=False),
        "default": runtime.asgi(app),
        "always": runtime.asgi(app, streaming=True),
    }

    async def handler(event, context):
        global event_seen
        event_seen = event
        return await handlers[event.pop("which", "")](event, context)
"""


class Scope(Web):
    """What an ASGI application is told of a request."""

    SOURCE = TELL

    def told(self, *arguments, which="", **named):
        sent = event(*arguments, **named)
        self.answer = self.buffered({**sent, "which": which})
        told = json.loads(body_of(self.answer))
        self.assertEqual(told.pop("aws.event"), sent)
        self.assertTrue(told.pop("event is the event"))
        self.assertEqual(told.pop("aws.context"), self.answer.request_id)
        return told

    def test_each_front_end(self):
        for front_end in FRONT_ENDS:
            with self.subTest(front_end):
                told = self.told(front_end)
                headers = told.pop("headers")
                stage = STAGE.get(front_end, "")
                query = {"ALB": "x=2&y=%20", "ALB, multi-value": "x=1&x=2&y=%20"}.get(front_end, "x=1&x=2&y=+")
                self.assertEqual(told, {
                    "type": "http",
                    "asgi": {"version": "3.0", "spec_version": "2.3"},
                    "http_version": "1.1",
                    "method": "GET",
                    "scheme": "https",
                    "path": f"{stage}/a b/é",
                    "raw_path": f"{stage}/a%20b/%C3%A9",
                    "query_string": query if "httpMethod" in event(front_end) else "x=1&y=%20&x=2",
                    "root_path": stage,
                    "client": ["203.0.113.7", 0],
                    "server": [HOST[front_end], 443],
                    "state": {},
                    "body": "",
                })
                self.assertEqual(sorted(headers), [
                    ["cookie", "a=1; b=2"],
                    ["host", HOST[front_end]],
                    ["x-forwarded-for", "198.51.100.1, 203.0.113.7"],
                    ["x-forwarded-port", "443"],
                    ["x-forwarded-proto", "https"],
                ])

    def test_repeated_headers(self):
        for front_end, values in {
            "function URL": ["1,2"], "REST API": ["1", "2"], "ALB": ["2"], "ALB, multi-value": ["1", "2"],
        }.items():
            with self.subTest(front_end):
                headers = self.told(front_end, headers=[("X-Twice", "1"), ("X-Twice", "2")])["headers"]
                self.assertEqual([value for name, value in headers if name == "x-twice"], values)

    def test_header_that_is_not_ascii(self):
        headers = dict(self.told(headers=[("x", "é")])["headers"])
        self.assertEqual(headers["x"].encode("latin-1").decode(), "é")

    def test_bodies(self):
        for front_end in FRONT_ENDS:
            for body in b"text", b"", "é".encode(), bytes(range(256)):
                with self.subTest(front_end, body=body):
                    told = self.told(front_end, "POST", body=body, headers=[("Content-Length", "999"), ("Transfer-Encoding", "chunked")])
                    self.assertEqual((told["method"], told["body"].encode("latin-1")), ("POST", body))
                    headers = dict(told["headers"])
                    if body:  # its own, whatever the front end says of what it received
                        self.assertEqual(headers["content-length"], str(len(body)))
                        self.assertNotIn("transfer-encoding", headers)
        sent = event(body=b"")
        sent["body"] = "é"
        self.assertEqual(json.loads(body_of(self.buffered(sent)))["body"].encode("latin-1"), "é".encode())

    def test_scheme_and_server(self):
        for headers, scheme, server in (
            ({"host": "localhost:3000", "x-forwarded-proto": "http"}, "http", ["localhost", 3000]),
            ({"host": "localhost", "x-forwarded-proto": "http"}, "http", ["localhost", 80]),
            ({"host": "[::1]:8", "x-forwarded-proto": "gopher"}, "https", ["[::1]", 8]),
            ({"host": "[::1]"}, "https", ["[::1]", 443]),
            ({"host": "a", "x-forwarded-port": "444"}, "https", ["a", 444]),
            ({}, "https", [HOST["function URL"], 443]),
            (None, "https", [HOST["function URL"], 443]),
        ):
            with self.subTest(headers):
                sent = {**event(), "headers": headers}
                told = json.loads(body_of(self.buffered(sent)))
                self.assertEqual((told["scheme"], told["server"]), (scheme, server))

    def test_client_of_a_load_balancer(self):
        for seen, client in ("1.2.3.4", "1.2.3.4"), ("5.6.7.8, 1.2.3.4:567", "1.2.3.4"), ("[2001:db8::1]:567", "2001:db8::1"), ("2001:db8::1", "2001:db8::1"):
            sent = event("ALB")
            sent["headers"]["x-forwarded-for"] = seen
            self.assertEqual(json.loads(body_of(self.buffered(sent)))["client"], [client, 0])

    def test_little(self):
        """Events as people write them by hand, with next to nothing in them."""
        for sent in {"requestContext": {"http": {"method": "GET"}}}, {"httpMethod": "GET"}, {"httpMethod": "GET", "requestContext": None}:
            with self.subTest(sent):
                told = json.loads(body_of(self.buffered(sent)))
                self.assertEqual((told["path"], told["query_string"], told["client"], told["headers"]), ("/", "", None, []))
                self.assertEqual(told["server"], ["localhost", 443])  # Django refuses a request to no host

    def test_null_for_what_is_not_there(self):
        """As API Gateway's console writes its events, and programs that have no other word for it."""
        for front_end in FRONT_ENDS:
            with self.subTest(front_end):
                sent = event(front_end, headers=[("X-Twice", "1")])
                nulls = dict.fromkeys(["body", "queryStringParameters", "multiValueQueryStringParameters", "multiValueHeaders"])
                sent.update(nulls if front_end != "ALB, multi-value" else {**nulls, "multiValueHeaders": sent["multiValueHeaders"], "headers": None})
                answer = self.buffered(sent)
                told = json.loads(body_of(answer))
                self.assertEqual((told["body"], dict(told["headers"])["x-twice"]), ("", "1"))
                self.assertEqual("headers" in answer.json, front_end != "ALB, multi-value")

    def test_body_that_is_not_text(self):
        for body in {"a": 1}, [1], 5:
            self.fails({**event(method="POST"), "body": body}, "ValueError", f"a string, not {type(body).__name__}: .*json.dumps")

    def test_root_path(self):
        for front_end, path, which, seen in (
            ("HTTP API, stage", "/", "", ("/dev/", "/dev")),
            ("HTTP API, stage", "/dev/x", "", ("/dev/dev/x", "/dev")),
            ("HTTP API, stage", "/x", "no root", ("/x", "")),
            ("HTTP API, stage", "/x", "root", ("/v1/x", "/v1")),
            ("REST API", "/dev/x", "", ("/dev/dev/x", "/dev")),
            ("REST API", "/x", "no root", ("/x", "")),
            ("REST API, own domain", "/v1/x", "", ("/v1/x", "")),
            ("REST API, own domain", "/v1/x", "root", ("/v1/x", "/v1")),
            ("REST API, own domain", "/v1", "root", ("/v1/", "/v1")),
            ("REST API, own domain", "/v10/x", "root", ("/v1/v10/x", "/v1")),
            ("REST API, own domain", "/dev/x", "", ("/dev/x", "")),
            ("ALB", "/v1/x", "root", ("/v1/x", "/v1")),
            ("function URL", "/x", "root", ("/v1/x", "/v1")),
        ):
            with self.subTest(front_end, path=path, which=which):
                told = self.told(front_end, path=path, which=which)
                self.assertEqual((told["path"], told["root_path"], told["raw_path"]), (*seen, seen[0]))

    def test_paths(self):
        for path, seen, raw in ("/100%", "/100%", "/100%"), ("/%2F", "//", "/%2F"), ("/%ff", "/\ufffd", "/%ff"), ("/a b/é", "/a b/é", "/a%20b/%C3%A9"), ("/?#", "/?#", "/%3F%23"):
            with self.subTest(path):
                told = self.told(path=path)
                self.assertEqual((told["path"], told["raw_path"]), (seen, raw))

    def test_other_events(self):
        for sent in {"Records": [], "source": "aws.s3"}, {}, [], "text", None, {"requestContext": {"routeKey": "$connect"}}, {"requestContext": 5}:
            with self.subTest(sent):
                document = self.fails({**sent, "which": ""} if isinstance(sent, dict) else {"which": ""}, "ValueError", "function URLs.*REST APIs")
                self.assertEqual(document["stackTrace"][1:], [])
        self.assertIn("Records, source", self.fails({"Records": [], "source": "aws.s3"}, "ValueError", ".")["errorMessage"])

    def test_who_streams(self):
        for front_end in FRONT_ENDS:
            with self.subTest(front_end):
                default = self.aws.invoke({**event(front_end), "which": "default"})
                self.assertEqual((default.kind, default.streaming), ("response", front_end == "function URL"))
                self.streamed({**event(front_end), "which": "always"})


ANSWERS = """
    import asyncio, base64, json, runtime

    async def app(scope, receive, send):
        if scope["type"] != "http": raise KeyError("no lifespan")
        request = await receive()
        for message in json.loads(request["body"] or b"[]"):
            for key in "status", "body", "do":
                if key in message: break
            if key == "do":
                result = await globals()[message["do"]](scope, receive, send)
            elif key == "status":
                headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in message.get("headers", [])]
                await send({"type": "http.response.start", "status": message["status"], "headers": headers})
            else:
                await send({"type": "http.response.body", "body": base64.b64decode(message["body"]), "more_body": message.get("more", False)})

    async def fail(scope, receive, send): raise LookupError("no é")
    async def start_without_headers(scope, receive, send): await send({"type": "http.response.start", "status": 204})
    async def empty(scope, receive, send): await send({"type": "http.response.body"})
    async def text(scope, receive, send): await send({"type": "http.response.body", "body": "text"})
    async def views(scope, receive, send):
        buffer = bytearray(b"one")
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
        buffer[:] = b"two"
        await send({"type": "http.response.body", "body": memoryview(buffer), "more_body": True})
        buffer[:] = b"..."
    async def trailers(scope, receive, send): await send({"type": "http.response.trailers", "headers": []})
    async def push(scope, receive, send): await send({"type": "http.response.push", "path": "/", "headers": []})
    async def websocket(scope, receive, send): await send({"type": "websocket.accept"})
    async def later(scope, receive, send):
        await asyncio.sleep(0)
        print("background task")
    async def disconnect(scope, receive, send): print(await receive(), await receive())
    async def waits(scope, receive, send):
        waiting = [asyncio.ensure_future(receive()) for _ in range(2)]
        done, pending = await asyncio.wait(waiting, timeout=0.01)
        print("done:", len(done))
        waiting.pop().cancel()
        await send({"type": "http.response.body", "body": b"end"})
        print(await waiting[0])
    async def at_once(scope, receive, send):
        await asyncio.gather(*[send({"type": "http.response.body", "body": bytes([n]) * 300_000, "more_body": True}) for n in range(9)])
    async def exits(scope, receive, send): raise SystemExit(7)

    handler = runtime.asgi(app)
"""


def script(*messages):
    """The body of a request that has the application send these."""
    made = [{**message, "body": base64.b64encode(message["body"]).decode()} if "body" in message else message for message in messages]
    return json.dumps(made).encode()


START = {"status": 200, "headers": [["Content-Type", "text/plain"]]}


class Answers(Web):
    """What an ASGI application sends, as each front end wants it."""

    SOURCE = ANSWERS

    def play(self, *messages, front_end="HTTP API", method="POST"):
        return event(front_end, method, body=script(*messages))

    REPEATED = [["Content-Type", "text/plain"], ["vary", "a"], ["Vary", " b\t"], ["Set-Cookie", "a=1, 2"], ["set-cookie", "b=2"], ["set-cookie", "c=3"]]

    def test_headers(self):
        single = {"content-type": "text/plain", "vary": "a, b"}
        several = {"vary": ["a", "b"], "set-cookie": ["a=1, 2", "b=2", "c=3"]}
        for front_end, form in {
            "HTTP API": {"headers": single, "cookies": several["set-cookie"]},
            "HTTP API, format 1.0": {"headers": {"content-type": "text/plain"}, "multiValueHeaders": several},
            "REST API": {"headers": {"content-type": "text/plain"}, "multiValueHeaders": several},
            "ALB": {"headers": {**single, "set-cookie": "a=1, 2", "Set-cookie": "b=2", "sEt-cookie": "c=3"}},
            "ALB, multi-value": {"multiValueHeaders": {"content-type": ["text/plain"], **several}},
        }.items():
            with self.subTest(front_end):
                sent = self.play({"status": 201, "headers": self.REPEATED}, {"body": "é".encode()}, front_end=front_end)
                answer = self.buffered(sent, 201)
                self.assertEqual(answer.json, {"statusCode": 201, **form, "body": "é", "isBase64Encoded": False})
        answer = self.streamed(self.play({"status": 201, "headers": self.REPEATED}, {"body": b"x"}, front_end="function URL"))
        self.assertEqual(split(answer), ({"statusCode": 201, "headers": single, "cookies": several["set-cookie"]}, b"x"))

    def test_header_that_is_not_ascii(self):
        """UTF-8, as in events; Latin-1 where it is not that."""
        for sent, text in ("é€".encode().decode("latin-1"), "é€"), ("é", "é"):
            start = {"status": 200, "headers": [["x", sent]]}
            self.assertEqual(self.buffered(self.play(start, {"body": b""})).json["headers"], {"x": text})

    def test_transfer_encoding_is_the_front_ends(self):
        for front_end in "HTTP API", "ALB, multi-value", "function URL":
            start = {"status": 200, "headers": [["Transfer-Encoding", "chunked"], ["x", "y"]]}
            answer = self.aws.invoke(self.play(start, {"body": b"x"}, front_end=front_end))
            head = split(answer)[0] if answer.streaming else answer.json
            self.assertEqual([*(head.get("headers") or head["multiValueHeaders"])], ["x"])

    def test_many_cookies_in_single_headers(self):
        cookies = [f"n{number}=1" for number in range(12)]
        start = {"status": 200, "headers": [["set-cookie", cookie] for cookie in cookies]}
        headers = self.buffered(self.play(start, {"body": b""}, front_end="ALB")).json["headers"]
        self.assertEqual([*headers.values()], cookies)
        self.assertEqual({name.lower() for name in headers}, {"set-cookie"})

    def test_bodies(self):
        for parts, is_base64 in (
            ([b""], False), ([b"a", b"", b"b"], False), (["é".encode()[:1], "é".encode()[1:]], False),
            ([b"\xff"], True), ([b"\0\x01"], False), ([bytes(range(256))], True),
        ):
            for front_end in FRONT_ENDS:
                with self.subTest(front_end, parts=parts):
                    messages = [{"body": part, "more": True} for part in parts[:-1]] + [{"body": parts[-1]}]
                    sent = self.play(START, *messages, front_end=front_end)
                    if front_end == "function URL":
                        answer = self.streamed(sent)
                        self.assertEqual(split(answer)[1], b"".join(parts))
                        self.assertEqual([data for _, data in answer.chunks[2:]], [part for part in parts if part])
                    else:
                        answer = self.buffered(sent)
                        self.assertEqual((body_of(answer), answer.json["isBase64Encoded"]), (b"".join(parts), is_base64))

    def test_what_may_be_left_out(self):
        for front_end in "HTTP API", "function URL":
            answer = self.aws.invoke(self.play({"do": "start_without_headers"}, {"do": "empty"}, front_end=front_end))
            start, body = split(answer) if answer.streaming else (answer.json, body_of(answer))
            self.assertEqual((start["statusCode"], start["headers"], start["cookies"], body), (204, {}, [], b""))

    def test_buffers_that_are_used_again(self):
        for front_end in "HTTP API", "function URL":
            answer = self.aws.invoke(self.play(START, {"do": "views"}, {"do": "empty"}, front_end=front_end))
            self.assertEqual(split(answer)[1] if answer.streaming else body_of(answer), b"onetwo")

    def test_tasks_that_send_at_once(self):
        answer = self.streamed(self.play(START, {"do": "at_once"}, {"do": "empty"}, front_end="function URL"))
        self.assertEqual(split(answer)[1], b"".join(bytes([n]) * 300_000 for n in range(9)))

    def test_head(self):
        for front_end in "HTTP API", "function URL":
            start = {"status": 200, "headers": [["content-length", "4"]]}
            answer = self.aws.invoke(self.play(start, {"body": b"body"}, front_end=front_end, method="HEAD"))
            head, body = split(answer) if answer.streaming else (answer.json, body_of(answer))
            self.assertEqual((head["headers"], body), ({"content-length": "4"}, b""))

    def test_background_tasks(self):
        for front_end in "HTTP API", "function URL":
            log = len(self.aws.log)
            answer = self.aws.invoke(self.play(START, {"body": b"x"}, {"do": "later"}, front_end=front_end))
            self.assertEqual((answer.kind, answer.error_type), ("response", None))
            self.aws.wait_for_next()
            self.assertEqual(self.aws.log[log:], "background task\n")

    def test_receive_after_the_body(self):
        disconnect = "{'type': 'http.disconnect'}"
        for front_end in "HTTP API", "function URL":
            log = len(self.aws.log)
            self.aws.invoke(self.play(START, {"body": b"x"}, {"do": "disconnect"}, front_end=front_end))
            self.assertEqual(self.aws.log[log:], f"{disconnect} {disconnect}\n")
            log = len(self.aws.log)
            self.aws.invoke(self.play(START, {"body": b"x", "more": True}, {"do": "waits"}, front_end=front_end))
            self.assertEqual(self.aws.log[log:], f"done: 0\n{disconnect}\n")

    def test_errors_before_the_response(self):
        for front_end in "HTTP API", "function URL":
            for messages in [{"do": "fail"}], [START, {"do": "fail"}]:
                with self.subTest(front_end, messages=messages):
                    log = len(self.aws.log)
                    document = self.fails(self.play(*messages, front_end=front_end), "LookupError", "^no é$")
                    self.assertEqual(len(document["stackTrace"]), 2)
                    self.assertEqual(self.aws.log[log:].count("[ERROR]"), 1)
            with self.subTest(front_end):
                self.fails(self.play(START, {"do": "text"}, front_end=front_end), "TypeError", "bytes-like")
                self.fails(self.play(front_end=front_end), "RuntimeError", "returned before its response")
                self.fails(self.play(START, front_end=front_end), "RuntimeError", "returned before its response")
                for what in "trailers", "push", "websocket":
                    self.fails(self.play(START, {"do": what}, front_end=front_end), "RuntimeError", f"sent '.*{what}")
                self.fails(self.play({"body": b"x"}, front_end=front_end), "RuntimeError", "sent 'http.response.body'")
                self.fails(self.play(START, START, front_end=front_end), "RuntimeError", "sent 'http.response.start'")

    def test_errors_in_the_response(self):
        for messages, error in (
            ([{"do": "fail"}], "LookupError"), ([], "RuntimeError"), ([START], "RuntimeError"), ([{"do": "trailers"}], "RuntimeError"),
        ):
            with self.subTest(messages):
                log = len(self.aws.log)
                messages = [START, {"body": b"x", "more": True}, *messages]
                answer = self.streamed(self.play(*messages, front_end="function URL"), error)
                self.assertEqual(split(answer)[1], b"x")
                self.assertEqual(self.aws.log[log:].count(f"[ERROR] {error}"), 1)
                log = len(self.aws.log)
                self.fails(self.play(*messages), error, ".")
                self.assertEqual(self.aws.log[log:].count(f"[ERROR] {error}"), 1)

    def test_errors_after_the_response(self):
        """As after Starlette's page that says 500: the client has an answer, and the log the error."""
        for messages, error in ([{"do": "fail"}], "LookupError"), ([{"body": b"more"}], "RuntimeError"):
            log = len(self.aws.log)
            sent = START, {"body": b"x"}, *messages
            self.assertEqual(body_of(self.buffered(self.play(*sent))), b"x")
            self.assertEqual(split(self.streamed(self.play(*sent, front_end="function URL"), error))[1], b"x")
            self.assertEqual(self.aws.log[log:].count(f"[ERROR] {error}"), 2)

    @keeps_connections
    def test_the_connection_is_kept(self):
        sent = self.play(START, {"body": b"x"}, front_end="function URL")
        self.assertEqual(len({self.streamed(sent).connection for _ in range(3)}), 1)


class NoApplication(unittest.TestCase):
    def test_what_cannot_be_called_fails_the_import(self):
        """Else each request would: `import app` in place of `from app import app`, or uvicorn's "module:app"."""
        for name, app, kind in ("asgi", "None", "NoneType"), ("wsgi", "runtime", "module"), ("asgi", "'main:app'", "str"):
            with self.subTest(app), function(function=f"import runtime\nhandler = runtime.{name}({app})") as root, Lambda(root) as aws:
                self.assertEqual(aws.wait(), 1)
                error = aws.init_error.json
            self.assertEqual((error["errorType"], error["errorMessage"]), ("TypeError", f"runtime.{name}() takes an application, and {kind} cannot be called"))


class Exit(unittest.TestCase):
    def test_in_an_application(self):
        for front_end in "HTTP API", "function URL":
            with self.subTest(front_end), function(function=ANSWERS) as root, Lambda(root) as aws:
                answer = aws.invoke(event(front_end, "POST", body=script(START, {"do": "exits"})))
                self.assertEqual((answer.kind, answer.error_type), ("error", "SystemExit"))
                self.assertEqual(aws.wait(), 7)


class Live(unittest.TestCase):
    """A message goes out when it is sent, and a client that is gone is told of."""

    SOURCE = """
        import asyncio, runtime

        def read():
            with open("go") as go: return go.read().encode()

        async def app(scope, receive, send):
            await globals()[scope["path"].strip("/")](receive, send)

        async def slow(receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": await asyncio.to_thread(read), "more_body": True})
            await send({"type": "http.response.body", "body": await asyncio.to_thread(read)})

        async def endless(receive, send):
            await send({"type": "http.response.start", "status": 200})
            try:
                while True:
                    await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
            except OSError as error:
                print("OSError,", await receive(), await receive())
                try:
                    await send({"type": "http.response.body", "body": b"x"})
                except OSError:
                    print("again")

        async def chained(receive, send):
            try:
                await endless_without_care(receive, send)
            except OSError:
                raise RuntimeError("ClientDisconnect")

        async def in_a_circle(receive, send):
            try:
                try:
                    await endless_without_care(receive, send)
                except OSError as error:
                    raise RuntimeError("ClientDisconnect") from error
            except RuntimeError as error:
                error.__cause__.__cause__ = error
                raise

        async def endless_without_care(receive, send):
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})

        async def careless(receive, send):
            try:
                await endless_without_care(receive, send)
            except OSError:
                pass
            raise RuntimeError("of its own")

        async def waits(receive, send):
            await receive()
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            print(await receive())

        async def slow_reader(receive, send):
            await send({"type": "http.response.start", "status": 200})
            for n in range(1000):
                await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
                print("sent")
            await send({"type": "http.response.body"})

        async def gives_up(receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            for _ in range(3):
                try:
                    await asyncio.wait_for(send({"type": "http.response.body", "body": bytes(50_000_000), "more_body": True}), 0.1)
                except asyncio.TimeoutError:
                    print("timeout")
                except OSError:
                    return

        async def ping(receive, send):
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"pong"})

        handler = runtime.asgi(app)
    """

    def test_at_once(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            os.mkfifo(f"{root}/go")
            request_id = aws.send(event(path="/slow"))
            # Before the first part of the body not even the head goes out: an error may still take its place.
            aws.wait_for(lambda: aws.delivered.get(request_id))
            tell(f"{root}/go", "first")
            answer = aws.answer(request_id, whole=False)
            self.assertEqual(answer.wait_chunks(3)[1:], [bytes(8), b"first"])
            self.assertFalse(answer.done)
            tell(f"{root}/go", "second")
            self.assertEqual(answer.wait().chunks[3][1], b"second")
            self.assertTrue(answer.complete)

    def hang_up(self, aws, path, after=3):
        log, stderr = len(aws.log), len(aws.stderr)
        aws.answers("response", Fault(0, after=after))
        answer = aws.invoke(event(path=path))
        self.assertFalse(answer.complete)
        self.assertTrue(aws.invoke(event(path="/ping")).body.endswith(b"pong"))
        self.assertEqual(aws.stderr[stderr:].count("\n"), 1)
        self.assertIn(f"stream of {answer.request_id} was cut off", aws.stderr[stderr:])
        return aws.log[log:]

    def test_hang_up(self):
        disconnect = "{'type': 'http.disconnect'}"
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            self.assertEqual(self.hang_up(aws, "/endless"), f"OSError, {disconnect} {disconnect}\nagain\n")
            self.assertEqual(self.hang_up(aws, "/waits"), f"{disconnect}\n")
            self.assertEqual(self.hang_up(aws, "/endless_without_care"), "")
            self.assertEqual(self.hang_up(aws, "/chained"), "")
            self.assertEqual(self.hang_up(aws, "/in_a_circle"), "")
            self.assertRegex(self.hang_up(aws, "/careless"), r"\A\[ERROR\] RuntimeError: of its own\r[^\n]*\n\Z")

    @contextlib.contextmanager
    def unread(self, path):
        """An API that sends an event and does not read what comes of it: the Lambda, the listening socket, the connection."""
        with function(function=self.SOURCE) as root, socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            with Lambda(root, start=False) as aws:
                aws.env["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:%d" % server.getsockname()[1]
                aws.start()
                with server.accept()[0] as connection:
                    connection.settimeout(30)
                    connection.recv(65536)
                    body = json.dumps(event(path=path)).encode()
                    connection.sendall(head(200, {"Lambda-Runtime-Aws-Request-Id": "one", "Content-Length": len(body)}) + body)
                    yield aws, server, connection

    @keeps_connections
    def test_back_pressure(self):
        """send() waits for a reader that is slow."""
        with self.unread("/slow_reader") as (aws, _, connection):
            aws.wait_for(lambda: "sent" in aws.log)
            until_asleep(aws.process.pid)
            self.assertLess(aws.log.count("sent"), 1000)
            received = bytearray()
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += connection.recv(1 << 20)
            self.assertEqual(received.count(b"\r\n10000\r\n"), 1000)
            self.assertEqual(aws.log.count("sent"), 1000)

    @keeps_connections
    def test_half_a_message(self):
        """One that a timeout has interrupted cannot be followed by another: the API waits for the rest of it."""
        with self.unread("/gives_up") as (aws, server, first):
            with server.accept()[0] as second:  # the first is given up
                self.assertRegex(second.recv(65536), rb"\AGET /2018-06-01/runtime/invocation/next ")
            aws.wait_for(lambda: "stream of one was cut off" in aws.stderr)
            self.assertEqual(aws.log.count("timeout"), 1)


LIFESPAN = """
    import asyncio, os, runtime, sys

    async def app(scope, receive, send):
        global starts
        if scope["type"] == "lifespan":
            assert await receive() == {"type": "lifespan.startup"}
            print("startup")
            scope["state"]["list"] = []
            scope["state"]["loop"] = asyncio.get_running_loop()
            await send({"type": "lifespan.startup.complete"})
            task = asyncio.create_task(tick())
            message = await receive()
            task.cancel()
            print("shutdown" if message == {"type": "lifespan.shutdown"} else message)
            await asyncio.sleep(0.05)  # as long as it takes to close a pool
            print("closed")
            await send({"type": "lifespan.shutdown.complete"})
            return
        state = scope["state"]
        assert state["loop"] is asyncio.get_running_loop()
        state["list"].append(os.getpid())
        state["mine"] = state.get("mine", 0) + 1
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"%d %d" % (len(state["list"]), state["mine"])})

    async def tick():
        while True: await asyncio.sleep(0.01)

    handler = runtime.asgi(app, streaming=False)
"""


class Lifespan(unittest.TestCase):
    def test_once(self):
        with function(function=LIFESPAN) as root, Lambda(root) as aws:
            aws.wait_for_next()
            self.assertEqual(aws.log, "startup\n")
            self.assertEqual([body_of(aws.invoke(event())) for _ in range(3)], [b"1 1", b"2 1", b"3 1"])
            self.assertEqual(aws.log, "startup\n")

    def test_shutdown(self):
        for invocations in 0, 2:
            with self.subTest(invocations=invocations), function(function=LIFESPAN) as root, Lambda(root) as aws:
                for _ in range(invocations):
                    aws.invoke(event())
                aws.wait_for_next()
                self.assertEqual(len(aws.sent("extension/register")), 1)
                aws.signal(signal.SIGTERM)
                self.assertEqual(aws.wait(), 0)
                self.assertEqual((aws.log, aws.stderr), ("startup\nshutdown\nclosed\n", ""))

    def test_shutdown_when_the_function_exits(self):
        source = LIFESPAN.replace('state = scope["state"]', 'sys.exit(3)')
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke(event()).error_type, "SystemExit")
            self.assertEqual(aws.wait(), 3)
            self.assertRegex(aws.log, r"\Astartup\n\[ERROR\] SystemExit: 3\r[^\n]*\nshutdown\nclosed\n\Z")

    def test_a_signal_handler_of_the_function(self):
        own = "\n    import signal\n    signal.signal(signal.SIGTERM, lambda number, frame: (print('own'), sys.exit(5)))\n"
        # With nothing to do but to wait: where a signal handler raises between asyncio's taking a callback and its calling it,
        # the callback is lost, and a task that it was to wake never ends.
        source = LIFESPAN.replace("asyncio.sleep(0.01)", "asyncio.sleep(60)") + own
        with function(function=source) as root, Lambda(root) as aws:
            aws.invoke(event())
            aws.wait_until_idle()
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 5)
            self.assertEqual(aws.log, "startup\nown\nshutdown\nclosed\n")

    def test_shutdown_that_does_not_end(self):
        source = LIFESPAN.replace("await asyncio.sleep(0.05)", "await asyncio.sleep(60)")
        with function(function=source) as root, Lambda(root) as aws:
            aws.wait_for_next()
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)
            self.assertEqual(aws.log, "startup\nshutdown\n")

    def test_shutdown_that_fails(self):
        for statement, said in (
            ('raise ValueError("at the end")', "[ERROR] ValueError: at the end"),
            ('return await send({"type": "lifespan.shutdown.failed", "message": "the pool"})', "[ERROR] RuntimeError: the pool"),
        ):
            with self.subTest(statement), function(function=LIFESPAN.replace("await asyncio.sleep(0.05)", statement)) as root, Lambda(root) as aws:
                aws.wait_for_next()
                aws.signal(signal.SIGTERM)
                self.assertEqual(aws.wait(), 0)
                self.assertEqual(aws.log.count("[ERROR]"), 1)
                self.assertIn(said, aws.log)

    def test_startup_that_fails(self):
        send = 'await send({"type": "lifespan.startup.failed", "message": "no database"})'
        for statement, error_type, message in (
            (send + "; raise LookupError('the database')", "LookupError", "the database"),
            (send + "; return", "RuntimeError", "no database"),
            (send, "RuntimeError", "no database"),  # and then waits for what comes
            ('await send({"type": "lifespan.startup.failed"}); return', "RuntimeError", "lifespan.startup.failed"),
        ):
            source = LIFESPAN.replace('await send({"type": "lifespan.startup.complete"})', statement)
            with self.subTest(statement), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual(aws.wait(), 1)
                error = aws.init_error
                self.assertEqual((error.error_type, error.json["errorMessage"]), (error_type, message))
                self.assertEqual((aws.log.count("[ERROR]"), aws.sent("next")), (1, []))

    def test_applications_without(self):
        for statement in "raise AssertionError", "return", 'await send({"type": "http.response.start", "status": 500})':
            source = LIFESPAN.replace('assert await receive() == {"type": "lifespan.startup"}', statement).replace('state["loop"]', "asyncio.get_running_loop()")
            source = source.replace('state["list"]', 'state.setdefault("list", [])')
            with self.subTest(statement), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual([body_of(aws.invoke(event())) for _ in range(2)], [b"1 1", b"1 1"])
                self.assertEqual((aws.log, aws.stderr, aws.sent("extension/register")), ("", "", []))

    def test_behind_another_function(self):
        """The handler calls what asgi() has made: the lifespan starts with the first event."""
        for define in "async def handler(event, context): return await web(event, context)", "def handler(event, context): return web(event, context)":
            source = LIFESPAN.replace("handler =", "web =") + f"\n    {define}\n"
            with self.subTest(define), function(function=source) as root, Lambda(root) as aws:
                aws.wait_for_next()
                self.assertEqual(aws.log, "")
                self.assertEqual([body_of(aws.invoke(event())) for _ in range(3)], [b"1 1", b"2 1", b"3 1"])
                self.assertEqual(aws.log, "startup\n")

    def test_behind_a_decorator_that_asks_for_its_name(self):
        """As Powertools' tracer does."""
        source = LIFESPAN + """
    import functools
    def trace(handler):
        @functools.wraps(handler)
        def traced(event, context):
            print("##", handler.__name__)
            return handler(event, context)
        return traced
    handler = trace(handler)
"""
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(body_of(aws.invoke(event())), b"1 1")
            self.assertEqual(aws.log, "## handler\nstartup\n")

    def test_fails_behind_another_function(self):
        """An error of that invocation; the next one tries again."""
        source = LIFESPAN.replace("handler =", "web =").replace('print("startup")', 'scope["type"] = await begin(send)') + """
    times = 0

    async def begin(send):
        global times
        times += 1
        if times == 1:
            await send({"type": "lifespan.startup.failed", "message": "not yet"})
            raise ConnectionError("not yet")

    async def handler(event, context):
        return await web(event, context)
"""
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke(event()).error_type, "ConnectionError")
            self.assertEqual([body_of(aws.invoke(event())) for _ in range(2)], [b"1 1", b"2 1"])

    def test_snapshot(self):
        with function(function=LIFESPAN) as root, Lambda(root, env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}) as aws:
            aws.wait_for(lambda: aws.sent("restore/next"))
            self.assertEqual(aws.log, "startup\n")
            aws.restore()
            self.assertEqual(body_of(aws.invoke(event())), b"1 1")

    def test_context_variables(self):
        source = LIFESPAN.replace('print("startup")', "print(variable.get())") + """
    import contextvars
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("of the module")
    handler = runtime.asgi(app, streaming=False)
"""
        with function(function=source) as root, Lambda(root) as aws:
            aws.invoke(event())
            self.assertEqual(aws.log, "of the module\n")

    def test_managed_instances(self):
        """Each worker has a lifespan of its own, and ends it."""
        with function(function=LIFESPAN) as root, Lambda(root, env={"AWS_LAMBDA_MAX_CONCURRENCY": "4"}) as aws:
            self.assertEqual(aws.invoke(event()).json["statusCode"], 200)
            workers = min(4, count_processors())
            aws.wait_for_next(4)
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)
            self.assertEqual((aws.log.count("startup"), aws.log.count("shutdown")), (workers, workers))


WSGI = """
    import base64, io, json, runtime, sys

    def app(environ, start_response):
        return globals()[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)

    def tell(environ, start_response):
        start_response("200 OK", [("Content-Type", "application/json")])
        told = {name: value for name, value in environ.items() if not name.startswith(("wsgi.", "aws."))}
        told["body"] = environ["wsgi.input"].read().decode("latin-1")
        told["ids"] = environ["aws.context"].aws_request_id, environ["aws.event"] is event_seen
        told["wsgi"] = [environ["wsgi." + name] for name in ("version", "url_scheme", "multithread", "run_once")]
        return [json.dumps(told).encode()]

    def cookies(environ, start_response):
        start_response("302 Found", [("Location", "/"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        return []

    class Closes:
        def __init__(self, *chunks): self.chunks = iter(chunks)
        def __iter__(self): return self
        def __next__(self):
            chunk = next(self.chunks)
            if isinstance(chunk, Exception): raise chunk
            return chunk
        def close(self): print("closed")

    def closes(environ, start_response):
        start_response("200 OK", [])
        return Closes(b"a", b"", b"b")

    def endless(environ, start_response):
        start_response("200 OK", [])
        return Closes(*[bytes(65536)] * 10000)

    def late(environ, start_response):
        start_response("200 OK", [])
        return Closes(b"a", LookupError("late"))

    def early(environ, start_response):
        start_response("200 OK", [])
        return Closes(b"", LookupError("early"))

    def raises(environ, start_response):
        raise LookupError("at once")

    def generator(environ, start_response):
        yield b""
        start_response("201 Created", [("a", "b")])
        yield b"a"

    def written(environ, start_response):
        write = start_response("200 OK", [])
        write(b"1")
        write(b"2")
        return [b"3"]

    def only_written(environ, start_response):
        start_response("200 OK", [])(b"1")
        return ()

    def replaced(environ, start_response):
        start_response("200 OK", [("a", "b")])
        try:
            raise LookupError("handled")
        except LookupError:
            start_response("500 Internal Server Error", [("c", "d")], sys.exc_info())
        return [b"sorry"]

    def too_late(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        try:
            raise LookupError("too late")
        except LookupError:
            start_response("500 Internal Server Error", [], sys.exc_info())

    def twice(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    def never(environ, start_response):
        return [b"a"]

    def binary(environ, start_response):
        start_response("200 OK", [])
        return [bytes(range(256))]

    def errors(environ, start_response):
        start_response("200 OK", [])
        print("to the log", file=environ["wsgi.errors"])
        return []

    def slow(environ, start_response):
        start_response("200 OK", [])
        yield b"first"
        with open("go") as go: yield go.read().encode()

    event_seen = None
    handlers = {"": runtime.wsgi(app), "root": runtime.wsgi(app, root_path="/v1"), "stream": runtime.wsgi(app, streaming=True), "buffer": runtime.wsgi(app, streaming=False)}

    def handler(event, context):
        global event_seen
        event_seen = event
        result = handlers[event.pop("which", "")](event, context)
        assert "asyncio" not in sys.modules
        return result
"""


class Wsgi(Web):
    SOURCE = WSGI

    def both(self, path, method="GET"):
        """Head and body, which are the same buffered and streamed."""
        answer = self.streamed(event(path=path, method=method))
        head, body = split(answer)
        whole = self.buffered(event("HTTP API", path=path, method=method), head["statusCode"])
        self.assertEqual((whole.json["headers"], whole.json["cookies"], body_of(whole)), (head["headers"], head["cookies"], body))
        return head, body

    def test_environ(self):
        for front_end in FRONT_ENDS:
            with self.subTest(front_end):
                answer = self.buffered({**event(front_end, "POST", "/a%20b/%C3%A9/tell", b"body", [("Content-Type", "text/plain"), ("x_host", "spoofed")]), "which": "buffer"})
                told = json.loads(body_of(answer))
                stage, query = STAGE.get(front_end, ""), {"ALB": "x=2&y=%20", "ALB, multi-value": "x=1&x=2&y=%20"}.get(front_end, "x=1&x=2&y=+")
                self.assertEqual(told, {
                    "REQUEST_METHOD": "POST",
                    "SCRIPT_NAME": stage,
                    "PATH_INFO": "/a b/é/tell".encode().decode("latin-1"),
                    "QUERY_STRING": query if "httpMethod" in event(front_end) else "x=1&y=%20&x=2",
                    "SERVER_NAME": HOST[front_end],
                    "SERVER_PORT": "443",
                    "SERVER_PROTOCOL": "HTTP/1.1",
                    "REMOTE_ADDR": "203.0.113.7",
                    "CONTENT_TYPE": "text/plain",
                    "CONTENT_LENGTH": "4",
                    "HTTP_COOKIE": "a=1; b=2",
                    "HTTP_HOST": HOST[front_end],
                    "HTTP_X_FORWARDED_FOR": "198.51.100.1, 203.0.113.7",
                    "HTTP_X_FORWARDED_PORT": "443",
                    "HTTP_X_FORWARDED_PROTO": "https",
                    "body": "body",
                    "ids": [answer.request_id, True],
                    "wsgi": [[1, 0], "https", False, False],
                })

    def test_repeated_and_foreign_headers(self):
        headers = [("X-Twice", "1"), ("X-Twice", "2"), ("X-Foreign", "é")]
        told = json.loads(body_of(self.buffered(event("REST API", path="/tell", headers=headers))))
        self.assertEqual((told["HTTP_X_TWICE"], told["HTTP_X_FOREIGN"]), ("1,2", "é".encode().decode("latin-1")))

    def test_query_that_is_not_escaped(self):
        told = json.loads(body_of(self.buffered({**event("HTTP API", path="/tell"), "rawQueryString": "q=€"})))
        self.assertEqual(told["QUERY_STRING"].encode("latin-1").decode(), "q=€")

    def test_root_path(self):
        told = json.loads(body_of(self.buffered({**event("ALB", path="/v1/tell"), "which": "root"})))
        self.assertEqual((told["SCRIPT_NAME"], told["PATH_INFO"]), ("/v1", "/tell"))

    def test_answers(self):
        self.assertEqual(self.both("/cookies"), ({"statusCode": 302, "headers": {"location": "/"}, "cookies": ["a=1", "b=2"]}, b""))
        self.assertEqual(self.both("/generator"), ({"statusCode": 201, "headers": {"a": "b"}, "cookies": []}, b"a"))
        self.assertEqual(self.both("/written")[1], b"123")
        self.assertEqual(self.both("/only_written")[1], b"1")
        self.assertEqual(self.both("/replaced"), ({"statusCode": 500, "headers": {"c": "d"}, "cookies": []}, b"sorry"))
        self.assertEqual(self.both("/binary")[1], bytes(range(256)))

    def test_it_is_closed(self):
        for path, body in ("/closes", b"ab"), ("/late", None), ("/early", None):
            for which in "stream", "buffer":
                with self.subTest(path, which=which):
                    log = len(self.aws.log)
                    answer = self.aws.invoke({**event(path=path), "which": which})
                    if body:
                        self.assertEqual(split(answer)[1] if which == "stream" else body_of(answer), body)
                    else:
                        self.assertEqual((answer.kind, answer.error_type), ("response" if (which, path) == ("stream", "/late") else "error", "LookupError"))
                        self.assertEqual(self.aws.log[log:].count("[ERROR]"), 1)
                    self.assertEqual(self.aws.log[log:].count("closed\n"), 1)

    def test_head(self):
        log = len(self.aws.log)
        self.assertEqual(self.both("/closes", method="HEAD")[1], b"")
        self.assertEqual(self.aws.log[log:].count("closed\n"), 2)

    def test_errors(self):
        for front_end in "HTTP API", "function URL":
            with self.subTest(front_end):
                self.fails(event(front_end, path="/raises"), "LookupError", "at once")
                self.fails(event(front_end, path="/twice"), "RuntimeError", "twice")
                self.fails(event(front_end, path="/never"), "RuntimeError", "start_response")
                self.fails({"Records": []}, "ValueError", "function URLs.*Records")
        self.fails(event("HTTP API", path="/too_late"), "LookupError", "too late")
        self.assertEqual(split(self.streamed(event(path="/too_late"), "LookupError"))[1], b"a")

    def test_errors_go_to_the_log(self):
        self.both("/errors")
        self.assertEqual(self.aws.stderr.count("to the log\n"), 2)

    def test_who_streams(self):
        for front_end in FRONT_ENDS:
            answer = self.aws.invoke(event(front_end, path="/closes"))
            self.assertEqual((answer.kind, answer.streaming), ("response", front_end == "function URL"))

    def test_hang_up(self):
        stderr = len(self.aws.stderr)
        self.aws.answers("response", Fault(0, after=3))
        self.assertFalse(self.aws.invoke(event(path="/endless")).complete)
        self.assertEqual(self.both("/written")[1], b"123")
        self.assertTrue(self.aws.log.endswith("closed\n"), self.aws.log)
        self.assertEqual(self.aws.stderr[stderr:].count("\n"), 1)

    def test_at_once(self):
        os.mkfifo(f"{self.root}/go")
        answer = self.aws.answer(self.aws.send(event(path="/slow")), whole=False)
        self.assertEqual(answer.wait_chunks(3)[1:], [bytes(8), b"first"])
        self.assertFalse(answer.done)
        tell(f"{self.root}/go", "second")
        self.assertEqual(answer.wait().chunks[3][1], b"second")


if __name__ == "__main__":
    unittest.main()
