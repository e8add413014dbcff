.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
LOCKED := .venv/locked.txt

.PHONY: help install demo test soak lint format lock build

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1\t/p' Makefile | expand -t 12

install: .venv/installed  ## make .venv with every distribution of the workspace

# The versions and hashes come from uv.lock; where the packages come from is the machine's own configuration.
.venv/installed: uv.lock pyproject.toml core/pyproject.toml $(wildcard integrations/*/pyproject.toml)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"$$(sed -n 's/^  "\(uv==[0-9.]*\)",/\1/p' pyproject.toml)"
	$(BIN)/uv export --quiet --frozen --all-packages --all-groups --no-emit-workspace --no-emit-project -o $(LOCKED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r $(LOCKED)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps \
		-e core $(patsubst %/pyproject.toml,-e %,$(wildcard integrations/*/pyproject.toml))
	@touch $@

lock:  ## resolve the newest versions that fit into uv.lock
	$(BIN)/uv lock --upgrade
	$(BIN)/python tools/neutral_lock.py uv.lock
