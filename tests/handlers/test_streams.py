"""Response streams; those of async handlers are in test_async_streams.py."""

import base64
import json
import os
import pathlib
import socket
import unittest

from miniature import Fault, Lambda, Served, function, head, keeps_connections, tell
from miniature.raw import RawApi
from miniature.raw import event as plain_event

HTTP = "application/vnd.awslambda.http-integration-response"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"


class Streamed(Served):
    """A function that is asked for one of its functions, which streams."""

    def stream(self, event, chunks, content_type="application/octet-stream", error=None):
        """Invoke, and see that the chunks arrive one by one; with an error in the trailers, give its document."""
        answer = self.answer = self.aws.invoke(event)
        self.assertEqual((answer.kind, answer.status, answer.complete), ("response", 202, True), answer.body)
        self.assertEqual([data for _, data in answer.chunks], chunks)
        headers = dict(answer.headers)
        self.assertEqual(headers.pop("Host"), self.aws.address)
        self.assertEqual(headers, {
            "Content-Type": content_type,
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
            "Trailer": f"{ERROR_TYPE}, {ERROR_BODY}",
        })
        if error is None:
            self.assertEqual(answer.trailers.items(), [])
            return None
        self.assertEqual(sorted(answer.trailers.keys()), [ERROR_BODY, ERROR_TYPE])
        self.assertEqual(answer.trailers[ERROR_TYPE], error)
        document = json.loads(base64.b64decode(answer.trailers[ERROR_BODY], validate=True))
        self.assertEqual((document["errorType"], document["requestId"]), (error, answer.request_id))
        self.assertIn(f"[ERROR] {error}", self.aws.log)
        return document

    def fails(self, event, error_type, message):
        """Invoke, and see that an ordinary error arrives."""
        answer = self.answer = self.aws.invoke(event)
        self.assertEqual((answer.kind, answer.error_type, answer.streaming), ("error", error_type, False), answer.body)
        self.assertRegex(answer.json["errorMessage"], message)
        return answer.json


class Chunks(Streamed):
    SOURCE = """
        import array, io, itertools, mmap

        def kinds():
            yield "téxt"
            yield b"bytes"
            yield bytearray(b"bytearray")
            yield memoryview(b"memoryview")[:4]
            yield array.array("H", [1, 2])
            yield memoryview(array.array("I", [1, 2])).cast("B").cast("B", (2, 4))
            yield type("Text", (str,), {})("subclass")

        def empty():
            yield from ["", b"", "a", bytearray(), "", "b", memoryview(b"")]

        def nothing():
            yield from []

        def only_empty():
            yield from ["", b""]

        def expression():
            return (str(n) for n in range(3))

        def mapped():
            return map(str, range(3))

        def listed():
            return iter(["a", "b"])

        def chained():
            return itertools.chain(["a"], "bc")

        def open_file():
            global file
            file = open("data", "rb")
            return file

        def file_is_closed():
            return file.closed

        def text_file():
            return open("data", encoding="utf-8")

        def bytes_io():
            return io.BytesIO(b"one\\ntwo")

        class StreamingBody:
            "What botocore gives for an S3 object."
            closed = False

            def __init__(self, data):
                self.file = io.BytesIO(data)

            def __iter__(self):
                return self

            def __next__(self):
                chunk = self.file.read(3)
                if not chunk:
                    raise StopIteration
                return chunk

            next = __next__

            def read(self, amount=None):
                return self.file.read(amount)

            def close(self):
                StreamingBody.closed = True

        def body():
            return StreamingBody(b"abcdefgh")

        def body_is_closed():
            return StreamingBody.closed

        def delegated():
            yield "first"
            yield from body()

        def large():
            for n in range(20):
                yield bytes([n]) * 300_000

        def lists():
            return [list("ab"), range(3).start]

        def ranged():
            return range(3)

        def handler(event, context):
            return globals()[event]()
    """

    def test_what_a_chunk_may_be(self):
        words = [(1).to_bytes(4, "little"), (2).to_bytes(4, "little")]
        self.stream("kinds", [
            "téxt".encode(), b"bytes", b"bytearray", b"memo", b"\1\0\2\0", b"".join(words), b"subclass"
        ])

    def test_empty_ones_are_skipped(self):
        # An empty chunk would be the end of the body.
        self.stream("empty", [b"a", b"b"])

    def test_none_at_all(self):
        self.stream("nothing", [])
        self.stream("only_empty", [])

    def test_iterators(self):
        for event, chunks in {
            "expression": [b"0", b"1", b"2"], "mapped": [b"0", b"1", b"2"], "listed": [b"a", b"b"], "chained": [b"a", b"b", b"c"],
            "bytes_io": [b"one\n", b"two"], "delegated": [b"first", b"abc", b"def", b"gh"],
        }.items():
            with self.subTest(event):
                self.stream(event, chunks)

    def test_files(self):
        pathlib.Path(self.root, "data").write_bytes("zeile\nö\n\n\rend".encode())
        self.stream("open_file", ["zeile\n".encode(), "ö\n".encode(), b"\n", b"\rend"])
        self.assertTrue(self.aws.invoke("file_is_closed").json)
        self.stream("text_file", ["zeile\n".encode(), "ö\n".encode(), b"\n", b"\n", b"end"])

    def test_streaming_body(self):
        self.stream("body", [b"abc", b"def", b"gh"])
        self.assertTrue(self.aws.invoke("body_is_closed").json)

    def test_large_chunks(self):
        self.stream("large", [bytes([n]) * 300_000 for n in range(20)])

    def test_what_is_iterable_is_no_iterator(self):
        answer = self.aws.invoke("lists")
        self.assertEqual((answer.streaming, answer.json), (False, [["a", "b"], 0]))
        self.fails("ranged", "Runtime.MarshalError", "range is not JSON serializable")


