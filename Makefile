# Every target does its own set-up: a virtual environment in .venv, remade when the pinned versions change.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := -c constraints.txt -e '.[data,quantized,wandb,slurm,dev]'
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
STAMP := $(VENV)/.stamp-$(shell cat constraints.txt pyproject.toml 2>/dev/null | cksum | cut -d' ' -f1)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup demo bench test test-slow test-slurm check lint types conventions backbones ablations ablations-quick clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "modalign needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned packages into $(VENV) (one to five minutes, about 6 GB, once)"
	@$(PIP) -c constraints.txt uv 2> >(grep -v '^WARNING: Location' >&2) \
	  && UV_HTTP_TIMEOUT=180 $(BIN)/uv pip install -q --compile-bytecode --python $(BIN)/python $(PACKAGES) \
	  || { echo "uv could not install them; once more with pip, which knows its own settings"; $(PIP) $(PACKAGES); }
	@rm -f $(VENV)/.stamp-*; touch $@

setup: $(STAMP) ## Make the virtual environment

demo: $(STAMP) ## Give a small language model eight senses and write the report (7 to 13 minutes on two cores)
	$(BIN)/python train.py

bench: $(STAMP) ## Measure training against its peers, and write docs/speed.md (about 20 minutes on two quiet cores)
	$(BIN)/python -m modalign.cli.main bench --json bench.json --picture docs/images/bench.svg --page docs/speed.md

test: $(STAMP) ## The quick tests (under 10 minutes)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m 'not slow'

test-slow: $(STAMP) ## The tests that take minutes
	$(BIN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile -m 'slow and not alone'
	$(BIN)/python -m pytest -m alone

test-slurm: $(STAMP) ## The tests on a real SLURM of this machine, installed where it is missing (Debian, as root; minutes)
	@command -v slurmctld /usr/sbin/slurmctld > /dev/null || $(BIN)/python tests/slurm/cluster.py install
	$(BIN)/python -m pytest tests/slurm

lint: $(STAMP) ## ruff
	$(BIN)/ruff check src tests train.py
	$(BIN)/ruff format --check src tests train.py

types: $(STAMP) ## mypy
	$(BIN)/mypy

conventions: $(STAMP) ## The house rules, as tests
	$(BIN)/python -m pytest tests/test_conventions.py tests/test_config_files.py

check: lint types conventions test ## ruff, types, conventions, tests

backbones: $(STAMP) ## Make the shipped embedded backbones again (about a quarter of an hour)
	$(BIN)/python -m modalign.cli.main ship-backbones

ablations-quick: $(STAMP) ## Run the quick arms of every study with three seeds (under 3 hours on two cores), and compare
	$(BIN)/modalign ablate --set quick --processes 2

ablations: $(STAMP) ## Run all arms of every study with five seeds; goes on where it was stopped
	$(BIN)/modalign ablate --set full

clean: ## Remove the virtual environment (runs/ and data/ stay)
	rm -rf $(VENV)
