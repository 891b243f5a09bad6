"""What a function finds around it: the main module, the clock of its logs, the names of its modules."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from miniature import FUNCTION_PYTHON, FUNCTION_VERSION, REPO, Lambda, function

PACKAGES = f"/opt/python/lib/python{FUNCTION_VERSION[0]}.{FUNCTION_VERSION[1]}/site-packages"


def answer(source, event=None, handler="function.handler", env=None, files=None, **how):
    """What a function gives for an event."""
    with function(function=source, **(files or {})) as root, Lambda(root, handler, env=env, **how) as aws:
        return aws.invoke(event).json


class Main(unittest.TestCase):
    def test_it_has_a_file(self):
        source = """
            import os, sys, __main__

            def handler(event, context):
                return [os.path.basename(__main__.__file__), os.path.isfile(__main__.__file__), __main__.__file__ == sys.argv[0]]
        """
        self.assertEqual(answer(source), ["runtime.py", True, True])


class Clock(unittest.TestCase):
    def test_formatters_of_the_functions_own_are_in_utc(self):
        source = """
            import logging

            class Mine(logging.Formatter):
                pass

            class Local(logging.Formatter):
                converter = __import__("time").localtime

            record = logging.makeLogRecord({"created": 0.0})

            def handler(event, context):
                return [each("%(asctime)s", "%H").format(record) for each in (logging.Formatter, Mine, Local)]
        """
        for form in "Text", "JSON":
            env = {"TZ": "Asia/Tokyo", "AWS_LAMBDA_LOG_FORMAT": form}
            self.assertEqual(answer(source, env=env), ["00", "00", "09"])


class Awslambdaric(unittest.TestCase):
    """Functions import its context for a type annotation; CodeGuru's profiler asks it for the handler."""

    def test_where_it_is_not_installed(self):
        source = """
            import sys
            from awslambdaric.lambda_context import LambdaContext
            import awslambdaric.bootstrap

            def other(event: dict, context: LambdaContext):
                return "other"

            def handler(event: dict, context: LambdaContext):
                bootstrap = sys.modules["__main__"].bootstrap
                return [
                    type(context) is LambdaContext,
                    awslambdaric.bootstrap is bootstrap is sys.modules["awslambdaric.bootstrap"],
                    bootstrap.__name__, bootstrap.__spec__.name,
                    awslambdaric.bootstrap._get_handler("function.other")(None, None),
                ]
        """
        self.assertEqual(answer(source), [True, True, "runtime", "runtime", "other"])

    def test_nothing_else_is_made_up(self):
        source = """
            import importlib

            def handler(event, context):
                try:
                    importlib.import_module(event)
                except ImportError as error:
                    return [type(error).__name__, error.name]
        """
        for name in "awslambdaric.lambda_runtime_client", "awslambdaricx", "bootstrap":
            self.assertEqual(answer(source, name), ["ModuleNotFoundError", name])

    def test_where_it_is_installed(self):
        """The context that the handler gets is an instance of the class, whoever asks which."""
        source = """
            import awslambdaric.bootstrap
            from awslambdaric.lambda_context import LambdaContext

            def handler(event, context):
                return [isinstance(context, LambdaContext), awslambdaric.MINE, awslambdaric.bootstrap.MINE]
        """
        files = {
            "awslambdaric/__init__.py": "MINE = 1",
            "awslambdaric/bootstrap.py": "from .lambda_context import LambdaContext; MINE = 2",
            "awslambdaric/lambda_context.py": "class LambdaContext: pass",
        }
        self.assertEqual(answer(source, files=files), [True, 1, 2])


