"""`make run`, as someone uses it who wants to see a function work."""

import concurrent.futures
import contextlib
import io
import json
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import traceback
import unittest
from unittest import mock

from miniature import REPO, Lambda, bounded, function, tell, until_asleep
from miniature.hints import hint
from miniature.run import Screen, find_handler, main, peak_memory, pretty, read_event

REPORT = re.compile(
    r"^REPORT RequestId: [0-9a-f-]{36}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms"
    r"\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms$",
    re.M,
)


def make(*variables):
    return ["make", "-s", "run", f"PYTHON={sys.executable}", *variables]


def script(*variables):
    """What make starts."""
    given = dict(variable.split("=", 1) for variable in variables)
    folder, handler = given.pop("TASK_ROOT", "tests/hello"), given.pop("HANDLER", "")
    if not os.path.exists(os.path.join(folder, "event.json")):
        given.setdefault("EVENT", "{}")  # or it says that it takes that
    return ["env", *[f"{name}={value}" for name, value in given.items()], sys.executable, "tests/miniature", "run", folder, handler]


def caller(**variables):
    """The environment of someone who has a shell, and is not inside another make."""
    ours = ("EVENT", "FUNCTION", "TASK_ROOT", "HANDLER", "TIMEOUT")
    return {
        **{k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("MAKE", "MFLAGS", "AWS_", "PYTHON"))},
        **variables,
    }


def forked(command, env, stderr):
    """The same in a child of this process, which has imported it all: in half of the time."""
    words = command[1:]
    env = {**env, **dict(words.pop(0).split("=", 1) for _ in range(words.index(sys.executable)))}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                signal.alarm(60)
                for fd, file in (1, out), (2, out if stderr == subprocess.STDOUT else log):
                    os.dup2(file.fileno(), fd)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.chdir(REPO)
                os.environ.clear()
                os.environ.update(env)
                status = main(*words[-2:]) or 0
            except SystemExit as error:
                status = error.code or 0
                if isinstance(status, str):
                    status = print(status, file=sys.stderr) or 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return subprocess.CompletedProcess(command, status, *[file.seek(0) or file.read() for file in (out, log)])


def run(*variables, by=None, stderr=subprocess.PIPE, **environment):
    """by: make or script, for tests that are about the command or run in a thread."""
    if by:
        ran = subprocess.run(
            by(*variables), cwd=REPO, env=caller(**environment), timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )
    else:
        ran = forked(script(*variables), caller(**environment), stderr)
    ran.stderr = (ran.stderr or b"").decode()
    return ran


def screen(*variables, **environment):
    """All that a terminal shows."""
    return run(*variables, stderr=subprocess.STDOUT, **environment).stdout.decode()


def duration(printed):
    return float(re.search(r"(?m)^REPORT .*?\tDuration: (\S+) ms", printed)[1])


def guess(root):
    """The handler of a folder, when none is given."""
    with contextlib.redirect_stderr(io.StringIO()):
        return find_handler(root)


