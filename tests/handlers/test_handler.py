"""What the function sees: its path, its folder, its handler by any name and of any kind; and init errors."""

import json
import re
import shlex
import subprocess
import unittest

from miniature import FUNCTION_PYTHON, FUNCTION_VERSION, REPO, Lambda, function

PACKAGES = f"/opt/python/lib/python{FUNCTION_VERSION[0]}.{FUNCTION_VERSION[1]}/site-packages"


class Environment(unittest.TestCase):
    SOURCE = """
        import os, sys

        AT_IMPORT = [os.getcwd(), list(sys.path)]

        def handler(event, context):
            return {
                "folders": [AT_IMPORT[0], os.getcwd()],
                "paths": [AT_IMPORT[1], sys.path],
                "task root": os.environ.get("LAMBDA_TASK_ROOT"),
                "variables": dict(os.environ),
                "arguments": sys.argv,
            }
    """

    def seen(self, **how):
        with function(function=self.SOURCE) as root, Lambda(root, start=False, **how) as aws:
            self.root, self.env = root, aws.env
            aws.start()
            return aws.invoke().json

    def own_path(self):
        """What sys.path the interpreter has without us, but for the empty string that stands for -c."""
        program = "import json, sys; print(json.dumps(sys.path))"
        path = json.loads(subprocess.run([FUNCTION_PYTHON, "-c", program], env=self.env, stdout=subprocess.PIPE).stdout)
        self.assertEqual(path[0], "")
        return path[1:]

    def test_path(self):
        # Managed runtimes set PYTHONPATH.
        for variables in {}, {"PYTHONPATH": "/var/runtime"}:
            with self.subTest(variables):
                seen = self.seen(env=variables)
                path = [self.root, PACKAGES, "/opt/python", *self.own_path()]
                self.assertEqual(seen["paths"], [path, path])
        self.assertEqual(path[3], "/var/runtime")

    def test_working_directory_is_the_task_root(self):
        for command in None, ["/bin/sh", "-c", f"cd / && exec {shlex.quote(str(REPO))}/bootstrap"]:
            with self.subTest(command):
                self.assertEqual(self.seen(command=command)["folders"], [self.root, self.root])

    def test_without_a_task_root_it_is_the_working_directory(self):
        # AWS's emulator sets no LAMBDA_TASK_ROOT.
        for task_root in None, "":
            with self.subTest(task_root):
                seen = self.seen(env={"LAMBDA_TASK_ROOT": task_root})
                self.assertEqual(seen["folders"], [self.root, self.root])
                self.assertEqual([path[0] for path in seen["paths"]], [self.root, self.root])

    def test_arguments(self):
        """As of a script that was given none: a function that parses them finds nothing of ours."""
        for arguments in (), ("function.handler",):
            self.assertEqual(self.seen(args=arguments)["arguments"], [f"{REPO}/runtime.py"])

    def test_variables_are_those_that_lambda_sets(self):
        seen = self.seen(env={"MINE": "é"})["variables"]
        added = {"_X_AMZN_TRACE_ID"} | {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}  # the shells' and Python's
        self.assertLessEqual(self.env.items(), seen.items())
        self.assertLessEqual(seen.keys() - self.env.keys(), added)


class Name(unittest.TestCase):
    def test_forms(self):
        files = {
            "function": "def handler(event, context): return __name__",
            "package/__init__.py": "def handler(event, context): return __name__",
            "package/sub/__init__.py": "",
            "package/sub/module.py": "from .other import handler",
            "package/sub/other.py": "def handler(event, context): return __name__",
            "folder/sub/module.py": "def handler(event, context): return __name__",
            "folder/fünf.py": "def händler(event, context): return __name__",
        }
        names = {
            "function.handler": "function",
            "package.handler": "package",
            "package.sub.module.handler": "package.sub.other",
            "package/sub/module.handler": "package.sub.other",
            "folder/sub/module.handler": "folder.sub.module",
            "folder.sub.module.handler": "folder.sub.module",
            "folder/fünf.händler": "folder.fünf",
        }
        with function(**files) as root:
            for name, module in names.items():
                with self.subTest(name), Lambda(root, name) as aws:
                    self.assertEqual(aws.invoke().json, module)

    def test_imported_once(self):
        source = """
            print("imported")

            def handler(event, context): return event
        """
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual([aws.invoke(n).json for n in (1, 2)], [1, 2])
            self.assertEqual(aws.log, "imported\n")


