"""Functions that misbehave. What becomes of each stands in its test: the event at hand is answered, or the process ends with a reason."""

import contextlib
import os
import signal
import tempfile
import threading
import time
import unittest
from pathlib import Path

from miniature import Fault, Lambda, function, keeps_connections
from miniature.raw import ACCEPTED, RawApi, event

# A function that does its deed in the first invocation, and then is asked for one thing after another.
FUNCTION = """
{imports}

def handler(event, context):
    {always}
    if event == "deed":
        {deed}
        return "done"
    if event == "error":
        raise ValueError("an error")
    if event == "stream":
        return stream()
    return [event, context.function_name, 50_000 < context.get_remaining_time_in_millis() <= 60_000]

def stream():
    yield "first"
    raise ValueError("too late")
"""
ASYNC = """
import function

async def handler(event, context):
    return function.handler(event, context)
"""


class Test(unittest.TestCase):
    def survives(self, deed, imports="", asynchronous=False, logged=True, always="pass", **files):
        """After the deed a value, an error and a stream that fails are all answered, on kept and on new connections."""
        source = FUNCTION.format(imports=imports, deed=deed, always=always)
        name = "asynchronous.handler" if asynchronous else "function.handler"
        with function(function=source, asynchronous=ASYNC, **files) as root, Lambda(root, name) as aws:
            self.assertEqual(aws.invoke("deed").json, "done")
            aws.answers("response", Fault(close=True), Fault(silently=True))
            aws.answers("error", Fault(close=True))
            for _ in range(2):
                self.assertEqual(aws.invoke("value").json, ["value", "function", True])
                error = aws.invoke("error")
                self.assertEqual(error.kind, "error")
                self.assertEqual([error.json[key] for key in ("errorType", "errorMessage")], ["ValueError", "an error"])
                self.assertIn("in handler\n", error.json["stackTrace"][-1])
                late = aws.invoke("stream")
                self.assertEqual((late.body, late.trailers["Lambda-Runtime-Function-Error-Type"]), (b"first", "ValueError"))
            self.assertEqual(aws.stderr, "")
            if logged:
                self.assertEqual(aws.log.count("[ERROR] ValueError: an error\r"), 2)
                self.assertEqual(aws.log.count("[ERROR] ValueError: too late\r"), 2)
            self.assertEqual(len(aws.sent("response")) + len(aws.sent("error")), 7)
            return aws.log


