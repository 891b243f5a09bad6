"""SnapStart: the function's hooks around the snapshot, and what must not survive it."""

import subprocess
import unittest

from miniature import FUNCTION_PYTHON, Fault, Lambda, function

SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}

# What the PyPI package of this name does; tests/conformance/test_snapstart.py has the package itself.
SNAPSHOT_RESTORE_PY = """
    before, after = [], []

    def register_before_snapshot(function, *args, **kwargs):
        before.append((function, args, kwargs))
        return function

    def register_after_restore(function, *args, **kwargs):
        after.append((function, args, kwargs))
        return function

    def get_before_snapshot():
        return before

    def get_after_restore():
        return after
"""


def snapstart(source, **files):
    return function(function=source, snapshot_restore_py=SNAPSHOT_RESTORE_PY, **files)


class Hooks(unittest.TestCase):
    SOURCE = """
        from snapshot_restore_py import register_after_restore, register_before_snapshot

        ran = []
        register_before_snapshot(ran.append, "before 1")
        register_after_restore(ran.append, "after 1")

        @register_after_restore
        def after():
            ran.append("after 2")

        @register_before_snapshot
        def before():
            ran.append("before 2")
            print(ran)

        register_before_snapshot(print, "before", 3, sep="-", end="!\\n")

        def handler(event, context):
            return ran
    """

    def test_order(self):
        """Before the snapshot the last registered runs first; after the restore the first."""
        with snapstart(self.SOURCE) as root, Lambda(root, env=SNAP_START) as aws:
            aws.wait_for(lambda: aws.restoring)
            self.assertEqual(aws.log, "before-3!\n['before 2']\n")
            self.assertEqual(aws.kinds, ["restore/next"])
            aws.restore()
            self.assertEqual(aws.invoke().json, ["before 2", "before 1", "after 1", "after 2"])
            self.assertEqual(aws.kinds[:3], ["restore/next", "next", "response"])
            self.assertEqual(aws.invoke().json, ["before 2", "before 1", "after 1", "after 2"])

    def test_no_hook_runs_without_snapstart(self):
        with snapstart(self.SOURCE) as root, Lambda(root) as aws:
            self.assertEqual(aws.invoke().json, [])
            self.assertEqual(aws.kinds[:2], ["next", "response"])

    def test_a_function_without_hooks(self):
        with function(function="def handler(event, context): return 'here'") as root:
            with Lambda(root, env=SNAP_START) as aws:
                aws.restore()
                self.assertEqual(aws.invoke().json, "here")
                self.assertEqual(aws.kinds[:2], ["restore/next", "next"])

    def test_an_async_handler(self):
        source = """
            import asyncio, snapshot_restore_py
            ran = []
            snapshot_restore_py.register_after_restore(ran.append, "after")

            async def handler(event, context):
                await asyncio.sleep(0)
                return ran
        """
        with snapstart(source) as root, Lambda(root, env=SNAP_START) as aws:
            aws.restore()
            self.assertEqual(aws.invoke().json, ["after"])


class AfterTheRestore(unittest.TestCase):
    def test_no_connection_from_before_is_used(self):
        with function(function="def handler(event, context): return 1") as root:
            with Lambda(root, env=SNAP_START) as aws:
                aws.wait_for(lambda: aws.restoring)
                made = aws.connected
                aws.restore()
                aws.invoke()
                self.assertGreater(min(request.connection for request in aws.requests[1:]), made)

    def test_the_first_invocations_context(self):
        source = """
            import logging, os

            def handler(event, context):
                logging.warning("logged")
                values = {name: value for name, value in vars(context).items() if isinstance(value, str)}
                return values, context.get_remaining_time_in_millis(), os.environ["_X_AMZN_TRACE_ID"]
        """
        with function(function=source) as root, Lambda(root, env=SNAP_START, timeout=60) as aws:
            aws.restore()
            answer = aws.invoke(headers={"Lambda-Runtime-Trace-Id": "Root=1-2-3"})
            values, left, trace_id = answer.json
            self.assertEqual(values, {
                "aws_request_id": answer.request_id,
                "invoked_function_arn": aws.arn,
                "trace_id": "Root=1-2-3",
                "function_name": "function",
                "function_version": "$LATEST",
                "memory_limit_in_mb": "128",
                "log_group_name": aws.env["AWS_LAMBDA_LOG_GROUP_NAME"],
                "log_stream_name": aws.env["AWS_LAMBDA_LOG_STREAM_NAME"],
            })
            self.assertTrue(0 < left <= 60_000, left)
            self.assertEqual(trace_id, "Root=1-2-3")
            self.assertRegex(aws.log, rf"^\[WARNING\]\t[^\t]+Z\t{answer.request_id}\tlogged\n")


