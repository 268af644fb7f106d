# Every target does its own set-up: a fresh clone needs nothing but `make demo` or `make test`.
# Extra arguments: make test ARGS="-k randomization", make demo ARGS="seed=2"
PYTHON_BIN := .venv/bin/python
TYPED := $(wildcard configs envs agents sim2real watch hydra_plugins gantry.py scripts)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo search-demo test check format screenshots clean

help:
	@echo "make setup   make .venv with pinned dependencies and check that rendering works"
	@echo "make demo    train a Go2 to walk, evaluate it, render the video, write the report"
	@echo "make search-demo  search for a cartpole reward with a language model's recorded answers: no key, two cores"
	@echo "make test    run the whole test suite"
	@echo "make check   lint, format check and types, as CI runs them"
	@echo "make format  format and fix the code"
	@echo "make screenshots  make the pictures of docs/reports.md from runs/"
	@echo "make clean   remove .venv and caches (never runs/)"

setup:
	@bash scripts/setup.sh

demo: setup
	@$(PYTHON_BIN) -m gantry demo $(ARGS)

search-demo: setup
	@$(PYTHON_BIN) -m gantry search +recorded=cartpole-swingup llm=transcript llm.transcript=cartpole-swingup/0 \
		name=search-demo hydra/launcher=joblib hydra.launcher.n_jobs=2 $(ARGS)

test: setup
	@$(PYTHON_BIN) -m pytest $(ARGS)

check: setup
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m mypy $(TYPED)

format: setup
	@$(PYTHON_BIN) -m ruff check --fix .
	@$(PYTHON_BIN) -m ruff format .

screenshots: setup
	@$(PYTHON_BIN) scripts/screenshots.py $(ARGS)

clean:
	rm -rf .venv .setup.lock .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
