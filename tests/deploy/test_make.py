"""The Makefile: the same commands from any folder, with the values that were typed."""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
import zipfile

from miniature import REPO

TAG = sys.implementation.cache_tag
HANDLER = "def handler(event, context):\n    return event\n"


class Make(unittest.TestCase):
    """Commands as a person types them: in `my folder`, beside a copy of this repository in `the runtime`."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="make-")).resolve()
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.runtime, cls.mine = cls.folder / "the runtime", cls.folder / "my folder"
        cls.runtime.mkdir()
        shutil.copy(REPO / "Makefile", cls.runtime)
        (cls.runtime / "bootstrap").symlink_to(REPO / "bootstrap")  # starts the runtime beside it
        (cls.runtime / "runtime.py").write_text("# What is packed here: the real one takes longer to compile than all else.\n")
        for name in ("hello", "deploy", "miniature"):
            shutil.copytree(REPO / "tests" / name, cls.runtime / "tests" / name)

    def setUp(self):
        self.addCleanup(shutil.rmtree, self.mine)
        for name in "own", "it's $HOME":
            (self.mine / name).mkdir(parents=True)
            (self.mine / name / "app.py").write_text(HANDLER)

    def sh(self, command, *words, **environment):
        """What a shell makes of a command line; "$@" in it are the words."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "PYTHON")) and k not in ("FUNCTION", "TASK_ROOT")}
        return subprocess.run(
            ["sh", "-c", command, "sh", *map(str, words)], cwd=self.mine, env={**env, **environment, "PYTHON": sys.executable},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=60,
        )

    def make(self, *words, **environment):
        return self.sh('make -s -f "../the runtime/Makefile" "$@"', *words, **environment)

    def refused(self, text, made):
        lines = [line for line in made.stderr.splitlines() if not re.match(r"make(\[\d\])?: \*\*\* \[", line)]
        self.assertEqual((made.returncode, made.stdout, len(lines)), (2, "", 1), made.stderr)
        self.assertIn(text, lines[0])

    def names(self, path):
        with zipfile.ZipFile(path) as file:
            return file.namelist()


