"""The functions of functions.py, played through awslambdaric and through this runtime: what comes out is the same.

What is compared, for each invocation and for each init error: what the Runtime API got (kind of post, body, error
document, content type, X-Ray cause), what the log got (stdout or telemetry frames, and stderr) and the exit status.
It is compared in text and in JSON format, on stdout and in frames, at each level.

Differences that hold everywhere are stated in `everywhere()`, others in the row of the function that shows them. A
stated difference that is none fails as well.
"""

import contextlib
import copy
import io
import itertools
import re
import sys
import unittest

import package
from beside import Recording, files_to_pack, play_both
from functions import FUNCTIONS, INITS, LEVELS, LOGS_AT_ALL_LEVELS, Invocation, line_ends
from miniature import Lambda, function

# Plays all functions that need no process of their own: the request id says which is meant.
DISPATCHER = """
    import importlib

    def handler(event, context):
        return importlib.import_module("row_" + context.aws_request_id.partition(".")[0]).handler(event, context)
"""


# A frame of Python's import machinery in a stack trace, as entry, in the text of the log and in its JSON.
IMPORT = r'  File "(<frozen importlib|[^"]*/importlib/__init__\.py)'
IMPORT_IN_TEXT = r'[\r\n]\xa0\xa0File "(<frozen importlib|[^"\r\n]*/importlib/__init__\.py)[^\r\n]*([\r\n]\xa0{4}[^\r\n]*)?'
IMPORT_IN_JSON = r'"  File \\"(<frozen importlib|[^"\n]*/importlib/__init__\.py)([^"\\]|\\.)*"(, )?'
# What managed runtimes, which are updated under a function's feet, log before an init error.
WARNING = r"\[WARNING\]\tTIMEZ\t\tLAMBDA_WARNING: Unhandled.*\r\n|\{[^}\n]*LAMBDA_WARNING: Unhandled[^}\n]*\}\n"


def everywhere(outcome):
    """What this runtime gives where awslambdaric gives `outcome`."""
    for post in outcome["posts"]:
        if post["kind"].endswith("error"):
            # Lambda's documentation wants this header with every error; awslambdaric sends it with init errors only.
            # Non-ASCII letters and line breaks cannot be in a header as they are.
            name = post["document"]["errorType"]
            post["error type"] = name if name.isascii() and name.isprintable() else ascii(name)[1:-1]
            # awslambdaric's init errors have no content type and are in Latin-1.
            post["type"], post["charset"] = "application/json", "utf-8"
            # Frames of the import machinery say nothing about the function.
            trace = post["document"]["stackTrace"]
            trace[:] = [entry for entry in trace if not re.match(IMPORT, entry)]
    outcome["frames"] = [frame for frame in outcome["frames"] if "LAMBDA_WARNING: Unhandled" not in frame]
    outcome["log"] = re.sub(WARNING, "", outcome["log"])
    pattern = IMPORT_IN_JSON if outcome["format"] == "JSON" else IMPORT_IN_TEXT
    outcome["log"] = re.sub(pattern, "", outcome["log"])
    outcome["frames"] = [re.sub(pattern, "", frame) for frame in outcome["frames"]]


def reduced(value, pattern):
    """The value without the text that matches `pattern`."""
    if not pattern:
        return value
    if isinstance(value, str):
        return re.sub(pattern, "", value)
    if isinstance(value, dict):
        return {key: reduced(item, pattern) for key, item in value.items()}
    return [reduced(item, pattern) for item in value] if isinstance(value, list) else value


