# Everything is installed into .venv; a stamp file there stands for each set of packages, so that a
# second call goes straight to work.
VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip install --quiet --quiet --progress-bar off --no-input --disable-pip-version-check -c constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: help demo test test-long notebooks lint docs clean

help:
	@echo "make demo       synthetic landscape to hyperspectral cube, metrics and picture in demo/"
	@echo "make test       the tests, without the long ones and those that need a GPU"
	@echo "make test-long  the long tests"
	@echo "make notebooks  run the notebooks"
	@echo "make lint       format, lint, types and layers"
	@echo "make docs       the documentation in site/, warnings are errors"
	@echo "make clean      remove .venv and everything that was built"

demo: $(VENV)/base.stamp
	$(VENV)/bin/pixelssr-geo demo demo --overwrite

test: $(VENV)/test.stamp
	$(PYTHON) -m pytest -m "not long and not gpu"

test-long: $(VENV)/test.stamp
	$(PYTHON) -m pytest -m "long and not gpu"

notebooks: $(VENV)/test.stamp
	$(PYTHON) -m pytest --nbmake notebooks

lint: $(VENV)/lint.stamp
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/ruff check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

docs: $(VENV)/docs.stamp
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet --config-file docs/mkdocs.yml

clean:
	rm -rf $(VENV) build dist site demo *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

$(VENV)/base.stamp: $(VENV)/made.stamp $(SOURCES)
	$(PIP) -e .
	@touch $@

$(VENV)/test.stamp: $(VENV)/made.stamp $(SOURCES)
	$(PIP) -e ".[test]"
	@touch $@

$(VENV)/lint.stamp: $(VENV)/made.stamp $(SOURCES)
	$(PIP) -e ".[test,lint]"
	@touch $@

$(VENV)/docs.stamp: $(VENV)/made.stamp $(SOURCES)
	$(PIP) -e ".[docs]"
	@touch $@

# A command may be there and not work (a version manager's stand-in, a Python without ensurepip).
$(VENV)/made.stamp:
	@for python in python3.13 python3.12 python3.11 python3; do \
		if $$python -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			$$python -m venv $(VENV) && touch $@; exit; \
		fi; \
	done; \
	echo "no Python 3.11 or newer with venv was found: install one, or put it on the PATH" >&2; exit 1
