# `make demo` runs the main job, `make test` the tests, `make test-slow` those that train for real,
# and `make quick` the core's alone, for the loop while editing. All set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INPUTS := setup.py package.xml
MODELS := depth_refiner_ros/models
# A file stays with one process, so that what its tests share is made once.
PYTEST := $(BIN)/python -m pytest -n auto --dist loadfile
# Those that need ROS or a GPU are run where there is one: `pytest test/ros`, `pytest test/gpu`.
TESTS := test --ignore test/ros --ignore test/gpu
CORE := $(wildcard test/test_*.py) test/filters test/metrics test/stages test/hosts test/inference

.PHONY: venv demo quick test test-slow lint bench docs rooms views hands assets weights weights-depth weights-hands weights-mono clean

venv: $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/depth-refiner demo

quick: $(VENV)/installed-train
	$(PYTEST) -m 'not slow' $(CORE)

test: $(VENV)/installed-train
	$(PYTEST) -m 'not slow' $(TESTS)

test-slow: $(VENV)/installed-train
	$(PYTEST) -m slow $(TESTS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/installed
	$(BIN)/depth-refiner bench

docs: $(VENV)/installed
	$(BIN)/python -m depth_refiner_ros.reference

# Hours on a CPU of two cores, minutes on a GPU; each step goes on where it was stopped.
weights: weights-depth weights-hands weights-mono

rooms: $(VENV)/installed-train
	$(BIN)/python -m training.examples data/rooms --frames 4000

# Furniture, people and pictures from package registries, 280 MB; data/assets/AUTHORS.md says whose.
assets: data/assets/assets.json

data/assets/assets.json: training/render/make_assets.py training/render/sweet_home.py
	$(MAKE) $(VENV)/installed-train
	$(BIN)/python -m training.render.make_assets data/assets

views: assets
	$(BIN)/python -m training.examples data/views --assets data/assets --views 12 --frames 24000 \
		--measurements 0 --room-share 0.6 --seed 1 --height 192 --width 256 --shard-frames 96

hands: rooms
	$(BIN)/python -m training.hands.examples data/hands --rooms data/rooms --windows 48000 --frames 14000

weights-depth: rooms
	$(BIN)/python -m training.depth.train data/rooms runs/depth_small --steps 6000
	$(BIN)/python -m training.depth.export runs/depth_small/checkpoint.pt $(MODELS)/depth_small.onnx

weights-hands: hands
	$(BIN)/python -m training.hands.train data/hands runs/hand_joints --network joints --steps 5500
	$(BIN)/python -m training.hands.train data/hands runs/hand_joints_more --network joints --steps 5500 \
		--initial runs/hand_joints/checkpoint.pt
	$(BIN)/python -m training.hands.train data/hands runs/hand_detector --network detector --steps 5000 --batch 32
	$(BIN)/python -m training.hands.export runs/hand_joints_more/checkpoint.pt $(MODELS)/hand_joints.onnx --data data/hands
	$(BIN)/python -m training.hands.export runs/hand_detector/checkpoint.pt $(MODELS)/hand_detector.onnx --data data/hands

weights-mono: views
	$(BIN)/python -m training.mono.train data/views runs/mono_base
	$(BIN)/python -m training.mono.export runs/mono_base/checkpoint.pt $(MODELS)/mono_base.onnx \
		--assets data/assets

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
