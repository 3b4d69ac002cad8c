# The front door: each target is a few Meson or pip lines.  CONTRIBUTING.md says what they do.
#
# Nothing outside this folder is touched, except that tools/install-deps brings packages of the distribution
# where they are missing.  PYTHON is the interpreter to build for, VENV the environment made from it.
PYTHON ?= python3
VENV ?= .venv
BUILD ?= build
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60
LANES ?= 3.10 3.13

venv_name := $(notdir $(VENV))
py := $(VENV)/bin/python
with_venv := PATH="$(abspath $(VENV))/bin:$$PATH"
meson := $(with_venv) meson
meson_test := $(meson) test --print-errorlogs
# pip does not look for a newer pip, and builds with what requirements/build.txt brought.
pip := $(with_venv) PIP_DISABLE_PIP_VERSION_CHECK=1 $(py) -m pip
pip_build := --no-deps --no-build-isolation
# What is installed here has symbols, for debuggers, perf and the sanitizers' stacks; the wheel has none.
pip_debug := $(pip_build) -Csetup-args=-Ddebug=true
deps := $(BUILD)/stamp/deps-$(venv_name)
ready := $(BUILD)/stamp/ready-$(venv_name)
readers := $(BUILD)/stamp/readers-$(venv_name)
installed := $(BUILD)/stamp/installed-$(venv_name)
sources := $(shell find src include python -name '*.[ch]' -o -name '*.py' -o -name '*.pyi' -o -name meson.build) \
	meson.build meson.options pyproject.toml
