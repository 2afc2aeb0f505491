# make demo [ROOT=folder]   from data to a cloud-free scene, on ROOT or a simulated world
# make test                 run the fast tests on all cores
# make test-all             run all tests: also those with a browser, notebooks, several processes
# make test-minimum         run the fast tests with the oldest versions that pyproject.toml allows
# make faults [SEED=0]      run the large campaign of faults, and print what came of it
# make coverage             run the fast tests, and list the lines that none of them reaches
# make lint                 check style, spelling and types
# make docs                 make the documentation, docs/_build/html/index.html

PYTHON := $(shell for python in python3.12 python3.13 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null \
	&& echo $$python && break; done)

FAST := -m pytest --numprocesses auto -m 'not slow'

# Each number tries other faults
SEED := 0

.PHONY: demo test test-all test-minimum faults coverage lint docs

demo: .venv/installed
	.venv/bin/planetcr demo $(if $(ROOT),--root '$(ROOT)')

test: .venv/installed
	.venv/bin/python $(FAST)

test-all: .venv/installed
	.venv/bin/python -m pytest --numprocesses auto

test-minimum: .venv-minimum/installed
	.venv-minimum/bin/python $(FAST)

faults: .venv/installed
	.venv/bin/python -m pytest --numprocesses auto tests/faults --faults 1200 \
		--fault-seed $(SEED) --all-faults

coverage: .venv/installed
	.venv/bin/python $(FAST) --cov --cov-fail-under=97

lint: .venv/installed
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/codespell
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

# The oldest versions have wheels for the oldest Python alone
.venv-minimum/installed: pyproject.toml tests/minimum_versions.py
	python3.12 -m venv --clear .venv-minimum
	.venv-minimum/bin/python tests/minimum_versions.py > .venv-minimum/constraints.txt
	.venv-minimum/bin/python -m pip install --constraint .venv-minimum/constraints.txt \
		--editable '.[tests]'
	touch .venv-minimum/installed