class Random(unittest.TestCase):
    """One snapshot is restored a thousand times: the thousand shall not draw the same numbers."""

    SEEDED = """
        import random
        random.seed(1)

        def handler(event, context):
            return [random.random() for _ in range(4)]
    """

    def draw(self, source, environment):
        with snapstart(source) as root, Lambda(root, env=environment) as aws:
            aws.restored = True
            return aws.invoke().json

    def test_it_is_seeded_anew(self):
        self.assertEqual(self.draw(self.SEEDED, {}), self.draw(self.SEEDED, {}))  # the source is seeded, that is
        self.assertNotEqual(self.draw(self.SEEDED, SNAP_START), self.draw(self.SEEDED, SNAP_START))

    def test_a_hook_may_seed_as_it_likes(self):
        hook = """
        import snapshot_restore_py
        snapshot_restore_py.register_after_restore(random.seed, 2)
        """
        source = self.SEEDED + hook
        self.assertEqual(self.draw(source, SNAP_START), self.draw(self.SEEDED.replace("(1)", "(2)"), {}))

    def test_a_module_of_the_functions_own_that_bears_the_name(self):
        source = """
            import sys
            sys.modules.pop("random", None)  # some interpreters have it from their start
            import random

            def handler(event, context):
                return random.chosen
        """
        with function(function=source, random="chosen = 4") as root, Lambda(root, env=SNAP_START) as aws:
            aws.restore()
            self.assertEqual(aws.invoke().json, 4)


class WithoutSnapStart(unittest.TestCase):
    def test_it_costs_nothing(self):
        """No module is imported that only the calls around a snapshot need."""
        source = "import sys\ndef handler(event, context): return [*sys.modules]"
        with snapstart(source) as root, Lambda(root) as aws:
            code = "import sys; print(*sys.modules)"
            own = subprocess.run([FUNCTION_PYTHON, "-c", code], env=aws.env, stdout=subprocess.PIPE, text=True, check=True)
            modules = {*aws.invoke().json} - {*own.stdout.split()}
        self.assertIn("runtime", modules)
        self.assertFalse(modules & {"http.client", "email", "ssl", "urllib.parse", "random", "snapshot_restore_py"})


class Failures(unittest.TestCase):
    def test_a_hook_before_the_snapshot(self):
        for statement, error_type, message in (
            ("raise ValueError('no')", "ValueError", "no"),
            ("sys.exit(3)", "SystemExit", "3"),
        ):
            source = f"""
                import sys
                from snapshot_restore_py import register_before_snapshot

                @register_before_snapshot
                def never_reached():
                    print("never reached")

                @register_before_snapshot
                def close_database():
                    {statement}

                def handler(event, context): pass
            """
            with self.subTest(statement), snapstart(source) as root, Lambda(root, env=SNAP_START) as aws:
                self.assertEqual(aws.wait(), 64)
                self.assertEqual(aws.kinds, ["init/error"])
                self.assertEqual(aws.init_error.error_type, "Runtime.BeforeSnapshotError")
                self.check(aws.init_error, aws, error_type, message, "close_database", statement)
                self.assertNotIn("never reached", aws.log)

    def test_a_hook_after_the_restore(self):
        for statement, error_type, message in (
            ("raise ValueError('no')", "ValueError", "no"),
            ("sys.exit(3)", "SystemExit", "3"),
        ):
            source = f"""
                import sys
                from snapshot_restore_py import register_after_restore

                @register_after_restore
                def open_database():
                    {statement}

                @register_after_restore
                def never_reached():
                    print("never reached")

                def handler(event, context): pass
            """
            with self.subTest(statement), snapstart(source) as root, Lambda(root, env=SNAP_START) as aws:
                aws.restore()
                self.assertEqual(aws.wait(), 65)
                self.assertEqual(aws.kinds, ["restore/next", "restore/error"])
                self.assertEqual(aws.restore_error.error_type, "Runtime.AfterRestoreError")
                self.check(aws.restore_error, aws, error_type, message, "open_database", statement)
                self.assertNotIn("never reached", aws.log)

    def check(self, post, aws, error_type, message, hook, statement):
        """The error document, and the same in the log."""
        self.assertEqual(post.headers["Content-Type"], "application/json")
        self.assertEqual((post.json["errorType"], post.json["errorMessage"]), (error_type, message))
        frame = f'  File "{aws.task_root}/function.py", line '
        (entry,) = post.json["stackTrace"]
        self.assertTrue(entry.startswith(frame) and entry.endswith(f"in {hook}\n    {statement}\n"), entry)
        self.assertIn(f"[ERROR] {error_type}: {message}\rTraceback (most recent call last):\r", aws.log)
        self.assertIn(f"in {hook}\r", aws.log)
        self.assertEqual(aws.stderr, "")

    def test_lambda_refuses_the_snapshot(self):
        with function(function="def handler(event, context): pass") as root:
            for fault in 302, 403, 500, Fault(0):
                with self.subTest(fault), Lambda(root, env=SNAP_START) as aws:
                    aws.answers("restore/next", fault)
                    aws.restore()
                    self.assertEqual(aws.wait(), 64)
                    self.assertEqual(aws.kinds, ["restore/next", "init/error"])
                    self.assertEqual(aws.init_error.error_type, "Runtime.BeforeSnapshotError")
                    self.assertIn("[ERROR]", aws.log)

    def test_the_error_after_the_restore_is_not_taken(self):
        """The log has the error all the same; beside it one line, and no traceback of the runtime's own."""
        source = """
            import snapshot_restore_py
            snapshot_restore_py.register_after_restore(int, "no number")
            def handler(event, context): pass
        """
        with snapstart(source) as root:
            for fault in 302, 403, 500, Fault(0):
                with self.subTest(fault), Lambda(root, env=SNAP_START) as aws:
                    aws.answers("restore/error", fault)
                    aws.restore()
                    self.assertIn(aws.wait(), (1, 65))
                    self.assertIn("[ERROR] ValueError: invalid literal", aws.log)
                    self.assertRegex(aws.stderr, r"^runtime: [^\n]+\n$")
