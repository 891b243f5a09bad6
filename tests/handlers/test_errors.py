"""What goes out when a handler raises: the error document, its headers, the log, and exits."""

import json
import pathlib
import re
import unittest

from miniature import Lambda, Served, function, keeps_connections

ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
XRAY = "Lambda-Runtime-Function-XRay-Error-Cause"


def logged(document):
    """The text of an error in the log, as awslambdaric writes it."""
    lines, error, intro = [], document, "[ERROR]"
    while error:
        lines.append(f"{intro} " + ": ".join(filter(None, (error["errorType"], error["errorMessage"]))))
        lines.append("Traceback (most recent call last):")
        for line in "".join(error["stackTrace"]).splitlines():
            lines.append(re.sub("^ +", lambda indentation: "\xa0" * len(indentation[0]), line))
        error, intro = error.get("cause"), "Caused by"
    return "\r".join(lines) + "\n"


class Failing(Served):
    """A function that is asked for one of its functions, which fails."""

    def error(self, event):
        """The error document for an event, after what holds for each."""
        before = len(self.aws.log)
        answer = self.answer = self.aws.invoke(event)
        document = answer.json
        self.assertEqual((answer.kind, answer.status), ("error", 202))
        self.assertEqual(set(document) - {"cause"}, {"errorMessage", "errorType", "requestId", "stackTrace"})
        self.assertEqual(document["requestId"], answer.request_id)
        names = {"Host", "Content-Type", "Content-Length", ERROR_TYPE}
        self.assertEqual(set(answer.headers) - {XRAY}, names)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.aws.wait_for_next()
        self.assertEqual(self.aws.log[before:], logged(document))
        return document

    def frame(self, name, text):
        """The entry of the stack trace for a line of the function."""
        lines = pathlib.Path(self.root, "function.py").read_text("utf-8").splitlines()
        [number] = [number for number, line in enumerate(lines, 1) if line.strip() == text]
        return f'  File "{self.root}/function.py", line {number}, in {name}\n    {text}\n'


