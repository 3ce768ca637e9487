# Every word sets up what it needs from the lock files; a machine has to bring only Python >= 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA   ?= tallycast-data
# The tools of `make audit` have many dependencies of their own.
AUDIT  := $(VENV)-audit

.DEFAULT_GOAL := help
.PHONY: help run test test-machines check audit format docs screenshots bench bench-peers test-clients test-browser test-storm test-sending test-deploy test-faults lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

run: $(VENV)/run.stamp ## Start the demo on http://127.0.0.1:8080 (first run installs everything)
	$(BIN)/tallycast demo --data-dir $(DATA)

test: $(VENV)/dev.stamp ## Run the test suite
	$(BIN)/python -m pytest -n 3 -m "not clients and not storm and not machines and not faults and not deploy and not browser" $(ARGS)

check: $(VENV)/dev.stamp ## Format check, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

audit: $(VENV)/audit.stamp ## Dependencies, static analysis and secrets (ARGS=--strict: also without a network it fails)
	$(AUDIT)/bin/python .ci/audit/run.py --python $(BIN)/python $(ARGS)

format: $(VENV)/dev.stamp ## Apply the formatter and the linter's safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/dev.stamp ## Write the pages of docs/ that are made from the program
	$(BIN)/python docs/generate.py

screenshots: $(VENV)/browser.stamp ## Take the pictures of docs/screenshots/ from the demo (about 2 minutes)
	$(BIN)/python tests/browser/screenshots.py

bench: $(VENV)/bench.stamp ## Measure the figures of bench/README.md (about 20 minutes)
	$(BIN)/python bench/run.py $(ARGS)

bench-peers: $(VENV)/bench.stamp ## The same storm against other designs of counting (about 15 minutes)
	PYTHONPATH=bench/peers $(BIN)/python bench/storming.py $(ARGS)

test-clients: $(VENV)/clients.stamp ## Run other languages' clients and a browser against the server
	$(BIN)/python -m pytest -m clients tests/clients --ignore tests/clients/test_clients.py $(ARGS)
	$(BIN)/python -m pytest -m clients tests/clients/test_clients.py $(ARGS)

test-browser: $(VENV)/browser.stamp ## The dashboard in Chromium: every page, and what people do there
	$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

test-storm: $(VENV)/dev.stamp ## kill -9 of tallycast and of PostgreSQL in storms of receipts and of campaigns
	$(BIN)/python -m pytest -m storm $(ARGS)

# Storms mostly wait for something, so three at a time: two cores are as busy as they should be.
test-faults: $(VENV)/dev.stamp ## Storms of everything that can break (4 minutes; TALLYCAST_FAULTS=full: an hour, writes docs/faults.md)
	TALLYCAST_FAULTS=$(TALLYCAST_FAULTS) $(BIN)/python -m pytest -n 3 -m faults tests/faults $(ARGS)

test-sending: $(VENV)/dev.stamp ## The storm of campaigns with 100,000 recipients (about 20 minutes)
	TALLYCAST_STORM_RECIPIENTS=100000 $(BIN)/python -m pytest -m storm tests/test_sending_storm.py $(ARGS)

test-deploy: $(VENV)/deploy.stamp ## Lint what is in deploy/, and try its proxy
	$(BIN)/python -m pytest -m deploy tests/deploy $(ARGS)

test-machines: $(VENV)/machines.stamp ## PgBouncer, failover to a standby, read replicas, several servers (about 6 minutes)
	$(BIN)/python -m pytest -m machines tests/machines $(ARGS)

lock: ## Renew the lock files from pyproject.toml (needs uv)
	uv pip compile -q -U --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra mcp --group build pyproject.toml -o requirements.lock
	uv pip compile -q -U --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  --extra mcp --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock
	uv pip compile -q -U --universal --generate-hashes --no-header --no-annotate --python-version 3.11 \
	  .ci/audit/requirements.in -o .ci/audit/requirements.lock

clean: ## Remove the virtual environment and caches, keep the data
	rm -rf $(VENV) $(AUDIT) .venv-clients tests/browser/node_modules tests/clients/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis

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

$(VENV)/audit.stamp: .ci/audit/requirements.lock $(VENV)/dev.stamp
	@echo "installing the tools of the audit (once) ..."
	@test -x $(AUDIT)/bin/pip || $(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes -r .ci/audit/requirements.lock
	@touch $@
ifeq ($(wildcard $(AUDIT)),)
.PHONY: $(VENV)/audit.stamp
endif

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

$(VENV)/deploy.stamp: tests/deploy/requirements.lock $(VENV)/dev.stamp
	@echo "installing the linters of deploy/ (once) ..."
	@$(PIP) install --require-hashes -r tests/deploy/requirements.lock
	@touch $@

$(VENV)/machines.stamp: tests/machines/setup.sh $(VENV)/dev.stamp
	@tests/machines/setup.sh
	@touch $@

$(VENV)/bench.stamp: bench/requirements.lock $(VENV)/dev.stamp
	@echo "installing what tallycast is measured against (once) ..."
	@$(PIP) install --require-hashes -r bench/requirements.lock
	@touch $@
