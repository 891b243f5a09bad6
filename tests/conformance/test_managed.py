"""What a function finds around it on a managed runtime, and here, where this runtime is the wrapper of one."""

import sys
import unittest

from beside import managed_runtime
from miniature import REPO, Lambda, function

# The last one has a finder of setuptools's on old Pythons.
NEVER = {"antigravity", "this", "distutils"}
NAMES = sorted({name for name in sys.stdlib_module_names if name[0] != "_"} - set(sys.builtin_module_names) - NEVER)
VERSION = "{}.{}".format(*sys.version_info)

# Files that people have, each played by itself; a folder is a package.
FILES = """
    abc ast asyncio/ bisect calendar code codecs collections/ concurrent/ configparser contextlib copy csv dataclasses datetime decimal
    email/ enum errno fractions functools glob hashlib hmac html/ http/ inspect io json json/ keyword locale logging logging/ math
    numbers operator os pathlib platform pprint queue random re resource secrets select selectors signal site snapshot_restore_py
    socket ssl stat statistics string struct subprocess symbol tempfile test/ textwrap threading time token tokenize traceback types
    typing urllib/ utils uuid warnings weakref xml/ zipfile
""".split()


class Managed(unittest.TestCase):
    maxDiff = None

    def play(self, root, *events, env=None):
        """What a function gives for events on a managed runtime, and what it gives here, until the process dies."""
        outcomes = [], []
        with managed_runtime() as command:
            for words, outcome in zip((command, [REPO / "bootstrap", *command]), outcomes):
                with Lambda(root, command=words, env=env, start=False) as aws:
                    aws.start()
                    for event in events:
                        request_id = aws.send(event)
                        aws.wait_for(lambda: request_id in aws.posts or aws.status is not None, what="neither answers nor ends")
                        if aws.status is not None:
                            break
                        answer = aws.posts[request_id]
                        aws.wait_for(lambda: answer.done)
                        document = answer.json
                        if answer.error:  # without its id, and awslambdaric's own frame
                            document = {**document, "requestId": "", "stackTrace": document["stackTrace"][-1]}
                        outcome.append([document, "logged" in aws.log])
                    aws.violations.clear()
        return outcomes


class Surroundings(Managed):
    def test_what_a_function_sees(self):
        source = """
            import gc, logging, os, signal, subprocess, sys, threading, time, warnings
            import __main__

            import in_pth_folder
            from awslambdaric.lambda_context import LambdaContext

            DIFFERENT = ["PATH", "AWS_LAMBDA_RUNTIME_API", "_X_AMZN_TRACE_ID"]  # from process to process, or event to event
            FROM_SHELL = ["PWD", "OLDPWD", "SHLVL", "_"]  # of bootstrap's shell, which AWS's images have as well
            AT_IMPORT = [type(each).__name__ for each in logging.getLogger().handlers], logging.getLogger().level

            def child(program):
                return subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True).stdout.split()

            def handler(event, context):
                return {
                    "main": [__main__.__name__, os.path.isfile(__main__.__file__), len(sys.argv), hasattr(sys, "ps1")],
                    "path": list(dict.fromkeys(sys.path)), "cwd": os.getcwd(), "stdin": sys.stdin.read(),
                    "child": [child("import sys; print(*sys.path)"), child("import function_data; print(function_data.__file__)")],
                    "environment": {name: name in DIFFERENT or value for name, value in os.environ.items() if name not in FROM_SHELL},
                    "clock": [time.tzname, logging.Formatter.converter.__name__, logging.Formatter("%(asctime)s").format(logging.makeLogRecord({"created": 0, "msecs": 0}))],
                    "context": [isinstance(context, LambdaContext), LambdaContext.__name__],
                    "logging": [AT_IMPORT, [each.formatter._fmt for each in logging.getLogger().handlers], logging.raiseExceptions],
                    "streams": [[each.encoding, each.errors, each.isatty()] for each in (sys.stdout, sys.stderr)],
                    "signals": [str(signal.getsignal(each)) for each in sorted(signal.valid_signals()) if each not in (9, 19)],
                    "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                    "process": [os.getpid() == os.getpgid(0), threading.current_thread() is threading.main_thread(), os.umask(0o22)],
                    "settings": [
                        gc.isenabled(), gc.get_threshold(), sys.getrecursionlimit(), sys.getswitchinterval(), sys.dont_write_bytecode,
                        sys.warnoptions, [str(each[:3]) for each in warnings.filters], sys.flags.utf8_mode, sys.excepthook is sys.__excepthook__,
                    ],
                }
        """
        files = {"function": source, "function_data": "", "more.pth": "lib\n", "lib/in_pth_folder": ""}
        with function(**files) as root:
            for env in {}, {"TZ": "Asia/Tokyo", "PYTHONPATH": "/mine"}:
                (theirs, _), (ours, _) = (outcome[0] for outcome in self.play(root, None, env=env))
                for name in theirs:
                    with self.subTest(name, env=env):
                        if name == "path" and env:  # there, a PYTHONPATH takes the layers away
                            ours[name] = [each for each in ours[name] if not each.startswith("/opt/python")]
                        self.assertEqual(theirs[name], ours[name])


