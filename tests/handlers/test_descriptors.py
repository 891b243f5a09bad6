"""Functions that close descriptors which they have not opened, and open their own in their place."""

import os
import unittest

from miniature import Fault, Lambda, function, keeps_connections
from miniature.process import tell

# closerange() frees the numbers, which the function's own sockets and files then get.
SOURCE = """
import os, socket, tempfile, threading

own, others = [], []

def take(kind):
    before = {int(name) for name in os.listdir("/proc/self/fd")}
    os.closerange(3, 100)
    for _ in range(20):
        if kind == "file":
            own.append(tempfile.TemporaryFile(buffering=0))
        elif kind == "socket pair":
            own.extend(socket.socketpair())
        elif kind == "connections":
            listener = socket.create_server(("127.0.0.1", 0))
            own.extend([listener, socket.create_connection(listener.getsockname()), listener.accept()[0]])
    assert before & {each.fileno() for each in own} - {0, 1, 2}

def found():
    "What is in the function's own, and whether they are all open still."
    data = []
    for each in own:
        os.fstat(each.fileno())
        if isinstance(each, socket.socket):
            try:
                data.append(each.recv(100, socket.MSG_DONTWAIT))
            except OSError:
                pass
        else:
            each.seek(0)
            data.append(each.read())
    return [str(each) for each in data if each]

def handler(event, context):
    if event in ("file", "socket pair", "connections"):
        take(event)
    if event == "error":
        raise ValueError("an error")
    if event == "stream":
        return iter(["one", "two"])
    if event == "take and stream":
        return taking()
    return found()

def taking():
    yield "one"
    take("connections")
    yield "two"
"""


class Taken(unittest.TestCase):
    @keeps_connections
    def test_the_event_is_answered_and_nothing_goes_into_what_is_the_functions(self):
        for kind in "file", "socket pair", "connections":
            with self.subTest(kind), function(function=SOURCE) as root, Lambda(root) as aws:
                aws.invoke("before")
                self.assertEqual(aws.invoke(kind).json, [])
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

    def test_in_the_middle_of_a_stream(self):
        """The connection is gone, and the stream with it: that is in the log, and the next event is answered."""
        with function(function=SOURCE) as root, Lambda(root) as aws:
            aws.send("take and stream")
            self.assertEqual(aws.invoke("after").json, [])
            self.assertIn("was cut off", aws.stderr)

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


if __name__ == "__main__":
    unittest.main()
