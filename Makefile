# Every target works from a clean clone with Python 3.11 and make alone: it builds the environments it needs first.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
ARGS ?=
export PYTHON
# Where it is set, as images often have it, every process would compile torch, Ray and vLLM once more: 30 s instead of 3.
export PYTHONDONTWRITEBYTECODE :=

CONTROL := .venv/bin/python
TRAINER := .venvs/trainer/bin/python

# Tests of the trainer and of serving need torch; everything else runs in the control environment.
TORCH_TESTS := $(wildcard tests/unit/trainer tests/unit/serving)

# Which tests: `not long`, or `long` for the deep and slow ones.
SELECT ?= not long
# Where every suite writes down what it has skipped, and what has failed. Exported: each suite runs in a make of its own.
export SKIPPED_TESTS := $(CURDIR)/build/skipped-tests.txt
export FAILED_TESTS := $(CURDIR)/build/failed-tests.txt

# What waits more than it computes runs in several processes, those of one group in one of them.
BESIDE := --dist=loadgroup --maxprocesses=8
CLUSTER_PROCESSES ?= 3

# A suite that is not there yet is no failure, nor is an empty one (pytest exits with 5).
pytest = $(if $(wildcard $(firstword $(2))),{ $(1) -m pytest $(2) $(ARGS) || [[ $$? == 5 ]]; },@echo 'no tests in $(firstword $(2))')

.PHONY: help setup demo lint format type test beside-models beside-cluster test-long test-unit test-cluster test-model test-e2e test-node test-gpu bench crds dashboards docs lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Build the four environments: .venv and .venvs/{trainer,compressor,server} (ACCELERATOR=gpu: for GPUs); setup-edge: a fifth, for exports
	@scripts/setup_environments.sh

setup-%:
	@scripts/setup_environments.sh $*

demo: setup ## From nothing to a fine-tuned, compressed, served model that answers a question
	$(CONTROL) examples/smalltalk/demo.py $(ARGS)

lint: setup-control ## Check style, formatting, layers, declared dependencies and YAML
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/deptry operator trainer serving
	.venv/bin/yamllint --strict .

format: setup-control ## Mend what can be mended by machine
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

type: setup-control ## Check types, strictly
	.venv/bin/mypy

# The cluster's tests mostly wait and those of models compute: side by side they take less time than in turn, and the
# deployments and pages of e2e wait, too. What waits comes first on the processor. Every line says whose it is, and a
# failure on either side fails both.
test: setup ## Run every test but the long ones
	@rm -f $(SKIPPED_TESTS) $(FAILED_TESTS); code=0; \
	{ $(MAKE) --no-print-directory test-unit && \
	  $(MAKE) --no-print-directory --jobs=2 --keep-going beside-models beside-cluster; } || code=$$?; \
	if [[ -s $(SKIPPED_TESTS) ]]; then \
	  printf '\n!!! SKIPPED, so not tested:\n'; sed 's/^/!!! /' $(SKIPPED_TESTS); else echo 'No test was skipped.'; fi; \
	if [[ -s $(FAILED_TESTS) ]]; then \
	  printf '\n!!! FAILED:\n'; sed 's/^/!!! /' $(FAILED_TESTS); fi; \
	exit $$code

test-long: ## Run the tests that are too long for every day (ARGS="-k NAME" for one)
	@$(MAKE) --no-print-directory test SELECT=long

beside-models:
	@nice -n 10 $(MAKE) --no-print-directory test-model 2>&1 | sed -u 's/^/models  | /'

beside-cluster:
	@{ code=0; $(MAKE) --no-print-directory test-cluster || code=$$?; \
	   nice -n 5 $(MAKE) --no-print-directory test-e2e || code=$$?; exit $$code; } 2>&1 | sed -u 's/^/cluster | /'

test-unit: setup-control setup-trainer ## Fast tests of every part (under two minutes)
	$(call pytest,$(CONTROL),tests/unit $(TORCH_TESTS:%=--ignore=%) -m '$(SELECT)' -n logical $(BESIDE))
ifneq ($(TORCH_TESTS),)
	$(call pytest,$(TRAINER),$(TORCH_TESTS) -m '$(SELECT)')
endif

test-cluster: setup-control ## Tests against a real API server (needs KUBECONFIG or KUBEBUILDER_ASSETS)
	$(call pytest,$(CONTROL),tests/cluster -m '($(SELECT)) and not alone' -n $(CLUSTER_PROCESSES) $(BESIDE))
	$(call pytest,$(CONTROL),tests/cluster -m '($(SELECT)) and alone')

test-model: setup ## Tests that train and load a real model (minutes)
	$(call pytest,$(TRAINER),tests/model -m '$(SELECT)')

test-e2e: setup ## The whole way from a manifest to a served model (minutes)
	$(call pytest,$(CONTROL),tests/e2e -m '$(SELECT)')

test-node: setup-control ## The helpdesk job in real pods, from images built here (needs a node; see docs/task/install.md)
	$(call pytest,$(CONTROL),tests/node)

test-gpu: setup-trainer ## Training on a CUDA device (ACCELERATOR=gpu); skips where there is none
	$(call pytest,$(TRAINER),tests/gpu)

bench: setup ## Measure the promises and print JSON
	$(CONTROL) benchmarks/run.py $(ARGS)

crds: setup-control ## Write the CRDs and the policy of corrections from the typed models
	.venv/bin/tunesmith crds --directory charts/tunesmith/files/crds $(ARGS)
	$(CONTROL) scripts/write_policy.py --directory charts/tunesmith/files/policies

dashboards: setup-control ## Write the Grafana dashboards from their panels
	$(CONTROL) scripts/write_dashboards.py --directory charts/tunesmith/files/dashboards

docs: setup ## Write the reference pages and run the code blocks of README and docs
	$(CONTROL) scripts/write_reference.py
	$(call pytest,$(CONTROL),tests/unit/docs)

lock: setup-control ## Resolve the pinned locks again (ARGS=--upgrade moves every pin)
	scripts/lock_requirements.sh $(ARGS)

clean: ## Remove environments, caches and build results
	rm -rf .venv .venvs build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis htmlcov .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
