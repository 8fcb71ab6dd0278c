# Needs Python 3.10 or later with pip, and nothing else: each target installs what it uses into .venv.
PYTHON ?= python3
BIN := .venv/bin

# An environment names its folder in many places.
ifneq ($(wildcard .venv/.pip),)
ifneq ($(shell cat .venv/.pip),$(shell pwd))
$(info The checkout has moved: making its environments anew.)
$(shell rm -rf .venv .az)
endif
endif

.PHONY: help demo test node az coverage faults soak fuzz bench audit lint pictures wheel docs generated zipapp lowest clean

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.demo ## Run the main job: list virtual machines; elsewhere, those of a made-up company.
	@$(BIN)/azure-cloudshell demo

test: .venv/.test ## Run the tests.
	$(BIN)/python -m pytest

node: .node/.installed ## Install what the tests with clients and services from npm need; make test then runs them.

az: .venv/.test .az/.installed ## Run the tests that need the Azure CLI, which this installs.
	$(BIN)/python -m pytest tests/test_azure_cli.py

coverage: .venv/.test ## Run the tests and show which lines and branches they reach.
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --quiet
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

faults: .venv/.test ## Run the whole fault matrix.
	$(BIN)/python -W error -m tests.fault_matrix
	$(BIN)/python -m tests.test_exchange_oracle 600000

SECONDS ?= 600
soak: .venv/.test ## Callers of every kind, who go away at random, for SECONDS.
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

fuzz: .venv/.test ## Fuzz what reads the endpoint's bytes for SECONDS, with atheris.
	$(BIN)/pip install --quiet atheris
	$(BIN)/python tests/fuzz/fuzz_reply.py -max_total_time=$(SECONDS) -dict=tests/fuzz/dictionary $$(mktemp -d) tests/fuzz/corpus

bench: .venv/.test ## Measure ratios side by side; writes benchmarks/results.txt and chart.svg.
	PATH="$$PATH:$(CURDIR)/.az/bin" $(BIN)/python -m benchmarks

audit: .venv/.test ## Look for insecure code, and for known vulnerabilities in what the package depends on.
	$(BIN)/bandit --quiet --recursive azure_cloudshell_credential --configfile pyproject.toml
	$(BIN)/python tests/audit.py

lint: .venv/.test ## Check format, style and types.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes azure_cloudshell_credential --ignoreexternal

wheel: .venv/.test ## Build the package, and run the main job from the wheel in an environment of its own.
	rm -rf dist .venv/wheel
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	! $(BIN)/python -c 'import glob, zipfile; wheel = zipfile.ZipFile(*glob.glob("dist/*.whl")); \
	print(*(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA")))' \
	| grep -nE '\]\((docs|examples|benchmarks|[A-Z]+\.md)'
	$(PYTHON) -m venv .venv/wheel
	.venv/wheel/bin/pip install --quiet --disable-pip-version-check "$$(ls dist/*.whl)[demo]"
	.venv/wheel/bin/azure-cloudshell demo

docs: .venv/.test ## Build the documentation with its API reference into site/.
	$(BIN)/pip install --quiet --group docs
	$(BIN)/mkdocs build --strict --quiet

pictures: .venv/.test ## Record the pictures in the README from a real run.
	$(BIN)/python docs/pictures/make.py >/dev/null

ZIPAPP ?= build/azure-cloudshell.pyz
zipapp: ## Write build/azure-cloudshell.pyz: the commands that need no package, in one file.
	mkdir -p $(dir $(ZIPAPP))zipapp
	cp -R azure_cloudshell_credential $(dir $(ZIPAPP))zipapp
	find $(dir $(ZIPAPP))zipapp -name __pycache__ -exec rm -rf {} +
	echo 'import azure_cloudshell_credential.__main__' >$(dir $(ZIPAPP))zipapp/__main__.py
	$(PYTHON) -m zipapp $(dir $(ZIPAPP))zipapp --compress --python '/usr/bin/env python3' --output $(ZIPAPP)
	rm -rf $(dir $(ZIPAPP))zipapp

generated: .venv/.test ## Write the pages and completions that are made from the code.
	$(BIN)/python docs/generate.py

lowest: ## Run the tests with the oldest versions that pyproject.toml allows.
	$(PYTHON) -m venv .venv/lowest
	.venv/lowest/bin/pip install --quiet --disable-pip-version-check uv
	.venv/lowest/bin/uv pip compile --quiet --python .venv/lowest/bin/python --resolution lowest-direct --all-extras pyproject.toml --output-file .venv/lowest.txt
	.venv/lowest/bin/uv pip install --quiet --python .venv/lowest/bin/python --requirement .venv/lowest.txt --group test --editable .
	.venv/lowest/bin/python -m pytest

clean: ## Remove what the other targets made.
	rm -rf .venv .node .az build dist site .mypy_cache .ruff_cache .hypothesis .coverage

.node/.installed: tests/node/package.json
	@mkdir -p .node && cp tests/node/package.json .node/
	npm install --prefix .node --silent --no-audit --no-fund
	@touch $@

.az/.installed:
	$(PYTHON) -m venv .az
	.az/bin/pip install --quiet --disable-pip-version-check azure-cli==2.91.0
	@touch $@

.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "This needs Python 3.10 or later, and \
	$(PYTHON) is %d.%d. If there is another: make PYTHON=python3.13" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@pwd >$@

.venv/.demo: .venv/.pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[demo]'
	@touch $@

.venv/.test: .venv/.pip pyproject.toml
	$(BIN)/pip install --quiet --editable '.[demo]' --group test --group lint
	@touch $@