class Document(Failing):
    SOURCE = """
        import traceback

        def plain():
            raise ValueError("the méssage")

        def empty():
            raise KeyError

        def lines():
            raise ValueError("one\\ntwo\\r\\nthree")

        def deep():
            (lambda: helper(
                key=1))()

        def helper(key):
            return {}[key]

        def generated():
            exec("def inner(): 1 / 0\\n\\ninner()")

        def recursion():
            try:
                down(500)
            except ValueError as error:
                # What Python itself makes of the frames, without the marks below a line that 3.11 brought.
                error.expected = traceback.format_list([tuple(frame) for frame in traceback.extract_tb(error.__traceback__)])
                raise

        def down(depth):
            if not depth: raise ValueError
            down(depth - 1)

        def four():
            down(4)

        def endless():
            return endless()

        def arguments():
            return handler()

        def handler(event, context):
            try:
                return globals()[event]()
            except ValueError as error:
                if hasattr(error, "expected"): print(*error.expected, sep="|", end="|")
                raise
    """

    CALL = "return globals()[event]()"

    def test_fields(self):
        document = self.error("plain")
        self.assertEqual(document, {
            "errorMessage": "the méssage",
            "errorType": "ValueError",
            "requestId": self.answer.request_id,
            "stackTrace": [self.frame("handler", self.CALL), self.frame("plain", 'raise ValueError("the méssage")')],
        })
        self.assertIn('"the méssage"'.encode(), self.answer.body)
        self.assertEqual(self.answer.headers[ERROR_TYPE], "ValueError")

    def test_xray_cause(self):
        document = self.error("plain")
        lines = [int(re.search(r"line (\d+)", entry)[1]) for entry in document["stackTrace"]]
        path = f"{self.root}/function.py"
        self.assertTrue(self.answer.headers[XRAY].isascii())
        self.assertEqual(json.loads(self.answer.headers[XRAY]), {
            "working_directory": self.root,
            "exceptions": [{
                "message": "the méssage",
                "type": "ValueError",
                "stack": [
                    {"label": "handler", "path": path, "line": lines[0]}, {"label": "plain", "path": path, "line": lines[1]}
                ],
            }],
            "paths": [path],
        })

    def test_no_message(self):
        self.assertEqual(self.error("empty")["errorMessage"], "")
        self.assertIn("[ERROR] KeyError\rTraceback", self.aws.log)

    def test_line_breaks_in_the_message(self):
        self.assertEqual(self.error("lines")["errorMessage"], "one\ntwo\r\nthree")
        self.assertEqual(json.loads(self.answer.headers[XRAY])["exceptions"][0]["message"], "one\ntwo\r\nthree")

    def test_frames(self):
        trace = self.error("deep")["stackTrace"]
        self.assertEqual(trace[-1], self.frame("helper", "return {}[key]"))
        self.assertEqual([re.search("in (.*)", entry)[1] for entry in trace], ["handler", "deep", "<lambda>", "helper"])

    def test_frames_without_source(self):
        trace = self.error("generated")["stackTrace"]
        self.assertEqual(trace[2:], ['  File "<string>", line 3, in <module>\n', '  File "<string>", line 1, in inner\n'])
        cause = json.loads(self.answer.headers[XRAY])
        self.assertEqual(cause["paths"], [f"{self.root}/function.py", "<string>"])

    def test_repeated_frames_are_folded(self):
        before = len(self.aws.log)
        answer = self.aws.invoke("recursion")
        *expected, _ = self.aws.log[before:].split("|")
        self.assertEqual(answer.json["stackTrace"], [self.frame("handler", self.CALL), *expected])
        self.assertIn("  [Previous line repeated 497 more times]\n", expected)
        self.assertEqual(len(json.loads(answer.headers[XRAY])["exceptions"][0]["stack"]), 503)
        self.assertIn("  [Previous line repeated 1 more time]\n", self.error("four")["stackTrace"])

    def test_recursion_without_end(self):
        document = self.error("endless")
        self.assertEqual(document["errorType"], "RecursionError")
        self.assertLess(len(document["stackTrace"]), 10)

    def test_the_error_of_the_invocation_before_is_no_cause(self):
        self.error("plain")
        self.assertNotIn("cause", self.error("empty"))

    def test_no_frames(self):
        # The handler does not take two arguments: only the runtime's own frames are there.
        with function(function="def handler(event): pass") as root, Lambda(root) as aws:
            document = aws.invoke().json
            self.assertEqual((document["errorType"], document["stackTrace"]), ("TypeError", []))
            self.assertIn("takes 1 positional argument but 2 were given", document["errorMessage"])
            self.assertEqual(aws.log, logged(document))


class Log(unittest.TestCase):
    def test_as_it_stands_there(self):
        source = """\
def handler(event, context):
    try:
        read({})
    except KeyError as error:
        raise RuntimeError("two\\n  lines") from error

def read(row):
    return row["kéy"]
"""
        with function(function=source) as root, Lambda(root) as aws:
            aws.invoke()
            aws.wait_for_next()
            self.assertEqual(
                aws.log.replace(root, "/var/task"),
                "[ERROR] RuntimeError: two\n  lines\r"
                "Traceback (most recent call last):\r"
                "\xa0\xa0File \"/var/task/function.py\", line 5, in handler\r"
                "\xa0\xa0\xa0\xa0raise RuntimeError(\"two\\n  lines\") from error\r"
                "Caused by KeyError: 'kéy'\r"
                "Traceback (most recent call last):\r"
                "\xa0\xa0File \"/var/task/function.py\", line 3, in handler\r"
                "\xa0\xa0\xa0\xa0read({})\r"
                "\xa0\xa0File \"/var/task/function.py\", line 8, in read\r"
                "\xa0\xa0\xa0\xa0return row[\"kéy\"]\n",
            )