class Value(unittest.TestCase):
    def test_the_example(self):
        ran = run(by=make)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        response = json.loads(ran.stdout)
        self.assertEqual(response["statusCode"], 200)
        self.assertEqual(json.loads(response["body"]), {"hello": "Ada"})
        self.assertIn(b'{\n  "statusCode": 200,\n', ran.stdout)
        self.assertRegex(ran.stderr, r"\[INFO\].*greeting Ada")
        self.assertRegex(ran.stderr, REPORT)

    def test_anyones_function_with_an_event_on_the_command_line(self):
        awkward = "it's \"5\" $HOME `pwd` $(PYTHON) # 100% \\ é"
        with function(function="def handler(event, context): return event") as root:
            ran = run(f"TASK_ROOT={root}", "HANDLER=function.handler", f"EVENT={json.dumps([awkward])}", by=make)
            self.assertEqual(json.loads(ran.stdout), [awkward], ran.stderr)
            ran = run(EVENT=json.dumps([awkward]), TASK_ROOT=root, by=make)
            self.assertEqual(json.loads(ran.stdout), [awkward], ran.stderr)

    def test_event_from_a_file(self):
        files = {"event.json": '{"from": "the folder"}', "other.json": '\ufeff{"from": "elsewhere"}'}
        with function(function="def handler(event, context): return event", **files) as root:
            self.assertEqual(json.loads(run(f"TASK_ROOT={root}").stdout), {"from": "the folder"})
            ran = run(f"TASK_ROOT={root}", f"EVENT=@{root}/other.json")
            self.assertEqual(json.loads(ran.stdout), {"from": "elsewhere"})
            os.remove(os.path.join(root, "event.json"))
            self.assertEqual(json.loads(run(f"TASK_ROOT={root}").stdout), {})

    def test_handler_of_a_folder(self):
        """Without HANDLER: the usual names, or the only file there is."""
        for file, name in (
            ("function", "handler"), ("lambda_function", "lambda_handler"), ("app", "lambda_handler"), ("orders", "handler"),
        ):
            with self.subTest(file), function(**{file: f"def {name}(event, context): pass"}) as root:
                self.assertEqual(guess(root), f"{file}.{name}")

    def test_handler_of_a_folder_that_has_the_runtime(self):
        with function(hello="def handler(event, context): return 1", runtime="") as root:
            ran = run(f"TASK_ROOT={root}")
            self.assertEqual((ran.stdout, ran.returncode), (b"1\n", 0), ran.stderr)
            self.assertTrue(ran.stderr.startswith("HANDLER=hello.handler\n"), ran.stderr)

    def test_handler_that_is_no_def(self):
        for source, name in {
            "class Handler:\n    def __call__(self, event, context): return 1\n\nhandler = Handler()": "handler",
            "try:\n    from other import one as lambda_handler\nexcept ImportError: pass": "lambda_handler",
            "from other import *": "handler",
            "# coding: latin-1\ndef handler(event, context): return len('\u00e9') if '\\d' else 0": "handler",
            "def broken(:": "handler",
        }.items():
            with self.subTest(source), function(app=source.encode("latin-1"), other="") as root:
                self.assertEqual(guess(root), f"app.{name}")

    def test_log_without_a_line_break_at_its_end(self):
        with function(function="def handler(event, context): print('no newline', end='')") as root:
            self.assertRegex(screen(f"TASK_ROOT={root}"), r"\Ano newline\n\nnull\n\nREPORT ")

    def test_handler_in_a_package(self):
        with function(**{"shop/orders.py": "def place(event, context): return 'placed'"}) as root:
            ran = run(f"TASK_ROOT={root}", "HANDLER=shop.orders.place")
            self.assertEqual(ran.stdout, b'"placed"\n', ran.stderr)

    def test_folder_with_a_space(self):
        with tempfile.TemporaryDirectory(prefix="my function ") as root:
            pathlib.Path(root, "function.py").write_text("def handler(event, context): return 1")
            ran = run(f"TASK_ROOT={root}", by=make)
            self.assertEqual(ran.stdout, b"1\n", ran.stderr)

    def test_callers_variables_reach_the_function(self):
        source = """
            import os
            def handler(event, context):
                return [os.environ["TABLE"], os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"], os.environ["LAMBDA_TASK_ROOT"]]
        """
        with function(function=source) as root:
            ran = run(f"TASK_ROOT={root}", TABLE="orders", AWS_LAMBDA_FUNCTION_MEMORY_SIZE="512", LAMBDA_TASK_ROOT="/nowhere")
            self.assertEqual(json.loads(ran.stdout), ["orders", "512", root], ran.stderr)
            self.assertIn("\tMemory Size: 512 MB\t", ran.stderr)

    def test_variables_that_make_has_as_well(self):
        """Those of the environment are the function's, those of make's command line make's; of make itself it sees nothing."""
        source = """
            import os
            def handler(event, context):
                return {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "LAMBDA_", "LC_", "_"))}
        """
        lambdas = {"LANG": "en_US.UTF-8", "TZ": ":UTC"}
        with function(function=source) as root:
            def seen(*variables, **environment):
                ran = run(*variables, by=make, **environment)
                self.assertEqual(ran.returncode, 0, ran.stderr)
                # What it sees beyond what the caller has set; PATH begins with the interpreter's folder.
                return {k: v for k, v in json.loads(ran.stdout).items() if v != caller().get(k) and k not in ("PATH", "PWD", "OLDPWD")}

            self.assertEqual(seen(f"FUNCTION={root}"), lambdas)
            own = {"TIMEOUT": "5s", "BUCKET": "b", "STACK": "", "PYTHON": "ours", "OUTPUT": "$x"}
            self.assertEqual(seen(f"FUNCTION={root}", **own), {**lambdas, **own})
            self.assertEqual(seen(f"FUNCTION={root}", "TIMEOUT=4", "HANDLER=function.handler", TIMEOUT="5s"), {**lambdas, "TIMEOUT": "5s"})
            ran = run(f"TASK_ROOT={root}", by=make, EVENT="black friday")
            self.assertEqual(json.loads(ran.stdout)["EVENT"], "black friday")
            self.assertIn("EVENT of the environment is no event, and left to the function: EVENT is not JSON: ", ran.stderr)
            self.assertEqual(seen("TABLE=$(shell echo x)$y", FUNCTION=root), {**lambdas, "TABLE": "$(shell echo x)$y", "FUNCTION": root})

    def test_bytes_go_to_stdout_as_they_are(self):
        with function(function="def handler(event, context): return bytes(event)") as root:
            for data in (bytes(range(256)), b'{"not":  "reformatted"}'):
                ran = run(f"TASK_ROOT={root}", f"EVENT={list(data)}")
                self.assertEqual(ran.stdout, data, ran.stderr)

    def test_pretty_printing_changes_nothing_but_blanks(self):
        self.assertEqual(
            pretty('{"a": [1.10, -2E+3, {}, [ ]],"b":{"{,": "\\"\\u00e9 é: ["}, "a": null}'),
            '{\n  "a": [\n    1.10,\n    -2E+3,\n    {},\n    []\n  ],\n'
            '  "b": {\n    "{,": "\\"\\u00e9 é: ["\n  },\n  "a": null\n}',
        )


