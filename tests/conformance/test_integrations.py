"""Error trackers and profilers find the seams: what they send under awslambdaric is sent here, before the answer goes out."""

import gzip
import http.server
import sys
import threading
import time
import unittest

from miniature import Lambda, function

ARN = {"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:f"}


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
    """Each function is run by awslambdaric and by this runtime."""

    def each(self, check, root, handler="function.handler", env=None):
        for name, how in ("awslambdaric", {"command": [sys.executable, "-m", "awslambdaric", handler]}), ("this runtime", {}):
            with self.subTest(name), Lambda(root, handler, env=env, **how) as aws:
                check(aws)
                if how:
                    aws.violations.clear()


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
            yield "b"
    """

    def test_errors_and_messages_before_the_answer(self):
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            def check(aws):
                backend.posts.clear()
                answer = aws.invoke("raise", headers=ARN)
                self.assertEqual(answer.json["errorType"], "ValueError")
                self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)
                answer = aws.invoke("x", headers=ARN)
                self.assertTrue(backend.had("told by the handler", answer.time), backend.posts)

            self.each(check, root)

    def test_coroutines_and_streams(self):
        with Backend() as backend, function(function=self.SOURCE.replace("PORT", str(backend.port))) as root:
            with Lambda(root, "function.asynchronous") as aws:
                answer = aws.invoke("x", headers=ARN)
                self.assertTrue(backend.had("told by a coroutine", answer.time), backend.posts)
            with Lambda(root, "function.stream") as aws:
                answer = aws.invoke("x", headers=ARN)
                self.assertEqual(answer.body, b"ab")
                self.assertTrue(backend.had("told by a stream", answer.ended), backend.posts)

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
                answer = aws.invoke({"k": "of the event"}, headers=ARN)
                self.assertEqual(answer.json["errorType"], "ValueError")
                self.assertTrue(backend.had("raised by the handler", answer.time), backend.posts)

            self.each(check, root)


class CodeGuru(Beside):
    def test_its_handler_finds_the_functions(self):
        handler = "codeguru_profiler_agent.aws_lambda.lambda_handler.call_handler"
        env = {"HANDLER_ENV_NAME_FOR_CODEGURU": "function.handler", "AWS_CODEGURU_PROFILER_ENABLED": "FALSE"}
        with function(function="def handler(event, context): return [event, context.function_name]") as root:
            def check(aws):
                self.assertEqual(aws.invoke("x", headers=ARN).json, ["x", "function"])

            self.each(check, root, handler, env)


if __name__ == "__main__":
    unittest.main()
