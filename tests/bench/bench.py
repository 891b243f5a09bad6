"""make bench: this runtime beside awslambdaric and beside a floor, measured in one run.

    make bench PYTHON=python3.13            everything, under three minutes once build/ is filled
    make bench PYTHON=python3.13 ONLY=warm  single groups: cold warm nested string sizes stream slots web

Every contender runs on the same interpreter, against the same stub of the Runtime API, in turns
(A B C A B C ...), so that what else the machine does hits all of them alike. What is printed is
Markdown: medians, quartiles in brackets, and the ratios with the bounds they are held against. A
time never fails the run; a contender that does not start or answers wrongly does.

The stub is this process: one epoll, prebuilt answers, nothing parsed but the method, the path's end
and the length of the body. The clock therefore starts and stops exactly where bytes leave and
arrive. What the stub itself costs is measured with a client that sends prebuilt bytes, and printed.
Stub and contender share one core, since they take turns anyway and waking another core took longer
than all that is measured here (round trip of the floor: 49 µs on one core, 160 to 200 on two).
Managed Instances run wherever the kernel puts them.
"""

import compileall
import contextlib
import functools
import gc
import json
import os
import platform
import random
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"
PYTHON = BUILD / "bin" / "python3"  # a link to the interpreter under test, first on PATH
TASK = BUILD / "task"
RIC = BUILD / f"var-runtime-{sys.implementation.cache_tag}"  # what /var/runtime is on a managed runtime
RIC_SOURCE = RIC.with_name(RIC.name + "-source")  # the same, nothing compiled
NODE = BUILD / "node"
WEB = BUILD / f"web-{sys.implementation.cache_tag}"
WEB_PINNED = ["fastapi==0.162.5", "mangum==0.22.0"]
RIC_PINNED = ["awslambdaric==4.2.2", "simplejson==4.3.0", "snapshot-restore-py==1.0.0"]
NODE_PINNED = "aws-lambda-ric@4.0.2"
TIMEOUT = 30  # seconds without a byte from a contender: it hangs
CHUNK, CHUNKS = 64 * 1024, 1600  # 100 MiB

# ---------------------------------------------------------------------- what is run

FUNCTIONS = {
    "echo.py": "def handler(event, context):\n    return event\n",
    "imports.py": "import json\nimport logging\n\n\ndef handler(event, context):\n    return event\n",
    "stream.py": f"def handler(event, context):\n    for _ in range({CHUNKS}):\n        yield CHUNK\n\n\nCHUNK = bytes({CHUNK})\n",
    "wait.py": "import time\n\n\ndef handler(event, context):\n    time.sleep(0.01)\n    return event\n",
    "wait_async.py": "import asyncio\n\n\nasync def handler(event, context):\n    await asyncio.sleep(0.01)\n    return event\n",
    "web.py": "import fastapi\nimport mangum\n\napp = fastapi.FastAPI()\n\n\n@app.get('/items/{item}')\nasync def item(item: int, q: str):\n"
    "    return {'item': item, 'q': q}\n\n\ndef handler(event, context):\n    return adapter(event, context)\n\n\nadapter = mangum.Mangum(app)\n",
    "web_asgi.py": "import runtime\nimport signal\n\nfrom web import app\n\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the stub has no extensions\nhandler = runtime.asgi(app)\n",
    "stream.js": f"""const chunk = Buffer.alloc({CHUNK})
exports.handler = awslambda.streamifyResponse(async (event, stream, context) => {{
  for (let i = 0; i < {CHUNKS}; i++)
    if (!stream.write(chunk)) await new Promise(go => stream.once('drain', go))
  stream.end()
}})
""",
}

CONNECT = """
import os, socket
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
api = socket.create_connection((host, int(port)))
api.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
"""

