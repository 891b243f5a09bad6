"""Managed Instances: AWS_LAMBDA_MAX_CONCURRENCY=N, so many invocations at once, and an environment that stays up."""

import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import tempfile
import textwrap
import threading
import unittest

from miniature import (
    FUNCTION_PYTHON,
    FUNCTION_VERSION,
    REPO,
    Fault,
    Lambda,
    count_processors,
    function,
    head,
    keeps_connections,
    until,
    until_asleep,
    until_gone,
)

# What the functions here have in common. wait() comes back once the test has called release() for it.
START = """
import atexit, os, signal, sys

fifo = os.open(os.path.join(os.path.dirname(__file__), "fifo"), os.O_RDWR)

def wait():
    print("waits:", os.getpid())
    os.read(fifo, 1)

print("starts:", os.getpid())
"""
PLAIN = """
def handler(event, context):
    if event:
        wait()
    return os.getpid()
"""
ASYNC = """
import asyncio

async def handler(event, context):
    if event:
        await asyncio.to_thread(wait)
    return os.getpid()
"""
WAIT = {"wait": True}


@contextlib.contextmanager
def processors(limit):
    """Start processes on so many processors, or fewer if there are not so many; yield how many a function finds."""
    every = os.sched_getaffinity(0)
    some = sorted(every)[:limit]
    os.sched_setaffinity(0, some)
    try:
        yield count_processors()
    finally:
        os.sched_setaffinity(0, every)


@contextlib.contextmanager
def managed(source, slots, env=None, **options):
    options = {"log_sockets": True, **options}
    with function(function=START + source) as root:
        os.mkfifo(os.path.join(root, "fifo"))
        with Lambda(root, env={"AWS_LAMBDA_MAX_CONCURRENCY": str(slots), **(env or {})}, **options) as aws:
            yield aws


def release(aws, count):
    with open(os.path.join(aws.task_root, "fifo"), "wb", 0) as fifo:
        fifo.write(b"x" * count)


def delivered(aws, ids):
    aws.wait_for(lambda: aws.delivered.keys() >= {*ids}, what="not all events are taken")


def at_once(aws, count):
    """The answers to so many invocations, of which none ends before all have begun."""
    ids = [aws.send(WAIT) for _ in range(count)]
    delivered(aws, ids)
    release(aws, count)
    return [aws.answer(request_id).json for request_id in ids]


def printed(aws, word):
    """The process ids behind `word`, in the order of the workers' starts."""
    return [int(pid) for pid in re.findall(rf"(?m)^{word}: ([0-9]+)$", "\n".join(aws.worker_logs))]


def nothing_left(aws):
    """Wait until no process holds an end of what the environment writes its output to."""
    def ended():
        aws.drain()
        return not any(source.open for source in aws.sources())

    aws.wait_for(ended, what="a process is left behind")


class PlainHandler(unittest.TestCase):
    def test_a_process_for_each_slot(self):
        source = PLAIN + 'print("error:", os.getpid(), file=sys.stderr)'
        with managed(source, 3) as aws:
            aws.wait_for_next(3)
            pids = at_once(aws, 3)
            self.assertEqual(len({*pids}), 3)
            self.assertNotIn(aws.process.pid, pids)
            # Its output goes to connections of its own, one for stdout and one for stderr.
            outputs = [f"starts: {pid}\nwaits: {pid}\n" for pid in pids] + [f"error: {pid}\n" for pid in pids]
            self.assertCountEqual(aws.worker_logs, outputs)
            self.assertEqual((aws.log, aws.stderr), ("", ""))

    def test_without_the_provider_socket(self):
        with managed(PLAIN, 2, log_sockets=False) as aws:
            aws.wait_for_next(2)
            self.assertEqual(aws.log.count("starts: "), 2)

    def test_a_process_takes_no_event_while_it_has_one(self):
        with managed(PLAIN, 2) as aws:
            aws.wait_for_next(2)
            first = [aws.send(WAIT) for _ in range(2)]
            delivered(aws, first)
            last = aws.send()
            self.assertEqual(aws.polling, 0)
            release(aws, 1)
            self.assertIn(aws.answer(last).json, printed(aws, "starts"))
            release(aws, 1)
            self.assertEqual(len({aws.answer(request_id).json for request_id in first}), 2)

    def test_the_trace_id_is_in_the_environment(self):
        source = """
def handler(event, context):
    wait()
    return context.trace_id, os.environ.get("_X_AMZN_TRACE_ID")
"""
        with managed(source, 2) as aws:
            ids = [aws.send(headers={"Lambda-Runtime-Trace-Id": f"Root={n}"}) for n in range(2)]
            delivered(aws, ids)
            release(aws, 2)
            self.assertEqual([aws.answer(id_).json for id_ in ids], [["Root=0"] * 2, ["Root=1"] * 2])


