# `make` prints what there is. Everything sets itself up: git, make and Python 3.11 with venv are enough.

PYTHON ?= python3
SEEDS ?= 2000
MINUTES ?= 5
DATABASE ?= postgresql
JOBS ?= 4
BIN := .venv/bin
CODE := $(wildcard src tests tools demo bench chaos examples peers)

# The tests wait more than they compute, so there are more of them at once than cores.
PYTEST = $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
# What of the suite is run on PostgreSQL too, but for tests that have no database: tests/conftest.py leaves them out.
# Each time, and by `make postgresql`.
ON_BOTH := tests/tasks tests/worker tests/feed
ON_POSTGRESQL := $(ON_BOTH) tests/crash tests/service tests/resources tests/agent tests/test_verbs.py tests/test_undo.py \
	tests/test_progress.py $(addprefix tests/cli/test_,$(addsuffix .py,drain pool task run show schedule answers node))

export PYTHON
.NOTPARALLEL:

.PHONY: help
help: ## What this Makefile can do
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1#\2/p' $(MAKEFILE_LIST) | awk -F'#' '{ printf "%-16s %s\n", $$1, $$2 }'

# One environment for the three, one stamp for each extra, touched last: a set-up that broke off is done again.
.venv/.demo .venv/.test .venv/.check: .venv/.%: pyproject.toml constraints.txt tools/venv
	@echo "Setting up .venv for $*"
	@tools/venv .venv $*
	@touch $@

# The peers' dependencies are not ours.
.venv-bench/.bench: pyproject.toml constraints.txt tools/venv
	@echo "Setting up .venv-bench"
	@tools/venv .venv-bench bench
	@touch $@

.PHONY: packages
packages:
	@tools/need faketime iproute2 ipmitool openipmi pgbouncer postgresql qemu-system-x86

.PHONY: demo
demo: packages .venv/.demo ## The story over HTTP, nodes behind real BMCs, the library alone; each point proved; two minutes
	@$(BIN)/python -m demo

.PHONY: serve
serve: .venv/.demo ## The service on this machine, until Ctrl-C; prints its token and what to type
	@$(BIN)/python -m demo.serve

.PHONY: test
test: packages .venv/.test ## The test suite (one part: make test ONLY=tests/core); it needs BMCs and a machine
ifeq ($(ONLY),)
	$(PYTEST) --ignore tests/shape # `make check` looks at those
	TEST_DATABASE=postgresql $(PYTEST) $(ON_BOTH)
else
	$(PYTEST) $(ONLY)
endif

.PHONY: postgresql
postgresql: packages .venv/.test ## Whatever of the suite has a database, on PostgreSQL
	TEST_DATABASE=postgresql $(PYTEST) $(or $(ONLY),$(ON_POSTGRESQL))

.PHONY: check
check: .venv/.check ## Lint, format, types, layers, shape, news, and generated pages that are out of date
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy $(CODE)
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/python -m pytest --quiet -o verbosity_assertions=2 tests/shape
	$(BIN)/towncrier build --draft --version next >/dev/null
	$(BIN)/python -m tools.reference --check
	$(BIN)/python -m tools.requirements_table --check

.PHONY: fix
fix: .venv/.check ## Format, and mend what ruff can mend by itself
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

.PHONY: docs
docs: .venv/.check ## Write the generated pages of docs/reference anew
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.requirements_table

.PHONY: bench
bench: .venv-bench/.bench ## Holdfast beside TaskFlow, DBOS and Procrastinate, in one go, with ratios
	@tools/need postgresql
	@.venv-bench/bin/python -m bench.run

.PHONY: simulate
simulate: .venv/.test ## The seeded simulator (make simulate SEEDS=100000)
	$(BIN)/python -m holdfast.testing.simulate --seeds $(SEEDS)

.PHONY: chaos
chaos: packages .venv/.test ## A cluster broken at random, and judged (make chaos MINUTES=60 SEED=7 DATABASE=sqlite)
	@$(BIN)/python -m chaos.run --minutes $(MINUTES) --database $(DATABASE) $(if $(SEED),--seed $(SEED))

.PHONY: clean
clean: ## Remove the environments and every cache
	rm -rf .venv .venv-bench build dist src/*.egg-info .demo
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests tools $(wildcard demo bench chaos examples peers) -name __pycache__ -type d -prune -exec rm -rf {} +
