"""bootstrap: the ways to start it, the interpreters it finds, wrappers, links, odd paths."""

import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from miniature import FUNCTION_PYTHON, FUNCTION_VERSION, REPO, Lambda, function, tell

BOOTSTRAP = REPO / "bootstrap"
# dash and busybox have little beyond POSIX; Amazon Linux's /bin/sh is bash.
SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"]]
SHELLS = [[shutil.which(name), *rest] for name, *rest in SHELLS if shutil.which(name)] or [["/bin/sh"]]
TOOLS = "/usr/local/bin:/usr/bin:/bin"

FUNCTION = """
    import os, sys

    def handler(event, context):
        return "handler"

    def other(event, context):
        return "other"

    def options(event, context):
        return [list(sys._xoptions), os.environ.get("_HANDLER"), os.environ.get("AWS_LAMBDA_EXEC_WRAPPER")]

    def process(event, context):
        return os.getpid()
"""


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bootstrap-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def script(self, path, text, mode=0o755):
        """An executable in the folder."""
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def invoke(self, event=None, **how):
        """The answer of a function to an event, and that it needed only one process."""
        with function(function=FUNCTION) as root, Lambda(root, **how) as aws:
            return aws.invoke(event).json


class Interpreter(Folder):
    """Where it looks. Fake interpreters say which was started."""

    def setUp(self):
        super().setUp()
        # Its fixed absolute paths, moved into the test's folder. Those of the real file are tested in a
        # root file system of their own, in test_package.py.
        text = BOOTSTRAP.read_text()
        for path in ("/opt/bin/python3", "/var/lang/bin/python3"):
            self.assertIn(path, text)
            text = text.replace(path, f"{self.folder}{path}")
        self.script("moved/bootstrap", text)
        shutil.copy(REPO / "runtime.py", self.folder / "moved")

    def fake(self, path, mode=0o755):
        return self.script(path, f'#!/bin/sh\necho "{path}" "$1"\n', mode)

    def start(self, shell, *arguments, **variables):
        """(what the fake interpreter said, exit status, what bootstrap said)"""
        env = {"PATH": f"{self.folder}/path:{TOOLS}", "LAMBDA_TASK_ROOT": f"{self.folder}/task", "_HANDLER": "a.b"}
        env = {name: value for name, value in {**env, **variables}.items() if value is not None}
        process = subprocess.run(
            [*shell, self.folder / "moved/bootstrap", *arguments], env=env, cwd=self.folder / "path",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=30,
        )
        return process.stdout.partition(" ")[0].strip(), process.returncode, process.stderr

    def test_the_first_that_exists(self):
        places = ["task/bin/python3", "opt/bin/python3", "var/lang/bin/python3", "path/python3"]
        argument = self.fake("var/lang/bin/python3.13")
        for place in places:
            self.fake(place)
        for shell in SHELLS:
            self.assertEqual(self.start(shell, argument, "/var/runtime/bootstrap.py"), ("var/lang/bin/python3.13", 0, ""))
        for place in places:
            for shell in SHELLS:
                with self.subTest(place, shell=shell):
                    self.assertEqual(self.start(shell), (place, 0, ""))
                    self.assertEqual(self.start(shell, "function.handler"), (place, 0, ""))
            (self.folder / place).unlink()

    def test_what_cannot_be_executed_is_no_interpreter(self):
        self.fake("task/bin/python3", mode=0o644)
        (self.folder / "opt/bin/python3").mkdir(parents=True)
        (self.folder / "var/lang/bin").mkdir(parents=True)
        (self.folder / "var/lang/bin/python3").symlink_to("python3.99")
        self.fake("path/python3")
        for shell in SHELLS:
            self.assertEqual(self.start(shell), ("path/python3", 0, ""))

    def test_without_a_task_root_the_working_directory_is_it(self):
        self.fake("path/bin/python3")
        self.fake("opt/bin/python3")
        for shell in SHELLS:
            self.assertEqual(self.start(shell, LAMBDA_TASK_ROOT=None), ("path/bin/python3", 0, ""))

    def test_no_python_at_all(self):
        (self.folder / "path").mkdir()
        for shell in SHELLS:
            with self.subTest(shell):
                said, status, error = self.start(shell, PATH=f"{self.folder}/path")
                self.assertEqual((said, status, error.count("\n")), ("", 127, 1), error)
                places = [f"{self.folder}/{place}/bin/python3" for place in ("task", "opt", "var/lang")]
                for words in (*places, "PATH", f"{self.folder}/path", "layer"):
                    self.assertIn(words, error)

    def test_python_too_old(self):
        (self.folder / "path").mkdir()
        command = shlex.join([FUNCTION_PYTHON, "-u", "-cimport sys; sys.version_info = (3, 8, 18); sys.version = '3.8.18 (main)'; "])
        self.script("opt/bin/python3", f'#!/bin/sh\nexec {command}"${{2#-c}}"\n')
        for shell in SHELLS:
            with self.subTest(shell):
                said, status, error = self.start(shell)
                self.assertEqual((said, status, error.count("\n")), ("", 1, 1), error)
                self.assertRegex(error, r"^bootstrap: .* is Python 3\.8\.18, which is too old: .* 3\.9")


