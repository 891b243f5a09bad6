"""Error trackers, tracers and profilers: what they send under awslambdaric is sent here, before the answer goes out.

They are installed in an environment of their own (requirements-integrations.txt).
"""

import base64
import contextlib
import gzip
import http.server
import json
import os
import pathlib
import shutil
import socket
import sys
import threading
import time
import unittest

from beside import managed_runtime, packed
from miniature import REPO, Lambda, function

PYTHON = REPO / "build/conformance/integrations" / "python{}.{}.{}".format(*sys.version_info) / "bin/python3"
HEADERS = {
    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
}


def has_wheel_of(package):
    """Packages with compiled parts have no wheel for the newest Python, and requirements-integrations.txt leaves them out."""
    found = any(PYTHON.parent.parent.glob(f"lib/*/site-packages/{package}"))
    return unittest.skipUnless(found, f"this Python has no wheel of {package}")


class Backend:
    """Keeps what is posted to it, and when."""

    def __enter__(self):
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                backend.posts.append((time.monotonic(), body.decode("utf-8", "replace")))
                self.send_response(201)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *arguments):
                pass

        self.posts = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.port = self.server.server_address[1]
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def had(self, text, before=None):
        return any(text in body and (before is None or at < before) for at, body in self.posts)


class Beside(unittest.TestCase):
    """Each function is run by awslambdaric and by this runtime, from its folder and from what `make dist` writes."""

    def each(self, check, root, handler="function.handler", env=None, through=()):
        """through: a second wrapper, for this runtime NEXT_EXEC_WRAPPER."""
        with managed_runtime(PYTHON) as theirs, packed(root, PYTHON) as built:
            for name, folder, command in (
                ("awslambdaric", root, [*through, *theirs]),
                ("this runtime", root, [REPO / "bootstrap", *theirs]),
                ("from one file", built, [f"{built}/bootstrap", *theirs]),
            ):
                # Without a HOME some look for settings in the task root.
                env = {"HOME": "/nonexistent", **(env or {})}
                if through and name != "awslambdaric":
                    env["NEXT_EXEC_WRAPPER"] = through[0]
                with self.subTest(name), Lambda(folder, handler, env=env, command=command) as aws:
                    check(aws)
                    if name == "awslambdaric":
                        aws.violations.clear()
                    self.assertNotIn(".modules", aws.stderr)

    @contextlib.contextmanager
    def ours(self, root, handler, env=None):
        with packed(root, PYTHON) as built, Lambda(built, handler, env=env, python=PYTHON, bootstrap=f"{built}/bootstrap") as aws:
            yield aws
            self.assertNotIn(".modules", aws.stderr)


class Sentry(Beside):
    SOURCE = """
        import sentry_sdk
        from sentry_sdk.integrations.aws_lambda import AwsLambdaIntegration

        sentry_sdk.init("http://key@127.0.0.1:PORT/1", integrations=[AwsLambdaIntegration()])

        def handler(event, context):
            if event == "raise":
                raise ValueError("raised by the handler")
            sentry_sdk.capture_message("told by the handler")
            return event

        async def asynchronous(event, context):
            sentry_sdk.capture_message("told by a coroutine")
            if event == "raise":
                raise ValueError("raised by a coroutine")
            return event

        def stream(event, context):
            yield "a"
            sentry_sdk.capture_message("told by a stream")
            if event == "raise":
                raise ValueError("raised by a stream")
            yield "b"
    """

    def test_errors_and_messages_before_the_answer(self):
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            def check(aws):
                backend.posts.clear()
                answer = aws.invoke("raise", headers=HEADERS)
                self.assertEqual(answer.json["errorType"], "ValueError")
                self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)
                answer = aws.invoke("x", headers=HEADERS)
                self.assertTrue(backend.had("told by the handler", answer.time), backend.posts)

            self.each(check, root)

    def test_coroutines_and_streams(self):
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            with self.ours(root, "function.asynchronous") as aws:
                answer = aws.invoke("x", headers=HEADERS)
                self.assertTrue(backend.had("told by a coroutine", answer.time), backend.posts)
                answer = aws.invoke("raise", headers=HEADERS)
                self.assertTrue(backend.had("raised by a coroutine", answer.time), backend.posts)
            with self.ours(root, "function.stream") as aws:
                answer = aws.invoke("x", headers=HEADERS)
                self.assertEqual(answer.body, b"ab")
                self.assertTrue(backend.had("told by a stream", answer.ended), backend.posts)
                answer = aws.invoke("raise", headers=HEADERS)
                self.assertTrue(backend.had("raised by a stream", answer.ended), backend.posts)

    def test_the_event_of_a_coroutines_failure_is_that_of_a_plain_handler(self):
        """What Sentry gets of both: the request, its tags, how it was caught, and the function's frames."""
        source = self.SOURCE + """
        def fail(event):
            sentry_sdk.set_tag("mine", event["path"])
            raise ValueError("raised by both")

        def plain(event, context):
            fail(event)

        async def other(event, context):
            fail(event)
        """
        told = {}
        with Backend() as backend, function(function=source.replace("PORT", str(backend.port))) as root:
            for name in "plain", "other":
                with self.ours(root, f"function.{name}") as aws:
                    for path in "/a", "/b":
                        backend.posts.clear()
                        aws.invoke({"httpMethod": "GET", "headers": {"Host": "h"}, "path": path}, headers=HEADERS)
                        (event,) = [
                            document
                            for _, body in backend.posts
                            for document in map(json.loads, body.splitlines())
                            if "exception" in document
                        ]
                        (exception,) = event["exception"]["values"]
                        frame = exception["stacktrace"]["frames"][-1]
                        kept = [exception["value"], exception["mechanism"], frame["function"], event["request"], event["tags"], event["level"]]
                        told.setdefault(name, []).append(kept)
        self.assertEqual(told["plain"], told["other"])

    def test_an_init_error(self):
        source = self.SOURCE.replace("def handler", "raise KeyError('at import')\n\n        def handler", 1)
        with Backend() as backend, function(function=source.replace("PORT", str(backend.port))) as root:
            def check(aws):
                backend.posts.clear()
                self.assertEqual(aws.wait(), 1)
                # Its wrapper of post_init_error flushes nothing: the event goes out when the process ends.
                self.assertTrue(backend.had("at import"), backend.posts)

            self.each(check, root)


