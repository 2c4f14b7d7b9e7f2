# All commands use .venv, and create it on demand. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
# The commit that bench-paired compares with.
BASE ?= main
# `make setup CONSTRAINTS=` installs the newest release of everything.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# An install is repeated only after a change of its inputs.
INPUTS := pyproject.toml $(CONSTRAINTS)

.PHONY: help setup demo test test-slow test-server test-pythons lint bench bench-peers bench-paired bench-profile proto lock clean
.DEFAULT_GOAL := help

help:  ## List these commands
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.test  ## Create .venv with everything for development

demo: $(VENV)/.demo  ## Search for the best classifier of digits, on two workers (about a minute)
	$(BIN)/nbqueue demo

# In the order of the folders: the long files of browsers and notebooks come early.
PYTEST = $(BIN)/python -m pytest -n 2 --no-loadscope-reorder

test: lint  ## Check style, types and imports, and run all tests, including the notebooks
	$(PYTEST) --dist loadfile -m "not slow"

test-slow: $(VENV)/.test  ## Run the slow tests
	$(PYTEST) --dist worksteal -m slow

# Tests that depend on the server: scripts, connections, outages.
STORE_TESTS := tests/broker tests/conformance tests/transport tests/properties $(wildcard tests/processes/test_*store*.py) \
	$(addprefix tests/processes/test_,durability.py schema_version.py client.py worker_timeouts.py)

test-server: $(VENV)/.test  ## Run the tests of the store on another server, by default redis-server on PATH
	NBQUEUE_REDIS_SERVER="$(or $(SERVER),$(shell command -v redis-server))" \
		$(PYTEST) --dist loadfile -m "not slow" $(STORE_TESTS)

test-pythons:  ## Run the tests on each Python found, with the newest dependencies; TESTS="tests/unit" selects
	$(PYTHON) tests/support/pythons.py $(TESTS)

lint: $(VENV)/.test  ## Check style, types and imports only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## Measure the speed on this machine; BENCH="--rows A1,B --rounds 5" selects
	$(BIN)/python tests/bench/run.py $(BENCH)

bench-peers: $(VENV)/.test  ## Compare with other queues, into docs/benchmarks.md (half an hour)
	$(BIN)/python tests/bench/beside.py $(BENCH)

bench-paired: $(VENV)/.test  ## Compare CPU time per task with another commit, BASE=main (half an hour)
	$(BIN)/python tests/bench/paired.py $(BASE) $(BENCH)

bench-profile: $(VENV)/.test  ## Show how the time of a task is spent
	$(BIN)/python tests/bench/budget.py $(BENCH)

proto: $(VENV)/.test  ## Regenerate nbqueue/wire/asynq_pb2 after a change of asynq.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" protoc --proto_path=. --python_out=. --pyi_out=. \
		nbqueue/wire/asynq.proto

lock:  ## Update constraints.txt to the newest releases
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check ".[all,test]"
	{ echo "# The tested versions of every package in the extras all and test."; \
	  echo "# Made by 'make lock' with $$(build/lock/bin/python --version); not for older versions."; \
	  build/lock/bin/python -m pip freeze --exclude nbqueue; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean:  ## Remove .venv and all generated files
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(INPUTS) | $(BIN)/python
	$(PIP_INSTALL) --editable ".[demo]"
	touch $@

$(VENV)/.test: $(INPUTS) | $(BIN)/python
	$(PIP_INSTALL) --editable ".[all,test]"
	touch $@ $(VENV)/.demo
