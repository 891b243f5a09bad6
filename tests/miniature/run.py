"""make run: a function's log goes to stderr as it comes, its response to stdout, the rest to stderr.

    python3 tests/miniature run FOLDER [FILE.FUNCTION]

The event is in the variable EVENT, the seconds that it may take in TIMEOUT. Where make has set MAKE_GIVEN, TIMEOUT counts
only if that names it, as one of make's command line: one of the environment is the function's own.
"""

import base64
import contextlib
import json
import math
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

from .api import SPLIT, STREAMED_HTTP, too_large
from .files import Files, written_warning
from .hints import hint, top_level
from .process import REPO, Lambda, as_shown, own_bootstrap

LONGEST, LONGEST_ON_DEMAND = 5400, 1800  # seconds: what Lambda allows a function at most; the first on Managed Instances only
DEFAULT_TIMEOUT = 900  # seconds: what TIMEOUT= is if it is not given
LONGEST_INIT = 10  # seconds: what Lambda allows its import
ERROR = re.compile(rb'^\[ERROR\] |"errorType": ', re.M)  # what the runtime logs when the function has failed
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(folder, handler=""):
    check_folder(folder)
    plain = name_example(folder, handler)
    handler = handler or find_handler(folder)
    timeout = read_timeout(str(DEFAULT_TIMEOUT))
    given = os.environ.get("EVENT", "")
    try:
        event = read_event(given, folder)
    except SystemExit as error:
        if is_given("EVENT") or not given:
            raise
        print(f"EVENT of the environment is no event, and left to the function: {error}", file=sys.stderr)
        given, event = "", read_event("", folder)
    if not given and not plain:
        path = os.path.join(folder, "event.json")
        print(f"EVENT=@{path}" if os.path.isfile(path) else f"EVENT={{}}, since there is no {path}", file=sys.stderr)
    for number in INTERRUPTS:
        signal.signal(number, leave)
    with Lambda(folder, handler, start=False, timeout=timeout) as aws:
        screen = Screen(aws)
        aws.env = environment(aws.env)
        aws.restored = True  # a function for SnapStart goes on at once
        files = Files(folder)
        request_id = aws.send(body=event)
        try:
            aws.start()
        except OSError as error:  # of its own bootstrap
            sys.exit(f"{aws.command[0]} does not start: {error.strerror}; is the program there that its #! line names?")
        status = show(screen, request_id)
        warning = written_warning(files.changed())
        if warning:
            screen.say(warning)
        return status


def folder_variable():
    """What the person has called the variable that names the function's folder."""
    return os.environ.get("MAKE_FUNCTION", "FUNCTION")


def name_example(folder, handler):
    """Say it where make took its example, which it does when it is given no folder; but not of `make run` in this repository, which is True."""
    if not os.path.samefile(folder, os.path.join(REPO, "tests", "hello")):
        return False
    plain = not handler and ("MAKE_FUNCTION" not in os.environ or os.path.samefile(os.curdir, REPO))
    if not plain:
        print(f"{folder_variable()}={folder}", file=sys.stderr)
    return plain


