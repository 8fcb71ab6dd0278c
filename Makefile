# Needs Python 3.10 or later with pip, and nothing else: each target installs what it uses into .venv.
# LOCKED=1 installs the versions in .ci/requirements.txt, whose hashes pip checks. Without it, the newest that fit.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL = $(BIN)/pip install --quiet --disable-pip-version-check
SECONDS ?= 600

# An environment names its folder in many places: it is made anew when the checkout has moved.
ifneq ($(wildcard .venv/.pip),)
ifneq ($(shell cat .venv/.pip),$(CURDIR))
MOVED := moved
endif
endif

.PHONY: help demo test lint docs bench soak faults clients wheel generated clean moved

help: ## List the targets.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/.demo ## List virtual machines: yours in Cloud Shell; elsewhere, those of a made-up company.
	@$(if $(ACC_CLOUD)$(MSI_ENDPOINT),,$(BIN)/azure-cloudshell emulate --port 0 --with-azure --) $(BIN)/python examples/list_virtual_machines.py

test: .venv/.test ## Run the tests, about two minutes. With the slow ones, five: make test ALL=1
	$(BIN)/python -m pytest --quiet -n 4 $(if $(ALL),,-m "not slow")

lint: .venv/.test ## Check format, style, types and workflows.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright tests/typing_assignments.py
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes azure_cloudshell_credential --ignoreexternal
	$(BIN)/zizmor --offline --quiet --persona pedantic .

docs: .venv/.docs ## Build the documentation with its API reference into site/.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/.test ## Measure ratios side by side; writes benchmarks/results.txt and chart.svg.
	PATH="$$PATH:$(CURDIR)/.az/bin" $(BIN)/python -m benchmarks

soak: .venv/.test ## Callers of every kind, who go away at random, for SECONDS (600).
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

faults: .venv/.test ## Run the whole fault matrix, about a minute.
	$(BIN)/python -W error -m tests.fault_matrix

clients: .venv/.test .node/.installed .az/.installed ## Install the Azure CLI and other clients, each at its version, and run the tests that need them.
	$(BIN)/python -m tests.clients
	$(BIN)/python -m pytest --quiet -n 4 -m clients

wheel: .venv/.test ## Build what a release holds, check it, and run the main job from the wheel.
	$(BIN)/python .ci/release/check.py

generated: .venv/.test ## Write the pages, completions, pictures and lists that are made from the code.
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/pictures/make.py >/dev/null

clean: ## Remove what the other targets made.
	rm -rf .venv .node .az .clients build dist site .mypy_cache .ruff_cache .hypothesis .coverage

moved:
	@echo "The checkout has moved: making its environments anew."

.node/.installed: tests/node/package.json
	@mkdir -p .node && cp tests/node/package.json .node/
	npm install --prefix .node --silent --no-audit --no-fund
	@touch $@

.az/.installed: .venv/.pip
	$(PYTHON) -m venv --clear .az
	.az/bin/pip install --quiet --disable-pip-version-check azure-cli==2.91.0
	@touch $@

.venv/.pip: $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "This needs Python 3.10 or later, and \
	$(PYTHON) is %d.%d. If there is another: make PYTHON=python3.13" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear .venv
	$(if $(LOCKED),,$(PIP_INSTALL) --upgrade pip)
	@echo '$(CURDIR)' >$@

.venv/.demo: .venv/.pip pyproject.toml
	$(PIP_INSTALL) --editable '.[emulator]' 'azure-mgmt-compute>=33.0.0'
	@touch $@

.venv/.test: .venv/.pip pyproject.toml $(if $(LOCKED),.ci/requirements.txt)
ifdef LOCKED
	$(PIP_INSTALL) --require-hashes --requirement .ci/requirements.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation --editable .
else
	$(PIP_INSTALL) --editable '.[emulator]' --group test --group lint --group release
endif
	@touch $@

.venv/.docs: .venv/.test
	$(if $(LOCKED),,$(PIP_INSTALL) --group docs)
	@touch $@
