"""Async handlers, and the event loop they run on."""

import os
import unittest

from miniature import Fault, Lambda, function, keeps_connections, tell


class Loop(unittest.TestCase):
    """One event loop for the life of the process."""

    def test_what_is_made_in_one_invocation_works_in_the_next(self):
        source = """
            import asyncio

            loops, streams = set(), []

            async def echo(reader, writer):
                writer.write(await reader.readline())
                await reader.read()
                writer.close()

            async def handler(event, context):
                loops.add(id(asyncio.get_running_loop()))
                if not streams:
                    streams.append(await asyncio.start_unix_server(echo, "socket"))
                    streams.extend(await asyncio.open_unix_connection("socket"))
                    return len(loops)
                _, reader, writer = streams
                writer.write(event.encode() + b"\\n")
                return [len(loops), (await reader.readline()).decode()]
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke("first").json, 1)
            self.assertEqual(aws.invoke("second").json, [1, "second\n"])

    def test_background_tasks_go_on(self):
        source = """
            import asyncio, os

            task, go = None, None

            async def background():
                await asyncio.to_thread(lambda: open("go").close())
                print("while next blocks", end="")
                await go.wait()
                return "done"

            async def handler(event, context):
                global task, go
                if task is None:
                    go = asyncio.Event()
                    task = asyncio.create_task(background())
                    return [task.done()]
                go.set()
                return [task.cancelled(), await task]
        """
        with function(function=source) as root:
            os.mkfifo(f"{root}/go")
            with Lambda(root) as aws:
                self.assertEqual(aws.invoke().json, [False])
                aws.wait_for_next()
                self.assertEqual(aws.log, "")
                tell(f"{root}/go")
                aws.wait_for(lambda: aws.log == "while next blocks")
                self.assertTrue(aws.polling)
                self.assertEqual(aws.invoke().json, [False, "done"])

    def test_awaitables_of_plain_functions(self):
        source = """
            import asyncio, sys

            loops = set()

            async def answer(event):
                loops.add(id(asyncio.get_running_loop()))
                return event

            class Awaitable:
                def __init__(self, event):
                    self.event = event

                def __await__(self):
                    yield from asyncio.sleep(0).__await__()
                    return [self.event]

            def handler(event, context):
                if event == "coroutine": return answer(event)
                if event == "awaitable": return Awaitable(event)
                if event == "future":
                    future = asyncio.get_running_loop().create_future()
                    future.get_loop().call_soon(future.set_result, event)
                    return future
                if event == "loops": return len(loops)
                return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            for event, result in (
                ("plain", "plain"), ("coroutine", "coroutine"), ("plain", "plain"), ("awaitable", ["awaitable"]), ("future", "future"),
                ("coroutine", "coroutine"), ("loops", 1),
            ):
                with self.subTest(event):
                    self.assertEqual(aws.invoke(event).json, result)

    def test_at_import(self):
        # On the loop that a module has made before there was a handler.
        source = """
            import asyncio

            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            lock = loop.run_until_complete(asyncio.sleep(0, asyncio.Lock()))

            async def handler(event, context):
                async with lock:
                    return asyncio.get_running_loop() is loop
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertIs(aws.invoke().json, True)

    def test_it_runs_while_the_first_next_waits(self):
        # What the module has begun goes on, if its handler is seen to be async.
        for handler in (
            "async def handler(event, context): return 1",
            "handler = functools.partial(sleep, 1)",
            "async def handler(event, context): yield 'x'",
            "class Handler:\n    async def __call__(self, event, context): return 1\nhandler = Handler()",
        ):
            source = "\n".join([
                "import asyncio, functools",
                "loop = asyncio.new_event_loop()",
                "asyncio.set_event_loop(loop)",
                "loop.call_later(0.001, print, 'runs')",
                "async def sleep(delay, event, context): return 1",
                handler,
            ])
            with self.subTest(handler), function(function=source) as root, Lambda(root) as aws:
                aws.wait_for(lambda: aws.log == "runs\n")
                self.assertEqual(aws.invoke().kind, "response")

    def test_asyncio_run_at_import(self):
        source = """
            import asyncio

            value = asyncio.run(asyncio.sleep(0, "value"))

            async def handler(event, context):
                return await asyncio.sleep(0, value)
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual([aws.invoke().json for _ in range(2)], ["value", "value"])

    def test_plain_functions_may_run_loops_of_their_own(self):
        source = """
            import asyncio

            def handler(event, context):
                return asyncio.run(asyncio.sleep(0, event))
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual([aws.invoke(n).json for n in (1, 2)], [1, 2])

    def test_asyncio_is_imported_only_for_a_function_that_needs_it(self):
        source = """
            import sys

            def stream():
                yield "asyncio" if "asyncio" in sys.modules else "none"

            async def coroutine():
                return "asyncio" in sys.modules

            def handler(event, context):
                if event == "error": raise ValueError
                if event == "stream": return stream()
                if event == "coroutine": return coroutine()
                return "asyncio" in sys.modules
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertIs(aws.invoke("value").json, False)
            aws.invoke("error")
            self.assertEqual(aws.invoke("stream").body, b"none")
            self.assertIs(aws.invoke("value").json, False)
            self.assertIs(aws.invoke("coroutine").json, True)

    def test_large_events_and_answers(self):
        source = """
            async def handler(event, context):
                return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            event = "x" * 5_000_000
            for _ in range(2):
                self.assertEqual(aws.invoke(event).json, event)

    @keeps_connections
    def test_lost_connections(self):
        source = """
            async def handler(event, context):
                return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            for kind in "next", "response":
                for fault in Fault(close=True), Fault(silently=True), Fault(0):
                    aws.answers(kind, fault)
                    self.assertEqual([aws.invoke(n).json for n in (1, 2)], [1, 2])


if __name__ == "__main__":
    unittest.main()