def check_folder(folder):
    if sys.version_info < (3, 9):
        sys.exit(f"Python {sys.version.split()[0]} is too old: 3.9 or later, as in make run PYTHON=python3.13")
    if not folder:
        sys.exit(f"{folder_variable()}= is empty: pass the folder that the function is in")
    if not os.path.isdir(folder):
        sys.exit(f"{folder_variable()}={folder}: " + ("pass the folder that it is in" if os.path.isfile(folder) else "no such folder"))
    memory = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
    if not re.fullmatch("0*[1-9][0-9]{0,8}", memory, re.ASCII):
        sys.exit(f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE={memory}: a number of megabytes, as 128 is, without a unit")
    own = own_bootstrap(folder)
    if own and not os.access(own, os.X_OK):
        sys.exit(f"{own} is not executable, and Lambda starts it: chmod +x {shlex.quote(str(own))}")
    if own:
        print(f"{own} is the function's, in place of this runtime's: the handler is what it calls", file=sys.stderr)


def read_timeout(default, least=1):
    """The seconds in the variable TIMEOUT."""
    timeout = os.environ.get("TIMEOUT") if is_given("TIMEOUT") else None
    timeout = timeout or default
    if not re.fullmatch("[0-9]{1,9}", timeout) or not least <= int(timeout) <= LONGEST:
        sys.exit(f"TIMEOUT={timeout}: seconds from {least} to {LONGEST}")
    if int(timeout) > LONGEST_ON_DEMAND:
        say = f"TIMEOUT={timeout}: Lambda allows {LONGEST_ON_DEMAND} s, and more only to asynchronous invocations on Managed Instances"
        print(say, file=sys.stderr)
    return int(timeout)


def leave(number, frame):
    """End at a signal: once, for a second Ctrl-C shall not keep the process from being put away."""
    for other in INTERRUPTS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def find_handler(folder, needed=True):
    """The handler that the folder seems to have, function.handler first. Where it is not needed, since the function's own bootstrap or a
    person's debugger starts the process, that is what it is called if it cannot be told."""
    needed = needed and not own_bootstrap(folder)
    paths = [path for path in pathlib.Path(folder).glob("*.py") if path.name != "runtime.py" or path.read_bytes() != (REPO / "runtime.py").read_bytes()]
    files = sorted(path.name for path in paths if len(paths) == 1 or path.name != "runtime.py")
    names = ["function.py", "lambda_function.py", "app.py", "main.py", "index.py", "handler.py"]
    file = next((name for name in names if name in files), files[0] if len(files) == 1 else None)
    if file is None and not needed:
        return "function.handler"
    if file is None:
        sys.exit(f"{folder} has {', '.join(files) or 'no .py file'}: pass HANDLER=file.function")
    bound, functions = top_level(os.path.join(folder, file))
    name = next((name for name in ("handler", "lambda_handler") if name in bound), None)
    if functions and not name and needed:
        which = functions[0] if len(functions) == 1 else "function"
        sys.exit(f"{file} defines {', '.join(functions)}: pass HANDLER={file[:-3]}.{which}")
    handler = f"{file[:-3]}.{name or 'handler'}"
    if handler != "function.handler" and needed:
        print(f"HANDLER={handler}", file=sys.stderr)
    return handler


def is_given(name):
    """Whether a variable of the environment is meant for the Lambda in miniature, and not for the function."""
    return "MAKE_GIVEN" not in os.environ or name in os.environ["MAKE_GIVEN"].split()


def read_event(given, folder):
    """The bytes of the event: given as JSON or as @file, else event.json in the folder, else {}."""
    def refuse(constant):
        raise ValueError(f"it has {constant}")

    if given == "@":
        sys.exit("EVENT=@: pass the file's name as well, as in EVENT=@event.json")
    path = given[1:] if given.startswith("@") else os.path.join(folder, "event.json")
    name = f"EVENT={given}" if given.startswith("@") else "EVENT" if given else path
    try:
        text = given if name == "EVENT" else pathlib.Path(path).read_text("utf-8-sig")
        json.loads(text, parse_constant=refuse)
        return text.encode("utf-8")
    except FileNotFoundError:
        if not given:
            return b"{}"
        sys.exit(f"{name}: no such file")
    except OSError as error:
        sys.exit(f"{name}: {error.strerror}")
    except (ValueError, RecursionError) as error:
        hint = f" (a file is EVENT=@{given})" if name == "EVENT" and os.path.isfile(given) else ""
        sys.exit(f"{name} is {'nested too deeply for Python' if isinstance(error, RecursionError) else f'not JSON: {error}'}{hint}")


def environment(lambdas):
    """The caller's variables, since a function is configured through them, under those that Lambda itself sets."""
    fixed = {name: value for name, value in lambdas.items() if not name.startswith("AWS_") or name == "AWS_LAMBDA_RUNTIME_API"}
    fixed["PATH"] = lambdas["PATH"].split(":")[0] + ":" + os.environ.get("PATH", os.defpath)
    return {**lambdas, **callers_variables(), **fixed}


def callers_variables():
    """The environment without what make has put in: its flags, and the variables of its command line that are its own."""
    variables = {name: value for name, value in os.environ.items() if not re.match("MAKE|MFLAGS$|GNUMAKEFLAGS$", name)}
    given = os.environ.get("MAKE_GIVEN", "").split()
    before = variables_of(os.environ["MAKE_PID"]) if "MAKE_PID" in os.environ else {}
    for name in given:  # `TIMEOUT=5s make run TIMEOUT=3`: the function sees 5s
        variables.pop(name, None)
        if name in before:
            variables[name] = before[name]
    return variables


def variables_of(pid):
    """The environment that a process was started with; {} where there is no /proc."""
    try:
        pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if b"=" in pair)


