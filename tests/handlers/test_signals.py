"""Exceptions that the function's signal handlers raise inside the runtime's own calls, and SIGPIPE."""

import re
import signal
import threading
import time
import unittest

from miniature import Fault, Lambda, function, keeps_connections, until, until_asleep

SOURCE = """
import os, signal, sys

def tick(signum, frame):
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # told() may send another, when Python's handlers are gone
    {deed}

signal.signal(signal.SIGUSR1, tick)

{kind}def handler(event, context):
    return event
"""
# With an errno, as the kernel's have, without one, one that looks like a lost connection, one like a socket that would
# block, and one that comes out of the runtime's own code, which is below print(). Each by how its log begins, a pattern.
DEEDS = {
    "FileNotFoundError": "os.remove('/does/not/exist')",
    "BrokenPipeError": "raise BrokenPipeError(32, 'Broken pipe')",
    "OSError: mine": "raise OSError('mine')",
    "BlockingIOError": "raise BlockingIOError(11, 'mine')",
    "OSError: .Errno 9": "os.close(2); print('ticks', file=sys.stderr)",
    "KeyError": "raise KeyError('mine')",
}


class Raised(unittest.TestCase):
    def told(self, aws, name):
        """The process ends, and says that it is for what the function has raised.

        Python sees a signal that comes just before a system call blocks only after it, so one may not be enough.
        And asyncio prepares to wait with calls of its own that expect a KeyError and swallow it, the function's as well.
        """
        until_asleep(aws.process.pid)
        deadline = time.monotonic() + 10
        with aws.condition:
            while aws.status is None and time.monotonic() < deadline:
                aws.signal(signal.SIGUSR1)
                aws.condition.wait_for(lambda: aws.status is not None, 0.1)
        self.assertEqual(aws.wait(), 1)
        self.assertRegex(aws.log, rf"\[ERROR\] {name}.*\r(?s:.*)in tick")
        self.assertNotIn("AWS_LAMBDA_RUNTIME_API", aws.stderr)

    def each(self):
        for kind in "", "async ":
            for name, deed in DEEDS.items():
                with self.subTest(name, kind=kind), function(function=SOURCE.format(kind=kind, deed=deed)) as root:
                    with Lambda(root) as aws:
                        yield aws, name

    def test_while_next_waits(self):
        for aws, name in self.each():
            self.assertEqual(aws.invoke(1).json, 1)
            aws.wait_for_next()
            self.told(aws, name)

    @keeps_connections
    def test_while_the_answer_to_a_response_is_awaited(self):
        """The response has been sent: it is not sent again."""
        for aws, name in self.each():
            hold = threading.Event()
            aws.answers("response", Fault(hold=hold))
            request_id = aws.send(1)
            aws.wait_for(lambda aws=aws: any(request.complete for request in aws.sent("response")))
            self.told(aws, name)
            hold.set()
            self.assertEqual([request.request_id for request in aws.sent("response")], [request_id])
            self.assertEqual(aws.connected, 1)

    def test_while_a_chunk_of_a_stream_is_sent(self):
        """It is in the log, and so is that the stream was cut off; nothing blames the API for it."""
        for name in "FileNotFoundError", "BlockingIOError":
            source = SOURCE.format(kind="", deed=DEEDS[name]).replace("return event", "yield bytes(event)")
            hold = threading.Event()
            with self.subTest(name), function(function=source) as root, Lambda(root) as aws:
                aws.answers("response", Fault(hold=hold, after=0))
                aws.send(1 << 26)
                aws.wait_for(lambda aws=aws: aws.sent("response"))
                until_asleep(aws.process.pid)
                aws.signal(signal.SIGUSR1)
                aws.wait_for(lambda aws=aws: "in tick" in aws.log)
                self.assertIn(f"[ERROR] {name}", aws.log)
                hold.set()
                self.assertEqual(len(aws.sent("response")), 1)

    def test_while_the_answer_to_a_stream_is_awaited(self):
        for name in "FileNotFoundError", "BlockingIOError":
            source = SOURCE.format(kind="", deed=DEEDS[name]).replace("return event", "yield event")
            hold = threading.Event()
            with self.subTest(name), function(function=source) as root, Lambda(root) as aws:
                aws.answers("response", Fault(hold=hold))
                aws.send("x")
                until(lambda aws=aws: any(request.complete for request in aws.sent("response")))
                self.told(aws, name)
                hold.set()
                self.assertEqual(len(aws.sent("response")), 1)

    def test_while_the_log_of_an_error_is_written(self):
        """The reader reads only when the signal has come, in the middle of the write: the event is answered."""
        source = """
        import fcntl, os, signal, sys, termios, threading
        ticked = threading.Event()
        def tick(signum, frame):
            signal.signal(signum, signal.SIG_IGN)
            ticked.set()
            os.remove("/does/not/exist")
        def read_late(pipe, log):
            size = fcntl.fcntl(pipe, 1032)  # F_GETPIPE_SZ
            while int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder) < size:
                ticked.wait(0.001)
            while not ticked.wait(0.01):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
            while True:
                os.write(log, os.read(pipe, 1 << 16))
        def handler(event, context):
            pipe, end = os.pipe()
            threading.Thread(target=read_late, args=(pipe, os.dup(1)), daemon=True).start()
            os.dup2(end, 1)
            signal.signal(signal.SIGUSR1, tick)
            raise ValueError("x" * 200_000)
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().kind, "error")
            self.assertIn("/does/not/exist", aws.stderr)


class SigPipe(unittest.TestCase):
    def test_the_api_hangs_up_on_a_function_that_has_set_it_to_its_default(self):
        source = """
        import signal
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        {kind}def handler(event, context):
            if isinstance(event, int):
                {way} "x" * event
            else:
                {way} event
        """
        for kind, way in ("", "return"), ("", "yield"), ("async ", "return"), ("async ", "yield"):
            with self.subTest(kind + way), function(function=source.format(kind=kind, way=way)) as root:
                with Lambda(root) as aws:
                    aws.answers("response", Fault(0, after=0), Fault(0, after=0))
                    aws.send(50_000_000)
                    if way == "return":  # the response is sent once more, and the API hangs up once more
                        aws.wait_for(lambda: aws.status is not None)
                        self.assertEqual(aws.status, 1)
                        self.assertRegex(aws.stderr, r"\Aruntime: AWS_LAMBDA_RUNTIME_API=.*\n\Z")
                    else:
                        aws.wait_for(lambda: len(aws.sent("next")) == 2)
                        self.assertTrue(re.search("was cut off", aws.stderr))


if __name__ == "__main__":
    unittest.main()
