# Each target works from a bare clone: it makes .venv from the lock first.
#   make train       generate a realistic data set and train on it
#   make test        the tests but the slow ones; SLOW=1 for all of them; in JOBS processes, by default 3
#   make newest      the dashboard's tests with the newest Dask and Bokeh, whatever the lock holds
#   make docs        the documentation as a site in site/; a broken link or any other warning is an error
#   make check       formatting, lint and types
#   make chaos       random faults against a training for MINUTES, each of which has to end as the table says
#   make lock        rewrite the lock files
#   make clean       remove what the other targets made

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK ?= requirements.lock
ROWS ?= 1000000
DATA := data/flights-$(ROWS)
MODEL := models/flights
MINUTES ?= 2
SEED ?= 1
JOBS ?= 3
MARKERS := not gpu$(if $(SLOW),, and not slow)

NEWEST := .venv-newest
DOCS := .venv-docs

.PHONY: train test newest docs check chaos format lock clean setup

train: $(STAMP) $(DATA)
	$(BIN)/pipeline train workflows/generated.toml --set data.source=$(CURDIR)/$(DATA) --out $(MODEL) --overwrite

$(DATA): | $(STAMP)
	$(BIN)/pipeline generate $@ --rows $(ROWS)

# Compiled first, also where PYTHONDONTWRITEBYTECODE is set: the tests start about a thousand processes.
test: $(STAMP)
	@$(BIN)/python -m compileall -q pipeline faults benchmarks tests
	$(BIN)/python -m pytest -q -n $(JOBS) -m "$(MARKERS)" $(ARGS)

# On top of the locked environment: what is newer comes first, all else is found there.
newest: $(STAMP)
	@[ -x $(NEWEST)/bin/python ] || $(BIN)/python -m venv $(NEWEST)
	@folder='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	echo "import site; site.addsitedir('$$($(BIN)/python -c "$$folder")')" > "$$($(NEWEST)/bin/python -c "$$folder")/lock.pth"
	@$(NEWEST)/bin/python -m pip install -qq --disable-pip-version-check --upgrade dask distributed bokeh
	$(NEWEST)/bin/python -c 'import bokeh, dask, distributed as d; print("dask", dask.__version__, "distributed", d.__version__, "bokeh", bokeh.__version__)'
	$(NEWEST)/bin/python -m pytest -q -n $(JOBS) -m "$(MARKERS)" tests/dashboard tests/monitoring tests/events $(ARGS)

docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

$(DOCS)/.installed: requirements-docs.lock tools/find_python.sh
	@rm -rf $(DOCS); "$$(tools/find_python.sh)" -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-docs.lock
	@touch $@

check: $(STAMP)
	$(BIN)/ruff format --check --quiet . || { echo "run: make format"; exit 1; }
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy

chaos: $(STAMP)
	$(BIN)/python -m benchmarks.chaos --minutes $(MINUTES) --seed $(SEED) --name "$(NAME)"

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock:
	tools/lock.sh

setup: $(STAMP)

# Two installs: pip refuses an editable package, which has no hash, together with --require-hashes.
$(STAMP): $(LOCK) pyproject.toml tools/find_python.sh
	@python=$$(tools/find_python.sh); \
	if ! $(BIN)/python -c 'import sys; raise SystemExit(sys.version_info < (3, 12))' 2>/dev/null; then \
	  echo "making $(VENV) with $$python"; rm -rf $(VENV); "$$python" -m venv $(VENV); \
	fi
	@echo "installing $(LOCK)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r $(LOCK)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) $(NEWEST) $(DOCS) site build data models predictions .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find pipeline benchmarks faults tests workflows tools -name __pycache__ -type d -prune -exec rm -rf {} +
