"""A Python runtime for AWS Lambda, in one file on the standard library.

Lambda starts `bootstrap`, a shell script that runs `python -u -c` with a line that calls `main()`.
That puts the function's folders on `sys.path`, imports the handler that `_HANDLER` names
(`file.function`) and reports what goes wrong on the way as an init error. Then it loops until
Lambda ends the process: ask the Runtime API for the next invocation, call the handler with its
event and a context, post the response, the stream or the error. A script that is its own bootstrap
calls `run(handler)` instead.

"The function" is the user's Lambda function, all its code; "the handler" is the callable in it. An
"answer" is what goes out for an invocation, be it response, stream or error; a "reply" is what the
Runtime API says to a request. "The context" is a LambdaContext; those of the module contextvars are
"context variables".

"The loop" is the coroutine _serve_invocations(), written once; asyncio's is always "the event loop".
For a plain handler the socket blocks, so that no `await` in the loop ever suspends and asyncio is never
imported. When the handler is async, or first returns something that has to be awaited, an event
loop is made, and the same coroutine goes on there.

awslambdaric is AWS's own runtime for Python, started by its bootstrap.py on managed runtimes. Names,
log formats and error texts follow it where functions or tools depend on them.

The Runtime API: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

# SPDX-License-Identifier: MIT-0

# Each import is paid for at every cold start. json, signal, socket and contextvars are taken at their C
# modules: `import json` costs 9 ms and `import socket` 8, where `python -c pass` takes 14.
import _json
import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import gc
import io
import marshal
import os
import sys
import time
from _contextvars import ContextVar, copy_context
from _frozen_importlib_external import PathFinder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Awaitable, Callable, Coroutine, Generator, NoReturn, Optional, Sequence, Union

    Handler = Callable[[Any, "LambdaContext"], Any]
    Headers = dict[str, str]
    Buffer = Union[bytes, bytearray, memoryview]
    Reply = tuple[int, Headers, Buffer]
    StackFrame = tuple[str, int, str, str]
    ErrorDocument = dict[str, Any]
    SendAnswer = Callable[[], Awaitable[object]]
    Message = dict[str, Any]
    AsgiApp = Callable[[dict[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]
    WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]

__all__ = ["LambdaContext", "asgi", "main", "run", "wsgi"]
__version__ = "1.1.0"

# A function may replace time.time() and time.sleep(), as libraries that freeze time do.
_now, _now_exactly, _sleep = time.time, time.perf_counter, time.sleep

# ---- How a process starts and ends -----------------------------------------------------------

# The exit statuses. The handler's sys.exit(n) ends the process with n, and sys.exit("text") with
# 1 after the text. 0 is an orderly end: the handler's sys.exit(), or a SIGTERM handler's.
_FAILED = 1  # an init error, a Runtime API that is away or breaks its rules, an uncaught exception
_FAILED_BEFORE_SNAPSHOT = 64  # SnapStart, as awslambdaric has it
_FAILED_AFTER_RESTORE = 65
_INTERRUPTED = 130  # Ctrl-C


def run(handler: "Handler") -> None:
    """Serve invocations with `handler(event, context)` until Lambda ends the process.

    For a script that is its own bootstrap. The handler may be any callable: what it returns goes
    out as JSON (bytes as they are), an awaitable is awaited, an iterator or async iterator is
    streamed. Ends by raising SystemExit: with status 1 when the Runtime API cannot be reached or
    misbehaves, and with the handler's own status when the handler calls sys.exit().

    Returns at once in a child of multiprocessing or a subinterpreter, which only imports the
    script again: its parent is the one that serves invocations.
    """
    # In such a child the script's module calls itself one of these. That sys.modules has the name is not enough:
    # in a process that has such children, multiprocessing has put `__main__` there as "__mp_main__", too.
    for name in ("__mp_main__", "<fake __main__>"):
        if getattr(sys.modules.get(name), "__name__", None) == name:
            return
    sys.meta_path.insert(0, _ImportHook())
    _live(lambda: handler)


def main() -> "NoReturn":
    """Serve invocations with the handler that `_HANDLER` names: what `bootstrap` calls."""
    task_root = os.environ.get("LAMBDA_TASK_ROOT") or os.getcwd()

    def find_handler() -> "Handler":
        os.chdir(task_root)
        name = os.environ.get("_HANDLER")
        if name is None:
            message = "_HANDLER is not set: it names the handler, as in function.handler"
            raise _Fault("Runtime.MalformedHandlerName", message)
        return _get_handler(name)

    sys.argv[:] = [__file__]
    # bootstrap runs this with `python -c`, which sets no `__file__`. A main module without one passes for
    # an interactive session: dotenv would look for .env in the wrong folder, pandas shorten its output.
    sys.modules["__main__"].__file__ = __file__
    _quicken_imports()
    _set_path(task_root)
    _live(find_handler)


def _live(find_handler: "Callable[[], Handler]") -> "NoReturn":
    """The whole life of a process: initialise the function, serve its invocations, exit."""
    address = os.environ.get("AWS_LAMBDA_RUNTIME_API", "")
    log_descriptor = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
    limit = os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "")
    status = _FAILED
    _set_up_output()
    if log_descriptor.isdecimal():
        _process.log_descriptor = int(log_descriptor)
        _process.log_identity = _identify(_process.log_descriptor)
    try:
        if limit.isdecimal() and int(limit):
            # Managed Instances (last section): several invocations at once, each in a slot. This
            # process becomes the supervisor of forked workers. They call _serve() from in there,
            # and what they raise comes up to this `try` as well. The supervisor ends in there, too.
            _Supervisor(address, find_handler, int(limit)).supervise()
        else:
            _serve(address, find_handler)
    except Exception as exception:
        # In a process that serves, and so has clients, an OSError of the runtime's own calls means that the
        # connection is lost. In the supervisor, which has none, it means that fork() has failed.
        # issubclass(), not isinstance(): post_error() tells why.
        if issubclass(type(exception), _ApiError) or (_process.clients and _is_our_own(exception)):
            name = f"AWS_LAMBDA_RUNTIME_API={address}:" if address else "AWS_LAMBDA_RUNTIME_API"
            _note(f"{name} {getattr(exception, 'strerror', exception)}")
            _tell_supervisor(_API_IS_GONE)
        else:
            _log_exception(exception)  # a signal handler of the function's has raised it, or fork() has
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            status = exit.code or 0
        else:
            _write(2, f"{_message_of(exit.code)}\n".encode("utf-8", "backslashreplace"))
    for connection in (_process.extension, *(client.connection for client in _process.clients)):
        if connection is not None:
            connection.close()  # Python 3.9 with -X dev crashes at its end on a socket left open
    import atexit

    # sys.exit() first waits for the threads that the function has left running. Lambda does not: an alarm
    # limits that to a second. When the threads have ended, sys.exit() calls the atexit functions, the last
    # registered first. Ours is the last registered: it cancels the alarm. The other atexit functions, as an
    # error tracker's, may take longer than a second; and after them the interpreter removes the alarm's
    # handler, so that the alarm would kill the process.
    _signal.signal(_signal.SIGALRM, lambda signum, frame: os._exit(status))
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, [_signal.SIGALRM])
    _signal.alarm(1)
    atexit.register(_signal.alarm, 0)
    gc.unfreeze()  # objects left in reference cycles are finalised at the end as ever
    sys.exit(status)


class _Process:
    """What is true of this process as a whole. The one instance is `_process`."""

    def __init__(self) -> None:
        self.is_forked_child = False  # by the function's fork(): the invocation is the parent's to answer
        # Lambda's descriptor for framed log records; None: the log is stdout. And what _identify() said of it
        # at first: the function may have closed it since, and opened another file under its number.
        self.log_descriptor: "Optional[int]" = None
        self.log_identity: "Optional[tuple[int, int]]" = None
        self.function_facts: "tuple[Optional[str], ...]" = ()  # what all contexts share; set after init
        # The context of the latest invocation, for log records of threads that have no context
        # variables of their own. It stays after the invocation's end, until the next begins. It is None
        # before the first, and where several invocations share the process.
        self.context: "Optional[LambdaContext]" = None
        self.event_loop: "Any" = None  # that the runtime runs on; None as long as it runs without one
        self.loop_identities: "list[Any]" = []  # what _identify() said of its descriptors at first
        self.clients: "list[LambdaRuntimeClient]" = []  # one for each invocation that it takes at a time
        self.is_shared = False  # several invocations share the process: async handlers on Managed Instances
        self.is_ending = False  # True: the invocations at hand are finished, and no more events asked for
        # The connection on which the runtime has registered an extension, so that Lambda sends SIGTERM.
        self.extension: "Optional[_Connection]" = None
        # asyncio's selectors whose epoll the function has closed. They are never freed: that would close
        # what is open under their numbers by now.
        self.lost_selectors: "list[Any]" = []
        self.asgi_handlers: "list[_AsgiHandler]" = []  # whose lifespans have started; _run_loops() ends them
        self.board: "Optional[_Board]" = None  # of a worker on Managed Instances, which its supervisor reads


_process = _Process()
_this_module = sys.modules[__name__]

# A context variable: the LambdaContext of the invocation whose code runs here. It follows the function's
# tasks, and its threads where Python hands context variables on (asyncio.to_thread, copy_context).
_current_context: "ContextVar[Optional[LambdaContext]]" = ContextVar("context", default=None)


# ---- Initialisation --------------------------------------------------------------------------

# What a function imports stays. With its threshold of 700 the collector would look through these objects
# again and again while they are made, which takes 8 % of the import of FastAPI and boto3, and then through
# all of them at once in an invocation, 10 ms or more. So it runs seldom during init (of the 130,000 objects
# that those two make, 500 are garbage), and then gc.freeze() takes what is there out of its sight. Objects
# are freed as ever when their last reference goes.
_THRESHOLD_OF_INIT = 200_001  # if this is still set after init, the function has set none of its own


def _serve(
    address: str, find_handler: "Callable[[], Handler]", slots: int = 1, is_first: bool = True
) -> "NoReturn":
    """Initialise the function and serve its invocations, until SystemExit or _ApiError.

    An async handler is given up to `slots` invocations at a time. `is_first` is False in a worker
    that is not the first of its supervisor.
    """
    make_client = LambdaRuntimeClient if _process.board is None else _WorkerClient
    client = make_client(address)
    client.connection.open()  # now: the function may use up all descriptors
    if is_first and os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper() in ("DEBUG", "TRACE"):
        _log_version()
    clients = _process.clients = [client]
    os.register_at_fork(after_in_child=_let_go_in_child)
    thresholds = gc.get_threshold()
    gc.set_threshold(_THRESHOLD_OF_INIT, *thresholds[1:])
    try:
        limit = os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY")
        if limit and _process.board is None:  # with a usable number this process would be a worker
            message = f"AWS_LAMBDA_MAX_CONCURRENCY is {limit!r}: it has to be a whole number, at least 1"
            raise _Fault("Runtime.InvalidConcurrency", message)
        handler = find_handler()
        is_async = _is_async(handler)
        if is_async:
            event_loop = _get_event_loop()  # here, so that what goes wrong with it is an init error
            if isinstance(handler, _AsgiHandler):
                event_loop.run_until_complete(handler.start())
    except BaseException as exception:
        _fail_init(client, exception, _FAILED)
    gc.freeze()
    if gc.get_threshold() == (_THRESHOLD_OF_INIT, *thresholds[1:]):  # else the function has set its own
        gc.set_threshold(*thresholds)
    _prepare_for_sigterm(address, is_async, may_register=is_first)
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        _take_snapshot(client)
    _process.function_facts = _read_function_facts()
    _tell_supervisor(_ASYNC_READY if is_async else _PLAIN_READY)
    if os.environ.get("PYTHONFAULTHANDLER"):
        _watch_deadlines()
    if is_async and slots > 1:
        _process.is_shared = True
        clients.extend(make_client(address) for _ in range(slots - 1))
    _run_loops(clients, handler, is_async)


if (3, 11) <= sys.version_info < (3, 14):
    # Pythons 3.11 to 3.13 keep the frames of calls in chunks of 16 kB. A call that does not fit into
    # the present chunk maps a new one and unmaps it on return (python/cpython#142183): 10 us for a
    # call instead of 40 ns, a thousand times in the import of pandas. So the frame of _serve()
    # claims 128 kB: it gets a chunk of 256 kB, and the calls below it use what is left. Memory
    # counts only once it is touched.
    _serve.__code__ = _serve.__code__.replace(co_stacksize=1 << 14)


def _set_path(task_root: str) -> None:
    """sys.path as Lambda has it: the function, the layers, AWS's SDK, the interpreter's own."""
    site_packages = f"/opt/python/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    first = [task_root, site_packages, "/opt/python"]
    interpreter_path = [path for path in sys.path if path]  # `python -c` has put "" there, the current folder
    sdk = os.environ.pop("_RUNTIME_SDK", None)  # the folder of a managed runtime's bootstrap.py
    if sdk is not None:
        if sdk not in interpreter_path:
            interpreter_path.insert(0, sdk)
        os.environ.setdefault("PYTHONPATH", sdk)  # for Pythons that the function starts
    sys.path[:] = [*first, *interpreter_path]
    sys.meta_path.insert(0, _ImportHook([path for path in interpreter_path if path not in first]))
    standard_library = os.path.dirname(os.__file__)
    if os.path.exists(f"{standard_library}/.modules"):  # compiled modules in one file (section below)
        _import_from_one_file(standard_library)
    for folder in first:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        if ".modules" in names:
            _import_from_one_file(folder)
        if any(name.endswith((".pth", ".start")) for name in names):
            import site

            site.addsitedir(folder)
    added_by_pth = sys.path[len(first) + len(interpreter_path) :]
    _make_room([*first, *added_by_pth])


def _make_room(folders: "list[str]") -> None:
    """Let the function have a `runtime.py` or `runtime/` of its own in one of these folders.

    A module or package takes the name over. A copy of this file does not: what its asgi() returns
    would not be an _AsgiHandler to this module. A folder of modules without `__init__.py` is
    joined to this module: both `runtime.asgi` and the function's `runtime.handlers` are found.
    """
    for folder in folders:
        spec = PathFinder.find_spec(__name__, [folder])
        if spec and spec.origin and os.path.realpath(spec.origin) != os.path.realpath(__file__):
            try:
                with open(spec.origin, "rb") as file:
                    if file.readline(99).startswith(b'"""A Python runtime for AWS Lambda, in one file'):
                        continue  # a copy in the function's zip; the one that runs is a layer's or an image's
            except OSError:
                pass  # who imports it will see
            del sys.modules[__name__]
            # pickle imports a class by the name of its module. `runtime` is now the function's: so these four
            # bear a name under which _ImportHook finds this module.
            for kind in (LambdaContext, CognitoIdentity, ClientContext, Client):
                kind.__module__ = "awslambdaric.lambda_context"
            return
    portions = [f"{folder}/{__name__}" for folder in folders if os.path.isdir(f"{folder}/{__name__}")]
    if portions:
        globals()["__path__"] = portions


def _fail_init(
    client: "LambdaRuntimeClient", exception: BaseException, status: int, error_type: "Optional[str]" = None
) -> "NoReturn":
    """Report an init error and exit."""
    if _process.is_forked_child and isinstance(exception, SystemExit):
        raise exception  # the usual end of a child that the function's import has forked
    document, _ = _log_exception(exception)
    client.post_init_error(document, error_type)
    sys.exit(status)


def _let_go_in_child() -> None:
    """Close the connections on which invocations come, in a child that the function has forked.

    A child that held them open would keep a dead parent's `next` alive: the Runtime API would
    hand it an event that nobody reads.
    """
    _process.is_forked_child = True
    _output_lock._at_fork_reinit()  # type: ignore[attr-defined] # another thread may have been writing
    if _process.board is not None:
        _process.board.memory = bytearray(_process.board.memory)  # what is written there reaches nobody
    for client in _process.clients:
        client.connection.close()
    if _process.event_loop is not None:
        _part_from_parent(_process.event_loop)


def _part_from_parent(event_loop: "Any") -> None:
    """In a forked child, make asyncio's event loop its own.

    The two share one epoll: where the child unregistered a descriptor, its parent would miss what
    happens on it. And the child has a copy of each task, where only the code that has called fork()
    is to go on: so the steps of all others are cancelled.
    """
    # The child's signals would be written into the self-pipe, which the two share: the parent would handle them.
    _signal.set_wakeup_fd(-1)
    selector: "Any" = getattr(event_loop, "_selector", None)
    if event_loop.is_closed() or not hasattr(selector, "fileno"):
        return  # the event loop is closed, or another library's, or polls without an epoll
    import asyncio
    import select

    with select.epoll() as epoll:
        os.dup2(epoll.fileno(), selector.fileno(), inheritable=False)
    for handle in (*event_loop._ready, *event_loop._scheduled):
        handle.cancel()
    registered_by_parent = len(selector.get_map())  # which still lists what the parent has registered

    def keep_watch() -> None:
        """Run when the forking code returns or awaits, then each 0.1 s; end a child that has no work."""
        asyncio._set_running_loop(event_loop)  # which fork() has reset
        if event_loop._stopping:
            return  # the forking code has ended: _run_loops() is about to exit with its status
        # The threads are counted before the handles are listed: one that ends in between may have added a handle.
        nothing_can_come = len(sys._current_frames()) < 2 and len(selector.get_map()) <= registered_by_parent
        handles = (*event_loop._ready, *event_loop._scheduled)  # this call's own is on neither any more
        if nothing_can_come and all(handle.cancelled() for handle in handles):
            _end_in_child(_FAILED, "waits for what only its parent has")
        event_loop.call_later(0.1, keep_watch)

    def handle_exception(event_loop: "Any", details: "dict[str, Any]") -> None:
        # fork() resets the running loop, so that from 3.14 on asyncio raises a RuntimeError when the step
        # of the task that has forked is over. What the step itself has raised is the error's __context__.
        exception: "Any" = details.get("exception")
        if "is not the running loop" not in str(exception):
            event_loop.default_exception_handler(details)
        elif exception.__context__ is not None:
            raise exception.__context__

    event_loop._ready.append(asyncio.Handle(keep_watch, (), event_loop))
    event_loop.set_exception_handler(handle_exception)


def _end_in_child(status: int = 0, why: str = "came back from the function's code") -> "NoReturn":
    """End a child that the function has forked: the invocation is its parent's to answer."""
    _note(f"a forked child {why}; it ends here")
    os._exit(status)


# ---- The loop --------------------------------------------------------------------------------


async def _serve_invocations(client: "LambdaRuntimeClient", request_handler: "Handler") -> "Any":
    """Answer one invocation after the other; return the code that the process is to exit with."""
    try:
        while not _process.is_ending:
            invocation = await client.wait_next_invocation()
            try:
                await handle_event_request(client, request_handler, invocation)
            except _ApiError as exception:
                client.note_end_of_invocation()  # since nothing else will be tried to answer it
                if not _process.is_shared:
                    raise
                _note(f"Runtime API: {exception}")  # the others in this process are not to suffer for it
                client.connection.close()
        client.note_end_of_invocation()  # which wait_next_invocation() does, where one follows
        return 0
    except SystemExit as exit:
        return exit.code
    finally:
        client.connection.close()  # at once, while others finish: what has ended shall get no event


class _EventLoopNeeded:
    """await _EventLoopNeeded() is all that suspends the loop while it has no event loop.

    The yield goes up through all its callers to the send() in _run_loops(). That moves the
    connections to an event loop and steps the same coroutine on there: when this await returns,
    connection.event_loop is set.
    """

    def __await__(self) -> "Generator[None, None, None]":
        _get_event_loop()  # here, so that what goes wrong with it is an error of this invocation
        yield


