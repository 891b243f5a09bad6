# Every command a person needs. `make help` lists them.
PYTHON ?= python3
export PYTHON
.DEFAULT_GOAL := help
.PHONY: help run test lint fuzz conformance bench dist layer create invoke update delete clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

TASK_ROOT ?= tests/hello
# Through the environment and unexpanded: quotes and dollar signs arrive as they were written.
override EVENT := $(value EVENT)
export TASK_ROOT HANDLER EVENT
run:  ## invoke a function once: TASK_ROOT=folder HANDLER=file.function EVENT='{"k": 1}' or EVENT=@event.json
	@$(PYTHON) tests/runtime_api.py "$$TASK_ROOT" "$$HANDLER"

test:  ## the tests: standard library only, no network, under a minute
	@$(PYTHON) -m unittest discover -s tests

FUNCTION ?= tests/hello
PYTHON_PREFIX ?=
ARCH ?=
export ARCH
dist:  ## dist/function.zip: FUNCTION=folder with bootstrap and runtime.py, compiled for PYTHON=python3.13
	@$(PYTHON) tests/package.py function "$(FUNCTION)"

layer:  ## dist/layer.zip for /opt; PYTHON_PREFIX=folder puts that interpreter in; ARCH=arm64
	@$(PYTHON) tests/package.py layer $(if $(PYTHON_PREFIX),--prefix "$(PYTHON_PREFIX)")

bench:  ## beside awslambdaric and a floor, in three minutes: PYTHON=python3.13, ONLY="cold warm" for single groups
	@$(PYTHON) tests/bench.py $(ONLY)

clean:  ## remove build/ and dist/
	@rm -rf build dist
