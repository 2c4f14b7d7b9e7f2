# Everything happens in .venv, which the first command makes. `make help` lists the commands.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
# What bench-paired compares with.
BASE ?= main
# No constraints, as in `make setup CONSTRAINTS=`, takes the newest of everything.
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
# An install is repeated only when what it was made from has changed.
INPUTS := pyproject.toml $(CONSTRAINTS)

.PHONY: help setup demo test test-slow test-server test-pythons lint bench bench-peers bench-paired bench-profile proto lock clean
.DEFAULT_GOAL := help

help:  ## List these commands
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.test  ## Make .venv, with everything for working on nbqueue

demo: $(VENV)/.demo  ## Search for the best classifier of digits, on two workers (half a minute)
	$(BIN)/nbqueue demo

test: lint  ## Check style, types and imports, and run all tests, the notebooks too
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

test-slow: $(VENV)/.test  ## Run the tests that take long
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

# What depends on the server: scripts, connecting, and what happens when it is away.
STORE_TESTS := tests/broker tests/conformance tests/transport tests/properties $(wildcard tests/processes/test_*store*.py) \
	$(addprefix tests/processes/test_,durability.py schema_version.py client.py worker_limits.py)

test-server: $(VENV)/.test  ## Run the tests of the store on another server, by default the redis-server on PATH
	NBQUEUE_REDIS_SERVER="$(or $(SERVER),$(shell command -v redis-server))" \
		$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile $(STORE_TESTS)

test-pythons:  ## Run the tests on each Python that is here, newest of everything; TESTS="tests/unit" chooses
	$(PYTHON) tests/support/pythons.py $(TESTS)

lint: $(VENV)/.test  ## Check style, types and imports only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test  ## Measure how fast it is here; BENCH="--rows A1,B --rounds 5" and such choose what
	$(BIN)/python tests/bench/run.py $(BENCH)

bench-peers: $(VENV)/.test  ## Measure other queues beside it, into docs/benchmarks.md (half an hour)
	$(BIN)/python tests/bench/beside.py $(BENCH)

bench-paired: $(VENV)/.test  ## Compare CPU time per task with a commit before, BASE=main; about half an hour
	$(BIN)/python tests/bench/paired.py $(BASE) $(BENCH)

bench-profile: $(VENV)/.test  ## Measure where the time of a task goes
	$(BIN)/python tests/bench/budget.py $(BENCH)

proto: $(VENV)/.test  ## Generate nbqueue/wire/asynq_pb2 again, after a change of asynq.proto
	PATH="$(CURDIR)/$(BIN):$$PATH" protoc --proto_path=. --python_out=. --pyi_out=. \
		nbqueue/wire/asynq.proto

lock:  ## Write constraints.txt anew: the newest release of everything that nbqueue can use
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --disable-pip-version-check ".[all,test]"
	{ echo "# What this version was tested with: every package of the extras all and test."; \
	  echo "# Made by 'make lock' with $$(build/lock/bin/python --version); not for older ones."; \
	  build/lock/bin/python -m pip freeze --exclude nbqueue; } > build/constraints.txt
	mv build/constraints.txt constraints.txt
	rm -rf build/lock

clean:  ## Remove .venv and all that was generated
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
