"""make bench: this runtime beside awslambdaric and beside a bare loop, measured in one run.

    make bench PYTHON=python3.13            everything, under ten minutes once build/ is filled
    make bench PYTHON=python3.13 ONLY=warm  single groups: real cold warm framing base64 heavy web tokens
                                            stream compute slots string nested sizes instructions

Every contender runs on the same interpreter, against the same stub of the Runtime API, in turns
(A B C A B C ...), so that what else the machine does hits all of them alike. What is printed is
Markdown: medians, quartiles in brackets, and the ratios with the bounds they are held against. A
time never fails the run; a contender that does not start or answers wrongly does.

The stub is this process: one epoll, prebuilt answers, nothing parsed but the method, the path's end
and the length of the body. The clock therefore starts and stops exactly where bytes leave and
arrive. What the stub itself costs is measured with a client that sends prebuilt bytes, and printed.
Stub and contender share one core, since they take turns anyway and waking another core took longer
than all that is measured here (round trip of the bare loop: 49 µs on one core, 160 to 200 on two).
Managed Instances run wherever the kernel puts them.
"""

import contextlib
import gc
import json
import os
import platform
import random
import re
import shutil
import signal
import statistics
import sys
import sysconfig
import time
from pathlib import Path

from contenders import BUILD, CONTENDERS, NODE, PYTHON, REAL, REAL_FUNCTIONS, WEB, launch, prepare
from stub import ACCEPTED, CHUNK, CHUNKS, CORES, FAILURES, TOKEN_COUNT, Event, Failed, date, failed, say

# ---------------------------------------------------------------------- the figures

DATA = {}  # figure -> contender -> samples
PEERS = ["this runtime", "awslambdaric", "its 3.11 mode", "bare loop"]


def add(figure, contender, value):
    DATA.setdefault(figure, {}).setdefault(contender, []).append(value)


def cold():
    """From exec to the first `next`, a new process each time."""
    runs = [("cold", name, name, "echo.handler") for name in PEERS]
    runs += [("cold, imports", name, name, "imports.handler") for name in PEERS]
    runs += [("cold, source", "this runtime", "from source", "echo.handler"), ("cold", "trivial client", "trivial client", "")]
    runs += [("cold, sources", "awslambdaric", "awslambdaric from source", "echo.handler")]
    for name in PEERS[:2]:
        runs += [("cold, no SIGTERM", name, name, "without_sigterm.handler"), ("cold, SIGTERM", name, name, "sigterm.handler")]
    for turn in range(31):
        for run in list(runs):
            figure, column, name, handler = run
            try:
                with launch(name, handler) as process:
                    seconds = process.start()
            except Failed as failure:
                failed(failure)
                runs.remove(run)
            if turn:  # the first fills the page cache
                add(figure, column, seconds)
        start = time.perf_counter()
        os.waitpid(os.posix_spawn(PYTHON, [PYTHON, "-c", "pass"], os.environ), 0)
        add("cold, interpreter", "bare loop", time.perf_counter() - start)
    for name in PEERS[1:]:
        DATA.setdefault("cold, source", {})[name] = DATA["cold"][name]
    DATA.setdefault("cold, sources", {})["this runtime"] = DATA["cold, source"]["this runtime"]
    for name in PEERS[:2]:
        pairs = zip(*(DATA.get(figure, {}).get(name, []) for figure in ("cold, SIGTERM", "cold, no SIGTERM")))
        for seconds, without in pairs:
            add("cold, SIGTERM adds", name, seconds - without)


@contextlib.contextmanager
def started(names, handler="echo.handler"):
    """The contenders that came up, each waiting for its first event."""
    with contextlib.ExitStack() as stack:
        contenders = []
        for name in names:
            try:
                contender = stack.enter_context(launch(name, handler))
                contender.start()
                contenders.append(contender)
            except Failed as failure:
                failed(failure)
        yield contenders


def alternate(figure, names, value, turns, block=1, framing=None):
    """An echoed event on processes that stay, `block` round trips of each in turn; also processor time and memory."""
    event = Event(value, framing)
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


