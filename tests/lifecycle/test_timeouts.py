"""PYTHONFAULTHANDLER=1: where an invocation hangs is in the log before its deadline."""

import os
import re
import time
import unittest

from miniature import Lambda, function

FAULTHANDLER = {"PYTHONFAULTHANDLER": "1"}
SOON = 0.25  # seconds that an invocation has which is to hang
NO_DEADLINE = {"Lambda-Runtime-Deadline-Ms": None}
DUMP = r"(?m)^Timeout \((.*)\)!$"

# Comes back at the time that the event is.
SLEEP = """
import time

def handler(event, context):
    while time.time() < event:
        time.sleep(max(0, event - time.time()))
    if event < 0:
        raise ValueError
"""


def hang(aws, event={}):
    """Have an invocation taken whose deadline is soon."""
    aws.timeout = SOON
    request_id = aws.send(event)
    aws.wait_for(lambda: request_id in aws.delivered)
    aws.timeout = 60
    return request_id


def log(aws):
    """All that has been printed, as of one look: what a second one takes in would wake nobody who waits for it."""
    aws.drain()
    return b"".join([bytes(source.data) for source in aws.sources()]).decode()


def dumped(aws, *words):
    """Wait until all of the words are in the log, and give it."""
    aws.wait_for(lambda: all(word in log(aws) for word in words), what=f"not all of {words} are in the log")
    return log(aws)


class PlainHandler(unittest.TestCase):
    def test_the_stack_of_every_thread(self):
        source = """
            import threading

            def wait_for_the_database():
                threading.Event().wait()

            threading.Thread(target=wait_for_the_database, daemon=True).start()

            def ask_the_network():
                threading.Lock().acquire()
                read.acquire()  # line 11

            def handler(event, context):
                ask_the_network()

            read = threading.Lock()
            read.acquire()
        """
        with function(function=source) as root, Lambda(root, env=FAULTHANDLER) as aws:
            request_id = hang(aws)
            stderr = dumped(aws, "in wait_for_the_database", "in <module>")
            (after,) = re.findall(DUMP, stderr)
            hours, minutes, seconds = after.split(":")
            # From when the runtime had the event; the 0.1 s before the deadline are for the log to get out.
            self.assertTrue(0 < float(seconds) <= SOON - 0.1, after)
            # The stack of the main thread names the invocation where the runtime calls the handler.
            self.assertRegex(stderr, rf'"{root}/function.py", line 11 in ask_the_network\n.*in handler\n.* in .*{request_id}\n')
            self.assertNotIn(request_id, aws.posts)

    def test_a_stream(self):
        source = """
            import threading

            def ask_the_model():
                threading.Event().wait()

            def handler(event, context):
                yield "first"
                ask_the_model()
        """
        with function(function=source) as root, Lambda(root, env=FAULTHANDLER) as aws:
            request_id = hang(aws)
            self.assertEqual(aws.answer(request_id, whole=False).wait_chunks(1), [b"first"])
            stderr = dumped(aws, "in <module>")
            self.assertRegex(stderr, rf"in ask_the_model\n.*in handler\n(.*\n)*.* in .*{request_id}\n")

    def test_an_invocation_that_has_ended(self):
        """Its timer is cancelled. The last one has no deadline of its own, and outlasts those of the others."""
        with function(function=SLEEP) as root, Lambda(root, env=FAULTHANDLER) as aws:
            self.assertEqual(aws.answer(hang(aws, 0)).kind, "response")
            self.assertEqual(aws.answer(hang(aws, -1)).kind, "error")
            aws.invoke(time.time() + SOON, headers=NO_DEADLINE)
            self.assertEqual(aws.stderr, "")

    def test_deadlines_that_are_none(self):
        """Emulators send small numbers; the handler runs whatever comes."""
        source = "def handler(event, context): return context.get_remaining_time_in_millis()"
        with function(function=source) as root, Lambda(root, env=FAULTHANDLER) as aws:
            for value in None, "", "60", "soon", "-1", "9" * 15, "9" * 30:
                self.assertEqual(aws.invoke(headers={"Lambda-Runtime-Deadline-Ms": value}).kind, "response", value)
            self.assertEqual(aws.stderr, "")


