"""Children that multiprocessing starts without a fork: they find the function's modules and do not become runtimes."""

import multiprocessing
import pathlib
import textwrap
import unittest

from miniature import FUNCTION_PYTHON, FUNCTION_VERSION, REPO, Lambda, function
from test_managed_instances import ASYNC, WAIT, managed, printed, processors, release

METHODS = [method for method in multiprocessing.get_all_start_methods() if method != "fork"]

# A child may start before its parent is asked: what it says comes through a pipe. TMPDIR is the function's
# folder below: the parent is killed at the end, and what multiprocessing has left goes with the folder.
FUNCTION = """
    import multiprocessing, os, sys

    def work(pipe):
        import __main__, runtime
        pipe.send([os.getpid() != parent_of(), hasattr(runtime, "run"), getattr(__main__, "__file__", None), runtime.__name__])

    def parent_of():
        return os.getppid()

    def handler(event, context):
        start = multiprocessing.get_context(event)
        ours, theirs = start.Pipe()
        child = start.Process(target=work, args=(theirs,))
        child.start()
        theirs.close()
        answer = ours.recv()
        child.join()
        return [*answer, child.exitcode]
"""

# No `if __name__ == "__main__"`: on Lambda nobody needed it.
SCRIPT = f"""
import sys
sys.path.insert(0, {str(REPO)!r})

{{function}}

import runtime
runtime.run(handler)
reached = True
"""


class Children(unittest.TestCase):
    def test_of_a_function(self):
        with function(function=FUNCTION) as root, Lambda(root, env={"TMPDIR": root}) as aws:
            for method in METHODS:
                with self.subTest(method):
                    # Nothing of the parent's main module is run again.
                    self.assertEqual(aws.invoke(method).json, [True, True, None, "runtime", 0])
            self.assertNotIn("Traceback", aws.stderr)

    def test_of_a_function_with_a_runtime_of_its_own(self):
        source = FUNCTION.replace('hasattr(runtime, "run")', "runtime.mine")
        with function(function=source, runtime="mine = True") as root, Lambda(root, env={"TMPDIR": root}) as aws:
            for method in METHODS:
                self.assertEqual(aws.invoke(method).json, [True, True, None, "runtime", 0])

    def test_of_a_script_that_is_its_own_bootstrap(self):
        script = SCRIPT.format(function=textwrap.dedent(FUNCTION))
        with function(**{"script.py": script}) as root:
            path = str(pathlib.Path(root, "script.py"))
            with Lambda(root, command=[FUNCTION_PYTHON, path], env={"TMPDIR": root}) as aws:
                for number, method in enumerate(METHODS, 1):
                    with self.subTest(method):
                        *answer, status = aws.invoke(method).json
                        self.assertEqual((answer[1], answer[3], status), (True, "runtime", 0))
                        aws.wait_for_next(1)
                        self.assertEqual(aws.kinds.count("next"), number + 1)

    @unittest.skipIf(FUNCTION_VERSION < (3, 14), "this Python runs no script in subinterpreters: 3.14 does")
    def test_subinterpreters_of_a_script(self):
        source = f"""
            import sys
            sys.path.insert(0, {str(REPO)!r})
            import runtime

            def work(number):
                return number + 1

            def handler(event, context):
                from concurrent.futures import InterpreterPoolExecutor

                with InterpreterPoolExecutor(1) as pool:
                    return pool.submit(work, event).result()

            runtime.run(handler)
        """
        with function(**{"script.py": source}) as root, Lambda(root, command=[FUNCTION_PYTHON, f"{root}/script.py"]) as aws:
            self.assertEqual(aws.invoke(1).json, 2)
            aws.wait_for_next(1)
            self.assertEqual(aws.kinds.count("next"), 2)


class Forks(unittest.TestCase):
    """os.fork() in an async handler: the child has copies of the event loop and of its tasks, which are the parent's."""

    SOURCE = "import select, time, warnings\nfrom concurrent.futures import ThreadPoolExecutor\n" + ASYNC + """
warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside a thread, which -X dev has
usual, parent, ticking = handler, os.getpid(), None

async def tick():
    try:
        while True:
            await asyncio.sleep(0.001)
            if os.getpid() != parent:
                print("the parent's task runs in the child")
    finally:
        print("the parent's task ends in the child")

async def fork(how):
    loop = asyncio.get_running_loop()
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "raises":
        raise ValueError
    if how == "gets a signal":
        os.kill(os.getpid(), signal.SIGTERM)
    if how.startswith("waits"):
        future = loop.create_future()
        if how != "waits for its parent":
            loop.call_later(0.1, future.set_result, None)
        await future
    if how == "waits and computes":
        time.sleep(0.3)
    if how == "waits for a thread":
        with ThreadPoolExecutor() as pool:
            await loop.run_in_executor(pool, select.select, (), (), (), 0.3)
    if how == "runs another event loop":
        asyncio.run(asyncio.sleep(0))
    if how == "waits and raises":
        raise ValueError
    if not how.endswith("returns"):
        sys.exit(3)

async def handler(event, context):
    global ticking
    ticking = ticking or asyncio.create_task(tick())
    if event != WAIT:
        return await (asyncio.create_task(fork(event)) if event == "in a task" else fork(event))
    try:
        return await usual(event, context)
    finally:
        print("finally:", os.getpid())

WAIT = {"wait": True}
asyncio.set_event_loop(asyncio.new_event_loop())
asyncio.get_event_loop().add_signal_handler(signal.SIGTERM, print, "SIGTERM")
"""

    def test_the_parent_goes_on(self):
        with processors(1), managed(self.SOURCE, 3) as aws:
            aws.wait_for_next(3)
            ways = {"exits": 3, "raises": 1, "returns": 0, "in a task": 3, "gets a signal": 3, "waits": 3, "waits and raises": 1}
            ways.update({"waits and returns": 0, "waits and computes": 3, "waits for a thread": 3, "runs another event loop": 3, "waits for its parent": 1})
            for number, how in enumerate(ways, 1):
                with self.subTest(how):
                    neighbour = aws.send(WAIT)
                    aws.wait_for(lambda number=number: len(printed(aws, "waits")) == number)
                    # The second one arrives while the child of the first is there.
                    ids = [aws.send(how), aws.send(how)]
                    answers = [aws.answer(request_id).json for request_id in ids]
                    aws.wait_for_next(2)
                    release(aws, 1)
                    aws.wait_for_next(3)
                    self.assertEqual(answers, [ways[how]] * 2, aws.circumstances())
                    (pid,) = printed(aws, "starts")
                    self.assertEqual(aws.answer(neighbour).json, pid)
                    self.assertEqual(printed(aws, "finally"), [pid] * number)
            log = "".join([aws.stderr, *aws.worker_logs])
            for word in "AWS_LAMBDA_RUNTIME_API", "destroyed", "Exception in callback", "SIGTERM", "in the child":
                self.assertNotIn(word, log)


if __name__ == "__main__":
    unittest.main()
