# The one entry point. `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
export PYTHON ?= python3
# Test processes; each has its own servers, and takes whole files in their order: what is slow comes before the units.
TEST_PROCESSES ?= 2

BIN := .venv/bin
DISTRIBUTIONS := $(wildcard kernel/pyproject.toml proto/pyproject.toml services/*/pyproject.toml demo/pyproject.toml)
PROTO := $(shell find proto/crm -name '*.proto' 2>/dev/null)
CODE := kernel services tests demo bench tools
PACKAGES := kernel/forecourt $(wildcard services/common/trade services/customer/customer services/sales/sales \
	services/service-desk/service_desk services/notify/notify services/audit/audit)

.PHONY: help setup proto reference lint deploy-check format test unit test-eventstoredb demo run bench lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/stamp proto/gen/.stamp ## Make .venv and the gRPC stubs (every other target does so by itself)

.venv/stamp: requirements.lock $(DISTRIBUTIONS) tools/setup.sh
	@tools/setup.sh

proto/gen/.stamp: $(PROTO) requirements.lock tools/proto_generate.sh | .venv/stamp
	@tools/proto_generate.sh

proto: setup ## Generate the gRPC stubs; check style and compatibility of proto/
	@tools/proto_check.sh

reference: setup ## Write what is made from code and rules: configuration, metrics, permissions, runbook list, dashboards
	@$(BIN)/python -m tools.reference

lint: setup ## Check style, types, layers, the contract, and deploy/
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/ruff format --check $(wildcard $(CODE))
	$(BIN)/mypy --strict $(PACKAGES)
	$(BIN)/mypy $(wildcard tests demo bench)
	$(BIN)/lint-imports
	@tools/proto_check.sh
	@$(MAKE) deploy-check

deploy-check: setup ## Check Dockerfile, compose file and Kubernetes manifests
	@$(BIN)/python -m tools.deploy_check

format: setup ## Rewrite the code in the house style
	$(BIN)/ruff check --fix-only $(wildcard $(CODE))
	$(BIN)/ruff format $(wildcard $(CODE))
	$(BIN)/buf format --write

test: setup ## Run every test, on real servers of its own
	@$(BIN)/python tools/servers.py
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

unit: setup ## Run the tests that need no server
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m "not integration and not e2e and not faults"

test-eventstoredb: setup ## The event store's suite on the server that EVENTSTOREDB_URI names
	@test -n "$$EVENTSTOREDB_URI" || { echo "EVENTSTOREDB_URI: is not set; name the server, such as esdb://host:2113?tls=false"; exit 2; }
	$(BIN)/python -m pytest tests/conformance/test_eventstore_eventstoredb.py

demo: setup ## Play a dealer group's day on the whole platform and show the result
	$(BIN)/python -m demo.play

run: setup ## Start the platform and the sandboxes, until Ctrl-C
	$(BIN)/forecourt run

bench: setup ## Measure; results also in build/bench.json
	$(BIN)/python -m bench

lock: .venv/stamp ## Resolve requirements.in into requirements.lock and the locks of images, with hashes
	@tools/lock.sh

clean: ## Remove everything that make made; what `make run` stored in var stays
	rm -rf .venv build proto/gen .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find kernel services tests demo bench -name __pycache__ -type d -prune -exec rm -rf {} +
