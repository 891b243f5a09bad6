"""Logs: formats, levels, ids, frames; what is imported for them; nothing lost."""

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import termios
import time
import unittest

from miniature import FUNCTION_PYTHON, FUNCTION_VERSION, REPO, Lambda, Served, function, until, until_asleep
from miniature.raw import RawApi
from miniature.raw import event as plain_event

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
F_GETPIPE_SZ = 1032  # in fcntl since Python 3.10
LEVELS = "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"


def settled(aws):
    """Wait for the end of the invocation, when the next is asked for: it has logged all then."""
    aws.wait_for_next()
    return aws


class Text(unittest.TestCase):
    SOURCE = """
        import logging

        logging.warning("at import")

        def handler(event, context):
            logger = logging.getLogger("named")
            for level in logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL:
                logger.log(level, "said %s", "sö")
            try:
                1 / 0
            except ZeroDivisionError:
                logger.exception("two\\nlines")
    """

    def test_records(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            request_id = aws.invoke().request_id
            lines = settled(aws).log.split("\n")
        for level in "WARNING", "ERROR", "CRITICAL":
            [line] = [line for line in lines if line.startswith(f"[{level}]") and line.endswith("said sö")]
            self.assertRegex(line, rf"^\[{level}\]\t{TIME}\.\d{{3}}Z\t{request_id}\tsaid sö$")
        self.assertRegex(lines[0], rf"^\[WARNING\]\t{TIME}\.\d{{3}}Z\t\tat import$")
        # As awslambdaric: the format ends in a line break, which an exception's text follows.
        exception = lines.index("lines")
        self.assertRegex(lines[exception - 1], rf"^\[ERROR\]\t{TIME}\.\d{{3}}Z\t{request_id}\ttwo$")
        self.assertEqual(lines[exception + 1], "Traceback (most recent call last):")
        self.assertEqual(lines[-2:], ["ZeroDivisionError: division by zero", ""])

    def test_time_is_utc(self):
        with function(function=self.SOURCE) as root, Lambda(root, env={"TZ": "Asia/Tokyo"}) as aws:
            stamp = settled(aws).log.split("\t")[1][:16]
        now = time.time()
        self.assertIn(stamp, [time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now - back)) for back in (0, 60)])

    def test_levels(self):
        for given, lowest in {
            None: "WARNING", "": "WARNING", "TRACE": "DEBUG", "DEBUG": "DEBUG", "info": "INFO", "WARN": "WARNING", "ERROR": "ERROR",
            "FATAL": "CRITICAL", "NONSENSE": "WARNING",
        }.items():
            with self.subTest(given), function(function=self.SOURCE) as root:
                with Lambda(root, env={"AWS_LAMBDA_LOG_LEVEL": given}) as aws:
                    aws.invoke()
                    log = settled(aws).log
                    said = [level for level in LEVELS if f"[{level}]\t" in log]
                    self.assertEqual(said, list(LEVELS[LEVELS.index(lowest):]))


class Version(unittest.TestCase):
    """The first record of a process, at DEBUG, names the runtime's and Python's."""

    VERSION = re.escape(re.search('^__version__ = "(.+)"', (REPO / "runtime.py").read_text(), re.MULTILINE)[1])
    PYTHON = r"Python %d\.%d\.\w+" % FUNCTION_VERSION

    def log(self, **env):
        env = {f"AWS_LAMBDA_LOG_{name}": value for name, value in env.items()}
        with function(function="def handler(event, context): pass") as root, Lambda(root, env=env) as aws:
            return settled(aws).log

    def test_text(self):
        for level in "DEBUG", "trace":
            self.assertRegex(self.log(LEVEL=level), rf"^\[DEBUG\]\t{TIME}\.\d{{3}}Z\t\truntime {self.VERSION}, {self.PYTHON}\n$")

    def test_json(self):
        record = json.loads(self.log(LEVEL="DEBUG", FORMAT="JSON"))
        self.assertRegex(record.pop("timestamp"), f"^{TIME}Z$")
        self.assertRegex(record.pop("message"), f"^runtime {self.VERSION}, {self.PYTHON}$")
        self.assertEqual(record, {"level": "DEBUG", "requestId": ""})

    def test_once_where_workers_share_the_environment(self):
        env = {"AWS_LAMBDA_LOG_LEVEL": "DEBUG", "AWS_LAMBDA_MAX_CONCURRENCY": "3"}
        with function(function="def handler(event, context): pass") as root, Lambda(root, env=env, log_sockets=True) as aws:
            aws.wait_for(lambda: aws.kinds.count("next") == 3)
            self.assertEqual("".join(aws.worker_logs).count("\truntime "), 1)

    def test_not_at_other_levels(self):
        for level in None, "", "INFO":
            self.assertEqual(self.log(LEVEL=level), "")