def _run_loops(clients: "list[LambdaRuntimeClient]", handler: "Handler", is_async: bool) -> "NoReturn":
    """Run the loop for each client. When one ends, let the others finish their invocations; then exit.

    With a plain handler its one client begins without an event loop, and suspends when it needs one.
    """
    coroutines: "list[Any]" = [_serve_invocations(client, handler) for client in clients]
    # An async handler has the event loop from the start, so that tasks that the function has made while it was
    # imported run while `next` waits.
    if not is_async:
        try:
            # In a copy of the context variables: all plain invocations share it, and what they
            # set there is not seen by the tasks of the async ones that come later.
            copy_context().run(coroutines[0].send, None)
        except StopIteration as end:
            _tell_supervisor(_RETIRES)  # now: it starts another worker without waiting for atexit functions
            sys.exit(end.value)
    import asyncio

    event_loop = _process.event_loop = _get_event_loop()
    _guard_self_pipe(event_loop)
    for client in clients:
        client.connection.move_to(event_loop)
    results: "list[Any]" = []  # what the first loop that has ended returned or raised
    is_cleaning_up = False  # True at the end: the event loop runs once more, and is not stopped by note_end()

    def stop_if_all_have_ended() -> None:
        if not is_cleaning_up and not any(coroutine.cr_frame for coroutine in coroutines):
            event_loop.stop()

    def waits(client: "LambdaRuntimeClient") -> bool:
        """Whether it waits for an event of which nothing has come.

        Asked where there are several clients. These are _WorkerClients, which set `invocation`.
        """
        return client.invocation is None and not client.connection.has_received()

    def close_waiting() -> None:
        for client, coroutine in zip(clients, coroutines):
            if waits(client):
                coroutine.close()
        stop_if_all_have_ended()

    def note_end(result: "Any") -> None:
        # Only the first is needed. The traceback of a later one would keep the function's objects until the
        # interpreter shuts down, when their __del__ cannot print() any more.
        if not results:
            results.append(result)
        if not (_process.is_ending or _process.is_forked_child):
            _process.is_ending = True
            if not isinstance(result, _ApiError):  # without the API another worker would fare no better
                _tell_supervisor(_RETIRES)
            if len(clients) > 1:
                # A loop that still waits for its event ends; one to which an event is on its way serves it first.
                for client in filter(waits, clients):
                    client.connection.ask_no_more()
                event_loop.call_later(1, close_waiting)  # if the API does not heed that
        if _process.is_forked_child:
            event_loop.stop()  # its other coroutines are copies of its parent's
        else:
            stop_if_all_have_ended()

    # On Managed Instances a worker watches deadlines itself if it has told its supervisor, in _serve(), that the
    # handler is async. Where a plain one has returned something to await, the supervisor goes on watching them.
    if _process.board is not None and _process.board.told()[:1] == _ASYNC_READY:

        def abandon(client: "_WorkerClient") -> None:
            coroutines[clients.index(client)].close()
            note_end(0)  # so the worker ends when its other invocations have

        _DeadlineWatch(event_loop, clients, abandon)
    for coroutine in coroutines:
        _step_on(event_loop, coroutine, note_end)
    try:
        while True:
            try:
                event_loop.run_forever()
                break
            except OSError:  # the epoll could not be polled: the event loop has lost nothing of its work
                if not _mend_event_loop(event_loop):
                    raise
        if not results:
            _note("the function has stopped the event loop, and with it the runtime")
            sys.exit(0)
        if isinstance(results[0], BaseException):
            raise results[0]
        sys.exit(results[0])
    finally:
        _process.is_ending = is_cleaning_up = True
        if not _process.is_forked_child:  # the tasks that a child has are its parent's
            for asgi_handler in _process.asgi_handlers:
                event_loop.run_until_complete(asgi_handler.end())
            tasks = asyncio.all_tasks(event_loop)
            for task in tasks:
                task.cancel()
            if tasks:
                event_loop.run_until_complete(asyncio.wait(tasks, timeout=0.3))  # Lambda gives 0.5 s
            # One more turn. A task may have ended in the last one, as where the handler has stopped the event loop:
            # only now is its callback called, with which _step_on() has the runtime's coroutine send the answer.
            event_loop.run_until_complete(asyncio.sleep(0))
            for coroutine in coroutines:
                coroutine.close()  # a loop that waits for its event, or whose handler ignored the cancellation
            event_loop.close()


def _step_on(event_loop: "Any", coroutine: "Coroutine[Any, Any, Any]", end: "Callable[[Any], None]") -> None:
    """Run a coroutine of the runtime on an event loop; give what it returns or raises to `end`.

    It is no task: a function that cancels all tasks but its own must not cancel the runtime. What
    the coroutine awaits are futures and tasks of the event loop, and it goes on when one is done.
    """

    def step(_: object = None) -> None:
        try:
            future = coroutine.send(None)
        except StopIteration as stop:
            end(stop.value)
        except BaseException as exception:
            end(exception)
        else:
            # Futures that are awaited carry this flag for the Task that awaits them; there is none.
            future._asyncio_future_blocking = False
            future.add_done_callback(step)

    event_loop.call_soon(step)


def _identify_descriptors(event_loop: "Any") -> "list[Any]":
    """What is behind asyncio's epoll and self-pipe; nothing if the event loop is another's."""
    if not hasattr(event_loop, "_csock"):
        return []
    owners = event_loop._selector, event_loop._ssock, event_loop._csock
    return [_identify(owner.fileno()) for owner in owners if hasattr(owner, "fileno")]


def _guard_self_pipe(event_loop: "Any") -> None:
    """Keep the bytes by which threads wake the event loop out of the function's files.

    They are written to its self-pipe, and the function may have closed that and opened a file under
    its number. So its identity is compared first, 1.2 us of the 41 that asyncio.to_thread() takes. Where
    it is not the pipe, nothing is written: to make a new pipe is left to _mend_event_loop().
    """
    _process.loop_identities = _identify_descriptors(event_loop)
    if _process.loop_identities:
        wake = event_loop._write_to_self

        def wake_if_whole() -> None:
            csock = event_loop._csock
            if csock is not None and _identify(csock.fileno()) == _process.loop_identities[-1]:
                wake()

        event_loop._write_to_self = wake_if_whole


def _mend_event_loop(event_loop: "Any") -> bool:
    """Replace the event loop's descriptors if the function has closed any of them; return whether that was so.

    Libraries that make a daemon close all that there are. What is open under the old numbers by
    now is the function's: it is neither closed nor polled.
    """
    if _identify_descriptors(event_loop) == _process.loop_identities:
        return False
    _fill_standard_descriptors()
    lost, self_pipe = event_loop._selector, event_loop._ssock.detach()  # a descriptor
    _process.lost_selectors.append(lost)
    event_loop._csock.detach()
    for connection in [client.connection for client in _process.clients]:
        if connection.sock is not None and connection._identify_socket() != connection.socket_identity:
            connection.close()  # which leaves the descriptor alone: it is the function's by now
            connection.sock = _socket.socket()  # not connected: who waits for a reply gets an OSError
            connection.socket_identity = connection._identify_socket()
    event_loop._selector = type(lost)()
    for key in lost.get_map().values():
        try:
            if key.fd != self_pipe:  # _make_self_pipe() registers a new one
                event_loop._selector.register(key.fileobj, key.events, key.data)
        except (OSError, ValueError):  # it is gone: who waits for it will find out
            event_loop._ready.extend(filter(None, key.data))  # the handles of who reads and who writes
    event_loop._make_self_pipe()
    if event_loop._signal_handlers:
        _signal.set_wakeup_fd(event_loop._csock.fileno())
    _process.loop_identities = _identify_descriptors(event_loop)
    return True


def _get_event_loop() -> "Any":
    """The event loop that the function's module has set up, with its signal handlers, or a new one."""
    import asyncio
    import warnings

    _fill_standard_descriptors()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # where none is set up, some Pythons warn and make one
            event_loop = asyncio.get_event_loop()
        if not (event_loop.is_closed() or event_loop.is_running()):
            return event_loop
    except (RuntimeError, DeprecationWarning):
        pass
    event_loop = asyncio.new_event_loop()
    asyncio.set_event_loop(event_loop)
    return event_loop


# ---- One invocation --------------------------------------------------------------------------

# Results of these types are JSON or bytes without a further look.
_BUFFERED_TYPES = frozenset((dict, str, list, type(None), bytes, int, bool, float, tuple))


async def handle_event_request(
    lambda_runtime_client: "LambdaRuntimeClient", request_handler: "Handler", invocation: "_Invocation"
) -> None:
    """Call the handler with one event and post what comes of it; SystemExit passes through.

    Error trackers replace this function in the module, so the loop looks its name up for each
    invocation. Their replacement calls this one with the handler in a wrapper, which sees what the
    handler raises. _show_failure() has them see what a coroutine or stream fails with later.

    On an event loop the function's code runs in a task with context variables of its own, so that
    neither they nor a cancellation reach another invocation. The answer is posted outside of that
    task, where nothing of the function's can cancel it.
    """
    if invocation.arguments is not None:
        # This is a call by _show_failure(), whose handler only raises: there is nothing to post.
        request_handler(*invocation.arguments)
        return
    event_loop = lambda_runtime_client.connection.event_loop
    send_answer: "Any" = None
    if event_loop is None:
        send_answer = await _call_function(request_handler, invocation)
    else:

        async def call_in_task() -> None:
            nonlocal send_answer
            send_answer = await _call_function(request_handler, invocation)

        try:
            invocation.task = event_loop.create_task(call_in_task())
            await invocation.task
        except GeneratorExit:
            raise  # thrown in by _run_loops() when the process ends
        except BaseException as exception:
            # Whatever the handler raises, _call_function() makes an answer of it. So if there is none, the task was
            # cancelled before its first step: this error is posted. If there is one, the function cancelled the
            # task in its last step, after which nothing was awaited any more: the answer stands.
            send_answer = send_answer or invocation.error(exception)
    await send_answer()


async def _call_function(request_handler: "Handler", invocation: "_Invocation") -> "SendAnswer":
    """Run the function's code for one invocation; return the function that sends its answer.

    A stream has been sent by then, but for its end.
    """
    try:
        context = invocation.make_context()
        _enter(context)
        event = invocation.take_event()
        result = request_handler(event, context)
        kind = type(result)
        if kind in _BUFFERED_TYPES:
            del event  # a large one is not kept while its response is made
            return invocation.response(result)
        answering: "Awaitable[SendAnswer]" = invocation.answer(result)
        if _has(kind, "__await__", "__aiter__") and invocation.client.connection.event_loop is None:
            await _EventLoopNeeded()  # after this the connection is on an event loop
            # handle_event_request() has made no task for this invocation, as there was no event loop.
            event_loop: "Any" = invocation.client.connection.event_loop
            answering = event_loop.create_task(answering)
        send_answer = await answering
        if invocation.failure is not None:
            await _show_failure(invocation.failure, invocation, event, context)
        return send_answer
    except BaseException as exception:
        return invocation.error(exception)


async def _show_failure(
    failure: BaseException, invocation: "_Invocation", event: "Any", context: "LambdaContext"
) -> None:
    """Have error trackers see what a coroutine or a stream has failed with.

    What they have put around the handler has seen it return long ago. So they get another handler
    to wrap, for the same event and context, that only raises the failure.
    """
    if issubclass(type(failure), (_Fault, _ApiError)):
        return  # the runtime's own, as about a result that is no JSON: a plain handler's wrappers do not see it either

    def raise_failure(event: "Any", context: "LambdaContext") -> "NoReturn":
        raise failure

    invocation.arguments = (event, context)
    traceback: "Optional[TracebackType]" = None
    try:
        traceback = failure.__traceback__
        await handle_event_request(invocation.client, raise_failure, invocation)
    except BaseException as exception:
        if exception is not failure:
            _log_exception(exception, invocation.request_id)
    invocation.arguments = None
    BaseException.with_traceback(failure, traceback)  # without the frames that have raised it once more


def _enter(context: "LambdaContext") -> None:
    """Make `context` the one whose code runs here: for log records, and for X-Ray's SDK."""
    _current_context.set(context)
    if _process.is_shared:
        return  # a variable of the environment cannot be true of several invocations
    _process.context = context
    if context.trace_id:
        # 1 us less than os.environ, which encodes the name as well.
        os.environb[b"_X_AMZN_TRACE_ID"] = context.trace_id.encode("utf-8", "surrogateescape")
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)


class _Invocation:
    """One invocation: what `next` said of it, and the ways to answer it.

    `response()`, `stream()` and `error()` prepare an answer while the function's code runs;
    `answer()` chooses among them. Each returns a function that sends the answer; stream() itself has sent
    the chunks, and returns one that sends the end. These functions call a method of the client, which an
    error tracker may have wrapped; handle_event_request() calls them outside of the invocation's task.
    """

    def __init__(self, client: "LambdaRuntimeClient", headers: "Headers", event_body: "Buffer") -> None:
        self.client = client
        self.headers = headers
        self.event_body = event_body
        # Handlers and logs see it, and the answer's URL has it; awslambdaric's parameters call it invoke_id.
        self.request_id = headers["lambda-runtime-aws-request-id"]
        self.invocation_id = headers.get("lambda-runtime-invocation-id")  # another id, to send back
        self.task: "Any" = None  # on an event loop: the one in which the function's code runs
        # What the function has failed with. Unset when it is posted: its traceback may lead back to this
        # object, and the two would keep each other alive.
        self.failure: "Optional[BaseException]" = None
        self.arguments: "Optional[tuple[Any, LambdaContext]]" = None  # only while _show_failure() runs

    def make_context(self) -> "LambdaContext":
        get = self.headers.get
        client_context = get("lambda-runtime-client-context")
        identity = get("lambda-runtime-cognito-identity")
        return LambdaContext(
            self.request_id,
            _parse_json_header(client_context, "Client Context") if client_context else None,
            _parse_json_header(identity, "Cognito Identity") if identity else None,
            self.deadline_in_ms(),
            get("lambda-runtime-invoked-function-arn"),
            get("lambda-runtime-aws-tenant-id"),
            get("lambda-runtime-trace-id"),
        )

    def deadline_in_ms(self) -> int:
        """When Lambda ends the invocation, as Unix time in milliseconds; 0 if it did not say.

        A number of 16 digits or more is no such time, and could be too large for a float.
        """
        deadline = self.headers.get("lambda-runtime-deadline-ms", "")
        return int(deadline) if deadline.isdecimal() and len(deadline) < 16 else 0

    def take_event(self) -> "Any":
        """The event: parsed JSON, or bytes where the content type is another. `event_body` is emptied."""
        body, self.event_body = self.event_body, b""
        content_type = self.headers.get("content-type")
        if content_type is not None and content_type != "application/json":
            if content_type.partition(";")[0].rstrip().lower() != "application/json":
                return bytes(body)
        try:
            return _from_json(body)
        except Exception as exception:
            message = f"Unable to unmarshal input: {_message_of(exception)}"
            raise _Fault("Runtime.UnmarshalError", message) from None

    async def answer(self, result: "Any") -> "SendAnswer":
        """Await what the handler has returned, if it has to be awaited; respond with it or stream it.

        The type decides and not the object: the attributes of a `dict` subclass may claim
        everything, `__await__` included.
        """
        try:
            if _has(type(result), "__await__"):
                result = await result
            if isinstance(result, _AsgiExchange) or _has(type(result), "__aiter__", "__next__"):
                return await self.stream(result)
            return self.response(result)
        except BaseException as exception:
            return self.error(exception)

    def response(self, value: "Any") -> "SendAnswer":
        """A buffered response: bytes as they are, all else as JSON. Raises _Fault."""
        data, content_type = value, "application/unknown"
        if not isinstance(value, bytes):
            data, content_type = _response_json(value), "application/json"
        return self.sender_of(data, content_type)

    def sender_of(self, data: "Union[Buffer, _ResponseStream]", content_type: str) -> "SendAnswer":
        """What posts a response, or the end of a stream."""
        return lambda: self.client.post_invocation_result(
            self.request_id, data, content_type, self.invocation_id
        )

    async def stream(self, result: "Any") -> "SendAnswer":
        """Post what an iterator yields, or an ASGI application sends, each chunk as soon as it is there.

        An error before the first byte is an ordinary one. A later one goes into the trailers: the
        status has long been sent.
        """
        stream = _ResponseStream(self.client, self.request_id, self.invocation_id)
        try:
            is_exchange = isinstance(result, _AsgiExchange)
            await (result.stream(stream) if is_exchange else _write_chunks(result, stream))
        except _StreamCutOff:
            pass  # the stream says so at its end
        except BaseException as exception:
            return self.error(exception, stream if stream.has_begun else None)
        return self.sender_of(stream, "application/octet-stream")

    def error(self, exception: BaseException, stream: "Optional[_ResponseStream]" = None) -> "SendAnswer":
        """An error response, or the end of a stream that has failed."""
        self.failure = exception
        return lambda: self.post_error(exception, stream)

    async def post_error(self, exception: BaseException, stream: "Optional[_ResponseStream]" = None) -> None:
        """Log an exception and post it; a SystemExit then ends the process."""
        self.failure = None
        # issubclass(), since isinstance() asks the object, which may be hostile, for its class.
        if issubclass(type(exception), _ApiError):
            raise exception  # not the function's: the process ends
        is_exit = issubclass(type(exception), SystemExit)
        if not (is_exit and _process.is_forked_child):  # else it is the usual end of a child
            if seconds := self.client.seconds_if_overdue():  # on Managed Instances: cancelled at its deadline
                document, xray_cause = _describe_loss(self.request_id, seconds)
            else:
                document, xray_cause = _log_exception(exception, self.request_id)
            if _process.is_forked_child:
                _end_in_child(_FAILED)
            await self.client.post_invocation_error(
                self.request_id, document, xray_cause, self.invocation_id, stream
            )
        if is_exit:
            self.client.note_end_of_invocation()
            raise exception


async def _write_chunks(chunks: "Any", stream: "_ResponseStream") -> None:
    """Write what an iterator or async iterator yields into the stream; close the iterator."""
    is_async = _has(type(chunks), "__aiter__")
    if is_async:
        chunks = chunks.__aiter__()
    try:
        # Looked up for each chunk it takes 4 % longer.
        take_next: "Any" = chunks.__anext__ if is_async else None
        while True:
            try:
                chunk = await take_next() if is_async else next(chunks)
            except (StopIteration, StopAsyncIteration):
                break
            writing: "Optional[Awaitable[None]]"
            if not stream.has_begun and isinstance(chunk, _DICTS):
                writing = stream.write_first(_metadata_bytes(chunk, chunks), is_metadata=True)
            else:
                writing = stream.write_now(chunk if type(chunk) is bytes else _chunk_bytes(chunk, chunks))
            if writing is not None:
                await writing
            chunk = writing = None  # the function may want to resize a buffer that it has sent
    finally:
        await _close(chunks, is_async)


def _metadata_bytes(chunk: "Any", chunks: object) -> bytes:
    """The bytes of a dict that comes as the first chunk. Raises _Fault if it is not HTTP metadata.

    Lambda would take any dict there for metadata, and the client would see a success without data.
    """
    others = [key for key in chunk if key not in ("statusCode", "headers", "multiValueHeaders", "cookies")]
    if not others:
        return _response_json(chunk)
    if "body" in others:
        hint = "it begins the stream as HTTP metadata: yield it without body, and then the body"
    else:
        hint = (
            "HTTP metadata has statusCode, headers, multiValueHeaders, cookies, "
            f"and not {', '.join(map(repr, others[:5]))}; for JSON return list(...) or yield json.dumps(...)"
        )
    raise _refused_chunk(chunk, chunks, hint)


def _chunk_bytes(chunk: "Any", chunks: object) -> "Buffer":
    """What a chunk of a stream is on the wire. Raises _Fault."""
    try:
        return chunk.encode() if isinstance(chunk, str) else memoryview(chunk).cast("B")
    except UnicodeError as exception:
        hint = str(exception)
    except (TypeError, ValueError):
        what = " (the metadata comes first)" if isinstance(chunk, _DICTS) else "; for JSON return list(...)"
        hint = f"a chunk of a stream is str or bytes-like, not {type(chunk).__name__}{what}"
    raise _refused_chunk(chunk, chunks, hint)


def _refused_chunk(chunk: object, chunks: object, hint: str) -> "_Fault":
    """The error about a chunk: it names the iterator that has yielded it and, of a generator, the line."""
    place, iterator = "", chunks
    while iterator is not None:  # the innermost that a generator delegates to with `yield from`
        name = type(iterator).__name__
        prefix = {"generator": "gi", "async_generator": "ag"}.get(name)
        frame = getattr(iterator, f"{prefix}_frame", None) if prefix else None
        if frame is None:
            break  # no generator: the message names its type, and the line of the generator that delegates to it
        name = frame.f_code.co_name
        place = f" ({frame.f_code.co_filename}, line {frame.f_lineno})"
        iterator = getattr(iterator, "gi_yieldfrom", None)
    message = f"{name}{place} yielded {type(chunk).__name__}: {hint}"
    return _Fault("Runtime.MarshalError", f"Unable to marshal response: {message}")


async def _close(chunks: "Any", is_async: bool) -> None:
    """Close a generator or a file, so that its `finally` runs now and not when it is collected."""
    try:
        close = getattr(chunks, "aclose", None) if is_async else None
        if not callable(close):
            close = getattr(chunks, "close", None)
        result: "Any" = close() if callable(close) else None
        if is_async and _has(type(result), "__await__"):
            await result
    except BaseException as exception:
        _log_exception(exception)


# ---- Web applications ------------------------------------------------------------------------
#
# HTTP events come in two formats. Function URLs and HTTP APIs send 2.0; REST APIs, Application
# Load Balancers, and HTTP APIs that are told to, send 1.0. _HttpRequest reads the difference.
#
# An ASGI application runs in the invocation's own task, from its first line to its last. What it
# sends goes straight into the response stream, so that `await send(...)` returns when the kernel
# has taken it: a slow reader slows the application down, and nothing piles up in memory.


def asgi(
    app: "AsgiApp", *, root_path: "Optional[str]" = None, streaming: "Optional[bool]" = None
) -> "Callable[[Any, LambdaContext], Awaitable[Any]]":
    """A handler that serves HTTP events with an ASGI application: FastAPI, Starlette, Django, ….

    `root_path` is the path at which clients see the application; None takes the stage that the
    URL of an API Gateway begins with. `streaming` says whether responses are streamed; None streams
    those of function URLs, whose InvokeMode has to be RESPONSE_STREAM. The application's lifespan
    starts with the process, as part of init, and ends with it. The event and the context are in
    the scope, as `aws.event` and `aws.context`. Any other event raises ValueError.
    """
    _check_application(app, "asgi")
    return _AsgiHandler(app, root_path, streaming)


def wsgi(
    app: "WsgiApp", *, root_path: "Optional[str]" = None, streaming: "Optional[bool]" = None
) -> "Handler":
    """A handler that serves HTTP events with a WSGI application: Flask, Django, Bottle, ….

    As asgi(); the event and the context are in `environ`.
    """
    _check_application(app, "wsgi")

    def handler(event: "Any", context: "LambdaContext") -> "Any":
        request = _HttpRequest(event, root_path, streaming)
        environ = {**request.make_environ(), "aws.event": event, "aws.context": context}
        chunks = _run_wsgi(app, environ, request)
        if request.is_streamed:
            return chunks
        head, *body = chunks
        return request.make_response(head, b"".join(body))

    return handler


