"""The README's examples and commands, run as they stand there.

A block that begins with ```python FILE is that file of a function, and one with ```sh are commands. A word after `sh` says who runs it; those
that need packages, AWS's API or a deployment tool are run in tests/conformance: test_readme_packages.py, test_deploy.py, test_tools.py.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import unittest
import urllib.request

from miniature import REPO, STREAMED_HTTP, Lambda, bounded, function

TEXT = pathlib.Path(REPO, "README.md").read_text("utf-8")
BLOCKS = re.findall(r"(?ms)^```([^\n]*)$\n(.*?)^```$", TEXT)
EXAMPLES = {how[7:-3]: text for how, text in BLOCKS if how.startswith("python ")}
WITH_PACKAGES = {"app", "s3", "snap"}
ELSEWHERE = {  # what the text above it says is not run, and what tests/conformance runs
    "sh uv", "sh docker", "ts", "hcl", "dockerfile",
    "sh packages", "sh aws", "sh managed", "yaml template.yaml", "yaml serverless.yml", "yaml wrapper", "py app.py", "py managed.py",
}


def commands(how):
    """The blocks of one kind."""
    return [text for kind, text in BLOCKS if kind == how]


@contextlib.contextmanager
def example(name, **options):
    with function(**{name: EXAMPLES[name]}) as root, Lambda(root, f"{name}.handler", **options) as aws:
        yield aws


class Examples(unittest.TestCase):
    def test_all_of_them_are_run(self):
        run = {name[5:] for name in dir(self) if name[5:] in EXAMPLES}
        self.assertEqual(run | WITH_PACKAGES | {"hang", "test_function"}, set(EXAMPLES))
        self.assertEqual(sum(how.startswith("python") for how, _ in BLOCKS), len(EXAMPLES), "one has no file name, or two have the same")

    def test_links_within_the_page(self):
        """As GitHub makes them of headings: lower case, hyphens for spaces, no punctuation."""
        headings = re.findall(r"(?m)^##+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", TEXT))
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        self.assertLessEqual(set(re.findall(r"\]\(#([^)]+)\)", TEXT)), anchors)

    def test_make_run(self):
        """The first screen shows what it logs and prints."""
        command = [sys.executable, os.path.join(REPO, "tests/miniature"), "run", os.path.join(REPO, "tests/hello")]
        env = {name: value for name, value in os.environ.items() if name != "EVENT"}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        log, report = plain(done.stderr).split("\n", 1)
        self.assertIn(f"{log}\n\n{done.stdout}", plain(TEXT))
        fields = re.sub("[.0-9]+", "", report.strip())
        self.assertIn(fields, re.sub("[.0-9]+", "", plain(TEXT)))

    def test_words(self):
        with example("words") as aws:
            self.assertEqual(b"".join(data for _, data in aws.invoke().chunks[2:]), b"A handler that yields is streamed. ")

    def test_function(self):
        with example("function") as aws:
            answer = aws.invoke({"name": "Ada"}).json
            self.assertEqual(answer["hello"], "Ada")
            self.assertTrue(50_000 < answer["left"] <= 60_000)
            self.assertEqual(aws.invoke({}).json["hello"], "world")

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
            server.join(30)

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
            aws.wait_until_idle()
            aws.signal(signal.SIGTERM)
            self.assertEqual((aws.wait(), aws.log), (0, "closing the pool\n"))


class Commands(unittest.TestCase):
    """In a folder with a link to the Makefile, the examples in folder/, the test of one beside it, and a repository with two functions beside `runtime`."""

    @classmethod
    def setUpClass(cls):
        files = {f"folder/{name}": text for name, text in EXAMPLES.items()}
        orders = "def handler(event, context):\n    return event\n"
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        root = function(test_function=EXAMPLES["test_function"], **files, **{"my-repository/orders/function": orders, "my-repository/pay/app": orders})
        cls.folder = pathlib.Path(stack.enter_context(root))
        os.symlink(os.path.join(REPO, "Makefile"), cls.folder / "Makefile")
        os.symlink(REPO, cls.folder / "runtime")
        for name in "python3", "python3.13":  # both are the one that runs this
            program = cls.folder / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
            program.chmod(0o755)
        cls.env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k not in ("FUNCTION", "TASK_ROOT", "HANDLER", "EVENT", "PYTHON")}
        cls.env["PATH"] = f"{cls.folder / 'bin'}:{cls.env['PATH']}"

    def start(self, text):
        text = text.replace("/path/to/this/repository", shlex.quote(os.fspath(REPO)))
        command, pipe = ["sh", "-ec", text], subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=pipe, stderr=pipe, universal_newlines=True, start_new_session=True)

    def run_all(self, text):
        """Exit status, stdout, stderr."""
        with self.start(text) as process:
            try:
                out, err = process.communicate(timeout=60)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return process.returncode, out, err

    def test_every_block_is_of_a_known_kind(self):
        kinds = {how for how, _ in BLOCKS if not how.startswith("python ")}
        self.assertEqual(kinds, ELSEWHERE | {"", "sh", "sh fails", "sh timeout", "sh serve"})

    def test_those_that_need_nothing(self):
        for text in commands("sh"):
            with self.subTest(text):
                status, out, err = self.run_all(text)
                self.assertEqual(status, 0, err)
                if "HANDLER=stream" in text:
                    self.assertTrue(out.endswith("data: the\n\ndata: quick\n\ndata: brown\n\ndata: fox\n\n"), out)
                if "unittest" in text:
                    self.assertRegex(err, r"(?s)Ran 1 test in .*\nOK\n\Z")

    def test_one_that_fails(self):
        (text,) = commands("sh fails")
        status, out, err = self.run_all(text)
        self.assertEqual(status, 2, err)
        self.assertIn("ZeroDivisionError", out)

    def test_a_timeout(self):
        (text,) = commands("sh timeout")
        lines = re.findall(r'(?m)^  File "/var/task(/hang\.py", .*)', TEXT)
        for _ in range(5):  # on a busy machine the process may not get to tell it in the 100 ms that it has for that
            status, _, err = self.run_all(text)
            if all(line in err for line in lines):
                break
        self.assertEqual(status, 2, err)
        for line in lines:
            self.assertIn(line, err)

    def test_serve(self):
        (text,) = commands("sh serve")
        with self.start(text.rstrip() + " PORT=0") as process:
            try:
                with bounded():
                    lines = [process.stdout.readline() for _ in range(3)]
                for line, start in zip(lines, ("export AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:", "curl -N http", "curl http")):
                    self.assertTrue(line.startswith(start), lines)
                url = re.search("http[^ ]+", lines[2])[0]
                self.assertIn("/2015-03-31/functions/function/invocations", url)
                opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says
                with opener.open(url, b'{"name": "Grace"}', timeout=30) as answer:
                    self.assertEqual(json.load(answer)["hello"], "Grace")
            finally:
                os.killpg(process.pid, signal.SIGINT)
                process.communicate(timeout=30)


class Picture(unittest.TestCase):
    """matplotlib notes each text beside its outlines."""

    def test_what_it_says(self):
        text = pathlib.Path(REPO, "tests/bench/bench.svg").read_text("utf-8")
        for name in "boto3", "Powertools", "FastAPI", "100 MB streamed":
            self.assertRegex(text, f"<!-- .*{name}.* -->")
        self.assertNotIn("<dc:date>", text)
        # README has the same numbers at its beginning and in the table of benchmarks.
        table = re.search(r"(?ms)^\| \| this runtime \| awslambdaric \| ratio \|\n.*?\n\n", TEXT)[0]
        numbers = re.findall(r"\b[0-9.]+ (?:ms|µs|MB)\b", re.sub(r"(?m)^\| [^|]*", "", table))
        numbers += re.findall(r"\b[0-9.]+ (?:ms|µs)", TEXT[: TEXT.index("```")])
        self.assertTrue(numbers)
        for number in numbers:
            self.assertRegex(text, f"<!-- {number}(   .*)? -->")


def plain(text):
    """Text without what differs from run to run."""
    return re.sub(r"[-0-9a-f]{36}|[-0-9]{10}T[:.0-9]+Z|[0-9]+ ms left", "", text)


if __name__ == "__main__":
    unittest.main()
