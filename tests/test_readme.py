"""The README's Python examples, run as they stand there: a block that begins with ```python FILE is that file of a function.

Those that need packages are run by conformance/test_readme_packages.py.
"""

import contextlib
import pathlib
import re
import signal
import socket
import sys
import tempfile
import threading
import unittest

from runtime_api import REPO, STREAMED_HTTP, Lambda, function

TEXT = pathlib.Path(REPO, "README.md").read_text("utf-8")
EXAMPLES = dict(re.findall(r"(?ms)^```python (\w+)\.py$\n(.*?)^```$", TEXT))
WITH_PACKAGES = {"app", "s3", "snap"}


@contextlib.contextmanager
def example(name, **options):
    with function(**{name: EXAMPLES[name]}) as root, Lambda(root, f"{name}.handler", **options) as lambda_:
        yield lambda_


class Examples(unittest.TestCase):
    def test_all_of_them_are_run(self):
        run = {name[5:] for name in dir(self) if name[5:] in EXAMPLES}
        self.assertEqual(run | WITH_PACKAGES, set(EXAMPLES))
        self.assertEqual(TEXT.count("```py"), len(EXAMPLES), "one has no file name, or two have the same")

    def test_function(self):
        with example("function") as lambda_:
            answer = lambda_.invoke({"name": "Ada"}).json
            self.assertEqual(answer["hello"], "Ada")
            self.assertTrue(50_000 < answer["left"] <= 60_000)
            self.assertEqual(lambda_.invoke({}).json["hello"], "world")

    def test_own(self):
        command, env = [sys.executable, "own.py"], {"PYTHONPATH": REPO}
        with example("own", command=command, env=env) as lambda_:
            self.assertEqual(lambda_.invoke(21).json, {"double": 42})

    def test_stream(self):
        with example("stream") as lambda_:
            answer = lambda_.invoke({"body": "the fox"})
            self.assertEqual((answer.streaming, answer.headers["Content-Type"]), (True, STREAMED_HTTP))
            metadata = b'{"statusCode": 200, "headers": {"Content-Type": "text/event-stream"}}'
            chunks = [data for _, data in answer.chunks]
            self.assertEqual(chunks, [metadata, bytes(8), b"data: the\n\n", b"data: fox\n\n"])

    def test_file(self):
        with tempfile.NamedTemporaryFile() as file, example("file") as lambda_:
            file.write(bytes(range(256)) * 1000)
            file.flush()
            chunks = [data for _, data in lambda_.invoke({"path": file.name}).chunks[2:]]
            self.assertEqual([len(chunk) for chunk in chunks], [65536, 65536, 65536, 59392])
            self.assertEqual(b"".join(chunks), bytes(range(256)) * 1000)

    def test_client(self):
        def serve():
            with listener.accept()[0] as connection, connection.makefile("rwb", buffering=0) as lines:
                for line in lines:
                    lines.write(line.upper())

        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = threading.Thread(target=serve)  # takes one connection: the client has to be kept
            server.start()
            with example("client", env={"HOST": "127.0.0.1", "PORT": str(listener.getsockname()[1])}) as lambda_:
                for word in "first", "second":
                    self.assertEqual(lambda_.invoke({"line": word}).json, word.upper() + "\n")
            server.join()

    def test_orders(self):
        with example("orders") as lambda_:
            self.assertEqual(lambda_.invoke({"id": 7}).kind, "response")
            self.assertRegex(lambda_.log, r"\A\[INFO\]\t[-0-9]{10}T[:.0-9]{12}Z\t[-0-9a-f]{36}\torder 7\nas it is\n\Z")
        with example("orders", env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as lambda_:
            lambda_.invoke({"id": 7})
            shown = re.search(r'(?m)^\{"timestamp": .*\n.*\n', TEXT)[0]
            self.assertEqual(without_ids(lambda_.log), without_ids(shown))

    def test_divide(self):
        with example("divide") as lambda_:
            self.assertEqual(lambda_.invoke({"total": 7, "people": 2}).json, {"share": 3.5})
            error = lambda_.invoke({"total": 7, "people": 0}).json
            self.assertEqual((error["errorType"], error["errorMessage"]), ("ValueError", "nobody to share with"))
            self.assertIn(error["stackTrace"][0].replace(lambda_.task_root, "/var/task"), shown_trace())
            self.assertEqual(error["cause"]["errorType"], "ZeroDivisionError")

    def test_shutdown(self):
        with example("shutdown") as lambda_:
            self.assertEqual(lambda_.invoke().json, "ok")
            self.assertEqual(len(lambda_.sent("extension/register")), 1)
            lambda_.signal(signal.SIGTERM)
            self.assertEqual((lambda_.wait(), lambda_.log), (0, "closing the pool\n"))


def without_ids(text):
    return re.sub(r"[-0-9a-f]{36}|[-0-9]{10}T[:0-9]{8}Z", "", text)


def shown_trace():
    """The strings in the README's error document."""
    return [string.encode().decode("unicode_escape") for string in re.findall(r'"((?:[^"\\]|\\.)*)"', TEXT)]


if __name__ == "__main__":
    unittest.main()