def _check_application(app: object, name: str) -> None:
    """Raise TypeError if it cannot be called: the import would go well, and each request fail."""
    if not callable(app):
        raise TypeError(f"runtime.{name}() takes an application, and {type(app).__name__} cannot be called")


class _HttpRequest:
    """The request in an HTTP event, and how its response has to look. Raises ValueError."""

    def __init__(self, event: "Any", root_path: "Optional[str]", streaming: "Optional[bool]") -> None:
        from binascii import a2b_base64
        from urllib.parse import quote, unquote_to_bytes, urlencode

        event = event if isinstance(event, dict) else {}
        request_context = event.get("requestContext")
        request_context = request_context if isinstance(request_context, dict) else {}
        self.is_format_2 = "http" in request_context
        self.is_from_load_balancer = "elb" in request_context
        # Whether a load balancer sends, and so expects, several values for a field.
        self.has_multiple_values = bool(event.get("multiValueHeaders"))
        if self.is_format_2:
            self.method, path = request_context["http"]["method"], event.get("rawPath")
            self.query = event.get("rawQueryString") or ""
            self.client = request_context["http"].get("sourceIp")
        elif "httpMethod" in event:
            self.method, path = event["httpMethod"], event.get("path")
            query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
            # API Gateway has decoded names and values, a load balancer leaves them as they came.
            safe = "%+=/?:@!$'()*,;" if self.is_from_load_balancer else ""
            self.query = urlencode(query, doseq=True, safe=safe)
            self.client = (request_context.get("identity") or {}).get("sourceIp")
        else:
            raise ValueError(
                "not an HTTP event: asgi() and wsgi() take those of function URLs, HTTP APIs, REST APIs "
                f"and Application Load Balancers; the keys of this one are {', '.join(map(str, event)) or 'none'}"
            )
        multiple = event.get("multiValueHeaders") or {
            name: [value] for name, value in (event.get("headers") or {}).items()
        }
        self.headers = [(name.lower(), value) for name, values in multiple.items() for value in values]
        cookies = event.get("cookies") or [value for name, value in self.headers if name == "cookie"]
        if cookies:
            self._replace_header("cookie", "; ".join(cookies))
        body = event.get("body") or ""
        if not isinstance(body, str):  # in an event that somebody has written by hand
            kind = type(body).__name__
            raise ValueError(f"the body is a string, not {kind}: write JSON as json.dumps() does")
        is_base64 = event.get("isBase64Encoded")
        self.body = a2b_base64(body) if is_base64 else body.encode("utf-8", "surrogatepass")
        if self.body:  # REST APIs do not tell its length, without which a WSGI application reads nothing
            self._replace_header("transfer-encoding")  # removed: the body is no longer in chunks
            self._replace_header("content-length", str(len(self.body)))
        fields = dict(self.headers)
        if self.is_from_load_balancer:  # it has added the address that it saw, and perhaps the port
            address = fields.get("x-forwarded-for", "").rpartition(",")[2].strip()
            if address.startswith("[") or address.count(":") == 1:  # [IPv6]:port or IPv4:port
                address = address.rpartition(":")[0].strip("[]")
            self.client = address or None
        self.scheme = "http" if fields.get("x-forwarded-proto") == "http" else "https"
        domain = request_context.get("domainName") or ""
        host, _, port = (fields.get("host") or domain or "localhost").rpartition(":")  # PEP 3333: never empty
        if not port.isdecimal():  # no port is there: what rpartition() has cut off is the host's
            host, port = (f"{host}:{port}" if host else port), fields.get("x-forwarded-port", "")
        default = 80 if self.scheme == "http" else 443
        self.server = (host, int(port) if port.isdecimal() else default)
        self.is_streamed = ".lambda-url." in domain if streaming is None else streaming
        stage = request_context.get("stage") or "$default"
        stage = "" if stage == "$default" else f"/{stage}"
        # An HTTP API's event, which one tells by its "version", has a path that begins with the stage, even where
        # the path that the client asked for did not. A REST API's path never begins with it.
        path = _without_prefix(path or "/", stage if event.get("version") else "")
        if root_path is None:  # the stage is in the URL unless the domain is the owner's own
            root_path = stage if ".execute-api." in domain else ""
        else:
            root_path = f"/{root_path.strip('/')}".rstrip("/")
            path = _without_prefix(path, root_path)
        self.root_path = root_path
        self.raw_path = quote(path, safe="%/:=&~+!$,;'@()*[]")
        self.path = unquote_to_bytes(self.raw_path)

    def _replace_header(self, name: str, *values: str) -> None:
        self.headers = [header for header in self.headers if header[0] != name] + [(name, v) for v in values]

    def make_scope(self) -> "dict[str, Any]":
        return {
            "type": "http",
            # send() raises after a hang-up, as 2.4 asks for. But told of 2.4, Starlette would wait for that error
            # and not for http.disconnect: a stream with nothing to send would go on. So 2.3, as in uvicorn.
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": self.scheme,
            "path": self.root_path + self.path.decode("utf-8", "replace"),
            "raw_path": (self.root_path + self.raw_path).encode(),
            "query_string": self.query.encode(),
            "root_path": self.root_path,
            "headers": [
                (name.encode("utf-8", "replace"), value.encode("utf-8", "replace"))
                for name, value in self.headers
            ],
            "client": (self.client, 0) if self.client else None,
            "server": self.server,
        }

    def make_environ(self) -> "dict[str, Any]":
        environ = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": self.root_path,
            "PATH_INFO": self.path.decode("latin-1"),  # bytes as text: so PEP 3333 wants it
            "QUERY_STRING": self.query.encode().decode("latin-1"),
            "SERVER_NAME": self.server[0],
            "SERVER_PORT": str(self.server[1]),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.client or "",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": self.scheme,
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in self.headers:
            if "_" in name:
                continue  # it would pass for the one with a hyphen, which a proxy may have set
            name = name.upper().replace("-", "_")
            name = name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"
            value = value.encode("utf-8", "replace").decode("latin-1")
            environ[name] = f"{environ[name]},{value}" if name in environ else value
        return environ

    def make_head(self, status: int, headers: "list[tuple[str, str]]") -> "dict[str, Any]":
        """Status and header fields in the front end's format: the metadata of a stream."""
        fields: "dict[str, list[str]]" = {}
        for name, value in headers:
            if not value.isascii():  # each character is a byte of the application's: UTF-8, or else Latin-1
                try:
                    value = value.encode("latin-1").decode()
                except UnicodeError:
                    pass
            fields.setdefault(name.lower(), []).append(value.strip(" \t"))  # Django's cookies begin with " "
        fields.pop("transfer-encoding", None)  # the front end's, says the ASGI specification
        head: "dict[str, Any]" = {"statusCode": status}
        if self.is_from_load_balancer and self.has_multiple_values:
            return {**head, "multiValueHeaders": fields}
        if not self.is_format_2 and not self.is_from_load_balancer:
            single = {name: values[0] for name, values in fields.items() if len(values) == 1}
            repeated = {name: values for name, values in fields.items() if len(values) > 1}
            return {**head, "headers": single, "multiValueHeaders": repeated}
        cookies = fields.pop("set-cookie", [])
        head["headers"] = {name: ", ".join(values) for name, values in fields.items()}
        if self.is_format_2:
            return {**head, "cookies": cookies}
        for number, cookie in enumerate(cookies):
            # Cookies cannot be joined, and a load balancer takes each name once. In another case
            # of letters it is another name to the load balancer, and the same one to the client.
            name = "".join(c.upper() if number >> i & 1 else c for i, c in enumerate("setcookie"))
            head["headers"][f"{name[:3]}-{name[3:]}"] = cookie
        return head

    def make_response(self, head: "dict[str, Any]", body: bytes) -> "dict[str, Any]":
        """A whole response. What is not UTF-8, and so cannot be in JSON, goes as base64."""
        try:
            return {**head, "body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            from binascii import b2a_base64

            return {**head, "body": b2a_base64(body, newline=False).decode(), "isBase64Encoded": True}


def _without_prefix(path: str, prefix: str) -> str:
    """The path without `prefix`, if its first segments are that; else the path as it is."""
    return path[len(prefix) :] or "/" if f"{path}/".startswith(f"{prefix}/") else path


class _AsgiHandler:
    """What asgi() returns: an application, and its lifespan in this process."""

    def __init__(self, app: "AsgiApp", root_path: "Optional[str]", streaming: "Optional[bool]") -> None:
        self.app, self.root_path, self.streaming = app, root_path, streaming
        self.__name__ = "handler"  # decorators such as Powertools' tracer name their spans after it
        self.state: "dict[str, Any]" = {}  # what the lifespan leaves for the requests
        self.variables = copy_context()  # context variables as at import: the lifespan is no invocation's
        self.lifespan: "Any" = None  # the task that it lives in
        self.started: "Any" = None  # a future: the application is ready, or why it is not
        self.ending: "Any" = None  # an asyncio.Event: the process ends

    async def __call__(self, event: "Any", context: "LambdaContext") -> "Any":
        request = _HttpRequest(event, self.root_path, self.streaming)
        if self.started is None or not self.started.done():
            # Init has started the lifespan only if _HANDLER names this object itself. Behind a
            # function that wraps it, the first invocation does.
            await self.start()
        scope = request.make_scope()
        scope.update({"state": self.state.copy(), "aws.event": event, "aws.context": context})
        exchange = _AsgiExchange(self.app, scope, request)
        if request.is_streamed:
            return exchange  # for _Invocation.stream()
        return await exchange.collect(context)

    async def start(self) -> None:
        """Start the lifespan, if the application has one. Raises what it fails with."""
        import asyncio

        if self.started is None:
            event_loop = asyncio.get_running_loop()
            self.started, self.ending = event_loop.create_future(), asyncio.Event()
            self.lifespan = self.variables.run(event_loop.create_task, self.run_lifespan())
            # FastAPI calls what is not async in threads of anyio's, which end with the main task. That is, to anyio,
            # the one with the callback that asyncio's and uvloop's run_until_complete() add to their task. Here no
            # task that lasts has this callback, so anyio would take the invocation's: each event would start a
            # thread, and lose its thread-local values. Therefore the lifespan gets one that looks like uvloop's.
            self.lifespan.add_done_callback(_mark_as_main)
        try:
            await asyncio.shield(self.started)
        except Exception:
            self.started = None  # the next invocation may have more luck
            raise

    async def run_lifespan(self) -> None:
        """The lifespan, from the start of the process to its end."""
        import asyncio

        started, has_begun = self.started, False
        failure: "Optional[BaseException]" = None  # what the application has told of, or raised

        async def receive() -> "Message":
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                return {"type": "lifespan.startup"}
            if failure is not None and not started.done():
                # send() has only noted the failure, as the application may go on to raise an exception that tells
                # more. It has not: it waits for a shutdown.
                started.set_exception(failure)
            await self.ending.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: "Message") -> None:
            nonlocal failure
            kind = message["type"]
            if kind == "lifespan.startup.complete" and not started.done():
                _process.asgi_handlers.append(self)
                if _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL:
                    # So that SIGTERM ends the process in order, and the application has its shutdown. The event
                    # loop calls sys.exit() between two steps: it interrupts nothing.
                    asyncio.get_running_loop().add_signal_handler(_signal.SIGTERM, sys.exit, 0)
                started.set_result(None)
            elif kind in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
                failure = RuntimeError(message.get("message") or kind)
            elif kind != "lifespan.shutdown.complete":
                raise RuntimeError(f"the ASGI application sent {kind!r}, which cannot come here")

        version = {"version": "3.0", "spec_version": "2.0"}
        try:
            await self.app({"type": "lifespan", "asgi": version, "state": self.state}, receive, send)
        except Exception as exception:
            # By the ASGI specification an application without support for lifespans raises an exception. So
            # one is a failure only after startup.complete, or after one of the messages of a failure.
            if failure is not None or started.done():
                failure = exception
        finally:
            if failure is not None and started.done():
                _log_exception(failure)
            elif failure is not None:
                started.set_exception(failure)
            elif not started.done():
                started.set_result(None)

    async def end(self) -> None:
        """Let the application shut down. Lambda gives 500 ms for all that there is to do."""
        import asyncio

        self.ending.set()
        await asyncio.wait([self.lifespan], timeout=0.3)


def _mark_as_main(lifespan: object) -> None:
    """Do nothing: the name of its module is the mark."""


_mark_as_main.__module__ = "uvloop.loop"


class _AsgiExchange:
    """One request to an ASGI application, and the response that it sends."""

    def __init__(self, app: "AsgiApp", scope: "dict[str, Any]", request: _HttpRequest) -> None:
        self.app, self.scope, self.request = app, scope, request
        self.head: "Optional[dict[str, Any]]" = None  # set when the response has started
        self.is_complete = False

    async def collect(self, context: "LambdaContext") -> "dict[str, Any]":
        """Run the application; return its whole response."""
        import asyncio

        chunks: "list[bytes]" = []

        async def write(data: "Buffer") -> None:
            chunks.append(bytes(data))

        try:
            await self.run(write, asyncio.Event())
        except Exception as exception:
            if not self.is_complete:
                raise
            # Starlette raises after its page that tells of the error, and a background task may
            # have failed: there is a response all the same.
            _log_exception(exception, context.aws_request_id or "")
        return self.request.make_response(self.head or {}, b"".join(chunks))

    async def stream(self, stream: "_ResponseStream") -> None:
        """Run the application; what it sends goes out at once."""
        import asyncio

        connection, lock = stream.connection, asyncio.Lock()
        over = asyncio.Event()  # set when the response is complete or cut off: receive() then disconnects

        def notice_hang_up() -> None:
            """The socket can be read: set `over` if Lambda has hung up. A reply that it has sent before the end of
            the response is left to stream.end()."""
            connection.event_loop.remove_reader(connection.sock)
            try:
                data = connection.sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
            except OSError:
                data = b""
            if not data:
                over.set()

        async def write(data: "Buffer") -> None:
            async with lock:  # tasks of the application may send at once
                try:
                    if stream.is_cut_off or over.is_set():
                        raise _StreamCutOff
                    if not stream.has_begun:
                        await stream.write_first(_response_json(self.head), is_metadata=True)
                        connection.event_loop.add_reader(connection.sock, notice_hang_up)
                    if (writing := stream.write_now(data)) is not None:
                        await writing
                except _StreamCutOff as cut_off:
                    over.set()
                    raise OSError("Lambda has hung up: nobody reads the response") from cut_off

        try:
            await self.run(write, over)
        except Exception as exception:  # a cut-off is told by the stream itself, at its end
            if not _comes_of_cut_off(exception):
                raise
        finally:
            if stream.has_begun:
                connection.event_loop.remove_reader(connection.sock)

    async def run(self, write: "Callable[[Buffer], Awaitable[None]]", over: "Any") -> None:
        """Run the application. Raises what it does, and RuntimeError if it leaves its response incomplete."""
        body: "Optional[bytes]" = self.request.body

        async def receive() -> "Message":
            nonlocal body
            if body is not None and not over.is_set():
                data, body = body, None
                return {"type": "http.request", "body": data, "more_body": False}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: "Message") -> None:
            kind = message["type"]
            if kind == "http.response.start" and self.head is None:
                fields = [(str(n, "latin-1"), str(v, "latin-1")) for n, v in message.get("headers") or ()]
                self.head = self.request.make_head(int(message["status"]), fields)
            elif kind == "http.response.body" and self.head is not None and not self.is_complete:
                data = memoryview(message.get("body", b"")).cast("B")
                await write(data if self.request.method != "HEAD" else b"")
                if not message.get("more_body"):
                    self.is_complete = True
                    over.set()
            else:
                raise RuntimeError(f"the ASGI application sent {kind!r}, which cannot come here")

        await self.app(self.scope, receive, send)
        if not self.is_complete and not over.is_set():
            raise RuntimeError("the ASGI application has returned before its response was complete")


def _comes_of_cut_off(exception: BaseException) -> bool:
    """Whether an application raises because its client is gone."""
    chain = [exception]  # of causes, contexts and members of groups, which frameworks link in circles
    for each in chain:
        for inner in (each.__cause__, each.__context__, *getattr(each, "exceptions", ())):
            if inner is not None and inner not in chain:
                chain.append(inner)
    return any(isinstance(each, _StreamCutOff) for each in chain)


def _run_wsgi(
    app: "WsgiApp", environ: "dict[str, Any]", request: _HttpRequest
) -> "Generator[Any, None, None]":
    """The head of a WSGI application's response, and then each part of the body when it is made."""
    head: "Optional[dict[str, Any]]" = None
    is_sent = False
    written: "list[bytes]" = []  # by write(), which start_response() returns; sent with the next part

    def start_response(status: str, headers: "list[tuple[str, str]]", exc_info: "Any" = None) -> "Any":
        nonlocal head
        if exc_info and is_sent:
            raise exc_info[1].with_traceback(exc_info[2])
        if head is not None and not exc_info:
            raise RuntimeError("the WSGI application has called start_response() twice")
        head = request.make_head(int(status.partition(" ")[0]), headers)
        return written.append

    chunks = app(environ, start_response)
    try:
        iterator = iter(chunks)
        while True:
            chunk = next(iterator, None)
            parts = [part for part in (*written, chunk) if part]
            written.clear()
            if (parts or chunk is None) and not is_sent:  # the head waits for the body: PEP 3333
                if head is None:
                    raise RuntimeError("the WSGI application has not called start_response()")
                is_sent = True
                yield head
            if request.method != "HEAD":
                yield from parts
            if chunk is None:
                return
    finally:
        if hasattr(chunks, "close"):
            chunks.close()


# ---- The context -----------------------------------------------------------------------------


def _read_function_facts() -> "tuple[Optional[str], ...]":
    """What the environment says of the function, in the order in which LambdaContext() unpacks it."""
    names = "LOG_GROUP_NAME LOG_STREAM_NAME FUNCTION_NAME FUNCTION_MEMORY_SIZE FUNCTION_VERSION"
    return tuple(os.environ.get(f"AWS_LAMBDA_{name}") for name in names.split())


class LambdaContext:
    """What Lambda tells the handler about an invocation: its second argument.

    `aws_request_id`, `invoked_function_arn`, `tenant_id` and `trace_id` (X-Ray's header) are the
    invocation's; `function_name`, `function_version`, `memory_limit_in_mb` (a str),
    `log_group_name` and `log_stream_name` the function's; `client_context` and `identity` come
    from the AWS Mobile SDK. What Lambda did not give is None.
    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(
        self,
        invoke_id: "Optional[str]",
        client_context: "Any",
        cognito_identity: "Any",
        epoch_deadline_time_in_ms: int,
        invoked_function_arn: "Optional[str]" = None,
        tenant_id: "Optional[str]" = None,
        trace_id: "Optional[str]" = None,
    ) -> None:
        log_group, log_stream, name, memory, version = _process.function_facts or _read_function_facts()
        self.aws_request_id = invoke_id
        self.log_group_name = log_group
        self.log_stream_name = log_stream
        self.function_name = name
        self.memory_limit_in_mb = memory
        self.function_version = version
        self.invoked_function_arn = invoked_function_arn
        self.tenant_id = tenant_id
        self.trace_id = trace_id
        self.identity = CognitoIdentity(cognito_identity or {})
        self.client_context: "Optional[ClientContext]" = None
        self._w3c: "dict[str, str]" = {}
        if client_context is not None:
            w3c = client_context.pop("w3c", None)
            if isinstance(w3c, dict):
                names = ("traceparent", "tracestate", "baggage")
                self._w3c = {name: w3c[name] for name in names if isinstance(w3c.get(name), str)}
            self.client_context = ClientContext(client_context)
        self._epoch_deadline_time_in_ms = epoch_deadline_time_in_ms

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation; 0 when that time has passed."""
        return max(0, self._epoch_deadline_time_in_ms - int(_now() * 1000))

    def w3c(self) -> "dict[str, str]":
        """The W3C trace context: `traceparent`, `tracestate`, `baggage` where given."""
        return dict(self._w3c)

    def log(self, message: object) -> None:
        """Write `message` to the function's log as it is, without a line break."""
        _log(str(message))

    def __repr__(self) -> str:
        names = (
            "aws_request_id log_group_name log_stream_name function_name memory_limit_in_mb "
            "function_version invoked_function_arn client_context identity tenant_id"
        )
        return _describe(self, names.split())


def _describe(thing: "Any", names: "Sequence[str]" = ()) -> str:
    values = ",".join(f"{name}={getattr(thing, name)}" for name in names or thing.__slots__)
    return f"{type(thing).__name__}([{values}])"


class CognitoIdentity:
    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self, values: "dict[str, Any]") -> None:
        self.cognito_identity_id = values.get("cognitoIdentityId")
        self.cognito_identity_pool_id = values.get("cognitoIdentityPoolId")

    __repr__ = _describe


class Client:
    __slots__ = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")

    def __init__(self, values: "dict[str, Any]") -> None:
        for name in self.__slots__:
            setattr(self, name, values.get(name))

    __repr__ = _describe


class ClientContext:
    __slots__ = ("custom", "env", "client")

    def __init__(self, values: "dict[str, Any]") -> None:
        client = values.get("client")
        self.custom = values.get("custom")
        self.env = values.get("env")
        self.client = None if client is None else Client(client)

    __repr__ = _describe


