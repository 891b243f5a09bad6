"""The execution environments of a function, more on demand, each with one invocation at a time, as on Lambda: for serve.py.

An `Environment` is one process of the function, an `Invocation` what happens in it between START and REPORT, `Fleet` has all
environments and replaces them when a file of the function changes.
"""

import collections
import contextlib
import os
import re
import signal
import threading
import time

from .api import LIMIT, too_large
from .files import Files, written_warning
from .hints import hint
from .process import Lambda
from .run import LONGEST_INIT, environment, exit_reason, init_report, memory_warning, patience, report

TAIL = 4096  # bytes of the log that the caller of an invocation may ask for
LONG_LOOK = 0.01  # seconds: in a folder with thousands of files no answer waits for a second look at them
SHUTDOWN = 0.5  # seconds between SIGTERM and SIGKILL
SETTLE = 1  # seconds after the answer in which the function asks for the next event, or its process ends, as after sys.exit()
FREE_SOON = 0.5  # seconds for which an event waits for the environment that is about to be free
FOREVER = 86_400  # seconds: the deadline that a function sees which is not timed out

Settings = collections.namedtuple("Settings", "folder handler timeout port")
Settings.__doc__ = """timeout: seconds, 0 for none. port: of the Runtime API, when the process is started by somebody else; otherwise None."""


begun = None  # the environment whose last line on stderr has no end


def show(data, environment=None):
    """Bytes of a log on stderr: an environment's, or lines of ours, which end a line that has been begun.

    The runtime ends the lines within a record with \\r, which a terminal does not show as a line break.
    """
    global begun
    with contextlib.suppress(OSError):  # nobody reads it any more: that shall not end the function
        data = re.sub(rb"\r(?!\n)", b"\n", data)
        data = b"\n" + data if begun is not None and begun is not environment else data
        begun = None if data.endswith(b"\n") else environment
        while data:
            data = data[os.write(2, data) :]


def say(text):
    show(f"{text}\n".encode("utf-8", "backslashreplace"))


class Environment(Lambda):
    """One process of the function and its Runtime API."""

    def __init__(self, settings):
        self.attached = settings.port is not None
        self.tail = bytearray()  # the end of the log of the invocation that is under way
        super().__init__(
            settings.folder, settings.handler, start=False, timeout=settings.timeout or FOREVER, echo=show,
            terminal=settings.timeout == 0, port=settings.port or 0,
        )
        self.limit = settings.timeout or None
        self.env = environment(self.env)
        self.arn = arn(self.env)
        self.restored = True  # a function for SnapStart goes on at once

    @property
    def ended(self):
        """Whether its process has ended or there was none; of somebody else's process only its connections are seen."""
        return not self.connections if self.attached else self.process is None or self.status is not None

    def sending(self, invocation):
        self.drain()
        self.tail.clear()
        self.write_lines(f"START RequestId: {invocation.request_id} Version: {self.env['AWS_LAMBDA_FUNCTION_VERSION']}\n")

    def print(self, data):
        self.tail += data
        del self.tail[:-TAIL]
        show(data, self)

    def write_lines(self, text):
        """Lines of Lambda's own. What the function has printed last need not end with a line break."""
        data = text.encode("utf-8", "backslashreplace")
        show(data)
        self.tail += data if self.tail.endswith(b"\n") or not self.tail else b"\n" + data
        del self.tail[:-TAIL]

    def received(self, request, data):
        self.drain()  # what was printed before it was sent

    def forget(self):
        """Forget what was, for an environment may serve for days."""
        with self.condition:
            for record in self.requests, self.delivered, self.posts, self.pending:
                record.clear()
            for source in self.sources():
                source.data.clear()

    def stop(self):
        """End it as Lambda does that shuts an environment down: SIGTERM, which the function may have a handler for, then SIGKILL."""
        if not self.attached and not self.ended:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGTERM)
            with self.condition:
                self.condition.wait_for(lambda: self.status is not None, SHUTDOWN)
        self.close()


def arn(env):
    return f"arn:aws:lambda:{env['AWS_REGION']}:123456789012:function:{env['AWS_LAMBDA_FUNCTION_NAME']}"


class Closing(Exception):
    """There will be no answer: everything ends."""