class Metadata(Streamed):
    SOURCE = """
        import collections
        from decimal import Decimal

        def http():
            yield {"statusCode": 201, "headers": {"X-Ünï": "cödé"}, "cookies": ["a=b"]}
            yield "body"

        def alone():
            yield {"statusCode": 204}

        def after_empty():
            yield ""
            yield collections.OrderedDict(statusCode=200)
            yield "body"

        def empty():
            yield {}
            yield "body"

        def twice():
            yield {"statusCode": 200}
            yield "body"
            yield {"statusCode": 200}

        def late():
            yield "body"
            yield {"statusCode": 200}

        def bad():
            yield {"statusCode": object()}

        def nul():
            yield {"headers": {"k": "a\\0\\0\\0\\0\\0\\0\\0\\0b"}}
            yield "body"

        def handler(event, context):
            return globals()[event]()
    """

    def test_is_json_in_a_chunk_and_nuls_in_the_next(self):
        text = '{"statusCode": 201, "headers": {"X-Ünï": "cödé"}, "cookies": ["a=b"]}'
        self.stream("http", [text.encode(), bytes(8), b"body"], HTTP)

    def test_alone(self):
        self.stream("alone", [b'{"statusCode": 204}', bytes(8)], HTTP)
        self.stream("empty", [b"{}", bytes(8), b"body"], HTTP)

    def test_comes_first(self):
        self.stream("after_empty", [b'{"statusCode": 200}', bytes(8), b"body"], HTTP)
        for event, chunks, content_type in (
            ("twice", [b'{"statusCode": 200}', bytes(8), b"body"], HTTP), ("late", [b"body"], "application/octet-stream"),
        ):
            document = self.stream(event, chunks, content_type, error="Runtime.MarshalError")
            self.assertIn("str or bytes-like, not dict (the metadata comes first)", document["errorMessage"])

    def test_not_serialisable(self):
        self.fails("bad", "Runtime.MarshalError", "object is not JSON serializable")

    def test_has_no_nul(self):
        text = json.dumps({"headers": {"k": "a" + "\0" * 8 + "b"}})
        self.stream("nul", [text.encode(), bytes(8), b"body"], HTTP)


