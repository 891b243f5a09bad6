"""make compare, with a stand-in for the AWS CLI that notes each command; tests/conformance/test_deploy.py has the real one on moto."""

import base64
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

from miniature import REPO, until

RUNTIME = "python%d.%d" % sys.version_info[:2]
# The folder of this program has what happened (`commands`), and what is to fail (`fails`: a command, and what is said) or to hang (`hangs`).
AWS = r"""#!/bin/sh
cd "${0%/*}" && printf '%s\n' "$*" >>commands
command="$1 $2" words="$*" hangs='' fails=''
name=${words#*--function-name } name=${name%% *}
[ ! -f hangs ] || read -r hangs <hangs
[ ! -f fails ] || read -r fails <fails
if [ "$command" = "$hangs" ]; then exec sleep 60; fi
if [ "$command" = "$fails" ]; then sed 1d fails >&2; [ -f keeps-failing ] || rm fails; exit 254; fi
case $command in
("iam create-role") echo '{"Role": {"Arn": "arn:aws-cn:iam::123456789012:role/it"}}' ;;
("lambda publish-layer-version") echo '{"LayerVersionArn": "arn:aws:lambda:eu-north-1:123456789012:layer:it:1"}' ;;
("lambda update-function-configuration") case $* in (*'"0.0"'*) ;; (*) >"cold-$name" ;; esac ;;  # the first is prepared beforehand
("lambda invoke") if rm "cold-$name" 2>/dev/null; then cat cold; else cat warm; fi ;;
esac
"""
REPORT = "START\nREPORT RequestId: 1-2\tDuration: %s ms\tBilled Duration: %s ms\tMemory Size: 512 MB\tMax Memory Used: 31 MB\t%s\n"
COLD = REPORT % ("2.50", "90", "Init Duration: 86.40 ms\t\nXRAY TraceId: 1-5")
WARM = REPORT % ("1.25", "2", "")
# Fewer invocations, and no pauses for the benefit of IAM.
START = f"import sys; *_, tests = sys.argv; sys.argv = ['compare.py']; sys.path[:0] = {[os.path.join(REPO, 'tests/deploy'), os.path.join(REPO, 'tests')]!r}; import compare; "
START += "compare.COLD, compare.WARM, compare.time.sleep = 2, 3, lambda seconds: None; compare.TESTS = tests; sys.exit(compare.guarded())"