def framing():
    """The two ways in which AWS's server frames an event, by turns, on the same processes; and the peak memory of large ones."""
    events = {way: Event({"data": "x" * 3000}, way) for way in ("chunk", "length")}
    for _ in range(3):
        with started(PEERS) as contenders:
            for turn in range(20):
                for way, event in events.items():
                    for contender in contenders:
                        for _ in range(50):
                            seconds = contender.invoke(event)
                            if turn:
                                add(f"3 kB {way}", contender.name, seconds)
    for way in events:
        alternate(f"5.8 MB {way}", PEERS, {"data": "x" * 5_800_000}, turns=15, framing=way)
    for figure, column in ("3 kB", ""), ("5.8 MB", ""), ("5.8 MB", ", peak"):
        for way, name in ("chunk", "this runtime"), ("length", "Content-Length"):
            DATA.setdefault(f"{figure}{column}, framings", {})[name] = DATA[f"{figure} {way}{column}"]["this runtime"]


def base64():
    """A response of base64, 10 kB and 6 MB: processor time."""
    for label, size, turns, block in ("10 kB", 10_000, 30, 50), ("6 MB", 6_000_000, 12, 1):
        event = Event({"size": size})
        with started(PEERS[:3], "base64_body.handler") as contenders:
            for contender in contenders:
                contender.invoke(event)
            for _ in range(turns):
                for contender in contenders:
                    processor = contender.processor()
                    for _ in range(block):
                        contender.invoke(event)
                    add(f"{label} of base64, processor", contender.name, (contender.processor() - processor) / block)


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


def tokens():
    """20,000 chunks of 20 bytes, as a language model's: microseconds for each."""
    event = Event({})
    runs = [("generator", "this runtime", "tokens.handler"), ("async generator", "this runtime", "tokens_async.handler"), ("sendall loop", "sendall of 20 bytes", "")]
    with contextlib.ExitStack() as stack:
        contenders = {column: stack.enter_context(launch(name, handler)) for column, name, handler in runs}
        for contender in contenders.values():
            contender.start()
        for turn in range(11):
            for column, contender in contenders.items():
                processor = contender.processor()
                contender.stream(event, least=20 * TOKEN_COUNT)
                if turn:
                    add("tokens", column, (contender.processor() - processor) / TOKEN_COUNT)
    DATA["tokens, async"] = {"this runtime": DATA["tokens"].pop("async generator"), "sendall loop": DATA["tokens"]["sendall loop"]}
    DATA["tokens"]["this runtime"] = DATA["tokens"].pop("generator")


HTTP_EVENT = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/items/7", "rawQueryString": "q=you", "isBase64Encoded": False,
    "headers": {"accept": "*/*", "host": "id.execute-api.us-east-1.amazonaws.com", "x-forwarded-port": "443", "x-forwarded-proto": "https"},
    "requestContext": {
        "http": {"method": "GET", "path": "/items/7", "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "curl"},
        "domainName": "id.execute-api.us-east-1.amazonaws.com", "stage": "$default",
    },
}
WAYS = ["make dist", "awslambdaric, compiled", "awslambdaric, as SAM ships it"]


def evict(folder):
    """Have the kernel forget what it has read of the files in a folder, as on a machine that never ran the function."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def real():
    """Cold starts of functions with the libraries that people use: to `next`, also from a cold disk, and to the first response."""
    event, runs = Event(HTTP_EVENT), []
    os.sync()  # pages that are not written yet cannot be evicted
    for name in REAL_FUNCTIONS:
        folder = REAL / name
        if name == "heavy" or not (folder / "dist").exists():
            continue
        runs.append((name, WAYS[0], "this runtime", folder / "dist", "function.handler", [folder / "dist" / "bootstrap"]))
        runs.append((name, WAYS[1], "awslambdaric", folder / "compiled", "function.handler", None))
        runs.append((name, WAYS[2], "awslambdaric", folder / "shipped", "function.handler", None))
        if name == "FastAPI":
            runs.append((f"{name}, asgi()", WAYS[0], "this runtime", folder / "dist", "function_asgi.handler", [folder / "dist" / "bootstrap"]))
    for turn in range(10):
        for run in list(runs):
            name, way, contender, folder, handler, command = run
            try:
                with launch(contender, handler, folder, command) as process:
                    seconds = process.start(), process.first(event)[0]
                    memory = process.memory("VmRSS")
                evict(folder)
                with launch(contender, handler, folder, command) as process:
                    cold_disk = process.start()
            except Failed as failure:
                failed(failure)
                runs.remove(run)
                continue
            if turn:
                for what, value in zip(("next", "first response", "resident", "next, pages evicted"), (*seconds, memory, cold_disk)):
                    add(f"{name} to {what}", way, value)
    for way in WAYS[1:]:  # what asgi() stands beside is Mangum there
        for what in "next", "first response", "resident", "next, pages evicted":
            if f"FastAPI, asgi() to {what}" in DATA:
                DATA[f"FastAPI, asgi() to {what}"][way] = DATA[f"FastAPI to {what}"][way]


def heavy():
    """10,000 rows made in a process that has imported FastAPI and boto3: the first invocation, and the collector's longest pause."""
    folder, event = REAL / "heavy", Event({})
    runs = [("this runtime", folder / "dist", [folder / "dist" / "bootstrap"]), ("awslambdaric", folder / "compiled", None)]
    for _ in range(9):
        for name, task_root, command in runs:
            with launch(name, "function.handler", task_root, command) as process:
                process.start()
                add("heavy, first", name, process.first(event)[1])
                pauses = [json.loads(process.body)["longest pause"]]
                for _ in range(20):
                    process.invoke(event)
                    pauses.append(json.loads(process.body)["longest pause"])
                add("heavy, pause", name, max(pauses))