class Screen:
    """What is printed, in the order in which it came: the log on stderr, the chunks of a stream on stdout.

    A terminal shows both: a line that one of them has begun is ended before something else is printed.
    """

    def __init__(self, aws):
        self.aws = aws
        self.coming = []  # (bytes, None) of the log and (bytes, request) of a body
        self.begun = None  # the file whose last line has no end
        self.metadata = None  # of a streamed HTTP response, as far as it is here; None: no stream has begun
        aws.echo = lambda data, request=None: self.coming.append((data, request))

    def wait(self, ready, seconds):
        """Print what comes until ready(), for so many seconds at most; whether it is."""
        end = time.monotonic() + seconds
        while True:
            with self.aws.condition:
                # In pieces: Python hears of a Ctrl-C that comes in the microsecond before it waits when the wait is over.
                self.aws.condition.wait_for(lambda: self.coming or ready(), min(end - time.monotonic(), 0.5))
                if any(request is None and ERROR.search(data) for data, request in self.coming):
                    # It ends a stream, but may be here before the last chunks are.
                    self.aws.condition.wait_for(self.answered, 0.5)
                    self.coming.sort(key=lambda piece: piece[1] is None)
                is_ready = ready()
                over = is_ready or time.monotonic() >= end
                if over:
                    self.aws.drain()
                coming, self.coming = self.coming, []
            for data, request in coming:
                if request is None:
                    self.write(as_shown(data), sys.stderr)
                elif request.streaming:
                    self.chunk(data, request.headers.get("Content-Type") == STREAMED_HTTP)
            if over:
                return is_ready

    def answered(self):
        return self.aws.status is not None or any(post.done for post in self.aws.posts.values())

    def chunk(self, data, http):
        """Print a stream's chunk, after the metadata if there is."""
        if self.metadata is None:
            self.say("")
            self.metadata = b""
        if http and SPLIT not in self.metadata:
            self.metadata += data
            if SPLIT not in self.metadata:
                return
            head, data = self.metadata.split(SPLIT, 1)
            self.say(pretty(head.decode("utf-8")) + "\n")
        self.write(data, sys.stdout)

    def write(self, data, file):
        if self.begun is not file:
            self.end_line()
        with open(file.fileno(), "wb", closefd=False) as whole:  # file.buffer may stop halfway with PYTHONUNBUFFERED set
            whole.write(data)
        if data:
            self.begun = None if data.endswith(b"\n") else file

    def say(self, text):
        self.end_line()
        print(text, file=sys.stderr, flush=True)

    def end_line(self):
        if self.begun:
            print(file=sys.stderr, flush=True)
            self.begun = None


def show(screen, request_id):
    """Print what comes of the invocation, and give the exit status."""
    aws = screen.aws

    def answered():
        return aws.init_error or aws.restore_error or aws.posts.get(request_id)

    def over():  # once the next one is asked for: what the function says until then belongs to it
        if aws.status is not None:
            return True
        answer = answered()
        return answer and answer.done and aws.polling and (answer.complete or not is_managed(aws))

    def begun():
        return over() or request_id in aws.delivered

    in_time = screen.wait(begun, LONGEST_INIT)
    if not in_time:
        screen.say(init_report(aws.handler, aws.timeout))
        aws.start()
        in_time = screen.wait(begun, aws.timeout)
    in_time = in_time and screen.wait(over, patience(aws))
    if aws.status is not None:  # what it sent before it died may still be on its way through a thread of the server
        screen.wait(lambda: not aws.connections, 1)
    answer, failed = answered(), True
    ended = answer.ended if in_time and answer and answer.done else time.monotonic()
    if answer and answer.complete:
        failed = (end_stream if answer.streaming else show_document)(screen, answer)
    trouble = what_went_wrong(aws, request_id, answer, in_time)
    if trouble:
        screen.say(trouble)
    screen.say(report(aws, request_id, answer, ended))
    warning = memory_warning(aws)
    if warning:
        screen.say(warning)
    return 1 if failed or trouble else 0


def what_went_wrong(aws, request_id, answer, in_time):
    """The line that Lambda writes into the log of a function that did not go on to the next invocation; or a hint."""
    advice = hint(aws.task_root, aws.handler, answer.json) if answer and answer.complete and answer.kind != "response" else None
    if advice or answer and answer.kind not in ("response", "error"):  # of the init or restore: the log says it
        return advice
    if exited(aws, answer):
        return f"RequestId: {request_id} {exit_reason(aws.status)}"
    if in_time:
        return None
    where = "" if os.environ.get("PYTHONFAULTHANDLER") else " (PYTHONFAULTHANDLER=1 shows where)"
    return f"{request_id} Task timed out after {aws.timeout}.00 seconds{where}"


def is_managed(aws):
    """Whether the function is one for Managed Instances: of what is late or has died there, the runtime makes an error itself."""
    return "AWS_LAMBDA_MAX_CONCURRENCY" in aws.env


def patience(aws):
    """Seconds after which a function is ended that has not answered; it has one more where the runtime is to do that."""
    return aws.timeout + is_managed(aws)


