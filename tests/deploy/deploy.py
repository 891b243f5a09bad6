"""The example on AWS: make create, make update, make invoke, make delete.

    python3 tests/deploy/deploy.py create|invoke|delete

Variables, as make passes them on: STACK, BUCKET (of yours, for the uploads), RUNTIME, ARCH, PYTHON_PREFIX,
FUNCTION, HANDLER, EVENT. Needs the AWS CLI, and uses the region and the credentials that it finds.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys

from package import Interpreter, Refused, architecture, check_function, compiler

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, TESTS)
from miniature.output import exit_with  # noqa: E402
from miniature.run import read_event  # noqa: E402

REPO = os.path.dirname(TESTS)


def variable(name, default=""):
    return os.environ.get(name) or default


STACK = variable("STACK", "python-hello")
RUNTIME = variable("RUNTIME", "provided.al2023")
FUNCTION = os.environ.get("FUNCTION", os.path.join(TESTS, "hello"))


def create():
    """Build, upload, and create the stack or update it. What has not changed is neither uploaded nor replaced."""
    bucket = variable("BUCKET") or leave("BUCKET=name is missing: an S3 bucket of yours, through which the zips go")
    check_function(FUNCTION)
    arch = architecture(variable("ARCH"))
    python, layer = interpreter(arch)
    template, packaged = os.path.join(TESTS, "deploy", "template.yaml"), in_build("template.yaml")
    layer_zip, function_zip = (os.path.join(REPO, "dist", name) for name in ("layer.zip", "function-for-layer.zip"))
    aws("sts", "get-caller-identity")  # says it before anything is built when there are no credentials
    function = ["function", FUNCTION, "--without-runtime", "--output", function_zip]
    for arguments in (["layer", *layer, "--output", layer_zip], function):  # -B: the prefix stays as it is
        package = os.path.join(TESTS, "deploy", "package.py")
        if subprocess.run([python, "-B", package, "--arch", arch, *arguments]).returncode:
            sys.exit(1)
    print(f"{STACK}: uploading, then creating or updating; a minute or two", flush=True)
    aws("cloudformation", "package", "--template-file", template, "--s3-bucket", bucket, "--output-template-file", packaged)
    aws(
        "cloudformation", "deploy", "--template-file", packaged, "--stack-name", STACK, "--no-fail-on-empty-changeset",
        "--capabilities", "CAPABILITY_IAM", "--parameter-overrides",
        f"Runtime={RUNTIME}", f"Handler={variable('HANDLER', 'function.handler')}", f"Architecture={arch}",
    )
    (stack,) = json.loads(aws("cloudformation", "describe-stacks", "--stack-name", STACK))["Stacks"]
    for output in stack.get("Outputs", ()):
        print(f"{output['OutputKey']:8} {output['OutputValue']}  {output.get('Description', '')}")


def in_build(name):
    """The path of a file that is kept for a look at it, and of no use afterwards."""
    os.makedirs(os.path.join(REPO, "build"), exist_ok=True)
    return os.path.join(REPO, "build", name)


def interpreter(arch):
    """The Python to compile with, which is the one that will run the function, and how it gets into the layer."""
    prefix = variable("PYTHON_PREFIX")
    if RUNTIME.startswith("provided."):
        prefix = prefix or leave(
            f"{RUNTIME} has no Python: PYTHON_PREFIX=folder puts one into the layer; or take RUNTIME=python3.13, which has"
        )
        return compiler(Interpreter(prefix, arch)), ["--prefix", prefix]
    if not re.fullmatch(r"python3\.(9|[1-9]\d)", RUNTIME):
        leave(f"RUNTIME={RUNTIME} is neither provided.al2023 nor python3.9 or later")
    if prefix:
        leave(f"{RUNTIME} has a Python of its own: leave out RUNTIME={RUNTIME} or PYTHON_PREFIX={prefix}")
    if RUNTIME == "python%d.%d" % sys.version_info[:2]:
        return sys.executable, []
    python = shutil.which(RUNTIME)
    return python or leave(f"{RUNTIME} is not on PATH to compile with: install it, or add PYTHON=/path/to/{RUNTIME}"), []


def invoke():
    """Print what the function logged and what it answered."""
    event, request, answer = read_event(variable("EVENT"), FUNCTION), in_build("event"), in_build("answer")
    with open(request, "wb") as file:
        file.write(event)
    result = json.loads(aws(
        "lambda", "invoke", "--function-name", STACK, "--log-type", "Tail", "--payload", f"fileb://{request}", answer
    ))
    print(base64.b64decode(result.get("LogResult", "")).decode("utf-8", "replace"), file=sys.stderr)
    with open(answer, encoding="utf-8", errors="replace") as file:
        print(file.read())
    sys.exit(1 if "FunctionError" in result else 0)


def delete():
    aws("cloudformation", "delete-stack", "--stack-name", STACK)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", STACK)
    print(f"{STACK} is deleted; the bucket still has what was uploaded")


def aws(*arguments):
    """What an AWS CLI command prints. Its complaint is ours, in one line."""
    program = shutil.which("aws") or leave("there is no `aws` on PATH: install the AWS CLI")
    result = subprocess.run(
        [program, *arguments, "--output", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
    )
    if result.returncode:
        said = re.sub(r"Uploading to .*?\(.*?%\)", "", result.stderr or result.stdout)
        leave(f"aws {' '.join(arguments[:2])}: {' '.join(said.split()) or f'exit status {result.returncode}'}")
    return result.stdout


def leave(text):
    sys.exit(f"{os.path.basename(sys.argv[0])}: {text}")  # compare.py's as well


def guarded(command):
    try:
        command()
    except (Refused, OSError) as error:
        leave(error)


if __name__ == "__main__":
    commands = {"create": create, "invoke": invoke, "delete": delete}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    exit_with(guarded, commands[sys.argv[1]])
