"""What make bench runs: the functions, the runtimes, the bare loops; prepare() puts them into build/bench."""

import compileall
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from stub import CHUNK, CHUNKS, TOKEN_COUNT, Contender, say

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
PYTHON = BUILD / "bin" / "python3"  # a link to the interpreter under test, first on PATH
TASK = BUILD / "task"
RIC = BUILD / f"var-runtime-{sys.implementation.cache_tag}"  # what /var/runtime is on a managed runtime
RIC_SOURCE = RIC.with_name(RIC.name + "-source")  # the same, nothing compiled
NODE = BUILD / "node"
WEB = BUILD / f"web-{sys.implementation.cache_tag}"
WEB_PINNED = ["fastapi==0.162.5", "mangum==0.22.0"]
REAL = BUILD / f"real-{sys.implementation.cache_tag}"
RIC_PINNED = ["awslambdaric==4.2.2", "simplejson==4.3.0", "snapshot-restore-py==1.0.0"]
NODE_PINNED = "aws-lambda-ric@4.0.2"

FUNCTIONS = {
    "echo.py": "def handler(event, context):\n    return event\n",
    "imports.py": "import json\nimport logging\n\n\ndef handler(event, context):\n    return event\n",
    "without_sigterm.py": "import signal\n\n\ndef handler(event, context):\n    return event\n",
    "sigterm.py": "import signal\n\n\ndef handler(event, context):\n    return event\n\n\n"
    "signal.signal(signal.SIGTERM, lambda number, frame: None)\n",
    "stream.py": f"def handler(event, context):\n    for _ in range({CHUNKS}):\n        yield CHUNK\n\n\nCHUNK = bytes({CHUNK})\n",
    "wait.py": "import time\n\n\ndef handler(event, context):\n    time.sleep(0.01)\n    return event\n",
    "wait_async.py": "import asyncio\n\n\nasync def handler(event, context):\n    await asyncio.sleep(0.01)\n    return event\n",
    "tokens.py": f"def handler(event, context):\n    for _ in range({TOKEN_COUNT}):\n        yield TOKEN\n\n\nTOKEN = b'x' * 20\n",
    "tokens_async.py": f"async def handler(event, context):\n    for _ in range({TOKEN_COUNT}):\n        yield TOKEN\n\n\nTOKEN = b'x' * 20\n",
    "base64_body.py": "import base64, os\n\nBODIES = {}\n\n\ndef handler(event, context):\n    size = event['size']\n"
    "    if size not in BODIES:\n        BODIES[size] = base64.b64encode(os.urandom(size * 3 // 4)).decode()\n"
    "    return {'statusCode': 200, 'isBase64Encoded': True, 'body': BODIES[size]}\n",
    "compute.py": "import time\n\n\nasync def handler(event, context):\n    end = time.thread_time() + 0.002\n"
    "    while time.thread_time() < end:\n        pass\n    return event\n",
    "web.py": "import fastapi\nimport mangum\n\napp = fastapi.FastAPI()\n\n\n@app.get('/items/{item}')\nasync def item(item: int, q: str):\n"
    "    return {'item': item, 'q': q}\n\n\ndef handler(event, context):\n    return adapter(event, context)\n\n\nadapter = mangum.Mangum(app)\n",
    "web_asgi.py": "import runtime\n\nfrom web import app\n\nhandler = runtime.asgi(app)\n",
    "stream.js": f"""const chunk = Buffer.alloc({CHUNK})
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{
  for (let i = 0; i < {CHUNKS}; i++)
    if (!stream.write(chunk)) await new Promise(go => stream.once('drain', go))
  stream.end()
}})
""",
}

# Functions with the libraries that people use, each in a folder of its own: pinned packages, source.
REAL_FUNCTIONS = {
    "boto3": (["boto3==1.44.5"], """
import boto3

table, bucket = boto3.client("dynamodb"), boto3.client("s3")


def handler(event, context):
    return {"statusCode": 200}
"""),
    "Powertools": (["aws-lambda-powertools==3.37.0"], """
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

logger, metrics, app = Logger(service="bench"), Metrics(namespace="bench", service="bench"), APIGatewayHttpResolver()


@app.get("/items/7")
def item():
    return {"item": 7}


def handler(event, context):
    return app.resolve(event, context)
"""),
    "FastAPI": (WEB_PINNED, """
import fastapi
import mangum
import pydantic

app = fastapi.FastAPI()


class Item(pydantic.BaseModel):
    number: int
    q: str


@app.get("/items/{number}")
async def item(number: int, q: str) -> Item:
    return Item(number=number, q=q)


adapter = mangum.Mangum(app)


def handler(event, context):
    return adapter(event, context)
"""),
    "pandas": (["pandas==3.1.1"], """
import pandas

frame = pandas.DataFrame({"n": range(100)})


def handler(event, context):
    return {"sum": int(frame["n"].sum())}
"""),
    # Not a start that is measured, but what its import leaves for the collector in each invocation.
    "heavy": ([*WEB_PINNED, "boto3==1.44.5"], """
import gc
import time

import boto3
import fastapi
import mangum

client, app = boto3.client("dynamodb"), fastapi.FastAPI()
longest, began = 0, 0


def note(phase, info):
    global longest, began
    if phase == "start":
        began = time.perf_counter()
    else:
        longest = max(longest, time.perf_counter() - began)


gc.callbacks.append(note)


def handler(event, context):
    global longest
    longest = 0
    rows = [{"id": number, "tags": [str(number)], "place": {"x": number}} for number in range(10_000)]
    return {"rows": len(rows), "longest pause": longest}
"""),
}
# The same application behind asgi(), which registers an extension for its shutdown.
REAL_ASGI = """
import runtime

from function import app

handler = runtime.asgi(app)
"""