class Start(Folder):
    def test_three_ways(self):
        variables = {"AWS_LAMBDA_EXEC_WRAPPER": BOOTSTRAP}
        for shell in SHELLS:
            with self.subTest(shell):
                self.assertEqual(self.invoke(command=[*shell, BOOTSTRAP]), "handler")
                # The emulator passes the handler both ways; CMD in a container image only as the argument.
                for handler in ("function.handler", ""):
                    other = self.invoke(handler=handler, command=[*shell, BOOTSTRAP, "function.other"])
                    self.assertEqual(other, "other")
                managed = [*shell, BOOTSTRAP, FUNCTION_PYTHON, "/var/runtime/bootstrap.py"]
                self.assertEqual(self.invoke(command=managed, env=variables), "handler")

    def test_the_argument_reaches_the_function_as_its_handler(self):
        _, handler, _ = self.invoke(args=["function.options"])
        self.assertEqual(handler, "function.options")

    def test_it_becomes_the_interpreter(self):
        # Lambda's signals go to the process that it has started.
        with function(function=FUNCTION) as root, Lambda(root, "function.process") as aws:
            self.assertEqual(aws.invoke().json, aws.process.pid)

    def test_length(self):
        self.assertLess(len(BOOTSTRAP.read_text().splitlines()), 50)

    def test_output_is_unbuffered(self):
        source = """
            import os, sys

            def handler(event, context):
                print("to stdout", end="")
                print("to stderr", end="", file=sys.stderr)
                with open("go") as fifo:
                    return fifo.read()
        """
        with function(function=source) as root:
            os.mkfifo(f"{root}/go")
            with Lambda(root) as aws:
                request_id = aws.send()
                aws.wait_for(lambda: aws.log == "to stdout" and aws.stderr == "to stderr")
                tell(f"{root}/go", "gone")
                self.assertEqual(aws.answer(request_id).json, "gone")

    def test_compiled_copy_is_used(self):
        copy = self.folder / "runtime.py"
        shutil.copy(BOOTSTRAP, self.folder)
        copy.write_text((REPO / "runtime.py").read_text() + '\nMARK = "compiled"\n')
        program = "import py_compile as p, sys; p.compile(sys.argv[1], invalidation_mode=p.PycInvalidationMode.UNCHECKED_HASH)"
        subprocess.run([FUNCTION_PYTHON, "-c", program, copy], check=True)
        shutil.copy(REPO / "runtime.py", copy)
        source = """
            import sys

            def handler(event, context):
                runtime = sys.modules["runtime"]
                return [runtime.MARK, runtime.__name__, type(context).__module__]
        """
        with function(function=source) as root, Lambda(root, bootstrap=self.folder / "bootstrap") as aws:
            self.assertEqual(aws.invoke().json, ["compiled", "runtime", "runtime"])


