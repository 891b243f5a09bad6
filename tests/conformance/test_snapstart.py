"""SnapStart with the real snapshot_restore_py: both runtimes run its hooks in the same order and fail in the same way."""

import sys
import unittest

from miniature import Lambda, function

HOOKS = """
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

    register_before_snapshot(print, "before", 3, sep="-")
    register_after_restore(print, "after", 3, sep="-")

    def handler(event, context):
        return ran
"""


def play(root, command):
    """What a runtime sends until it waits for an event or ends; its answer to one; its exit status, log and errors."""
    env = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start", "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13"}
    with Lambda(root, env=env, command=command) as aws:
        aws.wait_for(lambda: aws.restoring or aws.status is not None, what="neither restores nor ends")
        before = aws.log
        aws.restored = True
        with aws.condition:
            aws.condition.notify_all()
        aws.wait_for(lambda: aws.polling or aws.status is not None, what="neither polls nor ends")
        answer = aws.invoke().json if aws.polling else None
        sent = [request.kind for request in aws.requests]
        errors = [
            (request.kind, request.error_type, request.json["errorType"], request.json["errorMessage"])
            for request in aws.requests if request.kind.endswith("error")
        ]
        logs = [text.replace("\r", "\n").partition("\n")[0] for text in (before, aws.log)]
        if command:
            aws.violations.clear()
        return {"sent": sent[:3], "answer": answer, "errors": errors, "exit": aws.status, "log": logs}


class SnapStart(unittest.TestCase):
    def test_like_awslambdaric(self):
        for name, source, sent, status in (
            ("order", HOOKS, ["restore/next", "next", "response"], None),
            ("no hooks", "def handler(event, context): return 1", ["restore/next", "next", "response"], None),
            ("before", HOOKS + "\n    register_before_snapshot(int, 'no number')", ["init/error"], 64),
            ("before, exit", HOOKS + "\n    register_before_snapshot(exit, 3)", ["init/error"], 64),
            ("after", HOOKS + "\n    register_after_restore(int, 'no number')", ["restore/next", "restore/error"], 65),
            ("after, exit", HOOKS + "\n    register_after_restore(exit, 3)", ["restore/next", "restore/error"], 65),
        ):
            with self.subTest(name), function(function=source) as root:
                ours = play(root, None)
                self.assertEqual(ours, play(root, [sys.executable, "-m", "awslambdaric", "function.handler"]))
                self.assertEqual((ours["sent"], ours["exit"]), (sent, status))
                if name == "order":
                    self.assertEqual(ours["answer"], ["before 2", "before 1", "after 1", "after 2"])
