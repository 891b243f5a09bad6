"""When the Runtime API misbehaves: odd answers, lost connections, refusals, no API at all."""

import contextlib
import json
import os
import random
import select
import socket
import struct
import threading
import unittest

from miniature import Fault, Lambda, function, head, tell, until

ECHO = """
    def handler(event, context):
        return event
"""


class Case(unittest.TestCase):
    def start(self, source=ECHO, **how):
        """A runtime for the time of the test."""
        folder = function(function=source)
        root = folder.__enter__()
        self.addCleanup(folder.__exit__, None, None, None)
        aws = Lambda(root, **how)
        self.addCleanup(aws.__exit__, None, None, None)
        return aws

    def ends(self, aws, *words, log=""):
        """The process has ended with status 1 and one line that has these words, and no traceback anywhere."""
        self.assertEqual(aws.wait(), 1, aws.stderr)
        self.assertEqual((aws.stderr.count("\n"), aws.log), (1, log), aws.stderr)
        for word in ("AWS_LAMBDA_RUNTIME_API", aws.env["AWS_LAMBDA_RUNTIME_API"], *words):
            self.assertIn(word, aws.stderr)

    def goes_on(self, aws, event="goes on"):
        answer = aws.invoke(event)
        self.assertEqual((answer.kind, answer.json, answer.status), ("response", event, 202))
        return answer


def unread(aws):
    """How many bytes wait in the runtime's socket: from sock_diag(7), which takes 15 µs where /proc/net/tcp takes 5 ms and more."""
    until(lambda: len(aws.connections) == 1)  # the thread of one that is closed may not have noticed yet
    [connection] = aws.connections
    (here, here_port), (there, there_port) = connection.getpeername(), connection.getsockname()
    addresses = [socket.inet_aton(address).ljust(16, b"\0") for address in (here, there)]
    ask = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    ask += struct.pack("!HH16s16s", here_port, there_port, *addresses) + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(ask), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0) + ask)
        answer = netlink.recv(8192)
    if struct.unpack_from("=H", answer, 4)[0] != SOCK_DIAG_BY_FAMILY:
        return 0  # it has closed the connection
    return struct.unpack_from("=I", answer, 16 + 4 + 48 + 4)[0]  # inet_diag_msg.idiag_rqueue


NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1
can_look = unittest.skipUnless(hasattr(socket, "AF_NETLINK"), "this machine does not tell what a socket has not read: Linux does")


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