class Place(Folder):
    """It finds runtime.py beside itself, however it is called."""

    def put(self, *path):
        """A copy of bootstrap and runtime.py."""
        folder = self.folder.joinpath(*path)
        folder.mkdir(parents=True)
        for name in ("bootstrap", "runtime.py"):
            shutil.copy(REPO / name, folder)
        return folder / "bootstrap"

    def call(self, command, cwd, shells=SHELLS):
        """Call it as `command` says in the working directory `cwd`."""
        for shell in shells:
            with self.subTest(command, shell=shell):
                words = ["/bin/sh", "-c", f'cd "$1"; shift; exec "$@" {command}', "sh", cwd, *shell]
                self.assertEqual(self.invoke(command=words), "handler")

    def test_any_working_directory(self):
        bootstrap = self.put("opt")
        (self.folder / "opt/sub").mkdir()
        self.call(shlex.quote(str(bootstrap)), "/", SHELLS[:1])
        self.call("opt/bootstrap", self.folder)
        self.call("./opt/../opt//bootstrap", self.folder, SHELLS[:1])
        self.call("../bootstrap", self.folder / "opt/sub", SHELLS[:1])
        self.call("bootstrap", self.folder / "opt")
        self.call("bootstrap", self.folder, [["/bin/sh", "-c", 'PATH="$0:$PATH"; exec "$@"', self.folder / "opt"]])

    def test_odd_names(self):
        for name in ("with  two spaces ", "'quo\"tes'", "$HOME`x`\\n", "*", "-n", "é", "a:b", "line\nbreak"):
            bootstrap = self.put(name)
            self.call(shlex.quote(str(bootstrap)), "/", SHELLS[:1])

    def test_task_root_with_spaces(self):
        self.script("task root/function.py", "def handler(event, context): return __file__")
        python = self.script("task root/bin/python3", f'#!/bin/sh\nexec {shlex.quote(FUNCTION_PYTHON)} -X mine "$@"\n')
        for shell in SHELLS:
            with Lambda(self.folder / "task root", command=[*shell, BOOTSTRAP], python="/bin/false") as aws:
                self.assertEqual(aws.invoke().json, str(self.folder / "task root/function.py"))
            self.assertEqual(self.invoke(command=[*shell, BOOTSTRAP, python], handler="function.options")[0], ["mine"])

    def test_symbolic_links(self):
        self.put("real folder")
        (self.folder / "links/deep").mkdir(parents=True)
        links = {
            "absolute": self.folder / "real folder/bootstrap",
            "relative": "real folder/bootstrap",
            "links/up": "../real folder/bootstrap",
            "links/deep/chained": "../../first",
            "first": "links/second",
            "links/second": self.folder / "links/deep/third",
            "links/deep/third": "../../real folder/bootstrap",
            "linked folder": "real folder",
            "links/through": "../linked folder/bootstrap",
        }
        for name, target in links.items():
            (self.folder / name).symlink_to(target)
        for name in links:
            if name == "linked folder":
                name += "/bootstrap"
            path = self.folder / name
            self.call(shlex.quote(str(path)), "/", SHELLS[:1])
            self.call(shlex.quote(path.name), path.parent, SHELLS[:1])
        self.call("links/deep/chained", self.folder)
        self.call("./relative", self.folder)


