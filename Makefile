# Everything runs in .venv, made from requirements.lock by uv; nothing else is needed than python3 (3.11+), git and make.
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin

.PHONY: help setup demo test prove team team-demo bench docs lint ui lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: .venv/.ready ## create or update .venv (quick when nothing changed)

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Evergreen needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@test -x .tools/bin/uv || ($(PYTHON) -m venv .tools && .tools/bin/python -m pip install -q --disable-pip-version-check uv==$(UV_VERSION))
	@test -x $(BIN)/python || .tools/bin/uv venv -q --python $(PYTHON) .venv
	.tools/bin/uv pip sync -q --compile-bytecode --python $(BIN)/python requirements.lock
	.tools/bin/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch .venv/.ready

demo: setup ## a continual-pretraining life on this machine, in minutes; prints scores, writes a report
	@$(BIN)/evergreen demo

test: setup ## the test suite, on up to four cores
	@$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

prove: setup ## deployments, arrivals, faults, a team's servers, launches, Ray and the tutorial, on local servers; really kills (an hour)
	@$(BIN)/python tests/prove_deployments.py
	@$(BIN)/python tests/prove_arrivals.py
	@$(BIN)/python tests/prove_faults.py
	@$(BIN)/python tests/prove_team.py
	@$(BIN)/python tests/prove_ray.py
	@$(BIN)/python tests/prove_storage.py
	@$(BIN)/python -m pytest -s tests/models/prove_training.py
	@$(BIN)/python -m pytest tests/prove_tutorial.py

team: setup ## PostgreSQL, S3, Prefect, MLflow and workers on this machine until Ctrl-C
	@$(BIN)/python deploy/local_team.py

team-demo: setup ## the demo on all of that and a local Ray; compares checkpoints, scores and catalog with an embedded run
	@$(BIN)/python tests/prove_team.py --full

bench: setup ## measure data, merging and evaluation against what they must beat (40 minutes, 14 GB of scratch space)
	$(BIN)/python benchmarks/compose_stream.py
	$(BIN)/python benchmarks/catalogue.py
	$(BIN)/python benchmarks/read_images.py
	$(BIN)/python benchmarks/merging.py --repeats 1
	$(BIN)/python benchmarks/evaluation.py --repeats 1
	$(BIN)/python benchmarks/report_page.py
	$(BIN)/python benchmarks/living_year.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/parallel_model.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/scale.py --millions 2

docs: setup ## write the reference of experiment files anew, docs/reference
	@$(BIN)/python -m flows.reference

lint: setup ## style checks
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

ui: setup ## Prefect and MLflow in the browser, on this machine only
	@$(BIN)/evergreen ui

lock: setup ## choose the newest versions that fit pyproject.toml
	.tools/bin/uv pip compile -q --upgrade --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --group dev pyproject.toml -o requirements.lock

clean: ## delete the environment; results in var/ stay
	rm -rf .venv .tools
