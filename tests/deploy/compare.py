"""This runtime beside AWS's own on your account: make compare.

    python3 tests/deploy/compare.py

It deploys the example twice, once on AWS's Python runtime and once on this one, forces ten cold starts of each and invokes each a
hundred times warm, in turns, and prints what Lambda's own REPORT lines say. It deletes what it has made, also after an error or Ctrl-C.

Variables, as make passes them on: RUNTIME (this runtime is then the wrapper) or PYTHON_PREFIX (then on provided.al2023), ARCH, FUNCTION,
HANDLER, EVENT. It needs the AWS CLI and credentials that may make functions, a layer, log groups and a role. No bucket is needed.
"""

import base64
import contextlib
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

from deploy import FUNCTION, RUNTIME, TESTS, aws, exit_with, interpreter, leave, read_event, variable
from package import Interpreter, Refused, architecture, check_function

COLD, WARM = 10, 100
MEMORY = 512  # MB
NAME = f"python-compare-{uuid.uuid4().hex[:8]}"  # its own: nothing that is already there is touched
TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main():
    check_function(FUNCTION)
    event, arch = read_event(variable("EVENT"), FUNCTION), architecture(variable("ARCH"))
    python, layer = interpreter(arch)
    managed = f"python{Interpreter(layer[1], arch).version}" if layer else RUNTIME
    aws("sts", "get-caller-identity")  # says it before anything is built when there are no credentials
    for number in INTERRUPTS:
        signal.signal(number, interrupted)
    with tempfile.TemporaryDirectory(prefix="compare-") as folder, contextlib.ExitStack() as made:
        paths = {name: os.path.join(folder, name) for name in ("layer", "function", "event", "answer")}
        with open(paths["event"], "wb") as file:
            file.write(event)
        package = [python, "-B", os.path.join(TESTS, "deploy", "package.py"), "--arch", arch]  # -B: the prefix stays as it is
        for command in (["layer", *layer, "--output"], ["function", FUNCTION, "--without-runtime", "--output"]):
            paths[command[0]] += ".zip"
            if subprocess.run([*package, *command, paths[command[0]]], stdout=subprocess.DEVNULL).returncode:
                sys.exit(1)
        print(f"{NAME}: two functions, measured in turns for some ten minutes, and then deleted", file=sys.stderr, flush=True)
        made.callback(tell_what_is_left)
        functions, region = create(made, paths, managed, arch)
        first, warm = {name: [] for name in functions}, {name: [] for name in functions}
        for turn in range(COLD):
            for name in functions:
                first[name].append(cold_start(name, functions[name], turn, paths))
        for _ in range(WARM):
            for name in functions:
                report = invoke(name, paths)
                if "Init Duration" not in report:  # else Lambda has begun another environment meanwhile
                    warm[name].append(report)
    print(f"{time.strftime('%Y-%m-%d')}, {region}, {arch}, {MEMORY} MB; medians (quartiles) of {COLD} cold starts and {WARM} warm invocations of each\n")
    print(f"| | AWS's {managed} | this runtime, {f'{managed} with the wrapper' if not layer else RUNTIME} |\n| --- | --- | --- |")
    for label, reports, field, unit in (
        ("cold start: Init Duration", first, "Init Duration", "ms"), ("cold start: Duration of the first invocation", first, "Duration", "ms"),
        ("cold start: Billed Duration", first, "Billed Duration", "ms"), ("warm: Duration", warm, "Duration", "ms"),
        ("warm: Max Memory Used", warm, "Max Memory Used", "MB"),
    ):
        print(f"| {label} | {' | '.join(spread([report[field] for report in reports[name]], unit) for name in functions)} |")