@unittest.skipUnless(FUNCTION_VERSION >= (3, 15), "this Python has no lazy imports")
class LazyImports(unittest.TestCase):
    """PYTHON_LAZY_IMPORTS=all: an import at the top of a file is done where its name is first used."""

    ENV = {"PYTHON_LAZY_IMPORTS": "all"}

    def test_an_import_is_done_in_the_invocation_that_uses_it(self):
        source = """
            import asyncio, json, logging, sys
            import missing

            before = [name in sys.modules for name in ("asyncio", "json", "logging")]

            def handler(event, context):
                if event == "missing":
                    missing.call()
                logging.warning("hello")
                return [before, json.dumps({}), [name in sys.modules for name in ("asyncio", "json", "logging")]]
        """
        with function(function=source) as root, Lambda(root, env=self.ENV) as aws:
            answer = aws.invoke()
            self.assertEqual(answer.json, [[False] * 3, "{}", [False, True, True]])
            # Logging is set up all the same: once, and for this record.
            self.assertRegex(answer.log, rf"^\[WARNING\]\t\S+Z\t{answer.request_id}\thello\n$")
            error = aws.invoke("missing").error
            self.assertEqual((error["errorType"], error["errorMessage"]), ("ModuleNotFoundError", "No module named 'missing'"))
            self.assertIn("missing.call()", error["stackTrace"][-1])
            # Which import it was says the cause.
            self.assertRegex(error["cause"]["stackTrace"][-1], r'function.py", line 3, in <module>\n    import missing\n')
            self.assertEqual(aws.invoke().json[1], "{}")

    def test_what_init_uses_is_an_init_error(self):
        faults = {
            "import missing\nmissing.call()": ("Runtime.ImportModuleError", "Unable to import module 'function': No module named 'missing'"),
            "from missing import handler": ("ModuleNotFoundError", "No module named 'missing'"),
        }
        for source, fault in faults.items():
            with self.subTest(source), function(function=source) as root, Lambda(root, env=self.ENV) as aws:
                self.assertEqual((aws.wait(), aws.kinds), (1, ["init/error"]))
                document = aws.requests[0].json
                self.assertEqual((document["errorType"], document["errorMessage"]), fault)


