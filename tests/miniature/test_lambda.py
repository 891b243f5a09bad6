"""`Lambda` as people use it for tests of their own functions: what an answer tells."""

import threading
import time
import unittest

from miniature import Lambda, function

SOURCE = """
    import logging, sys

    print("imported")

    def handler(event, context):
        print("called", event)
        logging.error("logged")
        print("on stderr", file=sys.stderr)
        if event == "raise":
            raise ValueError("bad é")
        return {"got": event, "é": 1} if event != "bytes" else b"\\xff"

    def stream(event, context):
        if event == "http":
            yield {"statusCode": 201, "cookies": ["a=1"]}
        yield "one"
        if event == "raise":
            raise ValueError("late")
        yield b"\\0" * 8

    def large(event, context):
        return "x" * 7_000_000
"""


class Answer(unittest.TestCase):
    def lambda_(self, handler="handler"):
        context = function(app=SOURCE)
        root = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        aws = Lambda(root, f"app.{handler}")
        self.addCleanup(aws.close)
        return aws

    def test_value(self):
        answer = self.lambda_().invoke({"k": 1})
        self.assertEqual((answer.json, answer.error, answer.metadata), ({"got": {"k": 1}, "é": 1}, None, None))
        self.assertEqual(answer.content, '{"got": {"k": 1}, "é": 1}'.encode())

    def test_bytes(self):
        answer = self.lambda_().invoke("bytes")
        self.assertEqual((answer.content, answer.error), (b"\xff", None))
        with self.assertRaises(ValueError):
            answer.json  # noqa: B018

    def test_error(self):
        error = self.lambda_().invoke("raise").error
        self.assertEqual((error["errorType"], error["errorMessage"]), ("ValueError", "bad é"))

    def test_the_log_of_an_error_is_for_a_person(self):
        """One record, whose lines the runtime ends with \\r: a terminal would write each over the one before."""
        aws = self.lambda_()
        log = aws.invoke("raise").log
        self.assertIn("\n[ERROR] ValueError: bad é\nTraceback (most recent call last):\n", log)
        self.assertNotIn("\r", log)
        self.assertIn("[ERROR] ValueError: bad é\rTraceback", aws.log)

    def test_stream(self):
        before = time.monotonic()
        answer = self.lambda_("stream").invoke()
        self.assertEqual((answer.content, answer.metadata, answer.error), (b"one" + bytes(8), None, None))
        times, chunks = zip(*answer.chunks)
        self.assertEqual(chunks, (b"one", bytes(8)))
        times = [before, *times, time.monotonic()]
        self.assertEqual(times, sorted(times))

    def test_stream_with_metadata(self):
        answer = self.lambda_("stream").invoke("http")
        self.assertEqual((answer.content, answer.metadata), (b"one" + bytes(8), {"statusCode": 201, "cookies": ["a=1"]}))

    def test_stream_that_fails(self):
        answer = self.lambda_("stream").invoke("raise")
        self.assertEqual((answer.content, answer.error["errorMessage"]), (b"one", "late"))

    def test_response_over_6_mb(self):
        self.assertEqual(self.lambda_("large").invoke().error["errorType"], "Function.ResponseSizeTooLarge")

    def test_log(self):
        aws = self.lambda_()
        first, second = aws.invoke("1st"), aws.invoke("2nd")
        for answer, n in (first, "1st"), (second, "2nd"):
            self.assertIn(f"called {n}\n", answer.log)
            self.assertIn(f"{answer.request_id}\tlogged", answer.log)
            self.assertEqual(answer.log.count("called"), 1)
            self.assertIn("on stderr\n", answer.log)
        self.assertTrue(aws.log.startswith("imported\ncalled 1st\n"), aws.log)

    def test_no_answer(self):
        with function(app="import nowhere") as root, Lambda(root, "app.handler") as aws:
            with self.assertRaisesRegex(AssertionError, "(?s)ended: Runtime.ImportModuleError: .*'nowhere'.*\nTraceback") as raised:
                aws.invoke()
            self.assertNotIn("\r", str(raised.exception))


class Start(unittest.TestCase):
    def test_it_does_not_wait_for_the_import(self):
        """What the function needs for its import is spent while the test prepares its first event."""
        before = threading.active_count()
        with function(app="import threading\nthreading.Event().wait()") as root:
            with Lambda(root, "app.handler") as aws:
                self.assertIsNone(aws.status)
        self.assertEqual(threading.active_count(), before)


if __name__ == "__main__":
    unittest.main()
