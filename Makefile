# Everything runs in a virtual environment of its own; PYTHON and TORCH can be chosen: make test PYTHON=python3.13
PYTHON ?= python3
VENV   ?= .venv
# On Linux the plain wheel of the registry carries CUDA; give TORCH="torch --index-url ..." for another build.
TORCH  ?= torch==2.13.0
BUDGET ?= 4min
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test test-all check bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable '.[torch,fast,track,dev]'
	@touch $@

## the main job on the embedded data set: phantoms in, model, masks and report out
demo: $(STAMP)
	rm -rf demo-output
	$(BIN)/delineate phantoms demo-output/dataset
	$(BIN)/delineate run demo-output/dataset --budget $(BUDGET) --out demo-output/run

## the tests that a change must pass
test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow"

## all tests; DELINEATE_DATA (real data) and DELINEATE_ORACLE_PYTHON (nnunetv2) widen them
test-all: $(STAMP)
	$(BIN)/python -m pytest

## style, types, layers
check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports

## the table of ratios against the peers (docs/benchmarks.md says what it needs)
bench: $(STAMP)
	$(BIN)/python benchmarks/run_all.py $(BENCH)

clean:
	rm -rf $(VENV) demo-output bench-output build dist
