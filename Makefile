# `make demo` runs the main job, `make test` passes the tests; both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := setup.py package.xml

.PHONY: venv demo test lint bench docs weights clean

venv: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/depth-refiner demo

test: $(VENV)/installed-train
	$(BIN)/python -m pytest -n auto --dist loadfile test --ignore test/ros --ignore test/gpu

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/depth-refiner bench

docs: $(VENV)/installed
	$(BIN)/python -m depth_refiner_ros.reference

# Hours on a CPU of two cores, minutes on a GPU; each step goes on where it was stopped.
weights: $(VENV)/installed-train
	$(BIN)/python -m training.examples data/rooms --frames 4000
	$(BIN)/python -m training.train_depth data/rooms runs/depth_small --steps 6000
	$(BIN)/python -m training.export runs/depth_small/checkpoint.pt depth_refiner_ros/models/depth_small.onnx

clean:
	rm -rf $(VENV) build *.egg-info demo

# Editable, so that what is edited is what runs; without `test` a demo installs less.
$(VENV)/installed: $(INPUTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/installed-train: $(VENV)/installed
	$(PIP) install --quiet --editable '.[test,train]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --quiet --editable '.[dev,train]'
	@touch $@
