# make demo | make test | make check: each makes .venv and installs what it needs first.

SHELL := /bin/bash
# Each process would compile every module again.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
# The registry's torch brings CUDA libraries of several GB and works on a CPU too. Where the CPU build is wanted:
# make TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PYTHON ?= $(shell for p in python3.12 python3.13 python3.11 python3; do command -v $$p >/dev/null && $$p -c \
	'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
WORKERS ?= 3

# $(call apt,PACKAGES): install them when this user may; otherwise say in one line what to run.
apt = { if [ "$$(id -u)" = 0 ]; then as=; elif sudo -n true 2>/dev/null; then as=sudo; else \
	echo "robolearn needs system packages: sudo apt-get install -y $(1)" >&2; exit 2; fi; \
	$$as apt-get update -qq && $$as apt-get install -y -qq --no-install-recommends $(1); }

.PHONY: demo test slow check lint format install system browser page clean

demo: install
	$(BIN)/robolearn demo

# Compiled before, for otherwise each worker would compile all of the library.
test: install browser
	@$(BIN)/python -m compileall -q -j 0 robolearn ros_ws/src
	$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist loadgroup --no-loadscope-reorder

slow: install browser
	$(BIN)/python -m pytest -q -m slow

check: lint test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/installed system

$(VENV)/installed: setup.py
	@test -n "$(PYTHON)" || { echo "robolearn needs Python 3.11 to 3.13 (MuJoCo 4 and zarr 3 have no older ones): \
	install one, or name it: make PYTHON=/path/to/python3.13"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || $(call apt,python3-venv)
	@echo "installing into $(VENV); this takes a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --upgrade pip
	$(BIN)/python -m pip install -qq $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$(TORCH)"
	$(BIN)/python -m pip install -qq -e ".[dev]"
	@touch $@

# What headless rendering needs from the system, checked by drawing a picture.
system: $(VENV)/draws

DRAWS := $(BIN)/python -c 'from robolearn.recipes.doctor import check_rendering as c; c().ok or exit(1)' 2>/dev/null

$(VENV)/draws: $(VENV)/installed
	@$(DRAWS) || $(call apt,libegl1 libgl1 libgl1-mesa-dri)
	@$(DRAWS) || echo "robolearn: MuJoCo cannot draw on this machine; see: $(BIN)/robolearn doctor" >&2
	@touch $@

# The browser that the tests of the operator's page drive.
browser: $(VENV)/browses

FIND_BROWSER := command -v chromium chromium-browser google-chrome >/dev/null

$(VENV)/browses: $(VENV)/installed
	@$(FIND_BROWSER) || $(call apt,chromium)
	@touch $@

# The operator's page from its sources; needs Node 20 or later. What comes out is committed, so that users need none.
page:
	cd robolearn/web/frontend && npm ci --no-audit --no-fund && npm run build

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
