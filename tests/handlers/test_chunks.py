"""A chunk that cannot go out: the error comes before the first byte where it can, and says what yielded it and what to do."""

import unittest

from miniature import Lambda, function

SOURCE = """
    import itertools, json

    def proxy():
        yield {"statusCode": 200, "body": "hello", "isBase64Encoded": False}

    def status():
        yield {"status": 200}
        yield "body"

    def records():
        yield from iter([{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])

    def mapped():
        return map(lambda n: {"n": n}, [1, 2])

    def numbers():
        return map(int, "12")

    def nested():
        yield "first"
        yield from numbers()

    def inner():
        yield "first"
        yield 5

    def outer():
        yield from inner()

    def late():
        yield {"statusCode": 200}
        yield {"records": []}

    def surrogate():
        yield "\\udc80"

    def zipped():
        return zip([1], [2])

    def keys():
        yield {1: 2, None: 3}

    async def asynchronous():
        yield {"body": "x"}

    async def asynchronous_number():
        yield "first"
        yield 7

    def whole():
        yield {"statusCode": 200, "headers": {}, "multiValueHeaders": {}, "cookies": []}
        yield "body"

    def handler(event, context):
        return globals()[event]()
"""


def line(text):
    """The number of the line that has this text, in the source as it is written."""
    return [number for number, each in enumerate(SOURCE.splitlines(), 1) if text in each][0]


LINES = {name: line(f'yield {{"{name}"') for name in ("status", "body", "records")}


class Refused(unittest.TestCase):
    def message(self, event, first=None):
        """What the error says: an ordinary error, or that of a stream that has begun with `first`."""
        with function(function=SOURCE) as root, Lambda(root) as aws:
            post = aws.invoke(event)
            if first is None:
                self.assertEqual(post.kind, "error")
                document = post.json
                self.assertEqual(document["errorType"], "Runtime.MarshalError")
            else:
                self.assertEqual(post.kind, "response")
                self.assertEqual(post.body, first)
                self.assertEqual(post.error_type, "Runtime.MarshalError")
                document = {"errorMessage": aws.log.partition("\r")[0].partition("Runtime.MarshalError: ")[2]}
            self.assertIn(document["errorMessage"], aws.log)
            self.assertEqual(aws.invoke("whole").body, b'{"statusCode": 200, "headers": {}, "multiValueHeaders": {}, "cookies": []}' + bytes(8) + b"body")
            return document["errorMessage"].replace(root, "ROOT")

    def test_a_first_dict_that_is_no_metadata(self):
        for event, place, words in (
            ("proxy", f"proxy (ROOT/function.py, line {line('isBase64')})", "yield it without body, and then the body"),
            ("status", f"status (ROOT/function.py, line {LINES['status']})", "and not 'status'"),
            ("records", f"list_iterator (ROOT/function.py, line {line('yield from iter(')})", "and not 'id', 'name'"),
            ("mapped", "map", "for JSON return list(...)"),
            ("keys", f"keys (ROOT/function.py, line {line('{1: 2')})", "and not 1, None"),
            ("asynchronous", f"asynchronous (ROOT/function.py, line {LINES['body']})", "yield it without body"),
        ):
            with self.subTest(event):
                message = self.message(event)
                self.assertTrue(message.startswith(f"Unable to marshal response: {place} yielded dict: "), message)
                self.assertIn(words, message)

    def test_a_chunk_of_another_type(self):
        self.assertEqual(
            self.message("numbers"),
            "Unable to marshal response: map yielded int: a chunk of a stream is str or bytes-like, not int; for JSON return list(...)",
        )
        self.assertIn("zip yielded tuple", self.message("zipped"))
        self.assertIn(f"map (ROOT/function.py, line {line('yield from numbers')}) yielded int", self.message("nested", b"first"))
        self.assertIn(f"inner (ROOT/function.py, line {line('yield 5')}) yielded int", self.message("outer", b"first"))
        self.assertIn(f"asynchronous_number (ROOT/function.py, line {line('yield 7')}) yielded int", self.message("asynchronous_number", b"first"))
        self.assertIn(f"surrogate (ROOT/function.py, line {line('udc80')}) yielded str: ", self.message("surrogate"))

    def test_a_dict_later(self):
        message = self.message("late", b'{"statusCode": 200}' + bytes(8))
        self.assertIn(f"late (ROOT/function.py, line {LINES['records']})", message)
        self.assertIn("(the metadata comes first)", message)


if __name__ == "__main__":
    unittest.main()