class Honeybadger(Beside):
    def test_errors(self):
        source = """
            from honeybadger import honeybadger
            from honeybadger.contrib.aws_lambda import AWSLambdaPlugin

            honeybadger.configure(
                api_key="key", endpoint="http://127.0.0.1:PORT", force_report_data=True, force_sync=True, environment="test",
            )
            honeybadger.contrib = AWSLambdaPlugin

            def handler(event, context):
                raise ValueError("raised by the handler")
        """
        with Backend() as backend, function(function=source.replace("PORT", str(backend.port))) as root:
            def check(aws):
                backend.posts.clear()
                answer = aws.invoke({"k": "of the event"}, headers=HEADERS)
                self.assertEqual(answer.json["errorType"], "ValueError")
                self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)

            self.each(check, root)


class OpenTelemetry(Beside):
    """The spans go to a collector as OTLP, in whose protobuf texts stand as they are."""

    HANDLER = """
        from opentelemetry import trace

        def handler(event, context):
            with trace.get_tracer("mine").start_as_current_span("span of the handler"):
                if event == "raise":
                    raise ValueError("raised by the handler")
                return event
    """

    def spans_of(self, backend):
        def check(aws):
            backend.posts.clear()
            for event in "x", "raise":
                answer = aws.invoke(event, headers=HEADERS)
                for text in "span of the handler", answer.request_id:
                    self.assertTrue(backend.had(text, answer.time), (text, backend.posts))
            self.assertEqual(answer.json["errorType"], "ValueError")
            self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)

        return check

    def test_its_instrumentor(self):
        source = self.HANDLER + """
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.aws_lambda import AwsLambdaInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter("http://127.0.0.1:PORT/v1/traces")))
        trace.set_tracer_provider(provider)
        AwsLambdaInstrumentor().instrument()
        """
        with Backend() as backend, function(function=source.replace("PORT", str(backend.port))) as root:
            self.each(self.spans_of(backend), root)

    def test_its_command_as_second_wrapper(self):
        """It puts its own folder on PYTHONPATH, where Python finds a sitecustomize that instruments what the function imports."""
        with Backend() as backend, function(function=self.HANDLER) as root:
            env = {
                "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend.port}",
            }
            self.each(self.spans_of(backend), root, env=env, through=[PYTHON.parent / "opentelemetry-instrument"])

    def test_a_wrapper_that_redirects_the_handler(self):
        """As OpenTelemetry's layer has one: the handler is a module of its own, and the function's stands in ORIG_HANDLER."""
        wrapper = '#!/bin/sh\nexport ORIG_HANDLER="$_HANDLER" _HANDLER=redirected.handler\npython=$1\nshift\nexec "$python" -X mine "$@"\n'
        redirected = """
            import importlib, os, sys

            module, _, name = os.environ["ORIG_HANDLER"].rpartition(".")
            wrapped = getattr(importlib.import_module(module), name)

            def handler(event, context):
                return ["redirected", sys._xoptions, wrapped(event, context)]
        """
        files = {"function": "def handler(event, context): return event", "redirected": redirected, "wrapper.sh": wrapper}
        with function(**files) as root:
            os.chmod(f"{root}/wrapper.sh", 0o755)

            def check(aws):
                self.assertEqual(aws.invoke("x").json, ["redirected", {"mine": True}, "x"])

            self.each(check, root, through=[f"{root}/wrapper.sh"])


