# The two commands of the README are `make demo` and `make test`. Both set the environment up first.

PYTHON ?= $(firstword $(shell command -v python3.11) python3.11)
VENV := .venv
PY := $(VENV)/bin/python
UV := $(VENV)/bin/uv
READY := $(VENV)/ready
OPS_READY := $(VENV)/operators

# The environment is ours, and importing torch without byte code takes three times as long: let it be written.
unexport PYTHONDONTWRITEBYTECODE
# The user's own packages and import paths have no say in what is measured here.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help setup demo test test-slow weights dashboard lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) $(if $(OPS),$(OPS_READY)) ## the environment alone; OPS=1 also builds mmcv's operators (10-20 min, needs a compiler)

demo: $(READY) ## ADE20K on the miniworld, from nothing to a judged number (about 3 minutes)
	@echo "demo: trains a small model on a self-made miniature of ADE20K and judges it (about 3 minutes on two cores)"
	@$(PY) downstream/run.py ade20k --profile mini

test: $(READY) ## lint, types and the default tests (about 5 minutes)
	@echo "test: lint, types, then the default tests (about 5 minutes on two cores)"
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/ruff format --quiet --check .
	@$(VENV)/bin/mypy
	@$(PY) -m pytest -q -m "not slow and not gpu and not weights"

test-slow: $(READY) ## the tests that `make test` leaves out (about 20 minutes)
	@echo "test-slow: whole jobs end to end (about 20 minutes on two cores)"
	@$(PY) -m pytest -q -m "slow and not gpu and not weights"

weights: $(READY) ## pretrain the small size through both stages and ship it (about an hour on two free cores)
	@echo "weights: stage 1, stage 2, then models/weights/mini.safetensors (about an hour on two free cores)"
	@$(PY) pretrain/run.py stage1 --size mini --run mini-stage1
	@$(PY) pretrain/run.py stage2 --size mini --run mini-stage2 --start runs/mini-stage1
	@$(PY) pretrain/run.py ship runs/mini-stage2

dashboard: $(READY) ## MLflow's pages over everything recorded here, on the loopback address
	@$(PY) reports/run.py dashboard

lock: $(READY) ## resolve requirements.in anew into requirements.lock
	@echo opencv-python | $(UV) pip compile requirements.in --quiet --no-config --excludes /dev/stdin \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --no-annotate -o requirements.lock

clean: ## remove the environment and caches; results stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info build
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The lock serves three ends: uv itself, what is installed, and what the three source distributions are built with.
$(READY): requirements.lock pyproject.toml Makefile
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; install Python 3.11, or name one: make PYTHON=/path/to/python3.11"; exit 4; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 12))' || { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.11 or 3.12: make PYTHON=/path/to/python3.11"; exit 4; }
	@echo "setup: installing $$(grep -c == requirements.lock) locked packages into $(VENV) (1-3 minutes the first time, 3 GB to fetch, 6 GB on disk)"
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3.11-venv"; exit 4; }
	@awk '/^[a-z]/ { p = /^uv==/ } p' requirements.lock | $(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin 2>$(VENV)/pip.log || { cat $(VENV)/pip.log; exit 1; }
	@$(UV) pip sync --quiet --no-config --python $(PY) --require-hashes --build-constraints requirements.lock requirements.lock
	@$(UV) pip install --quiet --no-config --python $(PY) --no-deps --no-build-isolation --offline -e .
	@touch $@
	@echo "setup: done"

$(OPS_READY): $(READY)
	@echo "setup: building mmcv's compiled operators (10-20 minutes, needs a C++ compiler, and nvcc for GPUs)"
	@awk '/^[a-z]/ { p = /^onedl-mmcv==/ } p' requirements.lock | FORCE_CUDA=$$(command -v nvcc >/dev/null && $(PY) -c 'import torch; print(int(torch.cuda.is_available()))' || echo 0) CFLAGS=-g0 \
	  $(UV) pip install --no-config --python $(PY) --require-hashes --no-deps --no-build-isolation --no-cache --reinstall-package onedl-mmcv -r /dev/stdin
	@$(PY) -c 'import torch, mmcv._ext' && touch $@
	@echo "setup: operators built"
