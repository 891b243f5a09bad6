"""The type of a result, of a handler and of what is in them decides: what their attributes answer does not count."""

import pathlib
import unittest

from miniature import FUNCTION_VERSION, Lambda, function

# What libraries have in use: dotdict, addict.Dict, munch.DefaultMunch, an object over a dict, and worse.
CATCH_ALL = """
    class Dot(dict):
        __getattr__ = dict.get

    class Add(dict):
        def __getattr__(self, name):
            return self[name]

        def __missing__(self, name):
            return type(self)()

    class Key(dict):
        __getattr__ = dict.__getitem__  # raises KeyError and not AttributeError

    class Call(dict):
        def __getattr__(self, name):
            return lambda *args, **kwargs: self

    class List(list):
        def __getattr__(self, name):
            return lambda *args, **kwargs: self

    class Pair(tuple):
        def __getattr__(self, name):
            return lambda *args, **kwargs: self

    class Meta(type):
        def __getattr__(cls, name):
            return lambda *args, **kwargs: None

    class Model(dict, metaclass=Meta):
        pass

    class Raise(dict):
        def __getattr__(self, name):
            raise SystemExit(name)
"""


class Results(unittest.TestCase):
    def answers(self, source, expected, setup=CATCH_ALL):
        """Two invocations in one process: the second would find an event loop that the first has started."""
        with function(function=setup + "\n" + source) as root, Lambda(root) as aws:
            for _ in range(2):
                self.assertEqual(aws.invoke().json, expected)
            self.assertIsNone(aws.status)

    def test_mappings_and_sequences_whose_attributes_answer_anything(self):
        source = CATCH_ALL + """
    VALUES = {kind.__name__: kind(a=1, b=[kind(c=2)]) for kind in (Dot, Add, Key, Call, Model, Raise)}
    VALUES.update({kind.__name__: kind([1]) for kind in (List, Pair)})
    VALUES.update({f"{kind.__name__} in a list": [kind([1, kind()])] for kind in (List, Pair)})

    def handler(event, context):
        return VALUES[event]

    async def asynchronous(event, context):
        return VALUES[event]
        """
        expected = {**dict.fromkeys("Dot Add Key Call Model Raise".split(), {"a": 1, "b": [{"c": 2}]}), "List": [1], "Pair": [1]}
        expected.update({"List in a list": [[1, []]], "Pair in a list": [[1, []]]})
        with function(function=source) as root:
            for handler in "handler", "asynchronous":
                with Lambda(root, f"function.{handler}") as aws:
                    for kind, value in expected.items():
                        for _ in range(2):  # the second would find an event loop that the first has started
                            with self.subTest(kind, handler=handler):
                                self.assertEqual(aws.invoke(kind).json, value)
                    self.assertIsNone(aws.status)

    def test_metadata_and_iterators(self):
        source = CATCH_ALL + """
    class Lines:
        def __getattr__(self, name):
            return Dot()

        def __iter__(self):
            return self

        def __next__(self):
            if self.__dict__.setdefault("done", False):
                raise StopIteration
            self.done = True
            return "line"

    class Async(Lines):
        def __aiter__(self):
            return self

        async def __anext__(self):
            if self.__dict__.setdefault("done", False):
                raise StopAsyncIteration
            self.done = True
            return "line"

    def handler(event, context):
        return {"lines": Lines, "async": Async}[event]()

    def metadata(event, context):
        yield Add(statusCode=201)
        yield "body"
    """
        with function(function=source) as root:
            with Lambda(root) as aws:
                for event in "lines", "async", "lines":
                    self.assertEqual(aws.invoke(event).body, b"line")
                self.assertNotIn("[ERROR]", aws.log)
            with Lambda(root, "function.metadata") as aws:
                self.assertEqual(aws.invoke().body, b'{"statusCode": 201}' + bytes(8) + b"body")

    def test_named_tuples_are_objects(self):
        setup = """
    import collections, typing
    Point = collections.namedtuple("Point", "x y")

    class Named(typing.NamedTuple):
        x: int
        y: int = 2

    class Proxy:  # as wrapt's: it shows the class of what it stands for
        def __init__(self, it): self.it = it
        __class__ = property(lambda self: type(self.it))
        def __getattr__(self, name): return getattr(self.it, name)

    class NoMethod:
        _asdict = None
    """
        self.answers("    def handler(event, context): return [Point(1, 2), Named(1), Proxy(Point(1, 2))]", [{"x": 1, "y": 2}] * 3, setup)
        with function(function=setup + "\n    def handler(event, context): return NoMethod()") as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().json["errorType"], "Runtime.MarshalError")

    def test_streams_are_closed(self):
        """By a method of their class, or one that an instance has been given."""
        source = """
    class Wrapper:  # as wsgiref.util.FileWrapper
        def __init__(self):
            self.close = lambda: print("closed")
            self.rest = iter("ab")

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.rest)

    class AsyncClose:
        def __init__(self):
            self.rest = iter("ab")

        def __aiter__(self):
            return self

        async def __anext__(self):
            for each in self.rest:
                return each
            raise StopAsyncIteration

        async def close(self):  # as aiofiles has it
            print("closed")

    def handler(event, context):
        return AsyncClose() if event else Wrapper()
    """
        with function(function=source) as root, Lambda(root) as aws:
            for event in False, True:
                self.assertEqual(aws.invoke(event).body, b"ab")
                aws.wait_for(lambda: aws.log == "closed\n" * (1 + event))


