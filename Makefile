# Every command a person needs. `make help` lists them.
PYTHON ?= python3
export PYTHON
ifneq ($(filter-out help clean test-newest,$(MAKECMDGOALS)),)
$(if $(shell 2>/dev/null $(PYTHON) -c 'import sys; print("x" * (sys.version_info >= (3, 9)))'),,$(error \
    PYTHON=$(PYTHON): not found, or older than 3.9: name another, as in PYTHON=python3.13))
endif
.DEFAULT_GOAL := help
.PHONY: help run test test-newest lint fuzz conformance bench dist layer create invoke update delete clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

TASK_ROOT ?= tests/hello
# Through the environment and unexpanded: quotes and dollar signs arrive as they were written.
override EVENT := $(value EVENT)
export TASK_ROOT HANDLER EVENT TIMEOUT
run:  ## invoke a function once: TASK_ROOT=folder HANDLER=file.function EVENT='{"k": 1}' or EVENT=@event.json, TIMEOUT=3
	@$(PYTHON) tests/miniature run "$$TASK_ROOT" "$$HANDLER"

# The rooms of tests/ that `make test` enters, as many at a time as there are processors.
ROOMS := handlers lifecycle protocol miniature deploy
.PHONY: $(ROOMS:%=test-%)
PYTHONFLAGS ?=
test:  ## the tests: standard library only, no network, under a minute; ROOM=handlers for one room; PYTHONFLAGS="-W error -X dev" as CI runs them
	@$(MAKE) -s -k -j$$(getconf _NPROCESSORS_ONLN) $(if $(filter output-sync,$(.FEATURES)),-O) $(or $(ROOM:%=test-%),$(ROOMS:%=test-%))
# In tests/, where the tests find `miniature`. Those that call make shall not find this one's flags.
$(ROOMS:%=test-%):
	@cd tests && MAKEFLAGS= $(PYTHON) $(PYTHONFLAGS) -m unittest discover -s $(@:test-%=%)

# Versions that this machine need not have: in a root of the next Debian, which has these.
test-newest:  ## the tests on Python 3.14 and 3.15 from Debian, unpacked under build/, as root on a Debian machine; PYTHON=python3.15 for one
	@for python in $(if $(filter file,$(origin PYTHON)),python3.14 python3.15,$(PYTHON)); do \
	    tests/deploy/debian.sh newest make -s test PYTHON=$$python PYTHONFLAGS="$(PYTHONFLAGS)" ROOM="$(ROOM)" || exit; \
	done

# A stamp for each set of versions: a second run installs nothing.
LINT := mypy==1.19.1 ruff==0.17.6
LINT_INSTALLED := build/lint/$(subst $() ,+,$(LINT))
lint: $(LINT_INSTALLED)  ## mypy --strict on runtime.py as the oldest and the newest Python read it; ruff
	@for version in 3.9 3.15; do \
	    build/lint/bin/mypy --strict --python-version $$version --cache-dir build/lint/mypy runtime.py || exit; \
	done
	@build/lint/bin/ruff check --quiet runtime.py tests
	@build/lint/bin/ruff format --diff --quiet runtime.py

$(LINT_INSTALLED):
	@$(PYTHON) -m venv --clear build/lint
	@build/lint/bin/pip install --quiet --disable-pip-version-check $(LINT)
	@touch $@

H11 := build/h11-0.16.0
fuzz: $(H11)/h11  ## a hostile Runtime API: SEED=7 CASES=10000; then 100,000 invocations that are counted: INVOCATIONS=100000
	@PYTHONPATH=$(H11) $(PYTHON) tests/protocol/fuzz.py --h11 $(if $(SEED),--seed $(SEED)) $(if $(FIRST),--first $(FIRST)) $(if $(CASES),--cases $(CASES))
	@cd tests && INVOCATIONS=$(or $(INVOCATIONS),100000) $(PYTHON) -m unittest discover -s protocol -p test_counting.py

$(H11)/h11:
	@$(PYTHON) -m venv --clear build/fuzz  # Debian's interpreters have no pip of their own
	@build/fuzz/bin/pip install --quiet --disable-pip-version-check --target $(H11) h11==0.16.0

FUNCTION ?= tests/hello
export FUNCTION PYTHON_PREFIX ARCH FORCE
dist:  ## dist/function.zip: FUNCTION=folder with bootstrap and runtime.py, compiled for PYTHON=python3.13
	@$(PYTHON) tests/deploy/package.py function "$$FUNCTION"

layer:  ## dist/layer.zip for /opt; PYTHON_PREFIX=folder puts that interpreter in; ARCH=arm64
	@$(PYTHON) tests/deploy/package.py layer $(if $(PYTHON_PREFIX),--prefix "$$PYTHON_PREFIX")

export STACK BUCKET RUNTIME
create:  ## the example on AWS: BUCKET=name, PYTHON_PREFIX=folder or RUNTIME=python3.13, STACK=name, ARCH=arm64
	@$(PYTHON) tests/deploy/deploy.py create

update: create  ## the same, after a change

invoke:  ## invoke what `make create` made: STACK=name, EVENT='{"k": 1}' or EVENT=@event.json
	@$(PYTHON) tests/deploy/deploy.py invoke

delete:  ## delete what `make create` made: STACK=name
	@$(PYTHON) tests/deploy/deploy.py delete

conformance:  ## beside awslambdaric and under two emulators, from PyPI; TESTS=test_emulator for some
	@$(PYTHON) tests/conformance/run.py $(TESTS)

bench:  ## beside awslambdaric and a floor, in three minutes: PYTHON=python3.13, ONLY="cold warm" for single groups
	@$(PYTHON) tests/bench/bench.py $(ONLY)

clean:  ## remove build/ and dist/
	@rm -rf build dist
