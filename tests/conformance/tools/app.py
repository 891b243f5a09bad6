from aws_cdk import App, CfnOutput, Stack
from aws_cdk import aws_lambda as lambda_

app = App()
stack = Stack(app, "Orders")
runtime = lambda_.LayerVersion(stack, "Runtime", code=lambda_.Code.from_asset("dist/layer.zip"))
function = lambda_.Function(
    stack,
    "Function",
    runtime=lambda_.Runtime.PROVIDED_AL2023,
    code=lambda_.Code.from_asset("dist/orders.zip"),
    handler="function.handler",
    layers=[runtime],
)
url = function.add_function_url(
    auth_type=lambda_.FunctionUrlAuthType.NONE,
    invoke_mode=lambda_.InvokeMode.RESPONSE_STREAM,
)
CfnOutput(stack, "Url", value=url.url)

# A function of a customer-managed runtime, which the CDK has no word for yet.
managed_stack = Stack(app, "Managed")
managed = lambda_.Function(
    managed_stack,
    "Managed",
    runtime=lambda_.Runtime("custom"),
    code=lambda_.Code.from_asset("dist/orders.zip"),
    handler="function.handler",
)
managed.node.default_child.add_property_override(
    "RuntimeConfig",
    {"RuntimeArn": f"arn:aws:lambda:{managed_stack.region}:{managed_stack.account}:runtime/python-streaming", "RuntimeAlias": "live"},
)
app.synth()
