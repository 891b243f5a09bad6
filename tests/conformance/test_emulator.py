"""bootstrap under AWS's own emulator, the Runtime Interface Emulator."""

import concurrent.futures
import contextlib
import json
import os
import tempfile
import unittest

from emulator import BOOTSTRAP, Emulator, can_unshare
from miniature import count_processors, function

FUNCTION = """
    import logging
    import os

    def handler(event, context):
        return globals()[event["do"]](event, context)

    def echo(event, context):
        return event["value"]

    def fail(event, context):
        raise LookupError("nothing é here")

    def end(event, context):
        print("last words", end="")
        os._exit(7)

    def log(event, context):
        print("printed é")
        logging.getLogger().setLevel("INFO")
        logging.info("logged %s", "世")
        return context.aws_request_id

    def describe(event, context):
        client = context.client_context
        return {
            "custom": client and client.custom,
            "title": client and client.client and client.client.app_title,
            "tenant": context.tenant_id,
            "function": context.function_name,
            "arn": context.invoked_function_arn,
            "time": context.get_remaining_time_in_millis(),
            "trace": os.environ.get("_X_AMZN_TRACE_ID"),
            "folder": os.getcwd(),
            "handler": os.environ["_HANDLER"],
            "pid": os.getpid(),
        }

    def stream(event, context):
        return iter(event["chunks"])

    def http_stream(event, context):
        yield {"statusCode": 201, "headers": {"Content-Type": "text/plain"}, "cookies": ["a=b"]}
        yield from event["chunks"]

    def large_stream(event, context):
        return (bytes([n]) * 65536 for n in range(80))

    def failing_stream(event, context):
        yield "begun "
        raise LookupError("and broken")

    def broken_stream(event, context):
        raise LookupError("never begun")
        yield

    async def wait(event, context):
        return [event["value"]]
"""