def compute():
    """Managed Instances: async handlers that compute for 2 ms, every `next` answered at once: who waits how long?"""
    event = Event({"hello": "you"})
    for count in 16, 64:
        with launch("this runtime", "compute.handler", cores=CORES, AWS_LAMBDA_MAX_CONCURRENCY=str(count)) as contender:
            waiting = [contender.request()[0] for _ in range(count)]
            served, began = dict.fromkeys(waiting, 0), {}
            deadline = time.perf_counter() + 6
            processes = len(contender.processes()) - 1
            while time.perf_counter() < deadline:
                while waiting:
                    connection = waiting.pop()
                    began[connection] = time.perf_counter()
                    event.send(connection)
                connection, body = contender.request()
                if body is None:
                    waiting.append(connection)
                    continue
                wait = time.perf_counter() - began[connection]
                connection.sendall(ACCEPTED % date(int(time.time())))
                if time.perf_counter() > deadline - 5:  # the first second warms up
                    served[connection] += 1
                    add(f"{count} slots, wait", "this runtime", wait)
            DATA[f"{count} slots, served"] = {"this runtime": list(served.values())}
            DATA[f"{count} slots, fair wait"] = {"this runtime": [count / processes * 0.002]}


def instructions():
    """Instructions of each small invocation, counted by cachegrind where valgrind is there."""
    if not shutil.which("valgrind"):
        say("no valgrind here: instructions are not counted")
        return
    value = {"version": "2.0", "rawPath": "/hello", "headers": {"accept": "*/*"}, "body": "Hello, you", "n": 1}
    for label, event in ("small event", Event(value)), ("3 kB in a chunk", Event({"data": "x" * 3000})):
        for name in PEERS:
            counts = []
            for invocations in 100, 500:
                log = BUILD / "cachegrind"
                shutil.rmtree(log, ignore_errors=True)
                log.mkdir()
                command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--trace-children=yes", f"--cachegrind-out-file={log}/%p.out", f"--log-file={log}/%p"]
                with launch(name, command=[*command, *CONTENDERS[name][0]]) as process:
                    process.start()
                    for _ in range(invocations):
                        process.invoke(event)
                    os.kill(process.pid, signal.SIGTERM)
                    os.waitpid(process.pid, 0)
                text = "".join(file.read_text() for file in log.iterdir() if not file.suffix)
                counts.append(max(int(count.replace(",", "")) for count in re.findall(r"I\s+refs:\s+([0-9,]+)", text)))
            add(f"instructions, {label}", name, (counts[1] - counts[0]) / 400)


SLOTS = [1, 4, 16, 64]
WORKERS = {"async handler": ("this runtime", "wait_async.handler"), "plain handler": ("this runtime", "wait.handler"), "awslambdaric": ("awslambdaric", "wait.handler")}


def slots():
    """Managed Instances: N slots, a function that waits for 10 ms, every `next` answered at once."""
    event = Event({"hello": "you"})
    for _ in range(3):
        for count in SLOTS:
            for column, (name, handler) in WORKERS.items():
                with launch(name, handler, cores=CORES, AWS_LAMBDA_MAX_CONCURRENCY=str(count)) as contender:
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
    event = Event(HTTP_EVENT)
    for _ in range(5):
        with contextlib.ExitStack() as stack:
            contenders = {}
            for column, (name, handler) in APPLICATIONS.items():
                contender = contenders[column] = stack.enter_context(launch(name, handler, PYTHONPATH=str(WEB)))
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

