# Every word sets up what it needs from the lock files; a machine has to bring only Python >= 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA   ?= tallycast-data

.DEFAULT_GOAL := help
.PHONY: help run test check format docs screenshots bench test-clients test-browser test-storm test-sending lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## Start the demo on http://127.0.0.1:8080 (first run installs everything)
	$(BIN)/tallycast demo --data-dir $(DATA)

test: $(VENV)/dev.stamp ## Run the test suite
	$(BIN)/python -m pytest -n 3 -m "not clients and not storm and not browser" $(ARGS)

check: $(VENV)/dev.stamp ## Format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp ## Apply the formatter and the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp ## Write the pages of docs/ that are made from the program
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/browser.stamp ## Take the pictures of docs/screenshots/ from the demo (about 2 minutes)
	$(BIN)/python tests/browser/screenshots.py

bench: $(VENV)/bench.stamp ## Measure the figures of bench/README.md (about 20 minutes)
	$(BIN)/python bench/run.py $(ARGS)

test-clients: $(VENV)/clients.stamp ## Run other languages' clients and a browser against the server
	$(BIN)/python -m pytest -m clients tests/clients --ignore tests/clients/test_clients.py $(ARGS)
	$(BIN)/python -m pytest -m clients tests/clients/test_clients.py $(ARGS)

test-browser: $(VENV)/browser.stamp ## The dashboard in Chromium: every page, and what people do there
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

test-storm: $(VENV)/dev.stamp ## kill -9 of tallycast and of PostgreSQL in storms of receipts and of campaigns
	$(BIN)/python -m pytest -m storm $(ARGS)

test-sending: $(VENV)/dev.stamp ## The storm of campaigns with 100,000 recipients (about 20 minutes)
	TALLYCAST_STORM_RECIPIENTS=100000 $(BIN)/python -m pytest -m storm tests/test_sending_storm.py $(ARGS)

lock: ## Renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q -U --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra mcp --group build pyproject.toml -o requirements.lock
	uv pip compile -q -U --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra mcp --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

clean: ## Remove the virtual environment and caches, keep the data
	rm -rf $(VENV) .venv-clients tests/browser/node_modules tests/clients/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/run.stamp: requirements.lock pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "installing tallycast (once) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/run.stamp
	@echo "installing the development tools (once) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

$(VENV)/browser.stamp: tests/browser/setup.sh tests/browser/package-lock.json $(VENV)/dev.stamp
	@tests/browser/setup.sh
	@touch $@
ifeq ($(wildcard tests/browser/node_modules),)
.PHONY: $(VENV)/browser.stamp
endif

$(VENV)/clients.stamp: tests/clients/setup.sh tests/clients/requirements.lock tests/clients/package-lock.json $(VENV)/dev.stamp
	@PYTHON=$(PYTHON) tests/clients/setup.sh
	@touch $@
ifeq ($(and $(wildcard .venv-clients),$(wildcard tests/clients/node_modules)),)
.PHONY: $(VENV)/clients.stamp
endif

$(VENV)/bench.stamp: bench/requirements.lock $(VENV)/dev.stamp
	@echo "installing what tallycast is measured against (once) ..."
	@$(PIP) install --require-hashes -r bench/requirements.lock
	@touch $@