FLOOR = '''"""The floor: what any Python runtime must do, and nothing else. Imports the handler, then on one
kept connection: asks for the next event, finds its id and length, decodes it, calls the handler
without a context, encodes what it returns, posts it. No errors, no logs, no second chance."""
import importlib, json, sys
sys.path.insert(0, os.environ["LAMBDA_TASK_ROOT"])
module, name = os.environ["_HANDLER"].rsplit(".", 1)
handler = getattr(importlib.import_module(module), name)

def receive():
    data = api.recv(65536)
    while (end := data.find(b"\\r\\n\\r\\n")) < 0:
        data += api.recv(65536)
    length = int(header(data, b"Content-Length: "))
    if len(data) == end + 4 + length:
        return data, data[end + 4:]
    body = bytearray(length)
    have = len(data) - end - 4
    body[:have] = data[end + 4:]
    view = memoryview(body)
    while have < length:
        have += api.recv_into(view[have:])
    return data, body

def header(data, name):
    start = data.index(name) + len(name)
    return data[start:data.index(b"\\r", start)]

while True:
    api.sendall(NEXT)
    head, body = receive()
    answer = json.dumps(handler(json.loads(body), None)).encode()
    api.sendall(b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\\r\\nHost: localhost\\r\\n"
                b"Content-Length: %d\\r\\n\\r\\n%b" % (header(head, b"Aws-Request-Id: "), len(answer), answer))
    receive()
'''

SENDALL = f'''"""The floor of streaming: framed chunks made beforehand, one sendall for each."""
def frames():
    for _ in range({CHUNKS}):
        yield FRAME

FRAME = b"{CHUNK:x}\\r\\n" + bytes({CHUNK}) + b"\\r\\n"
while True:
    api.sendall(NEXT)
    api.recv(65536)
    api.sendall(b"POST /2018-06-01/runtime/invocation/1/response HTTP/1.1\\r\\nHost: localhost\\r\\n"
                b"Transfer-Encoding: chunked\\r\\n\\r\\n")
    for frame in frames():
        api.sendall(frame)
    api.sendall(b"0\\r\\n\\r\\n")
    api.recv(65536)
'''

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
    "floor": ([PYTHON, BUILD / "floor.pyc"], {}),
    "sendall loop": ([PYTHON, BUILD / "sendall.pyc"], {}),
    "trivial client": ([PYTHON, BUILD / "trivial.pyc"], {}),
    "Node.js client": (["node", NODE / "node_modules/aws-lambda-ric/index.mjs"], {}),
}


def prepare(groups):
    """Fill build/bench: functions, start scripts, this runtime twice, the clients of AWS."""
    for folder in (BUILD / "bin", TASK, BUILD / "source"):
        folder.mkdir(parents=True, exist_ok=True)
    PYTHON.unlink(missing_ok=True)
    PYTHON.symlink_to(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    for name, text in FUNCTIONS.items():
        (TASK / name).write_text(text)
    for name, text in (("floor", CONNECT + FLOOR), ("sendall", CONNECT + SENDALL), ("trivial", CONNECT + TRIVIAL)):
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
    if not (RIC / "awslambdaric").exists():
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", RIC]
        if subprocess.run([*pip, *RIC_PINNED]).returncode:
            sys.exit(f"{RIC_PINNED[0]} could not be installed for Python {platform.python_version()}: it needs 3.10 or later, and pip")
    if "web" in groups and not (WEB / "mangum").exists():
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--target", WEB]
        if subprocess.run([*pip, *WEB_PINNED]).returncode:
            sys.exit(f"{' and '.join(WEB_PINNED)} could not be installed")
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


# ---------------------------------------------------------------------- the stub and its contenders


class Event:
    """An event as `next` brings it; the request id changes each time, the date each second."""

    number = 0

    def __init__(self, value):
        self.body = json.dumps(value).encode()
        self.head = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %%b\r\n"
            b"Lambda-Runtime-Deadline-Ms: %d\r\n"
            b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-central-1:123456789012:function:bench\r\n"
            b"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
            b"Date: %%b\r\nContent-Length: %d\r\n\r\n"
        ) % ((time.time() + 3600) * 1000, len(self.body))

    def send(self, connection):
        """Answer `next`; returns the request id."""
        Event.number += 1
        request_id = b"8476a536-e9f4-11e8-9739-%012d" % Event.number
        head = self.head % (request_id, date(int(time.time())))
        if len(self.body) < 1 << 16:
            connection.sendall(head + self.body)
        else:
            connection.sendall(head)
            connection.sendall(self.body)
        return request_id


ACCEPTED = (
    b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nDate: %b\r\n"
    b'Content-Length: 16\r\n\r\n{"status":"OK"}\n'
)