def _parse_json_header(value: str, name: str) -> "Any":
    """The object in a header field of `next`, or None where it says null. Raises _Fault."""
    try:
        parsed = _from_json(value.encode("utf-8", "surrogateescape"))
        if parsed is None or isinstance(parsed, dict):
            return parsed
        raise ValueError(f"not an object: {value[:40]}")
    except Exception as exception:
        message = f"Unable to parse {name} JSON: {exception}"
        raise _Fault("Runtime.LambdaContextUnmarshalError", message) from None


# ---- Finding the handler ---------------------------------------------------------------------


def _get_handler(name: str) -> "Handler":
    """The handler that `file.function` names. Raises what becomes the init error."""
    module_name, dot, function_name = name.rpartition(".")
    if not dot:
        message = f"Bad handler '{name}': not enough values to unpack (expected 2, got 1)"
        raise _Fault("Runtime.MalformedHandlerName", message)
    dotted = module_name.replace("/", ".")
    if dotted.partition(".")[0] in sys.builtin_module_names or sys.modules.get(dotted) is _this_module:
        message = f"Cannot use built-in module {module_name} as a handler module"
        raise _Fault("Runtime.BuiltInModuleConflict", message)
    try:
        __import__(dotted)
        module = sys.modules[dotted]
    except ImportError as exception:
        message = f"Unable to import module '{module_name}': {_message_of(exception)}"
        raise _Fault("Runtime.ImportModuleError", message) from None
    except SyntaxError as exception:
        message = f"Syntax error in module '{module_name}': {_message_of(exception)}"
        trace = f'  File "{exception.filename}" Line {exception.lineno}\n    {exception.text}'
        raise _Fault("Runtime.UserCodeSyntaxError", message, [trace]) from None
    try:
        return getattr(module, function_name)  # type: ignore[no-any-return]
    except AttributeError:
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise _Fault("Runtime.HandlerNotFound", message) from None


def _is_async(handler: object) -> bool:
    """Whether calling it gives a coroutine or an async generator, as far as can be told."""
    partial = getattr(sys.modules.get("functools"), "partial", ())
    while isinstance(handler, partial):
        handler = handler.func  # type: ignore[attr-defined]
    # __class__ and not type(): wrapt's proxies, which decorators return, claim the class of the function
    # that they wrap. Other objects are asked for no attribute: one with a __getattr__ may claim anything.
    if handler.__class__.__name__ not in ("function", "method", "cython_function_or_method"):
        handler = type(handler).__call__
    code: "Any" = getattr(handler, "__code__", None)
    is_code = isinstance(code, type(_is_async.__code__))
    return is_code and bool(code.co_flags & 0x280)  # CO_COROUTINE, CO_ASYNC_GENERATOR


def _has(kind: type, *names: str) -> bool:
    """Whether a type has one of these methods, looked for where the interpreter looks.

    hasattr() would ask an object's own attributes, and of a type its metaclass: both may claim anything.
    """
    return any(name in vars(base) for base in kind.__mro__ for name in names)


# Modules that AWS's bootstrap.py and awslambdaric 4.2.2 import before the function's folder is on
# sys.path, less those that the interpreter has loaded by then. Each line: whether it is for this
# Python, and the names.
_IMPORTED_BEFORE_THE_FUNCTION = (
    (
        True,
        "__future__ _decimal _json _weakrefset collections copyreg decimal enum functools importlib json keyword "
        "linecache logging math numbers operator re reprlib string threading traceback types warnings weakref",
    ),
    (sys.version_info < (3, 10), "heapq"),
    (sys.version_info < (3, 11), "sre_compile sre_constants sre_parse"),
    (sys.version_info >= (3, 11), "contextlib textwrap"),
    (sys.version_info >= (3, 12), "_heapq _queue concurrent heapq queue"),
    (sys.version_info[:2] != (3, 13), "token tokenize"),
    (sys.version_info[:2] in ((3, 13), (3, 14)), "_colorize"),
    (sys.version_info >= (3, 14), "_py_warnings"),
    (sys.version_info[:2] == (3, 14), "_opcode_metadata annotationlib ast copy dataclasses"),
    (sys.version_info[:2] == (3, 14), "dis inspect opcode"),
    (sys.version_info >= (3, 15), "ntpath pathlib"),
)


class _ImportHook:
    """A finder that comes first on sys.meta_path: it sees each import of a module that is not there yet.

    Some modules are changed when the function imports them, before the first line that uses them;
    to import them here would cost each cold start 15 ms.

    Modules that AWS's runtime has imported before the function come from the interpreter here as
    well: a `types.py` or `queue.py` in the function's folder is ignored by both.

    And `awslambdaric.lambda_context`, which functions import for a type annotation, is this
    module: its LambdaContext is what they get. `awslambdaric` and `awslambdaric.bootstrap`, where
    CodeGuru's profiler looks for the function that finds the handler, are made up where the
    package is not installed.
    """

    def __init__(self, interpreter_path: "Sequence[str]" = ()) -> None:
        # Each is called once: at once where its module is there already, else when it has been imported.
        self.changes = {"logging": _set_up_logging, "multiprocessing.spawn": _prepare_for_children}
        for name in sys.modules.keys() & self.changes:
            self.changes.pop(name)()
        self.interpreter_path = interpreter_path  # the part of sys.path that is neither function nor layers
        lines = [names for holds, names in _IMPORTED_BEFORE_THE_FUNCTION if holds and interpreter_path]
        self.from_interpreter_path = {*" ".join(lines).split()}.difference(sys.builtin_module_names)

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name == "typing" and self.interpreter_path and sys.version_info[:2] == (3, 14):
            # 3.14's logging imports _colorize, which calls dataclass(). If there is a sys.modules["typing"],
            # dataclass() uses it, and fails where it is a typing.py of the function's own. So _colorize is
            # imported before such a file, as in AWS's runtime.
            found = PathFinder.find_spec(name)
            if found is not None and os.path.dirname(found.origin or "") not in self.interpreter_path:
                import _colorize  # noqa: F401
        change = self.changes.get(name)
        spec: "Any" = None
        if name in self.from_interpreter_path:
            spec = PathFinder.find_spec(name, self.interpreter_path, target)
        elif change is not None or name in ("awslambdaric", "awslambdaric.bootstrap"):
            others = [each for each in sys.meta_path if each is not self and hasattr(each, "find_spec")]
            specs = (each.find_spec(name, path, target) for each in others)
            spec = next(filter(None, specs), None)
        if spec is None and name in ("awslambdaric", "awslambdaric.bootstrap", "awslambdaric.lambda_context"):
            return type(__spec__)(name, self, is_package=name == "awslambdaric")  # type: ignore[arg-type]
        load = getattr(spec and spec.loader, "exec_module", None)
        if change is None or load is None:
            return spec

        def load_and_change(module: "Any") -> None:
            del self.changes[name]
            spec.loader.exec_module = load
            load(module)
            change()

        spec.loader.exec_module = load_and_change
        return spec

    def create_module(self, spec: "Any") -> None:
        """Return None, for an ordinary, empty module. exec_module() puts this one in its place."""

    def exec_module(self, module: "Any") -> None:
        """Leave the package awslambdaric empty; its submodules are this module."""
        if module.__name__ != "awslambdaric":
            sys.modules[module.__name__] = _this_module


def _prepare_for_children() -> None:
    """Let children that multiprocessing starts anew, and does not fork, import this module.

    Such a child is told its parent's sys.path and main script, and runs the script again. This
    file's folder is not on sys.path: it is added as the last, behind a `runtime` of the function's
    own. And bootstrap has no script: what main() has set as `__main__.__file__` is this file, which the
    child is not to run.
    """
    spawn: "Any" = sys.modules["multiprocessing.spawn"]
    get_preparation_data = getattr(spawn, "get_preparation_data", None)
    if get_preparation_data is None:
        return  # a module of the function's own that bears the name

    def get_data(name: str) -> "dict[str, Any]":
        data: "dict[str, Any]" = get_preparation_data(name)
        if data.get("init_main_from_path") == os.path.normpath(__file__):  # as main() has set it
            del data["init_main_from_path"]
        data["sys_path"] = [*data["sys_path"], os.path.dirname(__file__)]
        return data

    spawn.get_preparation_data = get_data


# ---- Quicker imports -------------------------------------------------------------------------

# A function imports some hundred modules, most of them the standard library's. importlib, which is written in
# Python, takes 55 us for each to find its file and to read its compiled code, unmarshalling aside. The two methods
# below do the same in 36: 7 % of the import of Powertools, 4 % of boto3's, whether or not `make dist` has packed it.

# The path of the file that the short find_spec() has found last, the very object, and what stat() said of it.
_found_last: "tuple[Any, Any]" = (None, None)


def _quicken_imports() -> None:
    """Give importlib's FileFinder a shorter find_spec(), and its SourceFileLoader a shorter get_code().

    They look at the same files in the same order, and give what importlib's own would give. Only whether
    the folder has changed they do not ask for a module that its list has and that is there. What is not an
    everyday case they leave to importlib's: subclasses; functions of importlib that somebody has replaced;
    a compiled file that is missing, stale, damaged, large, or compared with its source by hash.
    """
    importlib: "Any" = sys.modules["_frozen_importlib_external"]
    imp: "Any" = sys.modules["_imp"]
    posix = importlib._os  # which importlib calls, whatever a test or a library has put into `os`
    finder_class, loader_class = importlib.FileFinder, importlib.SourceFileLoader
    base_class, slow_find_spec = importlib.SourceLoader, finder_class.find_spec
    make_spec, function_class, code_class = type(__spec__), type(_note), type(_note.__code__)
    tag = sys.implementation.cache_tag
    level = f".opt-{sys.flags.optimize}" if sys.flags.optimize else ""
    compiled = f".{tag}{level}.pyc"
    # Of compiled files that are compared with their source by time and size, and of those that are not
    # compared at all, as `make dist` writes them.
    compared, not_compared = importlib.MAGIC_NUMBER + bytes(4), importlib.MAGIC_NUMBER + b"\1\0\0\0"
    # One buffer for all files: fresh memory for each would cost more than to read it. Who reads a file takes
    # it out of here, and so has it alone: another thread that imports meanwhile makes another.
    spare: "dict[str, Any]" = {}

    # What importlib's own methods call and the short ones do not.
    bypassed = [(finder_class, "_get_spec"), (loader_class, "get_data"), (loader_class, "path_stats")]
    bypassed += [(base_class, "get_code"), (importlib, "cache_from_source"), (importlib, "_compile_bytecode")]
    originals = [(owner, name, getattr(owner, name)) for owner, name in bypassed]

    def is_as_it_was() -> bool:
        """Whether nobody has replaced one of these, or set where compiled files are."""
        for owner, name, original in originals:
            # `is`, since wrapt's proxies, with which tracers replace functions, are equal to what they wrap.
            if getattr(owner, name) is not original:
                return False
        return sys.implementation.cache_tag is tag and sys.pycache_prefix is None

    def find_spec(self: "Any", fullname: str, target: "Any" = None) -> "Any":
        global _found_last
        folder, stem, places = self.path.rstrip("/"), fullname.rpartition(".")[2], None
        # What is listed and still there is found without a look at whether the folder has changed. Where a better
        # candidate has come beside it, as a package of its name, Python's documentation asks for invalidate_caches().
        is_listed = self._path_mtime != -1  # which that sets; the list itself it leaves
        if not (is_listed and folder and stem and type(self) is finder_class):
            return slow_find_spec(self, fullname, target)
        names = self._path_cache
        if stem in names:  # a package, most likely
            folder = f"{folder}/{stem}"
            stem, places = "__init__", [folder]
        for suffix, make_loader in self._loaders:
            if places or stem + suffix in names:
                path = f"{folder}/{stem}{suffix}"
                try:
                    status = posix.stat(path)
                except OSError:
                    continue
                if status.st_mode & 0o170000 == 0o100000:
                    if not is_as_it_was():
                        break
                    _found_last = path, status  # which spares load(), below, another look
                    spec = make_spec(fullname, make_loader(fullname, path), origin=path)
                    spec.has_location, spec.submodule_search_locations = True, places
                    if suffix == ".py" and sys.version_info < (3, 15):  # where each module has a __cached__
                        spec.cached = f"{folder}/__pycache__/{stem}{compiled}"
                    return spec
        else:
            try:
                # With `places` there is a folder, which needs no __init__.py.
                if not places and posix.stat(self.path).st_mtime == self._path_mtime:
                    return None
            except OSError:
                pass
        return slow_find_spec(self, fullname, target)

    def get_code(self: "Any", fullname: str) -> "Any":
        # A loader has a name and a path. What else has been set on it may be a method.
        has_own_methods = type(self) is not loader_class or len(vars(self)) > 2
        is_everyday = not has_own_methods and fullname == self.name and type(self.path) is str
        if is_everyday and is_as_it_was():
            folder, _, file = self.path.rpartition("/")
            stem = file.rpartition(".")[0]
            buffer: "Any" = None
            size = 0
            try:
                try:
                    if folder and stem:
                        source = posix.stat(self.path)
                        descriptor = posix.open(f"{folder}/__pycache__/{stem}{compiled}", posix.O_RDONLY)
                        buffer = spare.pop("buffer", None) or bytearray(1 << 18)
                        try:
                            size = posix.readv(descriptor, [buffer])
                        finally:
                            posix.close(descriptor)
                except OSError:
                    pass  # importlib's own knows what to do without the file
                if 16 < size < len(buffer):
                    head = compared
                    for number in (int(source.st_mtime), source.st_size):
                        head += (number & 0xFFFFFFFF).to_bytes(4, "little")
                    if imp.check_hash_based_pycs != "always" and buffer.startswith(not_compared):
                        head = not_compared
                    code = buffer.startswith(head) and marshal.loads(memoryview(buffer)[16:size])
                    if isinstance(code, code_class):
                        imp._fix_co_filename(code, self.path)
                        return code
            finally:
                if buffer:
                    spare["buffer"] = buffer
        # Not base_class's: a subclass may have another base before that.
        return super(loader_class, self).get_code(fullname)

    its_name = importlib._install.__code__.co_filename
    # A sitecustomize may have replaced one before.
    for each in (slow_find_spec, loader_class.get_code, *(original for _, _, original in originals)):
        if type(each) is not function_class or each.__code__.co_filename != its_name:
            return
    if sys.flags.verbose:
        return
    for method in (find_spec, get_code):  # Python leaves frames of this file name out of tracebacks
        method.__code__ = method.__code__.replace(co_filename=its_name)
    finder_class.find_spec, loader_class.get_code = find_spec, get_code


# ---- Imports from one file -------------------------------------------------------------------

# `make dist` and `make layer` put the compiled code of a folder once more into one file in it,
# `.modules`. On a cold disk that saves each module a read at random; on a warm one it gains nothing.
# The file begins with 56 bytes: its version, "lambda-modules-1"; Python's magic number, filled up to
# 16 bytes; then, 8 bytes each and little-endian, the size of the file, the time of modification that
# all sources had, and the size of the index. The index follows, and behind it the code of each module.
# Index and codes are marshalled, each behind a hash of 8 bytes; a size in the head or in the index
# includes the hash.


def _import_from_one_file(folder: str) -> None:
    """Have modules at and below `folder` take their code from its `.modules`, where that is sound.

    A path hook, so that sys.path alone decides which module is found. The finders are FileFinders,
    the loaders SourceFileLoaders with one method exchanged: whoever looks at a module, a loader or a
    finder sees what is there without this. Code runs only if the source beside it is the one that it
    was compiled from, as far as load() can tell. What this function itself does begins below the
    functions in it, where the head of the file is read.
    """
    if sys.flags.optimize:
        return  # `python -O`: the code in there has its asserts
    importlib: "Any" = sys.modules["_frozen_importlib_external"]
    imp: "Any" = sys.modules["_imp"]
    magic, source_hash = importlib.MAGIC_NUMBER, imp.source_hash
    folder = folder.rstrip("/")
    file = f"{folder}/.modules"
    # By the path of a source below `folder`: where its code begins behind the index, the size of the
    # code, the size of the source, and the source's hash.
    index: "dict[str, tuple[int, int, int, bytes]]" = {}
    reads = 0
    reasons: "list[object]" = []  # why the file is used no more

    def read(offset: int, size: int) -> bytes:
        # Opened each time: functions close descriptors, and to keep it open gained nothing.
        descriptor = os.open(file, os.O_RDONLY)
        try:
            nonlocal reads
            reads += 1
            if reads == (48 if "os.py" in index else 8):  # the standard library's has os.py
                read_ahead(descriptor)
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def read_ahead(descriptor: int) -> None:
        """Have the kernel read the file, 16 MB at most, while the first modules run.

        Who has imported a few modules imports most. Not so of the standard library: a small function
        imports 30 of it, and to read all of them would take it longer than to start.
        """
        try:
            for start in range(0, min(file_size, 1 << 24), 1 << 20):  # the kernel may take no more at once
                os.posix_fadvise(descriptor, start, 1 << 20, os.POSIX_FADV_WILLNEED)
        except OSError:
            pass

    def read_checked(offset: int, size: int) -> "Any":
        """The object that is marshalled there. Its hash has to be right: damaged code could crash Python."""
        data = memoryview(read(offset, size))
        if len(data) != size or source_hash(0, data[8:]) != data[:8]:
            raise ValueError("is cut or damaged")
        return marshal.loads(data[8:])

    def give_up(why: object) -> None:
        """Use the file no more, and say so once."""
        if not reasons:
            _note(f"{file} {why}: its modules are imported from their own files (make dist builds it anew)")
        reasons.append(why)
        index.clear()

    def load(name: str, path: str) -> "Any":
        """A loader of a source file, which takes the code from `.modules` if that is of this source."""
        loader = importlib.SourceFileLoader(name, path)
        offset, size, source_size, its_hash = index.get(path[len(folder) + 1 :], (0, 0, 0, b""))
        if not size:
            return loader
        found, status = _found_last
        if found is not path:
            status = os.stat(path)
        if status.st_mtime == packed_at:
            # As with Python's own compiled files, equal time and size stand for equal content. All sources have
            # got this time when they were packed: another size tells that it was with another `.modules`.
            if status.st_size != source_size:
                give_up("is not of this folder")
                return loader
        elif status.st_size != source_size or source_hash(raw_magic, loader.get_data(path)) != its_hash:
            # The source was edited. (With the same content it has another time because of how it was unpacked.)
            # Its compiled file in __pycache__ has the old code, and is of the kind that Python does not compare with
            # the source: `make` built it with `.modules`. Where path_stats() fails, SourceFileLoader.get_code()
            # compiles the source instead.
            loader.path_stats = refuse
            return loader

        def get_code(name: str) -> "Any":
            vars(loader).pop("get_code", None)  # from now on the loader is like any other
            try:
                code = read_checked(code_starts_at + offset, size)
                imp._fix_co_filename(code, path)
                return code
            except (OSError, ValueError) as exception:
                give_up(exception)
                return loader.get_code(name)

        loader.get_code = get_code
        return loader

    def refuse(path: str) -> None:
        raise OSError

    def find_finder(path: str) -> "Any":
        if path != folder and not path.startswith(f"{folder}/"):
            raise ImportError
        return make_finder(path)

    code_starts_at = 0
    raw_magic = int.from_bytes(magic, "little")
    try:
        head = read(0, 56)
        file_size, packed_at, index_size = (int.from_bytes(head[i : i + 8], "little") for i in (32, 40, 48))
        if head[:16] != b"lambda-modules-1":
            raise ValueError("is of another version of this runtime")
        if head[16:32].rstrip(b"\0") != magic:
            raise ValueError("is of another Python")
        if file_size != os.stat(file).st_size:
            raise ValueError("is cut or damaged")
        index = read_checked(56, index_size)
        code_starts_at = 56 + index_size
    except (OSError, ValueError) as exception:
        return give_up(exception)
    loaders = importlib._get_supported_file_loaders()  # each with the suffixes of its files
    loaders = [(load if loader is importlib.SourceFileLoader else loader, ends) for loader, ends in loaders]
    make_finder = importlib.FileFinder.path_hook(*loaders)
    # Before Python's own two hooks, of which the first, for zips, is slow; behind those that a
    # sitecustomize has put there.
    sys.path_hooks.insert(-2, find_finder)
    for path in [*sys.path_importer_cache]:
        if path == folder or path.startswith(f"{folder}/"):
            del sys.path_importer_cache[path]


# ---- JSON ------------------------------------------------------------------------------------


class _Decoding:
    """The settings that json.decoder.JSONDecoder gives the C scanner; NaN is refused."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None  # array_hook: from Python 3.15 on
    parse_float, parse_int = float, int

    @staticmethod
    def parse_constant(name: str) -> "NoReturn":
        raise ValueError(f"{name} is not JSON")


_scan = _json.make_scanner(_Decoding)  # type: ignore[arg-type]


def _from_json(data: "Buffer") -> "Any":
    """The value of a JSON text in UTF-8. Raises ValueError."""
    text = str(data, "utf-8").removeprefix("\ufeff")
    stripped = text.strip(" \t\n\r")
    try:
        value, end = _scan(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, SystemError):
        # The scanner wants to raise json's own error class. On 3.10 and 3.11 it does not import
        # json for that, and raises SystemError.
        pass
    import json

    json.loads(text)  # raises, and says what is wrong and where
    raise ValueError("it is not JSON")  # where the function has a json.py, whose loads() may not raise


class _Digits(str):
    """A number's digits, which go out without quotes."""


def _refuse(value: object) -> "NoReturn":
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encoder(encode_string: "Any", default: "Any" = _refuse, markers: "Any" = None) -> "Any":
    """json's C encoder. `default` is called with a value that it has no JSON for, and returns another
    or raises. With a dict for `markers` it notices containers that contain themselves."""
    return _json.make_encoder(markers, default, encode_string, None, ": ", ", ", False, False, True)