class Folders(Make):
    def test_relative_paths_are_the_callers(self):
        (self.mine / "links").mkdir()
        (self.mine / "links/Makefile").symlink_to("../../the runtime/Makefile")
        (self.mine / "own/Makefile").write_text("include ../../the\\ runtime/Makefile\n")
        for command, folder in {
            'make -s -f "../the runtime/Makefile"': "own",
            'make -sf "../the runtime/Makefile"': "own",
            'make -s -C "../the runtime"': "own",
            'make -sC "../the runtime"': "own",
            'make -s --directory="../the runtime"': "own",
            "cd .. && make -s -C 'the runtime'": "my folder/own",
            "cd links && make -s": "../own",
            "cd own && make -s": ".",
        }.items():
            with self.subTest(command):
                made = self.sh(f'{command} "$@"', "run", "dist", f"FUNCTION={folder}", 'EVENT="here"')
                self.assertEqual((made.returncode, made.stdout.splitlines()[0]), (0, '"here"'), made.stderr)
                (made,) = self.folder.rglob("dist/function.zip")
                self.assertNotIn(self.runtime, made.parents)
                self.assertIn("app.py", self.names(made))
                shutil.rmtree(made.parent)

    def test_a_stale_pwd_as_a_program_leaves_it(self):
        """Python's subprocess, say, changes the folder and not PWD."""
        made = subprocess.run(
            ["make", "-s", "-f", "../the runtime/Makefile", "run", "FUNCTION=own", 'EVENT="here"', f"PYTHON={sys.executable}"],
            cwd=self.mine, env={"PATH": os.environ["PATH"], "PWD": "/"}, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.assertEqual(made.stdout, b'"here"\n')

    def test_no_pwd_as_env_leaves_it(self):
        made = self.sh(f'env -i PATH="$PATH" make -s -C "../the runtime" PYTHON={sys.executable} run FUNCTION=own EVENT=1')
        self.assertEqual(made.stdout, "1\n", made.stderr)

    def test_a_goal_of_a_makefile_that_includes_this_one(self):
        (self.mine / "Makefile").write_text("include ../the\\ runtime/Makefile\n.PHONY: own\nown: ; @echo mine\n")
        self.assertEqual(self.sh("make own").stdout, "mine\n")

    def test_the_example_is_named_elsewhere(self):
        made = self.make("run", "HANDLER=function.handler")
        self.assertEqual(made.stderr.splitlines()[0], f"FUNCTION={self.runtime}/tests/hello")

    def test_clean_removes_nothing_of_the_callers(self):
        for folder in self.mine, self.runtime:
            (folder / "build").mkdir()
        self.assertEqual(self.make("clean").returncode, 0)
        self.assertEqual([(folder / "build").exists() for folder in (self.mine, self.runtime)], [True, False])

    def test_help_and_test(self):
        self.assertIn("make run ", self.make("help").stdout)
        test = self.runtime / "tests/protocol/test_it.py"
        test.parent.mkdir()
        self.addCleanup(shutil.rmtree, test.parent)
        test.write_text("import unittest\nclass It(unittest.TestCase):\n    def test(self): print('here it is')\n")
        self.assertEqual(self.make("test", "ROOM=protocol").stdout, "here it is\n")

        for goal in "test", "test-newest", "test-arm64":
            self.refused("ROOM=nope: the rooms are handlers ", self.make(goal, "ROOM=protocol nope"))
        program = str(REPO / "tests/conformance/run.py")
        said = subprocess.run([sys.executable, program, "test_web.Flask", "test_nope"], stderr=subprocess.PIPE, universal_newlines=True).stderr
        self.assertRegex(said, r"\Amake conformance: TESTS=test_nope: there are test_beside_awslambdaric, .*\n\Z")

    def test_build_as_sam_calls_it(self):
        """In a copy of the function's folder, with the Makefile by its path and ARTIFACTS_DIR in the environment."""
        command = 'cd own && make --makefile "../../the runtime/Makefile" build-Orders'
        (self.mine / "own/.env").touch()
        made = self.sh(command, ARTIFACTS_DIR=str(self.mine / "built"))
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(sorted(path.name for path in (self.mine / "built").iterdir()), ["__pycache__", "app.py", "bootstrap", "runtime.py"])
        self.assertEqual((made.stderr, made.stdout.splitlines()[0]), ("", "package.py: .: left out: .env"))  # it shows stdout
        self.assertIn("ARTIFACTS_DIR is not set", self.sh(command).stderr)

    def test_dist_and_layer(self):
        made = self.make("dist", "layer")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertIn("function.py", self.names(self.mine / "dist/function.zip"))
        layer = [f"__pycache__/runtime.{TAG}.pyc", "bootstrap", "runtime.py"]
        self.assertEqual(self.names(self.mine / "dist/layer.zip"), layer)
        self.refused("OUTPUT=l.zip: one file for the function and the layer", self.make("dist", "layer", "OUTPUT=l.zip"))
        (self.mine / "dist/layer.zip").unlink()
        self.make("layer", "OUTPUT=l.zip")
        self.make("layer", "OUTPUT=l/")
        self.assertEqual((self.names(self.mine / "l.zip"), sorted(os.listdir(self.mine / "l"))), (layer, sorted(["__pycache__", *layer[1:]])))
        self.assertEqual([path.name for path in self.mine.glob("dist/*")], ["function.zip"])
        self.refused("OUTPUT=own has files that were not built here", self.make("layer", "OUTPUT=own"))


class Values(Make):
    def test_one_variable_under_two_names(self):
        for word in "FUNCTION=own", "TASK_ROOT=own":
            with self.subTest(word):
                self.assertEqual(self.make("run", word, "EVENT=1").stdout, "1\n")
                self.make("dist", word)
                self.assertIn("app.py", self.names(self.mine / "dist/function.zip"))
        self.assertEqual(self.make("run", "EVENT=1", "FUNCTION=own", TASK_ROOT="nowhere").stdout, "1\n")
        self.assertEqual(self.make("run", "EVENT=1", TASK_ROOT="own").stdout, "1\n")
        self.assertEqual(self.make("run", "EVENT=1", "TASK_ROOT=own", "FUNCTION=own").stdout, "1\n")
        shutil.copytree(self.mine / "own", self.mine / "-own")
        self.assertEqual(self.make("run", "FUNCTION=-own", "EVENT=1").stdout, "1\n")
        self.assertIn(" from ./-own, ", self.make("dist", "FUNCTION=-own").stdout)
        self.refused("FUNCTION=own and TASK_ROOT=other: these are one variable", self.make("dist", "TASK_ROOT=other", "FUNCTION=own"))
        self.refused("TASK_ROOT=other: no such folder", self.make("run", "TASK_ROOT=other"))
        self.refused("FUNCTION=other: no such folder", self.make("run", "FUNCTION=other"))

    def test_what_is_no_number(self):
        for goal, word in ("fuzz", "SEED=abc"), ("fuzz", "CASES=-1"), ("fuzz", "FIRST=a b"), ("fuzz", "INVOCATIONS=1e5"), ("test", "SEED=$(x)"):
            with self.subTest(word):
                self.refused(f"{word}: a whole number belongs here, as in ", self.make("-n", goal, word))

    def test_the_seed_of_the_tests(self):
        python = self.mine / "python"
        python.write_text(f'#!/bin/sh\n[ "$1" != -c ] || exec {shlex.quote(sys.executable)} "$@"\necho "${{SEED-none}} ${{INVOCATIONS-none}}"\n')
        python.chmod(0o755)
        for words, said in ([], "none none\n"), (["SEED=7"], "7 none\n"):
            made = self.make("test-protocol", f"PYTHON={python}", *words, SEED="foreign", INVOCATIONS="foreign")
            self.assertEqual((made.returncode, made.stdout), (0, said), made.stderr)

    def test_a_stray_goal_that_is_there(self):
        (self.mine / "two words").mkdir()
        for goals in (["own"], ["dist", "own"], ["run", "own/app.py"], ["two words"], ["dist", "two words"]):
            with self.subTest(goals):
                text = f" {goals[-1]} is no command of this Makefile: a folder with a function is passed as in FUNCTION={goals[-1]}."
                self.refused(text, self.make(*goals))
        self.assertFalse((self.mine / "dist").exists())

    def test_a_stray_goal_that_is_nothing(self):
        for command in 'make -s -f "../the runtime/Makefile"', 'make -s -C "../the runtime"':
            for words in ["run", "function.handler"], ["serve", "PORT=0", "7893"], ["layer", '{"a":1}'], ["dist", "test-nope"]:
                with self.subTest(command, words=words):
                    self.refused(f" {words[-1]} is no command of this Makefile: make help lists them.", self.sh(f'{command} "$@"', *words))
        self.assertEqual(list(self.folder.rglob("dist")), [])

    def test_goals_of_a_makefile_that_includes_this_one(self):
        (self.mine / "Makefile").write_text("include ../the\\ runtime/Makefile\n.PHONY: own\nown: ; @echo mine $(STAGE)\n")
        made = self.sh("make -s clean own STAGE=prod")
        self.assertEqual((made.returncode, made.stdout, made.stderr), (0, "mine prod\n", ""))

    def test_as_they_were_written(self):
        event = json.dumps(["it's \"5\" $HOME `pwd` $(shell touch pwned) $$ # 100% \\ \u00e9 ${x} a,b) ("], ensure_ascii=False)
        made = self.make("run", "FUNCTION=it's $HOME", f"EVENT={event}")
        self.assertEqual(json.loads(made.stdout), json.loads(event), made.stderr)
        for name in "FUNCTION", "TASK_ROOT", "HANDLER", "TIMEOUT", "PYTHON", "EVENT", "UNKNOWN":
            with self.subTest(name):
                words = [f"{name}=$(shell touch pwned)"] + ["FUNCTION=own"] * (name not in ("FUNCTION", "TASK_ROOT"))
                self.assertEqual(self.make("run", *words).returncode, 0 if name == "UNKNOWN" else 2)
        self.refused("FUNCTION=$(shell touch pwned)", self.make("dist", "FUNCTION=$(shell touch pwned)"))
        self.refused("PYTHON_PREFIX", self.make("layer", "PYTHON_PREFIX=$(shell touch pwned)"))
        self.refused("ARCH=$(shell touch pwned): arm64 or x86_64", self.make("layer", "ARCH=$(shell touch pwned)"))
        self.assertEqual(list(self.folder.rglob("pwned")), [])

    def test_python_with_spaces_and_relative_to_the_caller(self):
        (self.mine / "ve nv $x").mkdir()
        (self.mine / "ve nv $x/python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (self.mine / "ve nv $x/python3").chmod(0o755)
        for command in '-f "../the runtime/Makefile"', '-C "../the runtime"':
            made = self.sh(f'make -s {command} "$@"', "run", "FUNCTION=own", "EVENT=1", "PYTHON=ve nv $x/python3")
            self.assertEqual(made.stdout, "1\n", made.stderr)

    def test_no_python_or_one_that_is_too_old(self):
        old = self.mine / "python3.8"
        old.write_text(f"""#!/bin/sh\nexec {sys.executable} -c 'import sys; sys.version_info = (3, 8, 18); exec(sys.argv[2])' "$@"\n""")
        old.chmod(0o755)
        shim = self.mine / "python3.13"  # as pyenv has one of each version
        shim.write_text("""#!/bin/sh\necho >&2; echo "pyenv: python3.13: it's not here" >&2; echo "It is in 3.12.1" >&2; exit 127\n""")
        shim.chmod(0o755)
        self.refused("name another, as in PYTHON=/path/to/python3 (it says: pyenv: python3.13: it's not here).", self.make("run", f"PYTHON={shim}"))
        for python in "python3.99", "", str(old), "ve nv/$(shell touch pwned)":
            for target in "run", "test", "lint", "fuzz", "dist", "layer", "create":
                with self.subTest(python=python, target=target):
                    self.refused(f" PYTHON={python}: does not start, or is older than 3.9: name another, ", self.make(target, f"PYTHON={python}"))
            for target in "help", "clean":
                self.assertEqual(self.make(target, f"PYTHON={python}").stderr, "")


if __name__ == "__main__":
    unittest.main()