class Compare(unittest.TestCase):
    def setUp(self):
        self.bin = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
        self.addCleanup(shutil.rmtree, self.bin)
        self.write("aws", AWS)
        (self.bin / "aws").chmod(0o755)
        for name, report in (("cold", COLD), ("warm", WARM)):
            self.write(name, '{"StatusCode": 200, "LogResult": "%s"}' % base64.b64encode(report.encode()).decode())
        (self.bin / "deploy").mkdir()
        self.write("deploy/package.py", "import sys\nopen(sys.argv[-1], 'w').close()\n")  # the one that builds takes half the time

    def write(self, name, text):
        (self.bin / name).write_text(text)

    def start(self, tests=None, **environment):
        env = {name: value for name, value in os.environ.items() if name not in ("FUNCTION", "HANDLER", "EVENT", "ARCH", "PYTHON_PREFIX")}
        env = {**env, "PATH": f"{self.bin}:{env['PATH']}", "RUNTIME": RUNTIME, **environment}
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(tests or self.bin)], env=env, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True
        )
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.kill)
        return process

    def run_it(self, tests=None, **environment):
        process = self.start(tests, **environment)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def commands(self, *words):
        return [line for line in (self.bin / "commands").read_text().splitlines() if line.startswith(words or "")]

    def check_that_all_is_deleted(self):
        """Of each kind as many are deleted as were asked for, functions first and the role last."""
        for made, deleted in (
            ("lambda create-function", "lambda delete-function"), ("logs create-log-group", "logs delete-log-group"),
            ("lambda publish-layer-version", "lambda delete-layer-version"), ("iam create-role", "iam delete-role "),
            ("iam put-role-policy", "iam delete-role-policy"),
        ):
            name = re.compile("--(?:function|layer|role|log-group)-name ([^ ]+)")
            self.assertEqual({name.search(line)[1] for line in self.commands(made)}, {name.search(line)[1] for line in self.commands(deleted)})
        self.assertIn("iam delete-role ", self.commands()[-1])

    def test_both_are_measured_and_deleted(self):
        self.write("fails", "lambda create-function\nThe role defined for the function cannot be assumed by Lambda.\n")
        status, out, err = self.run_it(REPO / "tests")
        self.assertEqual(status, 0, err)
        head, _, *table = out.splitlines()
        self.assertRegex(head, r"^\d{4}-\d\d-\d\d, eu-north-1, (x86_64|arm64), 512 MB; medians \(quartiles\) of 2 cold starts and 3 warm invocations of each$")
        two = lambda label, value: f"| {label} | {value} | {value} |"  # noqa: E731
        self.assertEqual(table, [
            f"| | AWS's {RUNTIME} | this runtime, {RUNTIME} with the wrapper |", "| --- | --- | --- |",
            two("cold start: Init Duration", "86.4 ms (86.4–86.4)"), two("cold start: Duration of the first invocation", "2.5 ms (2.5–2.5)"),
            two("cold start: Billed Duration", "90 ms (90–90)"), two("warm: Duration", "1.25 ms (1.25–1.25)"), two("warm: Max Memory Used", "31 MB (31–31)"),
        ])
        first, second = err.splitlines()
        name = re.match(r"(python-compare-[0-9a-f]{8}): two functions, measured", first)[1]
        self.assertEqual(second, f"compare.py: what was made as {name} is deleted")
        self.check_that_all_is_deleted()
        again, *created = self.commands("lambda create-function")
        self.assertEqual(again, created[0])
        for line, mine in zip(created, (False, True)):
            self.assertIn(f"--function-name {name}-{'this' if mine else 'aws'} --runtime {RUNTIME} ", line)
            self.assertEqual(("--layers arn:aws:lambda:eu-north-1" in line, "AWS_LAMBDA_EXEC_WRAPPER" in line), (mine, mine))
        self.assertIn('"Resource": "arn:aws-cn:logs:', self.commands("iam put-role-policy")[0])
        # Two turns of each, and another try of the first, whose REPORT has no Init Duration.
        self.assertEqual(len(self.commands("lambda update-function-configuration")), 6)
        self.assertEqual(len(self.commands("lambda invoke")), 6 + 6)

    def test_on_an_os_only_runtime(self):
        """With the interpreter in the layer, and AWS's runtime of the same version."""
        prefix = self.bin / "prefix"
        for name in "bin", "lib/python3.99":
            (prefix / name).mkdir(parents=True)
        (prefix / "lib/python3.99/os.py").touch()
        shutil.copy("/bin/echo", prefix / "bin/python3.99")  # it has nothing to pack here
        status, out, err = self.run_it(RUNTIME="", PYTHON_PREFIX=str(prefix))
        self.assertEqual(status, 0, err)
        self.assertIn("| | AWS's python3.99 | this runtime, provided.al2023 |", out)
        created = self.commands("lambda create-function")
        self.assertEqual([re.search("--runtime ([^ ]+)", line)[1] for line in created], ["python3.99", "provided.al2023"])
        self.assertNotIn("AWS_LAMBDA_EXEC_WRAPPER", "".join(created))

    def test_an_error_is_one_line_and_leaves_nothing_behind(self):
        self.write("fails", "lambda create-function\n\nAn error occurred (InvalidParameterValue)\n")
        status, out, err = self.run_it()
        self.assertEqual((status, out), (1, ""))
        self.assertEqual(err.splitlines()[-1], "compare.py: aws lambda create-function: An error occurred (InvalidParameterValue)")
        self.check_that_all_is_deleted()

    def test_a_function_that_fails(self):
        self.write("warm", '{"StatusCode": 200, "FunctionError": "Unhandled"}')
        self.write("aws", AWS.replace("else cat warm", 'else for word; do case $word in (*/answer) printf \'{\\n"errorMessage": "no"}\' >"$word" ;; esac; done; cat warm'))
        status, _, err = self.run_it()
        self.assertRegex(err.splitlines()[-1], r'^compare\.py: python-compare-\w+-aws failed: \{ "errorMessage": "no"\}$')
        self.check_that_all_is_deleted()

    def test_what_cannot_be_deleted_is_named(self):
        self.write("fails", "lambda delete-function\nAccessDenied\n")
        status, out, err = self.run_it()
        self.assertEqual((status, out.count("\n")), (1, 9), err)
        self.assertRegex(err.splitlines()[-1], r"^compare\.py: could not be deleted, try again: aws lambda delete-function --function-name \S+-this$")
        self.check_that_all_is_deleted()
        self.write("fails", "lambda delete-layer-version\n(ResourceNotFoundException): it had not been made\n")
        self.assertEqual(self.run_it()[0], 0)

    def test_interrupts(self):
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            with self.subTest(number):
                self.write("commands", "")
                self.write("hangs", "lambda invoke\n")
                process = self.start()
                until(lambda: self.commands("lambda invoke"))
                os.killpg(process.pid, number)
                until(lambda: self.commands("lambda delete-function"))
                os.killpg(process.pid, number)
                _, err = process.communicate(timeout=30)
                self.assertEqual((process.returncode, len(err.splitlines())), (1, 3), err)
                self.check_that_all_is_deleted()

    def test_arguments_are_looked_at_first(self):
        for text, variables in (("neither provided.al2023 nor python3.9", {"RUNTIME": "nodejs24.x"}), ("no such folder", {"FUNCTION": "nowhere"})):
            status, _, err = self.run_it(**variables)
            self.assertEqual((status, len(err.splitlines())), (1, 1), err)
            self.assertIn(text, err)
        self.assertFalse((self.bin / "commands").exists())


if __name__ == "__main__":
    unittest.main()
