# `make demo` and `make test` start from a machine that has only python3.
PYTHON ?= python3
EXTRAS ?= dev,video
DEMO ?= demo

.PHONY: demo test lint clean

demo: .venv/installed
	.venv/bin/python -m launch.demo --workdir=$(DEMO)

test: .venv/installed
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The stamp depends on pyproject.toml: new dependencies are installed, old environments reused.
.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf .venv demo
