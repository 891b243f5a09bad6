"""JSON: how an event arrives in the function, and how its result goes out."""

import contextlib
import json
import math
import unittest

from miniature import Served


class Json(Served):
    def tearDown(self):
        self.assertIsNone(self.aws.status, "the loop goes on")

    def fails(self, answer, error_type, message):
        self.assertEqual((answer.kind, answer.error_type, answer.json["errorType"]), ("error", error_type, error_type))
        self.assertRegex(answer.json["errorMessage"], message)
        self.assertEqual(answer.json["stackTrace"], [])
        self.assertEqual(answer.json["requestId"], answer.request_id)


class Event(Json):
    SOURCE = """
        def handler(event, context):
            return repr(event)
    """

    def arrives(self, body, value, **headers):
        """`body` reaches the handler as `value`."""
        body = body if isinstance(body, bytes) else body.encode("utf-8")
        answer = self.aws.invoke(body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})
        self.assertEqual(answer.kind, "response", answer.body)
        self.assertEqual(answer.json, repr(value))

    def test_values(self):
        for body, value in {
            "null": None, "true": True, "0": 0, "-0": 0, "-0.0": -0.0, "1.5e300": 1.5e300, "0.1": 0.1, '""': "",
            "1E400": math.inf, "[]": [], "{}": {}, '[1, "a", {"k": [null, false]}]': [1, "a", {"k": [None, False]}],
            "123456789012345678901234567890": 123456789012345678901234567890, "1.0": 1.0,
            r'"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"': 'é😀"\\/\b\f\n\r\t', '"é😀\u2028"': "é😀\u2028",
            r'"\ud800"': "\ud800", '{"__proto__": 1, "": 2}': {"__proto__": 1, "": 2},
        }.items():
            with self.subTest(body):
                self.arrives(body, value)

    def test_whitespace_and_byte_order_mark(self):
        self.arrives(' \t\r\n{\n"k"\t:\r1 }\n\n', {"k": 1})
        self.arrives("\ufeff[1]", [1])

    def test_of_two_equal_keys_the_last_counts(self):
        self.arrives('{"k": 1, "k": 2}', {"k": 2})

    def test_content_type(self):
        for content_type in (
            "application/json", None, "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON",
        ):
            with self.subTest(content_type):
                self.arrives('{"k": "é"}', {"k": "é"}, Content_Type=content_type)
        for content_type in "text/plain", "application/octet-stream", "application/jsonp", "application/x-www-form-urlencoded":
            with self.subTest(content_type):
                self.arrives(b'{"k": 1}\xff', b'{"k": 1}\xff', Content_Type=content_type)

    def test_bytes_of_any_size(self):
        for size in 0, 1, 65536, 300_000:
            self.arrives(b"\0" * size, b"\0" * size, Content_Type="application/octet-stream")

    def test_what_is_not_json(self):
        for body in (
            b"", b" ", b"{", b"[1, 2", b"nul", b"text", b"'k'", b"{'k': 1}", b"[1,]", b'{"k": 1,}', b"01", b"+1", b".5", b"1.",
            b'"line\nbreak"', b'"\\x41"', b'"\\ud8"', b"\xff", b'"\xc3"', b"1 2", b"{} {}", b"[1]\0", b"NaN", b"Infinity",
            b"[-Infinity]", b"\x0c1", '{"k": 1}'.encode("utf-16"), "[\xa01]".encode(), b"{1: 2}", b"True",
            "{}\ufeff".encode(), "\ufeff\ufeff{}".encode(),
        ):
            with self.subTest(body):
                self.fails(self.aws.invoke(body=body), "Runtime.UnmarshalError", "^Unable to unmarshal input: .")

    def test_the_error_says_where(self):
        answer = self.aws.invoke(body=b'{\n"k": 1,\n "l" 2}')
        self.assertRegex(answer.json["errorMessage"], r"line 3 column 6 \(char 15\)$")
        self.assertIn("[ERROR] Runtime.UnmarshalError: Unable to unmarshal input: ", self.aws.log)

    def test_deep_nesting(self):
        value = []
        for _ in range(199):
            value = [value]
        self.arrives("[" * 200 + "]" * 200, value)
        answer = self.aws.invoke(body=b"[" * 200_000 + b"]" * 200_000)
        self.fails(answer, "Runtime.UnmarshalError", "recursion|Stack overflow")

    def test_large_numbers(self):
        digits = "7" * 4000
        self.arrives(digits, int(digits))
        with contextlib.suppress(ValueError):
            int("7" * 5000)
            return  # this Python has no limit of 4300 digits
        self.fails(self.aws.invoke(body=b"7" * 5000), "Runtime.UnmarshalError", "4300")


