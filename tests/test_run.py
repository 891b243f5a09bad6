"""`make run`, as someone uses it who wants to see a function work."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from runtime_api import REPO, Lambda, function, pretty

REPORT = re.compile(
    r"^REPORT RequestId: [0-9a-f-]{36}\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms"
    r"\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: \d+\.\d\d ms$",
    re.M,
)


def command(*variables):
    return ["make", "-s", "run", f"PYTHON={sys.executable}", *variables]


def caller(**variables):
    """The environment of someone who has a shell, and is not inside another make."""
    ours = ("EVENT", "TASK_ROOT", "HANDLER", "TIMEOUT")
    return {
        **{k: v for k, v in os.environ.items() if k not in ours and not k.startswith(("MAKE", "MFLAGS", "AWS_", "PYTHON"))},
        **variables,
    }


def run(*variables, **environment):
    ran = subprocess.run(
        command(*variables), cwd=REPO, env=caller(**environment), timeout=60,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    ran.stderr = ran.stderr.decode()
    return ran


class Value(unittest.TestCase):
    def test_the_example(self):
        ran = run()
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
            ran = run(f"TASK_ROOT={root}", "HANDLER=function.handler", f"EVENT={json.dumps([awkward])}")
            self.assertEqual(json.loads(ran.stdout), [awkward], ran.stderr)
            ran = run(EVENT=json.dumps([awkward]), TASK_ROOT=root)
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
            with self.subTest(file), function(**{file: f"def {name}(event, context): return __name__"}) as root:
                ran = run(f"TASK_ROOT={root}")
                self.assertEqual((ran.stdout, ran.returncode), (b'"%s"\n' % file.encode(), 0), ran.stderr)

    def test_handler_in_a_package(self):
        with function(**{"shop/orders.py": "def place(event, context): return 'placed'"}) as root:
            ran = run(f"TASK_ROOT={root}", "HANDLER=shop.orders.place")
            self.assertEqual(ran.stdout, b'"placed"\n', ran.stderr)

    def test_folder_with_a_space(self):
        with tempfile.TemporaryDirectory(prefix="my function ") as root:
            pathlib.Path(root, "function.py").write_text("def handler(event, context): return 1")
            ran = run(f"TASK_ROOT={root}")
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
        ran = run(*variables)
        self.assertNotEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, b"")
        lines = [line for line in ran.stderr.splitlines() if not line.startswith("make: ")]
        self.assertEqual(len(lines), 1, ran.stderr)
        self.assertIn(message, lines[0])

    def test_task_root(self):
        self.check("TASK_ROOT=nowhere: no such folder", "TASK_ROOT=nowhere")
        self.check("TASK_ROOT=Makefile: pass the folder", "TASK_ROOT=Makefile")

    def test_event(self):
        self.check("EVENT=@nowhere.json: no such file", "EVENT=@nowhere.json")
        self.check("EVENT=@tests: Is a directory", "EVENT=@tests")
        self.check("EVENT=@Makefile is not JSON: ", "EVENT=@Makefile")
        self.check("EVENT is not JSON: Expecting value: line 1 column 7", 'EVENT={"k": ')

    def test_event_in_the_folder(self):
        with function(function="def handler(event, context): return event", **{"event.json": "{'k': 1}"}) as root:
            self.check(f"{root}/event.json is not JSON: ", f"TASK_ROOT={root}")

    def test_handler_that_cannot_be_guessed(self):
        with function(one="", two="") as root:
            self.check(f"TASK_ROOT={root} has one.py, two.py: pass HANDLER=file.function", f"TASK_ROOT={root}")
        with function() as root:
            self.check(f"TASK_ROOT={root} has no .py file: pass HANDLER=file.function", f"TASK_ROOT={root}")


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
            with Lambda(root) as lambda_:
                error = lambda_.invoke()
                logged = lambda_.log
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
                    with Lambda(root, handler) as lambda_:
                        lambda_.wait()
                        logged = lambda_.log + lambda_.stderr
                    self.assertIn(error_type, logged)
                    self.assertTrue(ran.stderr.startswith(logged.replace("\r", "\n")), ran.stderr)
                    self.assertRegex(ran.stderr, r"(?m)^REPORT RequestId: .*\tInit Duration: ")

    def test_process_that_ends(self):
        source = """
            import os, signal
            def handler(event, context):
                print("before")
                os.kill(os.getpid(), signal.SIGSEGV) if event is None else os._exit(event)
        """
        with function(function=source) as root:
            for event, error in (
                ("7", "with error: exit status 7"), ("null", "with error: signal SIGSEGV"), ("0", "without providing a reason"),
            ):
                ran = run(f"TASK_ROOT={root}", f"EVENT={event}")
                self.assertNotEqual(ran.returncode, 0)
                self.assertEqual(ran.stdout, b"")
                self.assertRegex(ran.stderr, rf"\Abefore\n(?s:.*)RequestId: \S+ Error: Runtime exited {error}\nREPORT ")

    def test_sys_exit(self):
        with function(function="import sys\ndef handler(event, context): sys.exit(0)") as root:
            self.fails(run(f"TASK_ROOT={root}"), "SystemExit")

    def test_response_over_6_mb(self):
        with function(function="def handler(event, context): return 'x' * 7_000_000") as root:
            self.fails(run(f"TASK_ROOT={root}"), "Function.ResponseSizeTooLarge")


class Live(unittest.TestCase):
    """What shows while the function still works. It waits at a named pipe until the test lets it go on."""

    def start(self, source):
        context = function(function=source)
        root = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.gate = os.path.join(root, "gate")
        os.mkfifo(self.gate)
        process = subprocess.Popen(
            command(f"TASK_ROOT={root}"), cwd=REPO, env=caller(GATE=self.gate), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(self.end, process)
        # Whatever goes wrong, no read here waits for ever.
        alarm = signal.signal(signal.SIGALRM, lambda number, frame: self.fail("nothing came within 30 s"))
        signal.alarm(30)
        self.addCleanup(signal.signal, signal.SIGALRM, alarm)
        self.addCleanup(signal.alarm, 0)
        return process

    def end(self, process):
        if process.poll() is None:  # a test has failed: make run puts the function away, when it is asked to
            os.killpg(process.pid, signal.SIGTERM)
            process.communicate(timeout=10)

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
            ran = run(f"TASK_ROOT={root}", "TIMEOUT=1", PYTHONFAULTHANDLER="1")
        self.assertNotEqual(ran.returncode, 0)
        self.assertEqual(ran.stdout, b"")
        self.assertRegex(ran.stderr, r"(?s)function.py\", line 3 in handler.* in RequestId: [0-9a-f-]{36}\n.* Task timed out after 1.00 seconds\n")

    def test_is_no_number_of_seconds(self):
        for timeout in "x", "0", "901", "-1":
            ran = run(f"TIMEOUT={timeout}")
            self.assertNotEqual(ran.returncode, 0)
            self.assertRegex(ran.stderr, rf"\ATIMEOUT={timeout}: seconds from 1 to 900\nmake: ")


if __name__ == "__main__":
    unittest.main()
