"""The seams that error trackers and profilers wrap: they bear awslambdaric's names, and they are the parts that run."""

import os
import unittest

from miniature import Lambda, function

# A tracker as the field writes them: it finds the client's module, wraps the class and the function, and says when it
# was called. The module is looked for as Sentry's integration does it.
TRACKER = """
    import sys

    bootstrap = sys.modules["__main__"].bootstrap

    def wrap(owner, name):
        original = getattr(owner, name)

        def wrapper(*args, **kwargs):
            print("before", name)
            return original(*args, **kwargs)

        setattr(owner, name, wrapper)

    for name in ("post_init_error", "post_invocation_result", "post_invocation_error", "wait_next_invocation"):
        wrap(bootstrap.LambdaRuntimeClient, name)

    original = bootstrap.handle_event_request

    def handle_event_request(client, request_handler, *args, **kwargs):
        def wrapped(event, context):
            print("event", event)
            return request_handler(event, context)

        return original(client, wrapped, *args, **kwargs)

    bootstrap.handle_event_request = handle_event_request
"""


def logged(aws):
    return [line for line in aws.log.splitlines() if line.startswith(("before", "event"))]


class Wrapped(unittest.TestCase):
    def test_each_kind_of_answer_passes_through_them(self):
        for name, handler, end in (
            ("plain", "def handler(event, context): return event", "result"),
            ("async", "async def handler(event, context): return event", "result"),
            ("error", "def handler(event, context): raise ValueError", "error"),
            ("async error", "async def handler(event, context): raise ValueError", "error"),
        ):
            with self.subTest(name), function(function=TRACKER + "\n    " + handler) as root, Lambda(root) as aws:
                for event in 1, 2:
                    aws.invoke(event)
                    expected = [f"event {event}", f"before post_invocation_{end}", "before wait_next_invocation"]
                    aws.wait_for(lambda: logged(aws)[-3:] == expected)

    def test_the_end_of_a_stream_before_its_last_bytes_go_out(self):
        streams = "def handler(event, context):\n        yield 'a'\n        {}\n"
        for name, last, end in ("whole", "yield 'b'", "result"), ("failed", "raise ValueError", "error"):
            for prefix in "", "async ":
                source = TRACKER.replace(
                    'print("before", name)',
                    # A flush that never ends: what the API has by then went out before it.
                    'print("before", name)\n            if "post_invocation" in name: open("go").read()',
                )
                source += "\n    " + prefix + streams.format(last)
                with self.subTest(prefix + name), function(function=source) as root, Lambda(root, start=False) as aws:
                    os.mkfifo(f"{root}/go")
                    aws.start()
                    request_id = aws.send(1)
                    aws.wait_for(lambda: f"before post_invocation_{end}" in aws.log)
                    aws.wait_for(lambda: request_id in aws.posts)
                    post = aws.posts[request_id]
                    post.wait_chunks(2 if name == "whole" else 1)
                    self.assertFalse(post.done)

    def test_an_init_error_while_its_exception_is_handled(self):
        """Sentry's wrapper asks sys.exc_info() for the exception, and falls back on the document."""
        source = TRACKER + """
    def post_init_error(self, *args):
        print("before", sys.exc_info()[0].__name__, args[0]["errorType"])
        return original_init(self, *args)

    original_init = bootstrap.LambdaRuntimeClient.post_init_error
    bootstrap.LambdaRuntimeClient.post_init_error = post_init_error
    raise KeyError("k")
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.wait(), 1)
            self.assertEqual(aws.init_error.json["errorType"], "KeyError")
            self.assertEqual(logged(aws), ["before KeyError KeyError", "before post_init_error"])

    FAILING = """
    variable = contextvars.ContextVar("variable")
    original = bootstrap.handle_event_request

    def handle_event_request(client, request_handler, *args, **kwargs):
        def wrapped(event, context):
            try:
                result = request_handler(event, context)
                print("returned", type(result).__name__)
                return result
            except BaseException as exception:
                print("raised", type(exception).__name__, event, context.aws_request_id, variable.get(None))
                if event == "break":
                    raise KeyError("the tracker's own")
                raise

        return original(client, wrapped, *args, **kwargs)

    bootstrap.handle_event_request = handle_event_request

    def plain(event, context):
        variable.set("set")
        raise ValueError("v")

    async def asynchronous(event, context):
        await asyncio.sleep(0)
        plain(event, context)

    def later(event, context):
        return asynchronous(event, context)

    def stream(event, context):
        if event == "late":
            yield "a"
        plain(event, context)
        yield

    async def async_stream(event, context):
        if event == "late":
            yield "a"
        await asynchronous(event, context)

    async def unserialisable(event, context):
        return object()

    async def exits(event, context):
        raise SystemExit(3)
    """

    def failing(self, name):
        source = "    import asyncio, contextvars, sys\n    bootstrap = sys.modules['__main__'].bootstrap\n" + self.FAILING
        return function(function=source), f"function.{name}"

    def test_failures_of_coroutines_and_streams_are_shown_to_them(self):
        """The wrapper around the handler sees each failure once, in the invocation's context, before it is posted."""
        for name in "plain", "asynchronous", "later", "stream", "async_stream":
            with self.subTest(name):
                files, handler = self.failing(name)
                with files as root, Lambda(root, handler) as aws:
                    for event in "early", "late":
                        answer = aws.invoke(event)
                        raised = [line for line in answer.log.splitlines() if line.startswith("raised")]
                        variable = "None" if name == "later" and event == "early" else "set"  # that one ran in a task of its own
                        self.assertEqual(raised, [f"raised ValueError {event} {answer.request_id} {variable}"])
                        self.assertEqual("returned" in answer.log, name != "plain")
                        if answer.error and answer.error["stackTrace"]:
                            self.assertEqual(answer.error["stackTrace"][-1].split(", ")[-1].split("\n")[0], "in plain")
                            self.assertEqual(any("in wrapped" in each for each in answer.error["stackTrace"]), name == "plain")
                        self.assertEqual(answer.error_type, "ValueError")
                    aws.wait_for_next()

    def test_a_tracker_that_fails_meanwhile(self):
        files, handler = self.failing("asynchronous")
        with files as root, Lambda(root, handler) as aws:
            answer = aws.invoke("break")
            self.assertEqual(answer.json["errorType"], "ValueError")
            self.assertIn("the tracker's own", answer.log)

    def test_what_they_do_not_see_of_a_plain_handler_they_do_not_see(self):
        files, handler = self.failing("unserialisable")
        with files as root, Lambda(root, handler) as aws:
            answer = aws.invoke()
            self.assertEqual(answer.json["errorType"], "Runtime.MarshalError")
            self.assertNotIn("raised", answer.log)

    def test_an_exit_is_shown_and_stays_one(self):
        files, handler = self.failing("exits")
        with files as root, Lambda(root, handler) as aws:
            self.assertEqual(aws.invoke().json["errorType"], "SystemExit")
            self.assertEqual(aws.wait(), 3)
            self.assertEqual(aws.log.count("raised SystemExit"), 1)

    def test_where_they_are_found(self):
        source = """
            import sys

            def handler(event, context):
                bootstrap = sys.modules["__main__"].bootstrap
                return [
                    bootstrap.__file__,
                    bootstrap.LambdaRuntimeClient.__name__,
                    type(context) is bootstrap.LambdaContext,
                ]
        """
        with function(function=source) as root, Lambda(root) as aws:
            file, *rest = aws.invoke().json
            self.assertTrue(file.endswith("/runtime.py"), file)
            self.assertEqual(rest, ["LambdaRuntimeClient", True])