class AsyncHandler(unittest.TestCase):
    def test_a_process_for_each_processor(self):
        with processors(2) as count, managed(ASYNC, 5) as aws:
            aws.wait_for_next(5)
            pids = at_once(aws, 5)
            self.assertNotIn(aws.process.pid, pids)
            self.assertEqual(sorted(collections.Counter(pids).values()), [2, 3] if count == 2 else [5])
            aws.wait_for_next(5)
            self.assertEqual(len(aws.worker_logs), 2 * count)

    def test_no_more_processes_than_slots(self):
        with processors(2), managed(ASYNC, 1) as aws:
            aws.invoke()
            aws.wait_for_next(1)
            self.assertEqual(len(printed(aws, "starts")), 1)

    def test_the_trace_id_is_in_the_environment_of_a_process_that_is_not_shared(self):
        source = """
import asyncio

async def handler(event, context):
    await asyncio.to_thread(wait)
    return context.trace_id, os.environ.get("_X_AMZN_TRACE_ID")
"""
        for slots in 1, 3:
            with self.subTest(slots), processors(1), managed(source, slots) as aws:
                traces = [f"Root={n}" for n in range(slots)]
                ids = [aws.send(headers={"Lambda-Runtime-Trace-Id": trace}) for trace in traces]
                delivered(aws, ids)
                release(aws, slots)
                answers = [aws.answer(request_id).json for request_id in ids]
                self.assertEqual(answers, [[trace, trace if slots == 1 else None] for trace in traces])

    def test_streams_at_once(self):
        source = """
import asyncio

async def handler(event, context):
    yield context.aws_request_id
    await asyncio.to_thread(wait)
    yield context.aws_request_id
"""
        with processors(1), managed(source, 3) as aws:
            ids = [aws.send() for _ in range(3)]
            answers = [aws.answer(request_id, whole=False) for request_id in ids]
            for request_id, answer in zip(ids, answers):
                self.assertEqual(answer.wait_chunks(1), [request_id.encode()])
            release(aws, 3)
            for request_id, answer in zip(ids, answers):
                self.assertEqual(answer.wait().body, 2 * request_id.encode())


