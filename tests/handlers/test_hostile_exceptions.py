"""Exceptions whose class ends the process, or tries to, while the runtime describes them."""

import unittest

from miniature import Lambda, function

SOURCE = """
error = "SystemExit(3)"

def end(*args):
    raise eval(error)

class Meta(type):
    __name__ = property(end)
class Named(Exception, metaclass=Meta):
    pass
class Text(Exception):
    __str__ = __repr__ = end
class Attributes(Exception):
    __getattribute__ = end
class Traceback(Exception):
    __traceback__ = __cause__ = __context__ = __suppress_context__ = property(end)
class Class(Exception):
    __class__ = property(end)
class Iterates(Exception):
    __iter__ = __len__ = __bool__ = __eq__ = __hash__ = end

def fail(name, what):
    global error
    error = what
    raise globals()[name]("an error")

{kind}def handler(event, context):
    if event:
        fail(*event)
    return "well"

{kind}def streaming(event, context):
    if event:
        yield "first"
        fail(*event)
    yield "well"
"""
NAMES = ("Named", "Text", "Attributes", "Traceback", "Class", "Iterates")


class Describing(unittest.TestCase):
    def test_the_event_is_answered_and_so_is_the_next(self):
        for kind in "", "async ":
            for handler in "handler", "streaming":
                with function(function=SOURCE.format(kind=kind)) as root, Lambda(root, f"function.{handler}") as aws:
                    for error in "SystemExit(3)", "KeyboardInterrupt", "GeneratorExit", "RecursionError":
                        with self.subTest(error, kind=kind, handler=handler):
                            for name in NAMES:
                                post = aws.invoke([name, error])
                                self.assertTrue(post.error_type, name)
                                self.assertIn(b"well", aws.invoke("").body)
                            self.assertNotIn("Traceback (most", aws.stderr)

    def test_what_sys_exit_is_called_with(self):
        """The process ends as after any other text, whatever it has left running."""
        source = SOURCE.format(kind="") + """
import threading
def leave(event, context):
    threading.Thread(target=threading.Event().wait).start()
    raise SystemExit(Text())
"""
        with function(function=source) as root, Lambda(root, "function.leave") as aws:
            self.assertEqual(aws.invoke().error_type, "SystemExit")
            self.assertEqual(aws.wait(), 1)
            self.assertEqual(aws.stderr, "<exception str() failed>\n")

    def test_at_import(self):
        for error in "SystemExit(3)", "KeyboardInterrupt":
            source = SOURCE.format(kind="") + f"\nfail('Text', '{error}')"
            with self.subTest(error), function(function=source) as root, Lambda(root) as aws:
                self.assertEqual(aws.wait(), 1)
                self.assertEqual(len(aws.sent("init/error")), 1)


if __name__ == "__main__":
    unittest.main()