class Kinds(Failing):
    """Which exceptions there are: none of them ends the loop."""

    SOURCE = """
        import asyncio

        class Silent(Exception):
            def __str__(self):
                raise RuntimeError("no text")

        class Killing(Exception):
            def __str__(self):
                raise KeyboardInterrupt

        class Exiting(Exception):
            def __str__(self):
                raise SystemExit(1)

        class Wrong(Exception):
            def __str__(self):
                return 5

        class Own(BaseException):
            pass

        class Outer:
            class Inner(Exception):
                pass

        def handler(event, context):
            raise eval(event)
    """

    def test_of_any_class(self):
        for expression, document in {
            "KeyboardInterrupt": ("KeyboardInterrupt", ""),
            "GeneratorExit('g')": ("GeneratorExit", "g"),
            "asyncio.CancelledError('c')": ("CancelledError", "c"),
            "StopIteration(5)": ("StopIteration", "5"),
            "StopAsyncIteration('s')": ("StopAsyncIteration", "s"),
            "Own('o')": ("Own", "o"),
            "Outer.Inner('i')": ("Inner", "i"),
            "BaseException(1, 'two')": ("BaseException", "(1, 'two')"),
            "MemoryError()": ("MemoryError", ""),
            "BrokenPipeError(32, 'Broken pipe')": ("BrokenPipeError", "[Errno 32] Broken pipe"),
            "BlockingIOError(11, 'again')": ("BlockingIOError", "[Errno 11] again"),
            "5": ("TypeError", "exceptions must derive from BaseException"),
        }.items():
            with self.subTest(expression):
                error = self.error(expression)
                self.assertEqual((error["errorType"], error["errorMessage"]), document)
                self.assertEqual(self.answer.error_type, document[0])

    def test_without_a_text(self):
        for name in "Silent", "Killing", "Exiting", "Wrong":
            error = self.error(f"{name}()")
            self.assertEqual((error["errorType"], error["errorMessage"]), (name, "<exception str() failed>"))

    def test_syntax_error_with_its_line(self):
        error = self.error(r"compile('pass\n\n1 +', 'name.py', 'exec')")
        self.assertEqual(error["errorType"], "SyntaxError")
        self.assertRegex(error["errorMessage"], r"\(name.py, line 3\)$")

    def test_lone_surrogates(self):
        error = self.error(r"ValueError('a\ud800')")
        self.assertEqual(error["errorMessage"], "a\ud800")
        self.assertIn(rb'"a\ud800"', self.answer.body)
        self.assertEqual(json.loads(self.answer.headers[XRAY])["exceptions"][0]["message"], "a\ud800")

    def error(self, event):
        if "\\ud800" in event:  # the log has it as text
            self.answer = self.aws.invoke(event)
            self.assertTrue(self.aws.log.endswith("\n"))
            self.assertIn(r"[ERROR] ValueError: a\ud800" + "\r", self.aws.log)
            return self.answer.json
        return super().error(event)


class Names(Failing):
    """Exceptions called what no header can carry."""

    SOURCE = """
        def handler(event, context):
            raise type(event, (Exception,), {})("text")
    """

    @keeps_connections
    def test_they_cannot_add_a_header(self):
        for name in (
            "A\r\nInjected: yes", "A\nInjected: yes", "A\rInjected: yes", "A\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n", "\n ",
            "A\x1b[0m", "A\x7f", "A\tB", "A\u2028B", "A\x85B", "Ünïcödé", "例外", "😀", " leading and trailing ", "", "A: B",
        ):
            with self.subTest(name):
                document = self.error(name)
                self.assertEqual(document["errorType"], name)
                value = self.answer.headers[ERROR_TYPE]
                self.assertEqual(value.strip(), (name if name.isascii() and name.isprintable() else ascii(name)[1:-1]).strip())
        self.assertEqual(self.aws.connected, 1)

    def test_lone_surrogate(self):
        # type() itself does not take one, __name__ neither.
        self.assertEqual(self.error("\ud800")["errorType"], "UnicodeEncodeError")

    def test_length(self):
        document = self.error("E" * 100_000)
        self.assertEqual(document["errorType"], "E" * 100_000)


