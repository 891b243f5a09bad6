"""Managed Instances, where Lambda does not end an invocation that is past its deadline: its slot comes back all the same."""

import re
import subprocess
import sys
import time
import unittest

from miniature import REPO, until, until_gone
from test_managed_instances import ASYNC, PLAIN, WAIT, delivered, managed, printed, processors, release

SOON = 0.3  # seconds that an invocation has which is to hang


def hang(aws, event, **options):
    """Have an invocation taken whose deadline is soon; its id."""
    aws.timeout = SOON
    request_id = aws.send(event, **options)
    delivered(aws, [request_id])
    aws.timeout = 60
    return request_id


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Deadlines(unittest.TestCase):
    def check(self, aws, request_id):
        """It is answered as timed out, in Lambda's words, and a line says so."""
        error = aws.answer(request_id).error
        message = f"RequestId: {request_id} Error: Task timed out after {SOON:.2f} seconds"
        # From when the worker has it, which on a busy machine is later.
        self.assertRegex(error["errorMessage"], re.escape(message).replace(r"0\.30", r"0\.(30|[12]\d)"))
        self.assertEqual((error["errorType"], error["stackTrace"]), ("Sandbox.Timedout", []))
        lines = [line for log in [aws.stderr, *aws.worker_logs] for line in log.splitlines() if "timed out" in line]
        self.assertEqual(lines, [f"runtime: {error['errorMessage']}"])


class PlainHandler(Deadlines):
    def test_the_worker_is_ended_and_replaced(self):
        for name, start in (
            ("no SIGTERM handler", ""),
            ("one that exits", "signal.signal(signal.SIGTERM, lambda *_: (print('ends:', os.getpid()), sys.exit()))"),
            ("one that lets it go on", "signal.signal(signal.SIGTERM, lambda *_: print('ends:', os.getpid()))"),
            ("one that raises", "def stop(*_): print('ends:', os.getpid()); raise ValueError\nsignal.signal(signal.SIGTERM, stop)"),
        ):
            with self.subTest(name), managed(start + PLAIN, 2) as aws:
                aws.wait_for_next(2)
                neighbour = aws.send(WAIT)
                delivered(aws, [neighbour])
                self.check(aws, hang(aws, WAIT))
                victims = {*printed(aws, "waits")} - ({*printed(aws, "ends")} if start else set())
                aws.wait_for_next(1)
                release(aws, 1)
                self.assertIn(aws.answer(neighbour).json, victims)
                aws.wait_for_next(2)
                self.assertEqual(len(printed(aws, "starts")), 3)
                self.assertEqual(len(printed(aws, "ends")), bool(start))

    def test_its_children_end_with_it(self):
        """Lambda ends all processes of a function that is past its deadline."""
        source = """
import subprocess

def handler(event, context):
    if not event:
        return os.getpid()
    # The shell's own child has outlived many a shell.
    shell = subprocess.Popen("sleep 60 & echo $!; wait", shell=True, stdout=subprocess.PIPE)
    print("child:", shell.pid)
    print("child:", int(shell.stdout.readline()))
    shell.wait()
"""
        with managed(source, 1) as aws:
            self.check(aws, hang(aws, WAIT))
            children = printed(aws, "child")
            self.assertEqual(len(children), 2)
            for pid in children:
                until(lambda pid=pid: not is_running(pid))

    def test_a_handler_that_answers_when_it_is_told_to_end(self):
        """Its answer goes out; the process ends all the same."""
        source = """
class Stop(BaseException):
    pass

def stop(*_):
    raise Stop
signal.signal(signal.SIGTERM, stop)

def handler(event, context):
    try:
        if event:
            wait()
    except Stop:
        return "half of it"
    return os.getpid()
"""
        with managed(source, 1) as aws:
            first = aws.invoke(None).json
            self.assertEqual(aws.answer(hang(aws, WAIT)).json, "half of it")
            self.assertNotEqual(aws.invoke(None).json, first)

    def test_deadlines_that_are_none(self):
        """Emulators send small numbers."""
        with managed(PLAIN, 1) as aws:
            ids = [aws.send(None, headers={"Lambda-Runtime-Deadline-Ms": value}) for value in (None, "60", "-1", "9" * 15, "9" * 30)]
            self.assertEqual(len({aws.answer(request_id).json for request_id in ids}), 1)

    def test_an_invocation_that_ends_in_time(self):
        source = """
import time

def handler(event, context):
    while context.get_remaining_time_in_millis() > event:
        time.sleep(0.001)
    return os.getpid()
"""
        with managed(source, 1) as aws:
            self.assertEqual(aws.answer(hang(aws, 100)).json, aws.answer(hang(aws, 100)).json)
            # Its deadline passes while the next one runs.
            self.assertEqual(aws.stderr, "")