class Container(unittest.TestCase):
    """As in a container image: the emulator is the entry point, the handler its last argument."""

    @classmethod
    def setUpClass(cls):
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        cls.root = stack.enter_context(function(function=FUNCTION))
        cls.emulator = stack.enter_context(Emulator(cls.root, BOOTSTRAP, "function.handler"))

    def invoke(self, do, client_context=None, **event):
        status, body = self.emulator.invoke({"do": do, **event}, client_context=client_context)
        self.assertEqual(status, 200, body)
        return body

    def test_value(self):
        value = {"text": "é 世 😀", "numbers": [1, 2.5, -3e100], "null": None}
        self.assertEqual(json.loads(self.invoke("echo", value=value)), value)

    def test_5_MB(self):
        value = "0123456789" * 500_000
        self.assertTrue(json.loads(self.invoke("echo", value=value)) == value)

    def test_error_and_then_success(self):
        for _ in range(3):
            document = json.loads(self.invoke("fail"))
            self.assertEqual(document["errorType"], "LookupError")
            self.assertEqual(document["errorMessage"], "nothing é here")
            (entry,) = [entry for entry in document["stackTrace"] if "in fail" in entry]
            self.assertIn(os.path.join(self.root, "function.py"), entry)
            self.assertEqual(self.invoke("echo", value=1), b"1")

    def test_exit_in_the_handler(self):
        before = json.loads(self.invoke("describe"))["pid"]
        status, body = self.emulator.invoke({"do": "end"})
        self.assertEqual(status, 502)
        self.assertEqual(json.loads(body)["errorType"], "Runtime.ExitError")
        self.assertIn("exit status 7", json.loads(body)["errorMessage"])
        after = json.loads(self.invoke("describe"))["pid"]
        self.assertNotEqual(before, after)
        self.emulator.wait_for(lambda: "last words" in self.emulator.log, "lost what was printed")

    def test_printed_and_logged_lines(self):
        request_id = json.loads(self.invoke("log"))
        self.emulator.wait_for(lambda: f"END RequestId: {request_id}" in self.emulator.log, "no end of the invocation")
        log = self.emulator.log.partition(f"START RequestId: {request_id}")[2]
        self.assertIn("\nprinted é\n", log)
        self.assertRegex(log, rf"\n\[INFO\]\t\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z\t{request_id}\tlogged 世\n")

    def test_errors_are_logged(self):
        request_id = json.loads(self.invoke("fail"))["requestId"]
        log = self.emulator.log.partition(f"START RequestId: {request_id}")[2]
        self.assertIn("[ERROR] LookupError: nothing é here\rTraceback (most recent call last):\r", log)

    def test_client_context(self):
        client_context = {"custom": {"k": "é"}, "client": {"app_title": "shop"}}
        context = json.loads(self.invoke("describe", client_context=client_context))
        self.assertEqual((context["custom"], context["title"]), ({"k": "é"}, "shop"))
        self.assertIsNone(json.loads(self.invoke("describe"))["custom"])

    def test_context(self):
        status, body = self.emulator.invoke({"do": "describe"}, X_Amz_Tenant_Id="blue", X_Amzn_Trace_Id="Root=1-2-3")
        context = json.loads(body)
        self.assertEqual(context["tenant"], "blue")
        self.assertEqual(context["function"], "test_function")
        self.assertEqual(context["arn"], "arn:aws:lambda:us-east-1:012345678912:function:test_function")
        self.assertTrue(290_000 < context["time"] <= 300_000, context["time"])
        # The emulator sets no LAMBDA_TASK_ROOT: where it was started is the function's folder.
        self.assertEqual(context["folder"], os.path.realpath(self.root))
        self.assertEqual(context["handler"], "function.handler")

    def test_event_is_not_json(self):
        status, body = self.emulator.invoke(body=b"{")
        self.assertEqual(json.loads(body)["errorType"], "Runtime.UnmarshalError")
        self.assertEqual(self.invoke("echo", value=2), b"2")

    # The emulator gathers a stream and returns it whole.

    def test_stream(self):
        self.assertEqual(self.invoke("stream", chunks=["one ", "", "é", " three"]), "one é three".encode())

    def test_http_stream(self):
        metadata, nothing, body = self.invoke("http_stream", chunks=["data: 1\n\n", "data: 2\n\n"]).partition(b"\0" * 8)
        self.assertEqual(
            json.loads(metadata), {"statusCode": 201, "headers": {"Content-Type": "text/plain"}, "cookies": ["a=b"]}
        )
        self.assertEqual(nothing + body, b"\0" * 8 + b"data: 1\n\ndata: 2\n\n")

    def test_stream_of_5_MB(self):
        self.assertTrue(self.invoke("large_stream") == b"".join(bytes([n]) * 65536 for n in range(80)))

    def test_stream_that_fails_before_its_first_chunk(self):
        self.assertEqual(json.loads(self.invoke("broken_stream"))["errorMessage"], "never begun")
        self.assertEqual(self.invoke("stream", chunks=["fine"]), b"fine")

    def test_stream_that_fails_later(self):
        self.assertEqual(self.invoke("failing_stream"), b"begun ")  # the emulator drops the error
        self.assertEqual(self.invoke("stream", chunks=["fine"]), b"fine")

    def test_async(self):
        self.assertEqual(self.invoke("wait", value=3), b"[3]")
        self.assertEqual(self.invoke("echo", value=4), b"4")


class Start(unittest.TestCase):
    def test_handler_in_the_environment(self):
        environment = {"_HANDLER": "folder/module.handler"}
        with function(**{"folder/module": "handler = lambda event, context: [event, __name__]"}) as root:
            with Emulator(root, BOOTSTRAP, environment=environment) as emulator:
                self.assertEqual(emulator.invoke(5), (200, b'[5, "folder.module"]'))

    def fails(self, handler, error_type, message, **files):
        with function(**files) as root, Emulator(root, BOOTSTRAP, handler) as emulator:
            for _ in range(2):
                status, body = emulator.invoke()
                document = json.loads(body)
                self.assertEqual(document["errorType"], error_type)
                self.assertIn(message, document["errorMessage"])
            self.assertIn(f"[ERROR] {error_type}: {document['errorMessage']}", emulator.log)
            self.assertNotIn("\nTraceback", emulator.log)

    def test_missing_module(self):
        self.fails("missing.handler", "Runtime.ImportModuleError", "No module named 'missing'")

    def test_missing_function(self):
        self.fails(
            "function.missing", "Runtime.HandlerNotFound", "Handler 'missing' missing on module 'function'", function=""
        )

    def test_error_at_import(self):
        self.fails("function.handler", "ZeroDivisionError", "division by zero", function="1 / 0")


