"""`make serve` with the clients that it is for: boto3, the AWS CLI, curl and Chromium; and with a thousand of them at once."""

import base64
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import unittest

import boto3
import botocore.exceptions
import urllib3.exceptions
from botocore.config import Config

from emulator import BUILD
from miniature import REPO, bounded, function, tell, until
from miniature.test_serve import PATH, Served, alive

SOURCE = """
    import os

    def handler(event, context):
        if event == "raise": raise ValueError("bad é")
        if event == "die": os._exit(3)
        print("called", context.client_context and context.client_context.custom, context.tenant_id)
        return event

    def stream(event, context):
        yield "first"
        if event == "raise": raise ValueError("late")
        open(".gate").close()
        yield b"\\xff" * 3

    def url(event, context):
        yield {"statusCode": 201, "headers": {"Content-Type": "text/event-stream", "X-Sent": "é"}, "cookies": ["a=1; Path=/", "b=2"]}
        yield f"data: {event.get('cookies')}\\n\\n"
        open(".gate").close()
        yield "data: last\\n\\n"

    def upload(event, context):
        import base64, hashlib
        return [event["headers"].get("expect"), hashlib.sha256(base64.b64decode(event["body"])).hexdigest()]
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


class Case(unittest.TestCase):
    def serve(self, handler, **variables):
        context = function(function=SOURCE)
        root = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        os.mkfifo(os.path.join(root, ".gate"))
        self.gate = os.path.join(root, ".gate")
        served = Served(root, f"function.{handler}", **variables)
        self.addCleanup(served.__exit__, None, None, None)
        return served


class Boto3(Case):
    def client(self, handler):
        self.served = self.serve(handler)
        return boto3.client(
            "lambda", endpoint_url=self.served.url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret",
            config=Config(read_timeout=30, retries={"total_max_attempts": 1}),
        )

    def test_invoke(self):
        client = self.client("handler")
        context = base64.b64encode(b'{"custom": {"k": "v"}}').decode()
        answer = client.invoke(FunctionName="function", Payload='{"k": "é"}', LogType="Tail", ClientContext=context, TenantId="blue")
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"], json.load(answer["Payload"])), (200, "$LATEST", {"k": "é"}))
        self.assertNotIn("FunctionError", answer)
        request_id = answer["ResponseMetadata"]["RequestId"]
        log = base64.b64decode(answer["LogResult"]).decode()
        self.assertRegex(log, rf"\ASTART RequestId: {request_id} .*\ncalled {{'k': 'v'}} blue\nEND .*\nREPORT .*\n\Z")
        arn = "arn:aws:lambda:us-east-1:123456789012:function:function"
        for name, qualifier in ("function", {}), (arn, {}), (f"{arn}:live", {}), ("function", {"Qualifier": "$LATEST"}):
            self.assertEqual(json.load(client.invoke(FunctionName=name, Payload="1", **qualifier)["Payload"]), 1)
        self.assertEqual(json.load(client.invoke(FunctionName="function")["Payload"]), {})

    def test_errors(self):
        client = self.client("handler")
        for event, error in ("raise", "ValueError"), ("die", "Runtime.ExitError"):
            answer = client.invoke(FunctionName="function", Payload=json.dumps(event))
            self.assertEqual((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
            self.assertEqual(json.load(answer["Payload"])["errorType"], error)
        for raised, more in (
            ("ResourceNotFoundException", {"FunctionName": "other"}),
            ("InvalidRequestContentException", {"Payload": "{"}),
            ("RequestTooLargeException", {"Payload": json.dumps("x" * 7_000_000)}),
            ("InvalidParameterValueException", {"FunctionName": "function:a", "Qualifier": "b"}),
        ):
            with self.assertRaises(getattr(client.exceptions, raised)) as caught:
                client.invoke(**{"FunctionName": "function", **more})
            self.assertEqual(caught.exception.response["Error"]["Code"], raised)
            self.assertTrue(caught.exception.response["Error"]["Message"])

    def test_event_and_dry_run(self):
        client = self.client("handler")
        for kind, status in ("Event", 202), ("DryRun", 204):
            answer = client.invoke(FunctionName="function", InvocationType=kind, Payload="1")
            self.assertEqual((answer["StatusCode"], answer["Payload"].read()), (status, b""))
        self.served.wait_log("REPORT")

    def test_stream(self):
        client = self.client("stream")
        answer = client.invoke_with_response_stream(FunctionName="function", LogType="Tail")
        self.assertEqual((answer["StatusCode"], answer["ExecutedVersion"]), (200, "$LATEST"))
        events = iter(answer["EventStream"])
        self.assertEqual(next(events), {"PayloadChunk": {"Payload": b"first"}})
        tell(self.gate)  # it was not here before: the second chunk is made now
        chunk, last = events
        self.assertEqual(chunk, {"PayloadChunk": {"Payload": b"\xff" * 3}})
        self.assertRegex(base64.b64decode(last["InvokeComplete"]["LogResult"]).decode(), r"(?s)\ASTART .*\nREPORT .*\n\Z")
        first, last = client.invoke_with_response_stream(FunctionName="function", Payload='"raise"')["EventStream"]
        self.assertEqual((first, last["InvokeComplete"]["ErrorCode"]), ({"PayloadChunk": {"Payload": b"first"}}, "ValueError"))
        self.assertEqual(json.loads(last["InvokeComplete"]["ErrorDetails"])["errorMessage"], "late")
        with self.assertRaises(client.exceptions.ResourceNotFoundException):
            client.invoke_with_response_stream(FunctionName="other")

    def test_a_server_that_ends(self):
        client = self.client("stream")
        events = iter(client.invoke_with_response_stream(FunctionName="function")["EventStream"])
        next(events)
        self.served.stop()
        with self.assertRaises((botocore.exceptions.BotoCoreError, urllib3.exceptions.HTTPError)):
            next(events)
        with self.assertRaises(botocore.exceptions.EndpointConnectionError):
            client.invoke(FunctionName="function")


class AwsCli(Case):
    def aws(self, served, *arguments):
        env = {"PATH": os.environ["PATH"], "HOME": self.folder, "AWS_ENDPOINT_URL_LAMBDA": served.url, **CREDENTIALS}
        command = [sys.executable, "-m", "awscli", "lambda", *arguments]
        return subprocess.run(command, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.folder = folder.name
        self.addCleanup(folder.cleanup)

    def test_invoke(self):
        served = self.serve("handler")
        invoke = "invoke", "--function-name=function", "--log-type=Tail"
        done = self.aws(served, *invoke, "--payload", '{"k": "é"}', "out.json")
        told = json.loads(done.stdout)
        self.assertIn("REPORT", base64.b64decode(told.pop("LogResult")).decode())
        self.assertEqual(told, {"StatusCode": 200, "ExecutedVersion": "$LATEST"})
        self.assertEqual(json.loads(pathlib.Path(self.folder, "out.json").read_text("utf-8")), {"k": "é"})
        told = json.loads(self.aws(served, *invoke, "--payload", '"raise"', "out.json").stdout)
        self.assertEqual((told["StatusCode"], told["FunctionError"]), (200, "Unhandled"))
        self.assertEqual(json.loads(pathlib.Path(self.folder, "out.json").read_text("utf-8"))["errorMessage"], "bad é")
        told = json.loads(self.aws(served, "invoke", "--function-name=function", "--invocation-type=Event", "out.json").stdout)
        self.assertEqual(told, {"StatusCode": 202})
        done = self.aws(served, "invoke", "--function-name=other", "out.json")
        self.assertIn("(ResourceNotFoundException)", done.stderr)
        self.assertNotEqual(done.returncode, 0)

    def test_it_has_no_streaming_invoke(self):
        """AWS takes the operation out of its command. Once it is there, it belongs here."""
        served = self.serve("stream")
        done = self.aws(served, "invoke-with-response-stream", "--function-name=function", "out.json")
        self.assertRegex(done.stderr, "(?i)invalid choice")


@unittest.skipUnless(shutil.which("curl"), "this machine has no curl")
class Curl(Case):
    def curl(self, *arguments, stdin=subprocess.DEVNULL):
        process = subprocess.Popen(["curl", "-sS", "--max-time", "30", *arguments], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.__exit__, None, None, None)
        self.addCleanup(process.kill)
        return process

    def test_server_sent_events_one_by_one(self):
        served = self.serve("url")
        for version in "--http1.1", "--http1.0":
            process = self.curl("-N", "-i", version, "-b", "x=1; y=2", f"{served.url}/")
            head = b"".join(itertools.takewhile(lambda line: line not in (b"\r\n", b""), iter(process.stdout.readline, None))).decode()
            self.assertTrue(head.startswith("HTTP/1.1 201 "), head)
            for field in "Content-Type: text/event-stream", "X-Sent: é", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2":
                self.assertIn(f"\r\n{field}\r\n", head)
            self.assertEqual(process.stdout.readline() + process.stdout.readline(), b"data: ['x=1', 'y=2']\n\n")
            tell(self.gate)
            rest, error = process.communicate(timeout=30)
            self.assertEqual((rest, error, process.returncode), (b"data: last\n\n", b"", 0))

    def test_a_stream_that_is_cut(self):
        served = self.serve("stream")
        process = self.curl("-N", f"{served.url}/")
        self.assertEqual(process.stdout.read(5), b"first")
        served.stop()
        _, error = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 18, error)  # "transfer closed with outstanding read data remaining"

    def test_upload_that_waits_for_100_continue(self):
        served = self.serve("upload")
        data = os.urandom(3_000_000)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            for how in ["-T", file.name], ["--data-binary", f"@{file.name}"], ["-T", file.name, "-H", "Transfer-Encoding: chunked"]:
                with self.subTest(how):
                    # It would go on without after a second: this one gives up before.
                    out, error = self.curl("-v", "-H", "Expect: 100-continue", "--expect100-timeout", "30", *how, f"{served.url}/").communicate(timeout=40)
                    self.assertIn(b"\n< HTTP/1.1 100 Continue", error)
                    self.assertEqual(json.loads(out), ["100-continue", hashlib.sha256(data).hexdigest()])
            file.write(data + data)
            file.flush()
            out, _ = self.curl("-T", file.name, "-w", " %{http_code}", f"{served.url}/").communicate(timeout=40)
            self.assertRegex(out.decode(), r"smaller than 6291456 bytes.* 413\Z")

    def test_lambdas_api(self):
        served = self.serve("handler")
        told = served.line() + served.line()  # the two lines of curl that it prints
        out, _ = self.curl(*told.splitlines()[1].replace("'", "").split()[1:]).communicate(timeout=30)
        self.assertEqual(out, b"{}")


class Browser:
    """A headless Chromium, over the WebDriver protocol: a JSON document for each command."""

    def __init__(self, width, height):
        self.folder = tempfile.mkdtemp(prefix="chromium-")
        env = {**os.environ, "HOME": self.folder, "TMPDIR": self.folder}
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.session = None
        try:
            told, started = "", None
            while not started:
                with bounded(f"chromedriver has not started: {told!r}"):
                    line = self.driver.stdout.readline().decode()
                if not line:
                    raise AssertionError(f"chromedriver: {told}")
                told += line
                started = re.search(r"started successfully on port (\d+)", line)
            self.port = int(started[1])
            # Without its sandbox it runs as root; without /dev/shm in a container.
            arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--window-size={width},{height}"]
            options = {"args": [*arguments, f"--user-data-dir={self.folder}/profile"]}
            self.session = self.ask("POST", "", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})["sessionId"]
        except BaseException:
            self.close()
            raise

    def ask(self, method, path, body=None):
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            where = f"/session/{self.session}{path}" if self.session else "/session"
            connection.request(method, where, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(value)
        return value

    def run(self, script):
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            if self.session:
                self.ask("DELETE", "")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.driver.pid, signal.SIGKILL)
        self.driver.wait()
        self.driver.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


@unittest.skipUnless(shutil.which("chromium") and shutil.which("chromedriver"), "this machine has no Chromium with its driver: apt-get install chromium chromium-driver")
class Page(unittest.TestCase):
    """tests/hello/page.py in a browser. tests/hello/page.png is a copy of what this leaves in build/conformance/page.png."""

    # In place of the time that a word takes, whoever holds the gate says when the next is there.
    GATED = """
        import types
        import page

        page.time = types.SimpleNamespace(sleep=lambda seconds: open(".gate").read())
        handler = page.handler
    """

    def test_words_appear_one_after_another(self):
        page = pathlib.Path(REPO, "tests/hello/page.py").read_text("utf-8")
        with function(page=page, gated=self.GATED) as root, Served(root, "gated.handler") as served, Browser(640, 360) as browser:
            gate = os.path.join(root, ".gate")
            os.mkfifo(gate)
            browser.ask("POST", "/url", {"url": f"{served.url}/"})

            def shown():
                return browser.run("return [text.textContent, text.className]")

            self.assertEqual(shown(), ["", "open"])
            so_far = ""
            words = "Hello, Ada! You read these words one after another, as the function makes them:".split()
            for word in words:
                tell(gate)
                so_far += word + " "
                until(lambda so_far=so_far: shown() == [so_far, "open"], f"{so_far!r} is not what the page shows")
            screenshot = base64.b64decode(browser.ask("GET", "/screenshot"))
            (BUILD / "page.png").write_bytes(screenshot)
            while shown()[1]:
                with contextlib.suppress(AssertionError):
                    tell(gate, timeout=0.05)
            text, _ = shown()
            self.assertTrue(text.startswith(so_far) and text.endswith("before the next is there. "), text)
            served.wait_log("(?s)(REPORT.*){2}")
            self.assertEqual(served.log.count("START"), 2)  # an EventSource that is not closed asks again
            browser.run("form.name.value = '<b>Bob</b>'; form.requestSubmit()")
            for so_far in "", "Hello, ", "Hello, <b>Bob</b>! ":
                until(lambda so_far=so_far: shown() == [so_far, "open"], f"{so_far!r} is not what the page shows")
                tell(gate)

    def test_an_error_in_the_browser(self):
        page = pathlib.Path(REPO, "tests/hello/page.py").read_text("utf-8").replace('    yield "event: end', '    raise ValueError\n    yield "event: end')
        with function(page=page.replace("time.sleep(0.1)", "pass")) as root, Served(root, "page.handler") as served, Browser(640, 360) as browser:
            browser.ask("POST", "/url", {"url": f"{served.url}/"})
            until(lambda: browser.run("return text.textContent").endswith("(the stream broke off)"))

    def test_the_screenshot_that_is_kept(self):
        picture = pathlib.Path(REPO, "tests/hello/page.png").read_bytes()
        self.assertTrue(picture.startswith(b"\x89PNG\r\n"))
        self.assertLess(len(picture), 40_000)


class Many(unittest.TestCase):
    SOURCE = """
        import os, subprocess
        open(".gate").close()
        child = subprocess.Popen(["sleep", "600"])
        print("pids", os.getpid(), child.pid)

        def handler(event, context):
            if "rawPath" in event:
                return stream(event["rawPath"][1:])
            if event["n"] % 50 == 0:
                os._exit(9)
            if event["n"] % 50 == 1:
                os.kill(os.getpid(), 9)
            return event["n"]

        def stream(n):
            yield n
            yield " again " + n
    """

    def test_a_thousand_clients_kills_and_reloads(self):
        source = textwrap.dedent(self.SOURCE)
        with tempfile.TemporaryDirectory() as temporary, function(function=source) as root:
            with Served(root, CONCURRENCY="8", TMPDIR=temporary) as served:
                os.mkfifo(os.path.join(root, ".gate"))
                clients = [socket.create_connection(("127.0.0.1", served.port), timeout=120) for _ in range(1000)]
                path = PATH % "function"
                for n, client in enumerate(clients):
                    if n % 3 == 0:
                        client.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % n)
                    else:
                        body = b'{"n": %d}' % n
                        client.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body))
                    if n % 50 == 2:
                        client.close()

                def edit():
                    for generation in range(1, 11):
                        until(lambda: served.log.count("REPORT") >= 80 * generation, timeout=60)
                        served.write(".new", f"GENERATION = {generation}\n{source}")
                        os.replace(os.path.join(root, ".new"), os.path.join(root, "function.py"))

                editor = threading.Thread(target=edit)
                editor.start()
                gate = os.open(os.path.join(root, ".gate"), os.O_RDWR)  # every request is on its way: now the imports end
                self.addCleanup(os.close, gate)
                for n, client in enumerate(clients):
                    if client.fileno() < 0:
                        continue
                    with client:
                        answer = b"".join(iter(lambda client=client: client.recv(1 << 16), b""))
                    head, _, body = answer.partition(b"\r\n\r\n")
                    self.assertTrue(head.startswith(b"HTTP/1.1 200 "), answer)
                    if n % 3 == 0:
                        text = str(n).encode()
                        self.assertEqual(b"".join(body.split(b"\r\n")[1::2]), text + b" again " + text)
                    elif n % 50 < 2:
                        self.assertIn(b"X-Amz-Function-Error: Unhandled", head)
                        self.assertEqual(json.loads(body)["errorType"], "Runtime.ExitError")
                    else:
                        self.assertEqual(body, str(n).encode())
                editor.join()
                served.stop()
                log = served.log
            self.assertEqual(os.listdir(temporary), [])
        self.assertGreater(log.count("function.py changed: the function starts anew\n"), 1)
        pids = re.findall(r"\d+", " ".join(re.findall("pids (.*)", log)))
        self.assertGreater(len(pids), 2 * 8 + 2 * 20)
        until(lambda: not any(map(alive, pids)), "a process is left")  # SIGKILL has been sent
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", served.port))
        self.assertNotIn("Traceback", log)


if __name__ == "__main__":
    unittest.main()
