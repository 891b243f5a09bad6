"""What many tests are made of: one process for all tests of a class, and a reason to skip one."""

import contextlib
import unittest

from .process import Lambda, function, has_cookies

# By SO_COOKIE the runtime knows its connection among the function's files; where it cannot, it takes a new one each time.
keeps_connections = unittest.skipUnless(has_cookies, "this machine runs the function in an emulator without SO_COOKIE")

# Source that puts back what runtime.py has replaced: what comes after it imports as by Python itself.
IMPORTLIBS_OWN = """
from importlib.machinery import FileFinder, SourceFileLoader
closure = dict(zip(FileFinder.find_spec.__code__.co_freevars, FileFinder.find_spec.__closure__))
FileFinder.find_spec = closure["slow_find_spec"].cell_contents
del SourceFileLoader.get_code
"""


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
