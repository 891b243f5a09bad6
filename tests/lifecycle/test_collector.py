"""The garbage collector: seldom during init, blind for what init has left, and as ever from then on."""

import json
import subprocess
import unittest

from miniature import FUNCTION_PYTHON, Lambda, function

HANDLER = """
def handler(event, context):
    return {"thresholds": gc.get_threshold(), "frozen": gc.get_freeze_count(), "enabled": gc.isenabled()}
"""


def play(source, **env):
    """What the handler says of the collector in its first invocation."""
    with function(function="import gc\n" + source + HANDLER) as root, Lambda(root, **env) as aws:
        return aws.invoke().json


class Collector(unittest.TestCase):
    def test_the_thresholds_are_pythons_again(self):
        program = "import gc, json; print(json.dumps(gc.get_threshold()))"
        usual = json.loads(subprocess.check_output([FUNCTION_PYTHON, "-c", program]))
        for handler in "", "async def handler(event, context): pass\n":
            answer = play(handler)
            self.assertEqual(answer["thresholds"], usual)
            self.assertTrue(answer["enabled"])

    def test_what_the_function_sets_stays(self):
        self.assertEqual(play("gc.set_threshold(123, 4, 5)\n")["thresholds"][:2], [123, 4])
        self.assertFalse(play("gc.disable()\n")["enabled"])

    def test_what_init_has_left_is_not_looked_through_again(self):
        answer = play("kept = [[number] for number in range(50_000)]\n")
        self.assertGreater(answer["frozen"], 50_000)

    def test_garbage_of_the_import_is_collected(self):
        """A module that makes a million circles does not keep them all."""
        source = """
for number in range(1_000_000):
    circle = []
    circle.append(circle)
"""
        self.assertLess(play(source)["frozen"], 400_000)

    def test_circles_of_an_invocation_are_collected(self):
        source = """
import gc, weakref

class Circle:
    def __init__(self):
        self.itself = self

def handler(event, context):
    seen = [weakref.ref(Circle()) for _ in range(5000)]
    return sum(reference() is not None for reference in seen)
"""
        with function(function=source) as root, Lambda(root) as aws:
            self.assertLess(aws.invoke().json, 5000)

    def test_circles_of_the_module_are_finalised_at_the_end(self):
        source = """
import sys

class Circle:
    def __init__(self):
        self.itself = self

    def __del__(self, print=print):
        print("finalised", flush=True)

circle = Circle()

def handler(event, context):
    sys.exit(0)
"""
        with function(function=source) as root, Lambda(root) as aws:
            aws.invoke()
            self.assertEqual(aws.wait(), 0)
            self.assertIn("finalised", aws.log)


if __name__ == "__main__":
    unittest.main()
