# `make help` lists the targets. PYTHON makes the environment, ARGS goes to the command behind a target.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev sandbox fit test check format ui embedded clean

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: sandbox $(VENV)/.installed ## Make .venv and install what training needs

setup-dev: sandbox $(VENV)/.installed-dev ## The same, with the tools for tests and checks

fit: setup ## Train: the embedded curriculum; more arguments through ARGS="--seed_everything=1"
	$(BIN)/python main.py fit --config configs/curriculum.yaml $(ARGS)

test: setup-dev ## Run the tests; a part of them through ARGS="tests/rewards -k math"
	$(BIN)/python -m pytest $(ARGS)

check: setup-dev ## Format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup-dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: setup ## Open the MLflow UI on the runs of this folder
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db $(ARGS)

embedded: setup ## Make the embedded policy again, from nothing
	$(BIN)/python -m omnithink_pl.embedded.make $(ARGS)

sandbox: ## Install bubblewrap if this is root on Debian or Ubuntu; see docs/security.md
	@command -v bwrap >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null \
	  || { apt-get update -qq && apt-get install -y -qq bubblewrap libseccomp2; } >/dev/null \
	  || echo "bubblewrap could not be installed; programs will be sealed by Landlock"

clean: ## Remove caches and build outputs; keeps .venv and runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find omnithink_pl callbacks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is newer than pyproject.toml when what that asks for is installed. It bears the time at which pip
# began, so that a change made meanwhile counts.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "$(PYTHON) is not Python 3.11 to 3.13; name one, such as: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV); the first time takes some minutes."
	@touch $@.begun
	$(PIP) install --editable .
	@mv $@.begun $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV), with test tools; the first time takes some minutes."
	@touch $@.begun
	$(PIP) install --editable '.[dev]'
	@cp -p $@.begun $(VENV)/.installed && mv $@.begun $@