class Handlers(unittest.TestCase):
    def test_objects_whose_attributes_answer_anything(self):
        source = CATCH_ALL + """
    def respond(self, event, context):
        return [type(self).__name__, event]

    for kind in Dot, Add, Key, Call, List, Model, Raise:
        kind.__call__ = respond
        globals()[kind.__name__.lower()] = kind()

    class Catch:
        __call__ = respond

        def __getattr__(self, name):
            return self

    catch = Catch()
    """
        with function(function=source) as root:
            for name in "Dot Add Key Call List Model Raise Catch".split():
                with self.subTest(name), Lambda(root, f"function.{name.lower()}") as aws:
                    self.assertEqual(aws.invoke(1).json, [name, 1])

    def test_async_ones_are_told_by_their_type(self):
        """Where invocations share a process it shows: async handlers get several slots in one."""
        source = CATCH_ALL + """
    import asyncio, functools, os

    async def plain(event, context):
        return os.getpid()

    class Object(dict):
        def __getattr__(self, name):
            return self

        async def __call__(self, event, context):
            return os.getpid()

    class Proxy:
        def __init__(self, it): self.it = it
        __class__ = property(lambda self: type(self.it))
        def __getattr__(self, name): return getattr(self.it, name)
        def __call__(self, *args): return self.it(*args)

    class Methods:
        async def method(self, event, context):
            return os.getpid()

    obj, partial, nested = Object(), functools.partial(plain), functools.partial(functools.partial(Object()))
    proxy, method = Proxy(plain), Methods().method
    """
        env = {"AWS_LAMBDA_MAX_CONCURRENCY": "4", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
        with function(function=source) as root:
            for name in "plain obj partial nested proxy method".split():
                with self.subTest(name), Lambda(root, f"function.{name}", env=env) as aws:
                    aws.invoke()
                    aws.wait_for(lambda: aws.polling >= 4)
                    children = pathlib.Path(f"/proc/{aws.process.pid}/task/{aws.process.pid}/children").read_text().split()
                    self.assertLess(len(children), 4)


@unittest.skipIf(FUNCTION_VERSION < (3, 15), "this Python has no frozendict: 3.15 has")
class Frozen(unittest.TestCase):
    def test_frozendict_is_an_object(self):
        source = """
            from decimal import Decimal

            def handler(event, context):
                return [
                    frozendict(a=1), {"b": frozendict(c=(1, 2))}, frozendict({b"d": Decimal("1.10")}), frozendict(e=frozendict(f={})),
                ]

            def bad(event, context):
                return frozendict(a={1})

            def stream(event, context):
                yield frozendict(statusCode=201, headers=frozendict({"a": "b"}))
                yield "body"
        """
        with function(function=source) as root:
            with Lambda(root) as aws:
                self.assertEqual(aws.invoke().body, b'[{"a": 1}, {"b": {"c": [1, 2]}}, {"d": 1.10}, {"e": {"f": {}}}]')
            with Lambda(root, "function.bad") as aws:
                self.assertEqual(aws.invoke().json["errorType"], "Runtime.MarshalError")
            with Lambda(root, "function.stream") as aws:
                head = b'{"statusCode": 201, "headers": {"a": "b"}}'
                self.assertEqual(aws.invoke().body, head + bytes(8) + b"body")


if __name__ == "__main__":
    unittest.main()