@functools.lru_cache(maxsize=1)
def date(second):
    """The Date field, made once a second as Go's servers do."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()


RESPONSE = len(b"POST /2018-06-01/runtime/invocation/")  # where the request id begins
LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CORES = sorted(os.sched_getaffinity(0))


def say(text):
    print(text, file=sys.stderr, flush=True)


FAILURES = []


class Failed(Exception):
    """A contender did not start, hangs or answered wrongly."""


def failed(failure):
    say(failure)
    FAILURES.append(failure)


class Contender:
    """A process and the Runtime API it talks to."""

    buffer = memoryview(bytearray(16 << 20))

    def __init__(self, name, handler="echo.handler", cores=None, **env):
        self.name = name
        command, own_env = CONTENDERS[name]
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.connections = {}
        env = {
            "PATH": f"{PYTHON.parent}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",  # as on Lambda, where nothing can be written beside the code
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "LAMBDA_TASK_ROOT": str(TASK),
            "_HANDLER": handler,
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:%d" % self.listener.getsockname()[1],
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            **own_env,
            **env,
        }
        command = [str(part) for part in command]
        path = shutil.which(command[0]) or command[0]
        self.log = os.memfd_create("log")
        os.chdir(TASK)
        os.sched_setaffinity(0, cores or CORES[-1:])
        try:
            self.started = time.perf_counter()
            output = [(os.POSIX_SPAWN_DUP2, self.log, 1), (os.POSIX_SPAWN_DUP2, self.log, 2)]
            self.pid = os.posix_spawn(path, command, env, setpgroup=0, file_actions=output)
        except OSError as error:
            raise Failed(f"{name}: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass  # it has exited, and begin() has noticed
        self.epoll.close()
        os.close(self.log)
        for connection in (self.listener, *self.connections.values()):
            connection.close()

    def fail(self, what):
        output = os.pread(self.log, 1 << 16, 0).decode(errors="replace")
        raise Failed(f"{self.name}: {what}; its output: {output[-2000:] or 'none'}")

    def begin(self):
        """The connection and the size of what came first on it."""
        for _ in range(TIMEOUT):
            events = self.epoll.poll(1, 1)
            if not events:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    self.fail("has exited")
                continue
            connection = self.connections.get(events[0][0])
            if connection is None:
                connection = self.listener.accept()[0]
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections[connection.fileno()] = connection
                self.epoll.register(connection, select.EPOLLIN)
                continue
            size = connection.recv_into(self.buffer)
            if size:
                return connection, size
            self.epoll.unregister(connection)
            del self.connections[connection.fileno()]
            connection.close()
        self.fail(f"nothing for {TIMEOUT} s")

    def request(self):
        """One whole request: its connection, and its body or None for `next`."""
        connection, size = self.begin()
        data = self.buffer.obj
        while (end := data.find(b"\r\n\r\n", 0, size)) < 0:
            size += connection.recv_into(self.buffer[size:])
        if data.startswith(b"GET /2018-06-01/runtime/invocation/next "):
            return connection, None
        if data.find(b"/response ", 0, end) < 0:
            self.fail(f"sent {bytes(data[:size])}")
        size -= end + 4
        length = int(LENGTH.search(data, 0, end)[1])
        while size < length:
            size += connection.recv_into(self.buffer[end + 4 + size :])
        return connection, self.buffer[end + 4 : end + 4 + length]

    def start(self):
        """Seconds from exec to the first `next`."""
        self.waiting, body = self.request()
        return time.perf_counter() - self.started

    def invoke(self, event, expected=None):
        """Seconds from the event's first byte to the arrival of the `next` after the response."""
        start = time.perf_counter()
        request_id = event.send(self.waiting)
        connection, body = self.request()
        if self.buffer.obj[RESPONSE : RESPONSE + 36] != request_id and self.name != "trivial client":
            self.fail(f"answered another invocation: {bytes(self.buffer[:100])}")
        if expected is not None and json.loads(bytes(body)) != expected:
            self.fail(f"answered {bytes(body[:200])}")
        connection.sendall(ACCEPTED % date(int(time.time())))
        self.waiting, body = self.request()
        return time.perf_counter() - start

    def stream(self, event):
        """Seconds from the event to the stream's first body byte, and to its end."""
        start = time.perf_counter()
        event.send(self.waiting)
        connection, size = self.begin()
        data, total = self.buffer.obj, 0
        while (end := data.find(b"\r\n\r\n", 0, size) + 4) in (3, size):
            size += connection.recv_into(self.buffer[size:])
        first = time.perf_counter() - start
        room = self.buffer[: 1 << 20]
        total = size - end
        while data[max(size - 5, 0) : size] != b"0\r\n\r\n":
            size = connection.recv_into(room)
            total += size
            if not size:
                self.fail("hung up in mid-stream")
        seconds = time.perf_counter() - start
        if total < CHUNK * CHUNKS:
            self.fail(f"streamed {total} bytes only")
        connection.sendall(ACCEPTED % date(int(time.time())))
        self.waiting, body = self.request()
        return first, seconds

    def processor(self, pid=None):
        """Seconds of processor time, all threads of the process, dead ones too (CLOCK_PROCESS_CPUTIME_ID of a pid)."""
        return time.clock_gettime(~(pid or self.pid) << 3 | 2)

    def memory(self, field, pid=None):
        """MB of VmRSS or VmHWM (peak) from status, Pss from smaps_rollup."""
        file = "smaps_rollup" if field == "Pss" else "status"
        text = Path(f"/proc/{pid or self.pid}/{file}").read_text()
        return int(re.search(rf"(?m)^{field}:\s+(\d+) kB", text)[1]) / 1024

    def processes(self):
        """All processes of its process group."""
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
        return [pid for pid in pids if group_of(pid) == self.pid]


