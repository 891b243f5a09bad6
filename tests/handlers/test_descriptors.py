"""Functions that close descriptors which they have not opened, and open their own in their place."""

import itertools
import os
import unittest

from miniature import Fault, Lambda, function, keeps_connections
from miniature.process import tell

# closerange() frees the numbers, which the function's own sockets and files then get.
SOURCE = """
import gc, os, resource, select, socket, tempfile, threading

own, others = [], []

def take(kind, most=100):
    highest = max(number for number in map(int, os.listdir("/proc/self/fd")) if number < 100)
    own.clear()
    os.closerange(3, 100)
    while kind != "nothing" and len(own) < most and max([each.fileno() for each in own], default=0) < highest:
        if kind == "file":
            own.append(tempfile.TemporaryFile(buffering=0))
        elif kind == "epoll":
            own.append(select.epoll())
        elif kind == "socket pair":
            own.extend(socket.socketpair())
        elif kind == "connections":
            listener = socket.create_server(("127.0.0.1", 0))
            own.extend([listener, socket.create_connection(listener.getsockname()), listener.accept()[0]])

def found():
    "What is in the function's own, and whether they are all open still."
    data = []
    gc.collect()
    for each in own:
        os.fstat(each.fileno())
        if isinstance(each, socket.socket):
            try:
                data.append(each.recv(100, socket.MSG_DONTWAIT))
            except OSError:
                pass
        elif isinstance(each, select.epoll):
            data.append(each.poll(0))
        else:
            each.seek(0)
            data.append(each.read())
    return [str(each) for each in data if each]

def handler(event, context):
    kind, _, nothing = event.partition(", ")
    if kind in ("file", "socket pair", "connections"):
        take(kind)
    if nothing == "no bytes":
        return b""
    if event == "error":
        raise ValueError("an error")
    if event == "stream":
        return iter(["one", "two"])
    if event and event.startswith("take and stream, "):
        return taking(*event[17:].split(", "))
    return found()

def taking(kind, most, size):
    "A stream, in whose middle the function takes the numbers; with a limit of 40 the socket cannot move to a high one."
    if most == "all of 40":
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    yield "zero"
    yield "one"
    take(kind, most=20 if most == "20" else 100)
    yield "two" * int(size)
"""


class Taken(unittest.TestCase):
    @keeps_connections
    def test_the_event_is_answered_and_nothing_goes_into_what_is_the_functions(self):
        for kind in "file", "socket pair", "connections", "socket pair, no bytes":
            with self.subTest(kind), function(function=SOURCE) as root, Lambda(root) as aws:
                aws.invoke("before")
                aws.invoke("before")  # the second reply is taken by its usual form, and from then on there are fewer looks
                self.assertEqual(aws.invoke(kind).body, b"" if "no bytes" in kind else b"[]")
                self.assertEqual(aws.invoke("error").json["errorMessage"], "an error")
                aws.answers("response", Fault(close=True))
                self.assertEqual(aws.invoke("stream").body, b"onetwo")
                self.assertEqual(aws.invoke("after").json, [])
                self.assertEqual(aws.stderr, "")

    @keeps_connections
    def test_by_the_import(self):
        """The first `next` is not asked for on what the function has opened in their place."""
        for kind in "file", "socket pair", "connections":
            with self.subTest(kind), function(function=f"{SOURCE}\ntake({kind!r})\n") as root, Lambda(root) as aws:
                self.assertEqual(aws.invoke("after").json, [])

    @keeps_connections
    def test_in_the_middle_of_a_stream(self):
        """The connection is gone, and the stream with it: that is in the log, and the next event is answered."""
        for kind, most in itertools.product(("connections", "socket pair", "file"), ("20", "all", "all of 40")):
            with self.subTest(kind, most=most), function(function=SOURCE) as root, Lambda(root) as aws:
                for size in 1, 3000:  # a small chunk goes out in another way than a large one
                    aws.send(f"take and stream, {kind}, {most}, {size}")
                    self.assertEqual(aws.invoke("after").json, [])
                self.assertEqual(aws.stderr.count("was cut off"), 2)

    @keeps_connections
    def test_a_stream_moves_the_socket_to_a_high_number(self):
        """To one that is free, as is the one below it; there it stays. The function's own keep theirs."""
        source = """
import os

own = os.open(__file__, os.O_RDONLY)
for number in 63, 61:
    os.dup2(own, number)

def handler(event, context):
    if event == "stream":
        return iter(["one", "two"])
    links = {name: os.readlink(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{name}")}
    files = [int(name) for name, link in links.items() if link == __file__ and int(name) != own]
    sockets = [int(name) for name, link in links.items() if link.startswith("socket:") and int(name) > 2]
    return sorted(files), sockets
"""
        with function(function=source) as root, Lambda(root) as aws:
            for _ in range(2):
                self.assertEqual(aws.invoke("stream").body, b"onetwo")
                self.assertEqual(aws.invoke("look").json, [[61, 63], [60]])

    def test_a_thread_that_takes_them_while_next_waits(self):
        source = SOURCE + """
def handler(event, context):
    if event == "later":
        threading.Thread(target=later).start()
    return found()

def later():
    with open(os.path.join(os.path.dirname(__file__), "fifo")) as fifo:
        fifo.read()
    take("connections")
    print("taken")
"""
        with function(function=source) as root, Lambda(root) as aws:
            fifo = os.path.join(root, "fifo")
            os.mkfifo(fifo)
            aws.invoke("later")
            aws.wait_for_next()
            tell(fifo)
            aws.wait_for(lambda: "taken" in aws.log)
            self.assertEqual(aws.invoke().json, [])
            self.assertEqual(aws.invoke().json, [])

    @keeps_connections
    def test_the_descriptor_for_log_records(self):
        """Its number may be a file of the function's: no record goes there."""
        with function(function=SOURCE) as root, Lambda(root, telemetry=True) as aws:
            aws.invoke("error")
            self.assertEqual(len(aws.frames), 1)
            aws.invoke("file")
            aws.invoke("error")
            self.assertEqual(aws.invoke("after").json, [])
            self.assertEqual(len(aws.frames), 1)


