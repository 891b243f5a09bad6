"""Response streams of async generators and async iterators."""

import unittest

import test_streams  # whole, for its tests would run here too if they were imported by name
from test_streams import HTTP


class Streams(test_streams.Streamed):
    SOURCE = """
        import asyncio, collections.abc, contextlib

        async def generator():
            yield {"statusCode": 200}
            await asyncio.sleep(0)
            yield "a"
            yield b"b"

        async def early():
            await asyncio.sleep(0)
            if True: raise ValueError("eärly")
            yield

        async def late():
            yield "a"
            await asyncio.sleep(0)
            raise ValueError("läte")

        async def cancelled():
            yield "a"
            raise asyncio.CancelledError

        class Iterator:
            def __init__(self):
                self.chunks = [b"b", "a"]

            def __aiter__(self):
                return self

            async def __anext__(self):
                await asyncio.sleep(0)
                if not self.chunks:
                    raise StopAsyncIteration
                return self.chunks.pop()

        class Iterable:
            def __aiter__(self):
                return generator()

        async def gives_generator():
            await asyncio.sleep(0)
            return generator()

        async def gives_plain_generator():
            await asyncio.sleep(0)
            return (chunk for chunk in "ab")

        async def large():
            for n in range(20):
                yield bytes([n]) * 300_000

        def handler(event, context):
            return globals()[event]()
    """

    METADATA = [b'{"statusCode": 200}', bytes(8)]

    def test_generator(self):
        self.stream("generator", [*self.METADATA, b"a", b"b"], HTTP)

    def test_iterators(self):
        self.stream("Iterator", [b"a", b"b"])
        self.stream("Iterable", [*self.METADATA, b"a", b"b"], HTTP)

    def test_what_a_coroutine_gives(self):
        self.stream("gives_generator", [*self.METADATA, b"a", b"b"], HTTP)
        self.stream("gives_plain_generator", [b"a", b"b"])

    def test_errors(self):
        document = self.fails("early", "ValueError", "^eärly$")
        self.assertEqual(len(document["stackTrace"]), 1)
        document = self.stream("late", [b"a"], error="ValueError")
        self.assertEqual(len(document["stackTrace"]), 1)
        self.stream("cancelled", [b"a"], error="CancelledError")

    def test_large_chunks(self):
        self.stream("large", [bytes([n]) * 300_000 for n in range(20)])


class Finally(test_streams.Finally):
    SOURCE = """
        import asyncio

        async def endless():
            try:
                while True: yield "x" * 65536
            finally:
                await asyncio.sleep(0)
                print("finally of endless")

        async def clings():
            while True:
                try:
                    yield "x" * 65536
                except GeneratorExit:
                    pass

        async def fails_to_close():
            try:
                while True: yield "x" * 65536
            finally:
                await asyncio.sleep(0)
                raise ValueError("in finally")

        async def wrong():
            try:
                yield "a"
                yield 5
            finally:
                await asyncio.sleep(0)
                print("finally of wrong")

        async def waits():
            try:
                yield "a"
                await asyncio.to_thread(lambda: open("go").read())
                yield "b"
            finally:
                await asyncio.sleep(0)
                print("finally of waits")

        class Endless:
            def __aiter__(self): return self
            async def __anext__(self): return b"x" * 65536
            async def aclose(self): print("closed")

        def iterator():
            return Endless()

        def value():
            return "goes on"

        def handler(event, context):
            return globals()[event]()
    """


class Live(unittest.TestCase):
    play = test_streams.Live.play

    def test_generator(self):
        self.play("""
            import asyncio

            def read():
                with open("go") as go: return go.read()

            async def handler(event, context):
                yield "first"
                for _ in range(2):
                    yield await asyncio.to_thread(read)
        """)


if __name__ == "__main__":
    unittest.main()