def init_report(handler, timeout):
    """What Lambda logs of an import that has taken too long, and what it does then."""
    again = f", as a part of the invocation, which may take {timeout} s" if timeout else ""
    return (
        f"INIT_REPORT Init Duration: {LONGEST_INIT}000.00 ms\tPhase: init\tStatus: timeout\n"
        f"The import of {handler.rpartition('.')[0]} has taken {LONGEST_INIT} s: as on Lambda it begins anew{again}"
    )


def exit_reason(status):
    """How Lambda says that a process has ended by itself."""
    if status == 0:
        return "Error: Runtime exited without providing a reason"
    return "Error: Runtime exited with error: " + (f"exit status {status}" if status > 0 else f"signal: {signal.strsignal(-status).lower()}")


def exited(aws, answer):
    """Whether the process ended by itself; after an error of the init or restore it has to."""
    return aws.status is not None and (answer is None or answer.kind in ("response", "error"))


def show_document(screen, answer):
    """A buffered response or an error; whether it is an error."""
    screen.say("")
    body = answer.body
    if answer.status == 413:
        body = json.dumps(too_large()).encode()
    with contextlib.suppress(ValueError, RecursionError):
        if answer.headers.get("Content-Type", "").startswith("application/json"):
            body = pretty(body.decode("utf-8")).encode("utf-8") + b"\n"
    screen.write(body, sys.stdout)
    screen.say("")
    return answer.kind != "response" or answer.status == 413


def end_stream(screen, answer):
    """The error of a stream that failed on the way; whether it did."""
    screen.say("")
    document = base64.b64decode(answer.trailers.get("Lambda-Runtime-Function-Error-Body", ""))
    if document:
        screen.say(pretty(document.decode("utf-8")) + "\n")
    return bool(answer.error_type)


def pretty(text):
    """JSON with line breaks and indentation, its numbers and strings as they were written."""
    json.loads(text)
    lines, depth = [""], 0
    for token in re.findall(r'"(?:[^"\\]|\\.)*"|\[\s*\]|\{\s*\}|[\[\]{},:]|[^\s\[\]{},:"]+', text):
        depth += (token in ("[", "{")) - (token in ("]", "}"))
        if token in ("]", "}"):
            lines.append("  " * depth)
        lines[-1] += {":": ": "}.get(token, token if token.startswith('"') else "".join(token.split()))
        if token in ("[", "{", ","):
            lines.append("  " * depth)
    return "\n".join(lines)


def report(aws, request_id, answer, ended, cold=True, status=None):
    """The line that Lambda ends an invocation with; its init, of a process that was started for it, is billed as well.

    status: what it says of an invocation that has no answer.
    """
    fields = {}
    started = aws.delivered.get(request_id)
    init = ((aws.first_next or (answer.time if answer else time.monotonic())) - aws.started) * 1000 if cold else 0
    if started:
        duration = (ended - started) * 1000
        fields["Duration"] = f"{duration:.2f} ms"
        fields["Billed Duration"] = f"{math.ceil(duration + init)} ms"
    fields["Memory Size"] = aws.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] + " MB"
    memory = peak_memory(aws.process.pid) if aws.process else None
    if memory:
        fields["Max Memory Used"] = f"{memory} MB"
    if cold:
        fields["Init Duration"] = f"{init:.2f} ms"
    if status == "timeout":
        fields["Status"] = status
    elif exited(aws, answer) or status:
        fields.update({"Status": "error", "Error Type": "Runtime.ExitError"})
    return f"REPORT RequestId: {request_id}\t" + "\t".join(f"{name}: {value}" for name, value in fields.items())


def memory_warning(aws):
    """A line for a function that has taken more memory than it has, or None: here it went on, on Lambda it is killed."""
    limit, used = int(aws.env["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]), aws.process and peak_memory(aws.process.pid)
    if not used or used <= limit:
        return None
    enough = -(-used // 64) * 64
    return (
        f"warning: the function used {used} MB, more than its {limit} MB: Lambda would have killed it; "
        f"AWS_LAMBDA_FUNCTION_MEMORY_SIZE={enough} in front of make gives it more here"
    )


def peak_memory(pid):
    """The process's in MB, rounded up; None when it is gone, or where nothing tells."""
    try:
        return math.ceil(int(re.search(r"VmHWM:\s*([0-9]+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1]) / 1024)
    except (OSError, TypeError):  # no such file, or no memory left in it
        pass
    try:  # where there is no /proc
        found = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.strip()
    except OSError:  # slim images have no ps either
        return None
    return math.ceil(int(found) / 1024) if found.isdigit() and int(found) else None