class AsyncHandler(Deadlines):
    SOURCE = ASYNC + """
import time

async def hang(how):
    try:
        if how == "waits":
            await asyncio.Event().wait()
        elif how == "blocks":
            time.sleep(60)
        while how == "blocks again":
            try:
                time.sleep(60)
            except BaseException:
                print("goes on:", os.getpid())
        if how == "blocks for good":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
            time.sleep(60)
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
    finally:
        print("finally:", os.getpid())

usual = handler

async def handler(event, context):
    return await (hang(event) if isinstance(event, str) else usual(event, context))

async def stream(event, context):
    yield "first"
    await hang(event)
"""

    def test_it_is_cancelled(self):
        with processors(1), managed(self.SOURCE, 3) as aws:
            aws.wait_for_next(3)
            neighbour = aws.send(WAIT)
            delivered(aws, [neighbour])
            self.check(aws, hang(aws, "waits"))
            aws.wait_for_next(2)
            (pid,) = printed(aws, "starts")
            self.assertEqual(printed(aws, "finally"), [pid])
            release(aws, 1)
            self.assertEqual(aws.answer(neighbour).json, pid)

    def test_a_stream(self):
        with processors(1), managed(self.SOURCE, 2, handler="function.stream") as aws:
            request_id = hang(aws, "waits")
            self.check(aws, request_id)
            self.assertEqual(aws.posts[request_id].body, b"first")
            aws.wait_for_next(2)
            self.assertEqual(len(printed(aws, "starts")), 1)

    def test_one_that_goes_on(self):
        """It is abandoned, and its process ends when the others in it have."""
        with processors(1), managed(self.SOURCE, 3) as aws:
            aws.wait_for_next(3)
            neighbour = aws.send(WAIT)
            delivered(aws, [neighbour])
            self.check(aws, hang(aws, "ignores"))
            aws.wait_for_next(3)  # of another process
            release(aws, 1)
            first, second = printed(aws, "starts")
            self.assertEqual(aws.answer(neighbour).json, first)
            self.assertEqual(aws.invoke(None).json, second)
            aws.wait_for(lambda: printed(aws, "finally") == [first])
            until_gone(first)
            self.assertNotIn("ERROR", "".join(aws.worker_logs))

    def test_one_that_blocks_the_event_loop(self):
        with processors(1), managed(self.SOURCE, 3) as aws:
            aws.wait_for_next(3)
            neighbour = aws.send(WAIT)
            aws.wait_for(lambda: printed(aws, "waits"))
            self.check(aws, hang(aws, "blocks"))
            aws.wait_for_next(3)
            release(aws, 1)
            first, second = printed(aws, "starts")
            self.assertEqual(aws.answer(neighbour).json, first)
            self.assertEqual(aws.invoke(None).json, second)
            self.assertEqual(printed(aws, "finally"), [first])

    def test_one_that_nothing_interrupts(self):
        """Or that goes on each time; twice is enough."""
        for how in "blocks for good", "blocks again":
            with self.subTest(how), processors(1), managed(self.SOURCE, 3) as aws:
                aws.wait_for_next(3)
                neighbour = aws.send(WAIT)
                aws.wait_for(lambda aws=aws: printed(aws, "waits"))
                self.check(aws, hang(aws, how))
                self.assertEqual(aws.answer(neighbour).json["errorType"], "Runtime.ExitError")
                aws.wait_for_next(3)
                self.assertEqual(len(printed(aws, "starts")), 2)
                self.assertEqual(len(printed(aws, "goes on")), 2 if how == "blocks again" else 0)

    def test_one_whose_deadline_has_passed_when_it_is_taken(self):
        """Another has blocked the event loop since it came; it gets a moment."""
        late = {"Lambda-Runtime-Deadline-Ms": str(int((time.time() - 1) * 1000))}
        with processors(1), managed(self.SOURCE, 2) as aws:
            self.assertEqual(aws.invoke(None, headers=late).json, printed(aws, "starts")[0])
            for how in "waits", "blocks":
                error = aws.invoke(how, headers=late).error
                self.assertIn("Task timed out after 0.1", error["errorMessage"])

    def test_one_that_is_answered_while_the_supervisor_looks(self):
        """Between two looks of the supervisor at its state: the supervisor goes on. No process is asked, as it cannot be timed."""
        program = """
import runtime
board = runtime._Board(0, 1)
for state in range(5):
    board.mark(8, state)
    board.memory[board._SIGURG_STATE] = 1
    print(runtime._Supervisor("", None, 1).is_blocked(board, {8: 0.5}))
"""
        told = subprocess.run([sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, check=True).stdout.split()
        self.assertEqual(told, [b"False", b"True", b"False", b"False", b"False"])

    def test_several_deadlines(self):
        """In any order, each at its own time."""
        source = """
import asyncio, time

async def handler(event, context):
    began = time.time()
    try:
        await asyncio.sleep(60 if event else 0)
    finally:
        print("late:", int((time.time() - began) * 1000), event)
"""
        with processors(1), managed(source, 4) as aws:
            aws.wait_for_next(4)
            ids = []
            for seconds in 0.9, 0.3, 0.6:
                deadline = int((time.time() + seconds) * 1000)
                ids.append(aws.send(int(seconds * 1000), headers={"Lambda-Runtime-Deadline-Ms": str(deadline)}))
                aws.invoke(0)
            for request_id in ids:
                self.assertEqual(aws.answer(request_id).json["errorType"], "Sandbox.Timedout")
            late = re.findall("late: ([0-9]+) ([0-9]+)", "".join(aws.worker_logs))
            self.assertEqual([event for _, event in late if event != "0"], ["300", "600", "900"])


if __name__ == "__main__":
    unittest.main()