CONNECT = """
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
api = socket.create_connection((host, int(port)))
api.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
"""

BARE_LOOP = '''"""The bare loop: what any Python runtime must do, and nothing else. Imports the handler, then on one
kept connection: asks for the next event, finds its id and length, decodes it, calls the handler
without a context, encodes what it returns, posts it. No errors, no logs, no second chance."""
import importlib, json, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
module, name = os.environ["_HANDLER"].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)

def receive():
    data = api.recv(65536) or sys.exit()
    while (end := data.find(b"\\r\\n\\r\\n")) < 0:
        data += api.recv(65536)
    last = b""
    if data.find(b"\\r\\nTransfer-Encoding: chunked\\r\\n", 0, end + 2) > 0:  # one chunk is all that the stub sends
        line = data.index(b"\\r\\n", end + 4)
        length, end, last = int(data[end + 4:line], 16), line - 2, b"\\r\\n0\\r\\n\\r\\n"
    else:
        length = int(header(data, b"Content-Length: "))
    if len(data) == end + 4 + length + len(last):
        return data, data[end + 4:end + 4 + length]
    body = bytearray(length + len(last))
    have = len(data) - end - 4
    body[:have] = data[end + 4:]
    view = memoryview(body)
    while have < len(body):
        have += api.recv_into(view[have:])
    return data, view[:length]

def header(data, name):
    start = data.index(name) + len(name)
    return data[start:data.index(b"\\r", start)]

while True:
    api.sendall(NEXT)
    head, body = receive()
    answer = json.dumps(handler(json.loads(str(body, "utf-8")), None)).encode()
    api.sendall(b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\\r\\nHost: localhost\\r\\n"
                b"Content-Length: %d\\r\\n\\r\\n%b" % (header(head, b"Aws-Request-Id: "), len(answer), answer))
    receive()
'''

SENDALL = '''"""The bare loop of streaming: what a generator yields is framed, one sendall for each."""
def chunks():
    for _ in range(COUNT):
        yield CHUNK

CHUNK = bytes(SIZE)
while True:
    api.sendall(NEXT)
    api.recv(65536)
    api.sendall(b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\\r\\nHost: localhost\\r\\n"
                b"Transfer-Encoding: chunked\\r\\n\\r\\n")
    for chunk in chunks():
        api.sendall(b"%x\\r\\n%b\\r\\n" % (len(chunk), chunk))
    api.sendall(b"0\\r\\n\\r\\n")
    api.recv(65536)
'''
TOKENS = SENDALL.replace("COUNT", str(TOKEN_COUNT)).replace("SIZE", "20")
FRAMES = SENDALL.replace("COUNT", str(CHUNKS)).replace('b"%x\\r\\n%b\\r\\n" % (len(chunk), chunk)', "chunk").replace(
    "bytes(SIZE)", f'b"{CHUNK:x}\\r\\n" + bytes({CHUNK}) + b"\\r\\n"  # framed beforehand'
)

TRIVIAL = '''"""Costs next to nothing, so that what remains is the stub and the kernel."""
POST = (b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\\r\\nHost: localhost\\r\\n"
        b"Content-Length: 15\\r\\n\\r\\n{\\"hello\\":\\"you\\"}")
while True:
    api.sendall(NEXT)
    api.recv(65536)
    api.sendall(POST)
    api.recv(65536)
'''

# What AWS's base images do before awslambdaric has its turn; theirs also process .pth files.
RIC_BOOTSTRAP = f'''#!/bin/sh
exec "{PYTHON}" "${{0%/*}}/bootstrap.py"
'''
RIC_BOOTSTRAP_PY = '''
import os, sys
sys.path.insert(0, "/opt/python")
sys.path.insert(0, "/opt/python/lib/python%d.%d/site-packages" % sys.version_info[:2])
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
os.environ["PYTHONPATH"] = os.path.dirname(__file__)
from awslambdaric.__main__ import main
main(["bootstrap.py", os.environ["_HANDLER"]])
'''

