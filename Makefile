# `make help` lists what there is. Everything lives in one virtual environment,
# .venv, which the first target makes; a file in it marks each install that is
# done. `PYTHON=python3.12 make test` makes it with another Python.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Without build isolation, so that TensorFlow, which the kernels are compiled
# against, is installed once and not once more for the build.
INSTALL := $(BIN)/python -m pip install --no-build-isolation --editable

KERNELS := tfsac/_kernels.so
CPP_SOURCES := $(wildcard kernels/*.cc kernels/*.h)
OTHER_CPP := $(wildcard tests/*.cc tfsac/native/*.c tfsac/native/*.cc) \
  $(wildcard examples/cpp/*.cc examples/cpp/*.h) tfsac/native/xla_runtime.h \
  benchmarks/fma_peak.cc benchmarks/peers/rltools.cc
KERNEL_SOURCES := $(filter-out %_test.cc,$(CPP_SOURCES))
# The core knows no TensorFlow, and is tested without it.
CORE_SOURCES := $(filter-out %_ops.cc %_kernels.cc %_xla.cc %.h,\
  $(KERNEL_SOURCES))
SANITIZE_memory := address,undefined
SANITIZE_threads := thread
CPP_TESTS := $(foreach sanitizer,memory threads,$(patsubst \
  kernels/%.cc,build/cpp/$(sanitizer)/%,$(wildcard kernels/*_test.cc)))
# The thread sanitizer cannot cope with addresses as random as some kernels
# make them; where that can be switched off for a process, it is.
UNRANDOMISED := $(shell setarch --addr-no-randomize true 2>/dev/null \
  && echo setarch --addr-no-randomize)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

.PHONY: quickstart
quickstart: $(VENV)/package $(KERNELS)  ## install, train on Pendulum, export, act
	@# Without TensorFlow's notes on the GPU that is not there.
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python examples/quickstart.py

.PHONY: test
test: lint types cpp-test kernels pytest  ## everything that checks the project

.PHONY: lint
lint: $(VENV)/dev  ## check format and style of Python and C++
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP_SOURCES) $(OTHER_CPP)

.PHONY: format
format: $(VENV)/dev  ## format Python and C++, and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_SOURCES) $(OTHER_CPP)

.PHONY: types
types: $(VENV)/dev  ## check types
	$(BIN)/mypy

.PHONY: cpp-test
cpp-test: $(CPP_TESTS)  ## test the C++ core, under sanitizers
	@set -e; for test in $^; do echo $$test; $(UNRANDOMISED) $$test; done

# The ops as TensorFlow calls them. It is not instrumented itself: containers
# and memory that pass between the two would be reported, and so would all that
# Python leaves to the end of the process. Memory is kept to be watched, so that
# its growth cannot be tested.
.PHONY: asan-test
asan-test: $(VENV)/dev  ## test the ops inside TensorFlow, under a sanitizer
	CXXFLAGS="-O1 -g -fsanitize=address -fno-omit-frame-pointer" \
	  $(BIN)/python setup.py --quiet build \
	  --build-base build/asan --build-lib build/asan/lib
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) \
	  $$($(CXX) -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:alloc_dealloc_mismatch=0 \
	  PYTHONPATH=$(CURDIR)/build/asan/lib $(BIN)/python -P -m pytest \
	  -k 'not memory_grows' tests/ops_test.py tests/replay_test.py \
	  tests/replay_files_test.py tests/mlp_test.py \
	  tests/kernel_policy_test.py tests/fuzz_test.py

.PHONY: pytest
pytest: $(VENV)/dev $(KERNELS)  ## test the library
	@# By files, so that what a file makes for its tests is made once.
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
	  --durations 20

.PHONY: test-slow
test-slow: $(VENV)/dev $(KERNELS)  ## run the learning tests, which take minutes
	$(BIN)/python -m pytest -m slow

.PHONY: kernels
kernels: $(VENV)/package $(KERNELS)  ## build the kernels, if their sources changed
	$(BIN)/tfsac info --require-kernels

.PHONY: install-routes
install-routes:  ## try each way to install, each in an empty environment
	PYTHON=$(PYTHON) tests/install_routes.sh

.PHONY: clean
clean:  ## delete what was built, and the environment
	rm -rf $(VENV) build dist *.egg-info $(KERNELS) $(KERNELS:.so=.json)
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache

# The environment, with what builds the package.
$(VENV)/build: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import tomllib; \
	  project = tomllib.load(open("pyproject.toml", "rb")); \
	  print("\n".join(project["build-system"]["requires"]))' \
	  | $(BIN)/python -m pip install --requirement /dev/stdin
	touch $@

$(VENV)/package: $(VENV)/build setup.py
	$(INSTALL) .
	touch $@

$(VENV)/dev: $(VENV)/build setup.py
	$(INSTALL) '.[dev,litert,mujoco,onnx,play,plot,serve,tensorboard]'
	touch $(VENV)/package $@

# An editable install has built them already; this is for what changed since.
$(KERNELS): $(KERNEL_SOURCES) setup.py | $(VENV)/build
	$(BIN)/python setup.py build_ext --inplace

# Each source once for each sanitizer, whatever tests link it.
define SANITIZED
build/cpp/$(1)/%.o: kernels/%.cc $(filter %.h,$(CPP_SOURCES)) Makefile
	@mkdir -p $$(@D)
	$(CXX) -std=c++17 -O1 -g -Wall -Wextra -Werror -pthread \
	  -fsanitize=$(SANITIZE_$(1)) -fno-sanitize-recover=all -c -o $$@ $$<

build/cpp/$(1)/%_test: build/cpp/$(1)/%_test.o \
  $(patsubst kernels/%.cc,build/cpp/$(1)/%.o,$(CORE_SOURCES))
	$(CXX) -pthread -fsanitize=$(SANITIZE_$(1)) -o $$@ $$^
endef
$(foreach sanitizer,memory threads,$(eval $(call SANITIZED,$(sanitizer))))
.SECONDARY:
