# Every target sets up what it needs in .venv; only Python 3.11 or newer must be there.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/.runtime
DEV := $(VENV)/.development
PROTO_SOURCES := $(shell find protos -name '*.proto')

.DEFAULT_GOAL := help
.PHONY: help up test test-nightly check format protos schema lock bench bench-actions bench-scale clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

up: $(RUN)  ## run a whole stack: PostgreSQL, Redis and the four processes (ARGS="--port 9000 --ephemeral")
	@exec $(VENV)/bin/python -m homeroom up $(ARGS)

test: $(DEV)  ## run every test against real PostgreSQL, Redis and gRPC (ARGS="-k start")
	$(VENV)/bin/python -m pytest -n auto --dist loadfile $(ARGS)

test-nightly: $(DEV)  ## the model-based tests and the storms, much longer
	HYPOTHESIS_PROFILE=nightly $(VENV)/bin/python -m pytest -p no:cacheprovider --timeout 7200 tests/subscription tests/progress/test_model.py $(ARGS)
	$(VENV)/bin/python -m pytest -p no:cacheprovider -m nightly tests/acceptance $(ARGS)

check: $(DEV)  ## formatting, lint, types, layers, migrations, contract, names
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/squawk $$(find . -path '*/migrations/*.sql' -not -path './.venv/*')
	$(VENV)/bin/python -m protos.generate --check
	$(VENV)/bin/python -m pytest -q tests/house
	PYTHON=$(VENV)/bin/python sh protos/lint.sh

format: $(DEV)  ## format and mend what can be mended
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

protos: $(DEV)  ## regenerate the code under protos/
	$(VENV)/bin/python -m protos.generate

schema: $(DEV)  ## record what the migrations make, after a new one
	$(VENV)/bin/python -m homeroom.expected_schema

lock: $(DEV)  ## bring the lock files up to date with pyproject.toml
	$(VENV)/bin/pip install --quiet 'uv>=0.8'
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		pyproject.toml --extra embedded -o requirements.lock
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		pyproject.toml --all-extras -c requirements.lock -o requirements-dev.lock

bench: $(DEV)  ## measure starts against the peers (needs wrk: apt-get install wrk)
	$(VENV)/bin/python -m bench starts $(ARGS)

bench-actions: $(DEV)  ## measure what learners do all day: answers, heartbeats, reads, lessons (needs wrk)
	$(VENV)/bin/python -m bench actions $(ARGS)

bench-scale: $(DEV)  ## what a service costs from ten thousand rows to ten million (SERVICE=session; 5 GB of memory, 40 GB of disk)
	$(VENV)/bin/python -m bench.scale $(or $(SERVICE),subscription) $(ARGS)

clean:  ## remove the virtual environment and all local data
	rm -rf $(VENV) .homeroom .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Homeroom needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(RUN): $(VENV)/bin/python requirements.lock pyproject.toml
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(DEV): $(RUN) requirements-dev.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
