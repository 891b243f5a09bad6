"""The functions that test_beside_awslambdaric.py plays through awslambdaric and through this runtime.

A row is a name, the source of a module with a `handler`, and where need be its events, more files, the environment
and whether it has a process of its own (it changes what others would see, or it ends the process). Where this runtime
differs on purpose, `why` says so in words and `ours` turns awslambdaric's outcomes into what this runtime must give.
"""

import builtins
import dataclasses
import json
import re
import sys
import typing


@dataclasses.dataclass
class Invocation:
    event: typing.Any = None
    body: typing.Optional[bytes] = None  # in place of the event as JSON
    fields: dict = dataclasses.field(default_factory=dict)  # header fields over the usual ones; None takes one away

    def headers(self, request_id):
        return {
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": "4102444800000",
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
            **self.fields,
        }


@dataclasses.dataclass
class Function:
    name: str
    source: str = ""
    invocations: list = dataclasses.field(default_factory=lambda: [Invocation()])
    files: dict = dataclasses.field(default_factory=dict)
    handler: str = "function.handler"
    environment: dict = dataclasses.field(default_factory=dict)
    alone: bool = False
    why: str = ""
    ours: typing.Optional[typing.Callable] = None
    only: tuple = ()  # the difference is in these test classes alone
    ignore: str = ""  # a pattern of what may be different: text of Python's or of the encoder's own


def returns(name, expression, setup="", **more):
    source = "\n".join([*setup.split("; "), "def handler(event, context):", f"    return {expression}"])
    return Function(name, source, **more)


def events(*values):
    return [value if isinstance(value, Invocation) else Invocation(value) for value in values]


def bodies(*values, content_type="application/json"):
    return [Invocation(body=value, fields={"Content-Type": content_type}) for value in values]


# ---- What differs on purpose: what awslambdaric's outcome becomes --------------------


def answered(outcome, **post):
    """The process is alive and has answered the event of `outcome` with this post."""
    post = {"kind": "response", "id": outcome["id"], "type": "application/json", "mode": None, **post}
    outcome.update(posts=[post], log="", frames=[], stderr="", exit=None)


def response(body, **post):
    return lambda outcomes: answered(outcomes[-1], body=body, **post)


def streamed(body, content_type="application/octet-stream"):
    return response(body, type=content_type, mode="streaming")


def error(error_type, message, *stack, header=None, fault=False, exits=None):
    """The error is reported as others are. stack: line, function and source line of each call."""

    def ours(outcomes):
        outcome = outcomes[-1]
        document = {
            "errorMessage": message,
            "errorType": error_type,
            "requestId": outcome["id"],
            "stackTrace": trace(outcome, stack),
        }
        file = "ROOT/" + outcome["file"]
        cause = {
            "working_directory": "ROOT",
            "exceptions": [
                {
                    "message": message,
                    "type": "LambdaValidationError" if fault else error_type,
                    "stack": [{"label": name, "path": file, "line": line} for line, name, _ in stack],
                }
            ],
            "paths": [file] if stack else [],
        }
        more = {"document": document, "charset": "utf-8", "error type": header or error_type, "cause": cause}
        answered(outcome, kind="error", **more)
        log_error(outcome, document)
        outcome["exit"] = exits

    return ours


def caused_by(*causes):
    """The error document and the log also have the exceptions it was raised from: type, message, stack."""

    def ours(outcomes):
        outcome = outcomes[-1]
        inner = outcome["posts"][-1]["document"]
        for error_type, message, stack in causes:
            inner["cause"] = {
                "errorMessage": message,
                "errorType": error_type,
                "stackTrace": trace(outcome, stack),
            }
            inner = inner["cause"]
        log_error(outcome, outcome["posts"][-1]["document"])

    return ours


def with_more(**fields):
    """The error document and the log also have what a note or a group says."""

    def ours(outcomes):
        outcomes[-1]["posts"][-1]["document"].update(fields)
        log_error(outcomes[-1], outcomes[-1]["posts"][-1]["document"])

    return ours


def refused(error_type, intro, texts):
    """The same error with what Python's own json says of each text; the rest of the outcomes is the same."""

    def ours(outcomes):
        for outcome, text in zip(outcomes[1:], texts):
            text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
            try:
                json.loads(text)
            except ValueError as exception:
                error(error_type, f"{intro}{exception}", fault=True)([outcome])

    return ours


def reworded(*pairs):
    """The same error in other words."""

    def ours(outcomes):
        for outcome in outcomes:
            text = json.dumps(outcome)
            for old, new in pairs:
                text = text.replace(old, new)
            outcome.update(json.loads(text))

    return ours


def without_awslambdaric(outcomes, pattern="/awslambdaric/"):
    """The same error without awslambdaric's frames."""
    for outcome in outcomes:
        for post in outcome["posts"]:
            document, cause = post["document"], post["cause"]
            document["stackTrace"] = [entry for entry in document["stackTrace"] if not re.search(pattern, entry)]
            (exception,) = cause["exceptions"]
            exception["stack"] = [entry for entry in exception["stack"] if not re.search(pattern, entry["path"])]
            cause["paths"] = [path for path in cause["paths"] if not re.search(pattern, path)]
            log_error(outcome, document)


def without_its_encoder(outcomes):
    """The same error without the frames of awslambdaric and of json, of which this runtime calls the C part only."""
    without_awslambdaric(outcomes, "/awslambdaric/|/json/encoder.py")


def without_its_encoder_but_with(*notes):
    """The same, and what json notes of the place from Python 3.14 on, which awslambdaric drops."""

    def ours(outcomes):
        without_its_encoder(outcomes)
        if sys.version_info >= (3, 14):
            with_more(notes=list(notes))(outcomes)

    return ours


def trace(outcome, stack):
    file = "ROOT/" + outcome["file"]
    return [f'  File "{file}", line {line}, in {name}\n    {source}\n' for line, name, source in stack]


def log_error(outcome, document):
    """What the log gets of an error, and nothing else."""
    if outcome["format"] == "JSON":
        text = json.dumps({"timestamp": "TIMEZ", "level": "ERROR", **document}, ensure_ascii=False)
    else:
        lines, intro, inner = [], "[ERROR]", document
        while inner:
            message = ": " + inner["errorMessage"] if inner["errorMessage"] else ""
            lines += [f"{intro} {inner['errorType']}{message}", *inner.get("notes", []), "Traceback (most recent call last):"]
            for line in "".join(inner["stackTrace"]).splitlines():
                indent = len(line) - len(line.lstrip(" "))
                lines.append("\u00a0" * indent + line[indent:])
            members = inner.get("exceptions", [])
            for number, each in enumerate(members, 1):  # that were never raised, and have no stack
                lines += [f"In {inner['errorType']}, {number}: {each['errorType']}: {each['errorMessage']}"]
                lines += ["Traceback (most recent call last):"]
            intro, inner = "Caused by", inner.get("cause")
        text = ("\n" if outcome["framed"] else "\r").join(lines)
    text = text.encode("utf-8", "backslashreplace").decode()
    framed = ("a55a0016 " if outcome["format"] == "JSON" else "a55a0017 ") + text
    outcome["log"], outcome["frames"] = ("", [framed]) if outcome["framed"] else (text + "\n", [])


def init_error(error_type, message, *stack, header=None, trace=None):
    """An error at import is reported, the process exits with 1."""

    def ours(outcomes):
        (outcome,) = outcomes
        error(error_type, message, *stack, header=header, exits=1)(outcomes)
        (post,) = outcome["posts"]
        post.update(kind="init/error", cause=None)
        post["document"]["requestId"] = ""
        if trace:
            post["document"]["stackTrace"] = trace
        log_error(outcome, post["document"])

    return ours


LINE_END = "without it the next line would be glued to the traceback"


