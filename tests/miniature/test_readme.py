"""The README's Python examples, run as they stand there: a block that begins with ```python FILE is that file of a function.

Those that need packages are run by tests/conformance/test_readme_packages.py.
"""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import unittest

from miniature import REPO, STREAMED_HTTP, Lambda, function

TEXT = pathlib.Path(REPO, "README.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"(?ms)^```python (\w+)\.py$\n(.*?)^```$", TEXT))
WITH_PACKAGES = {"app", "s3", "snap"}


@contextlib.contextmanager
def example(name, **options):
    with function(**{name: EXAMPLES[name]}) as root, Lambda(root, f"{name}.handler", **options) as aws:
        yield aws


class Examples(unittest.TestCase):
    def test_all_of_them_are_run(self):
        run = {name[5:] for name in dir(self) if name[5:] in EXAMPLES}
        self.assertEqual(run | WITH_PACKAGES, set(EXAMPLES))
        self.assertEqual(TEXT.count("```py"), len(EXAMPLES), "one has no file name, or two have the same")

    def test_make_run(self):
        """The first screen shows what it logs and prints."""
        command = [sys.executable, os.path.join(REPO, "tests/miniature"), "run", os.path.join(REPO, "tests/hello")]
        env = {name: value for name, value in os.environ.items() if name != "EVENT"}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)
        log, report = plain(done.stderr).split("\n", 1)
        self.assertIn(f"{log}\n\n{done.stdout}", plain(TEXT))
        fields = re.sub("[.0-9]+", "", report.strip())
        self.assertIn(fields, re.sub("[.0-9]+", "", plain(TEXT)))

    def test_function(self):
        with example("function") as aws:
            answer = aws.invoke({"name": "Ada"}).json
            self.assertEqual(answer["hello"], "Ada")
            self.assertTrue(50_000 < answer["left"] <= 60_000)
            self.assertEqual(aws.invoke({}).json["hello"], "world")

    def test_test_function(self):
        """The test of a function, as its author runs it."""
        with function(**{"folder/function": EXAMPLES["function"], "test_function": EXAMPLES["test_function"]}) as project:
            done = subprocess.run(
                [sys.executable, "-m", "unittest", "test_function"], cwd=project, env={**os.environ, "PYTHONPATH": os.path.join(REPO, "tests")},
                stderr=subprocess.PIPE, universal_newlines=True, timeout=20,
            )
            self.assertRegex(done.stderr, r"(?s)Ran 1 test in .*\nOK\n\Z")

    def test_stream(self):
        with example("stream") as aws:
            answer = aws.invoke({"body": "the fox"})
            self.assertEqual((answer.streaming, answer.headers["Content-Type"]), (True, STREAMED_HTTP))
            metadata = b'{"statusCode": 200, "headers": {"Content-Type": "text/event-stream"}}'
            chunks = [data for _, data in answer.chunks]
            self.assertEqual(chunks, [metadata, bytes(8), b"data: the\n\n", b"data: fox\n\n"])

    def test_client(self):
        def serve():
            with listener.accept()[0] as connection, connection.makefile("rwb", buffering=0) as lines:
                for line in lines:
                    lines.write(line.upper())

        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=serve, daemon=True)  # takes one connection: the client has to be kept
            server.start()
            with example("client", env={"HOST": "127.0.0.1", "PORT": str(listener.getsockname()[1])}) as aws:
                for word in "first", "second":
                    self.assertEqual(aws.invoke({"line": word}).json, word.upper() + "\n")
            server.join(10)

    def test_orders(self):
        for form in "Text", "JSON":
            with example("orders", env={"AWS_LAMBDA_LOG_FORMAT": form}) as aws:
                self.assertEqual(aws.invoke({"id": 7}).kind, "response")
                self.assertIn(plain(aws.log), plain(TEXT))

    def test_divide(self):
        with example("divide") as aws:
            self.assertEqual(aws.invoke({"total": 7, "people": 2}).json, {"share": 3.5})
            error = aws.invoke({"total": 7, "people": 0}).json
            self.assertEqual(list(error), ["errorMessage", "errorType", "requestId", "stackTrace", "cause"])
            log = aws.log.replace("\r", "\n").replace("\u00a0", " ")
            self.assertIn(log.replace(aws.task_root, "/var/task"), TEXT)

    def test_shutdown(self):
        with example("shutdown") as aws:
            self.assertEqual(aws.invoke().json, "ok")
            self.assertEqual(len(aws.sent("extension/register")), 1)
            aws.signal(signal.SIGTERM)
            self.assertEqual((aws.wait(), aws.log), (0, "closing the pool\n"))


def plain(text):
    """Text without what differs from run to run."""
    return re.sub(r"[-0-9a-f]{36}|[-0-9]{10}T[:.0-9]+Z|[0-9]+ ms left", "", text)


if __name__ == "__main__":
    unittest.main()
