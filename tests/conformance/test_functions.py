"""Functions as people write them, with the libraries they use, unchanged: what comes out is what awslambdaric gives.

And the other way round: the AWS SDK as the client that invokes a function.
"""

import base64
import contextlib
import copy
import http.server
import json
import pathlib
import re
import sys
import threading
import time
import unittest

import boto3
import botocore.config

from beside import packed, play_both
from emulator import BOOTSTRAP, Emulator
from functions import Invocation
from miniature import REPO, Lambda, function

EVENT = json.loads(pathlib.Path(REPO, "tests/hello/event.json").read_text())


def http_event(method, path, body=None, query=None, headers=None):
    """An event of an API Gateway HTTP API, format 2.0."""
    event = copy.deepcopy(EVENT)
    event.update(rawPath=path, queryStringParameters=query or {})
    event["rawQueryString"] = "&".join([f"{name}={value}" for name, value in (query or {}).items()])
    event["requestContext"]["http"].update(method=method, path=path)
    event["headers"].update(headers or {})
    if body is not None:
        event["body"] = json.dumps(body)
        event["headers"].update({"content-type": "application/json", "content-length": str(len(event["body"]))})
    return event


class Unchanged(unittest.TestCase):
    maxDiff = None

    def play(self, source, events, environment=None):
        """The answers and logs of awslambdaric and of this runtime are the same; what was answered, and the log.

        Both with packages of the environment, and from the folder that `make dist` writes.
        """
        with function(function=source) as root:
            self.play_in(root, events, environment or {}, REPO / "bootstrap")
            with packed(root) as built:
                return self.play_in(built, events, environment or {}, f"{built}/bootstrap")

    def play_in(self, root, events, environment, bootstrap):
        invocations = [(f"request-{n}", Invocation(event)) for n, event in enumerate(events)]
        theirs, ours = play_both(root, "function.handler", environment, False, invocations, bootstrap)
        for outcome in [*theirs, *ours]:
            outcome["log"] = re.sub('"Timestamp":[0-9]{13}', '"Timestamp":0', outcome["log"])
        for outcome in theirs:
            if outcome["log"] and not outcome["log"].endswith("\n"):
                outcome["log"] += "\n"  # after a record with a traceback
            for post in outcome["posts"]:
                if post["kind"] == "error":
                    post["error type"] = post["document"]["errorType"]
        self.assertEqual(theirs, ours)
        self.assertIsNone(ours[-1]["exit"])
        answers = [post for outcome in ours for post in outcome["posts"]]
        self.assertEqual(len(answers), len(events), ours)
        return answers, "".join([outcome["log"] for outcome in ours])

    def responses(self, answers):
        """Status, headers and body of each HTTP response."""
        responses = [json.loads(answer["body"]) for answer in answers]
        return [(response["statusCode"], response["body"]) for response in responses]

    def test_powertools(self):
        source = """
            from aws_lambda_powertools import Logger, Metrics
            from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
            from aws_lambda_powertools.event_handler.exceptions import NotFoundError
            from aws_lambda_powertools.logging import correlation_paths
            from aws_lambda_powertools.metrics import MetricUnit

            logger = Logger(service="shop")
            metrics = Metrics(namespace="shop", service="shop")
            app = APIGatewayHttpResolver()

            @app.get("/items/<id>")
            def item(id):
                if id == "0":
                    raise NotFoundError("no item é")
                logger.info("found", extra={"item": id, "price": 1.5})
                metrics.add_metric(name="found", unit=MetricUnit.Count, value=1)
                return {"id": id, "name": app.current_event.query_string_parameters.get("name")}

            @app.post("/items")
            def create():
                logger.append_keys(user="ada")
                logger.warning({"created": app.current_event.json_body})
                return app.current_event.json_body, 201

            @app.get("/broken")
            def broken():
                try:
                    return {}["nothing"]
                except KeyError:
                    logger.exception("caught")
                    raise

            @metrics.log_metrics
            @logger.inject_lambda_context(correlation_id_path=correlation_paths.API_GATEWAY_HTTP, log_event=True)
            def handler(event, context):
                return app.resolve(event, context)
        """
        events = [
            http_event("GET", "/items/5", query={"name": "n"}),
            http_event("POST", "/items", {"name": "é", "tags": [1, 2]}),
            http_event("GET", "/items/0", query={}),
            http_event("GET", "/nowhere"),
            http_event("GET", "/broken"),
            http_event("GET", "/items/6", query={"name": "after"}),
        ]
        answers, log = self.play(source, events, {"POWERTOOLS_METRICS_NAMESPACE": "shop"})
        self.assertEqual([answer["kind"] for answer in answers], ["response"] * 4 + ["error", "response"])
        statuses = [status for status, _ in self.responses(answers[:4])]
        self.assertEqual(statuses, [200, 201, 404, 404])
        self.assertEqual(json.loads(self.responses(answers[5:])[0][1]), {"id": "6", "name": "after"})
        self.assertEqual(answers[4]["document"]["errorType"], "KeyError")
        found = [json.loads(line) for line in log.splitlines() if '"message":"found"' in line]
        self.assertEqual([line["function_request_id"] for line in found], ["request-0", "request-5"])
        self.assertEqual([line["item"] for line in found], ["5", "6"])
        self.assertIn('"CloudWatchMetrics"', log)

    def test_powertools_in_json_format(self):
        source = """
            from aws_lambda_powertools import Logger

            logger = Logger(service="shop", level="INFO")

            @logger.inject_lambda_context
            def handler(event, context):
                logger.info("once %s", "only")
                return context.aws_request_id
        """
        environment = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
        answers, log = self.play(source, [{}, {}], environment)
        lines = [json.loads(line) for line in log.splitlines()]
        self.assertEqual([line["function_request_id"] for line in lines], ["request-0", "request-1"])
        self.assertEqual([line["cold_start"] for line in lines], [True, False])

    def test_fastapi_through_mangum(self):
        source = """
            import asyncio

            from fastapi import FastAPI, HTTPException
            from fastapi.responses import Response, StreamingResponse
            from mangum import Mangum
            from pydantic import BaseModel

            app = FastAPI()

            class Item(BaseModel):
                name: str
                price: float = 1.5

            @app.get("/items/{id}")
            async def item(id: int, name: str = ""):
                await asyncio.sleep(0)
                return {"id": id, "name": name}

            @app.get("/plain")
            def plain():
                return "from a thread"

            @app.post("/items", status_code=201)
            async def create(item: Item):
                return item

            @app.get("/missing")
            async def missing():
                raise HTTPException(404, "no item é")

            @app.get("/bytes")
            async def bytes_():
                return Response(b"\\xff\\x00", media_type="application/octet-stream")

            @app.get("/stream")
            async def stream():
                async def chunks():
                    for n in range(3):
                        yield f"data: {n}\\n\\n"
                return StreamingResponse(chunks(), media_type="text/event-stream")

            @app.get("/broken")
            async def broken():
                raise LookupError("é")

            handler = Mangum(app, lifespan="auto")
        """
        events = [
            http_event("GET", "/items/5", query={"name": "n"}),
            http_event("GET", "/items/five"),
            http_event("GET", "/plain"),
            http_event("POST", "/items", {"name": "é"}),
            http_event("POST", "/items", {"price": "much"}),
            http_event("GET", "/missing"),
            http_event("GET", "/bytes"),
            http_event("GET", "/stream"),
            http_event("GET", "/openapi.json"),
            http_event("GET", "/broken"),
            http_event("GET", "/items/6"),
        ]
        answers, log = self.play(source, events)
        responses = self.responses(answers)
        self.assertEqual([status for status, _ in responses], [200, 422, 200, 201, 422, 404, 200, 200, 200, 500, 200])
        self.assertEqual(json.loads(responses[0][1]), {"id": 5, "name": "n"})
        self.assertEqual(json.loads(responses[3][1]), {"name": "é", "price": 1.5})
        self.assertEqual(base64.b64decode(responses[6][1]), b"\xff\0")
        self.assertEqual(responses[7][1], "data: 0\n\ndata: 1\n\ndata: 2\n\n")
        self.assertIn("[ERROR]\tTIMEZ\trequest-9\tAn error occurred running the application.", log)

    def test_boto3_client_made_at_import(self):
        source = """
            import os

            import boto3
            from boto3.dynamodb.types import TypeDeserializer

            s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])

            def handler(event, context):
                answer = s3.get_object(Bucket="bucket", Key=event["key"])
                item = {"M": {"price": {"N": "1.10"}, "total": {"N": "12345678901234567890.123456789"}}}
                return {
                    "type": answer["ContentType"],
                    "body": answer["Body"].read().decode(),
                    "item": TypeDeserializer().deserialize(item),
                }
        """
        with store() as endpoint:
            environment = {"ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
            answers, log = self.play(source, [{"key": "a"}, {"key": "é"}, {"key": "missing"}, {"key": "b"}], environment)
        self.assertEqual(
            answers[0]["body"],
            '{"type": "text/plain", "body": "object /bucket/a", '
            '"item": {"price": 1.10, "total": 12345678901234567890.123456789}}',
        )
        self.assertEqual(answers[2]["document"]["errorType"], "NoSuchKey")

    def test_body_of_s3_as_the_response(self):
        """A botocore StreamingBody is an iterator: it is streamed, as it comes. awslambdaric refuses it."""
        source = """
            import os

            import boto3

            s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"])

            def handler(event, context):
                return s3.get_object(Bucket="bucket", Key=event)["Body"]
        """
        with store() as endpoint, function(function=source) as root:
            environment = {"ENDPOINT": endpoint, "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
            with Lambda(root, env=environment) as aws:
                for _ in range(2):
                    answer = aws.invoke("large")
                    self.assertTrue(answer.streaming and answer.complete)
                    self.assertTrue(answer.body == b"object /bucket/large" + bytes(1_000_000))
                    self.assertGreater(len(answer.chunks), 100)


class OtherEventLoop(unittest.TestCase):
    """uvloop's, which has no selector of Python's: answers, streams, deadlines and a forked child go their usual ways."""

    SOURCE = """
        import asyncio, os, sys, time, warnings
        import uvloop

        warnings.simplefilter("ignore", DeprecationWarning)  # of policies, and of fork() beside a thread
        {statement}

        async def stream():
            for _ in range(20):
                yield bytes(100_000)
                await asyncio.sleep(0)

        async def handler(event, context):
            if event == "stream":
                return stream()
            if event == "hang":
                await asyncio.Event().wait()
            if event == "block":
                time.sleep(60)
            if event == "fork":
                pid = os.fork()
                if not pid:
                    sys.exit(3)
                return os.waitpid(pid, 0)[1] >> 8
            return [type(asyncio.get_running_loop()).__module__, await asyncio.to_thread(len, event)]
    """
    STATEMENTS = ["asyncio.set_event_loop(uvloop.new_event_loop())"]
    if sys.version_info < (3, 16):
        STATEMENTS.append("asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())")

    def test_uvloop(self):
        for statement in self.STATEMENTS:
            for slots in "", "2":
                env = {"AWS_LAMBDA_MAX_CONCURRENCY": slots}
                with self.subTest(statement, slots=slots), function(function=self.SOURCE.format(statement=statement)) as root:
                    with Lambda(root, env=env, log_sockets=True) as aws:
                        for _ in range(2):
                            for event in "", "x" * 3_000_000:
                                self.assertEqual(aws.invoke(event).json, ["uvloop", len(event)])
                            self.assertEqual(len(aws.invoke("stream").body), 2_000_000)
                            self.assertEqual(aws.invoke("fork").json, 3)
                            for event in ("hang", "block") if slots else ():
                                late = str(int(time.time() * 1000 + 300))
                                answer = aws.invoke(event, headers={"Lambda-Runtime-Deadline-Ms": late})
                                self.assertEqual(answer.error["errorType"], "Sandbox.Timedout")


@contextlib.contextmanager
def store():
    """Enough of S3 to get an object from."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            missing = self.path.endswith("/missing")
            body = b"<Error><Code>NoSuchKey</Code></Error>" if missing else f"object {self.path}".encode()
            if self.path.endswith("/large"):
                body += bytes(1_000_000)
            self.send_response(404 if missing else 200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield "http://127.0.0.1:%d" % server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Client(unittest.TestCase):
    """The AWS SDK invokes the function, through AWS's emulator."""

    @classmethod
    def setUpClass(cls):
        source = """
            def handler(event, context):
                if event == "error":
                    raise LookupError("nothing é here")
                return [event, context.client_context and context.client_context.custom]
        """
        stack = contextlib.ExitStack()
        cls.addClassCleanup(stack.close)
        root = stack.enter_context(function(function=source))
        emulator = stack.enter_context(Emulator(root, BOOTSTRAP, "function.handler"))
        cls.client = boto3.client(
            "lambda",
            endpoint_url=f"http://127.0.0.1:{emulator.port}",
            region_name="us-east-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
            config=botocore.config.Config(retries={"max_attempts": 0}),
        )
        stack.callback(cls.client.close)

    def invoke(self, event, **arguments):
        answer = self.client.invoke(FunctionName="function", Payload=json.dumps(event), **arguments)
        self.assertEqual(answer["StatusCode"], 200)
        return json.loads(answer["Payload"].read())

    def test_value(self):
        self.assertEqual(self.invoke({"k": "é"}), [{"k": "é"}, None])

    def test_client_context(self):
        context = base64.b64encode(json.dumps({"custom": {"k": ["é"]}}).encode()).decode()
        self.assertEqual(self.invoke(1, ClientContext=context), [1, {"k": ["é"]}])

    def test_error(self):
        # Lambda says FunctionError as well; the emulator does not.
        document = self.invoke("error")
        self.assertEqual((document["errorType"], document["errorMessage"]), ("LookupError", "nothing é here"))
        self.assertEqual(self.invoke(2), [2, None])


if __name__ == "__main__":
    unittest.main()