class Logfire(Beside):
    SOURCE = """
        import logfire

        base_url = logfire.AdvancedOptions(base_url="http://127.0.0.1:PORT")
        logfire.configure(token="pylf_v1_us_0123456789", console=False, inspect_arguments=False, advanced=base_url)

        def handler(event, context):
            with logfire.span("span of the handler"):
                if event == "raise":
                    raise ValueError("raised by the handler")
                return event

        async def asynchronous(event, context):
            with logfire.span("span of the coroutine"):
                raise ValueError("raised by the coroutine")

        def stream(event, context):
            yield "a"
            with logfire.span("span of the stream"):
                yield "b"

        logfire.instrument_aws_lambda(handler)
    """

    def test_spans_before_the_answer(self):
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            def check(aws):
                backend.posts.clear()
                for event in "x", "raise":
                    answer = aws.invoke(event, headers=HEADERS)
                    for text in "span of the handler", answer.request_id:
                        self.assertTrue(backend.had(text, answer.time), (text, backend.posts))
                self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)

            self.each(check, root)

    def test_coroutines_and_streams(self):
        """Its own spans, that is: it flushes what is there when the client is called, at the end of a stream too."""
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            with self.ours(root, "function.asynchronous") as aws:
                answer = aws.invoke("x", headers=HEADERS)
                for text in "span of the coroutine", "raised by the coroutine":
                    self.assertTrue(backend.had(text, answer.time), (text, backend.posts))
            with self.ours(root, "function.stream") as aws:
                answer = aws.invoke("x", headers=HEADERS)
                self.assertTrue(backend.had("span of the stream", answer.ended), backend.posts)


@has_wheel_of("ddtrace")
class Datadog(Beside):
    """Without its extension, metrics and spans are lines of the log."""

    SOURCE = """
        from datadog_lambda.metric import lambda_metric
        from ddtrace import tracer

        def handler(event, context):
            lambda_metric("mine", 10)
            with tracer.trace("span.of.the.handler"):
                if event == "raise":
                    raise ValueError
                return event
    """

    def check(self, aws):
        for event in "x", "raise":
            answer = aws.invoke(event, headers=HEADERS)
            lines = [json.loads(line) for line in answer.log.splitlines() if line.startswith("{")]
            self.assertEqual([line["v"] for line in lines if line.get("m") == "mine"], [10])
            spans = {span["name"]: span for line in lines for trace in line.get("traces", ()) for span in trace}
            self.assertEqual(spans["aws.lambda"]["meta"]["request_id"], answer.request_id)
            self.assertEqual(spans["aws.lambda"]["error"], event == "raise")
            self.assertEqual(spans["span.of.the.handler"]["parent_id"], spans["aws.lambda"]["span_id"])
        self.assertEqual(answer.json["errorType"], "ValueError")

    def test_its_decorator(self):
        source = self.SOURCE + """
        from datadog_lambda.wrapper import datadog_lambda_wrapper
        handler = datadog_lambda_wrapper(handler)
        """
        with function(function=source) as root:
            self.each(self.check, root, env={"DD_FLUSH_TO_LOG": "true"})

    def test_its_handler_finds_the_functions(self):
        env = {"DD_FLUSH_TO_LOG": "true", "DD_LAMBDA_HANDLER": "function.handler"}
        with function(function=self.SOURCE) as root:
            self.each(self.check, root, "datadog_lambda.handler.handler", env)


@has_wheel_of("newrelic")
class NewRelic(Beside):
    def test_its_wrapper(self):
        source = """
            import newrelic.agent
            import newrelic_lambda.lambda_handler

            newrelic.agent.initialize()

            @newrelic_lambda.lambda_handler.lambda_handler()
            def handler(event, context):
                if event == "raise":
                    raise ValueError("raised by the handler")
                return event
        """
        env = {"NEW_RELIC_SERVERLESS_MODE_ENABLED": "true", "NEW_RELIC_ACCOUNT_ID": "1", "NEW_RELIC_APP_NAME": "function"}
        with function(function=source) as root:
            def check(aws):
                for event in "x", "raise":
                    answer = aws.invoke(event, headers=HEADERS)
                    (line,) = [line for line in answer.log.splitlines() if "NR_LAMBDA_MONITORING" in line]
                    told = gzip.decompress(base64.b64decode(json.loads(line)[2])).decode()
                    self.assertIn(answer.request_id, told)
                self.assertIn("raised by the handler", told)

            self.each(check, root, env=env)


