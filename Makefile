PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test test-all check peers peer-lerobot061 clean

$(STAMP): pyproject.toml infra/constraints.txt
	test -x $(BIN)/python || $(shell command -v $(PYTHON) || command -v python3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --config-settings editable_mode=compat --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)            ## the main job, end to end, on recordings that the project makes itself
	$(BIN)/dataengine demo

test: $(STAMP) check      ## what CI runs
	$(BIN)/python -m pytest -m 'not slow'

check: $(STAMP)           ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-all: $(STAMP) check peers  ## everything, also what takes long, and benchmarks beside the peers
	DATAENGINE_PEERS=.peers $(BIN)/python -m pytest

peers: .peers/.installed  ## the peers' own virtual environments
.peers/.installed: infra/peers/tfds.txt infra/peers/lerobot.txt infra/peers/webdataset.txt
	$(PYTHON) -m venv .peers/tfds
	.peers/tfds/bin/pip install --quiet --requirement infra/peers/tfds.txt
	$(PYTHON) -m venv .peers/lerobot
	.peers/lerobot/bin/pip install --quiet torch==2.13.0
	.peers/lerobot/bin/pip install --quiet --no-deps --requirement infra/peers/lerobot.txt
	$(PYTHON) -m venv .peers/webdataset
	.peers/webdataset/bin/pip install --quiet torch==2.13.0
	.peers/webdataset/bin/pip install --quiet --no-deps --requirement infra/peers/webdataset.txt
	touch $@

peer-lerobot061:          ## a newer LeRobot, which needs Python 3.12 and 8 GB: `make peer-lerobot061 PYTHON312=python3.12`
	$(or $(PYTHON312),python3.12) -m venv .peers/lerobot061
	.peers/lerobot061/bin/pip install --quiet --no-deps --requirement infra/peers/lerobot061.txt

clean:
	rm -rf $(VENV) demo build dist *.egg-info