ASYNC = SOURCE + """
import asyncio, signal, sys, warnings

warnings.simplefilter("ignore", ResourceWarning)  # of what is opened here and left open

loop, waiting = None, []

def take(kind, take_all=take):
    if kind != "the event loop's":
        return take_all(kind)
    for each in loop._selector, loop._csock:
        os.close(each.fileno())

async def use():
    "All that an event loop has descriptors for."
    await asyncio.sleep(0.001)
    assert await asyncio.to_thread(lambda: 7) == 7
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    server.close()
    waiting.append(loop.create_future())
    os.kill(os.getpid(), signal.SIGUSR1)
    await waiting[-1]

async def handler(event, context):
    global loop
    if loop is None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, lambda: [waiting.pop().set_result(None) for _ in waiting[:]])
    if event == "count":
        return len(os.listdir("/proc/self/fd"))
    if not event:
        await use()
        return found()
    kind, then = event
    if then == "by a thread":
        thread = threading.Thread(target=lambda: [take(kind), loop.call_soon_threadsafe(print, "called")])
        thread.start()
        thread.join()
        assert not found()
        await asyncio.sleep(0)
    else:
        take(kind)
    if then == "exit":
        sys.exit(3)
    if then == "stream":
        return stream()
    if then == "use":
        await use()
    return found()

async def stream():
    yield "one"
    await use()
    yield "two"
"""


class TakenFromTheEventLoop(unittest.TestCase):
    """An async handler that closes the event loop's epoll and self-pipe, too."""

    @keeps_connections
    def test_the_event_is_answered_and_the_event_loop_goes_on(self):
        for kind in "nothing", "file", "epoll", "socket pair", "connections", "the event loop's":
            with function(function=ASYNC) as root, Lambda(root) as aws:
                for then in "end", "use", "by a thread", "stream", "end":
                    if kind == "epoll" and then == "use":
                        continue  # polled instead of the event loop's: that shows with the answer
                    with self.subTest(kind, then=then):
                        answer = aws.invoke([kind, then])
                        self.assertEqual(answer.body, b"onetwo" if then == "stream" else b"[]")
                        self.assertEqual(aws.invoke().json, [])
                self.assertEqual((aws.stderr, aws.log), ("", "called\n"))

    @keeps_connections
    def test_the_end(self):
        with function(function=ASYNC) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke(["file", "exit"]).error["errorType"], "SystemExit")
            self.assertEqual(aws.wait(), 3)

    @keeps_connections
    def test_stdin_stdout_and_stderr(self):
        """Nothing of the event loop's gets their numbers: what is printed would wake it up, or wait for ever to be read."""
        source = """
import os

def close():
    os.closerange(0, 100)

{moment}

async def handler(event, context):
    if event == "close":
        close()
    else:
        print("x" * 1_000_000)
    return [os.path.samefile(f"/dev/fd/{{number}}", "/dev/null") for number in range(3)] if event == "look" else []
"""
        for moment in "close()", "":
            with self.subTest(moment), function(function=source.format(moment=moment)) as root, Lambda(root) as aws:
                aws.invoke("" if moment else "close")
                self.assertEqual(aws.invoke("look").json, [True] * 3)

    @keeps_connections
    def test_neighbours(self):
        """The connections of the other slots have gone as well: they ask for their events again."""
        processors = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, processors)
        os.sched_setaffinity(0, [min(processors)])  # one worker has all slots
        for kind in "nothing", "socket pair", "connections":
            with self.subTest(kind), function(function=ASYNC) as root:
                with Lambda(root, env={"AWS_LAMBDA_MAX_CONCURRENCY": "4"}) as aws:
                    count = aws.invoke("count").json
                    aws.wait_for_next(4)
                    self.assertEqual(aws.invoke([kind, "use"]).json, [])
                    aws.wait_for_next(4)
                    if kind == "nothing":
                        self.assertLessEqual(aws.invoke("count").json, count)
                    ids = [aws.send() for _ in range(8)]
                    self.assertEqual([aws.answer(request_id).json for request_id in ids], [[]] * 8)


if __name__ == "__main__":
    unittest.main()