class Names(Managed):
    """Modules of the task root that are called like the standard library's.

    A function has a `types.py`, `test/` or `queue.py` of its own, and imports that name. Which of both it gets is decided by
    what AWS's bootstrap.py has imported before the function's folder is on the path.
    """

    def test_which_is_found(self):
        """All names at once, none imported: whether it is there by now, else where it would be found."""
        source = """
            import sys

            def find(name):
                specs = (finder.find_spec(name, None) for finder in sys.meta_path)
                return next((spec for spec in specs if spec is not None), None)

            def handler(event, context):
                mine = []
                for name in event:
                    spec = getattr(sys.modules.get(name), "__spec__", None) or find(name)
                    if spec is not None and (spec.origin or "").startswith(__file__.rpartition("/")[0]):
                        mine.append(name)
                return mine
        """
        for form in "{}.py", "{}/__init__.py":
            with function(function=source, **{form.format(name): "" for name in NAMES}) as root:
                theirs, ours = self.play(root, NAMES)
            # Told no version, awslambdaric does not poll in a thread, for which it would have imported these.
            polls = ["concurrent", "heapq", "queue"] if sys.version_info >= (3, 12) else []
            self.assertEqual([name for name in theirs[0][0] if name not in polls], ours[0][0], form)
            self.assertLessEqual(set(polls), set(theirs[0][0]), form)

    def test_each_by_itself(self):
        source = """
            import NAME
            import logging, json
            logging.getLogger().setLevel("INFO")

            def handler(event, context):
                logging.info("logged")
                if event == "raise":
                    raise ValueError
                return hasattr(NAME, "mine")
        """
        better = set()
        for name in FILES:
            file = name + "__init__.py" if name.endswith("/") else name + ".py"
            files = {"function": source.replace("NAME", name.rstrip("/")), file: "mine = True"}
            with self.subTest(name), function(**files) as root:
                theirs, ours = self.play(root, "x", "raise", env={"AWS_EXECUTION_ENV": f"AWS_Lambda_python{VERSION}"})
                self.assertEqual(theirs, ours[: len(theirs)])
                if len(theirs) < len(ours):
                    better.add(name)
        # awslambdaric dies of what it imports when the function's folder is on the path already: a module for the thread that
        # polls, on Python 3.13 linecache's when it tells of an error, on 3.15 what inspect needs.
        expected = {"concurrent/", "queue"} if sys.version_info >= (3, 12) else set()
        more = {(3, 13): {"token", "tokenize"}, (3, 15): {"ast", "typing"}}
        self.assertEqual(better, expected | more.get(sys.version_info[:2], set()))


if __name__ == "__main__":
    unittest.main()