class Errors(Streamed):
    SOURCE = """
        import sys

        def early():
            if True: raise ValueError("eärly")
            yield

        def early_after_empty():
            yield ""
            raise ValueError("eärly")

        def late():
            yield "a"
            raise ValueError("läte")

        def late_after_metadata():
            yield {"statusCode": 200}
            raise ValueError("läte")

        def cause():
            yield "a"
            try:
                {}[1]
            except KeyError as error:
                raise ValueError("läte") from error

        def stop():
            yield "a"
            raise StopIteration

        class Stops:
            def __iter__(self):
                return self

            def __next__(self):
                raise KeyboardInterrupt

        def interrupted():
            return Stops()

        def late_interrupt():
            yield "a"
            raise KeyboardInterrupt

        def long():
            yield "a"
            raise ValueError("x" * 100_000)

        def control():
            yield "a"
            raise ValueError("\\x01" * 100_000)

        def emoji():
            yield "a"
            raise type("😀" * 5000, (Exception,), {})("😀\\udc80" * 5000)

        def long_name():
            yield "a"
            raise type("E" * 5000, (Exception,), {})("\\"" * 5000)

        def nearly_too_long():
            yield "a"
            raise type("E" * 480, (Exception,), {})("x" * 1500)

        def deep():
            def down(n):
                if n: down(n - 1)
                else: raise ValueError("m" * 1000)
            def across(n):
                return down(n)
            yield "a"
            across(30)

        def injected():
            yield "a"
            raise type("A\\r\\nInjected: yes\\r\\n\\r\\n", (Exception,), {})

        def wrong(first, chunk):
            if first: yield "a"
            yield chunk

        def handler(event, context):
            name, _, rest = event.partition(" ")
            return globals()[name](*eval(rest or "()"))
    """

    def test_before_the_first_chunk(self):
        for event in "early", "early_after_empty":
            document = self.fails(event, "ValueError", "^eärly$")
            self.assertEqual(len(document["stackTrace"]), 1)
            self.assertIn(f'"{self.root}/function.py", line', document["stackTrace"][0])
            self.assertIn(f"in {event}\n", document["stackTrace"][0])
        self.fails("interrupted", "KeyboardInterrupt", "^$")

    def test_later_in_the_trailers(self):
        document = self.stream("late", [b"a"], error="ValueError")
        [frame] = document.pop("stackTrace")
        self.assertIn('in late\n    raise ValueError("läte")\n', frame)
        self.assertEqual(document, {"errorMessage": "läte", "errorType": "ValueError", "requestId": self.answer.request_id})
        self.stream("late_after_metadata", [b'{"statusCode": 200}', bytes(8)], HTTP, error="ValueError")
        document = self.stream("cause", [b"a"], error="ValueError")
        self.assertEqual(document["cause"]["errorMessage"], "1")
        self.stream("late_interrupt", [b"a"], error="KeyboardInterrupt")
        self.stream("stop", [b"a"], error="RuntimeError")

    def test_is_logged_once(self):
        before = len(self.aws.log)
        self.stream("late", [b"a"], error="ValueError")
        self.assertEqual(self.aws.log[before:].count("[ERROR]"), 1)
        self.assertTrue(self.aws.log[before:].startswith("[ERROR] ValueError: läte\rTraceback (most recent call last):\r"))

    def test_wrong_types(self):
        for chunk, name in {"5": "int", "None": "NoneType", "['a']": "list", "object()": "object", "1.5": "float"}.items():
            what = rf"{name}: a chunk of a stream is str or bytes-like, not {name}; for JSON return list\(...\)"
            message = rf"^Unable to marshal response: wrong \(/.*/function.py, line \d+\) yielded {what}$"
            with self.subTest(chunk):
                self.fails(f"wrong (False, {chunk})", "Runtime.MarshalError", message)
                document = self.stream(f"wrong (True, {chunk})", [b"a"], error="Runtime.MarshalError")
                self.assertRegex(document["errorMessage"], message)

    def test_text_that_is_no_utf8(self):
        self.fails(r"wrong (False, '\ud800')", "Runtime.MarshalError", "surrogates not allowed")
        self.stream(r"wrong (True, '\ud800')", [b"a"], error="Runtime.MarshalError")

    def test_memory_that_is_not_contiguous(self):
        self.stream("wrong (True, memoryview(b'abcd')[::2])", [b"a"], error="Runtime.MarshalError")

    def test_trailers_are_below_4096_bytes(self):
        # More is refused by Go's HTTP server, and the document has to be whole all the same.
        for event in "late", "long", "control", "emoji", "long_name", "nearly_too_long", "deep", "injected", "cause":
            with self.subTest(event):
                answer = self.aws.invoke(event)
                self.assertEqual([data for _, data in answer.chunks], [b"a"])
                self.assertTrue(answer.complete)
                self.assertEqual(sorted(answer.trailers.keys()), [ERROR_BODY, ERROR_TYPE])
                size = sum(len(f"{name}: {value}\r\n") for name, value in answer.trailers.items())
                self.assertLess(size + len("\r\n"), 4096)
                document = json.loads(base64.b64decode(answer.trailers[ERROR_BODY], validate=True))
                self.assertEqual(document["requestId"], answer.request_id)
                self.assertTrue(document["errorType"] and isinstance(document["stackTrace"], list))

    def test_the_log_has_what_the_trailers_have_no_room_for(self):
        document = self.stream("long", [b"a"], error="ValueError")
        self.assertEqual(document["errorMessage"].strip("x"), "")
        self.assertIn("x" * 100_000, self.aws.log)

    def test_names_cannot_add_a_trailer(self):
        answer = self.aws.invoke("injected")
        self.assertEqual(answer.trailers[ERROR_TYPE], r"A\r\nInjected: yes\r\n\r\n")