class Invocation:
    """An event on its way through an environment: `begin`, then its `chunks`, then `end`.

    answer: what the function has posted. error: the document that the caller gets instead of a response, or None.
    log: the last 4 kB that were logged, from START to REPORT, once it has ended.
    """

    def __init__(self, fleet, environment, event, headers):
        self.fleet, self.environment = fleet, environment
        self.answer = self.error = self.trouble = self.ended_at = self.log = None
        self.finished = False
        self.free_soon = False  # it has asked for the next event; the answer is on its way to the caller
        self.failed_init = None  # the post that says so
        self.cold = environment.ended and not environment.attached
        environment.forget()
        self.request_id = environment.send(body=event, headers=headers)

    def begin(self):
        """Wait until the function has answered, or has begun a stream, or has failed."""
        environment = self.environment
        try:
            if not self.deliver():
                return
        except OSError as error:  # of the process's start: its folder is gone, say
            self.trouble = f"RequestId: {self.request_id} Error: {error}"
            self.error = {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": self.trouble}
            return
        posts, request_id = environment.posts, self.request_id

        def begun():
            post = posts.get(request_id)
            return post and (post.done or post.streaming)

        if self.wait(begun):
            self.answer = posts[request_id]
            if not self.answer.streaming:
                self.judge()

    def deliver(self):
        """Start a process where there is none and hand the event to it; whether that went well."""
        environment, request_id = self.environment, self.request_id
        starts, limit = 0, LONGEST_INIT
        if environment.attached and environment.ended:
            say(f"{request_id} waits for the function's process, which is yours to start: the variables are on stdout, above")

        def over():
            failed = environment.init_error or environment.restore_error
            return request_id in environment.delivered or failed or starts and environment.ended and not environment.attached

        while True:
            if environment.ended and not environment.attached:
                self.fleet.start(environment)
                starts += 1
            with environment.condition:
                # A process that was idle may end before it takes the event: then a fresh one gets it.
                stop = environment.condition.wait_for(
                    lambda: over() or environment.ended and not environment.attached,
                    None if environment.attached or not environment.limit else limit,
                )
            if request_id in environment.delivered:
                return True
            if stop and not over():
                continue
            self.failed_init = environment.init_error or environment.restore_error
            if not stop and limit == LONGEST_INIT:
                limit, starts = environment.limit, starts + 1
                say(init_report(environment.handler, environment.limit))
                self.fleet.start(environment)
            elif self.failed_init:
                self.error = self.failed_init.json
                return False
            else:
                self.fail(environment.ended)
                return False

    def wait(self, ready):
        """Wait until ready(), or the function has ended or its time is over; whether it is ready."""
        environment = self.environment
        with environment.condition:
            end = environment.limit and environment.delivered[self.request_id] + patience(environment)
            environment.condition.wait_for(lambda: ready() or environment.ended, end and end - time.monotonic())
            if not ready() and environment.ended:  # what it sent before may still be on its way through a thread of the server
                environment.condition.wait_for(lambda: ready() or not environment.connections, 1)
            if ready():
                return True
            ended = environment.ended
        self.fail(ended)
        return False

    def fail(self, ended):
        """The function has ended without an answer, or has taken too long and is ended."""
        environment = self.environment
        if self.fleet.closing:
            raise Closing
        if ended:
            reason = exit_reason(environment.status or 0)
            self.error = {"errorType": "Runtime.ExitError", "errorMessage": f"RequestId: {self.request_id} {reason}"}
            self.trouble = f"RequestId: {self.request_id} {reason}"
        else:
            self.ended_at = time.monotonic()
            if not environment.attached:
                environment.kill()  # PYTHONFAULTHANDLER has shown where it was, just before
            late = f"Task timed out after {environment.limit}.00 seconds"
            self.error = {"errorType": "Sandbox.Timedout", "errorMessage": f"RequestId: {self.request_id} Error: {late}"}
            self.trouble = f"{self.request_id} {late}"

    def judge(self):
        """Whether the answer, which is here as a whole, is an error."""
        if self.answer.unwanted:
            raise ConnectionError("the client has left")
        if self.answer.complete:
            self.error = self.answer.error
        else:  # it was cut: the process has ended; on Managed Instances only a worker, and the runtime reports its error
            posts, request_id = self.environment.posts, self.request_id
            if self.wait(lambda: posts[request_id] is not self.answer and posts[request_id].complete):
                self.error = posts[request_id].error

    def chunks(self):
        """The bytes of the response as they come, each once; `error` is set behind them."""
        answer, n = self.answer, 0
        while self.wait(lambda: answer.done or len(answer.chunks) > n):
            if n == len(answer.chunks):
                return self.judge()
            when, data = answer.chunks[n]
            if answer.streaming:
                answer.chunks[n] = (when, b"")  # a stream may be long
            n += 1
            yield data

    def content(self):
        """The whole response, for who waits for the whole, and for whom it has an end: more than LIMIT bytes are an error, streamed as well."""
        content = bytearray()
        for data in self.chunks():
            if len(content) <= LIMIT:  # nobody gets what follows, but the function goes on
                content += data
        if len(content) > LIMIT and not self.error:
            self.error = too_large()
            say(f"{self.request_id} has streamed over {LIMIT} bytes: invoke_with_response_stream or INVOKE_MODE=RESPONSE_STREAM brings them")
        return bytes(content)

    def abandon(self):
        """Nobody wants the rest: the Runtime API hangs up, and the function's `finally` runs."""
        self.answer.hang_up()
        self.wait(lambda: self.answer.done)

    def end(self):
        """The lines that Lambda ends an invocation with."""
        environment = self.environment
        if self.finished or self.fleet.closing:
            return
        self.finished = True
        ended = self.ended_at or (self.answer and self.answer.ended) or time.monotonic()
        with environment.condition:
            environment.condition.wait_for(lambda: environment.polling or environment.ended, SETTLE)
            environment.drain()
            self.free_soon = bool(environment.polling)
        if self.answer and environment.ended and not environment.attached and not self.trouble:
            self.trouble = f"RequestId: {self.request_id} {exit_reason(environment.status)}"
        lines = [self.trouble] if self.trouble else []
        if self.request_id in environment.delivered:
            lines.append(f"END RequestId: {self.request_id}")
        status = None if not self.trouble else "timeout" if self.ended_at else "error"
        lines.append(report(environment, self.request_id, self.answer or self.failed_init, ended, self.cold, status))
        warning = memory_warning(environment)
        lines += [warning] if warning else []
        with environment.condition:
            environment.write_lines("".join(f"{line}\n" for line in lines))
            self.log = bytes(environment.tail)
        if self.free_soon:
            self.fleet.note_free_soon(1)
        for line in self.fleet.written(), self.error and hint(environment.task_root, environment.handler, self.error):
            if line:
                say(line)

    def settle(self):
        """Wait until the function is free for the next event, which it asks for."""
        environment = self.environment
        if not environment.ended and self.request_id in environment.delivered:
            if not self.wait(lambda: environment.polling or environment.ended) and not environment.attached:
                say(self.trouble)


class Fleet:
    """All environments of a function: at most `concurrency` at a time."""

    def __init__(self, settings, concurrency):
        self.settings = settings
        self.lock = threading.Condition()
        self.slots = threading.Semaphore(concurrency)
        self.files = Files(settings.folder)
        self.environments = set()
        self.stopping = 0  # how many are no longer among these, and are being ended
        self.idle = []  # most recently used last
        self.free_soon = 0  # how many more will be idle in a moment
        self.told = set()  # the files of which was said that the function may have written them
        self.generation = 0  # how often a file has changed
        self.closing = False

    @contextlib.contextmanager
    def invoke(self, event, headers):
        """An invocation that has begun; it has its turn when an environment is free."""
        with self.slots:
            environment, generation = self.take()
            invocation = None
            try:
                invocation = Invocation(self, environment, event, headers)
                invocation.begin()
                yield invocation
            finally:
                try:
                    if invocation and not self.closing:
                        if invocation.answer and not invocation.answer.done:
                            invocation.abandon()
                        invocation.end()
                        invocation.settle()
                finally:
                    self.give_back(environment, generation)
                    if invocation and invocation.free_soon:
                        self.note_free_soon(-1)

    def written(self):
        """A warning of files that have changed since an invocation began, and of which nothing was said yet; or None."""
        if self.files.seconds > LONG_LOOK:
            return None
        paths = [path for path in self.files.differing(self.files.look()) if path not in self.told]
        self.told.update(paths)
        return written_warning(paths)

    def note_free_soon(self, more):
        with self.lock:
            self.free_soon += more
            self.lock.notify_all()

    def take(self):
        """An environment for an invocation: the one that was free last, or a new one."""
        with self.lock:
            # A caller that has its answer may send the next event before we have taken the environment back: it shall
            # not start another one.
            self.lock.wait_for(lambda: self.idle or not self.free_soon, FREE_SOON)
            changed = self.files.changed()
            stale = []
            if changed:
                self.generation += 1
                stale, self.idle = self.idle, []
            if changed and self.environments:
                more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
                say(f"{changed[0]}{more} changed: the function starts anew")
            if self.settings.port is not None:  # somebody else's process is restarted by somebody else
                stale, self.idle = [], self.idle or stale
            gone = [environment for environment in self.idle if environment.process and environment.ended]
            self.idle = [environment for environment in self.idle if environment not in gone]
            environment = self.idle.pop() if self.idle else None
            generation = self.generation
        self.stop(stale + gone)
        return environment or self.create(), generation

    def prepare(self):
        """A first environment, whose process starts when the first event comes."""
        environment = self.create()
        self.idle.append(environment)
        return environment

    def create(self):
        with self.lock:
            if self.closing:
                raise Closing
            environment = Environment(self.settings)
            self.environments.add(environment)
            return environment

    def start(self, environment):
        with self.lock:  # none is started behind the back of close()
            if self.closing:
                raise Closing
            environment.start()

    def give_back(self, environment, generation):
        environment.forget()
        with self.lock:
            keep = environment.attached or generation == self.generation and not environment.ended
            if keep and not self.closing:
                self.idle.append(environment)
                return
        self.stop([environment])

    def stop(self, environments):
        """End environments, all at once."""
        with self.lock:
            mine = [each for each in environments if each in self.environments]
            self.environments.difference_update(mine)
            self.stopping += len(mine)
        threads = [threading.Thread(target=each.stop) for each in mine[1:]]
        for thread in threads:
            thread.start()
        if mine:
            mine[0].stop()
        for thread in threads:
            thread.join()
        with self.lock:
            self.stopping -= len(mine)
            self.lock.notify_all()

    def close(self):
        with self.lock:
            self.closing = True
        self.stop(list(self.environments))
        with self.lock:  # other threads may have begun to end one: its process and its folder shall go as well
            self.lock.wait_for(lambda: not self.stopping, 2 * SHUTDOWN)
