# Every target sets itself up: the first run creates .venv and installs, the second starts at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# TensorFlow with CUDA where there is an NVIDIA driver, the CPU build elsewhere.
TF     ?= $(shell command -v nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
STAMP  := $(VENV)/.installed-$(TF)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-lowest lint format docs bench engines release-check clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv with everything that the other targets need

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,$(TF)]'
	@touch $@

demo: $(STAMP)  ## six particles tune a network on handwritten digits, random search beside them
	@$(BIN)/swarm run examples/digits.yaml --store demo.db --again --baseline random --report demo.html

# The tests start hundreds of processes: none of them compiles our modules again. Types are checked beside them.
test: $(STAMP)  ## lint, types and all tests
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/python -m compileall -q swarm workers
	@types=$$(mktemp); $(BIN)/mypy >$$types 2>&1 & checking=$$!; \
	  $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder; tested=$$?; \
	  wait $$checking; checked=$$?; cat $$types; rm -f $$types; \
	  exit $$((tested ? tested : checked))

test-all: $(STAMP)  ## deep tests and every row of the large ones, too
	@$(BIN)/python -m pytest --all -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Tests that need neither TensorFlow nor what exports and reports draw with, on the lowest versions in pyproject.toml.
QUICK  := tests/contract/test_stores.py tests/contract/test_optimizers.py tests/test_space.py \
          tests/test_job.py tests/test_search.py tests/test_search_state.py tests/test_view.py tests/test_history.py \
          tests/test_pool.py tests/test_trial.py tests/test_lowest.py \
          tests/dashboard/test_pages.py
LOWEST := .venv-lowest

test-lowest: $(LOWEST)/.installed  ## tests of the core, on the lowest versions allowed
	@$(LOWEST)/bin/python -m pytest -q -m 'not slow' -n 2 --dist loadfile $(QUICK)

$(LOWEST)/.installed: pyproject.toml tests/lowest.txt
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/lowest.txt -e '.[postgres]' \
	  hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist
	@touch $@

lint: $(STAMP)  ## ruff and mypy alone
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: $(STAMP)  ## let ruff put the code in order
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

docs: $(STAMP)  ## the documentation, as site/index.html
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(STAMP)  ## the benchmarks, quick form
	@$(BIN)/python benchmarks/run_all.py

# ENGINES="postgres ssh" chooses, OPTIONS=--install has apt-get install what is missing.
engines: $(STAMP)  ## our deployment on the engines that this machine has, parts of it killed; as root
	@$(BIN)/python -m deploy.engines $(ENGINES) --table docs/engines.md $(OPTIONS)

# KEEP=dist keeps what was built.
RELEASE := .venv-release

release-check: $(RELEASE)/.installed  ## wheel and sdist: built, checked, and installed with each Python there is
	@$(RELEASE)/bin/python deploy/release.py $(if $(KEEP),--keep $(KEEP))

$(RELEASE)/.installed:
	@test -x $(RELEASE)/bin/python || $(PYTHON) -m venv $(RELEASE)
	@$(RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check build twine
	@touch $@

clean:  ## remove .venv and what the demo left
	rm -rf $(VENV) $(LOWEST) $(RELEASE) demo.db demo.db-* demo.db.artifacts demo.html