class XRay(Beside):
    SOURCE = """
        from aws_xray_sdk.core import xray_recorder

        def handler(event, context):
            with xray_recorder.in_subsegment("mine") as subsegment:
                subsegment.put_annotation("event", event)
            return event

        async def asynchronous(event, context):
            return handler(event, context)

        def stream(event, context):
            yield handler(event, context)
    """

    def test_subsegments_before_the_answer(self):
        touched = pathlib.Path("/tmp/.aws-xray")  # the SDK tells Lambda by a file there that it is used
        if not touched.exists():
            self.addCleanup(shutil.rmtree, touched, ignore_errors=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon, function(function=self.SOURCE) as root:
            daemon.bind(("127.0.0.1", 0))
            daemon.settimeout(0)  # what is sent before the answer is there when the answer is
            env = {"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:{}".format(daemon.getsockname()[1])}

            def check(aws):
                for number in range(2):
                    trace = f"1-5bef4de7-ad49b0e87f6ef6c87fc2e70{number}"
                    headers = {**HEADERS, "Lambda-Runtime-Trace-Id": f"Root={trace};Parent=9a9197af755a6419;Sampled=1"}
                    aws.invoke("x", headers=headers)
                    subsegment = json.loads(daemon.recv(1 << 16).split(b"\n", 1)[1])
                    self.assertEqual(subsegment["trace_id"], trace)
                    self.assertEqual(subsegment["parent_id"], "9a9197af755a6419")
                    self.assertEqual(subsegment["annotations"], {"event": "x"})

            self.each(check, root, env=env)
            for name in "asynchronous", "stream":
                with self.ours(root, f"function.{name}", env) as aws:
                    check(aws)


class Powertools(Beside):
    def test_metrics_tracer_and_logger(self):
        source = """
            from aws_lambda_powertools import Logger, Metrics, Tracer

            logger, metrics, tracer = Logger(service="mine"), Metrics(namespace="mine", service="mine"), Tracer(service="mine", disabled=True)

            @metrics.log_metrics(capture_cold_start_metric=True)
            @logger.inject_lambda_context
            @tracer.capture_lambda_handler
            def handler(event, context):
                logger.info("told by the handler")
                metrics.add_metric("mine", "Count", 10)
                return event
        """
        with function(function=source) as root:
            def check(aws):
                for is_cold in True, False:
                    answer = aws.invoke("x", headers=HEADERS)
                    lines = [json.loads(line) for line in answer.log.splitlines()]
                    (told,) = [line for line in lines if "message" in line]
                    self.assertEqual([told["function_request_id"], told["cold_start"]], [answer.request_id, is_cold])
                    self.assertEqual([line["mine"] for line in lines if "mine" in line], [[10]])
                    self.assertEqual(any("ColdStart" in line for line in lines), is_cold)

            self.each(check, root)


class EmbeddedMetrics(Beside):
    SOURCE = """
        from aws_embedded_metrics import metric_scope

        @metric_scope
        def handler(event, context, metrics):
            metrics.put_metric("mine", 10)
            return event

        @metric_scope
        async def asynchronous(event, context, metrics):
            metrics.put_metric("mine", 10)
            return event

        @metric_scope
        def stream(event, context, metrics):
            metrics.put_metric("mine", 10)
            yield "x"
    """

    def test_metrics_in_the_log(self):
        with function(function=self.SOURCE) as root:
            def check(aws):
                for _ in range(2):
                    lines = [json.loads(line) for line in aws.invoke("x", headers=HEADERS).log.splitlines()]
                    (line,) = [line for line in lines if "mine" in line]  # at a yield it flushes, and once more at the end
                    self.assertEqual([line["mine"], line["traceId"]], [10, HEADERS["Lambda-Runtime-Trace-Id"]])

            self.each(check, root)
            for name in "asynchronous", "stream":
                with self.ours(root, f"function.{name}") as aws:
                    check(aws)


class CodeGuru(Beside):
    def test_its_handler_finds_the_functions(self):
        handler = "codeguru_profiler_agent.aws_lambda.lambda_handler.call_handler"
        env = {"HANDLER_ENV_NAME_FOR_CODEGURU": "function.handler", "AWS_CODEGURU_PROFILER_ENABLED": "FALSE"}
        with function(function="def handler(event, context): return [event, context.function_name]") as root:
            def check(aws):
                self.assertEqual(aws.invoke("x", headers=HEADERS).json, ["x", "function"])

            self.each(check, root, handler, env)


if __name__ == "__main__":
    unittest.main()