class Finally(Streamed):
    """The generator is closed, so that its `finally` runs, at the end of each stream."""

    SOURCE = """
        def endless():
            try:
                while True: yield "x" * 65536
            finally:
                print("finally of endless")

        def clings():
            while True:
                try:
                    yield "x" * 65536
                except GeneratorExit:
                    pass

        def fails_to_close():
            try:
                while True: yield "x" * 65536
            finally:
                raise ValueError("in finally")

        def wrong():
            try:
                yield "a"
                yield 5
            finally:
                print("finally of wrong")

        def waits():
            try:
                yield "a"
                open("go").read()
                yield "b"
            finally:
                print("finally of waits")

        class Endless:
            def __iter__(self): return self
            def __next__(self): return b"x" * 65536
            def close(self): print("closed")

        def iterator():
            return Endless()

        def value():
            return "goes on"

        def handler(event, context):
            return globals()[event]()
    """

    def hang_up(self, event, after):
        """The API hangs up after some chunks; what comes of it: the log, and stderr."""
        log, stderr = len(self.aws.log), len(self.aws.stderr)
        self.aws.answers("response", Fault(0, after=after))
        answer = self.aws.invoke(event)
        self.assertFalse(answer.complete)
        self.assertEqual(self.aws.invoke("value").json, "goes on")
        posts = [request for request in self.aws.requests if request.request_id == answer.request_id and request.method == "POST"]
        self.assertEqual(posts, [answer], "a stream that was cut is not sent again")
        return self.aws.log[log:], self.aws.stderr[stderr:], answer

    def test_when_the_api_hangs_up(self):
        for event, said in {"endless": "finally of endless\n", "iterator": "closed\n"}.items():
            for after in 1, 3:
                with self.subTest(event, after=after):
                    log, stderr, answer = self.hang_up(event, after)
                    self.assertEqual(log, said)
                    self.assertEqual(stderr.count("\n"), 1)
                    self.assertIn(answer.request_id, stderr)

    def test_when_the_api_has_hung_up_before_the_last_chunk(self):
        os.mkfifo(f"{self.root}/go")
        self.aws.answers("response", Fault(0, after=1))
        answer = self.aws.answer(self.aws.send("waits"))
        self.aws.wait_for(lambda: not self.aws.connections, what="the connection is not closed")
        tell(f"{self.root}/go")
        self.aws.wait_for_next()
        self.assertTrue(self.aws.log.endswith("finally of waits\n"), self.aws.log)
        self.assertIn(answer.request_id, self.aws.stderr)

    def test_that_goes_wrong(self):
        log, stderr, _ = self.hang_up("fails_to_close", 1)
        self.assertTrue(log.startswith("[ERROR] ValueError: in finally\r"), log)
        self.assertEqual(stderr.count("\n"), 1)
        log, _, _ = self.hang_up("clings", 1)  # on stderr Python itself complains of the generator
        self.assertRegex(log, r"^\[ERROR\] RuntimeError: (async )?generator ignored GeneratorExit\r")

    def test_after_a_wrong_type(self):
        self.stream("wrong", [b"a"], error="Runtime.MarshalError")
        self.assertIn("finally of wrong\n", self.aws.log)

    def test_when_the_api_answers_before_the_end(self):
        # Over 200 MB, say: Lambda answers, and hangs up.
        stderr = len(self.aws.stderr)
        for _ in range(2):
            self.aws.answers("response", Fault(413, after=2))
            self.assertEqual(self.aws.invoke("endless").status, 413)
            self.assertEqual(self.aws.invoke("value").json, "goes on")
        self.assertEqual(self.aws.stderr[stderr:].count("\n"), 2)


