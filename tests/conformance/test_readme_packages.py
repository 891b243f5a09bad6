"""The README's examples and commands that need packages, run as they stand there; tests/miniature/test_readme.py has the others."""

import json
import os
import re
import shutil
import signal
import unittest

from functions import FUNCTIONS, INITS
from handlers import test_web as web
from miniature import SPLIT, bounded, test_readme
from miniature.test_readme import TEXT, commands, example
from test_functions import http_event, store


def split(answer):
    """Metadata and body of a streamed HTTP response."""
    metadata, body = answer.body.split(SPLIT, 1)
    return json.loads(metadata), body


class Examples(unittest.TestCase):
    def test_app(self):
        with example("app") as aws:
            answer = aws.invoke(web.event(path="/count/3"))
            self.assertTrue(answer.streaming and answer.complete)
            metadata, body = split(answer)
            self.assertEqual(metadata["statusCode"], 200)
            self.assertEqual(metadata["headers"]["content-type"], "text/event-stream; charset=utf-8")
            self.assertEqual(body, b"data: 0\n\ndata: 1\n\ndata: 2\n\n")
            self.assertEqual([data for _, data in answer.chunks[2:]], [b"data: %d\n\n" % n for n in range(3)])
            metadata, body = split(aws.invoke(web.event(path="/count/many")))
            self.assertEqual(metadata["statusCode"], 422)
            self.assertIn("int_parsing", body.decode())
            self.assertEqual((aws.log, aws.stderr), ("", ""))

    def test_s3(self):
        with store() as endpoint:
            env = {"AWS_ENDPOINT_URL": endpoint, "BUCKET": "bucket", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
            with example("s3", env=env) as aws:
                answer = aws.invoke(http_event("GET", "/large"))
                metadata, body = split(answer)
                self.assertEqual(metadata, {"statusCode": 200, "headers": {"Content-Type": "text/plain"}})
                self.assertEqual(body, b"object /bucket/large" + bytes(1_000_000))
                self.assertLess(len(answer.chunks), 30)
                self.assertEqual(aws.invoke(http_event("GET", "/missing")).json["errorType"], "NoSuchKey")

    def test_how_many_are_compared(self):
        self.assertIn(f"plays {len(FUNCTIONS)} functions and {len(INITS)} failures to start", TEXT)

    def test_snap(self):
        with example("snap", env={"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}) as aws:
            aws.restore()
            self.assertEqual(aws.invoke().json, ["close connections", "open them again"])


class Commands(unittest.TestCase):
    """The packages that `pip install` would bring are there."""

    setUpClass = classmethod(test_readme.Commands.setUpClass.__func__)
    start, run_all = test_readme.Commands.start, test_readme.Commands.run_all

    def test_snap(self):
        (text,) = (text for text in commands("sh packages") if "snap.handler" in text)
        pip, line = text.splitlines()
        self.assertEqual(pip, "pip install --target folder snapshot-restore-py")
        status, out, err = self.run_all(line)
        self.assertEqual((status, json.loads(out)), (0, ["close connections", "open them again"]), err)

    @unittest.skipUnless(shutil.which("curl"), "this machine has no curl")
    def test_app(self):
        (text,) = (text for text in commands("sh packages") if "app.handler" in text)
        pip, serve, curl = text.splitlines()
        self.assertEqual(pip, "pip install --target folder fastapi")
        with self.start(serve + " PORT=0") as server:
            try:
                with bounded():
                    url = re.search("http[^ ]+", server.stdout.readline())[0].rstrip()
                curl = curl.replace("http://127.0.0.1:9000", url)
                status, out, err = self.run_all(curl)
                self.assertEqual((status, out), (0, "data: 0\n\ndata: 1\n\ndata: 2\n\n"), err)
                self.assertIn("Transfer-Encoding: chunked", self.run_all(curl.replace("curl -N", "curl -i"))[1])  # it streams
            finally:
                os.killpg(server.pid, signal.SIGINT)
                server.communicate(timeout=30)


if __name__ == "__main__":
    unittest.main()
