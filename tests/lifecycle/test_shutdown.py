"""SIGTERM: a function that has its own handler for it gets the signal, and nobody else pays for that."""

import signal
import unittest

from miniature import Fault, Lambda, function, until_asleep

NAME = "python-runtime"

HANDLERS = {
    "plain handler": "def handler(event, context): return 'here'",
    "async handler": "async def handler(event, context): return 'here'",
}
SIGNAL_HANDLER = """
import atexit, signal, sys

def stop(signum, frame):
    print("stopping:", signum)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
atexit.register(print, "at exit")
"""
# asyncio's own: the callback runs on the loop, which for a plain handler nothing else runs.
LOOP_HANDLER = """
import asyncio, atexit, signal, sys

async def stop():
    await asyncio.sleep(0)
    print("stopping:", int(signal.SIGTERM))
    loop.call_soon(sys.exit, 0)

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.add_signal_handler(signal.SIGTERM, lambda: loop.create_task(stop()))
atexit.register(print, "at exit")
"""


class WhileNextWaits(unittest.TestCase):
    def test_the_handler_runs_and_then_atexit(self):
        for kind, handler in HANDLERS.items():
            for name, source in ("signal.signal", SIGNAL_HANDLER), ("add_signal_handler", LOOP_HANDLER):
                with self.subTest(kind, installed_by=name), function(function=source + handler) as root, Lambda(root) as aws:
                    self.assertEqual(aws.invoke().json, "here")
                    aws.wait_until_idle()
                    aws.signal(signal.SIGTERM)
                    self.assertEqual(aws.wait(), 0)
                    self.assertEqual(aws.log, f"stopping: {int(signal.SIGTERM)}\nat exit\n")
                    self.assertEqual(aws.stderr, "")

    def test_a_handler_that_returns(self):
        """The process goes on, with the same `next`."""
        by_signal = "import signal\nsignal.signal(signal.SIGTERM, lambda number, frame: print('signal'))\n"
        on_loop = LOOP_HANDLER.replace("lambda: loop.create_task(stop())", "print, 'signal'")
        for kind, source in ("plain handler", by_signal), ("async handler", by_signal), ("plain handler", on_loop):
            with self.subTest(kind, source=source), function(function=source + HANDLERS[kind]) as root, Lambda(root) as aws:
                aws.wait_until_idle()
                aws.signal(signal.SIGTERM)
                aws.wait_for(lambda: aws.log == "signal\n")
                self.assertEqual(aws.invoke().json, "here")
                aws.wait_until_idle()
                invoked = [request.kind for request in aws.requests if "extension" not in request.kind]
                self.assertEqual(invoked, ["next", "response", "next"])

    def test_a_loop_that_is_stopped(self):
        """`add_signal_handler(SIGTERM, loop.stop)` ends asyncio's programs."""
        source = """
            import asyncio, atexit, signal
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            loop.add_signal_handler(signal.SIGTERM, loop.stop)
            atexit.register(print, "at exit")

            async def handler(event, context):
                return "here"
        """
        with function(function=source) as root, Lambda(root) as aws:
            aws.wait_until_idle()
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)
            self.assertEqual(aws.log, "at exit\n")
            self.assertNotIn("Traceback", aws.stderr)


class WhileTheHandlerRuns(unittest.TestCase):
    PLAIN = """
        import signal, sys, time

        def handler(event, context):
            try:
                print("running")
                while not stopped:
                    time.sleep(60)  # comes back when the signal handler raises
                return "stopped"
            finally:
                print("finally")
    """

    def running(self, aws):
        request_id = aws.send()
        aws.wait_for(lambda: "running" in aws.log)
        until_asleep(aws.process.pid)
        return request_id

    def test_a_signal_handler_that_exits(self):
        source = self.PLAIN + "\n        stopped = False\n        signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))"
        with function(function=source) as root, Lambda(root) as aws:
            request_id = self.running(aws)
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.answer(request_id).json["errorType"], "SystemExit")
            self.assertEqual(aws.wait(), 4)
            self.assertIn("finally", aws.log)

    def test_a_signal_handler_that_sets_a_flag(self):
        source = """
            import os, signal
            read, write = os.pipe()
            signal.signal(signal.SIGTERM, lambda *_: os.write(write, b"x"))

            def handler(event, context):
                print("running")
                return os.read(read, 1).decode()
        """
        with function(function=source) as root, Lambda(root) as aws:
            request_id = self.running(aws)
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.answer(request_id).json, "x")
            aws.wait_until_idle()

    def test_on_the_event_loop(self):
        """An async handler sees the signal as asyncio shows it: at its `await`."""
        source = LOOP_HANDLER + """
async def handler(event, context):
    try:
        print("running")
        await asyncio.Event().wait()
    finally:
        print("finally")
"""
        with function(function=source) as root, Lambda(root) as aws:
            self.running(aws)
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)
            self.assertRegex(aws.log, rf"(?s)^running\nstopping: {int(signal.SIGTERM)}\n.*finally\n.*at exit\n$")