class Mistake(unittest.TestCase):
    """Of the person: one line that says what and where, and a non-zero exit."""

    def check(self, message, *variables):
        ran = run(*variables, by=make)
        self.assertNotEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, b"")
        lines = [line for line in ran.stderr.splitlines() if not line.startswith("make: ")]
        self.assertEqual(len(lines), 1, ran.stderr)
        self.assertIn(message, lines[0])

    def test_task_root(self):
        self.check("FUNCTION=nowhere: no such folder", "FUNCTION=nowhere")
        self.check("TASK_ROOT=nowhere: no such folder", "TASK_ROOT=nowhere")
        self.check("TASK_ROOT=Makefile: pass the folder", "TASK_ROOT=Makefile")
        self.check("TASK_ROOT= is empty: pass the folder", "TASK_ROOT=")

    def test_event(self):
        self.check("EVENT=@nowhere.json: no such file", "EVENT=@nowhere.json")
        with function(**{"file.json": "{"}) as root:
            for event, message in {
                "@": "EVENT=@: pass the file's name as well, as in EVENT=@event.json",
                f"@{root}": f"EVENT=@{root}: Is a directory",
                f"@{root}/file.json": f"EVENT=@{root}/file.json is not JSON: ",
                '{"k": ': "EVENT is not JSON: Expecting value: line 1 column 7",
                f"{root}/file.json": f"(a file is EVENT=@{root}/file.json)",
                "[NaN]": "EVENT is not JSON: it has NaN",
                "[" * 1_000_000 + "]" * 1_000_000: "EVENT is nested too deeply for Python",
                "-Infinity": "EVENT is not JSON: it has -Infinity",
            }.items():
                with self.subTest(event[:40]), self.assertRaises(SystemExit) as raised:
                    read_event(event, root)
                self.assertIn(message, raised.exception.code)
                self.assertNotIn("\n", raised.exception.code)

    def test_event_in_the_folder(self):
        with function(function="def handler(event, context): return event", **{"event.json": "{'k': 1}"}) as root:
            self.check(f"{root}/event.json is not JSON: ", f"TASK_ROOT={root}")

    def test_handler_that_cannot_be_guessed(self):
        with function(one="", two="") as root:
            self.check(f"{root} has one.py, two.py: pass HANDLER=file.function", f"TASK_ROOT={root}")
        with function() as root:
            self.check(f"{root} has no .py file: pass HANDLER=file.function", f"TASK_ROOT={root}")
            shutil.copy(REPO / "runtime.py", root)
            self.check(f"{root} has no .py file: pass HANDLER=file.function", f"TASK_ROOT={root}")
        with function(runtime="def handler(event, context): return __name__") as root:
            self.assertEqual(guess(root), "runtime.handler")
            pathlib.Path(root, "app.py").touch()
            self.assertEqual(guess(root), "app.handler")
        for source, message in {
            "handlers = []\ndef _helper(): pass\ndef my_function(event, context): lambda: 1": "my_function: pass HANDLER=thing.my_function",
            "def one(): pass\nif True:\n    async def two(): pass": "one, two: pass HANDLER=thing.function",
        }.items():
            with function(thing=source) as root, self.assertRaises(SystemExit) as raised:
                guess(root)
            self.assertEqual(raised.exception.code, f"thing.py defines {message}")