class Wire(Case):
    """Answers that are right, however they look."""

    def test_case_and_blanks_of_headers(self):
        source = """
            def handler(event, context):
                return [event, context.aws_request_id, context.tenant_id]
        """
        aws = self.start(source)
        for change in str.lower, str.upper, str.swapcase, str.title:
            for colon in ":", ":  ", ":\t":
                def wire(fields, body):
                    fields = {**fields, "Content-Length": len(body), "Lambda-Runtime-Aws-Tenant-Id": "blue  green"}
                    lines = [f"{change(name)}{colon}{value} \t" for name, value in fields.items()]
                    yield "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode() + body

                answer = aws.invoke("event", wire=wire)
                self.assertEqual(answer.json, ["event", answer.request_id, "blue  green"])

    def test_blanks_around_values_of_the_usual_form(self):
        # Content-Length has none: so it is the parser for usual answers that reads them.
        aws = self.start("""
            def handler(event, context):
                return [event, context.aws_request_id, context.tenant_id]
        """)
        for blanks in "", " ", "\t", " \t  ":
            def wire(fields, body):
                fields = {**fields, "Lambda-Runtime-Aws-Tenant-Id": "blue  green"}
                lines = [f"{name}: {blanks}{value}{blanks}" for name, value in fields.items()]
                yield "\r\n".join(["HTTP/1.1 200 OK", *lines, f"Content-Length: {len(body)}", "", ""]).encode() + body

            answer = aws.invoke("event", wire=wire)
            self.assertEqual(answer.json, ["event", answer.request_id, "blue  green"])

    def test_values_that_look_like_headers(self):
        # A caller has a say in some values: none of them may pass for the header that came in its place before.
        aws = self.start("""
            def handler(event, context):
                return [context.tenant_id, context.identity.cognito_identity_id, context.trace_id]
        """)

        def wire(fields, body):
            values = {"Lambda-Runtime-Aws-Request-Id": fields["Lambda-Runtime-Aws-Request-Id"], **self.values, "Content-Length": len(body)}
            yield head(200, values) + body

        identity = "Lambda-Runtime-Cognito-Identity", '{"cognitoIdentityId":"mine"}'
        self.values = {"Lambda-Runtime-Aws-Tenant-Id": "blue", identity[0]: identity[1], "Lambda-Runtime-Trace-Id": "Root=1"}
        for _ in range(5):
            self.assertEqual(aws.invoke(wire=wire).json, ["blue", "mine", "Root=1"])
        for separator in ": ", ":", "\t", " ":
            tenant = f"blue{separator}{identity[0]}: {identity[1]}"
            self.values = {"Lambda-Runtime-Aws-Tenant-Id": tenant, "Lambda-Runtime-Trace-Id": "Root=2"}
            self.assertEqual(aws.invoke(wire=wire).json, [tenant, None, "Root=2"])
        self.values = {"Lambda-Runtime-Aws-Tenant-Id": "blue", "Lambda-Runtime-Trace-Id": "Root: 3"}
        self.assertEqual(aws.invoke(wire=wire).json, ["blue", None, "Root: 3"])

    def test_status_lines(self):
        aws = self.start()
        for line in "HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.1 200 Ö\tk", "HTTP/1.0 200 OK":
            def wire(fields, body):
                yield head(200, {**fields, "Content-Length": len(body)}).replace(b"HTTP/1.1 200 OK", line.encode(), 1) + body
                yield None if "1.0" in line else b""

            with self.subTest(line):
                self.assertEqual(aws.invoke(line, wire=wire).json, line)
        self.goes_on(aws)

    def small(self, fields, rest):
        """An answer of few bytes."""
        return b"HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: %b\r\n" % fields["Lambda-Runtime-Aws-Request-Id"].encode() + rest

    CODINGS = {
        "length": b'Content-Length: 7\r\n\r\n"event"',
        "chunked": b'Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n"e\r\n05\r\nvent"\r\n0\r\nX: y\r\n\r\n',
    }

    @can_look
    def test_split_at_each_byte(self):
        aws = self.start()
        for coding, rest in self.CODINGS.items():
            def wire(fields, body):
                data = self.small(fields, rest)
                yield data[:at]
                until(lambda: not unread(aws))  # what follows is a segment of its own
                yield data[at:]

            for at in range(1, len(self.small({"Lambda-Runtime-Aws-Request-Id": "x" * 36}, rest))):
                self.assertEqual(aws.invoke(wire=wire).json, "event", f"{coding} split at {at}")
        self.assertEqual(aws.stderr, "")

    @can_look
    def test_head_without_its_end(self):
        # With a length of 0 in it, and an empty body: what has come so far is no answer yet.
        aws = self.start("def handler(event, context): return context.aws_request_id + event.decode()")

        def wire(fields, body):
            data = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 0\r\nLambda-Runtime-Aws-Request-Id: "
            data += fields["Lambda-Runtime-Aws-Request-Id"].encode() + b"\r\n\r\n"
            yield data[:-at]
            until(lambda: not unread(aws))
            yield data[-at:]

        for at in 1, 2, 3, 4, 5, 39:
            answer = aws.invoke(wire=wire)
            self.assertEqual(answer.json, answer.request_id, f"{at} bytes before its end")
        self.assertEqual(aws.stderr, "")

    @can_look
    def test_one_byte_at_a_time(self):
        aws = self.start()
        for rest in self.CODINGS.values():
            def wire(fields, body):
                for byte in self.small(fields, rest):
                    yield bytes([byte])
                    until(lambda: not unread(aws))

            self.assertEqual(aws.invoke(wire=wire, timeout=30).json, "event")
        self.goes_on(aws)

    def test_large_bodies_in_random_pieces(self):
        aws = self.start()
        chance = random.Random(7)
        event = json.dumps("x" * 1_000_000).encode()

        def pieces(data):
            while data:
                size = chance.choice([1, 100, 5_000, 65_536, 200_000])
                yield data[:size]
                data = data[size:]

        def with_length(fields, body):
            yield from pieces(head(200, {**fields, "Content-Length": len(body)}) + body)

        def chunked(fields, body):
            data = head(200, {**fields, "Transfer-Encoding": "chunked"})
            for chunk in pieces(body):
                data += b"%x\r\n%b\r\n" % (len(chunk), chunk)
            yield from pieces(data + b"0\r\n\r\n")

        def until_close(fields, body):
            yield from pieces(head(200, {**fields, "Connection": "close"}) + body)
            yield None

        for wire in with_length, chunked, until_close:
            for _ in range(3):
                self.assertEqual(aws.invoke(body=event, wire=wire).body, event, wire.__name__)

    def test_chunked(self):
        aws = self.start()
        for name, body in {
            "one chunk": b'7\r\n"event"\r\n0\r\n\r\n',
            "many": b'1\r\n"\r\n5\r\nevent\r\n1\r\n"\r\n0\r\n\r\n',
            "extensions": b'7;name=value;other="a;b"\r\n"event"\r\n0;end\r\n\r\n',
            "blank before the extension": b'7 ;a\r\n"event"\r\n0\r\n\r\n',
            "zeros": b'0007\r\n"event"\r\n000\r\n\r\n',
            "trailers": b'7\r\n"event"\r\n0\r\nOne: 1\r\nTwo: 2\r\n\r\n',
            "trailers that end in LF": b'7\r\n"event"\r\n0\r\nOne: 1\r\nTwo: 2\n\n',
            "a folded trailer": b'7\r\n"event"\r\n0\r\nOne: 1\r\n 2\r\n\r\n',
            "upper case": b'0000000C\r\n"event"     \r\n0\r\n\r\n',
        }.items():
            with self.subTest(name):
                answer = aws.invoke(wire=lambda fields, _: [head(200, {**fields, "transfer-encoding": "Chunked"}) + body])
                self.assertEqual(answer.json, "event")
        self.assertEqual({request.connection for request in aws.requests}, {1}, "the connection is kept")

    def test_until_the_connection_closes(self):
        aws = self.start()
        for n, line in enumerate((b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK")):
            answer = aws.invoke(n, wire=lambda fields, body: [
                head(200, fields).replace(b"HTTP/1.1 200 OK", line), body[:1], body[1:], None
            ])
            self.assertEqual(answer.json, n)
        self.goes_on(aws)

    def test_informational_answers_come_before(self):
        aws = self.start()

        def wire(fields, body):
            yield b"HTTP/1.1 100 Continue\r\n\r\n"
            yield b"HTTP/1.1 102 Processing\r\nLambda-Runtime-Aws-Request-Id: wrong\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
            yield head(200, {**fields, "Content-Length": len(body)}) + body

        self.assertEqual(aws.invoke("event", wire=wire).json, "event")
        ok = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        aws.answers("response", Fault(raw=ok))
        aws.invoke("event")
        self.goes_on(aws)
        self.assertEqual({request.connection for request in aws.requests}, {1})

    def test_unknown_headers(self):
        aws = self.start()
        fields = {f"X-{n}": "v" * n for n in range(300)}
        fields.update({"X-Empty": "", "X-Colons": "a:b: c", "x!#$%&'*+-.^_`|~9": "name", "X-Bytes": "ö\x80"})
        self.assertEqual(aws.invoke("event", headers=fields).json, "event")
        self.goes_on(aws)


class Connection(Case):
    """Connections that close."""

    def test_after_each_answer(self):
        aws = self.start()
        for close in "close", "Close", "keep-alive, CLOSE":
            fault = Fault(raw=f"HTTP/1.1 202 Accepted\r\nConnection: {close}\r\nContent-Length: 0\r\n\r\n".encode(), close=True)
            aws.answers("response", fault)

            def wire(fields, body):
                yield head(200, {**fields, "Connection": close, "Content-Length": len(body)}) + body + b"what comes after is no answer"
                yield None

            self.assertEqual(aws.invoke(close, wire=wire).json, close)
        self.goes_on(aws)
        self.assertEqual(aws.stderr, "")

    def test_that_the_api_leaves_open(self):
        # It has said that it will close it, or that it knows no better.
        aws = self.start()
        says_so = ["Connection: close", "Connection: Close", "CONNECTION: CLOSE", "connection: keep-alive, Close"]
        cases = [("HTTP/1.1 %d OK", f"{field}\r\n") for field in says_so] + [("HTTP/1.0 %d OK", "")]
        for status_line, field in cases * 3:
            with self.subTest(status_line, field=field):
                def wire(fields, body):
                    data = head(200, {**fields, "Content-Length": len(body)}) + body
                    yield data.replace(b"HTTP/1.1 200 OK\r\n", (status_line % 200 + "\r\n" + field).encode())

                request_id = aws.send("event", wire=wire)
                aws.answers("response", Fault(raw=f"{status_line % 202}\r\n{field}Content-Length: 0\r\n\r\n".encode()))
                aws.answer(request_id)
                ids = request_id, self.goes_on(aws).request_id
                event, answer, following, _ = [request.connection for request in aws.requests if request.request_id in ids]
                self.assertTrue(event < answer < following)
        self.assertEqual(aws.stderr, "")

    def test_is_kept(self):
        aws = self.start()
        for n in range(5):
            self.goes_on(aws, n)
        self.assertEqual({request.connection for request in aws.requests}, {1})

    def test_without_saying_so(self):
        # A kept connection may be closed at any time: the request goes out once more, on a new one.
        source = """
            def handler(event, context):
                if event == "error": raise ValueError
                return event
        """
        aws = self.start(source)
        for kind in "next", "response", "error":
            for fault in Fault(silently=True), Fault(close=True):
                with self.subTest(kind, fault=vars(fault)):
                    aws.answers(kind, fault)
                    answer = aws.invoke("error" if kind == "error" else "event")
                    self.assertEqual((answer.kind, answer.status), ("error" if kind == "error" else "response", 202))
                    self.assertEqual(aws.invoke("next").json, "next")
        aws.wait_for_next()
        posts = [request.request_id for request in aws.requests if request.method == "POST"]
        self.assertEqual(len(posts), len(set(posts)), "what was answered is not sent again")
        self.assertEqual(aws.stderr, "")

    def test_in_place_of_an_answer(self):
        aws = self.start()
        for kind in "response", "next":
            self.goes_on(aws)
            aws.wait_for_next()
            before = len(aws.sent(kind))
            aws.answers(kind, Fault(0))
            answer = aws.invoke("event")
            self.assertEqual((answer.json, answer.status), ("event", 202))
            aws.wait_for_next()
            self.assertEqual(len(aws.sent(kind)) - before, 2)
        self.assertEqual(aws.stderr, "")

    def test_after_the_post_was_taken(self):
        # It cannot know: the second post is refused, and the loop goes on.
        aws = self.start()
        self.goes_on(aws)
        aws.answers("response", Fault(0, taken=True))
        request_id = aws.send("event")
        aws.answer(request_id)
        self.goes_on(aws)
        posts = [request.status for request in aws.sent("response") if request.request_id == request_id]
        self.assertEqual(posts, [0, 403])
        self.assertEqual(aws.stderr.count("\n"), 1)
        self.assertIn("403", aws.stderr)

    def test_twice(self):
        # On a new connection it is no accident.
        for kind, event in {"next": None, "response": "event", "error": 5}.items():
            with self.subTest(kind):
                aws = self.start("def handler(event, context): return event[0]", start=False)
                aws.answers(kind, Fault(0), Fault(0))
                aws.start()
                if event:
                    aws.send(event)
                self.assertEqual(aws.wait(), 1)
                if event:  # the first `next` may be the first request of its connection
                    self.assertEqual(len(aws.sent(kind)), 2)
                self.assertEqual(aws.stderr.count("\n"), 1)
                self.assertIn(f"AWS_LAMBDA_RUNTIME_API={aws.address}: ", aws.stderr)

    def test_unsolicited_bytes(self):
        # Behind an answer, when nothing was asked: they answer nothing, whatever they are.
        invented = head(200, {"Lambda-Runtime-Aws-Request-Id": "invented", "Content-Length": 8}) + b'"forged"'
        accepted = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
        aws = self.start()
        for extra in invented, b"\r\n", accepted, b"\0":
            for coding in "length", "chunked":
                def wire(fields, body):
                    if coding == "length":
                        yield head(200, {**fields, "Content-Length": len(body)}) + body + extra
                    else:
                        yield head(200, {**fields, "Transfer-Encoding": "chunked"}) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) + extra

                answer = aws.invoke(coding, wire=wire)
                self.assertEqual(answer.json, coding)
                # The second begins as the one before it, which the runtime knows by its bytes.
                aws.answers("response", Fault(raw=accepted), Fault(raw=accepted + extra))
                self.goes_on(aws)
                following = aws.invoke("response")
                self.goes_on(aws)
                # They may be the first of more: such a connection is given up.
                connections = [request.connection for request in aws.requests if request.request_id == answer.request_id]
                self.assertLess(connections[0], connections[1])
                self.assertLess(following.connection, aws.requests[-1].connection)
        self.assertEqual([request.path for request in aws.requests if "invented" in request.path], [])
        self.assertEqual(aws.stderr, "")

    @can_look
    def test_unsolicited_bytes_while_the_function_runs(self):
        aws = self.start("""
            import time

            def handler(event, context):
                with open("go") as go:
                    time.sleep(0.005)  # just after an answer, the runtime need not look
                    return go.read()
        """)
        os.mkfifo(f"{aws.task_root}/go")

        def wire(fields, body):
            yield head(200, {**fields, "Content-Length": len(body)}) + body
            until(lambda: not unread(aws))
            yield head(200, {"Lambda-Runtime-Aws-Request-Id": "invented", "Content-Length": 8}) + b'"forged"'
            until(lambda: unread(aws))
            tell(f"{aws.task_root}/go", "ran")

        for _ in range(2):
            answer = aws.invoke(wire=wire)
            self.assertEqual((answer.json, answer.status), ("ran", 202))
        self.assertEqual([request.path for request in aws.requests if "invented" in request.path], [])
        self.assertEqual(aws.stderr, "")


class Statuses(Case):
    def test_any_2xx_is_success(self):
        source = """
            def handler(event, context):
                if event == "error": raise ValueError
                return event
        """
        aws = self.start(source)
        for status in 200, 201, 202, 299:
            aws.answers("response", status)
            self.assertEqual(aws.invoke("event").status, status)
            aws.answers("error", status)
            self.assertEqual(aws.invoke("error").status, status)
        aws.answers("response", 204)  # has no body
        aws.invoke("event")
        self.goes_on(aws)
        self.assertEqual(aws.stderr, "")

    def test_204_to_next_is_asked_again(self):
        aws = self.start()
        for raw in None, b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n":
            aws.wait_for_next()
            before = len(aws.sent("next"))
            aws.answers("next", *[Fault(204) if raw is None else Fault(raw=raw)] * 3)
            aws.wait_for(lambda: len(aws.sent("next")) >= before + 3 and aws.polling)
            self.goes_on(aws)
        aws.wait_for_next()
        aws.answers("next", Fault(204, close=True))
        self.goes_on(aws)
        self.assertEqual((aws.stderr, aws.log), ("", ""))

    def test_next_otherwise_than_200(self):
        for status in 500, 503, 404, 403, 400, 302, 201, 202:
            with self.subTest(status):
                aws = self.start(start=False)
                aws.answers("next", status)
                aws.start()
                self.ends(aws, str(status))
                self.assertEqual(len(aws.requests), 1)

    def test_next_without_a_request_id(self):
        for headers in "", "Lambda-Runtime-Aws-Request-Id:\r\n":
            aws = self.start(start=False)
            aws.answers("next", Fault(raw=f"HTTP/1.1 200 OK\r\n{headers}Content-Length: 2\r\n\r\n{{}}".encode()))
            aws.start()
            self.ends(aws)

    def test_3xx_and_4xx_to_an_answer(self):
        source = """
            def handler(event, context):
                if event == "error": raise ValueError
                return event
        """
        aws = self.start(source)
        refusals = [(kind, status) for kind in ("response", "error") for status in (300, 302, 400, 403, 410, 413, 499)]
        for n, (kind, status) in enumerate(refusals):
            with self.subTest(kind, status=status):
                aws.answers(kind, status)
                answer = aws.invoke("error" if kind == "error" else "event")
                self.assertEqual((answer.kind, answer.status), (kind, status))
                self.goes_on(aws)
                lines = aws.stderr.splitlines()
                self.assertEqual(len(lines), n + 1)
                self.assertIn(str(status), lines[-1])
                self.assertIn(answer.request_id, lines[-1])
                self.assertEqual(len([request for request in aws.requests if request.request_id == answer.request_id]), 2)

    def test_413_before_all_was_read(self):
        # Lambda need not read what is too large before it says so and hangs up.
        aws = self.start("def handler(event, context): return 'x' * event")
        aws.answers("response", Fault(413, after=0))
        request_id = aws.send(7_000_000)
        aws.wait_for(lambda: aws.polling and aws.delivered.get(request_id), what="the loop does not go on")
        self.assertEqual(aws.invoke(3).json, "xxx")
        self.assertEqual(aws.stderr.count("\n"), 1)
        self.assertIn("413", aws.stderr)

    def test_5xx_to_an_answer(self):
        for source, kind in {ECHO: "response", "def handler(event, context): 1 / 0": "error"}.items():
            for status in 500, 503:
                with self.subTest(kind, status=status):
                    aws = self.start(source)
                    aws.answers(kind, status)
                    aws.invoke("event")
                    self.assertEqual(aws.wait(), 1)
                    self.assertEqual(aws.stderr.count("\n"), 1)
                    self.assertIn(str(status), aws.stderr)
                    self.assertIn(aws.address, aws.stderr)
                    self.assertNotIn("runtime.py", aws.log + aws.stderr)

    def test_what_an_answer_says_is_one_line(self):
        aws = self.start()
        body = b"one\r\ntwo\x1b[31m\xff" + b"x" * 100_000
        aws.answers("response", Fault(raw=b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
        aws.invoke("event")
        self.goes_on(aws)
        self.assertEqual(aws.stderr.count("\n"), 1)
        self.assertTrue(aws.stderr[:-1].isprintable())
        self.assertLess(len(aws.stderr), 2000)


class Broken(Case):
    """Answers to `next` that are cut or malformed: one line, exit 1, and no event is made of them."""

    ID = b"Lambda-Runtime-Aws-Request-Id: broken\r\n"

    def broken(self, *answers, close=True):
        for raw in answers:
            with self.subTest(raw):
                aws = self.start("def handler(event, context): print('called')", start=False)
                aws.answers("next", Fault(raw=raw, close=close))
                aws.start()
                self.ends(aws)
                self.assertEqual([request.kind for request in aws.requests], ["next"])

    def test_cut(self):
        whole = b"HTTP/1.1 200 OK\r\n" + self.ID + b"Content-Length: 7\r\n\r\n" + b'"event"'
        self.broken(*[whole[:at] for at in (1, 12, 16, 17, 30, len(whole) - 10, len(whole) - 8, len(whole) - 7, len(whole) - 1)])

    def test_cut_chunks(self):
        start = b"HTTP/1.1 200 OK\r\n" + self.ID + b"Transfer-Encoding: chunked\r\n\r\n"
        whole = b'3\r\n"ev\r\n4\r\nent"\r\n0\r\nX: y\r\n\r\n'
        self.broken(*[start + whole[:at] for at in (0, 1, 3, 5, 7, 17, 18, 20, len(whole) - 2, len(whole) - 1)])

    def test_malformed(self):
        start = b"HTTP/1.1 200 OK\r\n" + self.ID
        self.broken(
            b"nonsense\r\n\r\n",
            b"HTTP/2 200 OK\r\n" + self.ID + b"Content-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 20 OK\r\n" + self.ID + b"Content-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 2\xd9\xa0\xd9\xa0 OK\r\n" + self.ID + b"Content-Length: 2\r\n\r\n{}",
            # Neither is an answer of 1xx, which the one that counts would follow.
            b"HTTP/1.1 20\r\n\r\n" + start + b"Content-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 7\r\n\r\n" + start + b"Content-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 2000 OK\r\n" + self.ID + b"Content-Length: 2\r\n\r\n{}",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            start + b"Content-Length: -2\r\n\r\n{}",
            start + b"Content-Length: +2\r\n\r\n{}",
            start + b"Content-Length: 0x2\r\n\r\n{}",
            start + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
            start + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: gzip\r\n\r\n{}",
            start + b"Transfer-Encoding: chunked\r\n\r\nz\r\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n2;\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n" + b"2".zfill(17) + b"\r\n{}\r\n0\r\n\r\n",
            start + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n",
            start + b"no colon\r\nContent-Length: 2\r\n\r\n{}",
            start + b"Bad Name: x\r\nContent-Length: 2\r\n\r\n{}",
            start + "\u212aelvin: x\r\nContent-Length: 2\r\n\r\n{}".encode(),
            start + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}",
            start + b"Content-Length: 99999999999999999999999999\r\n\r\n{}",
        )

    def test_malformed_after_sound_ones(self):
        # What was seen before may be read in a quicker way, but not more leniently.
        def sound(request_id, body):
            return [head(200, {"Lambda-Runtime-Aws-Request-Id": request_id, "X": "value", "Content-Length": len(body)}) + body]

        for old, new in (
            (b"value", b"a\rb"), (b"X: value", b"X: a\nb"), (b"value", b"a\0b"), (b"X: ", b"X : "), (b"X: ", b"X "), (b"X: ", b": "), (b"X: ", b"X\0: "),
            (b"X: value", b"Content-Length: 3"), (b"value\r", b"value\r\r"), (b"h: 2", b"h: 2, 3"), (b"h: 2", b"h: \xb2"),
            (b"200 OK", b"200OK"), (b"HTTP/1.1", b"HTTP/1,1"),
        ):
            with self.subTest(new):
                aws = self.start("def handler(event, context): print(event)")
                for _ in range(3):
                    aws.invoke(wire=lambda fields, body: sound(fields["Lambda-Runtime-Aws-Request-Id"], b'"e"'))
                aws.wait_for_next()
                [data] = sound("broken", b"{}")
                self.assertIn(old, data)
                aws.answers("next", Fault(raw=data.replace(old, new), close=True))
                self.ends(aws, log="e\n" * 3)
                self.assertEqual(aws.requests[-1].kind, "next")

    def test_a_header_that_comes_twice_is_a_list(self):
        aws = self.start("def handler(event, context): return context.tenant_id")
        tenant = "Lambda-Runtime-Aws-Tenant-Id: %s\r\n"
        for values in ["blue"], ["blue"], ["blue", "green"], ["blue"]:
            def wire(fields, body):
                fields = head(200, {**fields, "Content-Length": len(body)})
                yield fields[:-2] + "".join(tenant % value for value in values).encode() + b"\r\n" + body

            self.assertEqual(aws.invoke(wire=wire).json, ", ".join(values))

    def test_of_another_kind(self):
        # A server that is no Runtime API may well keep the connection open.
        self.broken(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"220 smtp.example ESMTP\r\n\r\n", close=False)

    def test_head_that_does_not_end(self):
        line = b"X: " + b"x" * 5000 + b"\r\n"
        for name, raw in (("lines", line * 300), ("a line", b"X: " + b"x" * 1_500_000)):
            with self.subTest(name):
                aws = self.start(start=False)
                aws.answers("next", Fault(raw=b"HTTP/1.1 200 OK\r\n" + raw))  # and the connection stays open
                aws.start()
                self.ends(aws, "more than 1048576 bytes")

    def test_answers_to_a_post(self):
        for raw in b"HTTP/1.1 202 Acc", b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n{}", b"nonsense\r\n\r\n":
            with self.subTest(raw):
                aws = self.start()
                aws.answers("response", Fault(raw=raw, close=True))
                aws.invoke("event")
                self.ends(aws)


class Address(Case):
    """AWS_LAMBDA_RUNTIME_API."""

    def test_missing_or_malformed(self):
        for address in None, "", "ho..st", ":80", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:99999", "https://127.0.0.1:1", "ftp://x:1", "http://", "[::1:80":
            with self.subTest(address):
                aws = self.start(env={"AWS_LAMBDA_RUNTIME_API": address})
                self.assertEqual(aws.wait(), 1)
                self.assertEqual((aws.stderr.count("\n"), aws.log), (1, ""), aws.stderr)
                self.assertIn(f"AWS_LAMBDA_RUNTIME_API={address}: " if address else "AWS_LAMBDA_RUNTIME_API is not set", aws.stderr)
                if address in ("127.0.0.1:port", "127.0.0.1:99999"):
                    self.assertIn("is not host:port", aws.stderr)

    def test_line_breaks_in_it(self):
        for address in "127.0.0.1\r\nX: y:80", "http://127.0.0.1:80/\r\nX: y":
            aws = self.start(env={"AWS_LAMBDA_RUNTIME_API": address})
            self.assertEqual(aws.wait(), 1)
            self.assertEqual((aws.stderr.count("\n"), aws.stderr.count("\r"), aws.log), (1, 0, ""))

    def test_nobody_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            free = "127.0.0.1:%d" % server.getsockname()[1]
        for address in free, f"http://{free}/.rt":
            aws = self.start(env={"AWS_LAMBDA_RUNTIME_API": address})
            self.ends(aws, "refused")

    def test_no_such_host(self):
        aws = self.start(env={"AWS_LAMBDA_RUNTIME_API": "nosuch..host:80"})
        self.ends(aws)

    def relayed(self, aws, host, family):
        """A server that hands on what arrives to the API, and its port."""
        server = socket.create_server((host, 0), family=family)
        relay = threading.Thread(target=forward, args=(server, aws.server.server_address))
        relay.start()

        def end():
            aws.kill()
            with contextlib.suppress(OSError):  # it has ended already
                server.shutdown(socket.SHUT_RDWR)
            relay.join()

        self.addCleanup(end)
        return server, server.getsockname()[1]

    def test_it_ends_while_the_function_runs(self):
        aws = self.start("def handler(event, context): print('runs'); open('go').close()", start=False)
        os.mkfifo(f"{aws.task_root}/go")
        server, port = self.relayed(aws, "127.0.0.1", socket.AF_INET)
        aws.env["AWS_LAMBDA_RUNTIME_API"] = f"127.0.0.1:{port}"
        aws.start()
        aws.send()
        aws.wait_for(lambda: aws.log == "runs\n")
        server.shutdown(socket.SHUT_RDWR)
        with aws.condition:
            for connection in aws.connections:
                connection.shutdown(socket.SHUT_RDWR)
        aws.wait_for(lambda: not aws.connections)
        tell(f"{aws.task_root}/go")
        self.ends(aws, "refused", log="runs\n")

    def test_url_and_prefix(self):
        # As cargo-lambda's emulator gives it.
        source = """
            def handler(event, context):
                if event == "error": raise ValueError
                if event == "stream": return iter("abc")
                return event
        """
        for prefix in "/.rt", "/a/b%20c":
            aws = self.start(source, prefix=prefix)
            self.goes_on(aws)
            self.assertEqual(aws.invoke("error").error_type, "ValueError")
            self.assertEqual(aws.invoke("stream").body, b"abc")
            self.assertEqual({request.path[: len(prefix)] for request in aws.requests}, {prefix})

    def test_forms(self):
        for form in "http://{}", "http://{}/", "HTTP://{}", "{}/":
            with self.subTest(form):
                aws = self.start(start=False)
                aws.env["AWS_LAMBDA_RUNTIME_API"] = form.format(aws.address)
                aws.start()
                self.goes_on(aws)
                self.assertEqual(aws.requests[0].headers["Host"], aws.address)
        aws = self.start(prefix="/.rt", start=False)
        aws.env["AWS_LAMBDA_RUNTIME_API"] += "/"
        aws.start()
        self.goes_on(aws)

    def test_init_error_too(self):
        aws = self.start("", prefix="/.rt")
        self.assertEqual(aws.wait(), 1)
        self.assertEqual(aws.init_error.error_type, "Runtime.HandlerNotFound")

    def test_host_name(self):
        for form in "localhost:{}", "http://localhost:{}":
            aws = self.start(start=False)
            aws.env["AWS_LAMBDA_RUNTIME_API"] = form.format(aws.server.server_address[1])
            aws.start()
            self.goes_on(aws)

    def test_host_name_of_several_addresses(self):
        # As localhost, where nobody may listen on ::1: here it has 127.0.0.2 as well.
        # What an address has refused leaves no descriptor behind.
        aws = self.start("""
            import os

            def handler(event, context):
                links = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
                return sum(os.readlink(link).startswith("socket:") for link in links if os.path.lexists(link))
        """, start=False)
        with function(sitecustomize="""
            import _socket

            def getaddrinfo(host, port, *rest, ask=_socket.getaddrinfo):
                return 3 * ask("127.0.0.2", port, *rest) + ask(host, port, *rest)

            _socket.getaddrinfo = getaddrinfo
        """) as folder:
            aws.env["PYTHONPATH"] = folder
            aws.start()
            self.assertEqual(aws.invoke().json, 1)

    @unittest.skipUnless(has_ipv6(), "this machine has no IPv6")
    def test_ipv6(self):
        aws = self.start(start=False)
        _, port = self.relayed(aws, "::1", socket.AF_INET6)
        for form in "[::1]:{}", "http://[::1]:{}/":
            aws.env["AWS_LAMBDA_RUNTIME_API"] = form.format(port)
            aws.start()
            self.goes_on(aws)
            self.assertEqual(aws.requests[-1].headers["Host"], f"[::1]:{port}")


def forward(server, address):
    """Hand on what arrives at a server, until it is shut down; one connection at a time."""
    with server, contextlib.suppress(OSError):
        while True:
            here, _ = server.accept()
            with contextlib.suppress(ConnectionError), here, socket.create_connection(address) as there:
                others = {here: there, there: here}
                while others:
                    for end in select.select(list(others), [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            others = {}
                            break
                        others[end].sendall(data)


if __name__ == "__main__":
    unittest.main()
