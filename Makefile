# The two commands of the README, on a fresh machine: `make table1` and `make test`.
#   PYTHON=python3.12   another interpreter (3.11 or later)
#   LOCK=...            another pinned environment (requirements/lock-npu.txt on Ascend machines)

PYTHON ?= python3
LOCK ?= requirements/lock.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
SCALE := $(shell sed -n "s/^scale: *\([a-z]*\).*/\1/p" config/config.yaml)
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1
# Set in many container images: each process would compile torch and transformers again (4.2 s instead of 2.5 s).
export PYTHONDONTWRITEBYTECODE :=

.PHONY: env table1 smoke test test-graph test-ranks mutants pull

env: $(STAMP)

# The stamp is written last: an install that was interrupted goes on where it stopped. Most of the packages' 27,000 files
# are never imported; Python compiles the others when it first needs them (2 min 25 s on two cores instead of 4 min 47 s).
$(STAMP): $(LOCK) requirements/carried.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "GranViT needs Python 3.11 or later, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true): name another one, e.g. make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/carried.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(BIN)/python -m granvit.config.editors  # schemas for editors
	@touch $(STAMP)

# GranViT's own runs are the longest chain, so they go first.
table1: $(STAMP)
	@workflow_scripts/run_graph.sh results/table1.csv results/figure1a.png --prioritize results/$(SCALE)/sft/sft-granvit/seed0/manifest.json
	@cat results/table1.md

smoke: $(STAMP)
	@workflow_scripts/run_graph.sh smoke
	@cat results/smoke/tables/table1.md

# Three at a time, of one thread each, for two cores: some wait for clusters and servers. `test-graph` is the runs of
# the workflow, `test-ranks` those of several processes.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --durations=10
test: $(STAMP)
	$(PYTEST) -n 3 --no-loadscope-reorder

test-graph test-ranks: test-%: $(STAMP)
	$(PYTEST) -m "$*"

# Do the tests notice a fault in one expression? A sample of them; MUTANTS="boxes filters" tries all of these modules'
# (docs/testing.md).
MUTANTS ?= --share 0.15
mutants: $(STAMP)
	$(BIN)/python tests/mutants.py $(MUTANTS)

# What another checkout has made and pushed.
pull: $(STAMP)
	@$(BIN)/dvc pull