class Wrapper(Folder):
    """AWS_LAMBDA_EXEC_WRAPPER, as AWS's own images honour it."""

    # As in AWS's documentation: extra options go before the last of the interpreter's arguments.
    OPTIONS = f"""#!{sys.executable}
import os, sys
*most, last = sys.argv[1:]
os.execvp(most[0], [*most, "-X", "inserted", last])
"""

    def wrapped(self, wrapper, args=(), handler="function.options", **variables):
        variables["AWS_LAMBDA_EXEC_WRAPPER"] = wrapper
        return [
            self.invoke(command=[*shell, BOOTSTRAP, *args], handler=handler, env=variables) for shell in SHELLS
        ]

    def test_options_before_the_last_argument(self):
        for options, _, _ in self.wrapped(self.script("with a space/options", self.OPTIONS)):
            self.assertEqual(options, ["inserted"])

    def test_it_gets_the_handler_and_may_change_it(self):
        wrapper = self.script("other", '#!/bin/sh\nexport ORIGINAL=$_HANDLER _HANDLER=function.options\nexec "$@"\n')
        for _, handler, _ in self.wrapped(wrapper, handler="function.handler"):
            self.assertEqual(handler, "function.options")
        for _, handler, _ in self.wrapped(wrapper, args=["function.handler"], handler="function.other"):
            self.assertEqual(handler, "function.options")
        keep = self.script("keep", '#!/bin/sh\nexec "$@" "$_HANDLER"\n')
        for _, handler, _ in self.wrapped(keep, args=["function.options"], handler="function.other"):
            self.assertEqual(handler, "function.options")

    def test_it_gets_the_interpreter_and_its_arguments(self):
        python = self.script("python3", '#!/bin/sh\necho "python $1"\n')
        wrapper = self.script("show", '#!/bin/sh\necho "$1"; test -x "$1"; echo $?; exec "$@"\n')
        for shell in SHELLS:
            process = subprocess.run(
                [*shell, BOOTSTRAP], stdout=subprocess.PIPE, universal_newlines=True, timeout=30, cwd="/",
                env={"PATH": f"{self.folder}:{TOOLS}", "AWS_LAMBDA_EXEC_WRAPPER": str(wrapper), "LAMBDA_TASK_ROOT": "/x"},
            )
            self.assertEqual(process.stdout.splitlines(), [str(python), "0", "python -u"])

    def test_not_on_a_managed_runtime_where_lambda_has_run_it(self):
        wrapper = self.script("fails", "#!/bin/sh\nexit 9\n")
        for options, _, _ in self.wrapped(wrapper, args=[FUNCTION_PYTHON, "/var/runtime/bootstrap.py"]):
            self.assertEqual(options, [])

    def test_not_in_a_circle(self):
        (self.folder / "link").symlink_to(BOOTSTRAP)
        start = f"#!/bin/sh\nexec {shlex.quote(str(BOOTSTRAP))}"
        circles = {
            "bootstrap itself": BOOTSTRAP,
            "another name of it": REPO / "tests/../bootstrap",
            "a link to it": self.folder / "link",
            "a wrapper that starts it": self.script("starts", start + "\n"),
            "a wrapper that starts it with its arguments": self.script("hands on", start + ' "$@"\n'),
            "a wrapper that starts it through the link": self.script("links", f'#!/bin/sh\nexec {self.folder}/link "$@"\n'),
        }
        for name, wrapper in circles.items():
            with self.subTest(name):
                for options, handler, _ in self.wrapped(wrapper):
                    self.assertEqual((options, handler), ([], "function.options"))

    def test_started_through_a_link_and_wrapped_by_the_file(self):
        (self.folder / "link").symlink_to(BOOTSTRAP)
        result = self.invoke(bootstrap=self.folder / "link", env={"AWS_LAMBDA_EXEC_WRAPPER": BOOTSTRAP})
        self.assertEqual(result, "handler")

    def test_a_second_one_on_a_managed_runtime(self):
        """NEXT_EXEC_WRAPPER: it gets the interpreter, the options that the first has inserted, and the code last."""
        args = [FUNCTION_PYTHON, "-X", "first one", "/var/runtime/bootstrap.py"]
        following = self.script("next one", self.OPTIONS)
        source = """
            import os, sys

            def handler(event, context):
                return [sorted(sys._xoptions), os.environ.get("NEXT_EXEC_WRAPPER")]
        """
        for shell in SHELLS:
            for wrapper, options in (following, ["first one", "inserted"]), (BOOTSTRAP, ["first one"]), ("", ["first one"]):
                variables = {"AWS_LAMBDA_EXEC_WRAPPER": BOOTSTRAP, "NEXT_EXEC_WRAPPER": wrapper}
                with self.subTest(wrapper, shell=shell), function(function=source) as root:
                    with Lambda(root, command=[*shell, BOOTSTRAP, *args], env=variables) as aws:
                        self.assertEqual(aws.invoke().json[0], options)
            # What starts another program than AWS's bootstrap.py has no options for the interpreter.
            other = [FUNCTION_PYTHON, "-m", "awslambdaric", "function.handler"]
            self.assertEqual(self.invoke(command=[*shell, BOOTSTRAP, *other]), "handler")

    def test_a_second_one_that_is_missing(self):
        for shell in SHELLS:
            command = [*shell, BOOTSTRAP, FUNCTION_PYTHON, "/var/runtime/bootstrap.py"]
            with function(function=FUNCTION) as root, Lambda(root, command=command, env={"NEXT_EXEC_WRAPPER": "/missing"}) as aws:
                self.assertEqual(aws.wait(), 127)
                self.assertEqual(aws.stderr, "bootstrap: NEXT_EXEC_WRAPPER=/missing is not an executable file\n")

    def test_a_second_one_elsewhere_is_not_run(self):
        self.assertEqual(self.invoke(env={"NEXT_EXEC_WRAPPER": "/missing"}), "handler")

    def test_empty_is_none(self):
        for options, _, _ in self.wrapped(""):
            self.assertEqual(options, [])

    def test_missing_or_not_executable(self):
        wrappers = [self.folder / "missing", self.script("not executable", "exit 0", 0o644), self.folder]
        for wrapper in wrappers:
            for shell in SHELLS:
                with self.subTest(wrapper, shell=shell), function(function=FUNCTION) as root:
                    env = {"AWS_LAMBDA_EXEC_WRAPPER": wrapper}
                    with Lambda(root, command=[*shell, BOOTSTRAP], env=env) as aws:
                        self.assertIn(aws.wait(), (126, 127))
                        self.assertEqual(aws.stderr.count("\n"), 1, aws.stderr)
                        self.assertIn(f"AWS_LAMBDA_EXEC_WRAPPER={wrapper} ", aws.stderr)
                        self.assertEqual(aws.requests, [])


if __name__ == "__main__":
    unittest.main()
