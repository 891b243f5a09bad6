"""What many tests are made of: one process for all tests of a class."""

import contextlib
import unittest

from .process import Lambda, function


class Served(unittest.TestCase):
    """`aws` is the function in SOURCE, served with OPTIONS to all tests of a class; `root` is its folder."""

    SOURCE = None
    OPTIONS = {}

    @classmethod
    def setUpClass(cls):
        with contextlib.ExitStack() as stack:
            cls.root = stack.enter_context(function(function=cls.SOURCE))
            cls.aws = stack.enter_context(Lambda(cls.root, **cls.OPTIONS))
            cls.addClassCleanup(stack.pop_all().close)