def line_ends(outcomes):
    """The text of a log record with a traceback ends with a line break, on stdout and in text format."""
    log = re.sub(r"(?<=[^\n])\[WARNING\]", "\n[WARNING]", outcomes[-1]["log"])
    outcomes[-1]["log"] = log if log.endswith("\n") else log + "\n"


def without_exception(outcomes):
    """logging.error(..., exc_info=True) where no exception is handled."""
    outcome = outcomes[-1]
    if outcome["format"] == "text":
        return line_ends(outcomes)
    text = (
        '{"timestamp": "TIMEZ", "level": "ERROR", "message": "failed", "logger": "root", "stackTrace": [], '
        f'"errorMessage": "None", "requestId": "{outcome["id"]}", '
        f'"location": "ROOT/{outcome["file"]}:handler:3"}}\n'
    )
    answered(outcome, body="null")
    outcome["log"], outcome["frames"] = ("", ["a55a0016 " + text]) if outcome["framed"] else (text, [])


# ---- What they return ----------------------------------------------------------------

# 3.14 and later count the stack's bytes, which differ from run to run.
DEPTH = r'(maximum recursion depth exceeded|Stack overflow)[^"\r\n]*'

JSON = [
    returns("none", "None"),
    returns("booleans", "[True, False]"),
    returns("text", "'na\\u00efve \\u4e16 \\U0001f600'"),
    returns("escapes", r"""'"\\/\b\f\n\r\t\x00\x1f\x7f\x80</script>'"""),
    returns("line_separators", r"'\u2028 \u2029 \ufeff'"),
    returns("empty", "['', {}, [], (), b'']"),
    returns("empty_text", "''"),
    returns("empty_object", "{}"),
    returns("integers", "[0, -1, 10 ** 18, -2 ** 63, 10 ** 40]"),
    returns("too_many_digits", "10 ** 5000"),
    returns("floats", "[0.1, -0.0, 1.0, 1e16, 1e22, 1e-7, 5e-324, 1.7976931348623157e308, 0.1 + 0.2]"),
    returns("not_numbers", "[float('nan'), float('inf'), -float('inf')]"),
    returns("nan", "float('nan')"),
    returns("number_types", "[I(7), F(1.5), I(10 ** 30)]", "class I(int): __str__ = __repr__ = lambda s: 'I'; class F(float): __str__ = __repr__ = lambda s: 'F'"),
    returns("text_type", "[S('x'), {S('k'): S('v')}]", "class S(str): __str__ = lambda s: 'other'"),
    returns("sequences", "[(1, (2, [3])), L([1, 2]), T((3,))]", "class L(list): pass; class T(tuple): pass"),
    returns("overridden_iteration", "[L([1]), D(a=1)]", """class L(list):
    def __iter__(self): return iter(['x'])
class D(dict):
    def items(self): return [('x', 'y')]"""),
    returns("mappings", "[OrderedDict(b=1, a=2), dd, Counter('aab'), D(x=1)]", """from collections import *
dd = defaultdict(list, a=[1])
class D(dict): pass"""),
    returns("no_mappings", "UserDict(a=1)", "from collections import UserDict"),
    returns("chain_map", "ChainMap({'a': 1})", "from collections import ChainMap"),
    returns("mapping_proxy", "[MappingProxyType({'a': 1})]", "from types import MappingProxyType"),
    returns("key_types", "{1: 'a', 1.5: 'b', True: 'c', None: 'd', 10 ** 20: 'e', float('nan'): 'f', float('inf'): 'g', '': 'h', -0.0: 'i'}"),
    returns("key_subclasses", "{I(1): 'a', F(1.5): 'b', S('x'): 'c'}", """class I(int): __str__ = __repr__ = lambda s: 'I'
class F(float): __str__ = __repr__ = lambda s: 'F'
class S(str): __str__ = lambda s: 'S'"""),
    returns("key_bytes", "{b'caf\\xc3\\xa9': 1}"),
    returns("key_tuple", "{(1, 2): 3}"),
    returns(
        "key_decimal",
        "{Decimal('1.10'): 1}",
        "from decimal import Decimal",
        why="these are the words of Python's own encoder",
        ours=reworded(("not Decimal", "not decimal.Decimal")),
    ),
    returns("key_none_of_these", "{'a': [{frozenset(): 1}]}"),
    returns("keys_that_meet", "{1: 'a', '1': 'b'}"),
    returns("enumerations", "[I.A, S.A, {S.A: 1}, F.A | F.B]", """import enum
class I(enum.IntEnum): A = 1
class S(str, enum.Enum): A = 'a'
class F(enum.IntFlag): A, B = 1, 2"""),
    returns("enumeration_keys", "{I.A: 1, I.B: 2}", "import enum; class I(enum.IntEnum): A, B = 1, 2"),
    returns("plain_enumeration", "E.A", "import enum; class E(enum.Enum): A = 1"),
    returns("decimals", "[D('1.10'), D('0'), D('-0.00'), D('12345678901234567890.123456789'), D('0.1') + D('0.2')]", "from decimal import Decimal as D"),
    returns("decimal_exponents", "[D('1E+3'), D('1e-10'), D('1E+400'), D('-7E-7')]", "from decimal import Decimal as D"),
    returns("decimals_that_are_none", "[D('NaN'), D('-NaN'), D('sNaN'), D('NaN123'), D('Infinity'), D('-Infinity')]", "from decimal import Decimal as D"),
    returns("decimals_deep", "{'Items': [{'price': D('1.10'), 'tags': (D('2'), {'x': D('3.0')})}]}", "from decimal import Decimal as D"),
    returns("decimal_alone", "D('1.10')", "from decimal import Decimal as D"),
    returns("decimal_type", "[Price('1.10')]", "from decimal import Decimal; class Price(Decimal): __str__ = lambda s: '0'"),
    returns("named_tuples", "[P(1, P(2, None)), Q('x'), {'p': P(1, 2)}]", """import collections, typing
P = collections.namedtuple('P', 'x y')
class Q(typing.NamedTuple):
    name: str
    size: int = 3"""),
    returns("named_tuple", "P(1, 2)", "import collections; P = collections.namedtuple('P', 'x y')"),
    returns("as_dict", "[O()]", "class O:\n    def _asdict(self): return {'a': (1, 2)}"),
    returns("as_dict_that_fails", "[O()]", "class O:\n    def _asdict(self): raise KeyError('x')"),
    returns(
        "as_dict_of_nothing",
        "[O()]",
        "class O:\n    def _asdict(self): return 5",
        why="what it returned is judged as any other value: an integer would be taken",
        ours=reworded(("_asdict() must return a dict, not int", "Object of type int is not JSON serializable")),
    ),
    returns("for_json", "[O()]", "class O:\n    def for_json(self): return {'a': 1}"),
    returns("bytes_inside", "{'a': b'caf\\xc3\\xa9', 'b': [b'']}"),
    returns("bytes_inside_not_utf8", "{'a': b'\\xff'}"),
    returns("bytes_alone", "b'\\x00\\xff\\x80'"),
    returns("bytes_none", "b''"),
    returns("bytes_type", "B(b'abc')", "class B(bytes): pass"),
    returns("bytearray", "bytearray(b'abc')"),
    returns("bytearray_inside", "[bytearray(b'abc')]"),
    returns("memoryview", "memoryview(b'abc')"),
    returns("dataclass", "P(1)", "import dataclasses\n@dataclasses.dataclass\nclass P: x: int"),
    returns("datetime", "{'when': datetime.datetime(2025, 1, 1)}", "import datetime"),
    returns("date", "datetime.date(2025, 1, 1)", "import datetime"),
    returns("uuid", "[uuid.UUID(int=1)]", "import uuid"),
    returns("path", "pathlib.Path('/x')", "import pathlib"),
    returns("fraction", "fractions.Fraction(1, 3)", "import fractions"),
    returns("set", "{1, 2}"),
    returns("frozenset", "[frozenset()]"),
    returns("complex", "1j"),
    returns("range", "range(3)"),
    returns("function", "handler"),
    returns("class", "{'a': int}"),
    returns("module", "sys", "import sys"),
    returns("exception", "ValueError('x')"),
    returns("dict_view", "{}.keys()"),
    returns("deque", "collections.deque([1])", "import collections"),
    returns("array", "array.array('i', [1])", "import array"),
    returns("iterable", "O()", "class O:\n    def __iter__(self): return iter([1])"),
    returns("simple_namespace", "types.SimpleNamespace(a=1)", "import types"),
    returns("iterator_inside", "[map(str, [1])]"),
    returns("non_ascii_class", "\u00c4rger()", "class \u00c4rger: pass"),
    returns("circular_list", "a", "a = []; a.append(a)"),
    returns("circular_dict", "a", "a = {}; a['x'] = [a]"),
    returns("same_twice", "[a, a, {'x': a}]", "a = {'k': [1]}"),
    returns("deep", "a", "a = []\nfor _ in range(300): a = [a]"),
    returns("very_deep", "a", "a = []\nfor _ in range(100000): a = [a]", ignore=DEPTH),
    returns("very_deep_objects", "a", "a = {}\nfor _ in range(100000): a = {'a': a}", ignore=DEPTH),
    returns("large", "['x' * 1000] * 2000"),
    returns("many_decimals", "[D(n) / 8 for n in range(5000)]", "from decimal import Decimal as D"),
    returns("failing_items", "D(a=1)", "class D(dict):\n    def items(self): raise RuntimeError('no items')"),
    returns("api_gateway", "{'statusCode': 200, 'headers': {'Content-Type': 'text/plain'}, 'body': 'h\u00e9', 'isBase64Encoded': False}"),
    returns(
        "lone_surrogate",
        r"'\ud800'",
        alone=True,
        why="it has no UTF-8: awslambdaric dies of it",
        ours=error(
            "Runtime.MarshalError",
            "Unable to marshal response: 'utf-8' codec can't encode character '\\ud800' in position 1: "
            "surrogates not allowed",
            fault=True,
        ),
    ),
]

