# make demo [ROOT=folder]   from data to a cloud-free scene, on ROOT or a simulated world
# make test                 run the tests
# make lint                 check style and types
# make docs                 make the documentation, docs/_build/html/index.html

PYTHON := $(shell for python in python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
	&& echo $$python && break; done)

.PHONY: demo test lint docs

demo: .venv/installed
	.venv/bin/planetcr demo $(if $(ROOT),--root '$(ROOT)')

test: .venv/installed
	.venv/bin/python -m pytest

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/ty check

# All pages are read again, because a warning of the last time would not come back otherwise;
# what notebooks gave is kept as long as they and the package stay the same.
docs: .venv/installed
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/sphinx-build --builder html --fresh-env \
		--fail-on-warning --keep-going docs docs/_build/html

.venv/installed: pyproject.toml
ifeq ($(PYTHON),)
	@echo 'TorchGeo needs Python 3.12 or newer, and none was found: install it' >&2
	@echo '(https://www.python.org/downloads/) and run the same command again.' >&2
	@exit 1
else
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --editable '.[style,tests,docs]'
	touch .venv/installed
endif