_SCALARS = frozenset((str, int, float, bool, type(None)))
# frozendict, from Python 3.15 on, is no subclass of dict.
_DICTS: "tuple[type, ...]" = (dict, getattr(sys.modules["builtins"], "frozendict", dict))
_encode = _make_encoder(_json.encode_basestring)
_encode_exact = _make_encoder(lambda s: str(s) if type(s) is _Digits else _json.encode_basestring(s))


def _to_json(value: "Any") -> str:
    """JSON as awslambdaric writes it: UTF-8 unescaped, NaN, and a Decimal's exact digits.

    The C encoder would write a named tuple as a list; awslambdaric writes an object. So it gets
    values of the built-in types only: marshal, which takes no subclasses and is faster than a loop in
    Python, tells whether a value is made of them (20 % more time). Any other value is rebuilt first,
    and so is one with bytes or sets in it, which marshal takes and the encoder refuses.
    """
    try:
        has_long_string = type(value) is str and len(value) > _LONG
        if type(value) is dict:
            inner = []
            for item in value.values():
                kind = type(item)
                if kind is str:
                    if len(item) > _LONG:
                        has_long_string = True
                elif kind not in _SCALARS:
                    inner.append(item)
            if inner:  # else the dict is flat, and its scalars need no look
                marshal.dumps(inner)  # only to see whether it raises
        elif type(value) is not str:
            marshal.dumps(value)
        return _encode_around_strings(value) if has_long_string else "".join(_encode(value, 0))
    except Exception:
        return "".join(_encode_exact(_to_builtin(value, ()), 0))


# From this many characters on it pays to look whether a string has anything to escape. From Python
# 3.15 on the encoder itself looks.
_LONG = 2000 if sys.version_info < (3, 15) else sys.maxsize
_PIECE = 1 << 15
_CONTROLS = bytes(range(32))


def _encode_around_strings(value: "Any") -> str:
    """JSON of a string, or of an object that has long ones: those without anything to escape go in as they are.

    To find that out takes 0.7 to 1.6 ms for a megabyte of ASCII, the encoder 2.6 to 3.2. In a string
    with quotes, as JSON in JSON, the look ends at the first one, and the encoder does the rest: to escape
    it here would take longer.
    """
    if type(value) is str:
        return f'"{value}"' if _is_plain(value) else "".join(_encode(value, 0))
    parts: "list[str]" = []
    others: "dict[Any, Any]" = {}
    for key, item in value.items():
        if type(item) is str and len(item) > _LONG and _is_plain(item):
            # Encoded with "" for the string, this is `{..., "key": ""}`; [1:-2] makes that `..., "key": "`.
            # The string itself and its closing quote follow. Each such part has a ", " in front; the
            # first becomes "{" after the loop.
            others[key] = ""
            parts += (", ", "".join(_encode(others, 0))[1:-2], item, '"')
            others = {}
        else:
            others[key] = item
    if others:
        parts += (", ", "".join(_encode(others, 0))[1:-1])
    parts[0] = "{"
    parts.append("}")
    return "".join(parts)


def _is_plain(text: str) -> bool:
    """Whether JSON escapes none of the text's characters."""
    if '"' in text or "\\" in text:
        return False
    # By pieces that stay in the processor's cache: whole copies of 6 MB cost more than the look.
    for start in range(0, len(text), _PIECE):
        data = text[start : start + _PIECE].encode()
        if len(data.translate(None, _CONTROLS)) < len(data):
            return False
    return True


def _to_builtin(value: "Any", parents: "tuple[int, ...]") -> "Any":
    """The same value, made of types that the C encoder writes as awslambdaric does. Raises where it cannot be.

    `parents` are the ids of the containers around this value: one that contains itself would never end.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode()
    if id(value) in parents:
        raise ValueError("Circular reference detected")
    parents += (id(value),)
    if _has(value.__class__, "_asdict") and callable(value._asdict):  # a named tuple
        value = value._asdict()
    if isinstance(value, _DICTS):
        return {
            key.decode() if isinstance(key, bytes) else key: _to_builtin(item, parents)
            for key, item in value.items()  # type: ignore[attr-defined]
        }
    if isinstance(value, (list, tuple)):
        return [_to_builtin(item, parents) for item in value]
    decimal = sys.modules.get("decimal")
    if isinstance(value, getattr(decimal, "Decimal", ())):
        return _Digits("NaN" if value.is_nan() else value)
    _refuse(value)


def _response_json(value: object) -> bytes:
    """A response as JSON. Raises _Fault."""
    try:
        return _to_json(value).encode()
    except Exception as exception:
        message = f"Unable to marshal response: {_message_of(exception)}"
        raise _Fault("Runtime.MarshalError", message) from None


# ---- Errors ----------------------------------------------------------------------------------


class _Fault(Exception):
    """An error that the runtime itself finds, with the type that Lambda knows it by."""

    def __init__(self, error_type: str, message: str, trace: "Optional[list[str]]" = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


def _message_of(exception: object) -> str:
    """str() of an exception or a note, whose class may be the function's own: its str() may fail."""
    try:
        return str(exception)
    except BaseException:
        return "<exception str() failed>"


def _stack_frames(traceback: "Optional[TracebackType]") -> "list[StackFrame]":
    """File, line, function and source line of each call in a traceback, without the runtime's own.

    The module traceback is not used. When the process has no file descriptor left, its import and its
    look at the source fail, and the error has to be reported all the same.
    """
    stack: "list[StackFrame]" = []
    while traceback is not None:
        frame, line = traceback.tb_frame, traceback.tb_lineno
        file = frame.f_code.co_filename
        if file != __file__:
            try:
                import linecache

                # <string> is also the name of bootstrap's `-c`. From 3.13 on linecache has the source of that,
                # and would give it for the lines of what the function runs by exec().
                source = "" if file == "<string>" else linecache.getline(file, line, frame.f_globals).strip()
            except BaseException:  # the module may be the function's own
                source = ""
            stack.append((file, line, frame.f_code.co_name, source))
        traceback = traceback.tb_next
    return stack


def _format_stack(stack: "list[StackFrame]") -> "list[str]":
    """A stack as Python prints it: of a call that comes many times in a row, three, and how many more."""
    trace, times = [], 0
    for frame, following in zip(stack, [*stack[1:], None]):
        file, line, name, source = frame
        times += 1
        if times <= 3:
            trace.append(f'  File "{file}", line {line}, in {name}\n' + (f"    {source}\n" if source else ""))
        if frame != following:
            if times > 3:
                trace.append(f"  [Previous line repeated {times - 3} more time{'s' if times > 4 else ''}]\n")
            times = 0
    return trace


def _describe_error(exception: BaseException, request_id: str = "") -> "tuple[ErrorDocument, str]":
    """The error document, for the Runtime API and the log, and the X-Ray cause, in ASCII.

    The document's fields are awslambdaric's. The exception that this one was raised from, or
    while handling, is its `cause`, as in the documents of Lambda's Java runtime. What add_note()
    has said are its `notes`, and those that an exception group holds its `exceptions`.
    """
    stack = _stack_frames(exception.__traceback__)
    # The empty ones keep awslambdaric's order; update() fills them.
    document: "ErrorDocument" = {"errorMessage": "", "errorType": "", "requestId": request_id}
    document.update(_describe_chain(exception, stack, set()))
    if isinstance(exception, _Fault):
        document.update(errorType=exception.error_type, stackTrace=exception.trace)
    return document, _xray_cause(document, stack, is_fault=isinstance(exception, _Fault))


# How much of an exception's chain and groups the document holds. A chain may be a circle, and
# may have a member for each of a thousand retries; a group may hold thousands, and other groups.
_LONGEST_CHAIN = 10  # exceptions, each the cause of the one before
_DEEPEST_GROUP = 3  # groups in one another
_MOST_IN_GROUP = 10  # exceptions of a group, and notes of an exception
_MOST_EXCEPTIONS = 30


def _describe_chain(
    exception: BaseException, stack: "list[StackFrame]", seen: "set[int]", depth: int = 0, length: int = 1
) -> "ErrorDocument":
    """What is told of an exception, of those in it and of those that it came from."""
    seen.add(id(exception))
    document: "ErrorDocument" = {
        "errorMessage": _message_of(exception),
        "errorType": type(exception).__name__,
        "stackTrace": _format_stack(stack),
    }
    if notes := _list_of(exception, "__notes__"):
        document["notes"] = list(map(_message_of, notes[:_MOST_IN_GROUP]))
    for member in _members_of(exception)[:_MOST_IN_GROUP]:
        if depth < _DEEPEST_GROUP and id(member) not in seen and len(seen) < _MOST_EXCEPTIONS:
            described = _describe_chain(member, _stack_frames(member.__traceback__), seen, depth + 1)
            document.setdefault("exceptions", []).append(described)
    # `raise ... from cause` suppresses __context__, and so does `from None`, where there is no cause.
    cause = exception.__cause__ if exception.__suppress_context__ else exception.__context__
    has_room = length < _LONGEST_CHAIN and len(seen) < _MOST_EXCEPTIONS
    if cause is not None and id(cause) not in seen and has_room:
        inner = _stack_frames(cause.__traceback__)
        document["cause"] = _describe_chain(cause, inner, seen, depth, length + 1)
    return document


def _members_of(exception: BaseException) -> "list[BaseException]":
    """The exceptions in a group: Python's from 3.11 on, or that of the package exceptiongroup."""
    is_group = any(base.__name__ == "BaseExceptionGroup" for base in type(exception).__mro__)
    members = _list_of(exception, "exceptions") if is_group else []
    return [member for member in members if isinstance(member, BaseException)]


def _list_of(exception: BaseException, name: str) -> "list[Any]":
    """A list or tuple that an exception has under this name; empty where its class claims something else."""
    try:
        value = getattr(exception, name, ())
        return list(value) if isinstance(value, (list, tuple)) else []
    except Exception:
        return []


def _xray_cause(document: "ErrorDocument", stack: "list[StackFrame]", is_fault: bool) -> str:
    """What X-Ray shows of an error, as a header value: JSON in ASCII."""
    try:
        working_directory = os.getcwd()
    except OSError:
        working_directory = ""
    error_type = "LambdaValidationError" if is_fault else document["errorType"]
    labels = [{"label": name, "path": file, "line": line} for file, line, name, _ in stack]
    cause = {
        "working_directory": working_directory,
        "exceptions": [{"message": document["errorMessage"], "type": error_type, "stack": labels}],
        "paths": list(dict.fromkeys(file for file, *_ in stack)),
    }
    return "".join(_make_encoder(_json.encode_basestring_ascii)(cause, 0))


def _log_exception(exception: BaseException, request_id: str = "") -> "tuple[ErrorDocument, str]":
    """Log an error; return its document and X-Ray cause, whatever the exception's class does."""
    try:
        document, xray_cause = _describe_error(exception, request_id)
        _log_error(document)
    except BaseException as problem:  # a hostile __name__, a recursion limit without room
        message = f"the error could not be described: {_message_of(problem)}"
        document = {"errorMessage": message, "errorType": "Runtime.Unknown", "requestId": request_id}
        document["stackTrace"], xray_cause = [], "{}"
        _note(message)
    return document, xray_cause


# ---- Logs ------------------------------------------------------------------------------------

# Frame types of records on _LAMBDA_TELEMETRY_LOG_FD; a level adds to them.
_TEXT_FRAME = 0xA55A0003
_JSON_FRAME = 0xA55A0002


def _log(text: str, frame_type: int = _TEXT_FRAME) -> None:
    """Write to the function's log: in a frame of its own where Lambda gave a descriptor for frames.

    Straight to the descriptor: the function may have replaced or closed sys.stdout.
    """
    data = text.encode("utf-8", "backslashreplace")
    if _log_is_framed():
        size, microseconds = len(data).to_bytes(4, "big"), int(_now() * 1e6).to_bytes(8, "big")
        descriptor: "Any" = _process.log_descriptor
        _write(descriptor, frame_type.to_bytes(4, "big") + size + microseconds + data)
    else:
        _write(1, data)


def _log_is_framed() -> bool:
    """Whether Lambda's descriptor for frames is there; not when the function has closed it, as daemons do."""
    if _process.log_descriptor is not None and _identify(_process.log_descriptor) != _process.log_identity:
        _process.log_descriptor = None  # its number may be a file of the function's by now
    return _process.log_descriptor is not None


def _fill_standard_descriptors() -> None:
    """Open what the function has closed of 0, 1 and 2: a socket with such a number would get what is printed."""
    for descriptor in (0, 1, 2):
        if _identify(descriptor) is None:
            os.open(os.devnull, os.O_RDWR)


def _identify(descriptor: int) -> "Optional[tuple[int, int]]":
    """What tells the open file behind a descriptor from others; None if there is none."""
    try:
        status = os.fstat(descriptor)
    except OSError as exception:
        _raise_if_not_ours(exception)  # a signal handler of the function's, run meanwhile, may have raised it
        return None
    return status.st_dev, status.st_ino


def _note(message: str) -> None:
    """One line of the runtime's own on stderr."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    _write(2, f"runtime: {line}\n".encode("utf-8", "backslashreplace"))


def _write(descriptor: int, data: bytes) -> None:
    """Write all of `data`; a descriptor that cannot be written to is no error."""
    try:
        _write_whole(descriptor, lambda rest: os.write(descriptor, rest), data)
    except OSError as exception:
        _raise_if_not_ours(exception)
        # The function has closed it; the event still has to be answered.


def _frame_type(base: int, level: int) -> int:
    """The frame type for a record of this level, by the numbers that awslambdaric gives them."""
    tens = min(50, max(0, level)) // 10
    return base + 4 * (tens + 1) if tens else base


def _logs_are_json() -> bool:
    return os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"


def _log_version() -> None:
    """Say which runtime this is, as a record of the function's would; logging's import would cost 20 ms."""
    seconds, text = _now(), f"runtime {__version__}, Python {sys.version.split()[0]}"
    timestamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    if _logs_are_json():
        line = {"timestamp": f"{timestamp}Z", "level": "DEBUG", "message": text, "requestId": ""}
        _log(_to_json(line) + "\n", _frame_type(_JSON_FRAME, 10))
    else:
        milliseconds = int(seconds % 1 * 1000)
        _log(f"[DEBUG]\t{timestamp}.{milliseconds:03}Z\t\t{text}\n", _frame_type(_TEXT_FRAME, 10))


def _log_error(document: "ErrorDocument") -> None:
    """Log an error as awslambdaric does: as one frame, or as one record on stdout, with CR between its lines."""
    if _logs_are_json():
        timestamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_now()))
        lines = [_to_json({"timestamp": timestamp, "level": "ERROR", **document})]
        frame_type = _JSON_FRAME
    else:
        lines, frame_type = _log_lines(document, "[ERROR]"), _TEXT_FRAME
    if _log_is_framed():
        _log("\n".join(lines), _frame_type(frame_type, 40))
    else:
        _log("\r".join(lines) + "\n")


def _log_lines(error: "Optional[ErrorDocument]", intro: str) -> "list[str]":
    """An error and what belongs to it as lines of the log, indented with no-break spaces."""
    lines: "list[str]" = []
    while error:
        lines.append(f"{intro} " + ": ".join(filter(None, (error["errorType"], error["errorMessage"]))))
        for note in error.get("notes", ()):
            lines += note.splitlines()
        lines.append("Traceback (most recent call last):")
        for entry in error["stackTrace"]:
            for line in entry.splitlines():
                text = line.lstrip(" ")
                lines.append("\u00a0" * (len(line) - len(text)) + text)
        # The group's own message says how many there are in all.
        for number, member in enumerate(error.get("exceptions", ()), 1):
            lines += _log_lines(member, f"In {error['errorType']}, {number}:")
        error, intro = error.get("cause"), "Caused by"
    return lines


# ---- Output ----------------------------------------------------------------------------------
#
# `python -u` puts Python's text layer right on a raw file, and that layer drops what a short write
# leaves: a pipe takes no more than it has room for when a signal comes, or when it is non-blocking.
# So the raw file is one of ours, which writes all. One lock orders the threads, and the runtime's
# own records among them; the kernel keeps lines of other processes whole up to 4,096 bytes.

_output_lock = _thread.RLock()
_PIPE_BUF = 4096  # a write of up to so many bytes a pipe takes as a whole, or not at all


def _write_whole(descriptor: int, write: "Callable[[Buffer], Optional[int]]", data: "Buffer") -> int:
    """Write all of `data` without anything of another thread in between; return its length.

    `write` returns how much it has taken, None where the descriptor would block.
    """
    rest = memoryview(data).cast("B")
    size = len(rest)
    with _output_lock:
        if size > _PIPE_BUF:
            rest = _write_without_signals(descriptor, write, rest)
        while rest:
            rest = rest[_write_once(write, rest) :]
    return size


def _write_once(write: "Callable[[Buffer], Optional[int]]", rest: "Buffer") -> int:
    """Write once; return how much was taken. Where the descriptor would block: pause, and return 0."""
    try:
        taken = write(rest)
    except BlockingIOError as exception:
        _raise_if_not_ours(exception)
        taken = None
    if taken is None:
        _sleep(0.001)  # not poll(): its module cannot be imported when no file descriptor is left
    return taken or 0


def _write_without_signals(
    descriptor: int, write: "Callable[[Buffer], Optional[int]]", rest: memoryview
) -> memoryview:
    """Write as long as the reader keeps up, with signals held back; return what is left.

    So what a signal handler prints comes behind a long line and not in its middle. Once the reader
    takes nothing for a second, the signals are let through.
    """
    try:
        import select

        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
    except (ImportError, OSError):
        return rest
    previous_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
    try:
        # Inside the `try`: this call runs the handler of a signal that came just before it. All signals are
        # blocked by then, and the handler may raise.
        _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        while rest and poll.poll(1000):
            rest = rest[_write_once(write, rest[:_PIPE_BUF]) :]  # so much does not block after poll()
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, previous_mask)
    return rest


class _Output(io.FileIO):
    """The raw file below sys.stdout or sys.stderr. write() has defaults since globals are slower."""

    def write(self, data: "Any", write: "Any" = io.FileIO.write, lock: "Any" = _output_lock) -> int:
        taken = 0
        if len(data) <= _PIPE_BUF:
            with lock:
                taken = write(self, data) or 0
            if taken == len(data):
                return taken
            data = memoryview(data).cast("B")[taken:]
        return taken + _write_whole(self.fileno(), lambda rest: write(self, rest), data)


def _set_up_output() -> None:
    """Have each write to stdout and stderr go out at once and whole, and each print() as one write.

    Python's print() writes the text and the line break in two calls, and another thread may come
    between. Ours writes both in one. The system call that this saves makes up for the time that
    _Output takes.
    """
    import builtins

    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            if type(stream) is not io.TextIOWrapper or stream.fileno() != descriptor:
                continue  # the script has put another in its place
            stream.flush()
        except (OSError, ValueError):
            continue
        raw = _Output(descriptor, "wb", closefd=False)
        raw.name = f"<{name}>"
        stream = io.TextIOWrapper(raw, stream.encoding, stream.errors, "\n", write_through=True)
        stream.mode = "w"  # type: ignore[misc]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    stdout, stderr, print_elsewhere = sys.stdout, sys.stderr, builtins.print

    def print(
        *values: object, sep: "Any" = " ", end: "Any" = "\n", file: "Any" = None, flush: "Any" = False
    ) -> None:
        stream = sys.stdout if file is None else file
        if (stream is stdout or stream is stderr) and type(sep) is type(end) is str:
            stream.write(f"{values[0]!s}{end}" if len(values) == 1 else sep.join(map(str, values)) + end)
        else:
            print_elsewhere(*values, sep=sep, end=end, file=file, flush=flush)

    print.__doc__, print.__qualname__, print.__module__ = print_elsewhere.__doc__, "print", "builtins"
    builtins.print = print


# ---- Logs: the logging module ----------------------------------------------------------------


def _set_up_logging() -> None:
    """Give the root logger the handler, the format and the level that awslambdaric gives it."""
    import logging
    import threading  # logging has imported it, and traceback
    import traceback

    if not hasattr(logging, "Handler"):
        return  # a module of the function's own that bears the name
    threads_inherit = getattr(sys.flags, "thread_inherit_context", False)  # from Python 3.14 on

    class LambdaLoggerHandler(logging.Handler):
        def filter(self, record: "Any") -> "Any":
            context = _current_context.get()
            if threads_inherit and context is not None:
                # A thread inherits the context variables of the invocation in which it is started. One of a pool
                # still has these when it works for a later invocation: so an inherited context does not count, and
                # the process's latest does. Any other context came with a call, as by asyncio.to_thread(), and counts.
                variables = getattr(threading.current_thread(), "_context", None)
                if variables is not None and variables.get(_current_context) is context:
                    context = None
            context = context or _process.context
            record.aws_request_id = context.aws_request_id if context else ""
            record.tenant_id = context.tenant_id if context else None
            return super().filter(record)

        def emit(self, record: "Any") -> None:
            text = self.format(record)
            if not text.endswith("\n") and not _log_is_framed():
                text += "\n"
            frame_type = _frame_type(_TEXT_FRAME, record.levelno) if is_framed_by_level else _TEXT_FRAME
            _log(text, getattr(record, "_frame_type", frame_type))

    class JsonFormatter(logging.Formatter):
        def format(self, record: "Any") -> str:
            record._frame_type = _frame_type(_JSON_FRAME, record.levelno)
            message = record.msg
            if record.args or not isinstance(message, dict):
                message = record.getMessage()
            failed = record.exc_info
            error_class, exception, trace = failed or (None, None, None)
            line = {
                "timestamp": self.formatTime(record, self.datefmt),
                "level": logging.getLevelName(min(50, max(0, record.levelno)) // 10 * 10),
                "message": message,
                "logger": record.name,
                "stackTrace": traceback.format_tb(trace) if failed else None,
                "errorType": error_class.__name__ if error_class else None,
                "errorMessage": str(exception) if failed else None,
                "requestId": record.aws_request_id,
                "location": f"{record.pathname}:{record.funcName}:{record.lineno}" if failed else None,
            }
            if record.tenant_id is not None:
                line["tenantId"] = record.tenant_id
            for name, value in vars(record).items():  # what came as `extra`
                if name not in ordinary and name not in line:
                    line[name] = value
            line = {name: value for name, value in line.items() if value is not None}
            return "".join(_make_encoder(_json.encode_basestring, str, {})(line, 0)) + "\n"

    # What is on a record without `extra`. awslambdaric's list has no taskName, so a task's name is logged.
    ordinary = {*vars(logging.makeLogRecord({})), "aws_request_id", "tenant_id", "_frame_type"} - {"taskName"}
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper().replace("TRACE", "DEBUG")
    is_framed_by_level = _logs_are_json() or bool(level)
    text = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s\n"
    formatter = logging.Formatter(text, "%Y-%m-%dT%H:%M:%S")
    if _logs_are_json():
        formatter = JsonFormatter(datefmt="%Y-%m-%dT%H:%M:%SZ")
    logging.Formatter.converter = time.gmtime  # of the function's own formatters too, whatever TZ says
    handler = LambdaLoggerHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    if level in logging._nameToLevel:
        root.setLevel(level)


# ---- The Runtime API client ------------------------------------------------------------------

_INVOCATION = "/2018-06-01/runtime/invocation"
_INIT_ERROR = "/2018-06-01/runtime/init/error"
_RESTORE = "/2018-06-01/runtime/restore"
_EXTENSION = "/2020-01-01/extension"
_ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
_ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
_LARGEST_CAUSE = 1 << 20  # bytes of the X-Ray header; Lambda refuses more
# Go's HTTP server, which the Runtime API and AWS's emulator are, takes a trailer section of at
# most 4,096 bytes; base64 makes four of three.
_LARGEST_TRAILER = 2700
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class _ApiError(Exception):
    """The Runtime API is not there, breaks HTTP or breaks its own rules: the process ends.

    Where several invocations share the process, one that cannot be answered does not end it. Many
    messages begin with a verb ("closed the connection"): where one is caught, a subject goes before it.
    """


def _is_our_own(exception: BaseException) -> bool:
    """Whether this is an _ApiError, or an OSError of a call that the runtime itself has made.

    Python runs the function's signal handlers inside the runtime's system calls, so what the runtime
    catches may be an OSError that such a handler has raised. Its traceback then has a frame of the
    function's. It need not be the last: the handler may have called print(), which is this file's.
    """
    if not issubclass(type(exception), OSError):
        return issubclass(type(exception), _ApiError)
    traceback = exception.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals is globals():
        traceback = traceback.tb_next
    return traceback is None


def _raise_if_not_ours(exception: Exception) -> None:
    """Raise an exception of the function's again, where the runtime has caught it for one of its own."""
    if not _is_our_own(exception):
        raise exception