class Json(Served):
    SOURCE = """
        import datetime, logging, sys

        class Thing:
            def __str__(self):
                return "a thing"

        def levels():
            for level in logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL, 25, 5, 70:
                logging.getLogger("package.module").log(level, "said %s %d", "sö", level)

        def extra():
            logging.warning("extra", extra={
                "number": 5, "nested": {"k": [1, "é"]}, "thing": Thing(), "none": None, "when": datetime.date(2025, 1, 31),
                "requestId": "forged", "level": "forged",
            })

        def circular_extra():
            circle = []
            circle.append([circle])
            logging.warning("extra", extra={"circle": circle})

        def circular_dict():
            circle = {}
            circle["circle"] = circle
            logging.warning(circle)

        def dicts():
            logging.warning({"k": [1, None], "é": Thing()})
            logging.warning({"k": 1}, extra={"more": 2})
            logging.warning("%(k)s", {"k": 1})

        def exception():
            try:
                raise KeyError("kéy")
            except KeyError:
                logging.exception("caught")
                logging.error("caught too", exc_info=sys.exc_info())
            logging.error("none", exc_info=True)

        def stack():
            logging.warning("stack", stack_info=True)

        def odd():
            logging.warning("line\\nbreak \\ud800 %s", float("nan"))
            logging.warning(5)
            logging.warning(None)
            logging.warning("", extra={"number": float("inf"), "set": {1}})

        def handler(event, context):
            globals()[event]()
    """

    OPTIONS = {"env": {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "TRACE"}}

    def setUp(self):
        settled(self.aws)  # it has said its version

    def records(self, event, **headers):
        """What a function of SOURCE logs: each line an object, without what each must have."""
        before = len(self.aws.log)
        answer = self.aws.invoke(event, headers={name.replace("_", "-"): value for name, value in headers.items()})
        self.assertEqual(answer.kind, "response", answer.body)
        *lines, end = settled(self.aws).log[before:].split("\n")
        self.assertEqual(end, "")
        records = [json.loads(line) for line in lines]
        for record in records:
            self.assertRegex(record.pop("timestamp"), f"^{TIME}Z$")
            self.assertEqual(record.pop("requestId"), answer.request_id)
        self.assertEqual(self.aws.stderr, "")
        return records

    def test_records(self):
        expected = [("DEBUG", 10), ("INFO", 20), ("WARNING", 30), ("ERROR", 40), ("CRITICAL", 50), ("INFO", 25), ("CRITICAL", 70)]
        self.assertEqual(self.records("levels"), [
            {"level": level, "message": f"said sö {number}", "logger": "package.module"} for level, number in expected
        ])
        self.assertIn("sö", self.aws.log)

    def test_tenant_id(self):
        for record in self.records("levels", Lambda_Runtime_Aws_Tenant_Id="blue"):
            self.assertEqual(record["tenantId"], "blue")
        for record in self.records("levels"):
            self.assertNotIn("tenantId", record)

    def test_extra(self):
        [record] = self.records("extra")
        self.assertEqual(record, {
            "level": "WARNING", "message": "extra", "logger": "root", "number": 5, "nested": {"k": [1, "é"]}, "thing": "a thing",
            "when": "2025-01-31",
        })

    def test_circular_extra(self):
        """An error of the function's, as with awslambdaric: neither a recursion without end nor half a record."""
        for name in "circular_extra", "circular_dict":
            before = len(self.aws.log)
            answer = self.aws.invoke(name)
            self.assertEqual((answer.error_type, answer.json["errorMessage"]), ("ValueError", "Circular reference detected"))
            [error] = settled(self.aws).log[before:].splitlines()
            self.assertEqual(json.loads(error)["errorType"], "ValueError")

    def test_dict_messages(self):
        common = {"level": "WARNING", "logger": "root"}
        self.assertEqual(self.records("dicts"), [
            {**common, "message": {"k": [1, None], "é": "a thing"}},
            {**common, "message": {"k": 1}, "more": 2},
            {**common, "message": "1"},
        ])

    def test_exceptions(self):
        first, second, none = self.records("exception")
        path = f"{self.root}/function.py"
        line = int(first["location"].rpartition(":")[2])
        [frame] = first["stackTrace"]
        self.assertTrue(frame.startswith(f'  File "{path}", line {line - 2}, in exception\n    raise KeyError("kéy")\n'), frame)
        common = {"level": "ERROR", "logger": "root", "errorType": "KeyError", "errorMessage": "'kéy'", "stackTrace": [frame]}
        self.assertEqual(first, {**common, "message": "caught", "location": f"{path}:exception:{line}"})
        self.assertEqual(second, {**common, "message": "caught too", "location": f"{path}:exception:{line + 1}"})
        self.assertEqual((none["message"], none.get("errorType")), ("none", None))

    def test_stack(self):
        [record] = self.records("stack")
        self.assertEqual(record["message"], "stack")

    def test_odd_values(self):
        first, number, none, last = self.records("odd")
        self.assertEqual(first["message"], "line\nbreak \ud800 nan")
        self.assertEqual([number["message"], none["message"]], ["5", "None"])
        self.assertEqual([last["number"], last["set"]], [float("inf"), "{1}"])

    def test_levels(self):
        for given, lowest in {None: "WARNING", "INFO": "INFO", "FATAL": "CRITICAL"}.items():
            with self.subTest(given), function(function=self.SOURCE) as root:
                env = {"AWS_LAMBDA_LOG_FORMAT": "Json", "AWS_LAMBDA_LOG_LEVEL": given}
                with Lambda(root, env=env) as aws:
                    aws.invoke("levels")
                    said = {json.loads(line)["level"] for line in settled(aws).log.splitlines()}
                    self.assertEqual(sorted(said, key=LEVELS.index)[0], lowest)