class Isolated(unittest.TestCase):
    """On an event loop each invocation's code is a task with a context of its own."""

    def test_context_variables_do_not_leak(self):
        source = """
            import contextvars
            variable = contextvars.ContextVar("variable", default="unset")

            async def plain(event, context):
                before = variable.get()
                variable.set(event)
                return [before, variable.get()]

            async def stream(event, context):
                before = variable.get()
                variable.set(event)
                yield before + " "
                yield variable.get()

            def sync_beginning(event, context):
                token = variable.set(event)

                async def rest():
                    before = variable.get()
                    variable.reset(token)
                    return [variable.get(), before]

                return rest()
        """
        with function(function=source) as root:
            for name in "plain", "stream", "sync_beginning":
                with self.subTest(name), Lambda(root, f"function.{name}") as aws:
                    if name == "sync_beginning":  # the first starts the loop, in the middle of its invocation
                        aws.invoke("zero")
                    for event in "one", "two":
                        answer = aws.invoke(event)
                        expected = b"unset " + event.encode() if name == "stream" else ["unset", event]
                        self.assertEqual(answer.body if name == "stream" else answer.json, expected)

    def test_cancelling_harms_nobody_else(self):
        source = """
            import asyncio

            async def forever():
                await asyncio.Event().wait()

            async def handler(event, context):
                me = asyncio.current_task()
                if event == "all but mine":
                    asyncio.create_task(forever())
                    await asyncio.sleep(0)
                    others = asyncio.all_tasks() - {me}
                    for task in others:
                        task.cancel()
                    await asyncio.sleep(0)
                    return len(others)
                if event == "mine":
                    me.cancel()
                    await forever()
                if event == "later":
                    asyncio.get_running_loop().call_soon(me.cancel)
                    await forever()
                return event

            async def stream(event, context):
                yield "a"
                yield str(await handler(event, context))
        """
        with function(function=source) as root:
            with Lambda(root) as aws:
                self.assertEqual(aws.invoke("all but mine").json, 1)
                for event in "mine", "later":
                    self.assertEqual(aws.invoke(event).json["errorType"], "CancelledError")
                self.assertEqual(aws.invoke("next").json, "next")
                self.assertIsNone(aws.status)
            with Lambda(root, "function.stream") as aws:
                for event in "mine", "later":
                    self.assertEqual(aws.invoke(event).error_type, "CancelledError")
                self.assertEqual(aws.invoke("next").body, b"anext")

    def test_a_neighbour_that_cancels_everybody(self):
        """Managed Instances: others in the same process are cancelled, for they are tasks; the process goes on."""
        source = """
            import asyncio

            async def handler(event, context):
                if event == "cancel":
                    for task in asyncio.all_tasks() - {asyncio.current_task()}:
                        task.cancel()
                elif event == "wait":
                    await asyncio.Event().wait()
                return event
        """
        env = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "AWS_LAMBDA_INITIALIZATION_TYPE": "lambda-managed-instances"}
        with function(function=source) as root, Lambda(root, env=env) as aws:
            for _ in range(3):
                self.assertEqual(aws.invoke("cancel").json, "cancel")
            self.assertEqual(aws.invoke("next").json, "next")
            self.assertIsNone(aws.status)