IS_OPTIMISED = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
COUNT = (1e-3, "thousand")
MS, US, MB, GB = (1e3, "ms"), (1e6, "µs"), (1, "MB"), (1e-9, "GB/s")
BOUNDS = [  # what, its samples, unit, of whom at most (at least, where more is better) how much
    ("cold start", "cold", MS, {"awslambdaric": 0.70, "bare loop": 1.15}),
    ("cold start, function imports json and logging", "cold, imports", MS, {"awslambdaric": 0.90}),
    ("cold start, function with a SIGTERM handler", "cold, SIGTERM", MS, {"awslambdaric": None}),
    ("what the handler adds", "cold, SIGTERM adds", MS, {"most": 5}),
    ("cold start, nothing compiled of either", "cold, sources", MS, {"awslambdaric": 0.85}),
    ("cold start from source, the others compiled", "cold, source", MS, {"awslambdaric": None}),  # for comparison
    ("warm round trip, small event", "warm", US, {"awslambdaric": 0.27, "its 3.11 mode": 0.55, "bare loop": 1.15}),
    ("processor time per invocation", "warm, processor", US, {"awslambdaric": 0.20}),
    ("resident memory, warm", "warm, resident", MB, {"awslambdaric": 0.82}),
    ("proportional memory (PSS), warm", "warm, proportional", MB, {}),
    ("3 kB event echoed, in one chunk", "3 kB chunk", US, {"awslambdaric": 0.35}),
    ("5.8 MB event echoed, in one chunk", "5.8 MB chunk", MS, {"awslambdaric": 0.90}),
    ("its peak memory", "5.8 MB chunk, peak", MB, {}),
    ("a response of 10 kB base64, processor time", "10 kB of base64, processor", US, {"awslambdaric": 0.25}),
    ("a response of 6 MB base64, processor time", "6 MB of base64, processor", MS, {"awslambdaric": 0.75 if IS_OPTIMISED else 0.80}),
    ("first invocation after FastAPI's and boto3's import, 10,000 rows", "heavy, first", MS, {"awslambdaric": 0.50}),
    ("the collector's longest pause in 21 such invocations", "heavy, pause", MS, {"most": 7}),
    ("2 MB of nested objects echoed", "nested", MS, {"awslambdaric": 1.00}),
    ("5 MB string echoed", "string", MS, {"awslambdaric": 0.90}),
    ("5 MB string echoed, peak memory", "string, peak", MB, {"awslambdaric": 0.90}),
    *((f"{label} string echoed", label, US if size < 1e6 else MS, {}) for label, size in SIZES.items()),
    ("growth from 1 kB to 6 MB, per kB", "growth", US, {}),
    ("instructions, small event", "instructions, small event", COUNT, {"awslambdaric": None, "bare loop": None}),
    ("instructions, 3 kB in a chunk", "instructions, 3 kB in a chunk", COUNT, {"awslambdaric": None, "bare loop": None}),
]
FRAMINGS = [
    ("3 kB event", "3 kB, framings", US, {"Content-Length": 1.05}),
    ("5.8 MB event", "5.8 MB, framings", MS, {"Content-Length": 1.05}),
    ("5.8 MB event, peak memory", "5.8 MB, peak, framings", MB, {"Content-Length": 1.05}),
]
REAL_BOUNDS = {"boto3": (0.85, 0.44), "Powertools": (0.82, 0.44), "FastAPI": (0.87, 0.44), "FastAPI, asgi()": (None, None), "pandas": (0.97, 0.44)}
EVICTED_BOUND = 0.82  # for those that import Python code more than libraries in C
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


def against(samples, bounds, unit, own="this runtime"):
    """The ratios to the others' medians, and whether they are within the bounds."""
    verdicts = []
    for other, bound in bounds.items() if own in samples else ():
        ours = statistics.median(samples[own])
        if other == "most":
            verdicts.append(f"{'met' if ours * unit[0] < bound else 'NOT met'}: under {bound} {unit[1]}")
        elif other in samples:
            ratio = ours / statistics.median(samples[other])
            met = "" if bound is None else "met: " if (ratio >= bound if unit is GB else ratio <= bound) else "NOT met: "
            verdicts.append(f"{met}{ratio:.2f} of {other}" + ("" if bound is None else f" (bound {bound:.2f})"))
    return "; ".join(verdicts)


def table(rows, columns, title="", own="this runtime"):
    rows = [row for row in rows if row[1] in DATA]
    if not rows:
        return
    print(f"\n| {title} | {' | '.join(columns)} | against the bounds |")
    print("| --- " * (len(columns) + 2) + "|")
    for label, figure, unit, bounds in rows:
        samples = DATA[figure]
        print(f"| {label} | {' | '.join(cell(samples.get(name), unit) for name in columns)} | {against(samples, bounds, unit, own)} |")


