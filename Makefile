.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
LOCKED := .venv/locked.txt
WORKERS ?= 2
FAST_WORKERS ?= 4
# folders without a fast test; to collect them would take longer than the tests
NOT_FAST := airflow chaos end_to_end gateway_page docs
FAST := not (docker or slurm or browser or airflow or slow or soak)

# what codespell reads; tests contain misspellings on purpose
PROSE := core/src benchmarks docs examples integrations tools $(wildcard *.md)

# Most tests start programs, each of which would compile its modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-fast soak bench lint format build version release lock audit docs

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 12

install: .venv/installed  ## make .venv with every distribution of the workspace

# The versions and hashes come from uv.lock; where the packages come from is the machine's own configuration.
.venv/installed: uv.lock pyproject.toml core/pyproject.toml $(wildcard integrations/*/pyproject.toml)
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(sed -n 's/^  "\(uv==[0-9.]*\)",/\1/p' pyproject.toml)"
	$(BIN)/uv export --quiet --frozen --all-packages --all-groups --no-emit-workspace --no-emit-project -o $(LOCKED)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(LOCKED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps \
		-e core $(patsubst %/pyproject.toml,-e %,$(wildcard integrations/*/pyproject.toml))
	@touch $@

demo: install  ## run the talk's DAG on real Airflow against a gateway on this machine
	$(BIN)/python examples/airflow/demo.py

# AGAIN=1 repeats the tests that failed, one after the other: one that fails for want of time alone passes then.
test: lint  ## run all tests (long runs in their small, seeded size)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests \
		|| { [ $$? = 1 ] && [ -n "$(AGAIN)" ] && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none tests; }

test-fast: install  ## run the tests that need no container, browser or Airflow and take little time
	$(BIN)/python -m pytest -q -n $(FAST_WORKERS) --dist loadfile -m '$(FAST)' $(NOT_FAST:%=--ignore=tests/%) tests

soak: install  ## run the long runs in their full size
	$(BIN)/python -m pytest -m soak -rP tests

bench: install  ## run all benchmarks and write docs/measurements (an hour; wrk and an OpenSSH client needed)
	$(BIN)/python benchmarks

lint: install  ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell $(PROSE)

format: install  ## write the code as `make lint` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## build the documentation into docs/_build/html; a warning fails
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky docs docs/_build/html

build: install  ## build all distributions into dist/
	$(BIN)/uv build --quiet --all-packages

version: install  ## write VERSION into every file that holds it, and cut the changelog
	$(BIN)/python tools/release version $(VERSION)
	$(BIN)/uv lock
	$(BIN)/python tools/neutral_lock.py uv.lock

release: install  ## build, check and sign dist/ from the tagged commit (REHEARSAL=1: from any commit)
	$(BIN)/python tools/release build $(if $(REHEARSAL),--rehearsal)

audit: install  ## ask for known vulnerabilities of the locked versions (needs the network)
	$(BIN)/uv export --quiet --frozen --all-packages --all-groups --no-emit-workspace --no-emit-project -o $(LOCKED)
	$(BIN)/pip-audit --strict --require-hashes --disable-pip --requirement $(LOCKED)

lock:  ## resolve the newest versions that fit into uv.lock
	$(BIN)/uv lock --upgrade
	$(BIN)/python tools/neutral_lock.py uv.lock
