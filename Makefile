# Two commands do all the set-up: `make quickstart` and `make test`.
# TORCH picks the build: the literal version takes the CPU build; `make TORCH=skip` keeps what is installed in .venv.
PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: quickstart install test lint format benchmarks clean

quickstart: install
	$(BIN)/pellucid quickstart

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test "$(TORCH)" = skip || $(BIN)/python -c "import torch" 2>/dev/null || $(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

test: .venv/.tested
	$(BIN)/python -m pytest

lint: .venv/.tested
	$(BIN)/python -m pip install --quiet --constraint constraints.txt ruff
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format:
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

clean:
	rm -rf .venv build dist .pytest_cache .hypothesis .ruff_cache