class CtrlC(unittest.TestCase):
    def setUp(self):
        # A shell without job control has what it starts in the background ignore the signal, and that is inherited.
        self.addCleanup(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))

    def test_while_next_waits(self):
        """As any program ends of it: quietly, with 128 and the signal's number."""
        for kind, handler in HANDLERS.items():
            with self.subTest(kind), function(function=handler) as root, Lambda(root) as aws:
                aws.wait_until_idle()
                aws.signal(signal.SIGINT)
                self.assertEqual((aws.wait(), aws.log, aws.stderr), (130, "", ""))


class Registration(unittest.TestCase):
    def test_before_the_first_next(self):
        with function(function=SIGNAL_HANDLER + HANDLERS["plain handler"]) as root, Lambda(root) as aws:
            aws.invoke()
            aws.wait_until_idle()
            aws.wait_for(lambda: len(aws.requests) == 5)
            self.assertEqual(aws.kinds[0], "extension/register")
            self.assertCountEqual(aws.kinds[1:], ["extension/event/next", "next", "response", "next"])
            (register,), (event,) = aws.sent("extension/register"), aws.sent("extension/event/next")
            self.assertEqual(register.headers["Lambda-Extension-Name"], NAME)
            self.assertEqual(register.json, {"events": []})
            self.assertEqual(register.status, 200)
            self.assertIn(event.headers["Lambda-Extension-Identifier"], aws.extensions)
            self.assertIsNone(event.status)  # it waits: Lambda never answers it, and it is not given up

    def test_before_the_snapshot(self):
        with function(function=SIGNAL_HANDLER + HANDLERS["plain handler"]) as root:
            with Lambda(root, env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}) as aws:
                aws.wait_for(lambda: len(aws.requests) == 3)
                aws.restore()
                self.assertEqual(aws.invoke().json, "here")
                self.assertEqual(aws.kinds[0], "extension/register")
                self.assertCountEqual(aws.kinds[1:3], ["extension/event/next", "restore/next"])
                aws.wait_until_idle()
                aws.signal(signal.SIGTERM)
                self.assertEqual(aws.wait(), 0)

    def test_refused_or_failing(self):
        """One warning; the function works, and its signal handler too, should a signal come."""
        no_identifier = Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        no_http = Fault(raw=b"220 mail.example.com ESMTP\r\n", close=True)
        for source, fault in (
            *((SIGNAL_HANDLER, fault) for fault in (302, 403, Fault(0), no_identifier, no_http)),
            (LOOP_HANDLER, 403),
        ):
            with self.subTest(fault), function(function=source + HANDLERS["plain handler"]) as root:
                with Lambda(root, start=False) as aws:
                    aws.answers("extension/register", fault)
                    aws.start()
                    self.assertEqual(aws.invoke().json, "here")
                    self.assertRegex(aws.stderr, r"^runtime: .*SIGTERM.*\n$")
                    self.assertEqual(aws.kinds[:2], ["extension/register", "next"])
                    aws.wait_until_idle()
                    aws.signal(signal.SIGTERM)
                    self.assertEqual(aws.wait(), 0)
                    self.assertIn("at exit", aws.log)

    def test_none_without_a_handler(self):
        source = """
            import signal, sys
            {}
            def handler(event, context): return "http.client" in sys.modules and "http" in sys.modules
        """
        for statement, survives in (
            ("pass", False),
            ("signal.signal(signal.SIGTERM, signal.SIG_DFL)", False),
            ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", True),
        ):
            with self.subTest(statement), function(function=source.format(statement)) as root, Lambda(root) as aws:
                self.assertFalse(aws.invoke().json)
                aws.wait_until_idle()
                self.assertEqual(aws.kinds, ["next", "response", "next"])
                aws.signal(signal.SIGTERM)
                if survives:
                    self.assertFalse(aws.invoke().json)
                else:
                    self.assertEqual(aws.wait(), -signal.SIGTERM)