class Deeds(Test):
    def test_stdout_replaced(self):
        """Errors are logged all the same: the runtime writes to the descriptor."""
        log = self.survives("sys.stdout = io.StringIO(); print('not in the log')", "import io, sys")
        self.assertNotIn("not in the log", log)

    def test_stdout_closed(self):
        """The object alone: descriptor 1 of `python -u` stays open, and errors are logged."""
        self.survives("sys.stdout.close()", "import sys")

    def test_descriptor_1_closed(self):
        """Errors are answered, though no longer logged. No connection gets number 1: what is printed must not go there."""
        for asynchronous in (False, True):
            with self.subTest(asynchronous=asynchronous):
                always = "with contextlib.suppress(OSError): os.write(1, b'printed')"
                self.survives("os.close(1)", "import contextlib, os", asynchronous, logged=False, always=always)

    @keeps_connections
    def test_descriptor_1_closed_while_the_connection_is_kept(self):
        """No new connection puts /dev/null there: what the error would say in the log is lost, and the error is answered."""
        source = """
            import os

            def handler(event, context):
                if event == "close": os.close(1)
                if event: raise ValueError(event)
        """
        with function(function=source) as root, Lambda(root) as aws:
            for event in "close", "closed", None:
                answer = aws.invoke(event)
                self.assertEqual((answer.kind, answer.connection), ("error" if event else "response", 1))
            aws.wait_for_next()
            self.assertEqual((aws.log, aws.stderr), ("", ""))

    def test_descriptors_0_1_and_2_closed(self):
        self.survives("os.closerange(0, 3)", "import os", logged=False)

    @keeps_connections
    def test_all_descriptors_closed(self):
        """As code that makes a daemon of its process does; the runtime connects anew."""
        self.survives("os.closerange(3, 100)", "import os")

    def test_directory_changed(self):
        self.survives("os.chdir('/')", "import os")

    def test_directory_removed(self):
        """The function's own folder stays on sys.path; the X-Ray cause has no working directory."""
        self.survives("folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)", "import os, tempfile")

    def test_environment_cleared(self):
        """What the runtime needs of it, it has read before the first invocation."""
        self.survives("os.environ.clear()", "import os")

    def test_environment_replaced(self):
        self.survives("os.environ = {}", "import os")

    def test_json_dumps_replaced(self):
        self.survives("json.dumps = json.loads = json.JSONEncoder = json.JSONDecoder = None", "import json")

    def test_socket_replaced(self):
        """As tests and gevent do; the runtime's connection is made of the C type."""
        self.survives("socket.socket = socket.create_connection = socket.getaddrinfo = None", "import socket")

    def test_timeout_for_all_sockets(self):
        """socket.setdefaulttimeout() is meant for the function's own requests: `next` waits as long as it takes."""
        source = "import socket\ndef handler(event, context):\n    socket.setdefaulttimeout(event)\n    return event"
        for timeout in (0.01, 0):
            with self.subTest(timeout), function(function=source) as root, Lambda(root) as aws:
                aws.answers("response", Fault(close=True))
                aws.invoke(timeout)
                aws.wait_for_next()
                time.sleep(0.05)
                self.assertEqual(aws.invoke(2).json, 2)
                self.assertEqual(aws.stderr, "")

    @keeps_connections
    def test_timeout_for_all_sockets_and_a_stream(self):
        """A stream moves the connection to another descriptor, where it waits as long."""
        source = "import socket\ndef handler(event, context):\n    socket.setdefaulttimeout(event)\n    return iter(['one', 'two'])"
        for timeout in (0.01, 0):
            with self.subTest(timeout), function(function=source) as root, Lambda(root) as aws:
                aws.invoke(timeout)
                aws.wait_for_next()
                time.sleep(0.05)
                self.assertEqual(aws.invoke(2).body, b"onetwo")
                self.assertEqual(len({request.connection for request in aws.requests}), 1)

    def test_timeout_for_all_sockets_before_a_snapshot(self):
        source = "import socket\nsocket.setdefaulttimeout(0.01)\ndef handler(event, context):\n    return event"
        with function(function=source) as root, Lambda(root, env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}) as aws:
            aws.wait_for(lambda: aws.restoring)
            time.sleep(0.05)
            aws.restore()
            self.assertEqual(aws.invoke(2).json, 2)

    def test_time_replaced(self):
        """As freezegun does: the context counts on."""
        self.survives("time.time = time.gmtime = time.sleep = lambda *args: 0", "import time")

    def test_path_emptied(self):
        """Nothing can be imported any more that is not there already; what the runtime needs for its answers is."""
        self.survives("sys.path.clear()", "import sys")

    def test_path_replaced(self):
        self.survives("sys.path = None; sys.path_importer_cache = None", "import sys")

    def test_recursion_limit(self):
        """A limit of 50 is enough for the runtime. (Lower ones Python refuses within so many calls.)"""
        for asynchronous in (False, True):
            with self.subTest(asynchronous=asynchronous):
                self.survives("sys.setrecursionlimit(50)", "import sys", asynchronous)

    def test_threads_left_behind(self):
        """They run on between the invocations."""
        thread = "threading.Thread(target=sum, args=(iter(lambda: time.sleep(0.001) or 1, 0),), daemon={}).start()"
        for daemon in (False, True):
            with self.subTest(daemon=daemon):
                self.survives(thread.format(daemon), "import threading, time")

    def test_garbage_collection_off(self):
        self.survives("gc.disable()", "import gc")

    def test_warnings_are_errors(self):
        self.survives("warnings.simplefilter('error')", "import warnings")