def group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


# ---------------------------------------------------------------------- the figures

DATA = {}  # figure -> contender -> samples
PEERS = ["this runtime", "awslambdaric", "its 3.11 mode", "floor"]


def add(figure, contender, value):
    DATA.setdefault(figure, {}).setdefault(contender, []).append(value)


def cold():
    """From exec to the first `next`, a new process each time."""
    runs = [("cold", name, name, "echo.handler") for name in PEERS]
    runs += [("cold, imports", name, name, "imports.handler") for name in PEERS]
    runs += [("cold, source", "this runtime", "from source", "echo.handler"), ("cold", "trivial client", "trivial client", "")]
    runs += [("cold, sources", "awslambdaric", "awslambdaric from source", "echo.handler")]
    for turn in range(31):
        for run in list(runs):
            figure, column, name, handler = run
            try:
                with Contender(name, handler) as contender:
                    seconds = contender.start()
            except Failed as failure:
                failed(failure)
                runs.remove(run)
            if turn:  # the first fills the page cache
                add(figure, column, seconds)
        start = time.perf_counter()
        os.waitpid(os.posix_spawn(PYTHON, [PYTHON, "-c", "pass"], os.environ), 0)
        add("cold, interpreter", "floor", time.perf_counter() - start)
    for name in PEERS[1:]:
        DATA.setdefault("cold, source", {})[name] = DATA["cold"][name]
    DATA.setdefault("cold, sources", {})["this runtime"] = DATA["cold, source"]["this runtime"]


@contextlib.contextmanager
def started(names, handler="echo.handler"):
    """The contenders that came up, each waiting for its first event."""
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in names:
            try:
                contender = stack.enter_context(Contender(name, handler))
                contender.start()
                contenders.append(contender)
            except Failed as failure:
                failed(failure)
        yield contenders


def alternate(figure, names, value, turns, block=1):
    """An echoed event on processes that stay, `block` round trips of each in turn; also processor time and memory."""
    event = Event(value)
    with started(names) as contenders:
        for contender in list(contenders):
            expected = None if contender.name == "trivial client" else value
            try:
                for _ in range(max(3, block)):
                    contender.invoke(event, expected)
            except Failed as failure:
                failed(failure)
                contenders.remove(contender)
        for _ in range(turns):
            for contender in contenders:
                processor, own = contender.processor(), time.process_time()
                for _ in range(block):
                    add(figure, contender.name, contender.invoke(event))
                add(f"{figure}, processor", contender.name, (contender.processor() - processor) / block)
                add(f"{figure}, stub", contender.name, (time.process_time() - own) / block)
        for contender in contenders:
            add(f"{figure}, resident", contender.name, contender.memory("VmRSS"))
            add(f"{figure}, proportional", contender.name, contender.memory("Pss"))
            add(f"{figure}, peak", contender.name, contender.memory("VmHWM"))


