# Everything a newcomer needs, each target alone on a fresh machine: make demo, make test, make bench.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint coverage bench gpu clean

demo: $(VENV)/.demo-installed
	$(BIN)/lwta demo

# Everything that is checked. Two processes share the tests; each computes with one thread.
test: $(VENV)/.test-installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# For every change: under three minutes.
check: $(VENV)/.test-installed lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m "not slow"

lint: $(VENV)/.test-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy -p lwta -p ptx

coverage: $(VENV)/.test-installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --cov=lwta --cov-report=term --cov-report=html

# Every suite, recorded under benchmarks/results, and the figures of the README made anew.
bench: $(VENV)/.test-installed
	$(BIN)/python -m benchmarks kernels --json benchmarks/results/kernels-$(shell $(BIN)/python -c 'import torch; print("gpu" if torch.cuda.is_available() else "cpu")' 2>/dev/null).json
	$(BIN)/python -m benchmarks static --json benchmarks/results/static.json
	$(BIN)/python -m benchmarks faults --json benchmarks/results/injected-faults.json
	$(BIN)/python -m benchmarks dissection --json benchmarks/results/dissection-cpu.json
	$(BIN)/python -m benchmarks accuracy --json benchmarks/results/accuracy-cpu.json
	$(BIN)/python -m benchmarks.report

# On a machine with a GPU and PyTorch: correctness first, then times, in one go. PYTHON names its interpreter. Most of the
# tests' time goes into compiling kernels; with pytest-xdist eight processes share it.
gpu:
	$(PYTHON) -m pytest -q $(shell $(PYTHON) -c 'import os, xdist; print("-n", min(8, os.cpu_count()))' 2>/dev/null) tests/kernels
	$(PYTHON) -m pytest -q -m gpu $(shell grep -rl --include='test_*.py' mark.gpu tests/lwta tests/dissection)
	$(PYTHON) -m benchmarks kernels --json benchmarks/results/kernels-gpu.json

clean:
	rm -rf $(VENV) build dist *.egg-info lwta-demo htmlcov .coverage

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "lwta needs Python 3.10 or newer, this is %d.%d; try make PYTHON=python3.11" % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip

$(VENV)/.demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

$(VENV)/.test-installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[demo,test]'
	touch $@
