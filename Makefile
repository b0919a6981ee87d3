# Everything a newcomer needs: `make quickstart`, then `make test`. Needs Python 3.11+, venv and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
QUICK ?=
RECIPE := recipes/quickstart.yaml
OUTPUT ?= runs/quickstart$(if $(QUICK),-quick)
# The same recipe with fewer steps.
QUICK_SET := $(if $(QUICK),--set stages.sft.trl.max_steps=60 --set stages.grpo.trl.max_steps=6 --set eval.limit=40 --set data.thoughts=400 --set data.answers=100 --set data.test_images=40)
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup quickstart test slow check format docs integrations wheel newest clean

help:
	@echo "make quickstart  set up, train and evaluate a small model on drawn data, write a report (8 minutes)"
	@echo "make test        set up and run the tests (last seen: 13 minutes on 2 cores, with other work beside them)"
	@echo "make check       ruff, ruff format, mypy --strict"
	@echo "make slow        the tests marked slow"
	@echo "make docs        build the documentation as a site in build/site, without a network, and check its links"
	@echo "make integrations  our rewards in other trainers' own code, each in its environment; PEER=openrlhf for one"
	@echo "make wheel       build the wheel and the source distribution, and try the wheel in an environment of its own"
	@echo "make newest      the tests of rewards, models and training with the newest versions that pyproject.toml allows"

setup: $(VENV)/.ready

# torch first and alone: asked for together with the rest, pip may look for a build with GPU libraries.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "medrft needs Python 3.11 or later; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup
	rm -rf $(OUTPUT)
	$(BIN)/medrft run $(RECIPE) --output $(OUTPUT) $(QUICK_SET)

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Beside what `make setup` installs, so that neither tests nor users wait for it.
$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(VENV)/.docs
	rm -rf build/site
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/site-cache docs build/site
	$(BIN)/python docs/check_site.py build/site

# Other trainers' own code; nothing of it is installed beside ours. See docs/integrations.md.
PEER ?= openrlhf verl swift verifiers
integrations:
	set -e; for peer in $(PEER); do PYTHON="$(PYTHON)" integrations/run $$peer; done

wheel:
	PYTHON="$(PYTHON)" .ci/wheel

# Not constraints.txt but the newest of everything, except torch and torchvision: which build of them is taken (CPU,
# CUDA) depends on the index, and a newest one may exist for one of the two only. NEWEST_TESTS= narrows it.
NEWEST := .venv-newest
NEWEST_TESTS ?= tests/scorers tests/rewards tests/integrations tests/models tests/training
newest:
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	grep -E '^(torch|torchvision)==' constraints.txt > $(NEWEST)/pins.txt
	$(NEWEST)/bin/python -m pip install --quiet --constraint $(NEWEST)/pins.txt torch
	$(NEWEST)/bin/python -m pip install --quiet --constraint $(NEWEST)/pins.txt --editable '.[dev]'
	$(NEWEST)/bin/python -m pip freeze --exclude-editable | sed 's/+.*//' > $(NEWEST)/versions.txt
	@echo "newer than in constraints.txt:"; grep -vixFf constraints.txt $(NEWEST)/versions.txt || true
	OMP_NUM_THREADS=1 $(NEWEST)/bin/python -m pytest -n 2 --dist loadfile $(NEWEST_TESTS)

clean:
	rm -rf $(VENV) $(NEWEST) integrations/*/.venv build dist .mypy_cache .ruff_cache .pytest_cache