class Failure(unittest.TestCase):
    """Of the function: what Lambda would log, word for word, then what it would answer, and a non-zero exit."""

    def fails(self, ran, error_type):
        self.assertNotEqual(ran.returncode, 0)
        document = json.loads(ran.stdout)
        self.assertEqual(document["errorType"], error_type)
        return document

    def test_exception(self):
        source = """
            import sys
            def handler(event, context):
                print("one")
                print("two", file=sys.stderr)
                raise ValueError("bad é")
        """
        with function(function=source) as root:
            ran = run(f"TASK_ROOT={root}")
            with Lambda(root) as aws:
                error = aws.invoke()
                logged = aws.log
        document = self.fails(ran, "ValueError")
        self.assertEqual({**document, "requestId": None}, {**error.json, "requestId": None})
        self.assertIn("ValueError: bad é", logged)
        # There both streams go to one place. Lines within a record end with \r, which a terminal would not show as such.
        self.assertTrue(ran.stderr.startswith(logged.replace("one\n", "one\ntwo\n").replace("\r", "\n")), ran.stderr)
        self.assertRegex(ran.stderr, REPORT)

    def test_init(self):
        broken = {"function": "def handler(event, context):\n    return (\n", "fine": "x = 1"}
        with function(**broken) as root:
            for handler, error_type in (
                ("function.handler", "Runtime.UserCodeSyntaxError"),
                ("fine.missing", "Runtime.HandlerNotFound"),
                ("missing.handler", "Runtime.ImportModuleError"),
            ):
                with self.subTest(handler):
                    ran = run(f"TASK_ROOT={root}", f"HANDLER={handler}")
                    self.fails(ran, error_type)
                    with Lambda(root, handler) as aws:
                        aws.wait()
                        logged = aws.log + aws.stderr
                    self.assertIn(error_type, logged)
                    self.assertTrue(ran.stderr.startswith(logged.replace("\r", "\n")), ran.stderr)
                    self.assertRegex(ran.stderr, r"(?m)^REPORT RequestId: .*\tInit Duration: ")

    def test_name_without_a_dot(self):
        with function(function="def handler(event, context): return 1") as root:
            for handler in "function/handler", ".handler":
                with self.subTest(handler):
                    ran = run(f"TASK_ROOT={root}", f"HANDLER={handler}")
                    self.assertIn("errorType", json.loads(ran.stdout))
                    self.assertNotEqual(ran.returncode, 0)
                    hint = f"HANDLER={handler}: it is file.function, as in function.handler"
                    self.assertRegex(ran.stderr, rf"(?s)\A\[ERROR\] .*\n{hint}\nREPORT ")

    def test_names_that_are_nearly_right(self):
        """The hint is make run's; the log is Lambda's."""
        files = {
            "ok": "import json\ndef handler(event, context): return 1\ndef other(): pass\nhandlers = {}",
            "shop/orders": "def place(event, context): return 1",
            "package/__init__.py": "def handler(event, context): return 1",
            "empty": "x = 1",
            "needs": "import missing\ndef handler(event, context): return 1",
            "json": "def handler(event, context): return 1",
        }
        hints = {
            "ok.py.handler": "it is file.function: HANDLER=ok.handler?",
            "ok:handler": "it is file.function: HANDLER=ok.handler?",
            "ok.handler()": "it is file.function: HANDLER=ok.handler?",
            "./ok.handler": "it is file.function: HANDLER=ok.handler?",
            "ok.handler ": "it is file.function: HANDLER=ok.handler?",
            "Ok.handler": "there is no Ok.py in {}: HANDLER=ok.handler?",
            "ok.hander": "ok.py defines handler, other: HANDLER=ok.handler?",
            "ok.lambda_function": "ok.py defines handler, other",
            "okay.handler": "there is no okay.py in {}: HANDLER=ok.handler?",
            "shop/orders.plcae": "shop/orders.py defines place: HANDLER=shop/orders.place?",
            "shop.order.place": "there is no shop/order.py in {}: HANDLER=shop/orders.place?",
            "ok.other.x": "it is file.function: HANDLER=ok.other?",
            "okay.missing": "there is no okay.py in {}, but ok.py, which defines handler, other",
            "empty.handler": "empty.py defines no function",
            "elsewhere.handler": "there is no elsewhere.py in {}",
            "package.hndler": "package/__init__.py defines handler: HANDLER=package.handler?",
            "needs.handler": None,
            "json.handler": "json.py is hidden by Python's own json, as on AWS: give it another name",
        }
        if sys.version_info < (3, 10):
            del hints["json.handler"]  # Python 3.9 cannot list its standard library
        with function(**files) as root:
            for n, (handler, text) in enumerate(hints.items()):
                with self.subTest(handler):
                    if n == 0:
                        ran = run(f"TASK_ROOT={root}", f"HANDLER={handler}")
                        self.assertNotEqual(ran.returncode, 0)
                        said = ran.stderr
                    else:  # in a quarter of the time
                        with Lambda(root, handler) as aws:
                            self.assertNotEqual(aws.wait(), 0)
                            said = hint(root, handler, aws.init_error.json)
                    said = [line for line in said.splitlines() if line.startswith("HANDLER=")]
                    self.assertEqual(said, [f"HANDLER={handler}: {text.format(root)}"] if text else [])
            self.assertTrue(hint(root, "/ok.handler", {"errorType": "ValueError"}).endswith(" HANDLER=ok.handler?"))
            for way in f"{root}/shop", f"../{os.path.basename(root)}/shop":
                ran = run(f"TASK_ROOT={root}", f"HANDLER={way}/orders.place", MAKE_FUNCTION="TASK_ROOT")
                where = os.path.relpath(os.path.join(root, way), REPO)
                self.assertIn(f"\nHANDLER={way}/orders.place: its folder has a variable of its own: TASK_ROOT={where} HANDLER=orders.place?\n", ran.stderr)

    def test_web_applications(self):
        source = """
            import runtime
            class Flask:
                def __call__(self, environ, start_response): return environ["wsgi.url_scheme"]
            class FastAPI:
                async def __call__(self, scope, receive, send): pass
            async def plain(scope, receive, send): pass
            def other(environ, start_response): start_response("200 OK", [])
            a, b = Flask(), FastAPI()
            flask, fastapi = runtime.asgi(Flask()), runtime.wsgi(FastAPI())
        """
        with function(function=source) as root:
            for name, right in ("flask", "WSGI"), ("a", "WSGI"), ("other", "WSGI"), ("fastapi", "ASGI"), ("b", "ASGI"), ("plain", "ASGI"):
                with self.subTest(name):
                    ran = run(f"TASK_ROOT={root}", f"HANDLER=function.{name}", 'EVENT={"httpMethod": "GET"}')
                    self.assertRegex(ran.stderr, rf"\nan? {right} application\? Its handler is runtime.{right.lower()}\(app\): ")
            ran = run(f"TASK_ROOT={root}", "HANDLER=function.flask", "EVENT={}")
            self.assertIn("""\nan HTTP event, to begin with: EVENT='{"httpMethod": "GET", "path": "/"}'; make serve """, ran.stderr)

    def test_handler_for_a_folder_that_was_not_given(self):
        ran = run("HANDLER=orders.handler")
        self.assertRegex(ran.stderr, r"\AFUNCTION=tests/hello\n\[ERROR\] .* No module named 'orders'")
        with function(orders="def handler(event, context): return 1") as root:
            self.assertNotIn("FUNCTION", run(f"TASK_ROOT={root}", "HANDLER=orders.handler").stderr)

    def test_import_that_does_not_end(self):
        """After 10 s Lambda begins it anew, and lets it take what the invocation may."""
        code = "import miniature.run as r, sys; r.LONGEST_INIT = 1; sys.exit(r.main(*sys.argv[1:]))"
        source = """
            import os, threading

            try:
                os.mkdir(os.environ["ONCE"])
                threading.Event().wait(60)
            except FileExistsError:
                os.environ["TWICE"] and threading.Event().wait(60)

            def place(event, context):
                return event
        """
        def ran(twice):
            with function(**{"shop/orders.py": source}) as root:
                return subprocess.run(
                    [sys.executable, "-c", code, root, "shop.orders.place"], cwd=REPO / "tests", timeout=30, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    env=caller(TIMEOUT="2" if twice else "20", EVENT="[]", ONCE=os.path.join(root, "once"), TWICE=twice),
                )

        with concurrent.futures.ThreadPoolExecutor() as pool:  # each takes its seconds
            once, twice = pool.map(ran, ("", "1"))
        for each in once, twice:
            *told, rest = each.stderr.decode().split("\n", 2)
            self.assertEqual(told[0], "INIT_REPORT Init Duration: 1000.00 ms\tPhase: init\tStatus: timeout")
            self.assertRegex(told[1], "The import of shop.orders has taken 1 s: as on Lambda it begins anew, as a part of the invocation, which may take [0-9]+ s")
        self.assertEqual((once.returncode, once.stdout), (0, b"[]\n"), once.stderr)
        self.assertEqual((twice.returncode, twice.stdout), (1, b""))
        self.assertRegex(rest, r"\A\S+ Task timed out after 2.00 seconds .*\nREPORT .*\n\Z")

    def test_process_that_ends(self):
        source = """
            import os, signal
            def handler(event, context):
                print("before")
                os.kill(os.getpid(), signal.SIGSEGV) if event is None else os._exit(event)
        """
        with function(function=source) as root:
            for event, error in (
                ("7", "with error: exit status 7"), ("null", "with error: signal: segmentation fault"), ("0", "without providing a reason"),
            ):
                ran = run(f"TASK_ROOT={root}", f"EVENT={event}", by=script)  # under -X dev Python tells of a SIGSEGV
                self.assertNotEqual(ran.returncode, 0)
                self.assertEqual(ran.stdout, b"")
                self.assertRegex(ran.stderr, rf"\Abefore\nRequestId: \S+ Error: Runtime exited {error}\nREPORT ")
                self.assertRegex(ran.stderr, r"\tStatus: error\tError Type: Runtime.ExitError\n")

    def test_memory_that_is_no_number(self):
        for size in "256MB", "256.5", "", "0", "-1":
            ran = run(AWS_LAMBDA_FUNCTION_MEMORY_SIZE=size)
            self.assertEqual((ran.returncode, ran.stdout), (1, b""))
            self.assertEqual(ran.stderr, f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE={size}: a number of megabytes, as 128 is, without a unit\n")

    def test_a_response_that_is_nested_too_deeply_to_be_indented(self):
        text = b"[" * 30_000 + b"]" * 30_000
        with function(function=f"def handler(event, context): return {text!r}") as root:
            ran = run(f"TASK_ROOT={root}")
        self.assertEqual((ran.returncode, ran.stdout.strip()), (0, text), ran.stderr[-1000:])

    def test_memory_where_nothing_tells(self):
        """The process is gone from /proc, and slim images have no ps."""
        with mock.patch.dict(os.environ, PATH="/nowhere"):
            self.assertIsNone(peak_memory(1 << 22))  # greater than any

    def test_sys_exit(self):
        with function(function="import sys\ndef handler(event, context): sys.exit(event)") as root:
            for event, error in (("3", "with error: exit status 3"), ("0", "without providing a reason")):
                ran = run(f"TASK_ROOT={root}", f"EVENT={event}")
                self.fails(ran, "SystemExit")
                self.assertRegex(ran.stderr, rf"\n\nRequestId: \S+ Error: Runtime exited {error}\nREPORT .*\tError Type: Runtime.ExitError\n")

    def test_end_after_the_response(self):
        source = """
            import os
            class Last(bytes):
                def __del__(self): os._exit(3)
            def handler(event, context):
                return Last(b"all")
        """
        with function(function=source) as root:
            ran = run(f"TASK_ROOT={root}")
        self.assertEqual(ran.stdout, b"all")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn("Runtime exited with error: exit status 3\n", ran.stderr)

    def test_response_over_6_mb(self):
        with function(function="def handler(event, context): return 'x' * 7_000_000") as root:
            self.fails(run(f"TASK_ROOT={root}"), "Function.ResponseSizeTooLarge")
            self.assertRegex(screen(f"TASK_ROOT={root}"), r'\Aruntime: POST .* 413 .*\n\n\{\n  "errorMessage": ')


class Told(unittest.TestCase):
    """What make run says beside what Lambda does."""

    def test_the_event_that_it_took(self):
        with function(function="def handler(event, context): return event") as root:
            self.assertEqual(run(f"TASK_ROOT={root}", by=make).stderr.splitlines()[0], f"EVENT={{}}, since there is no {root}/event.json")
            pathlib.Path(root, "event.json").write_text("[]")
            self.assertEqual(run(f"TASK_ROOT={root}").stderr.splitlines()[0], f"EVENT=@{root}/event.json")
            self.assertNotIn("EVENT", run(f"TASK_ROOT={root}", "EVENT=1").stderr)

    def test_a_write_into_its_folder(self):
        source = """
            import tempfile
            def handler(event, context):
                tempfile.TemporaryFile().close()
                for name in event: open(name, "w").close()
        """
        with function(function=source) as root:
            self.assertNotIn("warning", run(f"TASK_ROOT={root}").stderr)
            ran = run(f"TASK_ROOT={root}", 'EVENT=["b.txt", "a.txt"]')
            self.assertRegex(ran.stderr, r"\nwarning: a.txt and 1 more changed while the function ran: .* fails on Lambda, .*\n\Z")
            self.assertEqual(ran.returncode, 0)

    def test_its_response_and_log_in_the_folder(self):
        with function(function="def handler(event, context): return 1") as root:
            with open(os.path.join(root, "out.json"), "wb") as out, open(os.path.join(root, "run.log"), "w+") as log:
                subprocess.run(script(f"TASK_ROOT={root}"), cwd=REPO, env=caller(), timeout=60, stdin=subprocess.DEVNULL, stdout=out, stderr=log, check=True)
                self.assertRegex(os.pread(log.fileno(), 10_000, 0).decode(), r"\A\n+REPORT .*\n\Z")

    def test_a_package_that_is_not_installed(self):
        python = shlex.quote(sys.executable)
        pip = f"{python} -m pip install"
        managed = sys.prefix == sys.base_prefix and os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))
        if managed:
            pip = f"{python} -m venv .venv && .venv/bin/pip install"
        with function(function="import json\nimport no_such.thing\ndef handler(event, context): pass") as root:
            def advice(module="no_such"):
                return hint(root, "function.handler", {"errorType": "ModuleNotFoundError", "errorMessage": f"No module named '{module}'"})

            self.assertIn(f"\nno_such is not installed: {pip} no_such", run(f"TASK_ROOT={root}").stderr)
            self.assertTrue(advice().endswith(f"; named in {root}/requirements.txt, make dist installs it as well"), advice())
            self.assertIn(f"install {'pyyaml'}", advice("yaml.nodes"))
            self.assertIn("asyncore has left Python's standard library", advice("asyncore"))
            pathlib.Path(root, "requirements.txt").write_text("other\nNo-Such[extra]>=1 # of both\n")
            self.assertRegex(advice(), rf"\Ano_such is not installed: {re.escape(pip)} -r {root}/requirements.txt(, and then PYTHON=.*)?\Z")
            self.assertIsNone(hint(root, "function.handler", {"errorType": "ImportError", "errorMessage": "cannot import name 'a' from 'b'"}))

    def test_a_folder_below_the_right_one(self):
        with function(**{"shop/orders/app.py": "import shop.prices\ndef handler(event, context): pass", "shop/__init__.py": "", "prices.py": ""}) as root:
            root = os.path.realpath(root)
            where = os.path.relpath(root, REPO)
            said = run(f"TASK_ROOT={root}/shop/orders").stderr
            self.assertIn(f"\nshop is in {root}: FUNCTION={where} HANDLER=shop.orders.app.handler?\n", said)

    def test_a_folder_that_is_not_given(self):
        with function(app="def handler(event, context): pass") as root:
            ran = subprocess.run(
                ["make", "-s", "-f", f"{REPO}/Makefile", "run", f"PYTHON={sys.executable}", "HANDLER=app.handler"],
                cwd=root, env=caller(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60,
            )
            self.assertIn(f"\nHANDLER=app.handler: there is no app.py in {REPO}/tests/hello, but here: FUNCTION=. HANDLER=app.handler?\n", ran.stderr.decode())

    def test_an_extension_for_another_python(self):
        for tag, message in (
            ("cpython-38-x86_64-linux-gnu.so", r"(?m)^not built for Python {}: fast/_fast.{} \(PYTHON=python3.8 runs it\)$"),
            ("abi3.so", r"(?m)^not built for \S+ on \S+: fast/_fast.{1} \(install it anew, here\)$"),
        ):
            files = {"function": "from fast import _fast", "fast/__init__.py": "", f"fast/_fast.{tag}": b"\x7fELF\x02\x01", "slow.cpython-38-x.so": b""}
            machine = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 62) if tag.startswith("cpython") else 8
            files[f"fast/_fast.{tag}"] += bytes(12) + machine.to_bytes(2, "little")
            with function(**files) as root:
                version = "%d.%d" % sys.version_info[:2]
                self.assertRegex(run(f"TASK_ROOT={root}", "HANDLER=function.handler").stderr, message.format(re.escape(version), re.escape(tag)))


