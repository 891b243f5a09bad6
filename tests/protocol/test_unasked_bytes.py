"""What the Runtime API sends unasked right behind an answer is the answer to nothing."""

import os
import signal
import tempfile
import unittest
from pathlib import Path

from miniature.raw import RawApi, event

FUNCTION = """
def handler(event, context):
    return event

async def asynchronous(event, context):
    return event
"""
RECEIVED_AT_ONCE = 1 << 16


def accepted(size):
    """A 202 of so many bytes."""
    head = b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    length = size - len(head % 10_000)
    return head % length + b" " * length


class Unasked(unittest.TestCase):
    def test_an_event_behind_a_202(self):
        """The 202 fills what the runtime receives at once: the event is in the kernel when `next` is about to be asked."""
        for name in "handler", "asynchronous":
            with self.subTest(name), tempfile.TemporaryDirectory() as root, RawApi() as api:
                Path(root, "function.py").write_text(FUNCTION)
                with api.start(root, f"function.{name}") as process:
                    for number in range(4):
                        self.assertEqual(api.request().kind, "next")
                        api.send(event(f"asked-{number}", b"1"))
                        self.assertEqual(api.request().request_id, f"asked-{number}")
                        connected = api.connected
                        # More than one segment: a runtime that runs could ask after the first of them.
                        os.kill(process.pid, signal.SIGSTOP)
                        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                        api.send(accepted(RECEIVED_AT_ONCE) + event("unasked", b"2"))
                        os.kill(process.pid, signal.SIGCONT)
                        request = api.request()
                        self.assertEqual((request.kind, api.connected), ("next", connected + 1))
                        api.send(event(f"next-{number}", b"3"))
                        self.assertEqual(api.request().request_id, f"next-{number}")
                        api.send(accepted((100, RECEIVED_AT_ONCE)[number % 2]))  # the usual one, from then on


if __name__ == "__main__":
    unittest.main()
