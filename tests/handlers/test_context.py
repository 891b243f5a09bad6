"""The context that the handler gets, its second argument, and the ids that go back with the answer."""

import json
import time
import unittest

from miniature import Lambda, Served, function

TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"


class Asked(Served):
    """A function that is asked for an expression."""

    def ask(self, expression, **headers):
        """What the function makes of `expression`; headers: lambda_runtime_..."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = self.aws.invoke(expression, headers=headers)
        return self.answer.json


class Attributes(Asked):
    SOURCE = """
        import os

        def handler(event, context):
            names = {"os": os, "context": context, "identity": context.identity, "client": context.client_context}
            return eval(event, names)
    """

    def test_of_the_function(self):
        names = {
            "function_name": "AWS_LAMBDA_FUNCTION_NAME",
            "function_version": "AWS_LAMBDA_FUNCTION_VERSION",
            "memory_limit_in_mb": "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            "log_group_name": "AWS_LAMBDA_LOG_GROUP_NAME",
            "log_stream_name": "AWS_LAMBDA_LOG_STREAM_NAME",
        }
        for name, variable in names.items():
            self.assertEqual(self.ask(f"context.{name}"), self.aws.env[variable])
        self.assertEqual(self.ask("context.memory_limit_in_mb"), "128")

    def test_of_the_invocation(self):
        self.assertEqual(self.ask("context.aws_request_id"), self.answer.request_id)
        self.assertEqual(self.ask("context.invoked_function_arn"), self.aws.arn)
        arn = self.aws.arn + ":alias"
        self.assertEqual(self.ask("context.invoked_function_arn", lambda_runtime_invoked_function_arn=arn), arn)
        self.assertIsNone(self.ask("context.invoked_function_arn", lambda_runtime_invoked_function_arn=None))

    def test_no_others(self):
        public = {
            "aws_request_id", "client_context", "function_name", "function_version", "get_remaining_time_in_millis",
            "identity", "invoked_function_arn", "log", "log_group_name", "log_stream_name", "memory_limit_in_mb",
            "tenant_id", "trace_id", "w3c",
        }
        self.assertEqual(self.ask("[name for name in dir(context) if name[0] != '_']"), sorted(public))

    def test_tenant_id(self):
        self.assertEqual(self.ask("context.tenant_id", lambda_runtime_aws_tenant_id="blue"), "blue")
        self.assertIsNone(self.ask("context.tenant_id"))

    def test_trace_id(self):
        both = "[context.trace_id, os.environ.get('_X_AMZN_TRACE_ID')]"
        self.assertEqual(self.ask(both, lambda_runtime_trace_id=TRACE), [TRACE, TRACE])
        self.assertEqual(self.ask(both, lambda_runtime_trace_id="Root=2"), ["Root=2", "Root=2"])
        # AWS's emulator sends none: the last one's must not stay.
        self.assertEqual(self.ask(both, lambda_runtime_trace_id=None), [None, None])

    def test_remaining_time(self):
        def remaining(deadline):
            return self.ask("context.get_remaining_time_in_millis()", lambda_runtime_deadline_ms=deadline)

        left = remaining(int(time.time() * 1000) + 50_000)
        self.assertIsInstance(left, int)
        self.assertTrue(0 < left <= 50_000, left)
        # cargo-lambda's emulator sends a small number.
        for deadline in "600", "0", int(time.time() * 1000) - 1, None, "-5", "soon", "":
            with self.subTest(deadline):
                self.assertEqual(remaining(deadline), 0)
        falls = "(lambda one: [__import__('time').sleep(0.002), one > context.get_remaining_time_in_millis()][1])"
        self.assertTrue(self.ask(f"{falls}(context.get_remaining_time_in_millis())"))

    def test_identity(self):
        ids = "[identity.cognito_identity_id, identity.cognito_identity_pool_id]"
        given = {"cognitoIdentityId": "us-east-1:é", "cognitoIdentityPoolId": "pool", "other": 1}
        cognito = json.dumps(given, ensure_ascii=False)
        self.assertEqual(self.ask(ids, lambda_runtime_cognito_identity=cognito), ["us-east-1:é", "pool"])
        self.assertEqual(self.ask(ids, lambda_runtime_cognito_identity="{}"), [None, None])
        self.assertEqual(self.ask(ids, lambda_runtime_cognito_identity="null"), [None, None])
        self.assertEqual(self.ask(ids, lambda_runtime_cognito_identity=""), [None, None])
        self.assertEqual(self.ask(ids), [None, None])

    def test_client_context(self):
        given = json.dumps({
            "client": {
                "installation_id": "i", "app_title": "tïtle", "app_version_name": "n", "app_version_code": "c",
                "app_package_name": "p", "other": 1,
            },
            "custom": {"k": [1, None]},
            "env": {"locale": "de_DE"},
        }, ensure_ascii=False)
        fields = ["installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name"]
        asked = f"[client.custom, client.env, [getattr(client.client, name, 0) for name in {[*fields, 'other']}]]"
        expected = [{"k": [1, None]}, {"locale": "de_DE"}, ["i", "tïtle", "n", "c", "p", 0]]
        self.assertEqual(self.ask(asked, lambda_runtime_client_context=given), expected)
        asked = "[client.custom, client.env, client.client]"
        self.assertEqual(self.ask(asked, lambda_runtime_client_context="{}"), [None, None, None])
        self.assertEqual(
            self.ask("repr(client.client)", lambda_runtime_client_context='{"client": {"app_title": "t"}}'),
            "Client([installation_id=None,app_title=t,app_version_name=None,app_version_code=None,app_package_name=None])",
        )
        for nothing in None, "", "null":
            self.assertIsNone(self.ask("client", lambda_runtime_client_context=nothing))

    def test_w3c(self):
        fields = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b", "baggage": "c"}
        given = {"w3c": {**fields, "other": "x"}, "custom": {"k": "v"}}
        whole = json.dumps(given)
        self.assertEqual(self.ask("context.w3c()", lambda_runtime_client_context=whole), fields)
        # It is not to be found in the client context, nor can one caller spoil it for another.
        asked = "[hasattr(client, 'w3c'), client.custom, context.w3c().clear(), context.w3c()['baggage']]"
        self.assertEqual(self.ask(asked, lambda_runtime_client_context=whole), [False, {"k": "v"}, None, "c"])
        for w3c in {"traceparent": 1, "baggage": None}, {}, "text", None, [1]:
            with self.subTest(w3c):
                self.assertEqual(self.ask("context.w3c()", lambda_runtime_client_context=json.dumps({"w3c": w3c})), {})
        self.assertEqual(self.ask("context.w3c()"), {})

    def test_bad_json(self):
        headers = {"lambda_runtime_client_context": "Client Context", "lambda_runtime_cognito_identity": "Cognito Identity"}
        for header, name in headers.items():
            for value in "{", "not json", "[1]", "5", '"text"', '{"k": 1} x', "{'k': 1}":
                with self.subTest(header, value=value):
                    document = self.ask("1", **{header: value})
                    self.assertEqual(self.answer.kind, "error")
                    self.assertEqual(self.answer.error_type, "Runtime.LambdaContextUnmarshalError")
                    self.assertEqual(document["errorType"], "Runtime.LambdaContextUnmarshalError")
                    self.assertRegex(document["errorMessage"], f"^Unable to parse {name} JSON: .")
                    self.assertEqual(document["stackTrace"], [])
                    self.assertEqual(self.ask("'goes on'"), "goes on")

    def test_of_one_invocation_do_not_stay_for_the_next(self):
        headers = {
            "lambda_runtime_client_context": '{"custom": {}, "w3c": {"baggage": "b"}}', "lambda_runtime_aws_tenant_id": "blue",
            "lambda_runtime_cognito_identity": '{"cognitoIdentityId": "i"}',
        }
        asked = "[repr(client), context.w3c(), context.tenant_id, identity.cognito_identity_id]"
        everything = ["ClientContext([custom={},env=None,client=None])", {"baggage": "b"}, "blue", "i"]
        self.assertEqual(self.ask(asked, **headers), everything)
        self.assertEqual(self.ask(asked), ["None", {}, None, None])


class Variables(unittest.TestCase):
    def test_missing_are_none(self):
        source = """
            def handler(event, context):
                return [
                    context.function_name, context.function_version, context.memory_limit_in_mb,
                    context.log_group_name, context.log_stream_name,
                ]
        """
        names = "FUNCTION_NAME", "FUNCTION_VERSION", "FUNCTION_MEMORY_SIZE", "LOG_GROUP_NAME", "LOG_STREAM_NAME"
        with function(function=source) as root, Lambda(root, env={f"AWS_LAMBDA_{name}": None for name in names}) as aws:
            self.assertEqual(aws.invoke().json, [None] * 5)


class Repr(Asked):
    SOURCE = """
        def handler(event, context):
            return repr(context)
    """

    def test_everything(self):
        env = self.aws.env
        text = self.ask(
            None,
            lambda_runtime_client_context='{"custom": {"k": "v"}, "env": {"e": 1}, "client": {"app_title": "t"}}',
            lambda_runtime_cognito_identity='{"cognitoIdentityId": "i", "cognitoIdentityPoolId": "p"}',
            lambda_runtime_aws_tenant_id="blue",
            lambda_runtime_trace_id=TRACE,
        )
        self.assertEqual(text, (
            f"LambdaContext([aws_request_id={self.answer.request_id},"
            f"log_group_name={env['AWS_LAMBDA_LOG_GROUP_NAME']},"
            f"log_stream_name={env['AWS_LAMBDA_LOG_STREAM_NAME']},"
            f"function_name={env['AWS_LAMBDA_FUNCTION_NAME']},"
            f"memory_limit_in_mb={env['AWS_LAMBDA_FUNCTION_MEMORY_SIZE']},"
            f"function_version={env['AWS_LAMBDA_FUNCTION_VERSION']},"
            f"invoked_function_arn={self.aws.arn},"
            "client_context=ClientContext([custom={'k': 'v'},env={'e': 1},client=Client([installation_id=None,"
            "app_title=t,app_version_name=None,app_version_code=None,app_package_name=None])]),"
            "identity=CognitoIdentity([cognito_identity_id=i,cognito_identity_pool_id=p]),"
            "tenant_id=blue])"
        ))

    def test_nothing(self):
        text = self.ask(None)
        self.assertIn(
            "client_context=None,identity=CognitoIdentity([cognito_identity_id=None,cognito_identity_pool_id=None]),tenant_id=None])",
            text,
        )


class Log(Asked):
    OPTIONS = {"telemetry": True}
    SOURCE = """
        def handler(event, context):
            context.log(eval(event))
    """

    def test_in_frames(self):
        for value, text in {"'téxt'": "téxt", "'line\\n'": "line\n", "{'k': 1}": "{'k': 1}", "None": "None"}.items():
            self.ask(value)
            self.aws.wait_for_next()
            kind, _, message = self.aws.frames[-1]
            self.assertEqual((f"{kind:x}", message), ("a55a0003", text))
        self.assertEqual(self.aws.log, "")

    def test_on_stdout(self):
        with function(function=self.SOURCE) as root, Lambda(root) as aws:
            for value in "'téxt'", "'line\\n'", "{'k': 1}", "'\\ud800'":
                aws.invoke(value)
            self.assertEqual(aws.log, "téxtline\n{'k': 1}\\ud800")


class InvocationId(Asked):
    """Lambda-Runtime-Invocation-Id goes back with the answer to the event that had it."""

    SOURCE = """
        def handler(event, context):
            if event == "error":
                raise ValueError
            if event == "stream":
                return iter("abc")
            if event == "early error":
                return iter([1])
            return event
    """

    def test_with_each_kind_of_answer(self):
        for event, kind in {"value": "response", "error": "error", "stream": "response", "early error": "error"}.items():
            with self.subTest(event):
                answer = self.aws.invoke(event, headers={"Lambda-Runtime-Invocation-Id": "id-1"})
                self.assertEqual(answer.kind, kind)
                self.assertEqual(answer.headers.get_all("Lambda-Runtime-Invocation-Id"), ["id-1"])
                self.assertNotIn("Lambda-Runtime-Invocation-Id", self.aws.invoke(event).headers)

    def test_with_an_event_that_is_not_json(self):
        answer = self.aws.invoke(body=b"{", headers={"Lambda-Runtime-Invocation-Id": "id-2"})
        self.assertEqual((answer.kind, answer.headers["Lambda-Runtime-Invocation-Id"]), ("error", "id-2"))


if __name__ == "__main__":
    unittest.main()
