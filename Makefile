# Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
BIN := .venv/bin
MINUTES ?= 20
SEED ?= 0
INSTALLED := .venv/.installed
# Compiled once, not by each of the processes that tests start
export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test test-slow test-all lint format bench soak samplers coverage clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: install  ## the main job on the built-in checkpoints
	$(BIN)/schedcmp run configs/quickstart.yaml
	$(BIN)/schedcmp run configs/both.yaml

test: install  ## some five minutes on two cores
	$(BIN)/python -m pytest -n auto -m "not slow"

test-slow: install  ## what `test` leaves out
	$(BIN)/python -m pytest -n auto -m slow

test-all: test test-slow

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/biome ci --error-on-warnings

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/biome check --write

bench: install  ## the loops against the packed engine, how cost grows, torch against JAX
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/throughput.py --whole
	$(BIN)/python benchmarks/throughput.py --curve 1 2 4 8 16 --repeats 1
	$(BIN)/python benchmarks/host.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/backends.py
	$(BIN)/python benchmarks/cluster.py

soak: install  ## attacks: kills, signals, damage, hostile sweeps, runs and checkpoints; see docs/reliability.md
	$(BIN)/python -m tools.soak --minutes $(MINUTES) --seed $(SEED)

samplers: install  ## docs/samplers.md: every method against exact solutions, on every kind of model
	$(BIN)/python -m tools.samplers

coverage: install  ## docs/pipelines.md: every text-to-image pipeline class of diffusers; goes on where it stopped
	$(BIN)/python -m tools.coverage

clean:
	rm -rf .venv