class Named(unittest.TestCase):
    """Modules of the function's own that are called `runtime`, where this one lies elsewhere and where it lies among them."""

    HANDLER = "def handler(event, context): return __name__"

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="function-"))
        self.addCleanup(shutil.rmtree, self.root)

    def put(self, path, text):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def together(self):
        """bootstrap and runtime.py in the function's folder, as in its zip."""
        for name in "bootstrap", "runtime.py":
            shutil.copy(REPO / name, self.root)

    def answer(self, handler="function.handler", **how):
        with Lambda(self.root, handler, **how) as aws:
            return aws.invoke().json

    def test_module(self):
        self.put("runtime.py", self.HANDLER + "\nmine = True\nimport pickle\ndef pickled(event, context): return repr(pickle.loads(pickle.dumps(context)))")
        self.assertEqual(self.answer("runtime.handler"), "runtime")
        self.assertRegex(self.answer("runtime.pickled"), r"^LambdaContext\(\[aws_request_id=")
        self.put("function.py", "import runtime\ndef handler(event, context): return runtime.mine")
        self.assertIs(self.answer(), True)

    def test_copy_of_this_module(self):
        """In a zip that `make dist` has packed, under `make run`, or behind the layer's wrapper: asgi() is this module's."""
        self.together()
        self.put("function.py", """
import runtime, sys
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204})
    await send({"type": "http.response.body"})
handler = runtime.asgi(app, streaming=True)
assert runtime is sys.modules["__main__"].bootstrap
""")
        with Lambda(self.root) as aws:
            self.assertEqual(aws.invoke({"httpMethod": "GET"}).metadata["statusCode"], 204)

    def test_package(self):
        self.put("runtime/__init__.py", self.HANDLER)
        self.put("runtime/app.py", self.HANDLER)
        for how in {}, {"bootstrap": self.root / "bootstrap"}:
            if how:
                self.together()
            self.assertEqual(self.answer("runtime.handler", **how), "runtime")
            self.assertEqual(self.answer("runtime/app.handler", **how), "runtime.app")

    def test_folder(self):
        """Without __init__.py: both are found, this module's names and the folder's modules."""
        self.put("runtime/app.py", self.HANDLER)
        self.put("runtime/deep/app.py", self.HANDLER)
        self.put("function.py", "import runtime.app, runtime.deep.app\ndef handler(event, context): return isinstance(context, runtime.LambdaContext)")
        for how in {}, {"bootstrap": self.root / "bootstrap"}:
            if how:
                self.together()
            self.assertEqual(self.answer("runtime/app.handler", **how), "runtime.app")
            self.assertEqual(self.answer("runtime.deep.app.handler", **how), "runtime.deep.app")
            self.assertIs(self.answer(**how), True)

    def test_errors_name_the_functions_frames(self):
        self.put("runtime.py", "def handler(event, context): raise ValueError")
        with Lambda(self.root, "runtime.handler") as aws:
            self.assertEqual(aws.invoke().json["stackTrace"], [
                f'  File "{self.root}/runtime.py", line 1, in handler\n    def handler(event, context): raise ValueError\n'
            ])

    def test_without_one_it_is_this_module(self):
        self.put("function.py", """
import sys, pickle
import runtime

def handler(event, context):
    return [runtime is sys.modules["__main__"].bootstrap, repr(pickle.loads(pickle.dumps(context))) == repr(context)]
""")
        self.assertEqual(self.answer(), [True, True])
        self.together()
        self.assertEqual(self.answer(bootstrap=self.root / "bootstrap"), [True, True])

    def test_this_module_is_no_handlers_module(self):
        self.put("function.py", "")
        with Lambda(self.root, "runtime.handler") as aws:
            self.assertEqual(aws.wait(), 1)
            self.assertEqual(aws.init_error.json["errorType"], "Runtime.BuiltInModuleConflict")


class LikePythons(unittest.TestCase):
    """Modules of the function's own that are called like modules of the standard library."""

    # Which of both the function gets, as on AWS: there these have been imported before the function's folder counts.
    BEFORE = "types enum string json logging warnings traceback re functools collections weakref decimal threading".split()
    AFTER = "random asyncio http urllib test email socket datetime uuid selectors".split()
    SOURCE = """
        import importlib

        def handler(event, context):
            return [name for name in event if hasattr(importlib.import_module(name), "mine")]
    """

    def test_which_is_found(self):
        before, after = list(self.BEFORE), list(self.AFTER)
        (before if FUNCTION_VERSION >= (3, 12) else after).append("queue")
        (before if FUNCTION_VERSION >= (3, 11) else after).append("textwrap")
        (after if FUNCTION_VERSION[:2] == (3, 13) else before).append("token")
        program = "import sys; print(*sys.modules)"  # what a .pth file of this Python's own has imported
        own = subprocess.run([FUNCTION_PYTHON, "-c", program], stdout=subprocess.PIPE, universal_newlines=True).stdout
        after = [name for name in after if name not in own.split()]
        files = {f"{name}.py": "mine = True" for name in before + after}
        self.assertEqual(answer(self.SOURCE, before + after, files=files), after)
        files = {f"{name}/__init__.py": "mine = True" for name in before + after}
        self.assertEqual(answer(self.SOURCE, before + after, files=files), after)

    def test_logging_works_whatever_lies_beside_it(self):
        source = """
            import logging
            logging.warning("at import")

            def handler(event, context):
                logging.error("in handler %s", event)
                return len(logging.getLogger().handlers)
        """
        files = {f"{name}.py": "raise SystemExit('mine')" for name in [*self.BEFORE, "io", "os", "time", "abc", "codecs"]}
        with function(function=source, **files) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke(1).json, 1)
            aws.wait_for(lambda: aws.log.count("\n") == 2)
            self.assertIn("in handler 1", aws.log)

    def test_logging_works_behind_a_typing_of_the_functions_own(self):
        """Python's dataclasses look at what is called typing; 3.14's logging needs them."""
        source = """
            import typing, logging

            def handler(event, context):
                logging.error("in handler")
        """
        with function(function=source, **{"typing.py": "mine = True"}) as root, Lambda(root) as aws:
            aws.invoke()  # where a .pth file has imported typing before, it is the interpreter's
            aws.wait_for(lambda: "in handler" in aws.log)

    def test_in_a_folder_that_the_function_adds(self):
        """Packages that were the standard library's on old Pythons are in many deployments: enum34."""
        source = """
            import os, sys
            sys.path.insert(0, os.path.join(os.path.dirname(__file__), "vendored"))
            import enum, uuid, selectors

            def handler(event, context):
                return [hasattr(each, "mine") for each in (enum, uuid, selectors)]
        """
        files = {f"vendored/{name}.py": "mine = True" for name in ("enum", "uuid", "selectors")}
        self.assertEqual(answer(source, files=files), [False, True, True])

    def test_finders_of_the_functions_own_come_first(self):
        source = """
            import sys

            class Finder:
                seen = []

                @classmethod
                def find_spec(cls, name, path=None, target=None):
                    cls.seen.append(name)

            sys.meta_path.insert(0, Finder)
            for name in "enum", "decimal", "json", "random":
                sys.modules.pop(name, None)
            import enum, decimal, json, random

            def handler(event, context):
                return [name for name in ("enum", "decimal", "json", "random") if name in Finder.seen]
        """
        self.assertEqual(answer(source), ["enum", "decimal", "json", "random"])

    def test_a_script_of_its_own_has_its_own(self):
        """Who imports this module as a library has imported before it what it likes."""
        source = f"""
            import sys
            sys.path.insert(1, {str(REPO)!r})
            import runtime, decimal
            runtime.run(lambda event, context: decimal.mine)
        """
        with function(**{"script.py": source, "decimal.py": "mine = True"}) as root:
            with Lambda(root, command=[FUNCTION_PYTHON, f"{root}/script.py"]) as aws:
                self.assertIs(aws.invoke().json, True)


