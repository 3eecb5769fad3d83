# Two commands do the main job: `make demo` and `make test`. They need Python, make and a network.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ENV := $(VENV)/.installed
COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet

.PHONY: help
help: ## What you can type
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(ENV): requirements/dev.txt pyproject.toml
	@echo "making the environment in $(VENV) (once)"
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Stackstore needs Python 3.11 or newer: set PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(ENV)

.PHONY: env
env: $(ENV) ## Make the environment only

.PHONY: tools
tools: $(ENV) ## Build etcd, kube-apiserver, kube-controller-manager, kubectl and helm into the cache (once)
	@$(BIN)/python -m hack.tools

.PHONY: demo
demo: $(ENV) ## The whole way on this machine: apply, serve, rotate under load. KEEP=1 leaves it up
	@$(BIN)/python -m examples.demo

.PHONY: test
test: $(ENV) lint ## Everything, against a real API server and real databases
	@$(BIN)/python -m hack.tools
	$(BIN)/pytest -n 2 --dist worksteal $(ARGS)

.PHONY: e2e
e2e: $(ENV) ## The images and the chart on a real kubelet (Linux, root). KEEP=1 leaves it up
	@$(BIN)/python -m hack.e2e

.PHONY: compat
compat: $(ENV) ## The real server (ogx) loads and runs on what we render
	@$(BIN)/python -m tests.compat

.PHONY: lint
lint: $(ENV) ## ruff, strict mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: generate
generate: $(ENV) ## Write the generated files (crds/, the chart's copy, docs/values.md, reasons.md, api-reference.md) anew
	$(BIN)/stackstore-operator crds --output crds
	cp crds/*.yaml charts/stackstore/files/crds/
	$(BIN)/python -m hack.values > docs/values.md
	$(BIN)/python -m stackstore_operator.api.reasons > docs/reasons.md
	$(BIN)/python -m stackstore_operator.api.reference > docs/api-reference.md

.PHONY: bench
bench: $(ENV) ## Benchmarks: NAME=kv for one, CHECK=1 to fail when a bar does not hold
	$(BIN)/python -m benchmarks $(NAME) $(if $(CHECK),--check)

.PHONY: lock
lock: ## Resolve the locks anew (needs uv)
	$(COMPILE) pyproject.toml --group dev --extra operator --extra example --output-file requirements/dev.txt
	$(COMPILE) pyproject.toml --extra operator --output-file requirements/operator.txt
	$(COMPILE) pyproject.toml --extra example --output-file requirements/example.txt
	$(COMPILE) --group build --output-file requirements/build.txt
	$(COMPILE) --group go --output-file requirements/go.txt
	echo ogx==1.5.0 | $(subst --python-version 3.11,--python-version 3.12,$(COMPILE)) - --output-file requirements/ogx.txt

.PHONY: clean
clean: ## Remove the environment (the cache of binaries stays)
	rm -rf $(VENV)