# Meson's files of one Python's environment cannot be read by another's.
c_build := $(BUILD)/c$(patsubst .venv%,%,$(venv_name))
c_examples = $(patsubst examples/c/%.c,$(c_build)/examples/c/%,$(wildcard examples/c/*.c))

# The sanitizers' settings: the first finding ends the program, with a stack; a refused allocation is no finding.
san := halt_on_error=1:abort_on_error=1:allocator_may_return_null=1
asan_env := UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 ASAN_OPTIONS=$(san)
asan_flags := -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
# What is about processes and not about memory is left out; and forks of a process with threads, over which the ASan of gcc 12
# keeps its allocator's locks: they hang.  C programs whose servers are forks of them are in asan-c.
asan_py_tests ?= tests/python/api tests/python/fidelity -k 'not (multiprocessing or sequential or closure)' \
	$(patsubst %,--ignore=tests/python/api/test_%.py,worker_setup parents exec_workers ctrl_c nested)

.PHONY: demo test test-c test-py test-py-lanes kill limits asan asan-c asan-py tsan valgrind s390x fuzz bench lint docs wheel clean
.PHONY: install build-c

test: test-c test-py

# --- the environment -----------------------------------------------------------------------------------------

$(deps): tools/install-deps
	bash tools/install-deps --python $(PYTHON) base
	@mkdir -p $(@D) && touch $@

$(ready): requirements/build.txt requirements/test.txt | $(deps)
	[ -x $(py) ] || $(PYTHON) -m venv $(VENV)
	$(pip) install -q -r requirements/build.txt -r requirements/test.txt
	@mkdir -p $(@D) && touch $@

$(readers): requirements/readers.txt $(ready)
	$(pip) install -q -r requirements/readers.txt
	@touch $@

# Built in a folder that is kept, so that a change compiles what it touches.
$(installed): $(sources) $(ready)
	$(pip) install -q --force-reinstall $(pip_debug) -Cbuild-dir=$(BUILD)/py-$(venv_name) .
	@touch $@

install: $(installed)

$(c_build)/build.ninja: $(ready)
	$(meson) setup --reconfigure $(c_build) -Dpython=disabled -Dtests=enabled -Dexamples=enabled
	@touch $@

build-c: $(c_build)/build.ninja
	$(meson) compile -C $(c_build)

# --- what a user runs ----------------------------------------------------------------------------------------

demo: $(installed) $(readers) build-c
	$(py) examples/python/demo.py
	@set -e; for program in $(c_examples); do echo; echo "== $$program (C, no Python)"; $$program; done

wheel: $(ready)
	$(pip) wheel -q $(pip_build) -Cbuild-dir=$(BUILD)/wheel-$(venv_name) -w dist .
	@ls dist/*.whl

# --- tests ---------------------------------------------------------------------------------------------------

test-c: $(c_build)/build.ninja
	$(meson_test) -C $(c_build)

test-py: $(installed) $(readers) build-c
	JOBLOT_BUILD_DIR=$(abspath $(c_build)) $(py) -m pytest $(PYTEST_ARGS)

# Every process killed at every point of a task's life, storms and long runs: `make test` has a choice of it.
kill: $(installed) $(readers) build-c
	$(meson_test) -C $(c_build) stops pool_death pool_parent
	JOBLOT_KILL_ALL=1 JOBLOT_BUILD_DIR=$(abspath $(c_build)) $(py) -m pytest --timeout 300 $(PYTEST_ARGS) tests/python/kill

limits: $(installed) $(readers)
	$(py) -m pytest $(PYTEST_ARGS) tests/python/limits

test-py-lanes:
	bash tools/python-lanes $(LANES)

asan: asan-c asan-py

asan-c: $(ready)
	[ -e $(BUILD)/asan/build.ninja ] || $(meson) setup $(BUILD)/asan -Dpython=disabled -Dtests=enabled $(asan_flags)
	JOBLOT_TEST_TIME=4 $(asan_env) $(meson_test) -C $(BUILD)/asan --timeout-multiplier 4

# The extension under ASan and UBSan, in a folder that goes before site-packages.  Leaks are hunted in the C tests.
asan-py: $(readers)
	$(pip) install -q --upgrade --target $(BUILD)/asan-site $(pip_debug) -Cbuild-dir=$(BUILD)/asan-py \
		$(addprefix -Csetup-args=,$(asan_flags)) .
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
		$(asan_env):detect_leaks=0 PYTHONPATH=$(abspath $(BUILD)/asan-site) \
		$(py) -m pytest -p no:cacheprovider --timeout 400 $(PYTEST_ARGS) $(asan_py_tests)

# Without setarch -R, TSan of gcc 12 does not start where the kernel randomises more bits than it knows.
tsan: $(ready)
	[ -e $(BUILD)/tsan/build.ninja ] || $(meson) setup $(BUILD)/tsan -Dpython=disabled -Dtests=enabled -Db_sanitize=thread
	JOBLOT_TEST_TIME=4 TSAN_OPTIONS=$(san):second_deadlock_stack=1:die_after_fork=0 \
		$(meson_test) -C $(BUILD)/tsan --wrapper 'setarch -R' --timeout-multiplier 4

valgrind: $(c_build)/build.ninja
	bash tools/install-deps valgrind
	JOBLOT_TEST_TIME=20 $(meson_test) -C $(c_build) --suite unit --suite inject --timeout-multiplier 20 \
		--wrapper 'valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite'

s390x: $(ready) build-c
	bash tools/install-deps s390x
	bash tools/s390x-sysroot $(BUILD)/s390x-sysroot
	[ -e $(BUILD)/s390x/build.ninja ] || $(meson) setup $(BUILD)/s390x \
		--cross-file $(BUILD)/s390x-sysroot/cross.ini -Dpython=disabled -Dtests=enabled
	$(meson) compile -C $(BUILD)/s390x
	JOBLOT_TEST_TIME=10 $(meson_test) -C $(BUILD)/s390x --timeout-multiplier 10 --no-suite inject
	JOBLOT_BE_WORKER="qemu-s390x-static -L $(abspath $(BUILD)/s390x-sysroot) $(abspath $(BUILD)/s390x/tests/c/be_worker)" \
		$(c_build)/tests/c/test_big_endian

fuzz: $(ready)
	bash tools/install-deps fuzz
	[ -e $(BUILD)/fuzz/build.ninja ] || CC=clang $(meson) setup $(BUILD)/fuzz -Dpython=disabled $(asan_flags) \
		"-Dc_args=-fsanitize=fuzzer-no-link -fno-sanitize-recover=all" -Dfuzz_engine=-fsanitize=fuzzer
	$(meson) compile -C $(BUILD)/fuzz
	@set -e; for program in $(BUILD)/fuzz/tests/fuzz/fuzz_*; do [ -f $$program ] || continue; \
		name=$${program##*/fuzz_}; found=$(BUILD)/fuzz/corpus/$$name; mkdir -p $$found; \
		echo "== $$name: $(FUZZ_SECONDS) s"; \
		$$program -max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 \
			-artifact_prefix=$(BUILD)/fuzz/ $$found tests/fuzz/corpus/$$name; done

# --- the rest ------------------------------------------------------------------------------------------------

bench: $(installed)
	$(pip) install -q -r requirements/bench.txt
	-$(pip) install -q -r requirements/peers.txt
	$(py) bench/run.py

lint: $(ready)
	$(pip) install -q -r requirements/lint.txt
	$(py) -m ruff check .
	$(py) -m mypy
	@if command -v shellcheck >/dev/null; then set -x; shellcheck .ci/run tools/install-deps tools/python-lanes tools/s390x-sysroot; \
		else echo "shellcheck is not installed: scripts not checked (tools/install-deps lint brings it)"; fi

docs: $(deps)
	$(PYTHON) tools/check-docs

clean:
	rm -rf $(BUILD) dist $(VENV)