class Frames(unittest.TestCase):
    """_LAMBDA_TELEMETRY_LOG_FD."""

    SOURCE = """
        import logging, os

        def handler(event, context):
            print("printed")
            context.log("through the context")
            for level in 10, 20, 30, 40, 50, 25, 5, 60:
                logging.getLogger().log(level, "two\\nlines")
            if event:
                raise ValueError("erröneous")
            return os.environ.get("_LAMBDA_TELEMETRY_LOG_FD")
    """

    def frames(self, event=None, **env):
        env = {f"AWS_LAMBDA_LOG_{name}": value for name, value in env.items()}
        with function(function=self.SOURCE) as root, Lambda(root, telemetry=True, env=env) as aws:
            answer = aws.invoke(event)
            self.assertIsNone(answer.json if answer.kind == "response" else None, "the variable is for the runtime")
            settled(aws)
            self.assertEqual((aws.log, aws.stderr), ("printed\n", ""))
            now = time.time() * 1e6
            for _, microseconds, _ in aws.frames:
                self.assertTrue(now - 60e6 < microseconds <= now, microseconds)
            return [(f"{kind:08x}", text) for kind, _, text in aws.frames]

    def test_text_without_a_level(self):
        frames = self.frames()
        self.assertEqual(frames[0], ("a55a0003", "through the context"))
        self.assertEqual([kind for kind, _ in frames], ["a55a0003"] * 5)
        for _, text in frames[1:]:
            self.assertRegex(text, rf"^\[[^\]]+\]\t{TIME}\.\d{{3}}Z\t[0-9a-f-]{{36}}\ttwo\nlines\n$")

    def test_text_with_a_level(self):
        kinds = [kind for kind, _ in self.frames(LEVEL="DEBUG")]
        self.assertEqual(kinds, [f"a55a00{kind}" for kind in ("0b", "03", "0b", "0f", "13", "17", "1b", "0f", "1b")])

    def test_json(self):
        version, context, *frames = self.frames(LEVEL="TRACE", FORMAT="JSON")
        self.assertEqual((version[0], json.loads(version[1])["level"]), ("a55a000a", "DEBUG"))
        self.assertEqual(context, ("a55a0003", "through the context"))
        self.assertEqual([kind for kind, _ in frames], [f"a55a00{kind}" for kind in ("0a", "0e", "12", "16", "1a", "0e", "1a")])
        for _, text in frames:
            self.assertEqual(json.loads(text)["message"], "two\nlines")

    def test_below_every_level(self):
        # NOTSET, were the function to let it through.
        source = """
            import logging

            def handler(event, context):
                logging.getLogger().setLevel(1)
                logging.getLogger().log(5, "low")
        """
        for log_format, kind in {"JSON": "a55a0002", "Text": "a55a0003"}.items():
            env = {"AWS_LAMBDA_LOG_FORMAT": log_format, "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}
            with function(function=source) as root, Lambda(root, telemetry=True, env=env) as aws:
                aws.invoke()
                self.assertEqual([f"{kind:08x}" for kind, _, _ in settled(aws).frames[1:]], [kind])

    def test_unhandled_errors(self):
        kind, text = self.frames("raise")[-1]
        self.assertEqual(kind, "a55a0017")
        self.assertTrue(text.startswith("[ERROR] ValueError: erröneous\nTraceback (most recent call last):\n\xa0\xa0File "), text)
        self.assertFalse(text.endswith("\n"))
        kind, text = self.frames("raise", FORMAT="JSON")[-1]
        self.assertEqual(kind, "a55a0016")
        self.assertEqual(json.loads(text)["errorType"], "ValueError")

    def test_init_errors(self):
        with function(function="") as root, Lambda(root, telemetry=True) as aws:
            self.assertEqual(aws.wait(), 1)
            [(kind, _, text)] = aws.frames
            self.assertEqual(f"{kind:08x}", "a55a0017")
            self.assertTrue(text.startswith("[ERROR] Runtime.HandlerNotFound: "), text)
            self.assertEqual(aws.log, "")


class Ids(unittest.TestCase):
    """The request id follows an invocation through the context of its threads and tasks."""

    def said(self, aws):
        """{what was logged: the request id with it}"""
        lines = [line.split("\t") for line in settled(aws).log.splitlines()]
        return {text: request_id for _, _, request_id, text in lines}

    def test_of_threads(self):
        source = """
            import contextvars, logging, threading

            go = threading.Event()
            kept = []

            def say(text, wait=False):
                if wait: go.wait(30)
                logging.warning(text)

            def start(*arguments):
                thread = threading.Thread(target=say, args=arguments)
                thread.start()
                return thread

            def handler(event, context):
                say(f"{event} handler")
                if event == "first":
                    kept.append(start("later without", True))
                    kept.append(threading.Thread(target=contextvars.copy_context().run, args=(say, "later with", True)))
                    kept[-1].start()
                    start("first without").join()
                if event == "second":
                    go.set()
                    for thread in kept: thread.join(30)
        """
        with function(function=source) as root, Lambda(root) as aws:
            first, second = (aws.invoke(event).request_id for event in ("first", "second"))
            said = self.said(aws)
        # A thread without a context has the invocation that runs, as far as anyone can tell (from 3.14 on its
        # threads may inherit the context).
        self.assertIn(said.pop("later without"), (first, second) if FUNCTION_VERSION >= (3, 14) else (second,))
        self.assertEqual(said, {
            "first handler": first, "first without": first, "later with": first, "second handler": second,
        })

    def test_of_tasks(self):
        source = """
            import asyncio, logging

            kept = []

            async def later(go):
                await go.wait()
                await asyncio.to_thread(logging.warning, "later in a thread")
                logging.warning("later in a task")

            async def handler(event, context):
                await asyncio.to_thread(logging.warning, f"{event} in a thread")
                await asyncio.gather(asyncio.sleep(0), say(event))
                if event == "first":
                    go = asyncio.Event()
                    kept.extend([go, asyncio.create_task(later(go))])
                if event == "second":
                    kept[0].set()
                    await kept[1]
                logging.warning(f"{event} handler")

            async def say(event):
                logging.warning(f"{event} in a task")
        """
        with function(function=source) as root, Lambda(root) as aws:
            first, second = (aws.invoke(event).request_id for event in ("first", "second"))
            expected = {f"{event} {place}": request_id for event, request_id in (("first", first), ("second", second))
                        for place in ("in a thread", "in a task", "handler")}
            self.assertEqual(self.said(aws), {**expected, "later in a thread": first, "later in a task": first})

    def test_in_streams(self):
        source = """
            import logging

            def handler(event, context):
                logging.warning(f"{event} begins")
                yield "x"
                logging.warning(f"{event} ends")
        """
        for define in "def", "async def":
            with self.subTest(define), function(function=source.replace("def", define)) as root, Lambda(root) as aws:
                first, second = (aws.invoke(event).request_id for event in ("first", "second"))
                self.assertEqual(self.said(aws), {
                    "first begins": first, "first ends": first, "second begins": second, "second ends": second
                })

    def test_on_the_record(self):
        # For formats of the function's own.
        source = """
            import logging

            [handler_of_root] = logging.getLogger().handlers
            handler_of_root.setFormatter(logging.Formatter("%(aws_request_id)s %(tenant_id)s %(message)s"))
            logging.warning("at import")

            def handler(event, context):
                logging.warning(type(handler_of_root).__name__)
        """
        with function(function=source) as root, Lambda(root) as aws:
            first = aws.invoke(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"}).request_id
            second = aws.invoke().request_id
            name = "LambdaLoggerHandler"
            self.assertEqual(
                settled(aws).log, f" None at import\n{first} blue {name}\n{second} None {name}\n"
            )


class Imports(unittest.TestCase):
    """The handler is on the root logger before the function's first line; logging is not there for nothing."""

    def test_by_any_way(self):
        for statement in (
            "import logging",
            "from logging import getLogger",
            "import logging.handlers",
            "import importlib; importlib.import_module('logging')",
            "import importlib.util; importlib.util.find_spec('logging')",  # asks, and does not import
            "import concurrent.futures",
            "import helper",
        ):
            source = f"""
                {statement}
                from logging import getLogger

                getLogger().warning("at import")

                def handler(event, context):
                    getLogger("x").error("in handler")
                    return [len(getLogger().handlers), len(getLogger("x").handlers)]
            """
            with self.subTest(statement), function(function=source, helper="import logging") as root, Lambda(root) as aws:
                answer = aws.invoke()
                self.assertEqual(answer.json, [1, 0])
                at_import, in_handler = settled(aws).log.splitlines()
                self.assertRegex(at_import, r"^\[WARNING\]\t[^\t]+\t\tat import$")
                self.assertRegex(in_handler, rf"^\[ERROR\]\t[^\t]+\t{answer.request_id}\tin handler$")

    def test_late(self):
        source = """
            def handler(event, context):
                import logging
                logging.basicConfig(format="mine")  # has no effect, as on Lambda
                logging.warning("said")
                return len(logging.getLogger().handlers)
        """
        with function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                answer = aws.invoke()
                self.assertEqual(answer.json, 1)
                self.assertRegex(settled(aws).log.splitlines()[-1], rf"^\[WARNING\]\t[^\t]+\t{answer.request_id}\tsaid$")

    def test_before_the_runtime(self):
        # A .pth file or sitecustomize of the image may have done so.
        with function(function=Text.SOURCE, **{"site/sitecustomize.py": "import logging"}) as root, Lambda(root, env={"PYTHONPATH": f"{root}/site"}) as aws:
            self.assertRegex(settled(aws).log, r"^\[WARNING\]\t[^\t]+\t\tat import\n$")

    def test_of_logging_itself_is_as_ever(self):
        source = """
            import importlib.util, inspect, logging

            def handler(event, context):
                spec = logging.__spec__
                return [
                    spec.name, spec.origin == logging.__file__, logging.__loader__ is spec.loader, type(spec.loader).__name__,
                    inspect.getsource(logging.getLogger).partition("(")[0], importlib.util.find_spec("logging").name,
                ]
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().json, [
                "logging", True, True, "SourceFileLoader", "def getLogger", "logging",
            ])

    def test_that_nobody_asked_for(self):
        source = """
            import sys

            modules = sorted(sys.modules)

            def handler(event, context):
                if event == "stream": return iter(["x"])
                return [modules, sorted(sys.modules)]
        """
        heavy = {"logging", "json", "socket", "asyncio", "typing", "traceback", "re", "http", "email", "ssl", "urllib", "decimal"}
        heavy |= {"base64", "itertools", "selectors", "threading", "contextvars", "enum", "functools", "collections", "warnings", "inspect"}
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke("stream").body, b"x")
            at_import, after = aws.invoke().json
            command = [FUNCTION_PYTHON, "-c", "import sys; print(*sys.modules)"]
            own = subprocess.run(command, env=aws.env, cwd=root, stdout=subprocess.PIPE, universal_newlines=True).stdout
            for modules in at_import, after:
                self.assertEqual(heavy & (set(modules) - set(own.split())), set())



class Lost(unittest.TestCase):
    """Nothing that was printed or logged, whatever ends the process."""

    SOURCE = """
        import logging, os, signal, sys

        def end(how):
            if how == "exit": os._exit(7)
            if how == "abort": os.abort()
            os.kill(os.getpid(), signal.SIGKILL)

        def handler(event, context):
            print("printed", end="")
            sys.stdout.write("+written")
            sys.stdout.buffer.write(b"+bytes+")
            context.log("context")
            print("to stderr", end="", file=sys.stderr)
            logging.error("logged")
            print("last", end="")
            end(event)
    """

    def test_by_any_end(self):
        for event, status in {"exit": 7, "kill": -9, "abort": -6}.items():
            for telemetry in False, True:
                with self.subTest(event), function(function=self.SOURCE) as root:
                    with Lambda(root, telemetry=telemetry) as aws:
                        request_id = aws.send(event)
                        self.assertEqual(aws.wait(), status)
                        record = rf"\[ERROR\]\t[^\t]+\t{request_id}\tlogged\n"
                        if telemetry:
                            self.assertEqual(aws.log, "printed+written+bytes+last")
                            self.assertEqual(aws.frames[0][2], "context")
                            self.assertRegex(aws.frames[1][2], f"^{record}$")
                        else:
                            self.assertRegex(aws.log, rf"^printed\+written\+bytes\+context{record}last$")
                        self.assertTrue(aws.stderr.startswith("to stderr"))  # faulthandler may follow

    def test_order(self):
        source = """
            import logging

            def handler(event, context):
                for n in range(300):
                    print("printed", n)
                    logging.warning("logged %d", n)
        """
        with function(function=source) as root, Lambda(root) as aws:
            aws.invoke()
            lines = [line.rpartition("\t")[2] for line in settled(aws).log.splitlines()]
            self.assertEqual(lines, [f"{verb} {n}" for n in range(300) for verb in ("printed", "logged")])

    def test_a_signal_in_the_middle_of_it(self):
        """A reader that takes nothing for a second lets signals through: the kernel has then taken a part of it."""
        source = """
            import signal

            signal.signal(signal.SIGUSR1, lambda *_: None)

            def handler(event, context):
                context.log("x" * 1_000_000 + ".")
        """
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        os.set_blocking(read, False)
        size = fcntl.fcntl(read, F_GETPIPE_SZ)
        printed = bytearray()

        def is_full():
            return struct.unpack("i", fcntl.ioctl(read, termios.FIONREAD, bytes(4))) == (size,)

        def is_interruptible():
            with open(f"/proc/{process.pid}/status") as status:
                blocked = int(re.search(r"SigBlk:\s*(\w+)", status.read())[1], 16)
            return not blocked >> signal.SIGUSR1 - 1 & 1

        def has_all():
            with contextlib.suppress(BlockingIOError):
                printed.extend(os.read(read, 1 << 16))
            return printed.endswith(b".")

        with function(function=source) as root, RawApi() as api, api.start(root, stdout=write) as process:
            os.close(write)
            api.request()
            api.send(plain_event("one", b"{}"))
            until(is_full)
            until(is_interruptible)
            until_asleep(process.pid)
            has_all()  # makes room: what waits in the kernel begins to be taken
            until(is_full)
            os.kill(process.pid, signal.SIGUSR1)
            until(has_all, "the rest is lost")
            self.assertEqual(len(printed), 1_000_001)

    def test_much_at_once(self):
        source = """
            import logging

            def handler(event, context):
                logging.warning("x" * 3_000_000)
                context.log("y" * 3_000_000)
        """
        with function(function=source) as root, Lambda(root, telemetry=True) as aws:
            aws.invoke()
            logged, from_context = [text for _, _, text in settled(aws).frames]
            self.assertTrue(logged.endswith("\t" + "x" * 3_000_000 + "\n"))
            self.assertEqual(from_context, "y" * 3_000_000)


if __name__ == "__main__":
    unittest.main()