# ---- What they are given -------------------------------------------------------------

NOT_JSON = [
    b"{", b"", b" ", b"}", b"[1,]", b'{"a": 1,}', b"{'a': 1}", b"{a: 1}", b'{"a" 1}', b'{"a":}', b"{1: 2}", b"[1 2]", b'"',
    b'"abc', b'"\\x"', b'"\\u12"', b'"\\ud800', b"nul", b"True", b"01", b"1.", b".5", b"+1", b"1e", b"-", b"// x\n1", b"1 2",
    b'{"a": 1} x', b"text", b"<a/>", b"'a'", b"[", b"[1", b"[1,", b"[[", b'["a"', b'["a",', b'{"a"', b'{"a":', b'{"a": "b"',
    b'{"a": "b",', b'"line\nbreak"', b'"tab\there"', b'"\x00"', b"\x00", b"\x00{}", b"{}\x00", b'\n\n  {"a": x}', b"  1 2",
    b"1  2", b"\x0b1", b"1\x0c", "1\u00a0".encode(), "\u00851".encode(), "1\ufeff".encode(), " \ufeff1".encode(), b"[{}",
    b'{"a": 1, "b": [1, 2, {"c": "d"}', b'{"a": 1}}', b"[1]]", b"nan", b"Inf", b"trueX", b"[true false]",
]

BOMS = [b"\xef\xbb\xbf", b"\xef\xbb\xbf{", b"\xef\xbb\xbf\xef\xbb\xbf1", b" \xef\xbb\xbf1", b"1\xef\xbb\xbf"]