class Response(Json):
    SOURCE = """
        import collections, datetime, decimal, enum, typing
        from decimal import Decimal

        Point = collections.namedtuple("Point", "x y")

        class Row(typing.NamedTuple):
            point: Point
            price: Decimal = Decimal("1.10")

        class Empty(typing.NamedTuple):
            pass

        class False_(typing.NamedTuple):
            x: int

            def __bool__(self):
                return False

        class Color(str, enum.Enum):
            red = "RED"

        class Level(enum.IntEnum):
            high = 3

        class Float(float):
            def __repr__(self):
                return "Float()"

        class Text(str):
            def __str__(self):
                return "Text()"

        circular = {}
        circular["k"] = [circular]

        def nested(depth):
            value = 1
            for _ in range(depth):
                value = [value]
            return value

        def handler(event, context):
            return eval(event)
    """

    def returns(self, expression, text):
        answer = self.aws.invoke(expression)
        self.assertEqual((answer.kind, answer.body.decode("utf-8")), ("response", text), expression)
        self.assertEqual(answer.headers["Content-Type"], "application/json")

    def test_values(self):
        for expression, text in {
            "None": "null", "True": "true", "0": "0", "-0.0": "-0.0", "0.1": "0.1", "1e300": "1e+300", "''": '""', "()": "[]",
            "1e16": "1e+16", "10 ** 30": "1" + "0" * 30, "{}": "{}", "[1, 'a', {'k': [None, False]}]": '[1, "a", {"k": [null, false]}]',
            "(1, (2, [3]))": "[1, [2, [3]]]", "{'b': 1, 'a': 2}": '{"b": 1, "a": 2}', "Level.high": "3", "[Level.high]": "[3]",
            "[Color.red]": '["RED"]', "[Float(1.5)]": "[1.5]", "[Text('t')]": '["t"]', "Text('t')": '"t"',
            "collections.OrderedDict(b=1, a=2)": '{"b": 1, "a": 2}', "collections.Counter('aab')": '{"a": 2, "b": 1}',
            "collections.defaultdict(list, k=[1])": '{"k": [1]}',
        }.items():
            with self.subTest(expression):
                self.returns(expression, text)

    def test_text_is_utf8_and_unescaped(self):
        self.returns("'é😀ß'", '"é😀ß"')
        self.returns("{'ключ': 'é'}", '{"ключ": "é"}')
        self.returns(r"""'"\\/\b\f\n\r\t\0\x1f\x7f'""", r'''"\"\\/\b\f\n\r\t\u0000\u001f''' + '\x7f"')
        # Beside something that is not of a built-in type.
        self.returns(r"""['é"\n', Decimal(1), Point('é', 2)]""", r'["é\"\n", 1, {"x": "é", "y": 2}]')

    def test_long_strings(self):
        """Alone, between others, and what JSON escapes at their beginning, in the middle and at the end."""
        for long in "x" * 2001, "é" * 3000, "😀" * 100_000, "x" * 2000 + "\x7f\u2028":
            for text in long, long + '"', "\n" + long, long + "\\", long + "\0" + long, long + "\x1f":
                self.returns(repr(text), json.dumps(text, ensure_ascii=False))
                for value in (
                    {"k": text}, {"k": text, "l": 1}, {"a": [1, {"b": "c"}], "k": text, 3: text, None: "", "z": None},
                    {"a": text, "b": text}, [text, {"k": text}], {"k": {"k": text}}, {'"': text, "\n": "\n"},
                ):
                    self.returns(repr(value), json.dumps(value, ensure_ascii=False))

    def test_decimal(self):
        for digits in (
            "1.10", "0", "-0", "100", "12345678901234567890.12345678901234567890", "0." + "0" * 5 + "1", "1E+3", "-1E-7", "0E-10",
        ):
            with self.subTest(digits):
                self.returns(f"Decimal('{digits}')", digits)
                self.returns(f"{{'price': [Decimal('{digits}'), '{digits}']}}", f'{{"price": [{digits}, "{digits}"]}}')

    def test_not_a_number(self):
        for expression in "float('nan')", "Decimal('NaN')", "Decimal('-NaN')", "Decimal('sNaN')", "Decimal('NaN123')":
            with self.subTest(expression):
                self.returns(expression, "NaN")
                self.returns(f"[{expression}]", "[NaN]")
        for expression in "float('inf')", "Decimal('Infinity')":
            self.returns(f"[{expression}, -{expression}]", "[Infinity, -Infinity]")

    def test_named_tuples_are_objects(self):
        for expression, text in ("Empty()", "{}"), ("False_(1)", '{"x": 1}'):
            self.returns(expression, text)
            self.returns(f"[{expression}]", f"[{text}]")
        self.returns("Point(1, 2)", '{"x": 1, "y": 2}')
        self.returns("[Row(Point(1, (2, 3)))]", '[{"point": {"x": 1, "y": [2, 3]}, "price": 1.10}]')
        self.returns("{'k': Row(Point(None, Point('é', 0)), 1)}", '{"k": {"point": {"x": null, "y": {"x": "é", "y": 0}}, "price": 1}}')

    def test_keys(self):
        self.returns("{1: 1, 1.5: 2, None: 4, 'k': 5}", '{"1": 1, "1.5": 2, "null": 4, "k": 5}')
        self.returns("{True: 1, False: 0}", '{"true": 1, "false": 0}')
        self.returns("{b'bytes': Decimal(1)}", '{"bytes": 1}')
        self.returns("{1: Decimal(1), None: Point(1, 2)}", '{"1": 1, "null": {"x": 1, "y": 2}}')
        for key in "()", "Point(1, 2)", "object()", "frozenset()":
            self.refused(f"{{{key}: 1}}", "keys must be")

    def test_bytes_inside_are_text(self):
        self.returns("['é'.encode(), {'k': b''}]", '["é", {"k": ""}]')

    def test_bytes_go_out_as_they_are(self):
        for expression in "b''", "b'\\x00\\xff{'", "bytes(range(256)) * 1000":
            answer = self.aws.invoke(expression)
            self.assertEqual((answer.kind, answer.body), ("response", eval(expression)))
            self.assertEqual(answer.headers["Content-Type"], "application/unknown")

    def refused(self, expression, message):
        with self.subTest(expression):
            answer = self.aws.invoke(expression)
            self.fails(answer, "Runtime.MarshalError", f"^Unable to marshal response: .*{message}")

    def test_what_is_not_serialisable(self):
        for expression, name in {
            "object()": "object", "{'k': [object()]}": "object", "{1, 2}": "set", "datetime.date(2025, 1, 31)": "date",
            "1j": "complex", "bytearray(b'x')": "bytearray", "memoryview(b'x')": "memoryview", "range(3)": "range",
            "{}.keys()": "dict_keys", "len": "builtin_function_or_method", "[int]": "type", "Exception()": "Exception",
        }.items():
            self.refused(expression, f"{name} is not JSON serializable$")

    def test_lone_surrogates(self):
        for expression in r"'\ud800'", r"['a', '\udfff']", r"{'\udc80': 1}", r"[Decimal(1), '\udc80']", r"{'k': 'x' * 3000 + '\udfff'}":
            self.refused(expression, "surrogates not allowed")

    def test_bytes_inside_that_are_not_utf8(self):
        self.refused(r"[b'\xff']", "codec can't decode")
        self.refused(r"{b'\xff': Decimal(1)}", "codec can't decode")

    def test_circular(self):
        self.refused("circular", "Circular reference detected")
        self.refused("[circular, Decimal(1)]", "Circular reference detected")
        # The same thing twice is no circle.
        self.returns("(lambda one: [one, one, {'k': one}])([Point(1, 2)])", '[%s, %s, {"k": %s}]' % (('[{"x": 1, "y": 2}]',) * 3))

    def test_deep_nesting(self):
        self.returns("nested(200)", "[" * 200 + "1" + "]" * 200)
        self.refused("nested(100_000)", "recursion")
        self.refused("[nested(100_000), Decimal(1)]", "recursion")

    def test_large_numbers(self):
        self.returns("10 ** 4000 + 1", "1" + "0" * 3999 + "1")
        with contextlib.suppress(ValueError):
            str(10 ** 5000)
            return  # this Python has no limit of 4300 digits
        self.refused("10 ** 5000", "4300")

    def test_the_error_is_logged(self):
        answer = self.aws.invoke("object()")
        line = f"[ERROR] {answer.json['errorType']}: {answer.json['errorMessage']}\rTraceback (most recent call last):\n"
        self.assertTrue(self.aws.log.endswith(line), self.aws.log)


class Echo(Json):
    SOURCE = """
        def handler(event, context):
            return event
    """

    def test_sizes(self):
        for size in 1, 1000, 65_000, 65_536, 66_000, 131_072, 5_000_000:
            with self.subTest(size):
                event = {"text": "ä" * (size // 2), "n": size}
                body = json.dumps(event, ensure_ascii=False).encode()
                self.assertEqual(self.aws.invoke(body=body).body, body)

    def test_over_6_mb(self):
        # Lambda answers 413 and has told its caller: a line in the log, and the loop goes on.
        answer = self.aws.invoke("x" * 7_000_000)
        self.assertEqual((answer.kind, answer.status), ("response", 413))
        self.assertEqual(self.aws.invoke("x").json, "x")
        self.assertEqual(self.aws.stderr.count("\n"), 1)
        self.assertIn("413", self.aws.stderr)


if __name__ == "__main__":
    unittest.main()
