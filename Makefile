# harkline: everything starts here. `make run` is all a fresh machine with Python 3.11, git and make needs.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet
SOURCES := harkline api workers tests

.DEFAULT_GOAL := help
.PHONY: help run install test lint format evaluate train bench secrets compose-test lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

run: install ## start the whole system on this machine, in the foreground (Ctrl-C stops it)
	@exec $(BIN)/harkline up

install: .venv/installed ## make the virtual environment and install pinned, hash-checked dependencies (no torch)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "harkline needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": make PYTHON=/path/to/python3.11 install")'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python requirements/run.txt pyproject.toml
	@echo "installing pinned dependencies into .venv ..."
	@$(PIP) --require-hashes -r requirements/run.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

.venv/tested: .venv/installed requirements/dev.txt
	@$(PIP) --require-hashes -r requirements/dev.txt
	@touch $@

.venv/trained: .venv/installed requirements/train.txt requirements/torch.txt
	@echo "installing torch and the training tools (large) ..."
	@$(PIP) -r requirements/torch.txt
	@$(PIP) --require-hashes -r requirements/train.txt
	@touch $@

test: .venv/tested ## run the tests; those that need a missing program or torch are skipped and say so
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: .venv/tested ## check style, types, import rules and dead code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/vulture

format: .venv/tested ## format the code
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

train: .venv/trained ## train the model from the corpus (four runs; about an hour of CPU time)
	@$(BIN)/python -m harkline_training train

evaluate: .venv/trained ## measure the shipped model against the baselines; after `make train` on unseen systems too
	@$(BIN)/python -m harkline_training evaluate

bench: .venv/trained ## measure it beside the demo's way on this machine (about 20 minutes; ARGS=--quick to try, ARGS=--help for more)
	@$(BIN)/python -m tests.bench $(ARGS)

secrets: install ## write .env with generated secrets for docker compose
	@$(BIN)/harkline secrets

compose-test: .venv/tested ## build the images and test the composed system (needs Docker)
	@$(BIN)/python -m pytest tests/system/test_compose.py -m docker

lock: .venv/bin/python ## resolve requirements/*.in into hash-pinned requirements/*.txt
	@$(BIN)/pip install --quiet pip-tools
	@sh requirements/lock.sh $(abspath $(BIN))/pip-compile

clean: ## remove what tools leave behind (never the data folder)
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