class Kind(unittest.TestCase):
    """Any callable is a handler."""

    KINDS = {
        "def": """
            def handler(event, context):
                return [event, context.aws_request_id]
        """,
        "async def": """
            async def handler(event, context):
                return [event, context.aws_request_id]
        """,
        "lambda": """
            handler = lambda event, context: [event, context.aws_request_id]
        """,
        "object with __call__": """
            class Handler:
                def __call__(self, event, context):
                    return [event, context.aws_request_id]

            handler = Handler()
        """,
        "object with async __call__": """
            class Handler:
                async def __call__(self, event, context):
                    return [event, context.aws_request_id]

            handler = Handler()
        """,
        "partial": """
            import functools

            def answer(event, context, *, key):
                return [event, getattr(context, key)]

            handler = functools.partial(answer, key="aws_request_id")
        """,
        "partial of async def": """
            import functools

            async def answer(key, event, context):
                return [event, getattr(context, key)]

            handler = functools.partial(answer, "aws_request_id")
        """,
        "bound method": """
            class App:
                key = "aws_request_id"

                def handle(self, event, context):
                    return [event, getattr(context, self.key)]

            handler = App().handle
        """,
        "bound async method": """
            class App:
                key = "aws_request_id"

                async def handle(self, event, context):
                    return [event, getattr(context, self.key)]

            handler = App().handle
        """,
        "class": """
            class handler(list):
                def __init__(self, event, context):
                    super().__init__([event, context.aws_request_id])
        """,
        "decorated": """
            import functools

            def decorate(function):
                @functools.wraps(function)
                def wrapper(event, context):
                    return [event, *function(context)]
                return wrapper

            @decorate
            def handler(context):
                return [context.aws_request_id]
        """,
        "decorated async def": """
            import functools

            def decorate(function):
                @functools.wraps(function)
                async def wrapper(event, context):
                    return [event, *await function(context)]
                return wrapper

            @decorate
            async def handler(context):
                return [context.aws_request_id]
        """,
        "async def behind a plain decorator": """
            def decorate(function):
                return lambda *arguments: function(*arguments)

            @decorate
            async def handler(event, context):
                return [event, context.aws_request_id]
        """,
        "built-in": """
            handler = lambda: None
            handler = "{0} {1.aws_request_id}".format
        """,
    }

    def test_that_answers(self):
        for kind, source in self.KINDS.items():
            with self.subTest(kind), function(function=source) as root, Lambda(root) as aws:
                for event in 1, 2:
                    answer = aws.invoke(event)
                    self.assertEqual(answer.kind, "response")
                    expected = f"{event} {answer.request_id}" if kind == "built-in" else [event, answer.request_id]
                    self.assertEqual(answer.json, expected)

    def test_that_streams(self):
        kinds = {
            "generator": """
                def handler(event, context):
                    yield str(event)
                    yield context.aws_request_id
            """,
            "async generator": """
                async def handler(event, context):
                    yield str(event)
                    yield context.aws_request_id
            """,
            "generator method": """
                class App:
                    def __call__(self, event, context):
                        yield str(event)
                        yield context.aws_request_id

                handler = App()
            """,
            "partial of async generator": """
                import functools

                async def stream(key, event, context):
                    yield str(event)
                    yield getattr(context, key)

                handler = functools.partial(stream, "aws_request_id")
            """,
            "iterator class": """
                class handler:
                    def __init__(self, event, context):
                        self.chunks = [context.aws_request_id, str(event)]

                    def __iter__(self):
                        return self

                    def __next__(self):
                        if not self.chunks:
                            raise StopIteration
                        return self.chunks.pop()
            """,
        }
        for kind, source in kinds.items():
            with self.subTest(kind), function(function=source) as root, Lambda(root) as aws:
                for event in 1, 2:
                    answer = aws.invoke(event)
                    self.assertTrue(answer.streaming)
                    self.assertEqual(answer.wait_chunks(2), [b"%d" % event, answer.request_id.encode()])

    def test_that_is_none(self):
        with function(function="handler = 5") as root, Lambda(root) as aws:
            answer = aws.invoke()
            self.assertEqual((answer.kind, answer.error_type), ("error", "TypeError"))
            self.assertIn("'int' object is not callable", answer.json["errorMessage"])
            self.assertEqual(answer.json["stackTrace"], [])