class SitePackages(unittest.TestCase):
    """.pth files, and the folder of AWS's SDK on a managed runtime."""

    SOURCE = """
        import os, subprocess, sys

        def handler(event, context):
            program = "import sys; print(*sys.path, sep='|')"
            child = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, universal_newlines=True)
            return [sys.path, os.environ.get("PYTHONPATH"), child.stdout.strip().split("|"), dict(os.environ)]
    """

    def test_pth_files_of_the_task_root(self):
        files = {
            "vendored.pth": "# a comment\nlib\nmissing\nimport sys; sys.from_pth = True\n",
            "lib/helper.py": "import sys\nmine = sys.from_pth",
            "lib/runtime.py": "mine = 2",
        }
        source = """
            import helper, runtime, sys

            def handler(event, context):
                return [helper.mine, runtime.mine, sys.path[-1]]
        """
        with function(function=source, **files) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().json, [True, 2, f"{root}/lib"])

    def test_a_broken_one_does_no_harm(self):
        files = {"broken.pth": "import no_such_module\n", "fine.pth": "lib\n", "lib/helper.py": ""}
        self.assertEqual(answer("import helper\ndef handler(event, context): return 1", files=files), 1)

    def test_the_sdk_of_a_managed_runtime(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [REPO / "bootstrap", FUNCTION_PYTHON, "-X", "mine", f"{folder}/bootstrap.py"]
            with function(function=self.SOURCE) as root, Lambda(root, command=command) as aws:
                path, pythonpath, childs, environment = aws.invoke().json
                self.assertEqual(path[:4], [root, PACKAGES, "/opt/python", folder])
                self.assertEqual(path.count(folder), 1)
                self.assertEqual(pythonpath, folder)
                self.assertEqual(childs[1], folder)
                self.assertEqual([name for name in environment if name.startswith("_RUNTIME")], [])
            with function(function=self.SOURCE) as root, Lambda(root, command=command, env={"PYTHONPATH": f"/mine:{folder}"}) as aws:
                path, pythonpath, childs, _ = aws.invoke().json
                self.assertEqual(path[3:5], ["/mine", folder])
                self.assertEqual(path.count(folder), 1)
                self.assertEqual(pythonpath, f"/mine:{folder}")

    def test_elsewhere_children_are_left_alone(self):
        path, pythonpath, childs, environment = answer(self.SOURCE)
        self.assertIsNone(pythonpath)
        self.assertEqual([name for name in environment if name.startswith("_RUNTIME")], [])


class HandlersName(unittest.TestCase):
    def test_missing(self):
        with function(function="") as root, Lambda(root, env={"_HANDLER": None}) as aws:
            self.assertEqual(aws.wait(), 1)
            document = aws.init_error.json
            self.assertEqual(document["errorType"], "Runtime.MalformedHandlerName")
            self.assertIn("_HANDLER is not set", document["errorMessage"])
            self.assertIn("_HANDLER is not set", aws.log)


if __name__ == "__main__":
    unittest.main()