class LambdaRuntimeClient:
    """The calls of the Runtime API, on one connection: one invocation at a time.

    The class, its methods and their parameters bear the names of awslambdaric's, where error
    trackers find and wrap them. Those that the loop calls return awaitables. On a connection without
    an event loop these never suspend.
    """

    # Only _WorkerClient, the client on Managed Instances, keeps account of the invocation at hand. It sets
    # `invocation` and overrides note_end_of_invocation() and seconds_if_overdue(); here they stay None and do nothing.
    invocation: "Optional[_Invocation]" = None

    def note_end_of_invocation(self) -> None:
        """Take note that the invocation at hand is over: it has been answered, or cannot be."""

    def seconds_if_overdue(self) -> float:
        """How long the invocation at hand had, if it is being ended for having taken longer; else 0."""
        return 0

    def __init__(self, lambda_runtime_address: str) -> None:
        self.lambda_runtime_address = lambda_runtime_address
        self.connection = _Connection(lambda_runtime_address)
        self._request_for_next = self.connection.request_head("GET", f"{_INVOCATION}/next")

    async def wait_next_invocation(self) -> _Invocation:
        """The next invocation, when there is one. Raises _ApiError.

        There is no timeout: Lambda freezes the process while it waits.
        """
        status = 204
        while status == 204:  # nothing yet: cargo-lambda's emulator wants to be asked again
            if _process.is_ending:
                sys.exit(0)
            status, headers, body = await self.connection.exchange(self._request_for_next)
        if status != 200 or not headers.get("lambda-runtime-aws-request-id"):
            raise _ApiError(f"GET next was answered {status} {bytes(body[:200])!r}, not 200 and a request id")
        return _Invocation(self, headers, body)

    def post_invocation_result(
        self,
        invoke_id: str,
        result_data: "Union[Buffer, _ResponseStream]",
        content_type: str = "application/json",
        invocation_id: "Optional[str]" = None,
    ) -> "Awaitable[object]":
        """Post a response, or end one whose chunks have been sent."""
        if isinstance(result_data, _ResponseStream):
            return result_data.end()
        fields = f"Content-Type: {content_type}\r\n{_echo(invocation_id)}"
        return self._post(f"{_INVOCATION}/{_path_segment(invoke_id)}/response", fields, result_data)

    def post_invocation_error(
        self,
        invoke_id: str,
        error_response_data: "ErrorDocument",
        xray_fault: str,
        invocation_id: "Optional[str]" = None,
        stream: "Optional[_ResponseStream]" = None,
    ) -> "Awaitable[object]":
        """Post an error, or end the stream that it has interrupted."""
        if stream is not None:
            return stream.end(_error_trailers(error_response_data))
        fields = _error_fields(error_response_data["errorType"]) + _echo(invocation_id)
        if len(xray_fault) < _LARGEST_CAUSE:
            fields += f"Lambda-Runtime-Function-XRay-Error-Cause: {xray_fault}\r\n"
        body = _document_bytes(error_response_data)
        return self._post(f"{_INVOCATION}/{_path_segment(invoke_id)}/error", fields, body)

    def post_init_error(
        self, error_response_data: "ErrorDocument", error_type_override: "Optional[str]" = None
    ) -> None:
        fields = _error_fields(error_type_override or error_response_data["errorType"])
        _run_blocking(self._post(_INIT_ERROR, fields, _document_bytes(error_response_data)))

    def restore_next(self) -> None:
        """Wait for the restore of a snapshot, which Lambda takes meanwhile. Raises _ApiError."""
        self._call_once("GET", f"{_RESTORE}/next", {})

    def report_restore_error(self, restore_error_data: "ErrorDocument") -> None:
        headers = {_ERROR_TYPE: "Runtime.AfterRestoreError", "Content-Type": "application/json"}
        self._call_once("POST", f"{_RESTORE}/error", headers, _document_bytes(restore_error_data))

    def _post(self, path: str, fields: str, body: "Buffer") -> "Coroutine[Any, Any, Reply]":
        head = self.connection.request_head("POST", path, f"{fields}Content-Length: {len(body)}\r\n")
        return self.connection.exchange(head, body, path)

    def _call_once(self, method: str, path: str, headers: "Headers", body: "Optional[bytes]" = None) -> None:
        """A call around a snapshot, on a connection of its own: none survives it."""
        import http.client  # before the snapshot, where its 17 ms cost no invocation anything

        connection = self.connection
        once = http.client.HTTPConnection(connection.host, connection.port, timeout=None)
        try:
            once.request(method, connection.prefix + path, body, headers)
            response = once.getresponse()
            reply = response.read()
        except (OSError, http.client.HTTPException) as exception:
            raise _ApiError(f"{method} {path}: {exception}") from None
        finally:
            once.close()
        if response.status >= 300:
            raise _ApiError(f"{method} {path} was answered {response.status} {reply[:200]!r}")


def _judge_refusal(path: str, status: int, reply: "Buffer") -> None:
    """A post was not accepted: the process ends after a 5xx; else it is a line in the log."""
    problem = f"POST {path} was answered {status} {bytes(reply[:200])!r}"
    if status >= 500:  # "container error": the runtime has to exit promptly
        raise _ApiError(problem)
    _note(problem)  # Lambda itself has answered whoever invoked the function, and has more events


def _run_blocking(coroutine: "Any") -> "Any":
    """What a coroutine of the client returns, on a connection that blocks: it never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value


def _path_segment(request_id: str) -> str:
    # As bytes: str.isalnum() looks each character up in Unicode's tables.
    if request_id.isascii() and request_id.encode().replace(b"-", b"").isalnum():
        return request_id
    from urllib.parse import quote

    return quote(request_id, safe="", errors="surrogateescape")


def _echo(invocation_id: "Optional[str]") -> str:
    """The header field that sends back what `next` has given."""
    return f"Lambda-Runtime-Invocation-Id: {_field_value(invocation_id)}\r\n" if invocation_id else ""


def _field_value(text: str) -> str:
    """Text as a header value: printable ASCII (RFC 9110, 5.5), all else as escapes."""
    return text if text.isascii() and text.isprintable() else ascii(text)[1:-1]


def _error_fields(error_type: str) -> str:
    """The header fields that every post of an error has."""
    return f"Content-Type: application/json\r\n{_ERROR_TYPE}: {_field_value(error_type)}\r\n"


def _document_bytes(document: "ErrorDocument") -> bytes:
    """An error document as JSON in UTF-8; backslashreplace writes a lone surrogate as JSON does."""
    return _to_json(document).encode("utf-8", "backslashreplace")


def _error_trailers(document: "ErrorDocument") -> bytes:
    """The trailers that end a stream which failed: the error's type, and its document in base64."""
    body, limit = _document_bytes(document), 500
    while len(body) > _LARGEST_TRAILER:
        short = {key: document[key][:limit] for key in ("errorMessage", "errorType", "requestId")}
        body, limit = _document_bytes({**short, "stackTrace": []}), limit // 2
    # Base64 by hand: binascii cannot be imported when the process has no file descriptor left.
    body += b" " * (-len(body) % 3)
    bits = int.from_bytes(body, "big")
    base64 = "".join(_BASE64[bits >> shift & 63] for shift in range(8 * len(body) - 6, -1, -6))
    error_type = _field_value(document["errorType"])[:200]
    return f"{_ERROR_TYPE}: {error_type}\r\n{_ERROR_BODY}: {base64}\r\n".encode()


class _StreamCutOff(Exception):
    """The response stream can carry no more: the API hung up, or a chunk was only half sent."""


class _ResponseStream:
    """A response that goes out in chunks, while the function makes them (RFC 9112, 7.1)."""

    def __init__(self, client: LambdaRuntimeClient, request_id: str, invocation_id: "Optional[str]") -> None:
        self.connection = client.connection
        self.request_id = request_id
        self.path = f"{_INVOCATION}/{_path_segment(request_id)}/response"
        self.echo = _echo(invocation_id)
        self.has_begun = False
        self.next_look = self.look_interval = 0.0  # when and how often to look at the socket
        self.is_cut_off = False  # the API has hung up, or a chunk may be half sent: nothing can follow

    def _begin(self, is_metadata: bool) -> bytes:
        """Get the connection ready; return the head of the request."""
        # A request that finds the kept connection closed is sent once more on another; a stream
        # cannot be: the function makes each chunk once. So the connection is looked at in full.
        if not self.connection.is_idle_and_open():
            self.connection.open()
        # Between two chunks the function may close our socket and open one of its own under the number. A low one is
        # looked at each time. A high one it gets only after 40 others: to open so many takes 170 us, and there is a
        # look each 50. (40 calls of dup(), or one of dup2() onto this very number, would be quicker.)
        self.look_interval = 5e-5 if self.connection.take_high_descriptor() else 0.0
        self.has_begun = True
        media_type = "vnd.awslambda.http-integration-response" if is_metadata else "octet-stream"
        return self.connection.request_head(
            "POST",
            self.path,
            f"Content-Type: application/{media_type}\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
            f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n{self.echo}",
        )

    def write_now(self, data: "Buffer") -> "Optional[Awaitable[None]]":
        """Send a chunk; return what has yet to be awaited. Raises _StreamCutOff, as what it returns does.

        Where the kernel takes a chunk that is not the first, no coroutine is made: with one, 20 bytes take 5 us
        in place of 2.3. A look at the socket each time would be another 0.9.
        """
        size = len(data)
        if not size:
            return None
        if not self.has_begun:
            return self.write_first(data)
        connection = self.connection
        try:
            # What send() does, but without its two calls, which take 8 % of the whole.
            now = _now_exactly()
            if now >= self.next_look:
                if connection._identify_socket() != connection.socket_identity:
                    raise BrokenPipeError
                self.next_look = now + self.look_interval
            if size < _SMALL_CHUNK:
                chunk = b"%x\r\n%b\r\n" % (size, data)  # type: ignore[str-format]
                sent = connection.sock.send(chunk, _NO_SIGNAL)
                if sent == len(chunk):
                    return None
            else:
                head = b"%x\r\n" % size
                sent = connection.sock.sendmsg((head, data, b"\r\n"), (), _NO_SIGNAL)
                if sent == len(head) + size + 2:
                    return None
        except BaseException as exception:
            # On an event loop a BlockingIOError says that the socket is full: send() waits until it is not. On a
            # socket that blocks it is a signal handler's.
            if connection.event_loop is None or type(exception) is not BlockingIOError:
                self._cut_off(exception)  # which raises
            sent = 0
        return self.send(b"%x\r\n" % size, data, b"\r\n", sent=sent)

    async def write_first(self, data: "Buffer", is_metadata: bool = False) -> None:
        """Send the head of the request and the first chunk. Raises _StreamCutOff."""
        head = self._begin(is_metadata)
        # Eight NULs end the metadata. They are a chunk of their own, as AWS's clients send them:
        # cargo-lambda's emulator looks for that.
        tail = b"\r\n8\r\n%b\r\n" % bytes(8) if is_metadata else b"\r\n"
        await self.send(head + b"%x\r\n" % len(data), data, tail)

    async def send(self, *parts: "Buffer", sent: int = 0) -> None:
        """Send parts of the stream, but for their first `sent` bytes. Raises _StreamCutOff.

        That is raised, too, where the function has closed the socket: its code runs between the chunks.
        """
        try:
            if self.connection._identify_socket() != self.connection.socket_identity:
                raise BrokenPipeError
            await self.connection.send(*parts, sent=sent)
        except BaseException as exception:
            self._cut_off(exception)

    def _cut_off(self, exception: BaseException) -> "NoReturn":
        """Let nothing follow what may be incomplete. Raises _StreamCutOff, or the function's own."""
        if _process.is_forked_child:  # whose connection is closed
            _end_in_child()
        self.is_cut_off = True
        self.connection.is_usable = False
        if _is_our_own(exception):
            raise _StreamCutOff from None
        raise exception

    async def end(self, trailers: bytes = b"") -> None:
        """Send the last chunk, which is empty, and read the reply."""
        try:
            if self.is_cut_off:
                raise _StreamCutOff
            head = b"" if self.has_begun else self._begin(is_metadata=False)
            await self.send(head + b"0\r\n" + trailers + b"\r\n")
            try:
                data = await self.connection.receive_more()
            except BaseException as exception:
                self._cut_off(exception)
        except _StreamCutOff:
            reason = "the Runtime API hung up, or a chunk was interrupted"
            _note(f"the response stream of {self.request_id} was cut off: {reason}")
            return
        status, _, reply = await self.connection.read_reply(data)
        if status >= 300:
            _judge_refusal(self.path, status, reply)


# ---- The Runtime API client: HTTP ------------------------------------------------------------
#
# Theory of operation. A connection carries one request at a time and is in one of four states:
#
#   closed     there is no socket: at first, and after close(). open() makes it idle.
#   idle       `is_usable`: the last reply was read to its end and allows another request.
#              exchange() and the head of a stream begin here.
#   busy       `is_usable` as well: a request has been sent and its reply is awaited. A reply that
#              keeps the connection open makes it idle; any other reply or a cut makes it spent.
#              (After ask_no_more() the reply to the last GET is awaited although it is not `is_usable`.)
#   spent      a socket that is not `is_usable`: a chunk was cut, the API has said that it closes,
#              or bytes came that nobody asked for. open() replaces it.
#
# Without an event loop the socket blocks and the coroutines never suspend: a `recv()` for the
# next invocation waits for hours, frozen with the process. move_to() an event loop makes it
# non-blocking, and the coroutines wait on the event loop's futures.
#
# There are two parsers, because all of Lambda's replies look alike and a strict parser in Python
# takes as long as the rest of the loop. _parse_usual_head() takes heads made of status lines and
# field names that the strict one has found sound before, and nothing else; _take_usual_body() a
# body that has come with its head, as a whole. read_reply() and read_body() take whatever RFC
# 9112 allows, and refuse the rest. Measured on a round trip of 30 us: with the strict one alone it
# takes twice that, with one parser for usual and other replies 6 us more. Recognising a 202 to a post
# by its bytes saves 2.7 us more. The cheap look before a request, _can_be_reused(), saves 2 us.

# A function may have set SIGPIPE to its default, which ends the process when the API hangs up.
_NO_SIGNAL = getattr(_socket, "MSG_NOSIGNAL", 0)
# Linux's socket options that the module _socket does not name, for getsockopt(SOL_SOCKET).
_SOL_SOCKET = _socket.SOL_SOCKET
_SO_MEMINFO = 55  # its first four bytes: the memory held by received bytes that are not read yet
_SO_COOKIE = 57  # eight bytes that no other socket has, ever
_NOTHING_RECEIVED = bytes(4)

_LOW = 47  # a descriptor that the function may well get, as all below
_SMALL_CHUNK = 1 << 12  # bytes; to copy fewer costs less than to hand them to the kernel in parts
_SMALL_BODY = 1 << 16  # bytes; a request with fewer is copied into one piece, which sendall() takes
_RECEIVE = 1 << 16  # bytes asked of the kernel at once: head and event of most invocations
_LARGEST_HEAD = 1 << 20  # bytes; Lambda's own heads are below 8 kB
_LARGEST_BODY = 1 << 28  # bytes; Lambda's largest event is 6 MB: more is a broken length


