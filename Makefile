# make tune   tune the embedded sample: sweeps, learning-rate x epoch grid, final model (no network, no GPU)
# make test   run the test suite
# make lint   check format, lint and types
# make lock   renew the pinned versions in docker/
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install tune test lint lock clean

install: $(VENV)/.installed

$(VENV)/.installed: docker/requirements-test.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r docker/requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

tune: install
	$(BIN)/bertgrid-tf tune sample

test: install
	$(BIN)/pytest

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" setup.cfg -o docker/requirements.lock
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-annotate \
		--custom-compile-command "make lock" --extra test --extra dev -c docker/requirements.lock \
		setup.cfg -o docker/requirements-test.lock

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