class Cause(Failing):
    """What an exception was raised from, or while handling."""

    SOURCE = """
        def low():
            raise OSError("refused")

        def middle():
            try:
                low()
            except OSError as error:
                raise KeyError("k") from error

        def high():
            try:
                middle()
            except KeyError:
                raise ValueError("implicit")

        def suppressed():
            try:
                low()
            except OSError:
                raise ValueError("alone") from None

        def other():
            try:
                low()
            except OSError:
                raise ValueError("explicit") from KeyError("never raised")

        def circle():
            first, second = ValueError("first"), ValueError("second")
            first.__cause__, second.__cause__ = second, first
            raise first

        def itself():
            error = ValueError("itself")
            error.__cause__ = error
            raise error

        def long():
            error = ValueError(0)
            for n in range(1, 1000):
                error, error.__cause__ = ValueError(n), error
            raise error

        class Silent(Exception):
            def __str__(self):
                raise RuntimeError

        def silent():
            raise ValueError("loud") from Silent()

        def handler(event, context):
            return globals()[event]()
    """

    def summary(self, error):
        """[[type, message], ...] along the chain, whose links have no requestId of their own."""
        chain = []
        while error:
            chain.append([error["errorType"], error["errorMessage"]])
            error = error.get("cause")
            self.assertTrue(error is None or set(error) - {"cause"} == {"errorMessage", "errorType", "stackTrace"})
        return chain

    def test_chains(self):
        refused = ["OSError", "refused"]
        for name, chain in {
            "low": [refused],
            "middle": [["KeyError", "'k'"], refused],
            "high": [["ValueError", "implicit"], ["KeyError", "'k'"], refused],
            "suppressed": [["ValueError", "alone"]],
            "other": [["ValueError", "explicit"], ["KeyError", "'never raised'"]],
            "circle": [["ValueError", "first"], ["ValueError", "second"]],
            "itself": [["ValueError", "itself"]],
            "silent": [["ValueError", "loud"], ["Silent", "<exception str() failed>"]],
        }.items():
            with self.subTest(name):
                self.assertEqual(self.summary(self.error(name)), chain)

    def test_each_has_its_frames(self):
        trace = self.error("middle")["cause"]["stackTrace"]
        self.assertEqual([re.search("in (.*)", entry)[1] for entry in trace], ["middle", "low"])
        self.assertEqual(trace[1], self.frame("low", 'raise OSError("refused")'))
        self.assertIn("\rCaused by OSError: refused\rTraceback (most recent call last):\r\xa0\xa0File ", self.aws.log)

    def test_a_long_chain_is_cut(self):
        self.assertLess(len(self.summary(self.error("long"))), 20)


class Size(Failing):
    SOURCE = """
        def handler(event, context):
            character, times = event
            raise ValueError(character * times)
    """

    def test_xray_cause_is_under_1_mib(self):
        for character, times, there in (
            ("x", 1_000_000, True), ("x", 1 << 20, False), ("x", 3_000_000, False), ("é", 150_000, True), ("é", 200_000, False),
            ("\n", 600_000, False),
        ):
            with self.subTest(character, times=times):
                answer = self.aws.invoke([character, times])
                self.assertEqual(answer.json["errorMessage"], character * times)
                cause = answer.headers[XRAY]
                self.assertEqual(cause is not None, there)
                if cause:
                    self.assertLess(len(cause), 1 << 20)
                    self.assertEqual(json.loads(cause)["exceptions"][0]["message"], character * times)

    def test_3_mb_in_the_log(self):
        document = self.error(["ö", 1_500_000])
        self.assertEqual(len(document["errorMessage"]), 1_500_000)
        self.assertEqual(self.aws.invoke(["x", 1]).json["errorMessage"], "x")


class Faults(Failing):
    """Errors that the runtime finds are LambdaValidationErrors to X-Ray."""

    SOURCE = """
        def handler(event, context):
            return object()
    """

    def test_xray_cause(self):
        document = self.error(None)
        self.assertEqual(document["errorType"], "Runtime.MarshalError")
        self.assertEqual(json.loads(self.answer.headers[XRAY]), {
            "working_directory": self.root,
            "exceptions": [{"message": document["errorMessage"], "type": "LambdaValidationError", "stack": []}],
            "paths": [],
        })