class _Connection:
    """One keep-alive connection to the Runtime API; the states are told above."""

    def __init__(self, address: str) -> None:
        self.host, self.port, self.prefix = _parse_address(address)
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.host_field = f"Host: {host}:{self.port}\r\n"
        self.sock: "Any" = None
        self.event_loop: "Any" = None
        self.is_usable = False
        self.socket_identity = b""  # Linux's cookie of `sock`: the function may put another in its place
        self.usual_202 = b""  # the last 202 to a post: the next in the same second is the same, Date included
        self.is_drained = False  # that was the last reply, and nothing was behind it
        self.is_in_reply = False  # a reply has begun to come, and is not here as a whole

    def move_to(self, event_loop: "Any") -> None:
        """Wait on the event loop from now on, instead of blocking."""
        self.event_loop = event_loop
        if self.sock is not None:
            self.sock.setblocking(False)

    def open(self) -> None:
        """Connect, in place of the connection that there was. Raises _ApiError."""
        if self.event_loop is not None:
            # Before there is a new socket: it could get the number of a descriptor that the function has closed
            # and the event loop still polls.
            _mend_event_loop(self.event_loop)
        # The old socket, if of no more use, was kept until now: so its descriptor is free for the new one even
        # when the function has used up all others.
        self.close()
        _fill_standard_descriptors()
        try:
            host = self.host.encode("ascii")  # as str it would import the idna codec: 7 ms
            addresses = _socket.getaddrinfo(host, self.port, 0, _socket.SOCK_STREAM)
            for family, socket_type, protocol, _, socket_address in addresses:
                try:
                    self.sock = _socket.socket(family, socket_type, protocol)
                    self.socket_identity = self._identify_socket()  # now, since close() compares it
                    self.sock.setblocking(True)  # whatever socket.setdefaulttimeout() said
                    self.sock.connect(socket_address)
                    break
                except OSError as exception:
                    self.close()
                    refusal = exception
            else:
                raise refusal
        except OSError as exception:
            _raise_if_not_ours(exception)
            raise _ApiError(f"cannot connect: {exception.strerror or exception}") from None
        self.sock.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        self.sock.setblocking(self.event_loop is None)
        self.is_usable = True

    def _identify_socket(self) -> bytes:
        """What tells the socket from all others; b"" where that cannot be known."""
        try:
            return self.sock.getsockopt(_SOL_SOCKET, _SO_COOKIE, 8)  # type: ignore[no-any-return]
        except OSError as exception:
            _raise_if_not_ours(exception)
            return b""  # no socket any more, or a kernel before 4.12

    def take_high_descriptor(self) -> bool:
        """Move the socket to a descriptor that nothing else gets by chance; return whether it has one.

        A function may close descriptors that are not its own, as libraries do that make a daemon. What it opens then
        gets the lowest free ones: not the socket's, so that the next send fails.
        """
        low = self.sock
        if low.fileno() > _LOW:
            return True
        # With more than 64 the kernel's table has to grow, which takes 10 ms in a process with threads.
        for high in range(63, _LOW, -1):
            # While the one below is free as well, no thread of the function's is given this one meanwhile.
            if _identify(high) is None and _identify(high - 1) is None:
                try:
                    os.dup2(low.fileno(), high, inheritable=False)
                except OSError as exception:
                    _raise_if_not_ours(exception)
                    break  # so many are not allowed
                self.sock = _socket.socket(low.family, low.type, low.proto, high)
                self.sock.setblocking(self.event_loop is None)
                low.close()
                return True
        return False

    def close(self) -> None:
        self.is_usable = self.is_in_reply = False
        if self.sock is not None:
            if self._identify_socket() != self.socket_identity:
                self.sock.detach()  # the function has closed it: what is open under its number is the function's
            self.sock.close()
            self.sock = None

    def is_idle_and_open(self) -> bool:
        """Whether a request can be sent: the API has not hung up, and nothing came unasked.

        What came when nothing was asked for is no reply to what is asked next (RFC 9112, 9.2).
        """
        if not self._can_be_reused():
            return False
        try:
            self.sock.recv(1, _socket.MSG_PEEK | _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError as exception:
            _raise_if_not_ours(exception)
        return False

    def ask_no_more(self) -> None:
        """Half-close: the API learns that nobody waits any more, and what it has sent before that still arrives."""
        self.is_usable = False
        try:
            self.sock.shutdown(_socket.SHUT_WR)
        except (OSError, AttributeError):
            pass

    def has_received(self) -> bool:
        """Whether a reply has begun to come."""
        if self.is_in_reply:
            return True
        try:
            return self.sock.getsockopt(_SOL_SOCKET, _SO_MEMINFO, 4) != _NOTHING_RECEIVED  # type: ignore[no-any-return]
        except (OSError, AttributeError):
            return False

    def _can_be_reused(self) -> bool:
        """is_idle_and_open() at a lower price: a hang-up goes unnoticed, and the request will find it.

        Two socket options are read, 0.9 us each, where the recv() that also finds a hang-up takes 2.5 to
        4. The cookie shows whether the function has closed our descriptor, or opened a file of its own
        under the number. The memory shows whether bytes came unasked.
        """
        if not self.is_usable:
            return False
        try:
            if self.sock.getsockopt(_SOL_SOCKET, _SO_COOKIE, 8) != self.socket_identity:
                return False
            return self.sock.getsockopt(_SOL_SOCKET, _SO_MEMINFO, 4) == _NOTHING_RECEIVED  # type: ignore[no-any-return]
        except OSError as exception:
            _raise_if_not_ours(exception)
            return False

    def request_head(self, method: str, path: str, fields: str = "") -> bytes:
        return f"{method} {self.prefix}{path} HTTP/1.1\r\n{self.host_field}{fields}\r\n".encode("ascii")

    async def exchange(self, head: bytes, body: "Buffer" = b"", posted_to: str = "") -> "Reply":
        """Send a request; return status, header fields and body of its reply. Raises _ApiError.

        `posted_to` is the path of a post whose refusal _judge_refusal() is to judge.

        Where the kept connection turns out to be closed before the first byte of a reply, the
        request is sent once more on a new one (RFC 9112, 9.3.1: the API closes idle ones as it
        likes).
        """
        # Code of the function's has run before each post; on an event loop it may run at any time; and before the
        # first GET the import has run. But between a post's usual reply and the GET that follows it 2 us pass. That a
        # thread of the function's closes the socket then, or bytes come unasked, is not looked for: it would take as
        # long again, 3 % of a round trip.
        needs_no_look = self.is_drained and self.is_usable and self.event_loop is None
        is_reused = needs_no_look or self._can_be_reused()
        self.is_drained = False
        while True:
            if not is_reused:
                self.open()
            try:
                if self.event_loop is None and len(body) < _SMALL_BODY and not _process.is_forked_child:
                    self.sock.sendall(head + body, _NO_SIGNAL)  # 2 us less than send()
                else:
                    await self.send(head, body)  # which ends a forked child
            except OSError as exception:
                _raise_if_not_ours(exception)
                # The API may have replied (413) and hung up before it had read all.
            try:
                data = self.sock.recv(_RECEIVE) if self.event_loop is None else await self.receive()
            except OSError as exception:
                _raise_if_not_ours(exception)
                data = b""
            if data:
                break
            # When the process ends, ask_no_more() has the API close the connection of a GET: it is not sent again.
            if not is_reused or (_process.is_ending and not posted_to):
                raise _ApiError("closed the connection without a reply")
            is_reused = False
        if data == self.usual_202:
            self.is_drained = True
            return 202, {}, b""
        usual = _parse_usual_head(data)
        if usual is None:
            self.is_in_reply = True
            reply = await self.read_reply(data)
        else:
            status, headers, rest = usual
            whole = _take_usual_body(headers, rest)
            if whole is None:
                self.is_in_reply = True
                reply = status, headers, await self.read_body(status, headers, bytearray(rest))
            else:
                reply = status, headers, whole
                if status == 202 and len(data) < _RECEIVE:  # else there may be more behind it
                    self.usual_202 = data
        self.is_in_reply = False
        if posted_to and reply[0] >= 300:
            _judge_refusal(posted_to, reply[0], reply[2])
        return reply

    async def send(self, *parts: "Buffer", sent: int = 0) -> None:
        """Send the parts, but not the first `sent` bytes of them.

        All go to the kernel in one call, if it takes them, so that none becomes a small packet of its own.
        """
        if _process.is_forked_child:
            _end_in_child()
        rest = list(parts)
        while True:
            while rest and sent >= len(rest[0]):
                sent -= len(rest.pop(0))
            if not rest:
                return
            if sent:
                rest[0] = memoryview(rest[0])[sent:]
            try:
                sent = self.sock.sendmsg(rest, (), _NO_SIGNAL)
            except BlockingIOError:
                if self.event_loop is None:
                    raise  # this socket blocks: a signal handler of the function's has raised it
                sent = 0
                await self._wait_for(self.event_loop.add_writer, self.event_loop.remove_writer)

    async def receive(self) -> bytes:
        """What has come, at least one byte; nothing when the API has closed its side."""
        while True:
            try:
                return self.sock.recv(_RECEIVE)  # type: ignore[no-any-return]
            except BlockingIOError:
                if self.event_loop is None:
                    raise  # as in send()
            await self._wait_for(self.event_loop.add_reader, self.event_loop.remove_reader)

    async def receive_more(self) -> bytes:
        """receive() where a reply has to go on, or to begin. Raises _ApiError when nothing more comes."""
        data = await self.receive()
        if not data:
            raise _ApiError("closed the connection in the middle of a reply")
        return data

    async def _wait_for(self, add: "Any", remove: "Any") -> None:
        """Wait until the socket can be read or written: add_reader or add_writer, and its opposite."""
        future = self.event_loop.create_future()
        add(self.sock, future.set_result, None)
        try:
            await future
        finally:
            remove(self.sock)

    async def pass_turn(self, seconds: float = 0) -> None:
        """Leave the event loop to the other connections on it: for one round, or for some seconds.

        Where the next event is already here when it is asked for, nothing in an invocation has to
        wait for anything, and one connection would keep the event loop to itself.
        """
        future = self.event_loop.create_future()
        if seconds:
            self.event_loop.call_later(seconds, future.set_result, None)
        else:
            self.event_loop.call_soon(future.set_result, None)
        await future

    async def read_reply(self, data: bytes) -> "Reply":
        """Read the reply that begins with `data`, by RFC 9112, sections 4 to 7. Raises _ApiError."""
        rest = bytearray(data)
        status = 100
        while status < 200:  # 1xx replies precede the one that counts
            status, self.is_usable, headers = _parse_head(await self._take_lines(rest))
        return status, headers, await self.read_body(status, headers, rest)

    async def read_body(self, status: int, headers: "Headers", rest: bytearray) -> bytearray:
        """Read the body that begins with `rest`; the cases are those of section 6.3, in its order."""
        body = bytearray()
        length = headers.get("content-length")
        coding = headers.get("transfer-encoding")
        if status in (204, 304):
            pass
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise _ApiError("sent Transfer-Encoding other than chunked, or with Content-Length")
            body = await self._take_chunks(rest)
        elif length is not None:
            body = await self._take_bytes(rest, _parse_content_length(length))
        else:
            body, rest, self.is_usable = rest, bytearray(), False
            while data := await self.receive():
                body += data
                _check_size(len(body))
        if rest:  # nobody asked for it, so it is no reply to anything
            self.is_usable = False
        return body

    async def _take_line(self, data: bytearray) -> bytearray:
        """Take a line off `data`, which grows as needed, without its LF."""
        while (end := data.find(b"\n")) < 0:
            if len(data) > _LARGEST_HEAD:
                raise _ApiError(f"sent a line of more than {_LARGEST_HEAD} bytes")
            data += await self.receive_more()
        line = data[:end]
        del data[: end + 1]
        return line

    async def _take_lines(self, data: bytearray) -> "list[str]":
        """Take lines up to an empty one off `data`. They may end in LF alone (section 2.2)."""
        lines: "list[str]" = []
        size = 0
        while line := (await self._take_line(data)).removesuffix(b"\r"):
            text = line.decode("utf-8", "surrogateescape")
            if "\r" in text or "\0" in text:  # "invalid and dangerous" (RFC 9110, 5.5)
                raise _ApiError("sent a bare CR or a NUL in its headers")
            if text[0] in " \t" and lines:  # a folded line goes on (section 5.2)
                lines[-1] += f" {text[1:]}"
            else:
                lines.append(text)
            size += len(line) + 2
            if size > _LARGEST_HEAD:
                raise _ApiError(f"sent more than {_LARGEST_HEAD} bytes of headers")
        return lines

    async def _take_bytes(self, data: bytearray, size: int) -> bytearray:
        """Take `size` bytes off `data`; what is not there yet is received into one buffer."""
        start = data[:size]
        del data[:size]
        received = len(start)
        if received == size:
            return start
        body = bytearray(size)
        body[:received] = start
        with memoryview(body) as view:
            while received < size:
                try:
                    count = self.sock.recv_into(view[received:], 0, _socket.MSG_WAITALL)
                except BlockingIOError:
                    if self.event_loop is None:
                        raise  # as in send()
                    await self._wait_for(self.event_loop.add_reader, self.event_loop.remove_reader)
                    continue
                if not count:
                    raise _ApiError(f"hung up after {received} of {size} bytes of a reply")
                received += count
        return body

    async def _take_chunks(self, data: bytearray) -> bytearray:
        """Take a chunked body off `data` (section 7.1), which grows as needed."""
        body = bytearray()
        size = -1
        while size:
            line = await self._take_line(data)
            digits = line[:-1].partition(b";")[0].rstrip(b" \t")
            is_broken = line[-1:] != b"\r" or digits.strip(_HEX_DIGITS)
            if is_broken or not 0 < len(digits) <= 16:
                raise _ApiError(f"sent a broken chunk size: {bytes(line[:40])!r}")
            size = int(digits, 16)
            _check_size(len(body) + size)
            if size:
                chunk = await self._take_bytes(data, size)
                if body:
                    body += chunk
                else:
                    body = chunk  # usually the only one: it is not copied
                while len(data) < 2:
                    data += await self.receive_more()
                if data[:2] != b"\r\n":
                    raise _ApiError("sent a chunk longer than its size")
                del data[:2]
        _parse_fields(await self._take_lines(data))  # nobody asks for trailers, but they have to be sound
        return body


def _parse_address(address: str) -> "tuple[str, int, str]":
    """Host, port and path prefix of AWS_LAMBDA_RUNTIME_API. Raises _ApiError.

    Lambda gives host:port; cargo-lambda's emulator http://host:port/.rt.
    """
    if not address:
        raise _ApiError("is not set: Lambda sets it, and so do its emulators")
    host, _, port = address.rpartition(":")
    number = int(port) if port.isdecimal() and len(port) < 6 else 0
    if address.isascii() and host.replace(".", "").isalnum() and 0 < number < 1 << 16:
        return host, number, ""
    from urllib.parse import quote, urlsplit

    try:
        url = urlsplit(address if "://" in address else f"http://{address}")
        if address.isascii() and url.scheme == "http" and url.hostname:
            return url.hostname, url.port or 80, quote(url.path.rstrip("/"), safe="/%")
    except ValueError:
        pass
    raise _ApiError("is not host:port or http://host:port/path")


# Status lines and field names that the strict parser has found sound, for the quick one. A name has its
# colon with it, so that a line is cut at its first space. A field that may end the connection is never here.
_known_statuses: "dict[str, int]" = {}
_known_names: "dict[str, str]" = {}
_HEX_DIGITS = b"0123456789abcdefABCDEF"


def _parse_usual_head(data: bytes) -> "Optional[tuple[int, Headers, bytes]]":
    """Status, header fields and what follows the head, if no strict parser is needed to judge it.

    Why there are two is told above. This one must accept nothing that the strict one refuses, and
    find nothing else in what it accepts: tests/protocol/fuzz.py compares them.
    """
    head, empty_line, rest = data.partition(b"\r\n\r\n")
    headers = {}
    try:
        status_line, *lines = head.decode("ascii").split("\r\n")
        status = _known_statuses[status_line]
        for line in lines:
            name, _, value = line.partition(" ")
            headers[_known_names[name]] = value.strip(" \t")
    except (KeyError, ValueError):
        return None
    text = "".join(lines)  # split at each CR LF: a CR or LF that is still there stood alone
    if not empty_line or len(headers) < len(lines) or "\r" in text or "\n" in text or "\0" in text:
        return None
    return status, headers, rest


def _take_usual_body(headers: "Headers", data: bytes) -> "Optional[bytes]":
    """The body, if `data` is the whole of it and nothing else: as long as the head says, or one chunk
    without extensions and trailers, as Go's server writes it."""
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is None:
        return data if length == str(len(data)) else None
    digits, _, rest = data.partition(b"\r\n")
    if coding != "chunked" or length is not None or not 0 < len(digits) <= 16 or digits.strip(_HEX_DIGITS):
        return None
    size = int(digits, 16)
    return rest[:size] if size and rest[size:] == b"\r\n0\r\n\r\n" else None


def _parse_head(lines: "list[str]") -> "tuple[int, bool, Headers]":
    """Status, whether the connection stays open, and header fields (RFC 9112, 4 and 5)."""
    status_line, *lines = lines or [""]
    version, status = status_line[:9], status_line[9:12]
    is_sound = version in ("HTTP/1.1 ", "HTTP/1.0 ") and status_line[12:13] in ("", " ") and len(status) == 3
    if not (is_sound and status.isascii() and status.isdecimal()) or status < "100" or status == "101":
        raise _ApiError(f"sent no HTTP reply but {status_line[:80]!r}")
    headers = _parse_fields(lines)
    if version == "HTTP/1.1 " and status in ("200", "202") and len(_known_statuses) < 20:
        _known_statuses[status_line] = int(status)
    stays_open = version == "HTTP/1.1 " and "close" not in headers.get("connection", "").lower()
    return int(status), stays_open, headers


_TOKEN = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # of RFC 9110, 5.6.2, in lower case


def _parse_fields(lines: "list[str]") -> "Headers":
    """Header or trailer fields by their names in lower case. Raises _ApiError."""
    headers: "Headers" = {}
    for line in lines:
        name, colon, value = line.partition(":")
        lower = name.lower()
        # isascii(): the Kelvin sign is a letter whose lower case is an ASCII "k".
        if not (colon and name and name.isascii()) or lower.strip(_TOKEN):
            raise _ApiError(f"sent a broken header line: {line[:80]!r}")
        if lower != "connection" and len(_known_names) < 100:
            _known_names[f"{name}:"] = lower
        value = value.strip(" \t")
        # A field that comes twice is a list (RFC 9110, 5.3).
        headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
    return headers


def _parse_content_length(value: str) -> int:
    """One length, even if it is said more than once (RFC 9112, 6.3, rule 5). Raises _ApiError."""
    length, *others = {length.strip(" \t") for length in value.split(",")}
    if others or not (length.isdecimal() and length.isascii() and len(length) < 20):
        raise _ApiError(f"sent a broken Content-Length: {value[:80]!r}")
    return _check_size(int(length))


def _check_size(size: int) -> int:
    if size > _LARGEST_BODY:
        raise _ApiError(f"sent a body of more than {_LARGEST_BODY} bytes")
    return size


# ---- SnapStart -------------------------------------------------------------------------------


def _take_snapshot(client: LambdaRuntimeClient) -> None:
    """Run the function's hooks around the snapshot, which Lambda takes while `restore/next` waits.

    The hooks are those of the package snapshot_restore_py, in awslambdaric's order: before the
    snapshot the one registered last runs first.
    """
    hooks = sys.modules.get("snapshot_restore_py")
    try:
        for function, args, kwargs in reversed(hooks.get_before_snapshot() if hooks else []):
            function(*args, **kwargs)
        client.connection.close()  # no connection survives the snapshot
        client.restore_next()
    except BaseException as exception:
        _fail_init(client, exception, _FAILED_BEFORE_SNAPSHOT, "Runtime.BeforeSnapshotError")
    try:
        seed = getattr(sys.modules.get("random"), "seed", None)
        if seed:
            seed()  # or each of a thousand restores would draw the same numbers
        for function, args, kwargs in hooks.get_after_restore() if hooks else []:
            function(*args, **kwargs)
    except BaseException as exception:
        document, _ = _log_exception(exception)
        client.report_restore_error(document)
        sys.exit(_FAILED_AFTER_RESTORE)


# ---- SIGTERM ---------------------------------------------------------------------------------


def _prepare_for_sigterm(address: str, is_async: bool, may_register: bool) -> None:
    """Have Lambda send SIGTERM before it ends the process, if the function handles it.

    Lambda sends it only where an extension is registered. An internal one, which lives in this
    process and waits for no events, will do.
    """
    handler = _signal.getsignal(_signal.SIGTERM)
    if not callable(handler):
        return
    if may_register:
        connection = _process.extension = _Connection(address)
        try:
            _register_extension(connection)
        except (OSError, _ApiError) as exception:
            _raise_if_not_ours(exception)
            connection.close()
            _note(f"the SIGTERM handler will not run, no extension could be registered: {exception}")
    if (getattr(handler, "__module__", None) or "").startswith("asyncio") and not is_async:
        # event_loop.add_signal_handler() has installed it, and a running event loop calls its callback when it
        # finds the signal's byte in the self-pipe. Under a plain handler none runs: so SIGTERM runs the event
        # loop, for as long as the callback may take.
        event_loop = _get_event_loop()

        def run_callbacks(signum: int, frame: object) -> None:
            if not event_loop.is_running():
                event_loop.call_later(0.3, event_loop.stop)  # of the 500 ms that Lambda gives
                event_loop.run_forever()

        _signal.signal(_signal.SIGTERM, run_callbacks)


def _register_extension(connection: _Connection) -> None:
    """Register an internal extension without events. Raises _ApiError.

    Init ends only when each extension has asked for its next event. The request of one
    without events gets no reply, so the connection stays open for as long as the process lives.
    """
    path, body = f"{_EXTENSION}/register", b'{"events": []}'
    fields = "Lambda-Extension-Name: python-runtime\r\nContent-Type: application/json\r\n"
    head = connection.request_head("POST", path, f"{fields}Content-Length: {len(body)}\r\n")
    status, headers, reply = _run_blocking(connection.exchange(head, body))
    identifier = headers.get("lambda-extension-identifier")
    if status >= 300 or not identifier:
        answer = f"{status} {bytes(reply[:200])!r}"
        raise _ApiError(f"POST {path} was answered {answer}, not 200 and an identifier")
    if not connection.is_idle_and_open():  # the reply may have said that the API closes it
        connection.open()
    fields = f"Lambda-Extension-Identifier: {_field_value(identifier)}\r\n"
    _run_blocking(connection.send(connection.request_head("GET", f"{_EXTENSION}/event/next", fields)))


# ---- Timeouts --------------------------------------------------------------------------------


def _watch_deadlines() -> None:
    """PYTHONFAULTHANDLER=1: dump all stacks 100 ms before an invocation times out.

    faulthandler's own thread does it, without the GIL, and writes no text but the names of functions. So
    each invocation gets a copy of _call_function() with its request id for a name. Where an event loop
    runs, a timer on it dumps first, from the main thread: faulthandler's could read frames while
    they change. faulthandler's follows 20 ms later, for a handler that blocks the event loop.
    """
    global _call_function
    import faulthandler

    call_function: "Any" = _call_function
    dump_at: "dict[_Invocation, float]" = {}  # Unix time, for each invocation under way

    def arm() -> None:
        faulthandler.cancel_dump_traceback_later()
        waits = [wait for wait in (moment - _now() for moment in dump_at.values()) if wait > 0]
        if waits:
            faulthandler.dump_traceback_later(min(waits), file=2)

    async def call_and_watch(request_handler: "Handler", invocation: _Invocation) -> "SendAnswer":
        name = f"RequestId: {_field_value(invocation.request_id)}"
        named: "Any" = type(call_function)(call_function.__code__.replace(co_name=name), globals())
        # At most 12 days: faulthandler refuses what is centuries away.
        wait = min(invocation.deadline_in_ms() / 1000 - 0.1 - _now(), 1e6)
        timer = None

        def dump() -> None:
            del dump_at[invocation]
            arm()
            faulthandler.dump_traceback(file=2)
            _dump_tasks(name)

        event_loop = invocation.client.connection.event_loop
        if event_loop is not None and wait > 0:
            timer = event_loop.call_later(wait, dump)
            wait += 0.02
        dump_at[invocation] = _now() + wait
        arm()
        try:
            return await named(request_handler, invocation)  # type: ignore[no-any-return]
        finally:
            dump_at.pop(invocation, None)
            arm()
            if timer is not None:
                timer.cancel()

    _call_function = call_and_watch


def _dump_tasks(name: str) -> None:
    """Say where each task of the event loop waits; faulthandler sees running code only."""
    import asyncio

    lines = [f"{name} is about to time out; the tasks that wait:\n"]
    # What a coroutine, an async generator and a generator call their frame, and what they wait for.
    kinds = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        stack = []
        waiting: "Any" = task.get_coro()
        while waiting is not None:
            # What __anext__() returns has no attribute for its async generator, but refers to it.
            inside = (waiting, *gc.get_referents(waiting))
            pairs = ([getattr(each, key, None) for key in keys] for each in inside for keys in kinds)
            frame, waiting = next((pair for pair in pairs if pair[0] is not None), (None, None))
            if frame is not None and frame.f_code.co_filename != __file__:
                code = frame.f_code
                stack.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}\n')
        if stack:
            lines += [f"{task.get_name()}:\n", *stack]
    _write(2, "".join(lines).encode("utf-8", "backslashreplace"))