class Live(unittest.TestCase):
    """Each chunk goes out at once: before the next is computed."""

    def play(self, source):
        with function(function=source) as root:
            os.mkfifo(f"{root}/go")
            with Lambda(root) as aws:
                answer = aws.answer(aws.send(), whole=False)
                self.assertEqual(answer.wait_chunks(1), [b"first"])
                self.assertFalse(answer.done)
                tell(f"{root}/go", "second")
                self.assertEqual(answer.wait_chunks(2), [b"first", b"second"])
                self.assertFalse(answer.done)
                tell(f"{root}/go", "third")
                self.assertEqual(list(answer.stream()), [b"first", b"second", b"third"])
                self.assertTrue(answer.wait().complete)

    def test_generator(self):
        self.play("""
            def handler(event, context):
                yield "first"
                for _ in range(2):
                    with open("go") as go: chunk = go.read()
                    yield chunk
        """)

    def test_metadata(self):
        source = """
            def handler(event, context):
                yield {"statusCode": 200}
                with open("go") as go: yield go.read()
        """
        with function(function=source) as root:
            os.mkfifo(f"{root}/go")
            with Lambda(root) as aws:
                answer = aws.answer(aws.send(), whole=False)
                self.assertEqual(answer.wait_chunks(2), [b'{"statusCode": 200}', bytes(8)])
                tell(f"{root}/go", "body")
                self.assertEqual(answer.wait_chunks(3)[2], b"body")


class Exit(unittest.TestCase):
    def test_in_a_stream(self):
        source = """
            import sys

            def handler(event, context):
                try:
                    if event == "late": yield "a"
                    sys.exit(6)
                finally:
                    print("finally")
        """
        for define in "def", "async def":
            for event in "early", "late":
                with self.subTest(define, event=event), function(function=source.replace("def", define)) as root:
                    with Lambda(root) as aws:
                        answer = aws.invoke(event)
                        self.assertEqual(answer.error_type, "SystemExit")
                        if event == "early":
                            document = {key: answer.json[key] for key in ("errorMessage", "errorType", "requestId")}
                            expected = {"errorMessage": "6", "errorType": "SystemExit", "requestId": answer.request_id}
                            self.assertEqual((answer.kind, document), ("error", expected))
                        else:
                            self.assertEqual((answer.kind, answer.body), ("response", b"a"))
                        self.assertEqual(aws.wait(), 6)
                        self.assertTrue(aws.log.startswith("finally\n[ERROR] SystemExit: 6\r"), aws.log)