EVENTS = [
    returns(
        "event",
        "repr(event)",
        invocations=bodies(
            b"null", b"true", b"12", b"1.10", b'"text"', b"[]", b"{}", b'  {"a": 1}\r\n\t', b'{"a": 1, "a": 2}',
            b"-0", b"-0.0", b"1e400", b"-1E-400", b"123456789012345678901234567890", b"0.1234567890123456789",
            b'"\\ud83d\\ude00 \\u00e9"', '"é 世 😀 \u2028"'.encode(), b'"\\/\\b\\f\\n\\r\\t\\"\\\\"', b'{"": {"": ""}}',
            b'{"__proto__": 1, "$ref": "#"}',
        ),
    ),
    returns(
        "event_that_is_not_json",
        "repr(event)",
        "import json",
        invocations=bodies(*NOT_JSON),
        why="these are the words of Python's own json",
        ours=refused("Runtime.UnmarshalError", "Unable to unmarshal input: ", NOT_JSON),
    ),
    returns(
        "event_that_is_not_json_without_json",
        "repr(event)",
        alone=True,
        invocations=bodies(*NOT_JSON, b'{"a": 1}'),
        why="the same when the function does not import json",
        ours=refused("Runtime.UnmarshalError", "Unable to unmarshal input: ", NOT_JSON),
    ),
    returns("event_not_a_number", "repr(event)", invocations=bodies(b"NaN", b"[Infinity]", b'{"a": -Infinity}'),
            why="the words say which constant it is",
            ours=lambda outcomes: [
                error("Runtime.UnmarshalError", f"Unable to unmarshal input: {constant} is not JSON", fault=True)(outcomes[:n])
                for n, constant in ((2, "NaN"), (3, "Infinity"), (4, "-Infinity"))
            ]),
    returns("event_with_bom", "repr(event)", invocations=bodies(b"\xef\xbb\xbf{}", b"\xef\xbb\xbf 1 ", b'\xef\xbb\xbf"\xef\xbb\xbf"')),
    returns(
        "event_with_boms",
        "repr(event)",
        invocations=bodies(*BOMS),
        why="these are the words of Python's own json",
        ours=refused("Runtime.UnmarshalError", "Unable to unmarshal input: ", BOMS),
    ),
    returns(
        "event_not_utf8",
        "repr(event)",
        invocations=bodies(b'"\xff"', b"\xff\xfe{\x00}\x00", '"é"'.encode("latin-1"), b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"'),
    ),
    returns("event_lone_surrogate", "repr(event)", invocations=bodies(b'"\\ud800"', b'"\\udc00\\ud800"', b'{"\\udfff": 1}')),
    returns("event_deep", "len(str(event))", invocations=bodies(b"[" * 100 + b"]" * 100)),
    returns("event_very_deep", "len(event)", invocations=bodies(b"[" * 200000 + b"]" * 200000), ignore=DEPTH),
    returns("event_digits", "event % 1000", invocations=bodies(b"7" * 4300, b"7" * 4301)),
    returns("event_large", "[len(event), event[-1]]", invocations=bodies(json.dumps(list(range(300000))).encode())),
    returns(
        "content_type",
        "[type(event).__name__, repr(event)]",
        invocations=[
            *bodies(b"abc\xff", b"", content_type="text/plain"),
            *bodies(b"{}", content_type="application/octet-stream"),
            *bodies(b"{}", content_type="application/jsonlines"),
            *bodies(b"{}", content_type="application/vnd.api+json"),
            *bodies(b"{}", content_type="text/json"),
        ],
    ),
    returns(
        "content_type_json",
        "event",
        invocations=[
            *bodies(b'{"a": 1}', content_type="application/json; charset=utf-8"),
            *bodies(b'{"a": 1}', content_type="application/json;charset=UTF-8"),
            *bodies(b'{"a": 1}', content_type="Application/JSON"),
        ],
        why="RFC 9110 lets a media type have parameters and any case; awslambdaric gives the handler the bytes, and "
        "posts them as application/unknown",
        ours=lambda outcomes: [answered(outcome, body='{"a": 1}') for outcome in outcomes[1:]],
    ),
    returns(
        "content_type_absent",
        "event",
        invocations=bodies(b'{"a": 1}', content_type=None),
        alone=True,
        why="an event is JSON; awslambdaric ends with a segmentation fault",
        ours=response('{"a": 1}'),
    ),
    Function(
        "echo",
        "def handler(event, context):\n    return event",
        events({"a": [1, 2.5, None, True, "é 😀"]}, "x" * 1000000, [], [[[]]], {"k" * 1000: 0}),
    ),
    Function(
        "event_kept",
        """
        seen = []
        def handler(event, context):
            seen.append(event)
            return seen
        """,
        events({"n": 1}, {"n": 2}, {"n": 3}),
    ),
]

# ---- What they raise -----------------------------------------------------------------


def raises(name, *lines, setup="", **more):
    source = "\n".join([*setup.splitlines(), "def handler(event, context):", *["    " + line for line in lines]])
    return Function(name, source, **more)


# As deep in either runtime, whatever its own depth.
LIMITED = "sys.setrecursionlimit(len(inspect.stack()) + 100)", "try:", "    return f()", "finally:", "    sys.setrecursionlimit(1000)"

ERRORS = [
    raises("error", "raise ValueError('wrong')"),
    raises("error_without_message", "raise ValueError"),
    raises("error_with_empty_message", "raise ValueError('')"),
    raises("error_with_arguments", "raise ValueError('a', 1, ('b',))"),
    raises("error_non_ascii", "raise ValueError('n\u00e4\u00efve \u4e16 \U0001f600')"),
    raises("error_with_lines", r"raise ValueError('first\n  second\r\n\tthird\rfourth\n')"),
    raises("error_with_spaces", r"raise ValueError('   padded   ')"),
    raises("error_with_controls", r"raise ValueError('\x00\x1b[31m\x85\u2028')"),
    raises(
        "error_with_delete",
        r"raise ValueError('\x7f')",
        alone=True,
        why="a header may not hold this character: awslambdaric's post is no HTTP, and it dies of the refusal",
        ours=error("ValueError", "\x7f", (2, "handler", r"raise ValueError('\x7f')")),
    ),
    raises("key_error", "return {}['k\u00e9y']"),
    raises("os_error", "open('/does/not/exist')"),
    raises("zero_division", "return 1 / 0"),
    raises("attribute_error", "return event.nothing"),
    raises("name_error", "return nothing"),
    raises("type_error", "return len(5)"),
    raises("index_error", "return [][0]"),
    raises("assertion", "assert event == 5, 'not five'"),
    raises("assertion_without_message", "assert event == 5"),
    raises("stop_iteration", "raise StopIteration(3)"),
    raises("timeout_error", "raise TimeoutError('too late')"),
    raises("memory_error", "raise MemoryError()"),
    raises("import_error", "import no_such_module"),
    raises("import_name", "from json import no_such_name"),
    raises("unicode_error", r"return b'\xff'.decode()"),
    raises("unicode_encode_error", r"return '\ud800'.encode()"),
    raises("error_as_text", "return str(ValueError)"),
    raises("in_a_call", "return outer()", setup="def outer():\n    return inner()\n\ndef inner():\n    raise LookupError('deep')\n"),
    raises("in_a_lambda", "return (lambda: [1 / n for n in [0]])()"),
    raises("in_the_library", "import json\n    return json.loads('{')"),
    raises("over_several_lines", "return max(", "    1,", "    1 / 0,", ")"),
    raises("in_executed_code", "exec('1 / 0')"),
    raises("in_a_class", "class A:\n        x = 1 / 0"),
    raises("in_a_method", "return A().m()", setup="class A:\n    def m(self):\n        raise ValueError('m')"),
    raises("in_a_nested_module", "from row_package.inner import f; return f()", alone=True, files={"row_package/inner": "def f():\n    raise KeyError('inner')\n"}),
    raises("recursion", *LIMITED, setup="import inspect, sys\ndef f():\n    return f()"),
    raises("recursion_of_two", *LIMITED, setup="import inspect, sys\ndef f():\n    return g()\ndef g():\n    return f()"),
    raises("recursion_that_ends", "return f(20)", setup="def f(n):\n    if not n: raise ValueError('end')\n    return f(n - 1)"),
    raises("recursion_twice", "return f(4, 5)", setup="def f(n, m):\n    if n: return f(n - 1, m)\n    if not m: raise ValueError('end')\n    return f(n, m - 1)"),
    raises("syntax_error", "exec('def f(:')"),
    raises("syntax_error_with_text", "compile('x = 1\\nif x\\n', 'shop.py', 'exec')"),
    raises("own_class", "raise OutOfStock(3)", setup="class OutOfStock(Exception):\n    def __str__(self):\n        return f'only {self.args[0]} left'"),
    raises("own_class_inside", "raise Shop.Closed('on Sunday')", setup="class Shop:\n    class Closed(Exception): pass"),
    raises("own_class_of_other_module", "raise E('x')", setup="class E(Exception): __module__ = 'shop.errors'"),
    raises("own_qualified_name", "raise E('x')", setup="class E(Exception): __qualname__ = 'Shop.E'"),
    raises("non_ascii_name", "raise \u00c4rger('x')", setup="class \u00c4rger(Exception): pass"),
    raises("name_with_lines", r"raise type('A\r\nX-Header: 1\r\n\r\nB', (Exception,), {})('x')"),
    raises("name_empty", "raise type('', (Exception,), {})('x')"),
    raises("long_name", "raise type('E' * 5000, (Exception,), {})('x')"),
    raises("exception_group", "raise ExceptionGroup('two', [ValueError(1), KeyError('k')])",
           setup="import builtins\nclass G(Exception):\n    def __init__(self, text, errors): super().__init__(text)\nExceptionGroup = getattr(builtins, 'ExceptionGroup', G)",
           why="the exceptions in it tell what went wrong" if hasattr(builtins, "ExceptionGroup") else "",
           ours=with_more(exceptions=[
               {"errorMessage": "1", "errorType": "ValueError", "stackTrace": []},
               {"errorMessage": "'k'", "errorType": "KeyError", "stackTrace": []},
           ]) if hasattr(builtins, "ExceptionGroup") else None),
    raises("with_notes", "error = ValueError('x')", "error.__notes__ = ['a note']", "raise error",
           why="notes are for who reads the error", ours=with_more(notes=["a note"])),
    raises("from_none", "try:\n        1 / 0\n    except ZeroDivisionError:\n        raise ValueError('x') from None"),
    raises("raised_again", "try:\n        1 / 0\n    except ZeroDivisionError:\n        raise"),
    raises("raised_again_by_name", "try:\n        1 / 0\n    except ZeroDivisionError as error:\n        raise error"),
    raises("raised_with_traceback", "try:\n        1 / 0\n    except ZeroDivisionError as error:\n        raise error.with_traceback(None)"),
    raises(
        "kept_and_raised_again",
        "raise ERROR",
        setup="ERROR = ValueError('the same object')",
        invocations=events(1, 2, 3),
        why="frames of the runtime are left out, not only those at the beginning",
        ours=without_awslambdaric,
    ),
    raises("in_finally", "try:\n        return 1\n    finally:\n        raise ValueError('finally')"),
    # 3.14 and later warn of it when they compile: in the runtime that comes first, for the other finds the bytecode.
    raises("finally_that_returns", "try:\n        return 1 / 0\n    finally:\n        return 'kept'", ignore=r"[^\n]*SyntaxWarning: [^\n]*\n[^\n]*\n"),
    raises("error_then_success", "return 1 / event", invocations=events(0, 1, 0, 2)),
    raises("error_printed_before", "print('before')\n    raise ValueError('x')"),
    raises("message_of_100_kB", "raise ValueError('x' * 100000)"),
    raises("message_of_3_MB", "raise ValueError('\u00e9' * 1500000)"),
    raises("error_in_del", "A()\n    return 1", setup="class A:\n    def __del__(self): raise ValueError('del')"),
    raises("error_without_source", "exec(compile('def f(): 1 / 0', '/nowhere/gone.py', 'exec'), globals())\n    f()"),
    raises("error_without_file", "exec(compile('def f(): 1 / 0', '<string>', 'exec'), globals())\n    f()"),
    raises("file_called_bootstrap", "import bootstrap; bootstrap.f()", alone=True, files={"bootstrap": "def f():\n    raise KeyError('mine')\n"}),
    Function(
        "handler_takes_one_argument",
        "def handler(event): pass",
        alone=True,
        why="frames of the runtime are left out, even when none is left",
        ours=without_awslambdaric,
    ),
    raises(
        "raised_from",
        "try:\n        {}['a']\n    except KeyError as error:\n        raise ValueError('b') from error",
        why="the cause tells what went wrong; awslambdaric drops it",
        ours=caused_by(("KeyError", "'a'", [(3, "handler", "{}['a']")])),
    ),
    raises(
        "raised_while_handling",
        "try:\n        {}['a']\n    except KeyError:\n        raise ValueError('b')",
        why="as when raised from it: Python prints both",
        ours=caused_by(("KeyError", "'a'", [(3, "handler", "{}['a']")])),
    ),
    raises(
        "raised_from_a_chain",
        "try:\n        try:\n            {}['a']\n        except KeyError as error:\n            raise ValueError('b') from error",
        "except ValueError as error:\n        raise LookupError('c') from error",
        why="the whole chain is told",
        ours=caused_by(
            ("ValueError", "b", [(6, "handler", "raise ValueError('b') from error")]),
            ("KeyError", "'a'", [(4, "handler", "{}['a']")]),
        ),
    ),
    raises(
        "raised_from_a_class",
        "raise ValueError('b') from KeyError",
        why="a cause that was never raised has no stack",
        ours=caused_by(("KeyError", "", [])),
    ),
    raises(
        "raised_from_itself",
        "error = ValueError('b')\n    error.__cause__ = error\n    raise error",
    ),
    raises(
        "failing_str",
        "raise E()",
        setup="class E(Exception):\n    def __str__(self): raise RuntimeError('no text')",
        alone=True,
        invocations=events(1, 2),
        why="awslambdaric dies of it",
        ours=lambda outcomes: [
            error("E", "<exception str() failed>", (4, "handler", "raise E()"))(outcomes[:n]) for n in (2, 3)
        ],
    ),
    raises(
        "str_of_another_type",
        "raise E()",
        setup="class E(Exception):\n    def __str__(self): return 5",
        alone=True,
        why="awslambdaric dies of it",
        ours=error("E", "<exception str() failed>", (4, "handler", "raise E()")),
    ),
    raises(
        "message_with_lone_surrogate",
        r"raise ValueError('\udc80')",
        alone=True,
        why="awslambdaric dies of it",
        ours=error("ValueError", "\udc80", (2, "handler", r"raise ValueError('\udc80')")),
    ),
    raises(
        "keyboard_interrupt",
        "raise KeyboardInterrupt",
        alone=True,
        invocations=events(1, 2),
        why="only Exception is an answer for awslambdaric; it dies of the rest. Here the loop goes on",
        ours=lambda outcomes: [
            error("KeyboardInterrupt", "", (2, "handler", "raise KeyboardInterrupt"))(outcomes[:n]) for n in (2, 3)
        ],
    ),
    raises(
        "generator_exit",
        "raise GeneratorExit('x')",
        alone=True,
        why="only Exception is an answer for awslambdaric",
        ours=error("GeneratorExit", "x", (2, "handler", "raise GeneratorExit('x')")),
    ),
    raises(
        "own_base_exception",
        "raise Stop('now')",
        setup="class Stop(BaseException): pass",
        alone=True,
        why="only Exception is an answer for awslambdaric",
        ours=error("Stop", "now", (3, "handler", "raise Stop('now')")),
    ),
    raises(
        "exit_with_status",
        "import sys\n    sys.exit(3)",
        alone=True,
        why="awslambdaric exits without an answer; here the caller is told first",
        ours=error("SystemExit", "3", (3, "handler", "sys.exit(3)"), exits=3),
    ),
    raises(
        "exit",
        "raise SystemExit",
        alone=True,
        why="awslambdaric exits without an answer; here the caller is told first",
        ours=error("SystemExit", "", (2, "handler", "raise SystemExit"), exits=0),
    ),
]

# ---- What they see -------------------------------------------------------------------

CLIENT_CONTEXT = {
    "client": {
        "installation_id": "i",
        "app_title": "t",
        "app_version_name": "n",
        "app_version_code": "c",
        "app_package_name": "p",
        "other": "o",
    },
    "custom": {"k": ["é"]},
    "env": {"locale": "de"},
    "other": 1,
}


def client_contexts(*values):
    return [Invocation(fields={"Lambda-Runtime-Client-Context": value}) for value in values]


NOT_CONTEXTS = ["{", "text", "{} {}", '{"custom":']

CONTEXT = [
    returns(
        "context",
        "[repr(context), type(context).__name__, context.get_remaining_time_in_millis() > 10**11, "
        "{n: repr(getattr(context, n)) for n in dir(context) if n[0] != '_' and n not in NEW and not callable(getattr(context, n))}]",
        setup="NEW = ['trace_id']",
        invocations=[
            Invocation(),
            Invocation(
                fields={
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:1:function:f:alias",
                    "Lambda-Runtime-Client-Context": json.dumps(CLIENT_CONTEXT),
                    "Lambda-Runtime-Cognito-Identity": '{"cognitoIdentityId": "id", "cognitoIdentityPoolId": "pool", "other": 1}',
                    "Lambda-Runtime-Aws-Tenant-Id": "tenant-a",
                }
            ),
        ],
    ),
    returns(
        "client_context",
        "[repr(context.client_context), context.w3c()]",
        invocations=client_contexts(
            "{}", '{"custom": 5}', '{"client": null}', '{"client": {}}', json.dumps(CLIENT_CONTEXT), json.dumps({"custom": "é"}, ensure_ascii=False), " {} ",
        ),
    ),
    returns("client_context_parts", "[context.client_context.custom['k'], context.client_context.env, context.client_context.client.app_title]", invocations=client_contexts(json.dumps(CLIENT_CONTEXT))),
    returns(
        "w3c",
        "[context.w3c(), repr(context.client_context), context.w3c() is context.w3c()]",
        invocations=client_contexts(
            '{"w3c": {"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "c=d", "other": "e"}, "custom": {}}',
            '{"w3c": {"traceparent": 5, "baggage": ""}}', '{"w3c": null}', '{"w3c": "text"}', '{"w3c": {}}',
        ),
    ),
    returns(
        "client_context_not_json",
        "repr(context.client_context)",
        invocations=client_contexts(*NOT_CONTEXTS),
    ),
    returns(
        "client_context_no_object",
        "repr(context.client_context)",
        invocations=client_contexts("[1]"),
        why="awslambdaric raises an AttributeError of its own",
        ours=error(
            "Runtime.LambdaContextUnmarshalError",
            "Unable to parse Client Context JSON: not an object: [1]",
            fault=True,
        ),
    ),
    returns("identity", "[repr(context.identity), context.identity.cognito_identity_id]", invocations=[
        Invocation(fields={"Lambda-Runtime-Cognito-Identity": value}) for value in ("{}", '{"cognitoIdentityId": "é"}', '{"cognitoIdentityPoolId": 5}')
    ]),
    returns(
        "identity_not_json",
        "repr(context.identity)",
        invocations=[Invocation(fields={"Lambda-Runtime-Cognito-Identity": text}) for text in NOT_CONTEXTS],
    ),
    returns("context_attributes_may_be_set", "setattr(context, 'mine', 5) or context.mine"),
    returns("context_slots", "setattr(context.identity, 'mine', 5)"),
    returns("client_slots", "setattr(context.client_context, 'mine', 5)", invocations=client_contexts("{}")),
    returns("context_copies", "[repr(copy.copy(context)) == repr(context), repr(copy.deepcopy(context)) == repr(context)]", setup="import copy"),
    returns("remaining_time", "[0 <= context.get_remaining_time_in_millis() < 10**6, context.get_remaining_time_in_millis()]", invocations=[Invocation(fields={"Lambda-Runtime-Deadline-Ms": "1000"})]),
    returns("tenant", "context.tenant_id", invocations=[Invocation(fields={"Lambda-Runtime-Aws-Tenant-Id": "t"}), Invocation()]),
    returns("trace_id", "os.environ.get('_X_AMZN_TRACE_ID')", setup="import os", invocations=[Invocation(), Invocation(fields={"Lambda-Runtime-Trace-Id": None}), Invocation()]),
    returns("invocation_id", "1", invocations=[Invocation(fields={"Lambda-Runtime-Invocation-Id": "i-1"})]),
    returns("environment", "sorted((k, v) for k, v in os.environ.items() if k not in OURS)", alone=True,
            setup="import os; OURS = ['AWS_EXECUTION_ENV', '_HANDLER', 'PATH', 'PWD', 'SHLVL', 'OLDPWD', '_', 'AWS_LAMBDA_RUNTIME_API', 'LC_CTYPE']"),
    returns("arguments", "[os.getcwd(), sys.stdin.read(), __name__, __file__, sys.path[0] == os.getcwd()]", setup="import os, sys"),
    Function(
        "context_log",
        """
        import logging
        def handler(event, context):
            context.log("plain")
            context.log(" and more\\n")
            context.log({"a": 1})
            context.log("\\n")
            context.log("é 😀\\n")
        """,
    ),
    Function("context_pickled", "import pickle\ndef handler(event, context):\n    return repr(pickle.loads(pickle.dumps(context))) == repr(context)"),
]

# ---- What they log -------------------------------------------------------------------


def logs(name, *lines, setup="import logging", **more):
    return raises(name, *lines, setup=setup, **more)


LOGS = [
    logs("print", "print('one')\n    print('two', end='')\n    print()\n    print('é 世 😀')"),
    logs("print_without_end", "print('no end', end='')", alone=True),
    logs("print_nothing", "print('', end='')\n    print()"),
    logs("print_to_stderr", "print('oops', file=sys.stderr)", setup="import sys"),
    logs("write_lines", "sys.stdout.writelines(['a\\n', 'b\\n'])\n    sys.stdout.write('c\\n')\n    sys.stdout.flush()", setup="import sys"),
    logs("write_bytes", "sys.stdout.buffer.write(b'bytes\\n')\n    sys.stdout.buffer.flush()\n    sys.stdout.flush()", setup="import sys"),
    logs("write_descriptor", "os.write(1, b'direct\\n')\n    print('after')", setup="import os"),
    logs("print_many", "for n in range(500): print('line', n)"),
    logs("print_at_import", "return None", setup="print('imported')"),
    logs("child_process", "print('before')\n    subprocess.run(['echo', 'child'])\n    print('after')", setup="import subprocess"),
    logs("exit_at_once", "print('last words', end='')\n    os._exit(7)", setup="import os", alone=True),
    logs("levels", *[f"logging.{level}('at %s', '{level}')" for level in ("debug", "info", "warning", "error", "critical")]),
    logs("levels_of_root_set", "for level in range(0, 70, 5): logging.log(level, 'at %d', level)", setup="import logging\nlogging.getLogger().setLevel(1)", alone=True),
    logs("level_at_import", "logging.info('handler')", setup="import logging\nlogging.getLogger().setLevel('INFO')\nlogging.info('import')", alone=True),
    logs("level_changed", "logging.getLogger().setLevel(event)\n    logging.info('i'); logging.warning('w'); logging.error('e')", invocations=events("ERROR", "DEBUG", "WARNING"), alone=True),
    logs("custom_level", "logging.log(15, 'fifteen'); logging.log(35, 'thirty five'); logging.log(60, 'sixty')", setup="import logging\nlogging.addLevelName(15, 'FIFTEEN')\nlogging.addLevelName(35, 'NOTICE')\nlogging.getLogger().setLevel(1)", alone=True),
    logs("negative_level", "logging.getLogger().handle(logging.LogRecord('n', -5, 'p', 1, 'negative', (), None))"),
    logs("level_disabled", "logging.disable(logging.WARNING)\n    logging.warning('no'); logging.error('yes')", alone=True),
    logs("arguments_of_message", "logging.warning('%s %d %r %(a)s' if 0 else '%s %d %r', 'a', 2, 'c')\n    logging.warning('%(a)s', {'a': 1})\n    logging.warning('100%')\n    logging.warning('%%', )"),
    logs("arguments_that_do_not_fit", "logging.warning('%s %s', 1)", why="frames of the runtime are left out, in the middle too", ours=without_awslambdaric),
    logs("message_objects", "logging.warning(5)\n    logging.warning(None)\n    logging.warning(['a'])\n    logging.warning(ValueError('x'))\n    logging.warning('')"),
    logs("message_dict", "logging.warning({'a': 1, 'b': ['é', None, 1.5]})\n    logging.warning({})\n    logging.warning({'a': 1}, extra={'b': 2})"),
    logs("message_dict_odd", "logging.warning({'when': datetime.date(2025, 1, 1), 'price': Decimal('1.10'), 'set': {1}})", setup="import logging, datetime\nfrom decimal import Decimal"),
    logs("message_non_ascii", r"logging.warning('n\u00e4\u00efve \u4e16 \U0001f600 \u2028')"),
    logs("message_lines", r"logging.warning('first\n  second\r\n\tthird\n')"),
    logs("message_controls", r"logging.warning('\x00\x1b[31mred\x1b[0m\x7f')"),
    logs("message_large", "logging.warning('x' * 300000)"),
    logs("extra", "logging.warning('x', extra={'user': 'u', 'n': 5, 'none': None, 'list': [1, {'a': 2}], 'é': 'é'})"),
    logs("extra_odd", "logging.warning('x', extra={'when': datetime.date(2025, 1, 1), 'price': Decimal('1.10'), 'set': {1}, 'o': O()})",
         setup="import logging, datetime\nfrom decimal import Decimal\nclass O:\n    def __str__(self): return 'an O'"),
    logs("extra_types", "logging.warning('x', extra={'bytes': b'abc', 'pair': P(1, 2), 'float': float('nan'), 'big': 10 ** 30, 'text': S('s'), 'e': E.A})",
         setup="import collections, enum, logging\nP = collections.namedtuple('P', 'x y')\nclass S(str): __str__ = lambda s: 'other'\nclass E(enum.Enum): A = 1"),
    logs("extra_keys", "logging.warning('x', extra={'d': {(1, 2): 'a'}})", only=("JSON", "JSONInFrames"), why="frames of the runtime are left out", ours=without_its_encoder_but_with("when serializing dict item 'd'")),
    logs("message_keys", "logging.warning({(1, 2): 'a'})", only=("JSON", "JSONInFrames"), why="frames of the runtime are left out", ours=without_its_encoder_but_with("when serializing dict item 'message'")),
    logs("extra_circular", "a = []\n    a.append(a)\n    logging.warning('x', extra={'a': a})", only=("JSON", "JSONInFrames"), why="frames of the runtime are left out", ours=without_its_encoder_but_with("when serializing list item 0", "when serializing dict item 'a'")),
    logs("extra_reserved", "logging.warning('x', extra={'level': 'mine', 'timestamp': 1, 'requestId': 'r', 'tenantId': 't', 'logger': 'l', 'errorType': 'e'})"),
    logs("extra_own_ids", "logging.warning('x', extra={'aws_request_id': 'mine', 'tenant_id': 'mine'})"),
    logs("extra_frame_type", "logging.warning('x', extra={'location': 'here', 'stackTrace': ['s']})"),
    logs("child_logger", "logging.getLogger('shop.cart').warning('in a child')\n    logging.getLogger(__name__).error('of the module')"),
    logs("child_level", "child = logging.getLogger('verbose')\n    child.setLevel(logging.DEBUG)\n    child.debug('d'); logging.debug('no')\n    child.setLevel(logging.NOTSET)"),
    logs("child_alone", "child = logging.getLogger('silent')\n    child.propagate = False\n    child.warning('last resort')"),
    logs("child_handler", "logging.getLogger('own').warning('twice')", setup="import logging, sys\nhandler_ = logging.StreamHandler(sys.stdout)\nhandler_.setFormatter(logging.Formatter('own %(levelname)s %(message)s'))\nlogging.getLogger('own').addHandler(handler_)"),
    logs("logger_adapter", "logging.LoggerAdapter(logging.getLogger('a'), {'user': 'u'}).warning('adapted')"),
    logs("basic_config", "logging.warning('once')", setup="import logging\nlogging.basicConfig(level=logging.INFO, format='mine %(message)s')", alone=True),
    logs("basic_config_forced", "logging.info('mine')", setup="import logging, sys\nlogging.basicConfig(level=logging.INFO, format='mine %(message)s', stream=sys.stdout, force=True)", alone=True),
    logs("dict_config", "logging.warning('by config')", setup="import logging.config\nimport sys\nlogging.config.dictConfig({'version': 1, 'formatters': {'f': {'format': 'conf %(message)s'}}, 'handlers': {'h': {'class': 'logging.StreamHandler', 'formatter': 'f', 'stream': 'ext://sys.stdout'}}, 'root': {'handlers': ['h'], 'level': 'INFO'}})", alone=True),
    logs("handlers_removed", "logging.warning('last resort')", setup="import logging\nroot = logging.getLogger()\nfor each in list(root.handlers): root.removeHandler(each)", alone=True),
    logs("formatter_replaced", "logging.warning('mine')", setup="import logging\nfor each in logging.getLogger().handlers: each.setFormatter(logging.Formatter('%(levelname)s %(aws_request_id)s %(tenant_id)s %(message)s\\n'))", alone=True),
    logs("filter_on_root_handler", "logging.warning('yes'); logging.warning('no')", setup="import logging\nfor each in logging.getLogger().handlers: each.addFilter(lambda record: record.msg != 'no')", alone=True),
    logs("handler_before", "return [len(BEFORE), type(BEFORE[0]).__name__[:19], len(logging.getLogger().handlers)]", setup="import logging\nBEFORE = list(logging.getLogger().handlers)"),
    logs("record_ids", "logging.warning('x')\n    return SEEN", setup="import logging\nSEEN = []\nclass H(logging.Handler):\n    def emit(self, record): SEEN.append([getattr(record, n, 'none') for n in ('levelname', 'aws_request_id', 'tenant_id')])\nlogging.getLogger().addHandler(H())", alone=True),
    logs("tenant_in_log", "logging.warning('for a tenant')", invocations=[Invocation(fields={"Lambda-Runtime-Aws-Tenant-Id": "tenant-a"}), Invocation()]),
    logs("log_at_import", "logging.warning('handler')", setup="import logging\nlogging.warning('import')\nprint('print')", alone=True),
    logs("log_from_thread", "thread = threading.Thread(target=logging.warning, args=('from a thread',))\n    thread.start()\n    thread.join()", setup="import logging, threading"),
    logs("log_from_pool", "with ThreadPoolExecutor(1) as pool: list(pool.map(logging.warning, ['a', 'b']))", setup="import logging\nfrom concurrent.futures import ThreadPoolExecutor"),
    logs("log_from_task", "asyncio.run(main())", setup="import asyncio, logging\nasync def main():\n    await asyncio.gather(task('a'), task('b'))\nasync def task(name):\n    await asyncio.sleep(0)\n    logging.warning(name)"),
    logs("log_from_fork", "pid = os.fork()\n    if not pid:\n        logging.warning('child')\n        os._exit(0)\n    os.waitpid(pid, 0)\n    logging.warning('parent')", setup="import logging, os", alone=True),
    logs("formatter_converter", "return time.strftime('%H:%M', logging.Formatter().converter(0))", setup="import logging, time"),
    logs("warnings_captured", "warnings.warn('careful')", setup="import logging, warnings\nwarnings.simplefilter('always')\nlogging.captureWarnings(True)", alone=True),
    logs("warnings_to_stderr", "warnings.warn('careful')", setup="import warnings\nwarnings.simplefilter('always')", alone=True),
    logs("stack_info", "logging.warning('x', stack_info=True)", alone=True, ignore=r'(?s)Stack \(most recent call last\):.*?(?=  File "ROOT|\xa0\xa0File "ROOT)', why=LINE_END, ours=line_ends, only=("Text",)),
    logs("exc_info", "try:\n        1 / 0\n    except ZeroDivisionError:\n        logging.exception('failed')\n    logging.warning('next')", why=LINE_END, ours=line_ends, only=("Text",)),
    logs("exc_info_of_exception", "logging.error('failed', exc_info=ValueError('é'))", why=LINE_END, ours=line_ends, only=("Text",)),
    logs(
        "exc_info_without",
        "logging.error('failed', exc_info=True)",
        why=LINE_END + "; in JSON format awslambdaric's formatter fails, and the handler with it",
        only=("Text", "JSON", "JSONInFrames"),
        ours=without_exception,
    ),
    logs("exc_info_chained", "try:\n        try:\n            {}['a']\n        except KeyError as error:\n            raise ValueError('b') from error\n    except ValueError:\n        logging.exception('failed')", why=LINE_END, ours=line_ends, only=("Text",)),
    logs("error_after_log", "logging.warning('before')\n    raise ValueError('x')"),
]

# ---- What is not in awslambdaric -----------------------------------------------------

QUIET = "import logging; logging.getLogger('asyncio').setLevel('INFO')\n"

NEWS = [
    returns("generator", "(str(n) for n in range(3))", why="an iterator is a stream; awslambdaric cannot serialise it", ours=streamed("012")),
    returns("iterator", "map(str, [1, 2])", why="an iterator is a stream", ours=streamed("12")),
    returns("list_iterator", "iter([b'a', 'b', bytearray(b'c'), memoryview(b'd')])", why="an iterator is a stream", ours=streamed("abcd")),
    Function("generator_function", "def handler(event, context):\n    yield 'a'\n    yield 'b'", alone=True, why="an iterator is a stream", ours=streamed("ab")),
    returns("file", "open(__file__, 'rb')", why="a file is an iterator over its lines", ours=streamed("\ndef handler(event, context):\n    return open(__file__, 'rb')")),
    Function(
        "http_stream",
        "def handler(event, context):\n    yield {'statusCode': 201}\n    yield 'body'",
        alone=True,
        why="a stream that begins with a dict is an HTTP response",
        ours=streamed('{"statusCode": 201}' + "\0" * 8 + "body", "application/vnd.awslambda.http-integration-response"),
    ),
    returns("coroutine", "f(event)", setup=QUIET + "async def f(event): return [event]", invocations=events(7), why="an awaitable is awaited", ours=response("[7]")),
    Function("coroutine_function", QUIET + "async def handler(event, context):\n    return [event]", alone=True, invocations=events(7), why="an awaitable is awaited", ours=lambda outcomes: response("[7]")(outcomes)),
    Function("async_generator", QUIET + "async def handler(event, context):\n    yield 'a'\n    yield 'b'", alone=True, why="an async iterator is a stream", ours=streamed("ab")),
]

FUNCTIONS = [*JSON, *EVENTS, *ERRORS, *CONTEXT, *LOGS, *NEWS]

# ---- What keeps them from starting ---------------------------------------------------


def init(name, source="", handler="function.handler", files=None, **more):
    return Function(name, source, handler=handler, files=files or {}, invocations=[], alone=True, **more)


INITS = [
    init("no_module", handler="missing.handler"),
    init("no_module_in_folder", handler="folder/missing.handler"),
    init("no_module_in_package", handler="package.missing.handler", files={"package/__init__": ""}),
    init("no_function", "def other(event, context): pass"),
    init("no_function_in_package", handler="package.handler", files={"package/__init__": ""}),
    init("no_dependency", "import no_such_dependency"),
    init("no_name_in_dependency", "from json import no_such_name"),
    init("dependency_without_dependency", "import helper", files={"helper": "import no_such_dependency"}),
    init("no_dot", handler="function"),
    init("empty_name", handler=""),
    init("only_a_dot", handler="."),
    init("no_function_name", "", handler="function."),
    init("no_module_name", "", handler=".handler"),
    init("built_in_module", handler="sys.exit"),
    init("built_in_module_time", handler="time.handler", files={"time": "def handler(event, context): pass"}),
    init("standard_library", handler="json.dumps"),
    init("two_slashes", handler="a//b.handler"),
    init(
        "leading_slash",
        handler="/function.handler",
        why="these are the words of Python's own import, not of importlib.import_module",
        ours=reworded(
            ("the 'package' argument is required to perform a relative import for '.function'", "Empty module name"),
            ("TypeError", "ValueError"),
        ),
    ),
    init("trailing_slash", handler="function/.handler"),
    init(
        "relative",
        handler="../function.handler",
        why="these are the words of Python's own import, not of importlib.import_module",
        ours=reworded(
            (
                "the 'package' argument is required to perform a relative import for '...function'",
                "Unable to import module '../function': No module named '.'",
            ),
            ("TypeError", "Runtime.ImportModuleError"),
        ),
    ),
    init("file_name", "def handler(event, context): pass", handler="function.py.handler"),
    init("non_ascii_handler", handler="gr\u00fc\u00dfe.handler"),
    init("spaces", handler=" function.handler"),
    init("syntax_error", "def handler(event, context):\n    return (1\n\nx = 5\n"),
    init("syntax_error_plain", "x = = 1\n"),
    init("syntax_error_long_line", "x = " + "1 + " * 300 + "= 1\n"),
    init(
        "syntax_error_non_ascii",
        "gr\u00fc\u00dfe = = '\u4e16'\n",
        why="awslambdaric can report nothing that is not Latin-1",
        ours=init_error(
            "Runtime.UserCodeSyntaxError",
            "Syntax error in module 'function': invalid syntax (function.py, line 1)",
            trace=["  File \"ROOT/function.py\" Line 1\n    gr\u00fc\u00dfe = = '\u4e16'\n"],
        ),
    ),
    init("syntax_error_in_helper", "import helper\n", files={"helper": "def f(:\n    pass\n"}),
    init("syntax_error_at_end", "def handler(event, context):"),
    init("indentation", "def handler(event, context):\nreturn 1\n"),
    init("indentation_unexpected", "x = 1\n  y = 2\n"),
    init("tabs", "def handler(event, context):\n\tif event:\n        return 1\n"),
    init("return_outside", "return 5\n"),
    init("null_byte", files={"function.py": b"x = 1\0\n"}),
    init("unknown_coding", files={"function.py": b"# coding: klingon\n"}),
    init("python_2", "print 'hello'\n"),
    init("error_at_import", "import json\n\nTABLE = {}['table']\n"),
    init("error_in_call_at_import", "def connect():\n    raise ConnectionError('no database')\n\nconnect()\n"),
    init("error_in_helper_at_import", "import helper\n", files={"helper": "1 / 0\n"}),
    init("error_in_package_at_import", handler="package.module.handler", files={"package/__init__": "", "package/module": "raise ValueError('x')"}),
    init("error_non_ascii_at_import", "class \u00c4rger(Exception): pass\nraise \u00c4rger('n\u00e4')\n"),
    init(
        "error_with_line_in_name_at_import",
        r"raise type('A\nB', (Exception,), {})('x')",
        why="awslambdaric puts it into a header as it is, and dies of it",
        ours=init_error("A\nB", "x", (1, "<module>", r"raise type('A\nB', (Exception,), {})('x')"), header=r"A\nB"),
    ),
    init("error_of_100_kB_at_import", "raise ValueError('x' * 100000)"),
    init("assertion_at_import", "assert 0, 'zero'"),
    init("print_before_error_at_import", "print('before')\nraise ValueError('x')"),
    init("log_before_error_at_import", "import logging\nlogging.error('before')\nraise ValueError('x')"),
    init("attribute_that_fails", "def __getattr__(name): raise LookupError(name)"),
    init("module_that_replaces_itself", "import sys, types\nsys.modules[__name__] = types.SimpleNamespace()"),
    init(
        "cause_at_import",
        "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error",
        why="the cause tells what went wrong",
        ours=caused_by(("KeyError", "'a'", [(2, "<module>", "{}['a']")])),
    ),
    init(
        "exit_at_import",
        "import sys\nsys.exit('bye')",
        why="awslambdaric exits and reports nothing; Lambda could say no more than that the process ended",
        ours=init_error("SystemExit", "bye", (2, "<module>", "sys.exit('bye')")),
    ),
    init(
        "interrupt_at_import",
        "raise KeyboardInterrupt",
        why="awslambdaric dies without a report",
        ours=init_error("KeyboardInterrupt", "", (1, "<module>", "raise KeyboardInterrupt")),
    ),
    Function("handler_not_callable", "handler = 5", alone=True, why="frames of the runtime are left out, even when none is left", ours=without_awslambdaric),
    Function("in_package", files={"package/__init__": "", "package/module": "def handler(event, context): return __name__"}, handler="package.module.handler", alone=True),
    Function("in_folder", files={"folder/module": "def handler(event, context): return __name__"}, handler="folder/module.handler", alone=True),
    Function("in_folders", files={"a/b/module": "def handler(event, context): return __name__"}, handler="a/b.module.handler", alone=True),
    Function("in_class", "class C:\n    @staticmethod\n    def handler(event, context): return 1", handler="function.C.handler", alone=True),
    Function("object", "class H:\n    def __call__(self, event, context): return [event]\nhandler = H()", invocations=events(5), alone=True),
    Function("method", "class H:\n    def m(self, event, context): return [event]\nhandler = H().m", invocations=events(5), alone=True),
    Function("partial", "import functools\nhandler = functools.partial(lambda x, event, context: [x, event], 1)", invocations=events(5), alone=True),
    Function("class_as_handler", "class handler(dict):\n    def __init__(self, event, context): super().__init__(e=event)", invocations=events(5), alone=True),
    Function("module_getattr", "def __getattr__(name): return lambda event, context: name", alone=True),
    Function("handler_of_import", "from helper import handler", files={"helper": "def handler(event, context): return __name__"}, alone=True),
    Function("shadows_library", "import json\ndef handler(event, context): return hasattr(json, 'MINE')", files={"json/__init__": "MINE = 'mine'"}, alone=True,
             why="`-m awslambdaric` finds the function's json, and dies; started by AWS's bootstrap.py it has the library's, and so has the function",
             ours=lambda outcomes: [outcomes[0].update(stderr="", exit=None), response("false")(outcomes)]),
    Function("dunder_main", "def handler(event, context): return __name__ == '__main__'", alone=True),
    Function("decorated", "import functools\ndef twice(f):\n    @functools.wraps(f)\n    def g(event, context): return [f(event, context)] * 2\n    return g\n@twice\ndef handler(event, context): return 1", alone=True),
]

# Every value that AWS_LAMBDA_LOG_LEVEL may have, and some that it may not.
LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL", "warn", "", "NOTSET", "NONE"]
LOGS_AT_ALL_LEVELS = """
    import logging

    def handler(event, context):
        root, child = logging.getLogger(), logging.getLogger("child")
        for level in range(0, 60, 5):
            root.log(level, "root at %d", level)
            child.log(level, "child at %d", level)
        print("printed")
        context.log("by the context\\n")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.exception("caught")
        return [root.level, root.isEnabledFor(10), logging.raiseExceptions]
"""
