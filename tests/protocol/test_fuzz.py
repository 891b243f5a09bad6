"""Some hundred cases of the fuzzer, always the same; `make fuzz` has 10,000 others and a second judge."""

import subprocess
import sys
import unittest
from pathlib import Path

from miniature import function
from miniature.raw import ACCEPTED, RawApi

# What init, restore and the registration of an extension are answered: broken, all of it.
BROKEN = [
    b"",
    b"garbage\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\0\xff" * 100_000,
]


class Fuzz(unittest.TestCase):
    def test_each_event_that_arrives_whole_is_answered_once_and_no_other(self):
        # A process of its own, for it forks: this one may have threads.
        flags = [f"-W{option}" for option in sys.warnoptions] + ["-Xdev"] * sys.flags.dev_mode
        command = [sys.executable, *flags, Path(__file__).with_name("fuzz.py"), "--seed", "1", "--cases", "400"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"^seed 1\n400 cases in .* 0 failures\n$")


class Once(unittest.TestCase):
    """Broken answers to what is sent once in the life of a process; the fuzzer has those of the loop."""

    def play(self, answer, source, **env):
        """The kinds of the requests up to the first `next`, the exit status and stderr; all but the first are accepted."""
        kinds = []
        with function(function=source) as root, RawApi() as api, api.start(root, **env) as process:
            while True:
                request = api.request()
                if request is None:
                    break
                kinds.append(request.kind)
                if request.kind == "next":
                    break
                api.send(ACCEPTED if len(kinds) > 1 else answer)
                if len(kinds) == 1:
                    api.hang_up()
            process.read()
            self.assertNotIn(b"Traceback", process.errors)
            self.assertLessEqual(process.errors.count(b"\n"), 1)
            return kinds, process.status, process.errors.decode()

    def test_init_error(self):
        """The status says that the function could not start, whatever becomes of the report."""
        for answer in BROKEN:
            with self.subTest(answer[:60]):
                kinds, status, errors = self.play(answer, "1 / 0")
                self.assertEqual((kinds, status), (["init/error"] * (2 if not answer else 1), 1))
                self.assertRegex(errors, "^runtime: " if answer else "^$")

    def test_restore(self):
        """Nothing is known of the snapshot: the init error says what came."""
        for answer in BROKEN:
            with self.subTest(answer[:60]):
                source = "def handler(event, context): return event"
                kinds, status, _ = self.play(answer, source, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start")
                self.assertEqual((kinds, status), (["restore/next", "init/error"], 64))

    def test_registration(self):
        """One line, and the function works without."""
        source = "import signal\nsignal.signal(signal.SIGTERM, print)\ndef handler(event, context): return event"
        for answer in BROKEN:
            with self.subTest(answer[:60]):
                kinds, status, errors = self.play(answer, source)
                self.assertEqual((kinds, status), (["/2020-01-01/extension/register", "next"], None))
                self.assertRegex(errors, "^runtime: the SIGTERM handler will not run")


if __name__ == "__main__":
    unittest.main()
