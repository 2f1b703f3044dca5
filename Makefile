# make tune        tune the embedded sample: sweeps, learning-rate x epoch grid, final model (no network, no GPU)
# make test        run the test suite
# make lint        check format, lint and types, the Dockerfile and the shell scripts
# make docs        build the documentation and its API reference into site/
# make lock        renew the pinned versions in docker/
# make image       build the container image, with VARIANT=cpu without CUDA's libraries
# make image-test  build it from nothing and test it, docker stop and all
PYTHON ?= python3.11
VARIANT ?= gpu
DOCKER ?= docker
VENV := .venv
BIN := $(VENV)/bin
COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --extra files --extra ray setup.cfg

.PHONY: install tune test lint docs lock image image-test clean

install: $(VENV)/.installed

$(VENV)/.installed: docker/requirements-test.lock setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r docker/requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

tune: install
	$(BIN)/bertgrid-tf tune sample

test: install
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck docker/run docker/test docker/slurm/study.sbatch .ci/run

docs: install
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r docker/requirements-docs.lock
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The other locks are constrained to the CPU image's versions, so that all of them give the same numbers.
lock:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --upgrade -o docker/requirements-cpu.lock
	$(COMPILE) --upgrade -c docker/requirements-cpu.lock --extra gpu -o docker/requirements-gpu.lock
	$(COMPILE) --upgrade -c docker/requirements-cpu.lock --extra test --extra dev -o docker/requirements-test.lock
	$(COMPILE) --upgrade -c docker/requirements-test.lock --extra docs -o docker/requirements-docs.lock

image:
	$(DOCKER) build --build-arg VARIANT=$(VARIANT) --target runtime $(BERTGRID_DOCKER_BUILD_ARGS) \
		-t bertgrid-tf:$(VARIANT) -t bertgrid-tf .

image-test:
	docker/test

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