def create(made, paths, managed, arch):
    """A role, two log groups, a layer and the two functions: {name: its variables}, and the region. `made` learns first how each is deleted."""
    functions = {f"{NAME}-aws": {}, f"{NAME}-this": {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"} if managed == RUNTIME else {}}
    made.callback(delete, "iam", "delete-role", "--role-name", NAME)
    role = json.loads(aws("iam", "create-role", "--role-name", NAME, "--assume-role-policy-document", policy(TRUST)))["Role"]["Arn"]
    made.callback(delete, "iam", "delete-role-policy", "--role-name", NAME, "--policy-name", "logs")
    groups = f"arn:{role.split(':')[1]}:logs:*:*:log-group:/aws/lambda/{NAME}-*"
    logs = {"Effect": "Allow", "Action": ["logs:CreateLogStream", "logs:PutLogEvents"], "Resource": groups}
    aws("iam", "put-role-policy", "--role-name", NAME, "--policy-name", "logs", "--policy-document", policy(logs))
    made.callback(delete, "lambda", "delete-layer-version", "--layer-name", NAME, "--version-number", "1")
    layer = json.loads(aws("lambda", "publish-layer-version", "--layer-name", NAME, "--zip-file", f"fileb://{paths['layer']}"))["LayerVersionArn"]
    for name, variables in functions.items():
        made.callback(delete, "logs", "delete-log-group", "--log-group-name", f"/aws/lambda/{name}")
        aws("logs", "create-log-group", "--log-group-name", f"/aws/lambda/{name}")
        made.callback(delete, "lambda", "delete-function", "--function-name", name)
        own = ["--runtime", RUNTIME, "--layers", layer] if name.endswith("-this") else ["--runtime", managed]
        command = [
            "lambda", "create-function", "--function-name", name, *own, "--handler", variable("HANDLER", "function.handler"), "--role", role,
            "--architectures", arch, "--timeout", "30", "--memory-size", str(MEMORY), "--zip-file", f"fileb://{paths['function']}",
            "--environment", json.dumps({"Variables": variables}),
        ]
        for attempt in range(12):  # it takes some seconds until a new role is known to Lambda
            try:
                aws(*command)
                break
            except SystemExit as error:
                if attempt == 11 or "cannot be assumed" not in str(error):
                    raise
                time.sleep(5)
    for name in functions:
        aws("lambda", "wait", "function-active-v2", "--function-name", name)
    return functions, layer.split(":")[3]


def policy(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def cold_start(name, variables, turn, paths):
    """The REPORT of a first invocation. A changed variable has Lambda drop the environments that are there; where it has prepared
    another one before the invocation came, the REPORT lacks the Init Duration, and it is tried again."""
    for attempt in range(5):
        environment = json.dumps({"Variables": {**variables, "COLD_START": f"{turn}.{attempt}"}})
        aws("lambda", "update-function-configuration", "--function-name", name, "--environment", environment)
        aws("lambda", "wait", "function-updated-v2", "--function-name", name)
        report = invoke(name, paths)
        if "Init Duration" in report:
            return report
    leave(f"{name}: five changes of its configuration, and no REPORT line with an Init Duration")


def invoke(name, paths):
    """The figures of an invocation's REPORT line."""
    result = json.loads(aws(
        "lambda", "invoke", "--function-name", name, "--log-type", "Tail", "--payload", f"fileb://{paths['event']}", paths["answer"]
    ))
    if "FunctionError" in result:
        with open(paths["answer"], encoding="utf-8", errors="replace") as file:
            leave(f"{name} failed: {' '.join(file.read().split())}")
    log = base64.b64decode(result.get("LogResult", "")).decode("utf-8", "replace")
    report = re.search(r"(?m)^REPORT RequestId: \S+\t(.*)", log) or leave(f"{name}: there is no REPORT line at the end of its log")
    return {key: float(value) for key, value in re.findall(r"([A-Z][A-Za-z ]+): ([0-9.]+) (?:ms|MB)", report[1])}


def spread(values, unit):
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else (values or [math.nan]) * 3
    return f"{middle:.4g} {unit} ({low:.4g}–{high:.4g})"


def interrupted(number, frame):
    """What was made is then deleted: a second Ctrl-C shall not stop that."""
    ignore_interrupts()
    print("compare.py: interrupted; what was made is being deleted", file=sys.stderr, flush=True)
    sys.exit(1)


def ignore_interrupts():
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)  # also for the `aws` processes that come now


LEFT = []


def delete(*command):
    ignore_interrupts()
    try:
        aws(*command)
    except SystemExit as error:
        if not re.search("NotFound|NoSuchEntity", str(error)):  # it had not been made yet
            LEFT.append(f"aws {' '.join(command)}")


def tell_what_is_left():
    said = f"could not be deleted, try again: {'; '.join(LEFT)}" if LEFT else f"what was made as {NAME} is deleted"
    print(f"compare.py: {said}", file=sys.stderr)


def guarded():
    """The exit status."""
    try:
        main()
    except (Refused, OSError) as error:
        leave(error)
    return bool(LEFT)


if __name__ == "__main__":
    exit_with(guarded)
