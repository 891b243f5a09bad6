"""Plays invocations through awslambdaric and through this runtime, and records what comes out, so that it can be compared."""

import concurrent.futures
import contextlib
import functools
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest
from unittest import mock

import package
from miniature import REPO, Lambda

# What this runtime says of itself at DEBUG, and awslambdaric does not.
VERSION = re.compile(r'(?m)^(\[DEBUG\]\t\S+\t\t|\{"timestamp": "[^"]*", "level": "DEBUG", "message": ")runtime \S+, Python .*\n')


@contextlib.contextmanager
def managed_runtime(python=sys.executable):
    """The command that starts awslambdaric on a managed runtime; a wrapper, as this runtime is one there, gets it as arguments."""
    with tempfile.TemporaryDirectory(prefix="runtime-") as folder:
        shutil.copy(pathlib.Path(__file__).with_name("managed.py"), f"{folder}/bootstrap.py")
        yield [python, f"{folder}/bootstrap.py"]


# Large, and imported by none of the functions.
NOT_PACKED = (
    "pip awscli sympy django moto cfnlint faker networkx cryptography pygments docutils litestar mpmath graphql botocore/data/[!s]*/*"
).split()


@functools.cache
def packed_packages(python):
    """A folder with the packages of an environment as `make dist` writes them, for one test module; and its files."""
    folder = tempfile.mkdtemp(prefix="packed-")
    unittest.addModuleCleanup(packed_packages.cache_clear)
    unittest.addModuleCleanup(shutil.rmtree, folder)
    (packages,) = pathlib.Path(python).parent.parent.glob("lib/python3*/site-packages")
    with contextlib.redirect_stderr(io.StringIO()):  # the SDK's data has private keys
        files = package.function_files(packages, folder, NOT_PACKED)
    package.add_runtime(files, packages)
    files.update(package.compiled(files, "/var/task"))
    package.write(f"{folder}/", files)
    return folder, files


def files_to_pack(root, packages=()):
    """The files that `make dist` adds for a function's folder to those of its packages."""
    files = package.function_files(root, "")
    files.update(package.compiled(files, "/var/task"))
    with mock.patch.object(package, "FEW", 1):
        one_file = package.one_file({**dict(packages), **files})
    return {**files, ".modules": one_file[".modules"]}


@contextlib.contextmanager
def packed(root, python=sys.executable):
    """The folder that `make dist` writes for a function and the packages of an environment, the code of all in one file."""
    folder, packages = packed_packages(python)
    own = files_to_pack(root, packages)
    for name, (content, executable) in own.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if executable else 0o644)
        os.utime(path, (package.EPOCH, package.EPOCH))
    try:
        yield folder
    finally:
        for name in own:
            os.remove(f"{folder}/{name}")


class Recording:
    """What has come out of a runtime, from one look at it to the next."""

    def __init__(self, aws):
        self.aws = aws
        self.posts = self.frames = self.log = self.stderr = 0

    def take(self):
        """All since the last call, in a form that can be compared."""
        aws = self.aws
        posts = [request for request in list(aws.requests) if request.method == "POST"]
        frames, log, stderr = aws.frames, aws.log, aws.stderr
        outcome = {
            "posts": [self.post(request) for request in posts[self.posts :]],
            "log": self.plain(VERSION.sub("", log[self.log :])),
            "frames": [f"{kind:08x} {self.plain(text)}" for kind, _, text in frames[self.frames :] if not VERSION.search(text)],
            # Of Python's own traceback the last line says enough.
            "stderr": re.sub(r"(?m)^Traceback .*\n(  .*\n)*", "TRACEBACK\n", self.plain(stderr[self.stderr :])),
            "exit": aws.status,
        }
        self.posts, self.frames, self.log, self.stderr = len(posts), len(frames), len(log), len(stderr)
        return outcome

    def post(self, request):
        headers = request.headers
        post = {"kind": request.kind, "id": request.request_id, "type": headers["Content-Type"]}
        if not request.kind.endswith("error"):
            body = self.plain(request.body.decode("utf-8", "backslashreplace"))
            return {**post, "mode": headers["Lambda-Runtime-Function-Response-Mode"], "body": body}
        cause = headers["Lambda-Runtime-Function-XRay-Error-Cause"]
        if cause:
            # awslambdaric sends it in UTF-8, this runtime in ASCII: the value is the same.
            cause = json.loads(self.plain(cause.encode("iso-8859-1").decode("utf-8")))
            cause["paths"].sort()
        charset = "utf-8"
        try:
            body = request.body.decode(charset)
        except UnicodeDecodeError:
            charset = "iso-8859-1"
            body = request.body.decode(charset)
        more = {"mode": None, "document": json.loads(self.plain(body)), "charset": charset}
        return {**post, **more, "error type": request.error_type, "cause": cause}

    def plain(self, text):
        """Text without what differs from run to run."""
        text = text.replace(self.aws.task_root, "ROOT")
        text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d([.,]\d{3})?", "TIME", text)
        return re.sub("0x[0-9a-f]{6,}", "ADDRESS", text)


def play(aws, invocations):
    """The outcome of the start and of each invocation, a list of (request id, Invocation)."""
    outcomes = []
    recording = Recording(aws)

    def settle():
        # When it waits for the next event it has nothing more to say.
        aws.wait_for(lambda: aws.polling or aws.status is not None, what="neither polls nor ends")
        outcomes.append(recording.take())

    aws.start()
    settle()
    for request_id, invocation in invocations:
        if aws.status is not None:
            break
        aws.send(invocation.event, body=invocation.body, headers=invocation.headers(request_id))
        aws.wait_for(lambda: not aws.pending, what="nobody takes the event")
        settle()
    return outcomes


def play_both(root, handler, environment, telemetry, invocations, bootstrap=REPO / "bootstrap"):
    """The outcomes of awslambdaric and of this runtime, which run at the same time."""
    # awslambdaric takes the version of Python, on which its JSON depends, from this variable.
    variables = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13", **environment}
    command = [sys.executable, "-m", "awslambdaric", handler]
    # Both are made before either starts: a program that is still open for writing when another thread forks cannot
    # be executed.
    with Lambda(root, handler, env=variables, telemetry=telemetry, command=command, start=False) as theirs:
        with Lambda(root, handler, env=environment, telemetry=telemetry, bootstrap=bootstrap, start=False) as ours:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                future = pool.submit(play, theirs, invocations)
                outcomes = play(ours, invocations)
            theirs.violations.clear()
            return future.result(), outcomes
