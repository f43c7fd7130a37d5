# Everything a person or CI runs. PYTHON is the interpreter that makes the virtual environment.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INTEROP := .interop
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
COMPILED := $(wildcard lowclip_runtime/*.[ch])
SOURCES := lowclip_runtime lowclip_train lowclip_export tests benchmarks

.PHONY: demo test lint train-demo interop clean

demo: $(VENV)/runtime.done ## search the sample photos in Azerbaijani with the shipped bundle
	$(BIN)/lowclip demo --out demo-out

test: $(VENV)/dev.done lint interop ## everything the tests need, then the tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev.done
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy lowclip_runtime lowclip_train lowclip_export

train-demo: $(VENV)/dev.done ## train, export and evaluate on a tiny slice, end to end
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m lowclip_train.train_demo runs/train-demo

# other people's clients, for tests/test_interop.py, which skips those that cannot be had
interop:
	-@$(MAKE) --no-print-directory $(INTEROP)/optimum.done
	-@command -v npm >/dev/null && $(MAKE) --no-print-directory $(INTEROP)/node.done

$(INTEROP)/node.done: tests/interop/package.json tests/interop/package-lock.json
	mkdir -p $(INTEROP)/node
	cp tests/interop/package.json tests/interop/package-lock.json tests/interop/.npmrc $(INTEROP)/node
	npm ci --loglevel error --prefix $(INTEROP)/node
	touch $@

$(INTEROP)/optimum.done: tests/interop/optimum-constraints.txt
	$(PYTHON) -m venv $(INTEROP)/optimum
	$(INTEROP)/optimum/bin/python -m pip install --quiet --disable-pip-version-check -c $< torch==2.13.0
	$(INTEROP)/optimum/bin/python -m pip install --quiet --disable-pip-version-check -c $< "optimum-onnx[onnxruntime]" Pillow
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.done: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	$(PIP) -e .
	touch $@

# torch first and by its exact version, so that no other requirement can choose a build for it
$(VENV)/dev.done: pyproject.toml constraints.txt $(COMPILED) | $(VENV)/bin/python
	$(PIP) torch==2.13.0
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/runtime.done

clean:
	rm -rf $(VENV) $(INTEROP) demo-out runs build *.egg-info lowclip_runtime/*.so