class AsyncHandler(unittest.TestCase):
    WAITING = """
        import asyncio

        async def ask_the_network():
            await asyncio.get_running_loop().create_future()

        async def ask_twice():
            await asyncio.gather(ask_the_network(), ask_the_network())
    """

    def test_the_tasks_that_wait(self):
        """Each with the lines where it waits, from the handler down to the innermost."""
        for name, handler, words in (
            ("coroutine", """
        async def poll_the_queue():
            await asyncio.Event().wait()

        async def handler(event, context):
            global background
            background = asyncio.ensure_future(poll_the_queue())
            await ask_twice()
            """, ("in ask_twice", "in handler", "in poll_the_queue", "in ask_the_network")),
            ("stream", """
        async def handler(event, context):
            yield "first"
            await ask_the_network()
            """, ("in handler", "in ask_the_network")),
        ):
            with self.subTest(name), function(function=self.WAITING + handler) as root, Lambda(root, env=FAULTHANDLER) as aws:
                request_id = hang(aws)
                self.assertIn(f'"{root}/function.py"', dumped(aws, request_id, *words))

    def test_a_blocked_loop(self):
        source = """
            import threading

            def compute():
                threading.Event().wait()

            async def handler(event, context):
                compute()
        """
        with function(function=source) as root, Lambda(root, env=FAULTHANDLER) as aws:
            request_id = hang(aws)
            stderr = dumped(aws, "in <module>")
            self.assertRegex(stderr, rf"in compute\n.*in handler\n.* in answer\n.* in .*{request_id}\n")

    def test_several_slots(self):
        """Each that hangs is dumped once, whatever else comes and goes in the meantime."""
        source = self.WAITING + """
        async def handler(event, context):
            if event:
                await ask_the_network()
        """
        env = {**FAULTHANDLER, "AWS_LAMBDA_MAX_CONCURRENCY": "4"}
        affinity = os.sched_getaffinity(0)
        os.sched_setaffinity(0, sorted(affinity)[:1])  # all slots in one process
        try:
            with function(function=source) as root, Lambda(root, env=env, log_sockets=True) as aws:
                ids = []
                for hanging in 1, 2:
                    ids.append(hang(aws, True))
                    dumped(aws, ids[-1])
                    for _ in range(10):
                        aws.invoke(False)
                    # faulthandler's own thread is 20 ms later: it dumps too where the machine holds the loop up for so long.
                    late = len(re.findall(DUMP, log(aws)))
                    self.assertLessEqual(late, hanging)
                    self.assertEqual(log(aws).count("in <module>") - late, hanging)  # where the main thread's stack ends
                for request_id in ids:
                    self.assertEqual(log(aws).count(f"RequestId: {request_id} is about to time out"), 1)
        finally:
            os.sched_setaffinity(0, affinity)

    def test_an_invocation_that_has_ended(self):
        source = """
            import asyncio, time

            async def handler(event, context):
                await asyncio.sleep(event - time.time())
        """
        with function(function=source) as root, Lambda(root, env=FAULTHANDLER) as aws:
            aws.answer(hang(aws, 0))
            aws.invoke(time.time() + SOON, headers=NO_DEADLINE)
            self.assertEqual(aws.stderr, "")


class WithoutTheVariable(unittest.TestCase):
    NONE = {"PYTHONFAULTHANDLER": None, "PYTHONDEVMODE": None}  # Python's development mode sets faulthandler up as well

    def test_faulthandler_is_not_imported(self):
        source = "import sys\ndef handler(event, context): return 'faulthandler' in sys.modules"
        with function(function=source) as root:
            for env in self.NONE, {**self.NONE, "PYTHONFAULTHANDLER": ""}:
                with Lambda(root, env=env) as aws:
                    self.assertIs(aws.invoke().json, False)

    def test_the_functions_own_use_of_it(self):
        """A timer of the function's own outlives the invocation that has set it."""
        source = f"""
            import faulthandler

            def handler(event, context):
                if event:
                    faulthandler.dump_traceback_later({SOON}, file=2)
        """
        with function(function=source) as root, Lambda(root, env=self.NONE) as aws:
            aws.invoke(True)
            aws.invoke(False)
            (after,) = re.findall(DUMP, dumped(aws, "in <module>"))
            self.assertEqual(after, f"0:00:00.{int(SOON * 1e6)}")
