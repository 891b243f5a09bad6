"""Deployment tools on a repository beside this one: what SAM, the CDK and Serverless build starts where Lambda would start it.

The repository has a function with a compiled dependency, and tools/ has its templates, which README shows. Pulumi and Terraform
come from neither PyPI nor npm, and are not run.
"""

import gzip
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from botocore.model import ServiceModel
from botocore.validate import ParamValidator

import package
from miniature import REPO, Lambda
from miniature.test_readme import commands
from root_fs import ENVIRONMENT, RootFS, enter, needs_chroot, unpack

TOOLS = REPO / "build/conformance/tools"
TEMPLATES = pathlib.Path(__file__).parent / "tools"
VERSION = "%d.%d" % sys.version_info[:2]
HANDLER = """
from markupsafe._speedups import _escape_inner

def handler(event, context):
    yield _escape_inner(event)
"""


needs_npm = unittest.skipUnless(shutil.which("npm"), "this machine has no npm, which brings Serverless and the CDK's command")


@needs_npm
@needs_chroot
class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="tools-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.mine, runtime = cls.folder / "mine", cls.folder / "runtime"
        for name in ("Makefile", "bootstrap", "runtime.py", "tests/deploy", "tests/hello"):
            target = runtime / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (REPO / name).is_dir() else shutil.copy)(REPO / name, target)
        (cls.mine / "orders").mkdir(parents=True)
        (cls.mine / "orders/function.py").write_text(HANDLER)
        (cls.mine / "orders/requirements.txt").write_text("markupsafe==3.0.4\n")
        for template in TEMPLATES.iterdir():
            # Its Python is the one that runs this test.
            (cls.mine / template.name).write_text(template.read_text().replace("python3.13", f"python{VERSION}"))
        cls.path = [TOOLS / f"python{sys.version_info[0]}.{sys.version_info[1]}.{sys.version_info[2]}/bin", TOOLS / "npm/node_modules/.bin"]
        os.symlink(sys.executable, cls.folder / f"python{VERSION}")
        for words in (["layer", f"PYTHON_PREFIX={sys.base_prefix}", "FORCE=1"], ["dist", "FUNCTION=orders", "OUTPUT=dist/orders.zip"]):
            cls.run_tool("make", "-s", "-f", "../runtime/Makefile", *words)
        unpack(cls.mine / "dist/layer.zip", cls.folder / "layer")

    @classmethod
    def run_tool(cls, *command):
        path = ":".join(map(str, [cls.folder, *cls.path, os.environ["PATH"]]))
        env = {
            "PATH": path, "HOME": str(cls.folder), "PYTHON": sys.executable, "AWS_DEFAULT_REGION": "us-east-1", "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "CI": "1", "SAM_CLI_TELEMETRY": "0",
            "CDK_DISABLE_CLI_TELEMETRY": "1", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1", "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
            "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off", "SLS_INTERACTIVE_SETUP_ENABLE": "0",
            **{name: os.environ[name] for name in os.environ if name.startswith("PIP_") or name.endswith(("_CA_CERTS", "SSL_CERT_FILE"))},
        }
        done = subprocess.run(command, cwd=cls.mine, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        if done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout[-3000:]}")
        return done.stdout

    def starts(self, code, *command, python="opt", **environment):
        """What was built answers in a root like Lambda's: its code a zip or a folder, and where the Python is."""
        with RootFS() as root:
            for name in "bin", "lib", "bootstrap", "runtime.py", "__pycache__":
                source, target = self.folder / "layer" / name, root / (python if name in ("bin", "lib") else "opt") / name
                if source.is_dir():
                    shutil.copytree(source, target, dirs_exist_ok=True)
                else:
                    shutil.copy(source, target)
            shutil.copy(root / python / "bin/python3", root / python / f"bin/python{VERSION}")
            (root / "var/runtime/bootstrap.py").write_text("raise SystemExit('what the wrapper replaces was started')\n")
            if code.is_dir():
                shutil.copytree(code, root / "var/task", dirs_exist_ok=True)
            else:
                unpack(code, root / "var/task")
            env = {"_HANDLER": "function.handler", **ENVIRONMENT, **environment}
            with Lambda(root / "var/task", env=env, command=enter(root, *command)) as aws:
                answer = aws.invoke("<Ada>")
                self.assertEqual((answer.streaming, answer.body), (True, b"&lt;Ada&gt;"))

    def test_sam(self):
        self.run_tool("sam", "validate", "--lint")
        self.run_tool("sam", "build")
        built = self.mine / ".aws-sam/build"
        self.assertTrue((built / "Orders/bootstrap").exists())
        self.starts(built / "Orders", "/var/task/bootstrap")
        self.assertFalse((built / "Wrapped/bootstrap").exists())
        self.starts(
            built / "Wrapped", "/opt/bootstrap", f"/var/lang/bin/python{VERSION}", "/var/runtime/bootstrap.py", python="var/lang",
            AWS_LAMBDA_EXEC_WRAPPER="/opt/bootstrap", LD_LIBRARY_PATH="/var/lang/lib:" + ENVIRONMENT["LD_LIBRARY_PATH"],
        )

    def test_cdk(self):
        python = next(str(path / "python3") for path in self.path)
        self.run_tool("cdk", "synth", "--quiet", "--app", f"{python} app.py")
        template = json.loads((self.mine / "cdk.out/Orders.template.json").read_text())
        # W3005: a dependency that the CDK states twice. The other stack's `custom` is news to cfn-lint 1.51.
        self.run_tool("cfn-lint", "--ignore-checks", "W3005", "--", "cdk.out/Orders.template.json")
        resources = [(r["Type"], r["Properties"]) for r in template["Resources"].values()]
        self.assertEqual(self.permissions(resources), ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"])
        managed = json.loads((self.mine / "cdk.out/Managed.template.json").read_text())["Resources"].values()
        (function,) = [r["Properties"] for r in managed if r["Type"] == "AWS::Lambda::Function"]
        self.assertEqual((function["Runtime"], function["RuntimeConfig"]["RuntimeAlias"]), ("custom", "live"))
        zips = (self.mine / "cdk.out").glob("asset.*.zip")
        (code,) = [path for path in zips if path.read_bytes() == (self.mine / "dist/orders.zip").read_bytes()]
        self.starts(code, "/var/task/bootstrap")

    def test_serverless(self):
        self.run_tool("serverless", "package")
        template = json.loads((self.mine / ".serverless/cloudformation-template-update-stack.json").read_text())
        resources = [(r["Type"], r["Properties"]) for r in template["Resources"].values()]
        self.assertEqual(self.permissions(resources), ["lambda:InvokeFunction", "lambda:InvokeFunctionUrl"])
        (function,) = [properties for kind, properties in resources if kind == "AWS::Lambda::Function"]
        self.assertEqual(function["Runtime"], "provided.al2023")
        self.starts(self.mine / "dist/orders.zip", "/var/task/bootstrap")

    def permissions(self, resources):
        """What everyone may do; a public function URL needs two since October 2025."""
        return sorted(p["Action"] for kind, p in resources if kind == "AWS::Lambda::Permission" and p["Principal"] == "*")

    def test_the_same_bytes_from_uv(self):
        """pip has packed orders.zip; uv, where it is on PATH, makes the same of it."""
        uv = next((path / "uv" for path in self.path if (path / "uv").exists()), None)
        self.assertIsNotNone(uv)
        os.symlink(uv, self.folder / "uv")
        self.addCleanup(os.remove, self.folder / "uv")
        self.run_tool("make", "-s", "-f", "../runtime/Makefile", "dist", "FUNCTION=orders", "OUTPUT=dist/uv.zip")
        self.assertEqual((self.mine / "dist/uv.zip").read_bytes(), (self.mine / "dist/orders.zip").read_bytes())


@needs_npm
class CustomerManagedRuntime(unittest.TestCase):
    """The commands of tools/managed.sh, by botocore's model: AWS CLI 1.46.3 does not have them yet, and moto neither."""

    def test_each_command_is_one_of_the_api(self):
        models = {
            service: ServiceModel(json.loads(gzip.decompress((TOOLS.parent / f"{service}.json.gz").read_bytes())))
            for service in ("lambda", "lambda-core")
        }
        waiters = json.loads((TOOLS.parent / "lambda-core-waiters.json").read_text())["waiters"]
        commands = [shlex.split(line)[1:] for line in (TEMPLATES / "managed.sh").read_text().splitlines() if line.startswith("aws ")]
        self.assertEqual(len(commands), 8)
        for service, name, *words in commands:
            with self.subTest(f"{service} {name} {words[0]}"):
                if name == "wait":
                    operation = waiters[camel(words.pop(0))]["operation"]
                else:
                    operation = camel(name)
                shape = models[service].operation_model(operation).input_shape
                given = {camel(option[2:]): value for option, value in zip(words[::2], words[1::2])}
                if "ZipFile" in given:
                    given["Code"] = {"ZipFile": given.pop("ZipFile").encode()}
                if "RuntimeConfig" in given:
                    given["RuntimeConfig"] = dict(pair.split("=") for pair in given["RuntimeConfig"].split(","))
                self.assertLessEqual(set(given), set(shape.members))
                report = ParamValidator().validate(given, shape)
                self.assertFalse(report.has_errors(), report.generate_report())
                for member, value in [*given.items(), *given.get("RuntimeConfig", {}).items()]:
                    pattern = shape.members[member].metadata.get("pattern") if member in shape.members else None
                    if pattern and isinstance(value, str):
                        self.assertTrue(re.fullmatch(pattern, value), (member, value, pattern))
        self.assertIn("custom", models["lambda"].shape_for("Runtime").enum)


class Readme(unittest.TestCase):
    """README shows what is run here, without its comments, and of app.py each stack by itself."""

    def test_templates(self):
        for how in "yaml template.yaml", "yaml serverless.yml", "yaml wrapper":
            (shown,) = commands(how)
            text = (TEMPLATES / how.split()[1].replace("wrapper", "template.yaml")).read_text()
            uncommented = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
            lines = [re.sub(" +#.*", "", line) for line in shown.splitlines() if line.strip()]
            if how == "yaml wrapper":
                self.assertLessEqual(set(lines), set(uncommented))
            else:
                self.assertEqual(lines, uncommented)

    def test_cdk(self):
        (shown,), (managed,) = commands("py app.py"), commands("py managed.py")
        text = (TEMPLATES / "app.py").read_text()
        self.assertLessEqual(set(shown.splitlines()), set(text.splitlines()))
        for words in 'runtime=lambda_.Runtime("custom")', 'node.default_child.add_property_override(', '"RuntimeConfig"':
            self.assertIn(words, managed)
            self.assertIn(words, text)

    def test_managed_runtime(self):
        (shown,) = commands("sh managed")
        lines = shown.replace("\\\n    ", "").splitlines()
        self.assertLessEqual({line for line in lines if line.startswith("aws ")}, set((TEMPLATES / "managed.sh").read_text().splitlines()))
        self.assertEqual(len(lines), 6)


def camel(name):
    """CreateRuntime for create-runtime."""
    return "".join(word.capitalize() for word in name.split("-"))


@needs_npm
class Arm64(unittest.TestCase):
    def test_requirements_for_the_other_machine(self):
        with tempfile.TemporaryDirectory() as folder:
            code = pathlib.Path(folder, "orders")
            code.mkdir()
            (code / "requirements.txt").write_text("markupsafe==3.0.4\n")
            for arch, machine in (("arm64", "aarch64"), ("x86_64", "x86_64")):
                subprocess.run(
                    [sys.executable, REPO / "tests/deploy/package.py", "--arch", arch, "function", code, "--output", f"{folder}/{arch}/"],
                    check=True, stdout=subprocess.DEVNULL,
                )
                (library,) = pathlib.Path(folder, arch).rglob("*.so")
                self.assertIn(machine, library.name)
                self.assertEqual(package.Elf.read(library.read_bytes()).arch, arch)


if __name__ == "__main__":
    unittest.main()
