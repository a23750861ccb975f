# make demo · make test · make bench: each sets up what it needs, again and again without harm.

PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed

.PHONY: demo test test-slow bench format clean

demo: $(INSTALLED)
	$(VENV)/bin/sat2map demo

test: $(INSTALLED)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses 2 --cov --cov-report=term

test-slow: $(INSTALLED)
	$(VENV)/bin/python -m pytest -m slow

bench: $(INSTALLED)
	$(VENV)/bin/python benchmarks/all.py --json bench.json

format: $(INSTALLED)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

clean:
	rm -rf $(VENV) demo build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The stamp is written last, so an installation that was broken off is done again.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	touch $@