RIC_313 = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}
RIC_311 = {"AWS_EXECUTION_ENV": "AWS_Lambda_python3.11"}
CONTENDERS = {  # name: how it is started, its environment
    "this runtime": ([BUILD / "opt" / "bootstrap"], {}),
    "from source": ([BUILD / "source" / "bootstrap"], {}),
    "awslambdaric": ([RIC / "bootstrap"], RIC_313),
    "awslambdaric from source": ([RIC_SOURCE / "bootstrap"], RIC_313),
    "its 3.11 mode": ([RIC / "bootstrap"], RIC_311),
    "bare loop": ([PYTHON, BUILD / "bare_loop.pyc"], {}),
    "sendall loop": ([PYTHON, BUILD / "sendall.pyc"], {}),
    "trivial client": ([PYTHON, BUILD / "trivial.pyc"], {}),
    "sendall of 20 bytes": ([PYTHON, BUILD / "tokens.pyc"], {}),
    "Node.js client": (["node", NODE / "node_modules/aws-lambda-ric/index.mjs"], {}),
}


def launch(name, handler="echo.handler", task_root=TASK, command=None, cores=None, **env):
    """A process of the contender `name`; `command` starts it in another way."""
    usual, own = CONTENDERS[name]
    env = {"PATH": f"{PYTHON.parent}:{os.environ['PATH']}", "_HANDLER": handler, **own, **env}
    return Contender(name, command or usual, task_root, cores, **env)


def prepare(groups):
    """Fill build/bench: functions, start scripts, this runtime twice, the clients of AWS."""
    for folder in (BUILD / "bin", TASK, BUILD / "source"):
        folder.mkdir(parents=True, exist_ok=True)
    PYTHON.unlink(missing_ok=True)
    PYTHON.symlink_to(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    for name, text in FUNCTIONS.items():
        (TASK / name).write_text(text)
    for name, text in (("bare_loop", CONNECT + BARE_LOOP), ("sendall", CONNECT + FRAMES), ("trivial", CONNECT + TRIVIAL), ("tokens", CONNECT + TOKENS)):
        (BUILD / f"{name}.py").write_text(text)
        compileall.compile_file(BUILD / f"{name}.py", quiet=1, legacy=True, force=True)
    for name in ("bootstrap", "runtime.py"):
        shutil.copy2(ROOT / name, BUILD / "source" / name)
    layer = BUILD / "layer.zip"
    subprocess.run([sys.executable, ROOT / "tests/deploy/package.py", "layer", "--output", layer], check=True, stdout=sys.stderr)
    shutil.rmtree(BUILD / "opt", ignore_errors=True)
    with zipfile.ZipFile(layer) as archive:
        for entry in archive.infolist():
            os.chmod(archive.extract(entry, BUILD / "opt"), entry.external_attr >> 16 & 0o777)
    if not (RIC / "awslambdaric").exists() and not install(RIC, RIC_PINNED):
        sys.exit(f"{RIC_PINNED[0]} could not be installed for Python {platform.python_version()}: it needs 3.10 or later, and pip")
    if "web" in groups and not (WEB / "mangum").exists() and not install(WEB, WEB_PINNED):
        sys.exit(f"{' and '.join(WEB_PINNED)} could not be installed")
    for name in REAL_FUNCTIONS if {"real", "heavy"} & {*groups} else ():
        prepare_real(name)
    (RIC / "bootstrap").write_text(RIC_BOOTSTRAP)
    (RIC / "bootstrap").chmod(0o755)
    (RIC / "bootstrap.py").write_text(RIC_BOOTSTRAP_PY)
    shutil.rmtree(RIC_SOURCE, ignore_errors=True)
    shutil.copytree(RIC, RIC_SOURCE, ignore=shutil.ignore_patterns("__pycache__"))
    if "stream" in groups and not shutil.which("npm"):
        say(f"no npm here: the stream is measured without {NODE_PINNED}")
    elif "stream" in groups and not (NODE / "node_modules" / "aws-lambda-ric").exists():
        npm = ["npm", "install", "--silent", "--prefix", NODE, NODE_PINNED]
        done = subprocess.run(npm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            say(f"{NODE_PINNED} could not be built, the stream is measured without it: {(done.stdout.strip().splitlines() or ['no output'])[-1]}")


def install(folder, pinned, *options):
    """Whether pip could."""
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", folder, *options]
    return not subprocess.run([*pip, *pinned], env={**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}).returncode


def prepare_real(name):
    """A real function three times: as SAM's pip builder ships it, nothing compiled; the same compiled; from make dist."""
    pinned, source = REAL_FUNCTIONS[name]
    shipped, compiled, dist = (REAL / name / way for way in ("shipped", "compiled", "dist"))
    installed = shipped / "_".join(pinned)  # a stamp: other versions are installed anew
    if not installed.exists():
        shutil.rmtree(REAL / name, ignore_errors=True)
        if not install(shipped, pinned, "--no-compile"):
            say(f"{' '.join(pinned)} could not be installed for Python {platform.python_version()}: {name} is left out")
            return
        installed.touch()
    (shipped / "function.py").write_text(source)
    (shipped / "function_asgi.py").write_text(REAL_ASGI)
    if not compiled.exists():
        shutil.copytree(shipped, compiled, copy_function=os.link)
        compileall.compile_dir(compiled, quiet=2, workers=0)
    command = [sys.executable, ROOT / "tests/deploy/package.py", "function", shipped, "--requirements", "", "--output", f"{dist}/"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
