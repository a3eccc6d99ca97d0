# Everything that a developer or a newcomer types. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MEMRAY = $(BIN)/python -m memray
INSTALLED := $(VENV)/.installed
FLOORS := .venv-floors
FLOORS_INSTALLED := $(FLOORS)/.installed
FLOOR_TESTS := $(addprefix tests/,service sdb graph messaging conductor datasets \
  test_errors.py test_json_values.py test_tls.py pipeline/test_routes.py pipeline/test_store.py system/test_injection.py)
PEERS := .venv-peers
PEERS_INSTALLED := $(PEERS)/.installed
# Apart: they and CARS agree on no versions. Batuta's own are those of its users.
ORCHESTRA_PEERS := .venv-orchestra-peers
ORCHESTRA_PEERS_INSTALLED := $(ORCHESTRA_PEERS)/.installed
ORCHESTRA_PEERS_PINS := $(addprefix benchmarks/orchestra_peers/,requirements.in constraints.txt package.json package-lock.json)
TASK_PEERS := .venv-task-peers
TASK_PEERS_INSTALLED := $(TASK_PEERS)/.installed
SLURM_ARGS ?= start
# More than the cores of a small machine: most tests wait for other processes.
WORKERS ?= 5
# Of `make simulate`: how many schedules, from which seed on. Of `make crash-points`: how many losses
# of power of each service, and the seed. Of `make chaos`: how many observations,
# and the seed, drawn unless it is given.
N ?= 1000
SEED ?= 1
PROGRAM ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-floors check check-secrets check-web web format lock clean bench bench-peers bench-task-peers install-cars compat-cars simulate chaos fuzz crash-points slurm lock-peers \
  profile-memory-report profile-memory-all

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-21s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Batuta needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@echo "Installing Batuta, what it uses and its tools into $(VENV): $$(grep -c '==' constraints.txt) packages, about a minute."
	@$(PYTHON) -m tools.install $(VENV) constraints.txt --editable '.[dev]'
	@touch $(INSTALLED)

install: $(INSTALLED)  ## the project and its tools, into .venv

demo: $(INSTALLED)  ## play the whole orchestra on real observations
	@echo "Playing an orchestra: 30 products of real observations, one to two minutes."
	$(BIN)/batuta demo $(DEMO_ARGS)

test: $(INSTALLED)  ## every test, on real services
	@# Each process would compile Batuta and its tests anew where PYTHONDONTWRITEBYTECODE is set.
	@$(BIN)/python -m compileall -q src tests tools examples
	@# Nothing to do unless web/ has changed. Where it cannot be built, the tests of it say so.
	-@$(BIN)/python web/build_page.py
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) $(TEST_ARGS)

simulate: $(INSTALLED)  ## the orchestra in virtual time, with faults from seeds (N=10000 SEED=1; SEED=7 REPLAY=1)
	$(BIN)/python -m tests.support.simulation --number $(N) --seed $(SEED) $(if $(REPLAY),--replay) $(SIMULATE_ARGS)

chaos: $(INSTALLED)  ## a real orchestra whose services, network, disks and clocks fail (N=1000 SEED=7 DATABASE=sqlite)
	$(BIN)/python -m tests.support.chaos --number $(N) $(if $(filter file,$(origin SEED)),,--seed $(SEED)) \
	  $(if $(PRODUCTS),--products $(PRODUCTS)) $(if $(FAULTS),--faults $(FAULTS)) \
	  $(if $(DATABASE),--database $(DATABASE)) $(CHAOS_ARGS)

crash-points: $(INSTALLED)  ## each service's disk after a loss of power, at moments of its work (N=1000 SEED=7; N=all)
	$(BIN)/python -m tests.support.power_loss --seed $(SEED) $(if $(filter all,$(N)),,--number $(N)) $(CRASH_POINTS_ARGS)

fuzz: $(INSTALLED)  ## requests made from each service's description of its interface (N=1000 to each operation)
	BATUTA_FUZZ_REQUESTS=$(N) $(BIN)/python -m pytest tests/system/test_random_requests.py $(TEST_ARGS)

$(FLOORS_INSTALLED): pyproject.toml constraints-floors.txt
	$(PYTHON) -m tools.install $(FLOORS) constraints-floors.txt \
	  --editable '.[services,formats,dask,profiling,tests]'
	@touch $(FLOORS_INSTALLED)

# Warnings of old libraries are not ours.
test-floors: $(FLOORS_INSTALLED)  ## security and contracts, with the lowest versions that we accept
	$(FLOORS)/bin/python -m pytest -p no:cacheprovider -o filterwarnings=default -n $(WORKERS) \
	  $(FLOOR_TESTS) $(TEST_ARGS)

check: $(INSTALLED)  ## formatter, linter, types, import layers, secrets
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory check-secrets
	$(MAKE) --no-print-directory check-web

# Words that only look like passwords, and addresses of tests, would be found by what is left out.
check-secrets: $(INSTALLED)  ## no key and no token of a service is in what is committed
	git ls-files -z -- ':!*.png' ':!*.svg' ':!*.ipynb' ':!*constraints*' ':!*package-lock.json' \
	  | xargs -0 $(BIN)/detect-secrets-hook --no-verify \
	  --disable-filter detect_secrets.filters.heuristic.is_indirect_reference \
	  --disable-plugin BasicAuthDetector --disable-plugin KeywordDetector \
	  --disable-plugin Base64HighEntropyString --disable-plugin HexHighEntropyString

check-web: $(INSTALLED)  ## the page of the dashboard: formatter, linter, types
	$(BIN)/python web/build_page.py check

web: $(INSTALLED)  ## build the page of the dashboard into the package
	$(BIN)/python web/build_page.py

