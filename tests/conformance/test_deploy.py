"""make create, update, invoke, delete and compare, with the real AWS CLI, against moto in place of AWS.

moto's CloudFormation has no Function URLs and no HTTP APIs, gives a function its layers only when it updates it,
and answers an invocation with its event: cfn-lint judges the template, and what runs on AWS is tested elsewhere.
"""

import base64
import io
import json
import logging
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import urllib.request
import warnings
import zipfile

import boto3
from moto.awslambda.models import LayerVersion
from moto.server import ThreadedMotoServer

from miniature.test_readme import commands

REPO = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "python%d.%d" % sys.version_info[:2]
BIN = os.path.dirname(sys.executable)

# In moto 5.2.5 a Ref to a layer is a Python object, and not its ARN, and an update fails.
LayerVersion.physical_resource_id = property(lambda layer: layer.arn)


class Deploy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # A copy, so that what is built does not get in the way of the repository's own build/ and dist/.
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="deploy-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in ("Makefile", "bootstrap", "runtime.py"):
            shutil.copy(REPO / name, cls.folder / name)
        for name in ("tests/hello", "tests/deploy", "tests/miniature"):
            shutil.copytree(REPO / name, cls.folder / name)
        for name in ("moto", "werkzeug"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", "Tried to parse AWS::")  # what moto's CloudFormation does not have
        server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        server.start()
        cls.addClassCleanup(server.stop)
        cls.endpoint = "http://%s:%d" % server.get_host_and_port()
        cls.env = {
            "PATH": f"{BIN}:{os.environ['PATH']}", "AWS_ENDPOINT_URL": cls.endpoint, "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "HOME": str(cls.folder), "AWS_EC2_METADATA_DISABLED": "true",
        }
        cls.configure("config", {"lambda": {"use_docker": False}})
        for bucket in ("wrapped", "os-only"):
            cls.aws("s3").create_bucket(Bucket=bucket)

    @classmethod
    def configure(cls, path, document):
        request = urllib.request.Request(
            f"{cls.endpoint}/moto-api/{path}", json.dumps(document).encode(), {"Content-Type": "application/json"}
        )
        urllib.request.urlopen(request, timeout=30).close()

    @classmethod
    def aws(cls, service):
        return boto3.client(
            service, endpoint_url=cls.endpoint, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret"
        )

    def make(self, *words, **environment):
        result = subprocess.run(
            ["make", "-s", *words, f"PYTHON={sys.executable}"], cwd=self.folder, env={**self.env, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
        )
        return result.returncode, result.stdout, result.stderr

    def made(self, *words, **environment):
        status, out, err = self.make(*words, **environment)
        self.assertEqual(status, 0, out + err)
        return out

    def refused(self, text, *words, **environment):
        """One line says why, and make adds its own."""
        status, out, err = self.make(*words, **environment)
        self.assertEqual(status, 2, out + err)
        lines = [line for line in err.splitlines() if not line.startswith("make: ***")]
        self.assertEqual(len(lines), 1, err)
        self.assertRegex(lines[0], r"^((deploy|package|compare)\.py: |(?=EVENT)).*" + re.escape(text))

    def uploads(self, bucket):
        """{name: the files of the zip that is there under it}"""
        s3 = self.aws("s3")
        keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]]
        zips = {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}
        return {key: zipfile.ZipFile(io.BytesIO(content)).namelist() for key, content in zips.items()}

    def test_wrapper_on_a_managed_runtime_from_create_to_delete(self):
        stack = ["STACK=wrapped", "BUCKET=wrapped", f"RUNTIME={PYTHON}"]
        self.made("create", *stack)
        function = self.aws("lambda").get_function_configuration(FunctionName="wrapped")
        self.assertEqual(
            [function["Runtime"], function["Handler"], function["Environment"]["Variables"]],
            [PYTHON, "function.handler", {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"}],
        )
        layers = self.aws("lambda").list_layers()["Layers"]
        (layer,) = [found["LatestMatchingVersion"] for found in layers if found["LayerName"].startswith("wrapped-Layer")]
        self.assertEqual(layer["CompatibleRuntimes"], [PYTHON])
        first = self.uploads("wrapped")
        names = sorted([name for name in files if "__pycache__" not in name] for files in first.values())
        self.assertEqual(names, [["bootstrap", "runtime.py"], ["event.json", "function.py", "page.png", "page.py"]])
        group = self.aws("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/wrapped")["logGroups"][0]
        self.assertEqual(group["retentionInDays"], 14)
        (role,) = [r for r in self.aws("iam").list_roles()["Roles"] if r["RoleName"].startswith("wrapped-")]
        (policy,) = self.aws("iam").list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
        document = self.aws("iam").get_role_policy(RoleName=role["RoleName"], PolicyName=policy)["PolicyDocument"]
        self.assertEqual(re.findall(r"'(\w+:[\w*]+)'", str(document)), ["logs:CreateLogStream", "logs:PutLogEvents"])
        self.assertEqual(self.aws("iam").list_attached_role_policies(RoleName=role["RoleName"])["AttachedPolicies"], [])

        with open(self.folder / "tests/hello/function.py", "a") as file:
            file.write("\n# changed\n")
        self.made("update", *stack, "HANDLER=function.other")
        self.assertEqual(len(self.uploads("wrapped")), 3)  # the function; the layer's bytes, and so its name, are the same
        function = self.aws("lambda").get_function_configuration(FunctionName="wrapped")
        self.assertEqual(function["Handler"], "function.other")
        self.assertEqual([attached["Arn"] for attached in function["Layers"]], [layer["LayerVersionArn"]])

        hello = (REPO / "tests/hello/event.json").read_text()
        for word, event in (("EVENT=", hello), ("EVENT=@tests/hello/event.json", hello), ("EVENT={\"name\": \"$Ada's\"}", '{"name": "$Ada\'s"}')):
            self.assertEqual(json.loads(self.made("invoke", "STACK=wrapped", word)), json.loads(event))
        self.assertEqual(self.made("delete", "STACK=wrapped"), "wrapped is deleted; the bucket still has what was uploaded\n")
        self.assertNotIn("wrapped", [each["FunctionName"] for each in self.aws("lambda").list_functions()["Functions"]])

    def test_os_only_runtime_with_the_interpreter_in_the_layer(self):
        self.made("create", "STACK=os-only", "BUCKET=os-only", f"PYTHON_PREFIX={sys.base_prefix}", "FORCE=1")
        function = self.aws("lambda").get_function_configuration(FunctionName="os-only")
        self.assertEqual([function["Runtime"], function.get("Environment", {}).get("Variables", {})], ["provided.al2023", {}])
        self.assertEqual(sum("bin/python3" in files for files in self.uploads("os-only").values()), 1)
        self.made("delete", "STACK=os-only")

    def test_the_interpreter_in_the_layer_compiles_the_function_too(self):
        prefix = self.folder / "echoes"
        for name in "bin", "lib/python3.99":
            (prefix / name).mkdir(parents=True)
        (prefix / "lib/python3.99/os.py").touch()
        shutil.copy("/bin/echo", prefix / "bin/python3.99")
        _, out, err = self.make("create", "BUCKET=no-such-bucket", f"PYTHON_PREFIX={prefix}")
        self.assertRegex(out, r"(?m)^-B .*/tests/deploy/package.py --arch \w+ layer .*\n-B .*/tests/deploy/package.py --arch \w+ function ", err)

    def test_compare(self):
        """moto has no REPORT lines: they are put into what the AWS CLI prints. One cold start and one warm invocation of each are enough here."""
        script = self.folder / "tests/deploy/compare.py"
        text = script.read_text()
        self.addCleanup(script.write_text, text)
        script.write_text(text.replace("COLD, WARM = 10, 100", "COLD, WARM = 1, 1"))
        report = base64.b64encode(b"REPORT RequestId: 1\tDuration: 1.5 ms\tMax Memory Used: 30 MB\tBilled Duration: 90 ms\tInit Duration: 80.5 ms\t\n")
        program = self.folder / "reporting/aws"
        program.parent.mkdir()
        program.write_text(f"""#!/bin/sh
{BIN}/aws "$@" >"${{0%/*}}/said" || exit
case "$1 $2" in ("lambda invoke") echo '{{"StatusCode": 200, "LogResult": "{report.decode()}"}}' ;; (*) cat "${{0%/*}}/said" ;; esac
""")
        program.chmod(0o755)
        status, out, err = self.make("compare", f"RUNTIME={PYTHON}", PATH=f"{program.parent}:{self.env['PATH']}")
        self.assertEqual(status, 0, err)
        self.assertRegex(out, r"(?m)^\d{4}-\d\d-\d\d, us-east-1, \w+, 512 MB; medians")
        self.assertIn("| cold start: Init Duration | 80.5 ms (80.5–80.5) | 80.5 ms (80.5–80.5) |", out)
        self.assertRegex(err.splitlines()[-1], r"^compare\.py: what was made as python-compare-\w+ is deleted$")
        left = [f["FunctionName"] for f in self.aws("lambda").list_functions()["Functions"]]
        left += [layer["LayerName"] for layer in self.aws("lambda").list_layers()["Layers"]]
        left += [role["RoleName"] for role in self.aws("iam").list_roles()["Roles"]]
        left += [group["logGroupName"] for group in self.aws("logs").describe_log_groups()["logGroups"]]
        self.assertEqual([name for name in left if "compare" in name], [])
        self.refused("Unable to locate credentials", "compare", f"RUNTIME={PYTHON}", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

    def test_what_readme_says(self):
        """Its commands for a function that is made and one that is changed. The other commands of this kind are those of the tests above."""
        layer, wrapper, example, compare = sorted(commands("sh aws"), key=lambda text: ("publish" not in text, "make layer" in text, "compare" in text))
        self.assertEqual(compare, "make compare RUNTIME=python3.13\n")
        words = [line.split()[1] for line in example.splitlines()]
        self.assertEqual(words, ["create", "invoke", "update", "delete"])
        role = self.aws("iam").create_role(RoleName="readme", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        program = self.folder / "python3.13"  # which is the one that runs this
        program.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        program.chmod(0o755)
        (self.folder / "folder").mkdir()
        (self.folder / "folder/function.py").write_text("def handler(event, context):\n    return event\n")
        self.made("layer", "dist", "FUNCTION=folder")
        for name, text in (("python313", layer), ("python-runtime", wrapper)):
            arn = f"arn:aws:lambda:us-east-1:123456789012:layer:{name}:1"
            text = text.replace("ROLE_ARN", role).replace("LAYER_ARN", arn)
            done = subprocess.run(
                ["sh", "-ec", text], cwd=self.folder, env={**self.env, "PATH": f"{self.folder}:{self.env['PATH']}"},
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120,
            )
            self.assertEqual(done.returncode, 0, done.stdout)
            function = self.aws("lambda").get_function_configuration(FunctionName="hello")
            self.assertEqual([function["Runtime"], [attached["Arn"] for attached in function["Layers"]]], ["provided.al2023", [arn]])
        self.assertEqual(function["Environment"]["Variables"], {"AWS_LAMBDA_EXEC_WRAPPER": "/opt/bootstrap"})

    def test_arguments_are_looked_at_before_credentials(self):
        def refused(text, *words):
            self.refused(text, "create", *words, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")

        runtime = f"RUNTIME={PYTHON}"
        refused("BUCKET=name is missing", runtime)
        refused("PYTHON_PREFIX=folder puts one into the layer", "BUCKET=wrapped")
        refused("no folder /nowhere", "BUCKET=wrapped", "PYTHON_PREFIX=/nowhere")
        refused(f"leave out {runtime} or PYTHON_PREFIX=/nowhere", "BUCKET=wrapped", runtime, "PYTHON_PREFIX=/nowhere")
        for name in "nodejs22.x", "python3.8":
            refused(f"RUNTIME={name} is neither provided.al2023 nor python3.9 or later", "BUCKET=wrapped", f"RUNTIME={name}")
        refused("install it, or add PYTHON=/path/to/python3.99", "BUCKET=wrapped", "RUNTIME=python3.99")
        refused("FUNCTION=nowhere: no such folder", "BUCKET=wrapped", runtime, "FUNCTION=nowhere")
        refused("FUNCTION= is empty", "BUCKET=wrapped", runtime, "FUNCTION=")
        refused("ARCH=aarch64: arm64 or x86_64", "BUCKET=wrapped", runtime, "ARCH=aarch64")

    def test_what_is_missing_is_said_in_one_line(self):
        runtime = f"RUNTIME={PYTHON}"
        self.refused("S3 Bucket does not exist", "create", "BUCKET=no-such-bucket", runtime)
        self.refused("Unable to locate credentials", "create", "BUCKET=wrapped", runtime, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
        self.refused("Could not connect to the endpoint", "invoke", AWS_ENDPOINT_URL="http://127.0.0.1:1")
        self.refused("EVENT=@nowhere.json: no such file", "invoke", "EVENT=@nowhere.json")
        self.refused("EVENT=@Makefile is not JSON: ", "invoke", "EVENT=@Makefile")
        self.refused("EVENT is not JSON: Expecting value: line 1 column 1", "invoke", "EVENT=bad")
        tools = self.folder / "no aws"
        tools.mkdir()
        (tools / "make").symlink_to(shutil.which("make"))
        self.refused("there is no `aws` on PATH", "create", "BUCKET=wrapped", runtime, PATH=f"{tools}:/bin")


class Template(unittest.TestCase):
    if sys.version_info < (3, 15):  # cfn-lint 1.58 refuses later ones

        def test_cfn_lint(self):
            result = subprocess.run(
                [f"{BIN}/cfn-lint", REPO / "tests/deploy/template.yaml"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self.assertEqual((result.returncode, result.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
