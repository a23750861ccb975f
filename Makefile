# Each target sets up what it needs, again and again without harm.
#   make demo    a town, its map and a page to look at
#   make test    all that must be green: lint, types, and every test but the slow ones, with coverage
#   make fast    lint, types, and the tests of the rooms that need no training: under two minutes
#   make docs    the site of docs/, in docs/_build/html: open index.html there; its notebooks train
#                small models, which takes some minutes
#   make bench   what is aimed at in speed and memory, and what is reached

PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed

# Pure functions, files and small networks. Left out is what trains, starts processes or servers, or
# runs the pages of the documentation.
FAST = tests/geo tests/style tests/networks tests/raster tests/data tests/evaluation tests/model \
	tests/test_atomic.py tests/test_errors.py tests/test_journal.py tests/test_legend.py \
	tests/test_progress.py tests/test_recipe.py

.PHONY: demo web test fast lint types test-slow docs bench format clean

demo: $(INSTALLED)
	$(VENV)/bin/sat2map demo

web:
	cd web && npm ci --no-audit --no-fund && npm run build

test: lint types
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --cov --cov-report=term

fast: lint types
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 $(FAST)

lint: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/lint-imports

types: $(INSTALLED)
	$(VENV)/bin/mypy

test-slow: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m slow

docs: $(INSTALLED)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/python -m sphinx -W --keep-going -n -q -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: $(INSTALLED)
	$(VENV)/bin/python benchmarks/bars.py --json bench.json

format: $(INSTALLED)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) demo build dist docs/_build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The stamp is written last, so an installation that was broken off is done again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@
