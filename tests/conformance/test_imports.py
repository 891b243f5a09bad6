"""A walk through every module of the standard library and of the packages below, with what this runtime does to imports and without: both see the same.

By itself, on any Python that has pip (`make conformance` needs one that awslambdaric has a release for):

    PYTHONPATH=tests:tests/deploy python3.9 tests/conformance/test_imports.py
"""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from miniature import IMPORTLIBS_OWN, REPO, Lambda
from root_fs import unpack

if sys.version_info >= (3, 11):
    PINNED = ["boto3==1.44.5", "fastapi==0.162.5", "aws-lambda-powertools==3.37.0", "django==5.2.19", "pandas==3.1.1"]
else:
    PINNED = ["boto3==1.42.97", "fastapi==0.128.8", "aws-lambda-powertools==3.23.0", "django==4.2.30", "pandas==2.3.3"]
PACKAGES = REPO / "build/conformance" / f"walk-{sys.implementation.cache_tag}"
GROUPS = {
    "boto3": ["boto3", "botocore", "s3transfer", "jmespath", "urllib3", "dateutil"],
    "FastAPI": ["fastapi", "starlette", "pydantic", "pydantic_core", "anyio", "typing_extensions"],
    "Powertools": ["aws_lambda_powertools"],
    "Django": ["django", "asgiref", "sqlparse"],
    "pandas": ["pandas", "numpy"],
}

FUNCTION = """
import hashlib, io, json, os, pkgutil, re, sys, tempfile, warnings, weakref
warnings.simplefilter("ignore")
if os.environ.get("IMPORTLIBS_OWN"):
    exec(os.environ["IMPORTLIBS_OWN"])
STDLIB = os.path.dirname(os.__file__)
# What starts a program, a browser or a console, prints, or belongs to another system; other people's tests.
LEFT_OUT = re.compile(r"(^|\\.)(__main__|antigravity|this|idlelib|tests?|conftest|turtledemo|pip|_pyrepl|setup|distutils)(\\.|$)|_test|doctest_")

def plain(value):
    try:
        if isinstance(value, (set, frozenset, weakref.WeakSet)):
            value = type(value), sorted(map(plain, value))  # its order may be that of addresses
        text = repr(value)
    except BaseException as error:
        text = "repr: " + type(error).__name__
    return re.sub(r"0x[0-9a-fA-F]+|\\b1[0-9]{14,15}\\b", "0x", text)[:20000]

def facts(module):
    result = {name: hashlib.sha256(plain(value).encode("utf-8", "replace")).hexdigest()[:12] for name, value in list(vars(module).items())}
    result["order"] = hashlib.sha256(repr(list(vars(module))).encode()).hexdigest()[:12]
    for name in "__spec__", "__loader__":
        thing = vars(module).get(name)
        if hasattr(thing, "__dict__"):
            result[name] = plain({k: v for k, v in vars(thing).items() if k != "loader_state"})
    for name in "__file__", "__cached__", "__path__":
        result[name] = plain(vars(module).get(name))
    return result

def handler(event, context):
    sys.argv = ["walk"]
    names = []
    if event == ["the standard library"]:
        top = [m.name for m in pkgutil.iter_modules([STDLIB, STDLIB + "/lib-dynload"])]
    else:
        top = event
    if "django" in top:
        import django, django.conf
        apps = ["django.contrib." + name for name in ("admin", "auth", "contenttypes", "sessions", "messages", "sites", "flatpages", "redirects")]
        django.conf.settings.configure(INSTALLED_APPS=apps, SECRET_KEY="x", SITE_ID=1)
        django.setup()
    def walk(name, depth=0):
        if LEFT_OUT.search(name):
            return
        names.append(name)
        try:
            __import__(name)
        except BaseException as error:
            failed[name] = type(error).__name__ + ": " + plain(error)[:300]
            return
        for found in sorted(m.name for m in pkgutil.iter_modules(getattr(sys.modules.get(name), "__path__", ()))):
            walk(name + "." + found)
    failed = {}
    stdout, sys.stdout, stderr, sys.stderr = sys.stdout, io.StringIO(), sys.stderr, io.StringIO()
    try:
        for name in top:
            walk(name)
    finally:
        sys.stdout, sys.stderr = stdout, stderr
    mine = {name: sys.modules[name] for name in names if name in sys.modules}
    with tempfile.NamedTemporaryFile("w", delete=False) as file:
        json.dump({"failed": failed, "modules": {name: facts(m) for name, m in mine.items() if hasattr(m, "__dict__")}, "all": sorted(sys.modules)}, file)
    return file.name
"""


class Walk(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        stamp = PACKAGES / "_".join(PINNED)  # other versions are installed anew
        if not stamp.exists():
            shutil.rmtree(PACKAGES, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile", "--target", PACKAGES]
            subprocess.run([*pip, *PINNED], check=True)
            stamp.touch()
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="walk-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        (PACKAGES / "function.py").write_text(FUNCTION)
        build = [sys.executable, REPO / "tests/deploy/package.py"]
        for arguments in (
            ["layer", "--prefix", sys.base_prefix, "--output", cls.folder / "layer.zip"],
            ["function", PACKAGES, "--requirements", "", "--output", f"{cls.folder}/task/"],
        ):
            subprocess.run([*build, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"FORCE": "1"})
        unpack(cls.folder / "layer.zip", cls.folder / "layer")
        cls.files = [*cls.folder.glob("layer/lib*/python3*/.modules"), cls.folder / "task/.modules"]

    def walk(self, names, **more):
        python = self.folder / "layer/bin/python3"
        env = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore", "LD_LIBRARY_PATH": str(self.folder / "layer/lib"), **more}
        with Lambda(self.folder / "task", env=env, python=python, bootstrap=self.folder / "task/bootstrap", timeout=300) as aws:
            answer = aws.invoke(names, timeout=300)
            self.assertIsNone(answer.error, aws.log)
            self.assertNotIn(".modules", aws.stderr)
        path = pathlib.Path(answer.json)
        result = json.loads(path.read_text())
        path.unlink()
        return result

    def compare(self, names, least):
        for file in self.files:
            self.assertTrue(file.exists())
        with_file = self.walk(names)
        try:
            for file in self.files:
                file.rename(f"{file}.away")
            without = self.walk(names, IMPORTLIBS_OWN=IMPORTLIBS_OWN)
        finally:
            for file in self.files:
                pathlib.Path(f"{file}.away").rename(file)
        again = self.walk(names)
        self.assertGreater(len(with_file["modules"]), least, with_file["failed"])
        self.assertEqual(with_file["failed"], without["failed"])
        self.assertEqual(with_file["all"], without["all"])
        differences = []
        for name, facts in without["modules"].items():
            for key in {*facts, *with_file["modules"][name]}:
                # Some differ from run to run: clocks, process numbers, temporary names. The other walk lies between
                # these two, longer than a clock that counts seconds stands still.
                if with_file["modules"][name].get(key) == again["modules"][name].get(key) != facts.get(key):
                    differences.append((name, key, facts.get(key), with_file["modules"][name].get(key)))
        self.assertEqual(differences, [])
        print(f"{len(with_file['modules'])} modules, {len(with_file['failed'])} that cannot be imported here", file=sys.stderr)

    def test_the_standard_library(self):
        self.compare(["the standard library"], 350)

    def test_packages(self):
        for group, names in GROUPS.items():
            with self.subTest(group):
                self.compare(names, 50)


if __name__ == "__main__":
    unittest.main()
