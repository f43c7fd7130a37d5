# Everything a person or CI runs. PYTHON is the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
SOURCES := lowclip_runtime lowclip_train lowclip_export tests benchmarks

.PHONY: demo test lint train-demo clean

demo: $(VENV)/runtime.done ## search the sample photos in Azerbaijani with the shipped bundle
	$(BIN)/lowclip demo --out demo-out

test: $(VENV)/dev.done lint ## everything the tests need, then the tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev.done
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy lowclip_runtime lowclip_train lowclip_export

train-demo: $(VENV)/dev.done ## train, export and evaluate on a tiny slice, end to end
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m lowclip_train.train_demo runs/train-demo

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.done: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

# torch first and by its exact version, so that no other requirement can choose a build for it
$(VENV)/dev.done: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/runtime.done

clean:
	rm -rf $(VENV) demo-out runs build *.egg-info