EXHAUST = "open_files = []\ndef exhaust():\n    while True:\n        open_files.append(os.open('/dev/null', 0))\n"


class Descriptors(Test):
    """Out of file descriptors: the commonest of all on Lambda, which allows 1,024."""

    def survives(self, *args, **options):
        with limited_descriptors():
            super().survives(*args, **options)

    def test_all_used_up(self):
        """Value, error and stream are answered, on kept connections and on new ones: the old one's descriptor is free for it."""
        for asynchronous in (False, True):
            with self.subTest(asynchronous=asynchronous):
                deed = "try:\n            exhaust()\n        except OSError:\n            pass"
                self.survives(deed, f"import os\n{EXHAUST}", asynchronous)

    def test_used_up_while_it_streams(self):
        source = f"import os\n{EXHAUST}\ndef handler(event, context):\n    yield 'first'\n    exhaust()"
        with limited_descriptors(), function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                late = aws.invoke()
                self.assertEqual((late.body, late.trailers["Lambda-Runtime-Function-Error-Type"]), (b"first", "OSError"))
            self.assertEqual(aws.stderr, "")

    def test_used_up_at_import(self):
        """The init error is reported: for it the runtime has kept a descriptor."""
        source = f"import os\n{EXHAUST}\nexhaust()"
        with limited_descriptors(), function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.wait(), 1)
            self.assertEqual(aws.init_error.json["errorType"], "OSError")
            self.assertIn("Too many open files", aws.init_error.json["errorMessage"])
            self.assertIn("[ERROR] OSError", aws.log)

    def test_used_up_before_the_first_awaitable(self):
        """No event loop can be made: that is the invocation's error, and the next one is tried again."""
        source = f"import os\n{EXHAUST}" + """
async def later(event):
    return event

def handler(event, context):
    if event == "exhaust":
        exhaust()
    if event == "free":
        while open_files:
            os.close(open_files.pop())
    return later(event)
"""
        with limited_descriptors(), function(function=source) as root, Lambda(root) as aws:
            for event_ in ("exhaust", "awaitable"):
                error = aws.invoke(event_)
                self.assertEqual((error.kind, error.json["errorType"]), ("error", "OSError"))
            self.assertEqual(aws.invoke("free").json, "free")


