# `make demo` and `make test` start from a machine that has only python3.
PYTHON ?= python3
EXTRAS ?= dev,video
DEMO ?= demo
INSTALLED := .venv/installed-$(EXTRAS)

.PHONY: demo test lint clean

demo: $(INSTALLED)
	.venv/bin/python -m launch.demo --workdir=$(DEMO)

test: $(INSTALLED)
	.venv/bin/python -m pytest -n 2 --dist loadfile  # half of the time goes to compiling, one thread each

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# The stamp names the extras and depends on pyproject.toml: an old environment gets what is new.
$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf .venv demo