format: $(INSTALLED)  ## put the code in form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(PEERS_INSTALLED): pyproject.toml benchmarks/peers.in benchmarks/peers-constraints.txt
	$(PYTHON) -m tools.install $(PEERS) benchmarks/peers-constraints.txt \
	  --requirement benchmarks/peers.in --editable .
	@touch $(PEERS_INSTALLED)

$(ORCHESTRA_PEERS_INSTALLED): pyproject.toml $(ORCHESTRA_PEERS_PINS)
	@command -v npm >/dev/null || { echo "Restate's server comes from npm, which is not installed."; exit 1; }
	$(PYTHON) -m tools.install $(ORCHESTRA_PEERS) benchmarks/orchestra_peers/constraints.txt \
	  --requirement benchmarks/orchestra_peers/requirements.in --editable '.[services]'
	cp benchmarks/orchestra_peers/package*.json $(ORCHESTRA_PEERS)
	npm ci --prefix $(ORCHESTRA_PEERS) --ignore-scripts --no-audit --no-fund
	@touch $(ORCHESTRA_PEERS_INSTALLED)

$(TASK_PEERS_INSTALLED): pyproject.toml $(addprefix benchmarks/task_peers/,requirements.in constraints.txt)
	$(PYTHON) -m tools.install $(TASK_PEERS) benchmarks/task_peers/constraints.txt \
	  --requirement benchmarks/task_peers/requirements.in --editable .
	@touch $(TASK_PEERS_INSTALLED)

bench: $(INSTALLED)  ## the speed of orchestrator and orchestra, in tables (BENCH_ARGS='--quick --only orchestra chains')
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

install-cars: $(PEERS_INSTALLED)  ## CARS, which the orchestrator is measured against, into .venv-peers

bench-peers: $(PEERS_INSTALLED) $(ORCHESTRA_PEERS_INSTALLED)  ## the orchestra beside Restate, DBOS and Temporal (BENCH_ARGS='--quick --only burst')
	$(ORCHESTRA_PEERS)/bin/python -m benchmarks.orchestra_peers $(BENCH_ARGS)

bench-task-peers: $(TASK_PEERS_INSTALLED)  ## empty tasks beside concurrent.futures, loky, Ray, Parsl, HyperQueue (BENCH_ARGS=--quick)
	$(TASK_PEERS)/bin/python -m benchmarks.task_peers $(BENCH_ARGS)

compat-cars: $(PEERS_INSTALLED)  ## CARS itself on Batuta, on a real pair of images
	$(PEERS)/bin/python -m pytest --confcutdir tests/compat tests/compat $(TEST_ARGS)

profile-memory-report: $(INSTALLED)  ## who allocated the memory of a run profiled by memray (DIR=...)
	@test -n '$(DIR)' || { echo 'make profile-memory-report DIR=<output folder of a run>'; exit 2; }
	$(BIN)/batuta profile memory-report '$(DIR)' $(REPORT_ARGS)

profile-memory-all: $(INSTALLED)  ## the memory of the main process of a program (PROGRAM='script.py args')
	mkdir -p memory-all
	ARROW_DEFAULT_MEMORY_POOL=system $(MEMRAY) run --quiet --force --output memory-all/main.bin \
	  $(or $(PROGRAM),examples/terrain/terrain.py --output memory-all/terrain); code=$$?; \
	$(MEMRAY) summary memory-all/main.bin && \
	$(MEMRAY) flamegraph --no-web --force --output memory-all/main.html memory-all/main.bin && \
	$(MEMRAY) flamegraph --no-web --force --leaks --output memory-all/main-leaks.html memory-all/main.bin && \
	exit $$code

slurm:  ## a Slurm on this machine, for jobs by hand (SLURM_ARGS=stop ends it)
	@$(PYTHON) -m tools.slurm $(SLURM_ARGS)

lock: $(INSTALLED)  ## pin again all that we depend on, newest and lowest
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra dev \
	  --no-emit-index-url --no-annotate --strip-extras --upgrade \
	  --custom-compile-command 'make lock' --output-file constraints.txt pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --resolution lowest-direct \
	  --extra services --extra formats --extra dask --extra profiling --extra tests \
	  --no-emit-index-url --no-annotate --strip-extras --upgrade \
	  --custom-compile-command 'make lock' --output-file constraints-floors.txt pyproject.toml

lock-peers: $(INSTALLED)  ## pin again what Batuta is measured against
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-annotate --strip-extras \
	  --custom-compile-command 'make lock-peers' \
	  --output-file benchmarks/peers-constraints.txt benchmarks/peers.in pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --extra services --upgrade \
	  --no-emit-index-url --no-annotate --strip-extras --constraint constraints.txt \
	  --custom-compile-command 'make lock-peers' --output-file benchmarks/orchestra_peers/constraints.txt \
	  benchmarks/orchestra_peers/requirements.in pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	  --no-emit-index-url --no-annotate --strip-extras --constraint constraints.txt \
	  --custom-compile-command 'make lock-peers' --output-file benchmarks/task_peers/constraints.txt \
	  benchmarks/task_peers/requirements.in pyproject.toml
	rm -f benchmarks/orchestra_peers/package-lock.json
	npm install --prefix benchmarks/orchestra_peers --package-lock-only --omit-lockfile-registry-resolved \
	  --ignore-scripts --no-audit --no-fund

clean:  ## remove what was installed and made here
	rm -rf $(VENV) $(PEERS) $(ORCHESTRA_PEERS) $(TASK_PEERS) $(FLOORS) build dist demo-out chaos-out memory-all .mypy_cache .ruff_cache .pytest_cache .hypothesis