class Connection(unittest.TestCase):
    SOURCE = """
        import os

        def handler(event, context):
            if os.path.exists("go"): open("go").close()
            for chunk in event:
                yield chunk
    """

    def test_lost_before_the_stream(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            os.mkfifo(f"{root}/go")
            for fault in Fault(close=True), Fault(silently=True):
                aws.answers("next", fault)
                request_id = aws.send(["a", "b"])
                aws.wait_for(lambda: aws.delivered.get(request_id) and not aws.connections)
                tell(f"{root}/go")
                self.assertEqual(aws.answer(request_id).body, b"ab")
            self.assertEqual(aws.stderr, "")

    def test_closed_after_the_stream(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            for fault in Fault(close=True), Fault(silently=True):
                aws.answers("response", fault)
                self.assertEqual([aws.invoke(["a", "b"]).body for _ in range(2)], [b"ab", b"ab"])
            self.assertEqual(aws.stderr, "")

    @keeps_connections
    def test_is_kept(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            self.assertEqual({aws.invoke(["a"]).connection for _ in range(3)}, {1})

    def test_refused_or_broken(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            refusals = 300, 302, 400, 403, 410, 413
            for status in refusals:
                aws.answers("response", status)
                self.assertEqual(aws.invoke(["a"]).status, status)
                self.assertEqual(aws.invoke(["b"]).body, b"b")
                self.assertIn(str(status), aws.stderr.splitlines()[-1])
            self.assertEqual(aws.stderr.count("\n"), len(refusals))
            aws.answers("response", 500)
            aws.invoke(["a"])
            self.assertEqual(aws.wait(), 1)
            self.assertEqual(aws.stderr.count("\n"), len(refusals) + 1)


class Interrupted(unittest.TestCase):
    @keeps_connections
    def test_half_a_chunk(self):
        # The API waits for the rest of the chunk: neither trailers nor another request may come in its place.
        source = """
            import signal

            def late(signum, frame):
                raise RuntimeError("too late")

            def handler(event, context):
                signal.signal(signal.SIGALRM, late)
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                yield bytes(50_000_000)
        """
        with function(function=source) as root, socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            with Lambda(root, start=False) as aws:
                aws.env["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:%d" % server.getsockname()[1]
                aws.start()
                with server.accept()[0] as first:
                    first.recv(65536)
                    first.sendall(head(200, {"Lambda-Runtime-Aws-Request-Id": "one", "Content-Length": 2}) + b"{}")
                    with server.accept()[0] as second:  # the first is given up
                        self.assertRegex(second.recv(65536), rb"\AGET /2018-06-01/runtime/invocation/next ")
                aws.wait_for(lambda: "stream of one was cut off" in aws.stderr)
                self.assertIn("[ERROR] RuntimeError: too late", aws.log)

    def test_a_chunk_that_goes_out_in_parts(self):
        """The kernel takes a part of a chunk when a signal comes: the rest follows, and nothing twice."""
        source = """
            import signal

            def handler(event, context):
                signal.signal(signal.SIGALRM, lambda signum, frame: None)
                signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
                for _ in range(4):
                    yield bytes(range(251)) * 40_000
                signal.setitimer(signal.ITIMER_REAL, 0)
        """
        with function(function=source) as root, Lambda(root) as aws:
            answer = aws.invoke()
            self.assertEqual((len(answer.chunks), answer.error), (4, None))
            self.assertTrue(answer.body == bytes(range(251)) * 160_000)


class LostWhileTheFunctionRuns(unittest.TestCase):
    def test_before_the_first_chunk(self):
        """The stream goes out on another connection: it could not be made twice."""
        source = """
            def handler(event, context):
                open("ready").close()
                yield open("go").read()
        """
        for reset in False, True:
            with self.subTest(reset=reset), function(function=source) as root, RawApi() as api, api.start(root):
                for name in "ready", "go":
                    os.mkfifo(f"{root}/{name}")
                api.request()
                api.send(plain_event("one", b"{}"))
                tell(f"{root}/ready")
                api.hang_up(reset=reset)
                tell(f"{root}/go", "chunk")
                request = api.request()
                self.assertEqual((request.request_id, request.kind, request.body), ("one", "response", b"chunk"))


class Buffer(unittest.TestCase):
    def test_can_be_used_again(self):
        source = """
            def handler(event, context):
                buffer = bytearray()
                for n in range(3):
                    buffer += b"chunk %d" % n
                    yield memoryview(buffer) if event else buffer
                    buffer.clear()
        """
        with function(function=source) as root, Lambda(root) as aws:
            for event in 0, 1:
                answer = aws.invoke(event)
                self.assertEqual([data for _, data in answer.chunks], [b"chunk 0", b"chunk 1", b"chunk 2"])
                self.assertEqual(list(answer.trailers), [])
            self.assertEqual(aws.log, "")


class Memory(unittest.TestCase):
    def test_is_constant(self):
        source = """
            import re

            def peak():
                with open("/proc/self/status") as status:
                    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status.read())[1])

            def stream():
                for _ in range(1600):
                    yield bytes(65536)

            async def async_stream():
                for _ in range(1600):
                    yield bytes(65536)

            def handler(event, context):
                return globals()[event]()
        """
        if not os.path.exists("/proc/self/status"):
            self.skipTest("this machine has no /proc, where peak memory is read")
        for event in "stream", "async_stream":
            with self.subTest(event), function(function=source) as root, Lambda(root) as aws:
                before = aws.invoke("peak").json
                answer = aws.invoke(event, timeout=30)
                self.assertEqual(sum(len(data) for _, data in answer.chunks), 1600 * 65536)
                # In kB; asyncio itself takes 8 MB of them.
                self.assertLess(aws.invoke("peak").json - before, 20_000)


if __name__ == "__main__":
    unittest.main()