@contextlib.contextmanager
def limited_descriptors():
    """256 of them for the processes started meanwhile, as fast as 1,024 and as many as this one could need."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Ends(unittest.TestCase):
    """Functions that end the process, or keep it from ending."""

    def test_a_thread_left_when_the_process_ends(self):
        """It would keep the process alive for ever; the runtime gives it a second."""
        thread = "import signal, sys, threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        thread += "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        exits = {"7": 7, "": 0, "None": 0, "'a reason'": 1, "('a', 'reason')": 1}
        with contextlib.ExitStack() as stack:

            def start(source):
                return stack.enter_context(Lambda(stack.enter_context(function(function=thread + source))))

            # All at once: each takes its second.
            ended = {code: start(f"def handler(event, context): sys.exit({code})") for code in exits}
            without_api, broken = start("def handler(event, context): pass"), start("1 / 0")
            for aws in (*ended.values(), without_api):
                aws.answers("next", Fault(), 500)
                aws.send()
            for code, aws in ended.items():
                self.assertEqual((code, aws.wait()), (code, exits[code]))
                self.assertEqual(aws.sent("error")[0].json["errorType"], "SystemExit")
                self.assertEqual(aws.stderr, f"{eval(code)}\n" if exits[code] == 1 else "")
            self.assertEqual(without_api.wait(), 1)
            self.assertRegex(without_api.stderr, r"\Aruntime: AWS_LAMBDA_RUNTIME_API=.*\n\Z")
            self.assertEqual(broken.wait(), 1)
            self.assertEqual(broken.init_error.json["errorType"], "ZeroDivisionError")

    def test_child_process_left_behind(self):
        """Nobody waits for it, and it does not hold the connection to the Runtime API."""
        source = """
        import subprocess
        def handler(event, context):
            child = subprocess.Popen(["sleep", "60"], close_fds=False)
            child.returncode = 0  # nobody waits for it
            return child.pid
        """
        with function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                pid = aws.invoke().json
                files = []
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with contextlib.suppress(FileNotFoundError):  # a library that it has loaded meanwhile
                        files.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
                self.assertTrue(files)
                self.assertFalse([name for name in files if name.startswith("socket")], files)
            aws.answers("next", 500)
            self.assertEqual(aws.wait(), 1)

    def test_fork_that_returns_twice(self):
        """The invocation is the parent's to answer: the child ends with a line where it would have answered."""
        deeds = {
            "value": "return [event, os.getpid()]",
            "error": "raise ValueError(event)",
            "stream": "return iter(['first', event])",
            "awaitable": "return later(event)",
        }
        for name, deed in deeds.items():
            source = f"""
            import os
            async def later(event):
                return event
            def handler(event, context):
                os.fork()
                {deed}
            """
            with self.subTest(name), function(function=source) as root, Lambda(root) as aws:
                for number in range(2):
                    answer = aws.invoke(f"event {number}")
                    self.assertIn(f"event {number}", answer.body.decode())
                    if name == "value":
                        self.assertEqual(answer.json[1], aws.process.pid)
                aws.wait_for_next()
                note = "runtime: a forked child came back from the function's code; it ends here\n"
                aws.wait_for(lambda: aws.stderr == note * 2, what="two children end")
                self.assertEqual(len(aws.sent("response")) + len(aws.sent("error")), 2)

    def test_fork_whose_child_ends(self):
        """sys.exit() and os._exit() in a child are its own affair; one that fails says so by its status. In a stream, too."""
        for end, status in ("sys.exit(3)", 3), ("os._exit(3)", 3), ("raise ValueError", 1), ("return", 0):
            source = f"""
            import os, sys
            def handler(event, context):
                if event:
                    return stream()
                pid = os.fork()
                if not pid:
                    {end}
                return os.waitpid(pid, 0)[1] >> 8
            def stream():
                yield "first"
                pid = os.fork()
                if not pid:
                    {end}
                yield str(os.waitpid(pid, 0)[1] >> 8)
            """
            with self.subTest(end), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual([aws.invoke().json for _ in range(2)], [status] * 2)
                self.assertEqual(aws.invoke("stream").body.decode(), f"first{status}")
                note = "" if status == 3 else "runtime: a forked child came back from the function's code; it ends here\n"
                self.assertEqual(aws.stderr, note * 3)
                self.assertEqual(aws.sent("error"), [])

    def test_alarm_that_kills(self):
        """The signal ends the process, and Lambda starts another."""
        source = """
        import signal, time
        def handler(event, context):
            if event == "alarm":
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                while True:
                    time.sleep(0.001)
            return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            aws.send("alarm")
            self.assertEqual(aws.wait(), -signal.SIGALRM)
            aws.start()
            self.assertEqual(aws.invoke("value").json, "value")

    def test_alarm_that_raises_in_the_handler(self):
        """As timeout decorators do: an error like any other."""
        source = """
        import signal, time
        def too_late(*args):
            raise TimeoutError("too late")
        signal.signal(signal.SIGALRM, too_late)
        def handler(event, context):
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            while True:  # a signal just before a long sleep would not end it
                time.sleep(0.001)
        """
        with function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                self.assertEqual(aws.invoke().json["errorType"], "TimeoutError")

    def test_alarm_that_raises_when_the_handler_has_returned(self):
        """A timer that a timeout decorator forgot: the event is answered, the error logged, and the process may end."""
        for wrapper in ("", "async "):
            source = f"""
            import signal
            def too_late(*args):
                raise TimeoutError("too late")
            signal.signal(signal.SIGALRM, too_late)
            {wrapper}def handler(event, context):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                return event
            """
            with self.subTest(wrapper), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual(aws.invoke(1).json, 1)
                aws.wait_for(lambda: "too late" in aws.stderr + aws.log, what="a reason")
                aws.wait_for(lambda: aws.status is not None or aws.polling)
                self.assertIn(aws.status, (None, 1))
                self.assertNotIn("Traceback", aws.stderr)

    def test_event_loop_stopped(self):
        """The answer goes out; the process goes on, or ends with a line."""
        for deed in ("asyncio.get_running_loop().stop()", "asyncio.current_task().cancel()"):
            source = f"""
            import asyncio
            async def handler(event, context):
                {deed}
                return event
            """
            with self.subTest(deed), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual(aws.invoke(1).json, 1)
                aws.wait_for(lambda: aws.status is not None or len(aws.sent("next")) > 1)
                if aws.status is not None:
                    self.assertRegex(aws.stderr, r"\Aruntime: .*\n\Z")
                self.assertNotIn("Traceback", aws.stderr)


class Answers(unittest.TestCase):
    """Functions whose results and exceptions are odd."""

    def test_del_that_raises(self):
        """Python reports it on stderr; the event, the exception and the result that have it are answered."""
        source = """
        class Odd(Exception):
            def __del__(self):
                raise KeyError("in __del__")
        def handler(event, context):
            odd = Odd("an error")
            if event == "error":
                raise odd
            if event == "result":
                return odd
            return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                self.assertEqual(aws.invoke("value").json, "value")
                self.assertEqual(aws.invoke("error").json["errorType"], "Odd")
                self.assertEqual(aws.invoke("result").json["errorType"], "Runtime.MarshalError")
            self.assertIn("in __del__", aws.stderr)

    def test_exceptions_that_raise_when_they_are_looked_at(self):
        """Whatever it is, the invocation is answered with an error, and the next one is served."""
        source = """
        class NoName(type):
            @property
            def __name__(self):
                raise KeyError("no name")
        def no(*args):
            raise KeyError("no")
        class Nameless(Exception, metaclass=NoName):
            pass
        class Undecided(Exception):
            __bool__ = no
        class Empty(Exception):
            __len__ = lambda self: 0
        class Mute(Exception):
            __str__ = __repr__ = no
        class NoCause(Exception):
            __cause__ = __context__ = __traceback__ = property(no)
        class Exits(Exception):
            def __str__(self):
                raise SystemExit(9)
        def handler(event, context):
            if event == "chain":
                try:
                    raise Empty("inner")
                except Empty as inner:
                    raise ValueError("outer") from inner
            try:
                raise globals()[event]("inner")
            except Exception as inner:
                raise inner
        """
        with function(function=source) as root, Lambda(root) as aws:
            for name in ("Nameless", "Undecided", "Empty", "Mute", "NoCause", "Exits"):
                with self.subTest(name):
                    self.assertEqual(aws.invoke(name).kind, "error")
            self.assertEqual(aws.invoke("chain").json["cause"]["errorType"], "Empty")
            self.assertNotIn("Traceback", aws.stderr)

    def test_exceptions_that_are_not_errors(self):
        """Also those that Python ends programs and loops with are errors of the invocation."""
        source = """
        import asyncio
        def handler(event, context):
            raise eval(event)
        """
        asynchronous = "import function\nasync def handler(event, context):\n    function.handler(event, context)"
        names = ["KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration", "MemoryError", "RecursionError"]
        names += ["asyncio.CancelledError", "BrokenPipeError", "ConnectionResetError", "BlockingIOError", "BaseException"]
        for handler in ("function.handler", "asynchronous.handler"):
            with function(function=source, asynchronous=asynchronous) as root, Lambda(root, handler) as aws:
                for name in names:
                    # In a coroutine Python makes a RuntimeError of an exception that would end it.
                    kinds = [name.rpartition(".")[2], "RuntimeError"] if "Iteration" in name else [name.rpartition(".")[2]]
                    with self.subTest(name, handler=handler):
                        self.assertIn(aws.invoke(name).json["errorType"], kinds)
                self.assertEqual(aws.stderr, "")

    def test_results_that_raise_when_they_are_looked_at(self):
        source = """
        def no(*args):
            raise KeyError("no")
        class Odd:
            __getattr__ = __iter__ = __len__ = __bool__ = __eq__ = __hash__ = __str__ = __repr__ = no
        class Awaitable:
            __await__ = no
        class Iterator:
            __iter__ = __next__ = no
        class Dictionary(dict):
            items = keys = __iter__ = __len__ = no
        class Text(str):
            encode = __str__ = no
        def handler(event, context):
            return globals()[event]()
        """
        with function(function=source) as root, Lambda(root) as aws:
            for name in ("Odd", "Awaitable", "Iterator"):
                with self.subTest(name):
                    self.assertEqual(aws.invoke(name).kind, "error")
            for name in ("Dictionary", "Text"):
                with self.subTest(name):
                    self.assertIn(aws.invoke(name).kind, ("error", "response"))
            self.assertNotIn("Traceback", aws.stderr)

    def test_a_hundred_megabytes_printed(self):
        """All of them are in the log."""
        source = "def handler(event, context):\n    for _ in range(100):\n        print('x' * 999_999)\n    return event"
        count = 0

        def read(fd):
            nonlocal count
            while data := os.read(fd, 1 << 20):
                count += len(data)

        with tempfile.TemporaryDirectory() as root, RawApi() as api:
            Path(root, "function.py").write_text(source)
            out, stdout = os.pipe()
            with api.start(root, stdout=stdout):
                os.close(stdout)
                reader = threading.Thread(target=read, args=(out,))
                reader.start()
                api.request()
                api.send(event("id", b"1"))
                self.assertEqual(api.request().body, b"1")
                api.send(ACCEPTED)
                self.assertEqual(api.request().kind, "next")
            reader.join()
            os.close(out)
        self.assertEqual(count, 100_000_000)


