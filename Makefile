# make demo    the relay at work on real data         make up      private servers below .run
# make test    all tests on real servers              make help    the rest
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: venv up down demo test test-source test-long lint bench chaos test-odoo deb wheel clean help

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PG ?= embedded
KEEP ?=
RABBITMQ_SUITE ?=
MYSQL_SUITE ?=
ROUNDS ?=
SEED ?=
SOURCE ?=
ARGS ?=
# Test processes, each with servers of its own: the tests wait more than they compute. 0 = one after another.
JOBS ?= 4
export PG KEEP RABBITMQ_SUITE MYSQL_SUITE
unexport SOURCE  # a setting of listen.py is called so, too
unexport PYTHONDONTWRITEBYTECODE  # else each start of a script compiles it anew: half of what a start takes

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile
	@echo 'PG=system takes the installed PostgreSQL instead of the wheel, PG=/usr/lib/postgresql/13/bin any other,'
	@echo 'RABBITMQ_SUITE=trixie the RabbitMQ of another Debian suite, MYSQL_SUITE=sid tests MySQL as well, JOBS=0 runs one test after another;'
	@echo 'ARGS="..." is passed on, e.g.'
	@echo '  make test ARGS="-k quorum -x"'

# The stamp holds what is installed: a checkout that only touches the files does not pull .venv from under a running
# test. New pins are installed in place; make clean is the way to start over.
$(READY): requirements.txt requirements-mysql.txt requirements-dev.txt
	@if cat $^ | cmp -s - $@ && $(BIN)/python -c 'import pytest' 2>/dev/null; then touch $@; else $(MAKE) venv; fi

venv:
	@echo 'preparing .venv'
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
	  echo 'python3 -m venv does not work here; run:  sudo apt-get install python3-venv' >&2; exit 1; fi
	@if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	  echo 'Python 3.11 or newer is needed; name it:  make PYTHON=python3.11 ...' >&2; exit 1; fi
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -r requirements.txt -r requirements-mysql.txt -r requirements-dev.txt
	@cat requirements.txt requirements-mysql.txt requirements-dev.txt > $(READY)

up: $(READY) ## start private PostgreSQL and RabbitMQ below .run and write .run/config.env
	@$(BIN)/python -m dev up --pg $(PG) $(ARGS)

down: $(READY) ## stop them and remove .run
	@$(BIN)/python -m dev down

demo: $(READY) ## airports through both daemons to HTTP and into Odoo, with crashes; KEEP=1 leaves it running, SOURCE=mariadb
	@$(BIN)/python -m demo $(if $(SOURCE),--source $(SOURCE)) $(ARGS)

# While the servers are fetched the tests are compiled, once for all processes.
test: $(READY) ## unit, SQL, integration and end-to-end tests on real servers
	@$(BIN)/python -m dev fetch & $(BIN)/python -m pytest -q --collect-only $(ARGS) >/dev/null 2>&1 || true; wait $$!
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not long and not odoo and not left_out' $(ARGS)

test-source: $(READY) ## the contract of every source on your own server, whose outbox it empties: DATABASE_URL=oracle+oracledb://...
	@if [ -z "$${DATABASE_URL:-}" ]; then \
	  echo 'DATABASE_URL is missing:  make test-source DATABASE_URL=oracle+oracledb://user:password@host:1521/?service_name=NAME' >&2; exit 1; fi
	@$(BIN)/python -m dev fetch
	@RELAY_TEST_SOURCE="$$DATABASE_URL" $(BIN)/python -m pytest tests/contract/test_relaying.py tests/contract/test_commands.py $(ARGS)

lint: $(READY) ## ruff, mypy --strict, layers, who writes to whose attributes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/python -m dev.attribute_writes

bench: $(READY) ## throughput and latency; minutes
	@$(BIN)/python -m benchmarks $(ARGS)

chaos: $(READY) ## faults by plan against everything, judged by a referee; ROUNDS=n SEED=s
	@$(BIN)/python -m dev fetch
	@$(BIN)/python -m chaos $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(SEED),--seed $(SEED)) $(ARGS)

test-long: $(READY) ## the tests that take minutes, and all that make test leaves out
	@$(BIN)/python -m dev fetch
	@$(BIN)/python -m pytest -m 'long or left_out' $(ARGS)

test-odoo: $(READY) ## the tests of Odoo on a real server: ODOO_URL=... ODOO_DB=... ODOO_API_KEY=... [ODOO_LOGIN=admin]
	@for name in ODOO_URL ODOO_DB ODOO_API_KEY; do if [ -z "$${!name:-}" ]; then \
	  echo "$$name is missing:  make test-odoo ODOO_URL=http://... ODOO_DB=... ODOO_API_KEY=... [ODOO_LOGIN=admin]" >&2; exit 1; fi; done
	@$(BIN)/python -m dev fetch
	@$(BIN)/python -m pytest -m odoo $(ARGS)

deb: $(READY) ## dist/relay_VERSION_all.deb, for Debian 12 and newer, by DEBFULLNAME and DEBEMAIL; as root, packaging/try.sh tries it in a chroot
	@$(BIN)/python -m dev.package

wheel: $(READY) ## dist/relay_outbox-VERSION-py3-none-any.whl, for applications: from relay.publish import publish
	@$(BIN)/python -m pip -q --disable-pip-version-check wheel --no-build-isolation --no-deps -w dist .

clean: ## stop what runs below .run; remove it, .venv and all caches
	@if [ -x $(BIN)/python ] && [ -d .run ]; then $(BIN)/python -m dev down; fi
	@rm -rf dist .run .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