class JsonLog(unittest.TestCase):
    def test_one_line(self):
        source = """
            def handler(event, context):
                try:
                    raise KeyError("é")
                except KeyError as error:
                    raise ValueError("two\\nlines") from error
        """
        with function(function=source) as root, Lambda(root, env={"AWS_LAMBDA_LOG_FORMAT": "json"}) as aws:
            document = aws.invoke().json
            self.assertEqual(document["cause"]["errorType"], "KeyError")
            self.assertEqual(aws.log.count("\n"), 1)
            line = json.loads(aws.log)
            self.assertRegex(line.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
            self.assertEqual(line, {"level": "ERROR", **document})
            self.assertIn("'é'", aws.log)


class Async(Failing):
    SOURCE = """
        import asyncio

        async def fail(error):
            await asyncio.sleep(0)
            raise error

        async def cancel():
            asyncio.current_task().cancel()
            await asyncio.sleep(0)

        async def handler(event, context):
            await eval(event)
    """

    def test_of_any_class(self):
        for expression, error_type in {
            "fail(ValueError('v'))": "ValueError",
            "fail(KeyboardInterrupt())": "KeyboardInterrupt",
            "fail(asyncio.CancelledError())": "CancelledError",
            "fail(GeneratorExit())": "GeneratorExit",
            "fail(StopIteration())": "RuntimeError",
            "fail(StopAsyncIteration())": "StopAsyncIteration",
            "fail(BaseException())": "BaseException",
            "cancel()": "CancelledError",
        }.items():
            with self.subTest(expression):
                self.assertEqual(self.error(expression)["errorType"], error_type)

    def test_frames(self):
        trace = self.error("fail(ValueError('v'))")["stackTrace"]
        self.assertEqual(trace, [self.frame("handler", "await eval(event)"), self.frame("fail", "raise error")])


class Exit(unittest.TestCase):
    """sys.exit(n): an error to the caller, then the process exits with n."""

    def exit(self, source, event, status):
        with function(function=source) as root, Lambda(root) as aws:
            answer = aws.invoke(event)
            self.assertEqual((answer.kind, answer.error_type, answer.json["errorType"]), ("error", "SystemExit", "SystemExit"))
            self.assertEqual(aws.wait(), status)
            self.assertEqual([request.kind for request in aws.requests], ["next", "error"])
            self.assertTrue(aws.log.startswith(logged(answer.json)), aws.log)
            self.log, self.stderr = aws.log[len(logged(answer.json)):], aws.stderr
            return answer.json

    def test_statuses(self):
        source = """
            import atexit, sys

            atexit.register(print, "at exit")

            def handler(event, context):
                sys.exit(event)
        """
        for event, status, message, stderr in (
            (0, 0, "0", ""), (3, 3, "3", ""), (None, 0, "", ""), (True, 1, "True", ""), ("a reason", 1, "a reason", "a reason\n"),
        ):
            with self.subTest(event):
                document = self.exit(source, event, status)
                self.assertEqual(document["errorMessage"], message)
                self.assertEqual((self.log, self.stderr), ("at exit\n", stderr))

    def test_async(self):
        source = """
            import sys

            async def handler(event, context):
                sys.exit(event)
        """
        self.exit(source, 4, 4)
        self.assertEqual((self.log, self.stderr), ("", ""))

    def test_an_error_that_cannot_be_posted(self):
        source = """
            def handler(event, context):
                raise SystemExit(5)
        """
        with function(function=source) as root, Lambda(root) as aws:
            aws.answers("error", 413)
            self.assertEqual(aws.invoke().status, 413)
            self.assertEqual(aws.wait(), 5)


class WorkingDirectory(unittest.TestCase):
    def test_that_was_deleted(self):
        # os.getcwd() fails, and the error is reported all the same.
        source = """
            import os

            def handler(event, context):
                os.mkdir("gone")
                os.chdir("gone")
                os.rmdir("../gone")
                raise ValueError
        """
        with function(function=source) as root, Lambda(root) as aws:
            answer = aws.invoke()
            self.assertEqual(answer.json["errorType"], "ValueError")
            self.assertEqual(json.loads(answer.headers[XRAY])["working_directory"], "")


if __name__ == "__main__":
    unittest.main()
