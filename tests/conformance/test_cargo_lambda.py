"""bootstrap under cargo-lambda's emulator, which serves the function at an HTTP port and passes streams on as they come.

    function -> Runtime API at http://HOST:PORT/.rt -> emulator -> HTTP at the same port -> this test

It is made for functions in Rust and asks `cargo` for the package that it is started in. No Rust is needed: CARGO
answers in its place.
"""

import contextlib
import http.client
import json
import os
import pathlib
import sys
import tempfile
import unittest

from emulator import BOOTSTRAP, BUILD, Program, free_port
from miniature import function

CARGO = """#!/bin/sh
# `cargo metadata`, on one line.
echo '{"version": 1, "workspace_root": "'$PWD'", "target_directory": "'$PWD'", "workspace_members": ["function"], \
"packages": [{"name": "function", "version": "0.0.0", "id": "function", "dependencies": [], "features": {}, \
"manifest_path": "'$PWD'/Cargo.toml", \
"targets": [{"name": "function", "kind": ["bin"], "src_path": "'$PWD'/main.rs"}]}]}'
"""

FUNCTION = """
    import asyncio
    import json
    import os
    import time

    def handler(event, context):
        if "rawPath" not in event:
            return globals()[event["do"]](event, context)
        return globals()[event["rawPath"].strip("/")](event, context)

    def echo(event, context):
        return event["value"]

    def fail(event, context):
        raise LookupError("nothing é here")

    def time_left(event, context):
        return context.get_remaining_time_in_millis()

    def page(event, context):
        headers = {"Content-Type": "text/plain; charset=utf-8", "X-Method": event["requestContext"]["http"]["method"]}
        return {"statusCode": 202, "headers": headers, "cookies": ["a=b"], "body": "é"}

    # A chunk is made when the test, which has the one before it, asks for it with a file.

    def wait_for(path):
        end = time.monotonic() + 20
        while not os.path.exists(path):
            if time.monotonic() > end:
                raise TimeoutError(path)
            time.sleep(0.005)

    METADATA = {"statusCode": 201, "headers": {"Content-Type": "text/event-stream", "X-A": "b"}, "cookies": ["a=b"]}

    def stream(event, context):
        folder = event["headers"]["folder"]
        yield METADATA
        for n in range(3):
            wait_for(os.path.join(folder, str(n)))
            yield f"data: {n}\\n\\n"

    async def async_stream(event, context):
        folder = event["headers"]["folder"]
        yield METADATA
        for n in range(3):
            await asyncio.to_thread(wait_for, os.path.join(folder, str(n)))
            yield f"data: {n}\\n\\n".encode()

    def large_stream(event, context):
        yield METADATA
        for n in range(200):
            yield bytes([n]) * 65536

    def broken_stream(event, context):
        yield METADATA
        yield "begun"
        raise LookupError("and broken")
"""


class Emulated(unittest.TestCase):
    """The emulator, with a function in it."""

    FUNCTION = FUNCTION

    @classmethod
    def setUpClass(cls):
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        project = stack.enter_context(tempfile.TemporaryDirectory())
        pathlib.Path(project, "Cargo.toml").write_text('[package]\nname = "function"\nversion = "0.0.0"\n')
        cargo = pathlib.Path(project, "cargo")
        cargo.write_text(CARGO)
        cargo.chmod(0o755)
        cls.port = free_port()
        cls.emulator = stack.enter_context(Program(
            [BUILD / "cargo-lambda", "lambda", "watch", "--only-lambda-apis", "--invoke-address=127.0.0.1",
             f"--invoke-port={cls.port}"],
            project,
            {"PATH": f"{project}:/usr/bin:/bin", "HOME": project},
        ))
        cls.emulator.wait_for_port(cls.port)
        root = stack.enter_context(function(function=cls.FUNCTION))
        cls.runtime = stack.enter_context(Program([BOOTSTRAP, "function.handler"], root, {
            "PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin",
            "AWS_LAMBDA_RUNTIME_API": f"http://127.0.0.1:{cls.port}/.rt",
            "AWS_LAMBDA_FUNCTION_NAME": "_",
        }))

    @contextlib.contextmanager
    def request(self, path, event=None, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET" if event is None else "POST", path, event and json.dumps(event), headers)
            yield connection.getresponse()


class CargoLambda(Emulated):
    def invoke(self, **event):
        with self.request("/2015-03-31/functions/_/invocations", event) as response:
            return response.status, json.loads(response.read())

    def test_value(self):
        value = {"text": "é 世 😀", "number": 1.5}
        self.assertEqual(self.invoke(do="echo", value=value), (200, value))

    def test_error_and_then_success(self):
        status, document = self.invoke(do="fail")
        self.assertEqual(status, 500)
        self.assertEqual((document["errorType"], document["errorMessage"]), ("LookupError", "nothing é here"))
        self.assertEqual(self.invoke(do="echo", value=1), (200, 1))

    def test_deadline_of_the_emulator(self):
        # It sends milliseconds from now where Lambda sends milliseconds since 1970.
        self.assertEqual(self.invoke(do="time_left"), (200, 0))

    def test_http_response(self):
        with self.request("/page") as response:
            self.assertEqual((response.status, response.read().decode()), (202, "é"))
            self.assertEqual(response.headers["Content-Type"], "text/plain; charset=utf-8")
            self.assertEqual(response.headers["X-Method"], "GET")

    def check_stream(self, path):
        """What `curl -N` shows: status and headers before the first chunk is made, each chunk before the next is."""
        with tempfile.TemporaryDirectory() as folder, self.request(path, folder=folder) as response:
            self.assertEqual(response.status, 201)
            self.assertEqual(response.headers["Content-Type"], "text/event-stream")
            self.assertEqual(response.headers["X-A"], "b")
            for n in range(3):
                pathlib.Path(folder, str(n)).touch()
                self.assertEqual(response.read1(), f"data: {n}\n\n".encode())
            self.assertEqual(response.read(), b"")

    def test_stream(self):
        self.check_stream("/stream")

    def test_async_stream(self):
        self.check_stream("/async_stream")

    def test_stream_of_13_MB(self):
        with self.request("/large_stream") as response:
            self.assertTrue(response.read() == b"".join(bytes([n]) * 65536 for n in range(200)))

    def test_stream_that_fails(self):
        with self.request("/broken_stream") as response:
            self.assertEqual((response.status, response.read1()), (201, b"begun"))
            with contextlib.suppress(http.client.HTTPException):
                response.read()
        self.runtime.wait_for(lambda: "[ERROR] LookupError: and broken" in self.runtime.log, "no error in the log")
        self.assertEqual(self.invoke(do="echo", value=2), (200, 2))

    def test_client_that_goes_away(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.request("/stream", folder=folder) as response:
                self.assertEqual(response.status, 201)
            for n in range(3):
                pathlib.Path(folder, str(n)).touch()
            self.assertEqual(self.invoke(do="echo", value=3), (200, 3))


if __name__ == "__main__":
    unittest.main()
