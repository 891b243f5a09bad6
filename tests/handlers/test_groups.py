"""Exception groups tell the exceptions in them, and notes are told: in the document, in both forms of the log, bounded."""

import json
import unittest

from miniature import FUNCTION_VERSION, Lambda, function

# On Pythons before 3.11 the class of the package exceptiongroup, and what add_note() does.
SOURCE = """
    import asyncio

    try:
        ExceptionGroup
    except NameError:
        class BaseExceptionGroup(BaseException):
            def __init__(self, message, exceptions):
                super().__init__(message, exceptions)
                self.exceptions = tuple(exceptions)

            def __str__(self):
                return self.args[0]

        class ExceptionGroup(BaseExceptionGroup, Exception):
            pass

    def noted(exception, *notes):
        exception.__notes__ = list(notes)
        return exception

    def raised(exception):
        try:
            raise exception
        except BaseException as error:
            return error

    def group():
        try:
            {}["key"]
        except KeyError as error:
            cause = error
        one = raised(ValueError("one"))
        one.__cause__ = cause
        two = ExceptionGroup("inner", [raised(noted(TypeError("two"), "a note", "in two\\nlines"))])
        raise noted(ExceptionGroup("outer", [one, two]), "of the group")

    def wide():
        raise ExceptionGroup("wide", [ValueError(n) for n in range(1000)])

    def deep():
        error = ValueError("at the bottom")
        for _ in range(100):
            error = ExceptionGroup("deep", [error])
        raise error

    def broad():
        error = [ValueError("bottom")]
        for _ in range(5):
            error = [ExceptionGroup("broad", error)] * 3 + [ValueError("x") for n in range(20)]
        raise ExceptionGroup("broad", error)

    def circle():
        error = ExceptionGroup("circle", [ValueError("x")])
        error.__cause__ = ExceptionGroup("cause", [error])
        raise error

    def notes():
        raise noted(ValueError("v"), *[str(n) for n in range(1000)])

    def strange_notes():
        raise noted(ValueError("v"), 5, None, "text", Mute())

    class Mute:
        def __str__(self):
            raise SystemError

    def no_notes():
        error = ValueError("v")
        error.__notes__ = 5
        raise error

    class Strange(Exception):
        exceptions = [ValueError("no group")]

    def strange():
        raise Strange()

    class Hostile(ValueError):
        def __getattr__(self, name):
            raise SystemError(name)

    def hostile():
        raise Hostile("h")

    def task_group():
        async def fail(message):
            raise ValueError(message)

        async def both():
            async with asyncio.TaskGroup() as group:
                group.create_task(fail("one"))
                group.create_task(fail("two"))
        return both()

    def handler(event, context):
        return globals()[event]()
"""


def tree(document):
    """Type and message of an error, and of those in it and behind it."""
    told = [f"{document['errorType']}: {document['errorMessage'].partition(' (')[0]}"]
    for key in "notes", "exceptions", "cause":
        if key in document:
            value = document[key]
            told.append(value if key == "notes" else tree(value) if key == "cause" else [tree(each) for each in value])
    return told


def count(document):
    return 1 + sum(map(count, [*document.get("exceptions", []), *[document[key] for key in ("cause",) if key in document]]))


def depth(document):
    return 1 + max(map(depth, document.get("exceptions", [])), default=0)


class Groups(unittest.TestCase):
    def error(self, event, **env):
        with function(function=SOURCE) as root, Lambda(root, env=env) as aws:
            document = aws.invoke(event).json
            aws.wait_for(lambda: "\n" in aws.log)
            self.log = aws.log
            return document

    def test_the_document_tells_them(self):
        document = self.error("group")
        self.assertEqual(tree(document), [
            "ExceptionGroup: outer",
            ["of the group"],
            [
                ["ValueError: one", ["KeyError: 'key'"]],
                ["ExceptionGroup: inner", [["TypeError: two", ["a note", "in two\nlines"]]]],
            ],
        ])
        one, inner = document["exceptions"]
        self.assertIn("in raised", one["stackTrace"][0])
        self.assertIn("in raised", inner["exceptions"][0]["stackTrace"][0])
        self.assertNotIn("requestId", one)

    def test_the_text_log_tells_them(self):
        self.error("group")
        told = [line for line in self.log.splitlines() if not line.startswith(("\xa0", "Traceback"))]
        self.assertEqual([line.partition(" (")[0] for line in told], [
            "[ERROR] ExceptionGroup: outer",
            "of the group",
            "In ExceptionGroup, 1: ValueError: one",
            "Caused by KeyError: 'key'",
            "In ExceptionGroup, 2: ExceptionGroup: inner",
            "In ExceptionGroup, 1: TypeError: two",
            "a note",
            "in two",
            "lines",
        ])
        self.assertEqual(self.log.count("\n"), 1)  # one event of the log

    def test_the_json_log_tells_them(self):
        document = self.error("group", AWS_LAMBDA_LOG_FORMAT="JSON")
        line = json.loads(self.log)
        self.assertEqual(line["exceptions"], document["exceptions"])
        self.assertEqual(line["notes"], ["of the group"])

    def test_they_are_bounded(self):
        for event in "wide", "deep", "broad", "circle":
            with self.subTest(event):
                document = self.error(event)
                self.assertLess(count(document), 50)
                self.assertLess(depth(document), 10)
        self.assertGreater(len(self.error("wide")["exceptions"]), 5)
        self.assertEqual(tree(self.error("circle")), ["ExceptionGroup: circle", [["ValueError: x"]], ["ExceptionGroup: cause"]])

    def test_notes(self):
        self.assertEqual(self.error("notes")["notes"], [str(n) for n in range(10)])
        self.assertEqual(self.error("strange_notes")["notes"], ["5", "None", "text", "<exception str() failed>"])
        self.assertNotIn("notes", self.error("no_notes"))

    def test_what_is_no_group(self):
        self.assertNotIn("exceptions", self.error("strange"))
        self.assertEqual(tree(self.error("hostile")), ["Hostile: h"])

    @unittest.skipIf(FUNCTION_VERSION < (3, 11), "this Python has no asyncio.TaskGroup: 3.11 has")
    def test_where_async_handlers_fail(self):
        document = self.error("task_group")
        self.assertEqual(tree(document), ["ExceptionGroup: unhandled errors in a TaskGroup", [["ValueError: one"], ["ValueError: two"]]])


if __name__ == "__main__":
    unittest.main()