class Library(unittest.TestCase):
    """A script that is its own bootstrap."""

    def start(self, root, **how):
        return Lambda(root, command=[FUNCTION_PYTHON, f"{root}/script.py"], env={"PYTHONPATH": REPO, "_HANDLER": None}, **how)

    def test_run(self):
        kinds = {"def": "return", "async def": "return", "def ": "yield", "async def ": "yield"}
        for define, give in kinds.items():
            source = f"""
                import runtime

                {define} handler(event, context):
                    print("said", end="")
                    {give} event + context.aws_request_id

                if __name__ == "__main__":
                    runtime.run(handler)
            """
            with self.subTest(define + give), function(script=source) as root, self.start(root) as aws:
                answer = aws.invoke("id ")
                body = answer.body.decode()
                self.assertEqual(body.strip('"'), "id " + answer.request_id)
                aws.wait_for_next()
                self.assertEqual(aws.log, "said")

    def test_output_is_unbuffered(self):
        source = """
            import os, runtime, sys

            def handler(event, context):
                print("to stdout", end="")
                print("to stderr", end="", file=sys.stderr)
                sys.stdout.buffer.write(b" in bytes")
                os._exit(3)

            print("before", end=" ")
            runtime.run(handler)
        """
        with function(script=source) as root, self.start(root) as aws:
            aws.send()
            self.assertEqual(aws.wait(), 3)
            self.assertEqual((aws.log, aws.stderr), ("before to stdout in bytes", "to stderr"))

    def test_exit(self):
        source = """
            import runtime, sys

            try:
                runtime.run(lambda event, context: sys.exit(event))
            except SystemExit as exit:
                print("run raised", repr(exit.code))
                raise
        """
        with function(script=source) as root, self.start(root) as aws:
            self.assertEqual(aws.invoke(3).error_type, "SystemExit")
            self.assertEqual(aws.wait(), 3)
            self.assertTrue(aws.log.endswith("run raised 3\n"), aws.log)

    def test_error(self):
        source = """
            import runtime

            def handler(event, context):
                raise ValueError(event)

            runtime.run(handler)
        """
        with function(script=source) as root, self.start(root) as aws:
            for text in "one", "two":
                answer = aws.invoke(text)
                self.assertEqual((answer.json["errorType"], answer.json["errorMessage"]), ("ValueError", text))
                self.assertEqual(len(answer.json["stackTrace"]), 1)

    def test_logging(self):
        # It may have been imported before run() was called.
        for first in "import logging", "import runtime":
            source = f"""
                {first}
                import logging, runtime

                def handler(event, context):
                    logging.warning("said")
                    return len(logging.getLogger().handlers)

                runtime.run(handler)
            """
            with self.subTest(first), function(script=source) as root, self.start(root) as aws:
                answer = aws.invoke()
                self.assertEqual(answer.json, 1)
                self.assertRegex(aws.log, rf"^\[WARNING\]\t[^\t]+\t{answer.request_id}\tsaid\n$")


