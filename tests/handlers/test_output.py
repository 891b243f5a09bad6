"""What the function prints and the runtime logs arrives whole: no byte lost, no line torn."""

import collections
import re
import unittest

from miniature import Lambda, function

# The reader reads only when the function has been interrupted, or after a while at most.
LATE = """
import os, signal, sys, threading, time

ticks = []
enough = threading.Event()

def tick(signum, frame):
    ticks.append(1)

def late(descriptor, nonblocking=False):
    "Put a pipe in place of the descriptor; what is in it goes there once 0.3 s are over."
    log = os.dup(descriptor)
    read, write = os.pipe()
    os.set_blocking(write, not nonblocking)
    os.dup2(write, descriptor)
    os.close(write)
    child = os.fork()
    if not child:
        os.dup2(log, descriptor)
        time.sleep(0.3)
        while True:
            data = os.read(read, 1 << 16)
            if not data:
                os._exit(0)
            while data:
                data = data[os.write(log, data):]
    os.close(log)
    os.close(read)
"""


class Whole(unittest.TestCase):
    def log(self, source, pattern, env=None, **options):
        """The log once `pattern` is in it."""
        with function(function=source) as root, Lambda(root, env=env, **options) as aws:
            aws.send()
            aws.wait_for(lambda: re.search(pattern, aws.log), what=f"no {pattern} in the log")
            return aws.log

    def test_a_late_reader_and_a_signal_handler(self):
        for nonblocking in False, True:
            for printing in "pass", "print('tick')":
                source = LATE + f"""
def tick(signum, frame):
    {printing}

def handler(event, context):
    late(1, {nonblocking})
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    print("a" * 200_000)
    sys.stdout.write("b" * 200_000 + "\\n")
    sys.stdout.buffer.write(b"c" * 200_000 + b"\\n")
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("end")
"""
                with self.subTest(nonblocking=nonblocking, printing=printing):
                    log = self.log(source, "(?m)^end$")
                    lines = collections.Counter(line for line in log.splitlines() if line != "tick")
                    self.assertEqual(lines, {**{letter * 200_000: 1 for letter in "abc"}, "end": 1})

    def test_signals_are_not_held_back_for_ever(self):
        """Not even where a handler raises at the moment in which they are."""
        source = """
import os, signal
import select  # not in the middle of print(): there a tick would end the import again and again

is_awaited = False

class Tick(Exception):
    pass

def tick(signum, frame):
    global is_awaited
    if is_awaited:
        is_awaited = False
        raise Tick

def print_until_tick():
    global is_awaited
    is_awaited = True
    while is_awaited:
        print("x" * 5000)
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            return

def handler(event, context):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
    for _ in range(1000):
        try:
            print_until_tick()
        except Tick:
            pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
        with function(function=source) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().json, [])

    def test_lines_of_threads(self):
        for size in 10, 60_000:
            source = f"""
import sys, threading

def handler(event, context):
    threads = [threading.Thread(target=lines, args=(letter,)) for letter in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("end")

def lines(letter):
    for _ in range(20):
        print(letter * {size}, file=sys.stderr if letter == "f" else None)
"""
            with self.subTest(size):
                log = self.log(source, "(?m)^end$", echo=lambda *_: None)
                expected = {letter * size: 20 for letter in "abcdef"}
                self.assertEqual(collections.Counter(log.splitlines()), {**expected, "end": 1})

    def test_the_process_ends_right_behind_it(self):
        source = LATE + """
def handler(event, context):
    late(1)
    print("a" * 200_000, end="")
    os._exit(3)
"""
        self.assertEqual(self.log(source, "a{200000}"), "a" * 200_000)

    def test_records_of_the_runtime_on_a_descriptor_that_does_not_block(self):
        source = LATE + """
def handler(event, context):
    late(1, True)
    raise ValueError("x" * 200_000)
"""
        self.assertRegex(self.log(source, "in handler"), "x{200000}")

    def test_framed_records_of_threads(self):
        source = """
import logging, os, threading

def handler(event, context):
    threads = [threading.Thread(target=records, args=(letter,)) for letter in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def records(letter):
    for _ in range(20):
        logging.error(letter * 30_000)
"""
        with function(function=source) as root, Lambda(root, telemetry=True) as aws:
            aws.invoke()
            aws.wait_for(lambda: len(aws.frames) == 120)
            messages = collections.Counter(message.rstrip("\n").split("\t")[-1] for _, _, message in aws.frames)
            self.assertEqual(messages, {letter * 30_000: 20 for letter in "abcdef"})

    def test_partial_lines_come_at_once(self):
        source = """
import os, sys

def handler(event, context):
    print("one", end="")
    sys.stdout.write("two")
    os.write(1, b"three")
    print("four", "five", sep="-", end="!", flush=True)
    os.kill(os.getpid(), 9)
"""
        with function(function=source) as root, Lambda(root) as aws:
            aws.send()
            aws.wait()
            self.assertEqual(aws.log, "onetwothreefour-five!")

    def test_what_functions_do_with_stdout(self):
        source = """
import contextlib, io, subprocess, sys

def handler(event, context):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        print("redirected", 1, sep="-")
    print("elsewhere", file=text)
    subprocess.run(["echo", "child"], stdout=sys.stdout, check=True)
    print(None, sep=None, end=None)
    print()
    print(1, 2, file=sys.stdout)
    sys.stdout.reconfigure(errors="backslashreplace")
    print("\\udc80")
    sys.__stdout__.write("real\\n")
    try:
        print("x", sep=3)
    except TypeError:
        print("TypeError")
    return text.getvalue(), sys.stdout.fileno(), sys.stdout.isatty(), sys.stdout.name, sys.stdout.mode, print.__name__
"""
        with function(function=source) as root, Lambda(root) as aws:
            expected = ["redirected-1\nelsewhere\n", 1, False, "<stdout>", "w", "print"]
            self.assertEqual(aws.invoke().json, expected)
            self.assertEqual(aws.log, "child\nNone\n\n1 2\n\\udc80\nreal\nTypeError\n")


if __name__ == "__main__":
    unittest.main()
