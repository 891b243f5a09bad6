"""Some hundred cases of the fuzzer, always the same; `make fuzz` has 10,000 others and a second judge."""

import subprocess
import sys
import unittest
from pathlib import Path


class Fuzz(unittest.TestCase):
    def test_each_event_that_arrives_whole_is_answered_once_and_no_other(self):
        # A process of its own, for it forks: this one may have threads.
        flags = [f"-W{option}" for option in sys.warnoptions] + ["-Xdev"] * sys.flags.dev_mode
        command = [sys.executable, *flags, Path(__file__).with_name("fuzz.py"), "--seed", "1", "--cases", "400"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, r"^seed 1\n400 cases in .* 0 failures\n$")


if __name__ == "__main__":
    unittest.main()