def warm():
    """A small event, 10,000 invocations each in blocks of 100, on ten processes of each: one is faster or slower than the next by up to 8 %."""
    value = {"version": "2.0", "rawPath": "/hello", "headers": {"accept": "*/*"}, "body": "Hello, you", "n": 1}
    for _ in range(10):
        alternate("warm", [*PEERS, "trivial client"], value, turns=10, block=100)


def nested():
    """2 MB of objects in objects, echoed."""
    source = random.Random(1)
    rows = []
    while len(rows) % 100 or len(json.dumps(rows)) < 2_000_000:
        tags = [source.choice("abcdef") * 4 for _ in range(4)]
        rows.append({"id": len(rows), "price": source.random(), "tags": tags, "seller": {"name": "Zo\u00eb", "address": {"city": "K\u00f6ln", "zip": None}}, "sold": True})
    alternate("nested", PEERS, rows, turns=12)


def string():
    """A string of 5 MB, echoed: time, and the most memory the process ever had."""
    alternate("string", PEERS, {"data": "x" * 5_000_000}, turns=15)


SIZES = {"1 kB": 1_000, "10 kB": 10_000, "100 kB": 100_000, "1 MB": 1_000_000, "6 MB": 6_000_000}


def sizes():
    """A string echoed, from 1 kB to 6 MB."""
    for label, size in SIZES.items():
        alternate(label, PEERS, {"data": "x" * size}, turns=15, block=10 if size < 1_000_000 else 1)
    small, large = DATA["1 kB"], DATA["6 MB"]
    for name in large:
        add("growth", name, (statistics.median(large[name]) - statistics.median(small[name])) / 5_999)


def stream():
    """100 MB in chunks of 64 kB."""
    names = ["this runtime", "sendall loop"]
    if (NODE / "node_modules" / "aws-lambda-ric").exists() and shutil.which("node"):
        names.append("Node.js client")
    event = Event({})
    with started(names, "stream.handler") as contenders:
        for turn in range(46):
            if turn == 36:  # the first byte is not to wait until the sender has filled its socket and blocks
                os.sched_setaffinity(0, CORES[:1])
            for contender in contenders:
                first, seconds = contender.stream(event)
                if turn >= 36:
                    add("first byte", contender.name, first)
                elif turn:
                    add("bytes per second", contender.name, CHUNK * CHUNKS / seconds)
        for contender in contenders:
            add("stream, peak", contender.name, contender.memory("VmHWM"))


SLOTS = [1, 4, 16, 64]
WORKERS = {"async handler": ("this runtime", "wait_async.handler"), "plain handler": ("this runtime", "wait.handler"), "awslambdaric": ("awslambdaric", "wait.handler")}


def slots():
    """Managed Instances: N slots, a function that waits for 10 ms, every `next` answered at once."""
    event = Event({"hello": "you"})
    for _ in range(3):
        for count in SLOTS:
            for column, (name, handler) in WORKERS.items():
                with Contender(name, handler, cores=CORES, AWS_LAMBDA_MAX_CONCURRENCY=str(count)) as contender:
                    invocations = 50 * count
                    waiting = [contender.request()[0] for _ in range(count)]  # every slot is open
                    serve(contender, event, waiting, 3 * count)
                    pids = contender.processes()
                    processor = sum(map(contender.processor, pids))
                    seconds = serve(contender, event, waiting, invocations)
                    add(f"{count} slots, per second", column, invocations / seconds)
                    add(f"{count} slots, processor", column, (sum(map(contender.processor, pids)) - processor) / invocations)
                    add(f"{count} slots, memory", column, sum(contender.memory("Pss", pid) for pid in pids))
                    add(f"{count} slots, processes", column, len(pids))