class OwnBootstrap(unittest.TestCase):
    """A script that calls runtime.run(), in place of this repository's bootstrap: Lambda starts what the folder has."""

    SOURCE = """
        #!/usr/bin/env python3
        import runtime
        runtime.run(lambda event, context: ["its own", event, runtime.__file__])
    """

    def test_it_runs(self):
        for files in {}, {"one.py": "", "two.py": ""}, {"runtime.py": (REPO / "runtime.py").read_bytes()}:
            with self.subTest([*files]), function(**files) as root:
                path = pathlib.Path(root, "bootstrap")
                path.write_text(textwrap.dedent(self.SOURCE).lstrip())
                ran = run(f"TASK_ROOT={root}", "EVENT=1")
                self.assertEqual((ran.stderr, ran.returncode), (f"{path} is not executable, and Lambda starts it: chmod +x {path}\n", 1))
                path.chmod(0o755)
                where = root if files and "one.py" not in files else REPO
                for handler in "", "what.ever":
                    ran = run(f"TASK_ROOT={root}", "EVENT=1", f"HANDLER={handler}")
                    self.assertEqual((ran.returncode, json.loads(ran.stdout)), (0, ["its own", 1, f"{where}/runtime.py"]), ran.stderr)
                    self.assertRegex(ran.stderr, rf"\A{path} is the function's, in place of this runtime's: .*\n+REPORT ")

    def test_it_does_not_start(self):
        with function() as root:
            path = pathlib.Path(root, "bootstrap")
            path.write_text("#!/nowhere/python3\n")
            path.chmod(0o755)
            ran = run(f"TASK_ROOT={root}", "EVENT=1")
            self.assertEqual((ran.returncode, ran.stderr.count("\n")), (1, 2), ran.stderr)
            self.assertIn(f"\n{path} does not start: No such file or directory; is the program there that its #! line names?\n", ran.stderr)

    def test_a_copy_of_this_repositorys_is_not_one(self):
        with function(app="def handler(event, context): return event") as root:
            shutil.copy(REPO / "bootstrap", root)
            ran = run(f"TASK_ROOT={root}", "EVENT=1")
            self.assertEqual((ran.stdout, ran.stderr.splitlines()[0]), (b"1\n", "HANDLER=app.handler"))


