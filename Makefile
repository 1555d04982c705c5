PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check clean

$(STAMP): pyproject.toml infra/constraints.txt
	test -x $(BIN)/python || $(shell command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)            ## the main job, end to end, on recordings that the project makes itself
	$(BIN)/dataengine demo

test: $(STAMP) check      ## what CI runs
	$(BIN)/python -m pytest -m 'not slow'

check: $(STAMP)           ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-all: $(STAMP) check  ## everything, also what takes long
	$(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo build dist *.egg-info