def serve(contender, event, waiting, invocations):
    """Seconds for so many invocations, begun on the connections that wait for an event."""
    start = time.perf_counter()
    begun = answered = 0
    while answered < invocations:
        while waiting and begun < invocations:
            event.send(waiting.pop())
            begun += 1
        connection, body = contender.request()
        if body is None:
            waiting.append(connection)
        else:
            connection.sendall(ACCEPTED % date(int(time.time())))
            answered += 1
    seconds = time.perf_counter() - start
    return seconds


APPLICATIONS = {"asgi()": ("this runtime", "web_asgi.handler"), "Mangum here": ("this runtime", "web.handler"), "Mangum on awslambdaric": ("awslambdaric", "web.handler")}


def web():
    """A small FastAPI route behind an HTTP API, warm: five processes of each, in blocks of 50."""
    http = {"method": "GET", "path": "/items/7", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "curl"}
    event = Event({
        "version": "2.0", "routeKey": "$default", "rawPath": "/items/7", "rawQueryString": "q=you", "isBase64Encoded": False,
        "headers": {"accept": "*/*", "host": "id.execute-api.us-east-1.amazonaws.com", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
        "requestContext": {"http": http, "domainName": "id.execute-api.us-east-1.amazonaws.com", "stage": "$default"},
    })
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            contenders = {}
            for column, (name, handler) in APPLICATIONS.items():
                contender = contenders[column] = stack.enter_context(Contender(name, handler, PYTHONPATH=str(WEB)))
                contender.start()
                for _ in range(20):
                    contender.invoke(event)
            for _ in range(10):
                for column, contender in contenders.items():
                    processor = contender.processor()
                    for _ in range(50):
                        add("web", column, contender.invoke(event))
                    add("web, processor", column, (contender.processor() - processor) / 50)


# ---------------------------------------------------------------------- the tables

MS, US, MB, GB = (1e3, "ms"), (1e6, "µs"), (1, "MB"), (1e-9, "GB/s")
BOUNDS = [  # what, its samples, unit, of whom at most (at least, where more is better) how much
    ("cold start", "cold", MS, {"awslambdaric": 0.70, "floor": 1.15}),
    ("cold start, function imports json and logging", "cold, imports", MS, {"awslambdaric": 0.90}),
    ("cold start, nothing compiled of either", "cold, sources", MS, {"awslambdaric": 0.85}),
    ("cold start from source, the others compiled", "cold, source", MS, {"awslambdaric": None}),  # for comparison
    ("warm round trip, small event", "warm", US, {"awslambdaric": 0.27, "its 3.11 mode": 0.55, "floor": 1.15}),
    ("processor time per invocation", "warm, processor", US, {"awslambdaric": 0.20}),
    ("resident memory, warm", "warm, resident", MB, {"awslambdaric": 0.82}),
    ("proportional memory (PSS), warm", "warm, proportional", MB, {}),
    ("2 MB of nested objects echoed", "nested", MS, {"awslambdaric": 1.00}),
    ("5 MB string echoed", "string", MS, {"awslambdaric": 0.90}),
    ("5 MB string echoed, peak memory", "string, peak", MB, {"awslambdaric": 0.90}),
    *((f"{label} string echoed", label, US if size < 1e6 else MS, {}) for label, size in SIZES.items()),
    ("growth from 1 kB to 6 MB, per kB", "growth", US, {}),
]
STREAM = [
    ("100 MB streamed in 64 kB chunks", "bytes per second", GB, {"sendall loop": 0.90}),
    ("first byte after the event", "first byte", MS, {}),
    ("peak memory", "stream, peak", MB, {"most": 30}),
]


def cell(samples, unit):
    """Median and quartiles."""
    if not samples:
        return ""
    values = [sample * unit[0] for sample in samples]
    digits = 1 if statistics.median(values) < 100 else 0
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    spread = f" ({low:.{digits}f}–{high:.{digits}f})" if len(values) > 1 else ""
    return f"{middle:.{digits}f} {unit[1]}{spread}"


def table(rows, columns):
    rows = [row for row in rows if row[1] in DATA]
    if not rows:
        return
    print(f"\n| | {' | '.join(columns)} | against the bounds |")
    print("| --- " * (len(columns) + 2) + "|")
    for label, figure, unit, bounds in rows:
        samples = DATA[figure]
        ours, verdicts = statistics.median(samples["this runtime"]) if "this runtime" in samples else None, []
        for other, bound in bounds.items() if ours else ():
            if other == "most":
                verdicts.append(f"{'met' if ours < bound else 'NOT met'}: under {bound} {unit[1]}")
                continue
            ratio = ours / statistics.median(samples[other])
            if bound is None:
                verdicts.append(f"{ratio:.2f} of {other}")
                continue
            met = ratio >= bound if unit is GB else ratio <= bound
            verdicts.append(f"{'met' if met else 'NOT met'}: {ratio:.2f} of {other} (bound {bound:.2f})")
        print(f"| {label} | {' | '.join(cell(samples.get(name), unit) for name in columns)} | {'; '.join(verdicts)} |")


GROUPS = {group.__name__: group for group in (cold, warm, nested, string, sizes, stream, slots, web)}


def report():
    machine = re.search(r"(?m)^model name\s*: (.*)", Path("/proc/cpuinfo").read_text() + "\nmodel name: unknown")[1]
    print(f"{time.strftime('%Y-%m-%d')}, {platform.python_implementation()} {platform.python_version()}, {machine}, {len(CORES)} cores; repeat with `make bench PYTHON=python{sys.version_info[0]}.{sys.version_info[1]}`")
    table(BOUNDS, PEERS)
    if "bytes per second" in DATA:
        table(STREAM, list(DATA["bytes per second"]))
    if "1 slots, memory" in DATA:
        print(f"\n| slots, each invocation waits 10 ms | {' | '.join(WORKERS)} |")
        print("| --- " * (len(WORKERS) + 1) + "|")
        for count in SLOTS:
            cells = []
            for column in WORKERS:
                if column in DATA[f"{count} slots, memory"]:
                    rate, processor, memory, processes = (statistics.median(DATA[f"{count} slots, {what}"][column]) for what in ("per second", "processor", "memory", "processes"))
                    cells.append(f"{rate:.0f}/s, {processor * 1e6:.0f} µs processor, {processes:.0f} processes, {memory:.1f} MB PSS")
                else:
                    cells.append("")
            print(f"| {count} | {' | '.join(cells)} |")
    if len(DATA.get("web, processor", ())) == len(APPLICATIONS):
        print(f"\n| a small FastAPI route, warm | {' | '.join(APPLICATIONS)} | against the bounds |")
        print("| --- " * (len(APPLICATIONS) + 2) + "|")
        for label, figure, bounds in ("round trip", "web", {}), ("processor time", "web, processor", {"Mangum here": 1.00, "Mangum on awslambdaric": 1.00}):
            ours, verdicts = statistics.median(DATA[figure]["asgi()"]), []
            for other, bound in bounds.items():
                ratio = ours / statistics.median(DATA[figure][other])
                verdicts.append(f"{'met' if ratio <= bound else 'NOT met'}: {ratio:.2f} of {other} (bound {bound:.2f})")
            print(f"| {label} | {' | '.join(cell(DATA[figure][column], US) for column in APPLICATIONS)} | {'; '.join(verdicts)} |")
    if "cold" in DATA:
        print(f"\nOf the cold starts, `python3 -c pass` takes {cell(DATA['cold, interpreter']['floor'], MS)}.")
    if "warm" in DATA:
        own = statistics.median(DATA["warm, stub"]["trivial client"]) * 1e6
        print(f"\nThe stub costs {own:.0f} µs of processor time for each small invocation; a client that sends prebuilt bytes and parses nothing makes a round trip in {cell(DATA['warm']['trivial client'], US)}.")


def main(chosen):
    groups = [GROUPS[name] for name in chosen] or list(GROUPS.values())
    gc.disable()
    prepare([group.__name__ for group in groups])
    for group in groups:
        began = time.perf_counter()
        try:
            group()
        except Failed as failure:
            failed(failure)
        say(f"{group.__name__}: {time.perf_counter() - began:.1f} s")
    report()
    return bool(FAILURES)


if __name__ == "__main__":
    if set(sys.argv[1:]) - set(GROUPS):
        sys.exit(f"no such group: {' '.join(sys.argv[1:])}; there are {' '.join(GROUPS)}")
    sys.exit(main(sys.argv[1:]))