MEETING = """
    import asyncio
    import os
    import pathlib
    import signal
    import time

    # All invocations of a meeting are under way at the same time, or it fails.

    def come(event, context):
        pathlib.Path(event["folder"], context.aws_request_id).touch()
        return time.monotonic() + 20

    def complete(event, end):
        if time.monotonic() > end:
            raise TimeoutError(f"alone with {len(os.listdir(event['folder']))}")
        return len(os.listdir(event["folder"])) >= event["size"]

    def plain(event, context):
        if event == "exit":
            os._exit(3)
        if event == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        end = come(event, context)
        while not complete(event, end):
            time.sleep(0.01)
        return os.getpid()

    async def asynchronous(event, context):
        end = come(event, context)
        while not complete(event, end):
            await asyncio.sleep(0.01)
        return os.getpid()

    def fail(event, context):
        raise LookupError(event)

    def stream(event, context):
        yield {"statusCode": 200}
        yield from event
"""


@unittest.skipUnless(can_unshare(), "this machine gives no root or unshare: the emulator looks for /opt/bootstrap")
class ManagedInstances(unittest.TestCase):
    """AWS_LAMBDA_MAX_CONCURRENCY: so many invocations at once."""

    def start(self, handler, slots, **environment):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        root = stack.enter_context(function(function=MEETING))
        return stack.enter_context(Emulator(root, slots=slots, environment={"_HANDLER": handler, **environment}))

    def invoke(self, emulator, event):
        """The emulator refuses while no worker polls."""
        answer = []

        def answered():
            answer[:] = emulator.invoke(event)
            return b"Runtime.Unavailable" not in answer[1]

        emulator.wait_for(answered, "no worker")
        self.assertEqual(answer[0], 200, answer)
        return answer[1]

    def meet(self, emulator, slots):
        """The process ids of so many invocations that are under way at once."""
        with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(slots) as pool:
            os.chmod(folder, 0o777)
            event = {"folder": folder, "size": slots}
            return [json.loads(body) for body in pool.map(lambda _: self.invoke(emulator, event), range(slots))]

    def test_plain_invocations_in_a_process_each(self):
        pids = self.meet(self.start("function.plain", 5), 5)
        self.assertEqual(len(set(pids)), 5, pids)

    def test_async_invocations_in_a_process_for_each_processor(self):
        processors = count_processors()
        slots = 4 * processors + 1
        pids = self.meet(self.start("function.asynchronous", slots), slots)
        self.assertEqual(len(set(pids)), processors, pids)

    def test_a_worker_that_ended_is_replaced(self):
        emulator = self.start("function.plain", 3)
        before = self.meet(emulator, 3)
        for how in "exit", "kill":
            # The emulator does not see that a worker ended: the supervisor answers in its place.
            self.assertIn(b"Runtime.ExitError", self.invoke(emulator, how))
        after = self.meet(emulator, 3)
        self.assertEqual(len(set(before) & set(after)), 1, (before, after))
        self.assertEqual(len(set(after)), 3, after)

    def test_error(self):
        emulator = self.start("function.fail", 2)
        for n in range(4):
            document = json.loads(self.invoke(emulator, n))
            self.assertEqual((document["errorType"], document["errorMessage"]), ("LookupError", str(n)))

    def test_stream(self):
        emulator = self.start("function.stream", 2)
        self.assertEqual(self.invoke(emulator, ["a", "b"]), b'{"statusCode": 200}' + b"\0" * 8 + b"ab")
        self.assertEqual(emulator.headers["Lambda-Runtime-Function-Response-Mode"], "streaming")
        self.assertEqual(emulator.headers["Content-Type"], "application/vnd.awslambda.http-integration-response")

    def test_stream_that_fails_later(self):
        # In this mode the emulator reads the trailers.
        emulator = self.start("function.stream", 2)
        document = json.loads(self.invoke(emulator, ["a", 5]))
        self.assertEqual(document["errorType"], "Runtime.MarshalError")
        self.assertEqual(emulator.headers["Error-Type"], "Runtime.MarshalError")

    def test_init_error(self):
        emulator = self.start("function.missing", 3)
        emulator.invoke()
        self.assertEqual(emulator.headers["Error-Type"], "Runtime.HandlerNotFound")
        self.assertEqual(emulator.log.count("Handler 'missing' missing on module 'function'"), 1, emulator.log)


if __name__ == "__main__":
    unittest.main()
