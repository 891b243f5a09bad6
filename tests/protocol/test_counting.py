"""Thousands of invocations with random outcomes, counted: nothing lost, nothing twice, nothing that grows.

`make fuzz` runs it with INVOCATIONS=100000; SEED repeats a run.
"""

import collections
import json
import os
import random
import re
import tempfile
import unittest
from pathlib import Path

from miniature.raw import ACCEPTED, RawApi, event

INVOCATIONS = int(os.environ.get("INVOCATIONS", 3000))  # of all tests here together
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(10**6)))
WARM = min(5000, INVOCATIONS // 4)  # invocations after which memory must not grow

FUNCTION = """
def handler(event, context):
    outcome = event["outcome"]
    if outcome == "value":
        return event
    if outcome == "error":
        raise ValueError(event["text"])
    if outcome == "async":
        return later(event)
    return stream(outcome, event["text"])

def stream(outcome, text):
    if outcome == "early":
        raise ValueError(text)
    yield "first"
    yield text
    if outcome == "late":
        raise ValueError(text)

async def later(event):
    return event
"""
STREAMS = ("stream", "late")
# What becomes of the answer, and how often.
FATES = {
    "accepted": 20,
    "refused": 2,  # with a 4xx
    "accepted, connection: close": 1,
    "accepted, closed silently": 1,
    "lost before": 1,  # closed by the time the runtime posts
    "lost after": 1,  # closed when the post has arrived, without an answer
}
REFUSALS = [b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status for status in (400, 403, 413)]


class Counting(unittest.TestCase):
    def count(self, outcomes, number):
        chance = random.Random(SEED)
        posts, memory, descriptors = collections.Counter(), [], []
        with tempfile.TemporaryDirectory() as root, RawApi() as api:
            Path(root, "function.py").write_text(FUNCTION)
            with api.start(root) as process:
                for invocation in range(number):
                    outcome = chance.choice(outcomes)
                    fate = chance.choices(list(FATES), list(FATES.values()))[0]
                    try:
                        self.invoke(api, str(invocation), outcome, fate, chance, posts)
                    except Exception as error:
                        self.fail(f"SEED={SEED}, invocation {invocation}, {outcome}, {fate}: {error!r}; stderr: {process.errors[-2000:]}")
                    if invocation in (WARM, number - 1):
                        memory.append(resident(process.pid))
                        descriptors.append(sorted(os.listdir(f"/proc/{process.pid}/fd")))
                self.assertEqual(api.request().kind, "next")
                process.read()
                self.assertNotIn(b"Traceback", process.errors)
        self.assertEqual(len(posts), number)
        self.assertEqual(descriptors[0], descriptors[1])
        # The heap breathes: of 50,000 invocations every 4,000 it was between 12.8 and 13.4 MB, and did not grow.
        # 21 bytes lost at each would be more than this.
        self.assertLess(memory[1] - memory[0], 1 << 20)

    def invoke(self, api, request_id, outcome, fate, chance, posts):
        """One invocation, from its `next` to its answer, which is counted and checked."""
        request = api.request()
        self.assertEqual(request.kind, "next")
        text = "x" * chance.choice([0, 10, 1000, 20_000])
        body = json.dumps({"outcome": outcome, "text": text})
        send = api.send_last if fate == "lost before" else api.send
        send(event(request_id, body.encode()))
        post = self.expect(api, request_id, outcome, body, text)
        posts[request_id] += 1
        if fate == "lost after":
            api.hang_up()
            if outcome not in STREAMS:  # a stream cannot be made twice
                again = self.expect(api, request_id, outcome, body, text)
                self.assertEqual(again.body, post.body)
                api.send(ACCEPTED)
        elif fate == "refused":
            api.send(chance.choice(REFUSALS))
        elif fate == "accepted, connection: close":
            api.send(ACCEPTED.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            api.hang_up()
        else:
            api.send(ACCEPTED)
            if fate == "accepted, closed silently":
                api.hang_up()

    def expect(self, api, request_id, outcome, body, text):
        post = api.request()
        kind = "error" if outcome in ("error", "early") else "response"
        self.assertEqual((post.kind, post.request_id), (kind, request_id))
        if kind == "error":
            self.assertEqual(json.loads(post.body)["errorMessage"], text)
        elif outcome in STREAMS:
            self.assertEqual(post.body.decode(), "first" + text)
            self.assertEqual(bool(post.trailers), outcome == "late")
        else:
            self.assertEqual(post.body.decode(), body)
        return post

    def test_on_a_blocking_connection(self):
        self.count(["value", "error", "stream", "early", "late"], INVOCATIONS // 2)

    def test_on_an_event_loop(self):
        """A handler that returns a coroutine now and then: the loop goes on on an event loop after the first."""
        self.count(["value", "error", "stream", "early", "late", "async"], INVOCATIONS // 2)


def resident(pid):
    """Bytes in memory, by the page tables: the kernel's own counter in statm may be some hundred kB off."""
    return int(re.search(r"^Rss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1]) * 1024


if __name__ == "__main__":
    unittest.main()
