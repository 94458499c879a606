# Sets itself up: needs only Python >= 3.11 and make.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# LAPACK's threads stall whenever a core is busy.
export OPENBLAS_NUM_THREADS ?= 1
# The size of XLA's pool of threads: with two of them it can wait for itself for ever (see pctheory/processes.py).
export NPROC ?= 1

.PHONY: help setup reproduce audit test soak bench lint types lock clean

help:
	@echo "make reproduce   check every claim and draw every figure (into figures/output)"
	@echo "make audit       plant faults in copies of the library: which claims and tests notice (after reproduce)"
	@echo "make test        run every test but the long ones"
	@echo "make soak        run the long tests too"
	@echo "make bench       measure speed; table and JSON in benchmarks/output"
	@echo "make lint types  ruff, mypy"
	@echo "make lock        pin the newest versions of every dependency"
	@echo "make clean       remove the environment and everything generated"

setup: $(READY)

# Every version comes from requirements.lock, the build backend's too.
$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "pctheory needs Python >= 3.11, got $$($(PYTHON) --version); set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=requirements.lock $(BIN)/python -m pip install --disable-pip-version-check --quiet --editable '.[data,test,dev]'
	@touch $@

reproduce: $(READY)
	$(BIN)/pctheory reproduce $(ARGS)

# With these JAX compiles in a quarter of the time. What runs for long is still optimised (see tests/conftest.py).
reproduce audit: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 1
reproduce audit: export XLA_FLAGS ?= --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1

# The ledger of `make reproduce` says which claims hold without a fault.
audit: $(READY)
	$(BIN)/pctheory audit --record --ledger figures/output/claims.json $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -m 'not slow' -n 2 --dist worksteal

# The long tests compile as users do.
soak: export JAX_DISABLE_MOST_OPTIMIZATIONS ?= 0
soak: export XLA_FLAGS ?=
soak: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal

bench: $(READY)
	$(BIN)/python -m benchmarks

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --all-extras \
	  --no-emit-index-url --no-annotate --no-header --no-emit-package pctheory pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) figures/output benchmarks/output .pytest_cache .mypy_cache .ruff_cache .hypothesis .jax_cache report tests/browser/node_modules