class SharedProcess:
    """The functions that can share a process, one after the other in a process of each runtime."""

    maxDiff = None
    environment = {}
    format = "text"
    telemetry = False
    folder = staticmethod(function)

    def compare(self, row, file, ids, theirs, ours):
        """ids: of the invocations, whose outcomes come after that of the start."""
        theirs, ours = copy.deepcopy(theirs), copy.deepcopy(ours)
        for outcomes in theirs, ours:
            dead = {"posts": [], "log": "", "frames": [], "stderr": "", "exit": outcomes[-1]["exit"]}
            outcomes += [dict(dead) for _ in ids[len(outcomes) - 1 :]]
            for request_id, outcome in zip([None, *ids], outcomes):
                outcome.update(id=request_id, file=file, format=self.format, framed=self.telemetry)
        for outcome in theirs:
            everywhere(outcome)
        if row.ours and (not row.only or any(kind.__name__ in row.only for kind in type(self).__mro__)):
            same = copy.deepcopy(theirs)
            row.ours(theirs)
            self.assertNotEqual(theirs, same, "the row states a difference that is none")
        for theirs_, ours_ in zip(theirs, ours):
            with self.subTest(theirs_["id"]):
                self.assertEqual(reduced(theirs_, row.ignore), reduced(ours_, row.ignore))
        self.assertEqual(len(theirs), len(ours))

    def test_functions_that_share_a_process(self):
        rows = [row for row in FUNCTIONS if not row.alone]
        files = {f"row_{row.name}": row.source for row in rows}
        invocations = [(f"{row.name}.{n}", each) for row in rows for n, each in enumerate(row.invocations)]
        with self.folder(function=DISPATCHER, **files) as root:
            theirs, ours = play_both(root, "function.handler", self.environment, self.telemetry, invocations)
        for outcomes in theirs, ours:
            self.assertIsNone(outcomes[-1]["exit"], f"ended at {invocations[len(outcomes) - 2][0]}, give it a process")
        places = {request_id: n for n, (request_id, _) in enumerate(invocations, 1)}
        for row in rows:
            ids = [f"{row.name}.{n}" for n in range(len(row.invocations))]
            of_row = [[outcomes[0], *[outcomes[places[each]] for each in ids]] for outcomes in (theirs, ours)]
            with self.subTest(row.name):
                self.compare(row, f"row_{row.name}.py", ids, *of_row)


class OwnProcess:
    """The functions that need a process, and those that keep it from starting."""

    def test_functions_with_their_own_process(self):
        for row in [row for row in FUNCTIONS if row.alone] + INITS:
            with self.subTest(row.name), self.folder(**{"function": row.source, **row.files}) as root:
                invocations = [(f"{row.name}.{n}", each) for n, each in enumerate(row.invocations)]
                environment = {**self.environment, **row.environment}
                theirs, ours = play_both(root, row.handler, environment, self.telemetry, invocations)
                self.compare(row, "function.py", [request_id for request_id, _ in invocations], theirs, ours)


class Text(SharedProcess, OwnProcess, unittest.TestCase):
    pass


class FromOneFile(Text):
    """From the folder that `make dist` writes."""

    @staticmethod
    @contextlib.contextmanager
    def folder(**files):
        with function(another="", **files) as root, function() as built:  # another: not all can be compiled
            with contextlib.redirect_stderr(io.StringIO()):
                package.write(f"{built}/", files_to_pack(root))
            yield built


class JSON(SharedProcess, unittest.TestCase):
    environment = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}
    format = "JSON"


class TextInFrames(SharedProcess, unittest.TestCase):
    environment = {"AWS_LAMBDA_LOG_LEVEL": "INFO"}
    telemetry = True


class JSONInFrames(SharedProcess, OwnProcess, unittest.TestCase):
    environment = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "TRACE"}
    format = "JSON"
    telemetry = True


class Levels(unittest.TestCase):
    """The levels that Lambda may set, each in both formats, on stdout and in frames."""

    maxDiff = None

    def test_levels(self):
        with function(function=LOGS_AT_ALL_LEVELS) as root:
            for level, form, telemetry in itertools.product(LEVELS, ["Text", "JSON"], [False, True]):
                environment = {"AWS_LAMBDA_LOG_LEVEL": level, "AWS_LAMBDA_LOG_FORMAT": form}
                with self.subTest(level=level, form=form, telemetry=telemetry):
                    invocations = [("levels.0", Invocation())]
                    theirs, ours = play_both(root, "function.handler", environment, telemetry, invocations)
                    if form == "Text" and not telemetry:
                        line_ends(theirs)
                    self.assertEqual(theirs, ours)


class WorkerPool(unittest.TestCase):
    """Managed Instances: what the process that starts the others logs at DEBUG."""

    def test_the_record_of_its_start(self):
        with function(function="def handler(event, context): pass") as root:
            for form, telemetry in itertools.product(["Text", "JSON"], [False, True]):
                environment = {"AWS_LAMBDA_MAX_CONCURRENCY": "2", "AWS_LAMBDA_LOG_LEVEL": "DEBUG", "AWS_LAMBDA_LOG_FORMAT": form}
                outcomes = []
                for command in [sys.executable, "-m", "awslambdaric", "function.handler"], None:
                    with Lambda(root, env=environment, telemetry=telemetry, log_sockets=True, command=command) as aws:
                        aws.wait_for_next(2)
                        aws.wait_for(lambda aws=aws: aws.log or aws.frames)
                        outcomes.append(Recording(aws).take())
                        aws.violations.clear()
                with self.subTest(form=form, telemetry=telemetry):
                    self.assertEqual(*outcomes)
                    self.assertIn("runtime_worker_pool_initializing", str(outcomes[0]))


if __name__ == "__main__":
    unittest.main()