def summary():
    """Five rows of what users feel."""
    rows = [
        ("cold start, FastAPI, as deployed", "FastAPI to first response", MS, WAYS[0], WAYS[2]),
        ("cold start, bare function", "cold", MS, "this runtime", "awslambdaric"),
        ("warm round trip, 3 kB event", "3 kB chunk", US, "this runtime", "awslambdaric"),
        ("processor time per small invocation", "warm, processor", US, "this runtime", "awslambdaric"),
        ("resident memory, warm", "warm, resident", MB, "this runtime", "awslambdaric"),
    ]
    rows = [row for row in rows if {row[3], row[4]} <= DATA.get(row[1], {}).keys()]
    if rows:
        print("\n| in short | this runtime | awslambdaric | ratio |\n| --- | --- | --- | --- |")
    for label, figure, unit, own, other in rows:
        ours, theirs = (statistics.median(DATA[figure][name]) * unit[0] for name in (own, other))
        print(f"| {label} | {ours:.1f} {unit[1]} | {theirs:.1f} {unit[1]} | {ours / theirs:.2f} |")


GROUPS = {group.__name__: group for group in (real, cold, warm, framing, base64, heavy, web, tokens, stream, compute, slots, string, nested, sizes, instructions)}


def report():
    machine = re.search(r"(?m)^model name\s*: (.*)", Path("/proc/cpuinfo").read_text() + "\nmodel name: unknown")[1]
    print(f"{time.strftime('%Y-%m-%d')}, {platform.python_implementation()} {platform.python_version()} ({'with' if IS_OPTIMISED else 'without'} profile-guided optimisation), {machine}, {len(CORES)} cores; repeat with `make bench PYTHON=python{sys.version_info[0]}.{sys.version_info[1]}`")
    rows = [(f"{name} to {what}", f"{name} to {what}", MS, dict(zip(WAYS[1:], bounds))) for name, bounds in REAL_BOUNDS.items() for what in ("next", "first response")]
    rows += [(f"{name} to next, pages evicted", f"{name} to next, pages evicted", MS, {WAYS[1]: EVICTED_BOUND if name in ("boto3", "Powertools", "FastAPI") else None}) for name in REAL_BOUNDS]
    rows += [(f"{name}, resident after it", f"{name} to resident", MB, {}) for name in REAL_BOUNDS]
    table(rows, WAYS, "cold start of", WAYS[0])
    table(BOUNDS, PEERS)
    table(FRAMINGS, ["this runtime", "Content-Length"], "here, in a chunk and with Content-Length")
    table([("20-byte chunks, processor time each", "tokens", US, {"sendall loop": 1.25}), ("from an async generator", "tokens, async", US, {"sendall loop": 1.5})], ["this runtime", "sendall loop"])
    for count in 16, 64:
        if f"{count} slots, wait" in DATA:
            waits, served = DATA[f"{count} slots, wait"]["this runtime"], DATA[f"{count} slots, served"]["this runtime"]
            fair = DATA[f"{count} slots, fair wait"]["this runtime"][0]
            print(f"\n{count} slots that compute 2 ms: {len(waits) / 5:.0f}/s; wait {statistics.median(waits) * 1e3:.0f} ms, at worst {max(waits) * 1e3:.0f} "
                  f"(a fair queue {fair * 1e3:.0f}); served {min(served)} to {max(served)} times, {statistics.mean(served):.0f} on average.")
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
        others = {"Mangum here": 1.00, "Mangum on awslambdaric": 1.00}
        for label, figure, bounds in ("round trip", "web", {}), ("processor time", "web, processor", others):
            cells = " | ".join(cell(DATA[figure][column], US) for column in APPLICATIONS)
            print(f"| {label} | {cells} | {against(DATA[figure], bounds, US, 'asgi()')} |")
    if "cold" in DATA:
        print(f"\nOf the cold starts, `python3 -c pass` takes {cell(DATA['cold, interpreter']['bare loop'], MS)}.")
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
    summary()
    (BUILD / "data.json").write_text(json.dumps({"python": platform.python_version(), "figures": DATA}))  # for picture.py
    return bool(FAILURES)


if __name__ == "__main__":
    if set(sys.argv[1:]) - set(GROUPS):
        sys.exit(f"no such group: {' '.join(sys.argv[1:])}; there are {' '.join(GROUPS)}")
    sys.exit(main(sys.argv[1:]))