class Count(unittest.TestCase):
    """For async handlers: a process for each processor that the environment may use."""

    def count(self, membership, files):
        with function(**{"membership": membership, **{f"root/{name}": text for name, text in files.items()}}) as folder:
            return count_processors(f"{folder}/membership.py", f"{folder}/root")

    def test_the_quota_of_the_control_group(self):
        free, one = "max 100000\n", "100000 100000\n"
        with processors(2):
            most = len(os.sched_getaffinity(0))
            for membership, files, expected in (
                ("0::/\n", {"cpu.max": free}, most),
                ("0::/\n", {"cpu.max": one}, 1),
                ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
                ("0::/\n", {"cpu.max": "100001 100000\n"}, most),
                ("0::/\n", {"cpu.max": "900000 100000\n"}, most),
                ("0::/a/b\n", {"a/b/cpu.max": free, "a/cpu.max": one}, 1),  # the narrowest of all above it
                ("0::/a/b\n", {"cpu.max": one}, 1),  # a path that is not visible in here
                ("4:cpu,cpuacct:/a\n0::/\n", {"cpu/a/cpu.cfs_quota_us": "100000\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 1),
                ("4:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, most),
                ("3:cpuset:/\n", {"cpu.max": one}, most),
                ("0::/\n", {"cpu.max": "0 0\n"}, most),
                ("", {}, most),
            ):
                with self.subTest(membership, files=files):
                    self.assertEqual(self.count(membership, files), expected)

    def test_a_variable_that_is_no_number(self):
        for value in "many", "0", "-1", "1.5", " ":
            with self.subTest(value), managed(PLAIN, value) as aws:
                self.assertEqual(aws.wait(), 1)
                self.assertEqual(aws.init_error.error_type, "Runtime.InvalidConcurrency")
                self.assertIn(f"AWS_LAMBDA_MAX_CONCURRENCY is {value!r}", aws.init_error.json["errorMessage"])
                self.assertEqual((aws.log.count("\n"), aws.stderr), (1, ""))
        with managed(PLAIN, "") as aws:
            self.assertEqual(aws.invoke(None).json, aws.process.pid)


class Log(unittest.TestCase):
    def test_the_start_of_the_pool(self):
        """A record of awslambdaric's, at the level DEBUG."""
        words = {"event": "runtime_worker_pool_initializing", "workerCount": 2, "executionEnvironmentMaxConcurrency": 2}
        for level, form, count in ("DEBUG", "Text", 1), ("TRACE", "JSON", 1), ("INFO", "JSON", 0):
            env = {"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": form}
            with self.subTest(level), managed(PLAIN, 2, env=env) as aws:
                aws.wait_for_next(2)
                aws.wait_for(lambda count=count: aws.log.count("\n") >= count)
                if form == "Text":
                    self.assertRegex(aws.log, rf"^\[DEBUG\]\t[-0-9T:.]+Z\t\t{re.escape(str(words))}\n\n?$")
                else:
                    self.assertEqual([json.loads(line)["message"] for line in aws.log.splitlines()], [words] * count)

    def test_in_a_frame(self):
        """The parent's record, where Lambda gave a descriptor for frames; the workers write none, as under awslambdaric."""
        with managed(PLAIN.replace("wait()", "1 / 0"), 2, env={"AWS_LAMBDA_LOG_LEVEL": "DEBUG"}, telemetry=True) as aws:
            aws.wait_for_next(2)
            aws.wait_for(lambda: aws.frames)
            self.assertEqual(aws.invoke(WAIT).kind, "error")
            ((kind, _, text),) = aws.frames
            self.assertEqual((kind, "runtime_worker_pool_initializing" in text, aws.log), (0xA55A000B, True, ""))
            self.assertEqual("".join(aws.worker_logs).count("[ERROR]"), 1)

    def test_the_provider_does_not_accept(self):
        with socket.socket(socket.AF_UNIX) as listener, tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            path = f"{folder}/full"
            listener.bind(path)
            listener.listen(0)
            for _ in range(10):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                if client.connect_ex(path):
                    break
            env = {"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": path}
            with managed(PLAIN, 1, env=env, log_sockets=False) as aws:
                aws.invoke(None)
                self.assertIn(f"runtime: _LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET={path}: Resource temporarily unavailable\n", aws.stderr)

    @unittest.skipIf(FUNCTION_VERSION < (3, 14), "this Python's threads inherit no context: 3.14's do")
    def test_the_id_in_threads_that_inherit_a_context(self):
        source = """
import concurrent.futures, logging

pool = concurrent.futures.ThreadPoolExecutor(1)  # whose thread starts in the first invocation
logging.getLogger().setLevel("INFO")

def handler(event, context):
    pool.submit(logging.info, context.aws_request_id).result()
"""
        env = {"PYTHON_THREAD_INHERIT_CONTEXT": "1", "AWS_LAMBDA_LOG_FORMAT": "JSON"}
        for slots in 1, None:
            with self.subTest(slots), managed(source, slots or "", env=env) as aws:
                ids = [aws.send() for _ in range(3)]
                for request_id in ids:
                    aws.answer(request_id)
                lines = [line for log in [aws.log, *aws.worker_logs] for line in log.splitlines() if line.startswith("{")]
                lines = [json.loads(line) for line in lines]
                self.assertEqual([(line["message"], line["requestId"]) for line in lines], [(id_, id_) for id_ in ids])


class Ids(unittest.TestCase):
    SOURCE = """
import asyncio, logging, threading

logger = logging.getLogger("function")
logger.setLevel("INFO")
waiting = []

async def say(request_id):
    logger.info(request_id)
    await asyncio.sleep(0)
    logger.info(request_id)

async def handler(event, context):
    request_id = context.aws_request_id
    logger.info(request_id)
    if waiting:
        waiting.pop().set()
    else:  # for an invocation that runs at the same time, so that the lines of the two are mixed
        other = asyncio.Event()
        waiting.append(other)
        await other.wait()
    logger.info(request_id)
    await asyncio.gather(say(request_id), say(request_id))
    await asyncio.to_thread(logger.info, request_id)
    if event:
        thread = threading.Thread(target=logger.info, args=(None,))
        thread.start()
        thread.join()
"""

    def test_a_thousand_interleaved_invocations(self):
        with processors(1), managed(self.SOURCE, 16, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as aws:
            ids = [aws.send(number % 10 == 0) for number in range(1000)]
            for request_id in ids:
                self.assertEqual(aws.answer(request_id, timeout=30).kind, "response")
            lines = [json.loads(line) for log in aws.worker_logs for line in log.splitlines() if line.startswith("{")]
            lines = [line for line in lines if line["logger"] == "function"]
            own = [line for line in lines if line["message"] != "None"]
            self.assertEqual([line for line in own if line["requestId"] != line["message"]], [])
            self.assertEqual(collections.Counter(line["message"] for line in own), dict.fromkeys(ids, 7))
            mixed = sum(before["message"] != after["message"] for before, after in zip(own, own[1:]))
            self.assertGreater(mixed, 1000)
            # A thread that Python starts without a context has no id rather than anyone's.
            bare = [line.get("requestId") for line in lines if line["message"] == "None"]
            self.assertEqual(len(bare), 100)
            self.assertFalse({*bare} - {"", *ids})


class InitError(unittest.TestCase):
    def test_it_is_reported_once(self):
        for source, handler, error_type in (
            ("raise ValueError('no')", "function.handler", "ValueError"),
            ("def handler(event, context): pass", "function.other", "Runtime.HandlerNotFound"),
            ("async def handler(event, context): pass", "missing.handler", "Runtime.ImportModuleError"),
        ):
            with self.subTest(error_type), managed(source, 4, handler=handler) as aws:
                self.assertEqual(aws.wait(), 1)
                nothing_left(aws)
                self.assertEqual([request.kind for request in aws.requests], ["init/error"])
                self.assertEqual(aws.init_error.error_type, error_type)
                self.assertEqual("".join(aws.worker_logs).count("[ERROR]"), 1)
                self.assertEqual((aws.log, aws.stderr), ("", ""))

    def test_in_another_worker_than_the_first(self):
        source = 'os.mkdir(os.path.join(os.path.dirname(__file__), "only-once"))' + PLAIN
        with managed(source, 3) as aws:
            self.assertEqual(aws.wait(), 1)
            nothing_left(aws)
            self.assertEqual([request.error_type for request in aws.sent("init/error") if request.status == 202], ["FileExistsError"])

    def test_a_process_that_ends_without_a_word(self):
        for statement, status in ("os._exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", None), ("sys.exit(0)", None):
            with self.subTest(statement), managed(statement, 2) as aws:
                self.assertEqual(aws.wait() or "nothing wrong", status or aws.status)
                nothing_left(aws)
                self.assertEqual(len(printed(aws, "starts")), 1)
                killed = "runtime: a worker was ended by signal 9 (killed)\n" if "KILL" in statement else ""
                self.assertEqual((aws.log, aws.stderr), ("", killed))


class Death(unittest.TestCase):
    def test_a_killed_worker_is_replaced(self):
        with managed(PLAIN, 3) as aws:
            aws.wait_for_next(3)
            killed, spared = aws.send(WAIT), aws.send(WAIT)
            aws.wait_for(lambda: len(printed(aws, "waits")) == 2)
            victim = printed(aws, "waits")[0]
            os.kill(victim, signal.SIGKILL)
            aws.wait_for_next(2)
            starts = printed(aws, "starts")
            self.assertEqual(len(starts), 4)
            release(aws, 1)
            aws.wait_for_next(3)
            # Its invocation is answered in its place, in Lambda's words.
            answers = {answer.kind: answer for answer in (aws.answer(killed), aws.answer(spared))}
            self.assertIn(answers["response"].json, {*starts} - {victim})
            error = answers["error"].json
            lost = f"RequestId: {answers['error'].request_id} Error: Runtime exited with error: signal: killed"
            self.assertEqual((error["errorType"], error["errorMessage"]), ("Runtime.ExitError", lost))
            self.assertCountEqual(at_once(aws, 3), {*starts} - {victim})
            self.assertEqual(len(aws.worker_logs), 8)
            self.assertEqual(aws.stderr, f"runtime: a worker was ended by signal 9 (killed)\nruntime: {lost}\n")

    def test_nothing_stays_open_for_one_that_has_been_replaced(self):
        """A descriptor for each would end an environment that lives for weeks."""
        def opened(pid):
            """Pipes and sockets of a process, beyond stdin, stdout and stderr."""
            links = []
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                    links += [os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0]] if int(fd) > 2 else []
            return links.count("pipe"), links.count("socket")

        with managed(PLAIN, 3) as aws:
            aws.wait_for_next(3)
            for replaced in range(1, 4):
                os.kill(printed(aws, "starts")[-1], signal.SIGKILL)
                aws.wait_for(lambda: len(printed(aws, "starts")) == 3 + replaced)
                aws.wait_for_next(3)
            until(lambda: opened(aws.process.pid) == (0, 0), "the supervisor has something open")
            self.assertEqual(opened(printed(aws, "starts")[0]), (0, 1), "the Runtime API, and nothing else")
            self.assertEqual(opened(printed(aws, "starts")[-1]), (0, 1))

    def test_one_that_leaves_a_child_behind(self):
        """The child has what the worker had open, and lives on: the worker is replaced all the same."""
        source = """
if not os.fork():
    os.read(fifo, 1)
    os._exit(0)
""" + PLAIN
        with managed(source, 1) as aws:
            aws.wait_for_next(1)
            victim = aws.invoke().json
            aws.wait_for_next(1)
            os.kill(victim, signal.SIGKILL)
            aws.wait_for(lambda: len(aws.sent("next")) == 3)
            aws.wait_for_next(1)  # the worker's connection is not open any more: an event for it would be lost
            self.assertNotEqual(aws.invoke().json, victim)
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)

    def test_an_async_one_with_all_its_slots(self):
        with processors(2) as count, managed(ASYNC, 4) as aws:
            aws.wait_for_next(4)
            victim = aws.invoke().json
            aws.wait_for_next(4)
            os.kill(victim, signal.SIGKILL)
            aws.wait_for(lambda: len(printed(aws, "starts")) == count + 1)
            aws.wait_for_next(4)
            shares = collections.Counter(at_once(aws, 4))
            self.assertNotIn(victim, shares)
            self.assertEqual([*shares.values()], [4 // count] * count)

    def test_a_handler_that_exits_again_and_again(self):
        """Each of its invocations is answered: no reason to give up, whatever the status and however young the process."""
        source = PLAIN.replace("wait()", "sys.exit(1)")
        with managed(source, 2) as aws:
            for _ in range(8):
                self.assertEqual(aws.invoke(WAIT).json["errorType"], "SystemExit")
            self.assertIn(aws.invoke().json, printed(aws, "starts"))
            aws.wait_for_next(2)

    def test_a_handler_that_exits_and_takes_its_time(self):
        """Its slot does not wait for its atexit functions, an error tracker's for instance."""
        source = PLAIN.replace("wait()", "atexit.register(wait); sys.exit(1)")
        with managed(source, 1) as aws:
            first = aws.invoke().json
            self.assertEqual(aws.invoke(WAIT).json["errorType"], "SystemExit")
            self.assertNotEqual(aws.invoke().json, first)
            release(aws, 1)
            until_gone(first)
            self.assertEqual(len(printed(aws, "starts")), 2)

    def test_a_worker_that_cannot_be_replaced(self):
        """Where every new process dies in its import, the environment gives up rather than start them for ever."""
        source = """
broken = os.path.join(os.path.dirname(__file__), "broken")
if os.path.exists(broken):
    os.kill(os.getpid(), signal.SIGKILL)

def handler(event, context):
    open(broken, "w").close()
    os._exit(9)
"""
        with managed(source, 2) as aws:
            aws.wait_for_next(2)
            aws.send()
            self.assertNotEqual(aws.wait(), 0)
            nothing_left(aws)
            self.assertLess(len(printed(aws, "starts")), 20)

    def test_no_process_can_be_started(self):
        """The log says so, and does not blame the Runtime API."""
        script = f"""
            import functools, os, sys
            sys.path.insert(0, {str(REPO)!r})
            import runtime

            def fork_once(fork=os.fork):
                os.fork = functools.partial(os.open, "no more", 0)  # which fails without a frame of Python's, as fork() does
                return fork()

            os.fork = fork_once
            runtime.run(lambda event, context: None)
        """
        with managed("", 2, command=[FUNCTION_PYTHON, "script.py"], start=False) as aws:
            pathlib.Path(aws.task_root, "script.py").write_text(textwrap.dedent(script))
            aws.start()
            self.assertEqual(aws.wait(), 1)
            self.assertRegex(aws.log, r"\A\[ERROR\] FileNotFoundError: .*no more.*\n\Z")
            self.assertEqual(aws.stderr, "")

    def test_there_is_no_api(self):
        """The first worker says so, and the parent starts no other."""
        with managed(PLAIN, 4, env={"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1"}) as aws:
            self.assertEqual(aws.wait(), 1)
            said = "".join(aws.worker_logs + [aws.stderr])
            self.assertRegex(said, r"\Aruntime: AWS_LAMBDA_RUNTIME_API=127\.0\.0\.1:1: cannot connect: .*\n\Z")

    def test_the_api_is_gone(self):
        """A line from each process that notices, no traceback, and the parent ends."""
        with processors(1), managed(ASYNC, 4) as aws:
            aws.wait_for_next(4)
            aws.answers("next", *[500] * 1000)
            self.assertEqual(aws.wait(), 1)
            nothing_left(aws)
            self.assertLess(len(printed(aws, "starts")), 20)
            errors = "".join(aws.worker_logs + [aws.stderr])
            self.assertIn("AWS_LAMBDA_RUNTIME_API", errors)
            self.assertEqual(re.sub("(?m)^(starts|runtime): .*\n", "", errors), "")


class Neighbours(unittest.TestCase):
    """The Runtime API fails one of several invocations in a process; the others are answered as if nothing had happened."""

    SOURCE = ASYNC + """
async def stream(event, context):
    yield b"first"
    yield str(await usual(event, context)).encode()

usual = handler

async def handler(event, context):
    return stream(event, context) if event == "stream" else await usual(event, context)
"""

    EXIT = ASYNC.replace("if event:", "if event == 'exit':\n        sys.exit(3)\n    if event:")

    @keeps_connections
    def test_a_post_that_fails(self):
        broken = Fault(raw=b"HTTP/1.1 nonsense\r\n\r\n", close=True)
        with processors(1), managed(self.SOURCE, 3) as aws:
            aws.wait_for_next(3)
            # A post without an answer is sent once more, a stream is not.
            for event, *faults in ((WAIT, 500), ("stream", 503), (WAIT, broken), (WAIT, Fault(0), Fault(0)), ("stream", Fault(0))):
                with self.subTest(event=event, faults=faults):
                    aws.answers("response", *faults)
                    failed = aws.send(event)
                    delivered(aws, [failed])
                    release(aws, 1)
                    aws.wait_for(lambda: not aws.faults["response"])
                    neighbours = [aws.send(WAIT), aws.send("stream")]
                    delivered(aws, neighbours)
                    aws.wait_for_next(1)
                    release(aws, 2)
                    (pid,) = printed(aws, "starts")
                    self.assertEqual(aws.answer(neighbours[0]).json, pid)
                    self.assertEqual(aws.answer(neighbours[1]).body, b"first%d" % pid)
            notes = re.findall("(?m)^runtime: .*", "".join(aws.worker_logs))
            self.assertEqual(len(notes), 5, notes)
            self.assertEqual(sum(note.startswith("runtime: Runtime API: ") for note in notes), 4, notes)  # the cut stream has its own
            aws.wait_for_next(3)

    def test_a_next_that_fails_for_a_while(self):
        with processors(1), managed(ASYNC, 3) as aws:
            aws.wait_for_next(3)
            neighbour = aws.send(WAIT)
            delivered(aws, [neighbour])
            aws.answers("next", 500, Fault(0), 503)
            aws.wait_for(lambda: not aws.faults["next"])
            aws.wait_for_next(2)
            release(aws, 1)
            (pid,) = printed(aws, "starts")
            self.assertEqual([aws.answer(neighbour).json, *at_once(aws, 3)], [pid] * 4)
            notes = re.findall("(?m)^runtime: Runtime API: .*; next is asked again$", "".join(aws.worker_logs))
            self.assertRegex("\n".join(notes), "GET next was answered 500 .*, not 200 and a request id;")

    def test_a_next_that_fails(self):
        """Five times in all; then the process ends, and the invocations in it end first."""
        with processors(1), managed(ASYNC, 2) as aws:
            aws.wait_for_next(2)
            neighbour = aws.send(WAIT)
            delivered(aws, [neighbour])
            aws.wait_for(lambda: printed(aws, "waits"))
            aws.answers("next", *[500] * 5)
            aws.wait_for(lambda: not aws.faults["next"])
            self.assertEqual(aws.polling, 0)
            release(aws, 1)
            first = aws.answer(neighbour).json
            aws.wait_for_next(2)
            self.assertEqual(aws.stderr, "")
            starts = printed(aws, "starts")
            self.assertEqual((len(starts), starts[0]), (2, first))
            self.assertEqual(at_once(aws, 2), [starts[1]] * 2)
            self.assertEqual([request.status for request in aws.sent("next")].count(500), 5)

    def test_a_handler_that_exits(self):
        with processors(1), managed(self.EXIT, 3) as aws:
            aws.wait_for_next(3)
            neighbour = aws.send(WAIT)
            aws.wait_for(lambda: printed(aws, "waits"))
            self.assertEqual(aws.invoke("exit").json["errorType"], "SystemExit")
            aws.wait_for_next(3)  # of the one in its place
            release(aws, 1)
            first, second = printed(aws, "starts")
            self.assertEqual(aws.answer(neighbour).json, first)
            self.assertEqual(aws.invoke(None).json, second)
            self.assertEqual(aws.stderr, "")

    def test_a_handler_that_exits_beside_one_that_takes_long(self):
        """It has all the time it wants. A next that the Runtime API does not let go of has a second."""
        def wire(fields, body):
            sent.set()
            go_on.wait(30)
            yield b""

        sent, go_on = threading.Event(), threading.Event()
        self.addCleanup(go_on.set)
        source = self.EXIT.replace("await asyncio.to_thread(wait)", "print('waits:', os.getpid())\n        await asyncio.sleep(1.5)")
        with processors(1), managed(source, 3) as aws:
            aws.wait_for_next(3)
            aws.send(wire=wire)
            self.assertTrue(sent.wait(30))
            neighbour = aws.send(WAIT)
            aws.wait_for(lambda: printed(aws, "waits"))
            self.assertEqual(aws.invoke("exit").json["errorType"], "SystemExit")
            first = printed(aws, "starts")[0]
            self.assertEqual(aws.answer(neighbour).json, first)
            until_gone(first)
            go_on.set()

    def test_a_handler_that_exits_while_an_event_is_on_its_way(self):
        """Nothing of it has come yet, but Lambda has given it to this process."""
        def wire(fields, body):
            sent.release()
            go_on.wait(30)
            yield head(200, {**fields, "Content-Length": len(body)}) + body

        source = self.EXIT + "\nasync def stream(event, context):\n    yield str(await handler(event, context))\n"
        for handler in "handler", "stream":
            sent, go_on = threading.Semaphore(0), threading.Event()
            with self.subTest(handler), processors(1), managed(source, 3, handler=f"function.{handler}") as aws:
                aws.wait_for_next(3)
                request_id = aws.send(wire=wire)
                self.assertTrue(sent.acquire(timeout=30))
                exits = aws.invoke("exit")
                self.assertEqual(exits.error["errorType"], "SystemExit")
                aws.wait_for(lambda aws=aws: len(printed(aws, "starts")) == 2)  # the process knows that it ends
                go_on.set()
                self.assertEqual(aws.answer(request_id).json, printed(aws, "starts")[0])
                until_gone(printed(aws, "starts")[0])
                aws.wait_for_next(3)
                self.assertEqual(aws.stderr, "")

    def test_a_handler_that_exits_while_an_event_comes_in_parts(self):
        """Lambda has given the event to this process: who begins to receive it answers it. Who gets none does not ask again."""
        def wire(fields, body):
            data = head(200, {**fields, "Content-Length": len(body)}) + body
            at = data.index(b"Deadline") if body == b"false" else len(data) - 1  # in the head, or in the body
            if body == b"0":
                data, at = head(204, {}), 12
            yield data[:at]
            sent.release()
            go_on.wait(30)
            yield data[at:]

        sent, go_on = threading.Semaphore(0), threading.Event()
        with processors(1), managed(self.EXIT, 5) as aws:
            aws.invoke()  # from now on the process knows the heads of the usual form
            aws.wait_for_next(5)
            ids = [aws.send(event, wire=wire) for event in (False, {}, 0)]
            self.assertTrue(all(sent.acquire(timeout=30) for _ in ids))
            aws.invoke()  # the event loop has come round: the parts are out of the sockets
            self.assertEqual(aws.invoke("exit").json["errorType"], "SystemExit")
            aws.wait_for_next(5)  # of the one in its place
            go_on.set()
            answers = [aws.answer(request_id).json for request_id in ids[:2]]
            self.assertEqual(answers, printed(aws, "starts")[:1] * 2)
            until_gone(answers[0])
            self.assertEqual(aws.stderr, "")


class Shutdown(unittest.TestCase):
    OWN = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
atexit.register(lambda: print("ends:", os.getpid()))
"""
    ON_LOOP = """
import asyncio
loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
loop.add_signal_handler(signal.SIGTERM, sys.exit, 0)
atexit.register(lambda: print("ends:", os.getpid()))
"""

    def end(self, aws):
        for pid in aws.process.pid, *printed(aws, "starts"):
            if os.path.exists(f"/proc/{pid}"):
                until_asleep(pid)
        aws.signal(signal.SIGTERM)
        self.assertEqual(aws.wait(), 0)
        nothing_left(aws)

    def test_the_signal_reaches_every_worker(self):
        for name, source, slots in (
            ("signal.signal", self.OWN + PLAIN, 3),
            ("add_signal_handler", self.ON_LOOP + PLAIN, 3),
            ("add_signal_handler, async", self.ON_LOOP + ASYNC, 4),
        ):
            with self.subTest(name), processors(2), managed(source, slots) as aws:
                aws.wait_for_next(slots)
                self.end(aws)
                self.assertEqual(printed(aws, "ends"), printed(aws, "starts"))

    def test_a_worker_without_a_handler(self):
        with managed(PLAIN, 3) as aws:
            aws.wait_for_next(3)
            self.end(aws)
            self.assertEqual(aws.sent("extension/register"), [])
            self.assertEqual((aws.log, aws.stderr), ("", ""))

    def test_one_extension_for_all(self):
        """Also when a worker is replaced after the first `next`, where Lambda takes no extension any more."""
        with managed(self.OWN + PLAIN, 3) as aws:
            aws.wait_for_next(3)
            for replaced, pid in enumerate(printed(aws, "starts"), 1):
                os.kill(pid, signal.SIGKILL)
                aws.wait_for(lambda: len(printed(aws, "starts")) == 3 + replaced)
                aws.wait_for_next(3)
            self.assertEqual(len(aws.sent("extension/register")), 1)
            self.assertNotIn("runtime:", "".join(aws.worker_logs))
            self.end(aws)

    def test_before_the_first_worker_is_ready(self):
        with managed("wait()" + PLAIN, 3) as aws:
            aws.wait_for(lambda: printed(aws, "waits"))
            self.end(aws)
            self.assertEqual(len(printed(aws, "starts")), 1)

    def test_while_workers_are_started(self):
        with managed(PLAIN, 32) as aws:
            aws.wait_for_next()
            aws.signal(signal.SIGTERM)
            self.assertEqual(aws.wait(), 0)
            nothing_left(aws)

    def test_while_a_worker_is_about_to_be_replaced(self):
        """It is not, then: nobody would tell the new one to end."""
        source = """
starts = os.path.join(os.path.dirname(__file__), "starts")
os.mkdir(os.path.join(starts, str(os.getpid())))
if len(os.listdir(starts)) in (2, 3):
    os._exit(1)
""" + PLAIN.replace("wait()", "os._exit(1)")
        for moment in "it has just died", "its parent knows":
            with self.subTest(moment), managed(source, 1, start=False) as aws:
                os.mkdir(os.path.join(aws.task_root, "starts"))
                aws.start()
                aws.send(WAIT)  # the first dies of it, the two that follow in their import, a fourth would live
                aws.wait_for(lambda: len(aws.worker_logs) == 6 and not any(source.open for source in aws.workers))
                if moment == "its parent knows":
                    until_gone(printed(aws, "starts")[2])
                aws.signal(signal.SIGTERM)
                self.assertIn(aws.wait(), (0, 1))
                nothing_left(aws)
                self.assertNotIn("Traceback", aws.stderr)