class InitError(unittest.TestCase):
    def start(self, root, handler="function.handler", status=1, **how):
        """The init error, after what holds for each."""
        with Lambda(root, handler, **how) as aws:
            self.assertEqual(aws.wait(), status)
            self.assertEqual([request.kind for request in aws.requests], ["init/error"])
            error = aws.init_error
            self.assertEqual(error.error_type, error.json["errorType"].encode("unicode_escape").decode())
            self.assertEqual(error.headers["Content-Type"], "application/json")
            self.assertEqual(error.json["requestId"], "")
            self.assertEqual(set(error.json) - {"cause"}, {"errorMessage", "errorType", "requestId", "stackTrace"})
            self.assertNotIn("runtime.py", error.body.decode() + aws.log)
            self.assertNotIn("Traceback", aws.stderr)
            self.log, self.stderr = aws.log, aws.stderr
            return error.json

    def test_faults(self):
        files = {
            "function": "",
            "broken": "def handler(event, context):\n    return (\n",
            "latin": "# no coding line\nname = 'é'\n".encode("latin-1"),
            "imports": "import missing",
            "imports_from": "from json import missing",
            "package/__init__.py": "",
        }
        faults = {
            "missing.handler": ("ImportModuleError", "Unable to import module 'missing': No module named 'missing'"),
            "imports.handler": ("ImportModuleError", "Unable to import module 'imports': No module named 'missing'"),
            "imports_from.handler": (
                "ImportModuleError",
                r"Unable to import module 'imports_from': cannot import name 'missing' from 'json' \(.*\)",
            ),
            "package.missing.handler": (
                "ImportModuleError",
                "Unable to import module 'package.missing': No module named 'package.missing'",
            ),
            "folder/missing.handler": (
                "ImportModuleError", "Unable to import module 'folder/missing': No module named 'folder'"
            ),
            "function.handler.method": (
                "ImportModuleError",
                "Unable to import module 'function.handler': No module named 'function.handler'; 'function' is not a package",
            ),
            "function.handler": ("HandlerNotFound", "Handler 'handler' missing on module 'function'"),
            "handler": (
                "MalformedHandlerName", r"Bad handler 'handler': not enough values to unpack \(expected 2, got 1\)"
            ),
            "": ("MalformedHandlerName", r"Bad handler '': not enough values to unpack \(expected 2, got 1\)"),
            "sys.exit": ("BuiltInModuleConflict", "Cannot use built-in module sys as a handler module"),
            "time/time.sleep": ("BuiltInModuleConflict", "Cannot use built-in module time/time as a handler module"),
            "broken.handler": ("UserCodeSyntaxError", r"Syntax error in module 'broken': .+ \(broken.py, line [23]\)"),
            "latin.handler": ("UserCodeSyntaxError", "Syntax error in module 'latin': .+"),
        }
        with function(**files) as root:
            for handler, (error_type, message) in faults.items():
                with self.subTest(handler):
                    document = self.start(root, handler)
                    self.assertEqual(document["errorType"], f"Runtime.{error_type}")
                    self.assertRegex(document["errorMessage"], f"^{message}$")
                    lines = [f"[ERROR] {document['errorType']}: {document['errorMessage']}"]
                    lines += ["Traceback (most recent call last):"]
                    if error_type == "UserCodeSyntaxError":
                        [entry] = document["stackTrace"]
                        self.assertRegex(entry, rf'^  File "{root}/{handler[:-8]}\.py" Line \d+\n    ')
                        lines += [re.sub("^ +", lambda match: "\xa0" * len(match[0]), line) for line in entry.splitlines()]
                    else:
                        self.assertEqual(document["stackTrace"], [])
                    self.assertEqual(self.log, "\r".join(lines) + "\n")

    def test_syntax_error_shows_its_line(self):
        with function(function="import os\n\ndef handler(event, context) return 1\n") as root:
            [entry] = self.start(root)["stackTrace"]
            text = "def handler(event, context) return 1"
            self.assertEqual(entry.rstrip(), f'  File "{root}/function.py" Line 3\n    {text}')

    def test_name_is_not_set(self):
        with function(function="") as root:
            self.assertEqual(self.start(root, env={"_HANDLER": None})["errorType"], "Runtime.MalformedHandlerName")

    def test_exceptions_at_import(self):
        raised = {
            "raise ValueError('no')": ("ValueError", "no"),
            "1 / 0": ("ZeroDivisionError", "division by zero"),
            "raise KeyboardInterrupt": ("KeyboardInterrupt", ""),
            "raise SystemExit(0)": ("SystemExit", "0"),
            "raise SystemExit('text')": ("SystemExit", "text"),
            "raise GeneratorExit": ("GeneratorExit", ""),
            "raise StopIteration(5)": ("StopIteration", "5"),
            "raise type('Öl', (BaseException,), {})('é')": ("Öl", "é"),
            "raise AttributeError('attribute')": ("AttributeError", "attribute"),
        }
        for statement, (error_type, message) in raised.items():
            with self.subTest(statement), function(function=f"import os\n\n{statement}\n") as root:
                document = self.start(root)
                self.assertEqual((document["errorType"], document["errorMessage"]), (error_type, message))
                place = f'  File "{root}/function.py", line 3, in <module>\n'
                self.assertEqual(document["stackTrace"][-1], f"{place}    {statement}\n")
                colon = ":" if message else ""
                self.assertTrue(self.log.startswith(f"[ERROR] {error_type}{colon} {message}".rstrip() + "\rTraceback"), self.log)

    def test_stack_trace_ends_where_it_was_raised(self):
        files = {
            "function": "import helper\n\nhelper.connect()\n",
            "helper": "def connect():\n    raise OSError('refused')\n",
        }
        with function(**files) as root:
            self.assertEqual(self.start(root)["stackTrace"][-2:], [
                f'  File "{root}/function.py", line 3, in <module>\n    helper.connect()\n',
                f'  File "{root}/helper.py", line 2, in connect\n    raise OSError(\'refused\')\n',
            ])
            own = [entry for entry in self.start(root)["stackTrace"] if root not in entry]
            self.assertEqual(own, [], "frames of the import machinery")

    def test_task_root_is_missing(self):
        with function(function="") as root:
            document = self.start(root, env={"LAMBDA_TASK_ROOT": f"{root}/missing"})
            self.assertEqual(document["errorType"], "FileNotFoundError")
            self.assertIn(f"{root}/missing", document["errorMessage"])

    def test_json_log(self):
        with function(function="import helper", helper="raise ValueError('no')") as root:
            for handler in "function.handler", "missing.handler":
                document = self.start(root, handler, env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
                self.assertEqual(self.log.count("\n"), 1)
                line = json.loads(self.log)
                self.assertRegex(line.pop("timestamp"), r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
                self.assertEqual(line, {"level": "ERROR", **document})

    def test_what_was_printed_before(self):
        with function(function="print('one', end='')\nraise ValueError") as root:
            self.start(root)
            self.assertTrue(self.log.startswith("one[ERROR] ValueError\r"), self.log)

    def test_refused(self):
        # Another worker of Managed Instances has reported already.
        with function(function="1 / 0") as root, Lambda(root, start=False) as aws:
            aws.answers("init/error", 403)
            aws.start()
            self.assertEqual(aws.wait(), 1)
            self.assertIn("ZeroDivisionError", aws.log)
            self.assertNotIn("Traceback", aws.stderr)


if __name__ == "__main__":
    unittest.main()