class Modules(Test):
    """A module in the task root stands for Python's own of that name, but for those that AWS's runtime has imported before."""

    def test_modules_with_the_names_of_pythons_own(self):
        """The function gets those, and the runtime answers values, errors and streams whatever lies there."""
        names = "json socket logging types enum signal asyncio traceback linecache base64 io re random struct http urllib warnings"
        names = [*names.split(), "string", "token", "tokenize", "binascii", "decimal", "selectors", "threading", "inspect", "email"]
        files = dict.fromkeys(names, "mine = True")
        imports = f"import {', '.join(names)}\nassert socket.mine and base64.mine and json.loads('1') and logging.Logger"
        self.survives("pass", imports, **files)

    def test_modules_with_the_names_of_pythons_own_that_end_the_process(self):
        """Scripts without `if __name__`: the runtime imports none of them on its own account before it has to."""
        files = dict.fromkeys(("linecache", "traceback", "base64", "tokenize", "warnings", "logging"), "raise SystemExit('mine')")
        self.survives("pass", **files)

    def test_asyncio_of_the_functions_own(self):
        """An async handler cannot run: the log says so, and the process ends or gives each invocation that error."""
        source = "async def handler(event, context): return event"
        with function(function=source, asyncio="mine = True") as root, Lambda(root) as aws:
            request_id = aws.send()
            aws.wait_for(lambda: aws.status is not None or request_id in aws.posts)
            self.assertIn(aws.status, (None, 1))
            self.assertRegex(aws.log + aws.stderr, "'asyncio' has no attribute")
            self.assertNotIn("Traceback", aws.stderr)


if __name__ == "__main__":
    unittest.main()