# ---- Managed Instances -----------------------------------------------------------------------
#
# AWS_LAMBDA_MAX_CONCURRENCY=N lets N invocations run at once: N times `next` may wait. The first
# process becomes the supervisor of forked workers, each of which imports the function and serves
# invocations as a process of its own: plain handlers in N workers of one slot each, async ones in
# a worker for each processor, with the slots divided among them. Which of the two the handler is can
# be seen only after its import. So one worker is started first, and tells.
#
# Lambda does not end an invocation here that is past its deadline, nor one whose process has
# died. So a worker and its supervisor share a board: memory on which each slot has the invocation
# at hand and its deadline. Writing to it costs an invocation 0.5 us, and what is written there
# outlives the worker. An async invocation past its deadline is cancelled by its worker, on the event
# loop. If it is a plain one, or blocks the event loop, the supervisor ends the worker. What a dead
# worker has left unanswered is answered by a child of the supervisor.
#
# The board begins with what a worker tells of itself, one byte for each piece of news:

_ASYNC_READY = b"a"  # the function is initialised; its handler is async
_PLAIN_READY = b"p"  # the same, and it is not
_RETIRES = b"r"  # the worker takes no more events, finishes those that it has, and ends
_API_IS_GONE = b"!"  # the worker ends because of the Runtime API

# A worker that had been ready is replaced at once. One that was not, or that found no Runtime API
# before its first event, is replaced after a pause: the next will hardly fare better, and after
# four in a row the supervisor gives up. If the very first worker fails, it reports the init error
# itself, unless a signal kills it, and the supervisor exits with the same status, or with 1.

_GRACE = 0.4  # seconds that a function has to end in; when Lambda shuts down a process, it has 0.5
_MARGIN = 0.1  # seconds that a worker may be late with what it has to do
_NEVER = float("inf")

# The states of a slot on the board.
_IDLE = 0
_RUNNING = 1
_ANSWERING = 2  # at the deadline the function's code had ended, and only the answer was still to be sent
_OVERDUE = 3  # past its deadline, and being ended for that
_ABANDONED = 4  # past its deadline and has not ended for that: the supervisor is to answer in its place


class _Board:
    """Memory that a worker shares with its supervisor, mapped before the fork(); one for each worker."""

    # The byte behind the news. By SIGURG the supervisor has a worker interrupt an overdue invocation that blocks
    # its event loop (_DeadlineWatch). This byte tells the supervisor what has become of the last one sent.
    _SIGURG_STATE = 7
    # Its values:
    _TAKEN = 0  # the worker has taken it, or none was sent
    _PENDING = 1
    _IN_VAIN = 2  # the worker has taken it, and interrupted an invocation that it had interrupted before
    _ENTRIES = 8  # where the entries of the slots begin

    def __init__(self, index: int, slots: int) -> None:
        from _struct import Struct
        from mmap import mmap

        # What the supervisor notes of the worker; no part of the memory.
        self.pid = 0
        self.index = index  # the worker's place among the workers, which its successor takes over
        self.is_replaced = False
        self.sigurg_at = 0.0  # when it was last sent SIGURG
        self.sigterm_at = _NEVER  # when it was sent SIGTERM because of a deadline
        self.descendants: "list[int]" = []  # the processes that it had started by then; they end with it
        # The entry of a slot: the two ids of its invocation, when that began, its deadline, and the state.
        self.entry = Struct("=256sddB")
        self.supervisor = os.getpid()
        self.memory: "Any" = mmap(-1, self._ENTRIES + slots * self.entry.size)
        self.places = list(range(self._ENTRIES, len(self.memory), self.entry.size))  # where each entry begins
        self.state_at = self.entry.size - 1

    def told(self) -> bytes:
        return self.memory[: self._SIGURG_STATE].rstrip(b"\0")  # type: ignore[no-any-return]

    def state(self, place: int) -> int:
        return self.memory[place + self.state_at]  # type: ignore[no-any-return]

    def mark(self, place: int, state: int) -> None:
        self.memory[place + self.state_at] = state

    def read(self, place: int) -> "tuple[str, str, float, float]":
        """Request id, invocation id, beginning and deadline of the invocation in a slot."""
        ids, began, deadline, _ = self.entry.unpack_from(self.memory, place)
        request_id, _, invocation_id = ids.rstrip(b"\0").decode("utf-8", "surrogateescape").partition("\n")
        return request_id, invocation_id, began, deadline


class _WorkerClient(LambdaRuntimeClient):
    """The client of a slot, whose invocation is on the board."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        board: "Any" = _process.board
        self.board = board
        self.place = board.places.pop(0)  # of the worker's copy of the list: the supervisor's stays whole
        self.watch: "Optional[_DeadlineWatch]" = None
        self.began = self.deadline = 0.0
        self.next_look = _NEVER  # Unix time: when the watch is to look at this slot
        # The process ends after this invocation. With a watch that is so if interrupt() has interrupted it.
        self.is_last = False

    async def wait_next_invocation(self) -> _Invocation:
        self.note_end_of_invocation()
        if self.is_last:
            sys.exit(0)
        # Where others share the process, `next` is asked five times in all, as by awslambdaric.
        for pause in (0.1, 0.2, 0.4, 0.8, None):
            if _process.is_shared:
                await self.connection.pass_turn()
            try:
                invocation = await super().wait_next_invocation()
                break
            except _ApiError as exception:
                if pause is None or not _process.is_shared or _process.is_ending:
                    raise
                _note(f"Runtime API: {exception}; next is asked again")
                self.connection.close()
            await self.connection.pass_turn(pause)
        self.invocation, self.began = invocation, _now()
        self.deadline = invocation.deadline_in_ms() / 1000
        if self.deadline <= self.began:
            # It has passed. If less than an hour ago, another invocation has blocked the event loop, and this
            # one is given _MARGIN. If more, an emulator has sent a small number: there is no deadline.
            self.deadline = self.began + _MARGIN if self.deadline > self.began - 3600 else _NEVER
        ids = f"{invocation.request_id}\n{invocation.invocation_id or ''}".encode("utf-8", "surrogateescape")
        board = self.board
        board.entry.pack_into(board.memory, self.place, ids, self.began, self.deadline, _RUNNING)
        if self.watch is not None:
            self.next_look = self.deadline
            if self.deadline < self.watch.armed_for:
                self.watch.arm(self.deadline)
        return invocation

    def note_end_of_invocation(self) -> None:
        if self.invocation is not None:
            if self.watch is None and self.seconds_if_overdue():
                # Without a watch it is the supervisor that marks a slot _OVERDUE, and sends SIGTERM with it. A worker
                # that outlives that, for a _GRACE, shall take no other event.
                self.is_last = True
            self.invocation, self.next_look = None, _NEVER
            self.board.mark(self.place, _IDLE)

    def seconds_if_overdue(self) -> float:
        return self.deadline - self.began if self.board.state(self.place) == _OVERDUE else 0


class _DeadlineWatch:
    """Cancels the async invocations of a worker that are past their deadlines.

    One timer waits for the nearest deadline. It is not stopped when that invocation ends in time: look()
    then arms it for the nearest of the others. wait_next_invocation() arms it where a new one is nearer.
    """

    def __init__(self, event_loop: "Any", clients: "Any", abandon: "Callable[[_WorkerClient], None]") -> None:
        self.event_loop, self.clients, self.abandon = event_loop, clients, abandon
        self.armed_for = _NEVER
        self.timer: "Any" = None
        for client in clients:
            client.watch = self
        if _signal.getsignal(_signal.SIGURG) == _signal.SIG_DFL:  # which is to ignore it
            _signal.signal(_signal.SIGURG, self.interrupt)

    def arm(self, moment: float) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.armed_for = moment
        self.timer = self.event_loop.call_later(max(0.001, moment - _now()), self.look)

    def look(self) -> None:
        now, self.armed_for = _now(), _NEVER
        for client in self.clients:
            if client.next_look <= now:
                self.expire(client, now)
        moment = min(client.next_look for client in self.clients)
        if moment < _NEVER:
            self.arm(moment)

    def expire(self, client: "_WorkerClient", now: float) -> None:
        task: "Any" = client.invocation and client.invocation.task
        client.next_look = _NEVER
        if task is None or task.done():
            client.board.mark(client.place, _ANSWERING)
        elif not client.seconds_if_overdue():
            client.board.mark(client.place, _OVERDUE)
            client.next_look = now + _GRACE
            task.cancel()
        else:  # it has ignored that
            client.board.mark(client.place, _ABANDONED)
            task._log_destroy_pending = False  # or asyncio logs an ERROR at the end of the process
            client.invocation = None  # else note_end_of_invocation() would mark the slot _IDLE
            self.abandon(client)

    def interrupt(self, signum: int, frame: object) -> None:
        """SIGURG, sent by the supervisor when look() seems blocked: raise in an overdue invocation that runs.

        The process then ends, when its other invocations have: nobody knows what was interrupted.
        If what runs and blocks look() is an invocation that has time left, it goes on.
        """
        import asyncio

        memory = self.clients[0].board.memory
        memory[_Board._SIGURG_STATE] = _Board._TAKEN
        request_id = getattr(_current_context.get(), "aws_request_id", None)
        for client in self.clients:
            if client.next_look <= _now() and client.invocation.request_id == request_id:
                if client.is_last:  # it was interrupted before, and blocks again
                    memory[_Board._SIGURG_STATE] = _Board._IN_VAIN
                client.board.mark(client.place, _OVERDUE)
                client.next_look, client.is_last = _now() + _GRACE, True
                raise asyncio.CancelledError


class _Supervisor:
    """Starts the workers, replaces those that die or hang, passes SIGTERM on."""

    _MOST_FAILURES = 3  # in a row; one more, and the supervisor gives up
    _LOOK = 0.5  # seconds from one look at the boards to the next: Lambda's shortest timeout is longer
    _CLOSE_LOOK = 0.05  # the same, while something is overdue

    def __init__(self, address: str, find_handler: "Callable[[], Handler]", slots: int) -> None:
        self.address, self.find_handler, self.slots = address, find_handler, slots
        self.processors = min(slots, _count_processors())
        self.boards: "dict[int, _Board]" = {}  # of the workers that run, by process id
        self.ready = b""  # _ASYNC_READY or _PLAIN_READY, as the first worker told; empty before
        self.failures = 0  # workers in a row that could not start or found no Runtime API
        self.is_stopping = False

    def supervise(self) -> "NoReturn":
        """Keep the workers alive until SIGTERM, or until they fail. Raises SystemExit."""
        # These two are blocked, and sigtimedwait() takes them: they never interrupt anything here.
        signals = [_signal.SIGTERM, _signal.SIGCHLD]
        self.signal_mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, signals)
        self.start_worker(0)
        while self.boards:
            boards = [] if self.is_stopping else list(self.boards.values())
            wait = min(map(self.look_at, boards), default=self._LOOK)
            received = _signal.sigtimedwait(signals, wait)
            if received is not None and received.si_signo == _signal.SIGTERM:
                self.stop()
            self.reap()
        sys.exit(_FAILED if self.failures > self._MOST_FAILURES else 0)

    def start_worker(self, index: int) -> None:
        # This worker's share of the slots, dealt out in turn to the processors. Only an async
        # handler uses it: _serve() gives a plain one a single slot.
        slots = len(range(index % self.processors, self.slots, self.processors))
        board = _Board(index, slots)
        board.pid = os.fork()
        if not board.pid:
            _process.board = board
            _process.log_descriptor = None  # as under awslambdaric, whose workers write no frames
            self.boards.clear()
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self.signal_mask)
            _redirect_output()
            _serve(self.address, self.find_handler, slots, is_first=not self.ready)
        self.boards[board.pid] = board

    def hear(self, board: _Board) -> bytes:
        """What a worker has told so far. When the first is ready, the others are started."""
        told = board.told()
        if not self.ready and told[:1] in (_ASYNC_READY, _PLAIN_READY):
            self.ready = told[:1]
            count = self.slots if self.ready == _PLAIN_READY else self.processors
            for index in range(1, count):
                self.start_worker(index)
            if os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper() in ("DEBUG", "TRACE"):
                import logging

                # awslambdaric's words, which Lambda's tools may look for.
                record = {"event": "runtime_worker_pool_initializing", "workerCount": count}
                logging.getLogger().debug({**record, "executionEnvironmentMaxConcurrency": self.slots})
        if _RETIRES in told and not board.is_replaced:
            board.is_replaced = True
            self.start_worker(board.index)
        return told

    def look_at(self, board: _Board) -> float:
        """Hear a worker, end it if an invocation is past its deadline; return the seconds until the next look."""
        self.hear(board)
        now = _now()
        if board.sigterm_at < _NEVER:
            if now > board.sigterm_at + _GRACE:
                os.kill(board.pid, _signal.SIGKILL)
            return self._CLOSE_LOOK
        lateness = {}  # seconds past the deadline, of each slot at work; negative before it, -inf without one
        for place in board.places:
            state = board.state(place)
            if state == _ABANDONED:
                self.answer(board, "", [place])
            elif state in (_RUNNING, _OVERDUE):
                lateness[place] = now - board.read(place)[3]
        overdue = [place for place in lateness if lateness[place] >= 0]
        if not overdue:
            return min([self._LOOK, *(-late for late in lateness.values())])
        if self.ready == _PLAIN_READY or self.is_blocked(board, lateness):
            for place in overdue:
                board.mark(place, _OVERDUE)
            board.sigterm_at, board.descendants = now, _find_descendants(board.pid)
            os.kill(board.pid, _signal.SIGTERM)
        return self._CLOSE_LOOK

    def is_blocked(self, board: _Board, lateness: "dict[int, float]") -> bool:
        """Whether a worker's event loop is blocked, and SIGURG, which this sends to it, has not helped.

        A worker that is not blocked cancels an invocation at its deadline, and abandons it when its grace is over.
        So a slot that is still _RUNNING or _OVERDUE some time after the deadline tells of a blocked one.
        """
        # An overdue one may have been interrupted by SIGURG, which may take a _GRACE to arrive; then it has another.
        limits = {_RUNNING: _MARGIN, _OVERDUE: _MARGIN + _GRACE + _GRACE}
        # A slot that has been answered since look_at() read it is in another state, and has no limit.
        if not any(late > limits.get(board.state(place), _NEVER) for place, late in lateness.items()):
            return False
        # SIGURG comes first, and again if the worker took it and is still blocked: below it is pending, or was in
        # vain. It has not helped if it is not taken within _GRACE, or if a deadline is 10 * _GRACE ago.
        if board.memory[_Board._SIGURG_STATE] == _Board._TAKEN:
            board.memory[_Board._SIGURG_STATE], board.sigurg_at = _Board._PENDING, _now()
            os.kill(board.pid, _signal.SIGURG)
        if board.memory[_Board._SIGURG_STATE] == _Board._IN_VAIN or _now() > board.sigurg_at + _GRACE:
            return True
        return max(lateness.values()) > 10 * _GRACE

    def reap(self) -> None:
        pid = 1
        while pid:  # it is 0 when no more children have ended
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid in self.boards:
                self.bury(pid, status)

    def bury(self, pid: int, status: int) -> None:
        """Take leave of a worker that has ended, and start another in its place."""
        board = self.boards.pop(pid)
        for descendant in board.descendants:
            try:
                os.kill(descendant, _signal.SIGKILL)
            except OSError:  # it has ended by itself
                pass
        if self.is_stopping:
            return
        reason = "exited without providing a reason"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = (_signal.strsignal(number) or str(number)).lower()
            reason = f"exited with error: signal: {name}"
            if board.sigterm_at == _NEVER:
                _note(f"a worker was ended by signal {number} ({name})")
        elif status:
            reason = f"exited with error: exit status {os.WEXITSTATUS(status)}"
        self.answer(board, f"Runtime {reason}", board.places)
        told = self.hear(board)
        if not self.ready:  # the first: it has reported its init error itself, if it could
            sys.exit(os.WEXITSTATUS(status) or _FAILED)
        has_served = any(board.memory[place] for place in board.places)  # an id is there
        has_failed = not told or (_API_IS_GONE in told and not has_served)
        self.failures = self.failures + 1 if has_failed else 0
        if self.failures > self._MOST_FAILURES:
            self.stop()
        elif not board.is_replaced:
            _sleep(self.failures / 10)
            self.start_worker(board.index)

    def answer(self, board: _Board, reason: str, places: "list[int]") -> None:
        """Answer the invocations in these slots in place of their worker, as timed out or for this reason.

        A child does it, since the Runtime API may take its time. The child has 10 seconds.
        """
        losses = []
        for place in filter(board.state, places):  # those that are not _IDLE, which is 0
            request_id, invocation_id, began, deadline = board.read(place)
            seconds = deadline - began if board.state(place) >= _OVERDUE else 0
            losses.append((request_id, *_describe_loss(request_id, seconds, reason), invocation_id))
            board.mark(place, _IDLE)
        if not losses or os.fork():
            return  # the supervisor; what follows is the child
        try:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, self.signal_mask)
            _signal.alarm(10)
            client = LambdaRuntimeClient(self.address)
            for loss in losses:
                try:
                    _run_blocking(client.post_invocation_error(*loss))
                except _ApiError as exception:
                    _note(f"Runtime API: {exception}")
        finally:
            os._exit(0)

    def stop(self) -> None:
        self.is_stopping = True
        for pid in self.boards:
            os.kill(pid, _signal.SIGTERM)


def _find_descendants(pid: int) -> "list[int]":
    """The processes that a process has started, and those that they have."""
    found = [pid]
    for each in found:
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                with open(f"/proc/{each}/task/{thread}/children") as file:
                    found += map(int, file.read().split())
        except OSError:  # it has ended meanwhile
            pass
    return found[1:]


def _count_processors(membership: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """How many processors this process may use: its affinity, and the quota of its control groups."""

    def read(file: str) -> str:
        try:
            with open(file) as opened:
                return opened.read()
        except OSError:
            return ""

    count = len(os.sched_getaffinity(0))
    for line in read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2 has one hierarchy, without a name
            folder, names = root, ["cpu.max"]
        elif "cpu" in controllers.split(","):  # version 1
            folder, names = f"{root}/cpu", ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        # Each group above the process's own sets a limit, too: for /a/b the root's, /a's and its own are read.
        for group in [path[:end] for end, letter in enumerate(f"{path}/") if letter == "/"]:
            words = " ".join(read(f"{folder}{group}/{name}") for name in names).split()
            if len(words) == 2 and words[0].isdecimal() and words[0] != "0":  # "max", and -1, are none
                count = min(count, -(-int(words[0]) // int(words[1])))
    return count


def _tell_supervisor(news: bytes) -> None:
    """Write a piece of news on the board, if this process is a worker; else do nothing."""
    board = _process.board
    if board is not None and not _process.is_forked_child:
        board.memory[len(board.told())] = news[0]
        try:
            # This wakes it up. If it has gone, and its pid is another program's: few programs heed this signal.
            os.kill(board.supervisor, _signal.SIGCHLD)
        except ProcessLookupError:
            pass  # it has gone, and Lambda ends the other processes with it


def _describe_loss(request_id: str, seconds: float, reason: str = "") -> "tuple[ErrorDocument, str]":
    """The error of an invocation that was ended after so many seconds, or lost; in words of Lambda's own."""
    if seconds:
        reason = f"Task timed out after {seconds:.2f} seconds"
    message = f"RequestId: {request_id} Error: {reason}"
    _note(message)
    error_type = "Sandbox.Timedout" if seconds else "Runtime.ExitError"
    return _describe_error(_Fault(error_type, message), request_id)


def _redirect_output() -> None:
    """Connect stdout and stderr to the log socket of Managed Instances, one connection each."""
    path = os.environ.get("_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET", "")
    try:
        for descriptor in (1, 2) if path else ():
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            # Wait a second at most, since there may be nobody who accepts. With settimeout() connect()
            # would not wait at all for one who is busy.
            second = (1).to_bytes(8, sys.byteorder) + bytes(8)  # a struct timeval: seconds, microseconds
            sock.setsockopt(_SOL_SOCKET, _socket.SO_SNDTIMEO, second)
            sock.connect(path)
            sock.setsockopt(_SOL_SOCKET, _socket.SO_SNDTIMEO, bytes(16))
            os.dup2(sock.fileno(), descriptor)
            sock.close()
    except OSError as exception:
        _note(f"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET={path}: {exception.strerror or exception}")