class Output(unittest.TestCase):
    """A stdout that takes nothing: one line, and no traceback."""

    def sh(self, command, *variables):
        with function(function="def handler(event, context): return event", **{"event.json": "[1]"}) as root:
            words = script(f"TASK_ROOT={root}", "HANDLER=function.handler", *variables)
            return subprocess.run(
                ["sh", "-c", command, "sh", *words], cwd=REPO, env=caller(), timeout=60, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, universal_newlines=True,
            )

    def test_full(self):
        for command in 'exec "$@"', f"PORT=0 exec {shlex.quote(sys.executable)} tests/miniature serve tests/hello":
            ran = self.sh(f"{command} >/dev/full")
            self.assertEqual((ran.returncode, "Traceback" in ran.stderr), (1, False), ran.stderr)
            self.assertRegex(ran.stderr, r"(?m)^No space left on device: stdout cannot be written to, or /.*\n\Z")

    def test_closed(self):
        """What would be opened next is not written into."""
        ran = self.sh('exec "$@" >&-')
        self.assertEqual((ran.returncode, ran.stdout), (0, ""), ran.stderr)
        self.assertRegex(ran.stderr, REPORT)
        ran = self.sh('exec "$@" 2>&-')
        self.assertEqual((ran.returncode, ran.stdout), (0, "[\n  1\n]\n"))
        self.assertEqual(self.sh('exec "$@" <&- >&- 2>&-').returncode, 0)

    def test_read_by_nobody(self):
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run(script("EVENT={}"), cwd=REPO, env=caller(), timeout=60, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        self.assertEqual((ran.returncode, b"Traceback" in ran.stderr), (141, False), ran.stderr)


class Live(unittest.TestCase):
    """What shows while the function still works. It waits at a named pipe until the test lets it go on."""

    def start(self, source, stderr=subprocess.PIPE):
        context = function(function=source)
        root = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.gate = os.path.join(root, "gate")
        os.mkfifo(self.gate)
        process = subprocess.Popen(
            make(f"TASK_ROOT={root}", "EVENT={}"), cwd=REPO, env=caller(GATE=self.gate), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(self.end, process)
        context = bounded()  # whatever goes wrong, no read here waits for ever
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return process

    def end(self, process):
        if process.poll() is None:  # a test has failed: make run puts the function away, when it is asked to
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=30)

    def go_on(self):
        with open(self.gate, "w"):
            pass

    def test_stream(self):
        process = self.start("""
            import os
            def handler(event, context):
                yield {"statusCode": 201, "headers": {"x": "y"}}
                yield "first\\n"
                open(os.environ["GATE"]).close()
                yield "second\\n"
        """)
        self.assertEqual(process.stdout.readline(), b"first\n")
        metadata = b"".join(iter(process.stderr.readline, b"}\n"))  # there before the body is
        self.assertEqual(json.loads(metadata + b"}"), {"statusCode": 201, "headers": {"x": "y"}})
        self.go_on()
        out, err = process.communicate()
        self.assertEqual(out, b"second\n")
        self.assertRegex(err.decode(), REPORT)
        self.assertEqual(process.returncode, 0)

    def test_log(self):
        process = self.start("""
            import os
            def handler(event, context):
                print("working")
                open(os.environ["GATE"]).close()
                return "done"
        """)
        self.assertEqual(process.stderr.readline(), b"working\n")
        self.go_on()
        self.assertEqual(process.communicate()[0], b'"done"\n')

    def test_log_in_a_line_of_a_stream(self):
        process = self.start("""
            import os
            def handler(event, context):
                yield "begun"
                open(os.environ["GATE"]).close()
                print("log", end="")
                yield "ended"
        """, stderr=subprocess.STDOUT)
        self.assertEqual(process.stdout.read(6), b"\nbegun")
        self.go_on()
        self.assertRegex(process.communicate()[0], rb"\A\nlog\nended\n\nREPORT ")

    def test_ctrl_c(self):
        process = self.start("""
            import os
            def handler(event, context):
                print(os.getpid())
                open(os.environ["GATE"]).close()
        """)
        function_ = int(process.stderr.readline())
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate()
        self.assertEqual(out, b"")
        self.assertNotIn(b"Traceback", err)
        self.assertNotEqual(process.returncode, 0)
        with self.assertRaises(ProcessLookupError):
            os.kill(function_, 0)

    def test_a_signal_that_interrupts_no_wait(self):
        """Python hears of it when the wait is over: of one that another thread gets, as here, and of a Ctrl-C in the microsecond before the wait."""
        class Heard(Exception):
            pass

        def handler(number, frame):
            raise Heard

        def signal_this_thread():
            with aws.condition:  # the main thread has begun to wait
                until_asleep(os.getpid())
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        self.addCleanup(signal.signal, signal.SIGUSR1, signal.signal(signal.SIGUSR1, handler))
        thread = threading.Thread(target=signal_this_thread)
        with bounded("it is not heard"), Lambda(".", start=False) as aws:
            screen = Screen(aws)
            with self.assertRaises(Heard), aws.condition:
                thread.start()
                screen.wait(lambda: False, 1000)
            thread.join()


class Stream(unittest.TestCase):
    def test_error_in_the_middle(self):
        source = """
            def handler(event, context):
                yield "all went w"
                raise ValueError("late")
        """
        with function(function=source) as root:
            ran = run(f"TASK_ROOT={root}")
        self.assertEqual(ran.stdout, b"all went w")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn('  "errorMessage": "late",\n', ran.stderr)
        self.assertRegex(ran.stderr, REPORT)

    def test_error_in_the_middle_comes_after_what_was_sent(self):
        source = """
            def handler(event, context):
                yield "some"
                yield "more"
                raise ValueError("late")
        """
        with function(function=source) as root:
            for form in "Text", "JSON":
                shown = screen(f"TASK_ROOT={root}", AWS_LAMBDA_LOG_FORMAT=form)
                # The record comes over another channel than the chunks, and may be shown between them.
                record = re.search(r'(\[ERROR\] V.*\nTraceback .*\n(?:\xa0\xa0.*\n)+|{"timestamp".*\n)', shown)[0]
                self.assertRegex(shown.replace(record, ""), r'\A\s*some\s*more\s+\{\n  "errorMessage": "late",\n')

    def test_duration_is_that_of_the_whole(self):
        with function(function="import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(0.1)") as root:
            self.assertGreaterEqual(duration(run(f"TASK_ROOT={root}").stderr), 100)

    def test_process_that_ends_in_the_middle(self):
        source = """
            import os
            def handler(event, context):
                yield "all went w"
                os._exit(7)
        """
        with function(function=source) as root:
            ran = run(f"TASK_ROOT={root}")
        self.assertEqual(ran.stdout, b"all went w")
        self.assertNotEqual(ran.returncode, 0)
        self.assertIn("Error: Runtime exited with error: exit status 7\nREPORT ", ran.stderr)

    def test_bytes_without_metadata(self):
        with function(function="def handler(event, context):\n    yield b'a'\n    yield b'b'") as root:
            ran = run(f"TASK_ROOT={root}")
        self.assertEqual((ran.stdout, ran.returncode), (b"ab", 0), ran.stderr)


class Timeout(unittest.TestCase):
    def test_says_where_the_function_was(self):
        with function(function="import threading\n\ndef handler(event, context): threading.Event().wait()") as root:
            for _ in range(5):  # on a busy machine the process may not get to tell it in the 100 ms that it has for that
                ran = run(f"TASK_ROOT={root}", "TIMEOUT=1", PYTHONFAULTHANDLER="1")
                if "in handler" in ran.stderr:
                    break
        self.assertNotEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, b"")
        self.assertRegex(ran.stderr, r"(?s)function.py\", line 3 in handler.* in RequestId: [0-9a-f-]{36}\n.* Task timed out after 1.00 seconds\n")

    def test_in_the_middle_of_a_stream(self):
        def shown(rest):
            source = f"import threading, time\ndef handler(event, context):\n    yield 'begun'\n    {rest}"
            with function(function=source) as root:
                return screen(f"TASK_ROOT={root}", "TIMEOUT=1", by=script)

        rests = "threading.Event().wait()", "while True: time.sleep(0.01); yield ''", "while True: time.sleep(0.01); yield '.'"
        with concurrent.futures.ThreadPoolExecutor() as pool:  # each takes its second
            for text in pool.map(shown, rests):
                hint = r"\(PYTHONFAULTHANDLER=1 shows where\)"
                self.assertRegex(text, rf"\A\nbegun\.*\n[0-9a-f-]{{36}} Task timed out after 1.00 seconds {hint}\nREPORT ")
                self.assertGreaterEqual(duration(text), 1000)

    def test_is_the_runtimes_on_managed_instances(self):
        def ran(rest):
            with function(function=f"import threading\ndef handler(event, context):\n    {rest}") as root:
                return run(f"TASK_ROOT={root}", "TIMEOUT=1", "AWS_LAMBDA_MAX_CONCURRENCY=2", by=script)

        error = r'"errorMessage": "RequestId: \S+ Error: Task timed out after \d.\d\d seconds"'
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for begun, each in zip(("", "begun"), pool.map(ran, ("threading.Event().wait()", "yield 'begun'; threading.Event().wait()"))):
                self.assertRegex(each.stdout.decode(), rf"(?s)\A{begun}{{\n  {error},\n.*}}\n\Z", each.stderr)
                self.assertRegex(each.stderr, r"\A\n*runtime: RequestId: (\S+) Error: Task .*\n+REPORT RequestId: \1\t.* ms\n\Z")
                self.assertEqual(each.returncode, 1)

    def test_a_worker_that_dies_on_managed_instances(self):
        with function(function="import os\ndef handler(event, context):\n    yield 'begun'\n    open('gate').close()\n    os._exit(3)") as root:
            gate = os.path.join(root, "gate")
            os.mkfifo(gate)
            command, pipe = script(f"TASK_ROOT={root}", "AWS_LAMBDA_MAX_CONCURRENCY=2"), subprocess.PIPE
            with subprocess.Popen(command, cwd=REPO, env=caller(), stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.DEVNULL) as process:
                self.assertEqual(process.stdout.read(5), b"begun")
                tell(gate)
                self.assertEqual(json.loads(process.communicate(timeout=30)[0])["errorType"], "Runtime.ExitError")
            self.assertEqual(process.returncode, 1)

    def test_is_no_number_of_seconds(self):
        for timeout in "x", "0", "5401":
            ran = run(f"TIMEOUT={timeout}", by=make)
            self.assertNotEqual(ran.returncode, 0)
            self.assertRegex(ran.stderr, rf"\ATIMEOUT={timeout}: seconds from 1 to 5400\nmake: ")


if __name__ == "__main__":
    unittest.main()
