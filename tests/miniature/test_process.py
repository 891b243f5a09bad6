"""The process of the Lambda in miniature: it ends, and what it did is told."""

import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import unittest.mock

from miniature import REPO, Lambda, function


class Process(unittest.TestCase):
    def test_nothing_is_left_behind(self):
        source = """
            import os
            os.set_inheritable(os.open(os.environ["FIFO"], os.O_WRONLY), True)  # open until the last process has died
            os.fork() or os.execvp("sleep", ["sleep", "60"])
            def handler(event, context): return "here"
        """
        with function(function=source) as root:
            fifo = os.path.join(root, "fifo")
            os.mkfifo(fifo)
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            self.addCleanup(os.close, reader)
            os.set_blocking(reader, True)
            before = threading.active_count(), len(os.listdir("/dev/fd"))
            with Lambda(root, env={"FIFO": fifo}, telemetry=True, log_sockets=True) as aws:
                self.assertEqual(aws.invoke().json, "here")
                folder = aws.folder
                started = time.monotonic()
            self.assertEqual(os.read(reader, 1), b"")
            self.assertLess(time.monotonic() - started, 30)
            self.assertFalse(os.path.exists(folder))
            self.assertEqual((threading.active_count(), len(os.listdir("/dev/fd"))), before)

    def test_what_was_killed_is_removed_by_the_next_make_run(self):
        program = "import os, signal; from miniature import Lambda; Lambda('.', start=False); os.kill(os.getpid(), signal.SIGKILL)"
        with tempfile.TemporaryDirectory() as temporary, function(function="") as root:
            env = {**os.environ, "TMPDIR": temporary}

            def age_and_run():
                for folder in pathlib.Path(temporary).iterdir():
                    os.utime(folder, (0, 0))
                command = [sys.executable, "tests/miniature", "run", root, "nothing"]
                subprocess.run(command, cwd=REPO, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                return {*os.listdir(temporary)}

            subprocess.run([sys.executable, "-c", program], cwd=REPO / "tests", env=env)
            (left,) = os.listdir(temporary)
            foreign = pathlib.Path(temporary, f"{left[:-1]}-of-somebody-else")
            foreign.mkdir()
            (foreign / "file").touch()
            with unittest.mock.patch("tempfile.tempdir", temporary), Lambda(root, start=False) as aws:
                self.assertEqual(age_and_run(), {foreign.name, os.path.basename(aws.folder)})

    def test_a_dead_process_is_reported_with_its_log(self):
        with function(function="print('last words')\nimport os\nos._exit(3)") as root, Lambda(root) as aws:
            with self.assertRaisesRegex(AssertionError, "(?s)the process has ended.*status 3.*last words"):
                aws.invoke()
            self.assertEqual(aws.wait(), 3)

    def test_a_process_that_does_not_answer_is_reported(self):
        with function(function="import time\ndef handler(event, context): time.sleep(60)") as root, Lambda(root) as aws:
            aws.wait_for_next()
            with self.assertRaisesRegex(AssertionError, "no answer to .* within 0.1 s"):
                aws.invoke(timeout=0.1)

    def test_it_starts_again_after_its_end(self):
        source = "import os\ndef handler(event, context): return os._exit(9) if event else os.getpid()"
        with function(function=source) as root, Lambda(root) as aws:
            first = aws.invoke(None).json
            aws.send(1)
            self.assertEqual(aws.wait(), 9)
            aws.start()
            self.assertNotEqual(aws.invoke(None).json, first)

    def test_the_environment(self):
        source = "import os\ndef handler(event, context): return dict(os.environ)"
        with function(function=source) as root:
            with Lambda(root, env={"MINE": "1", "TZ": None}) as aws:
                environment = aws.invoke().json
        self.assertEqual(environment["MINE"], "1")
        self.assertEqual(environment["LAMBDA_TASK_ROOT"], root)
        self.assertNotIn("TZ", environment)
        self.assertNotIn("HOME", environment)

    def test_echo_has_log_and_bodies_in_their_order(self):
        source = "import os\ndef handler(event, context):\n    os.write(1, b'first')\n    yield 'second'"
        came = []
        with function(function=source) as root:
            aws = Lambda(root, start=False, echo=lambda data, request=None: came.append((data, request)))
            with aws:
                aws.start()
                answer = aws.invoke()
        self.assertEqual(came, [(b"first", None), (b"second", answer)])


if __name__ == "__main__":
    unittest.main()
