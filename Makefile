# make tune        tune the embedded sample: sweeps, learning-rate x epoch grid, final model (no network, no GPU)
# make test        run the test suite
# make campaign    an hour of kills, full disks, damaged files and absurd input, before every release
# make lint        check format, lint and types, the Dockerfile and the shell scripts
# make mutants     put 300 small faults into the heart of the code, one by one: does a test fail for each?
# make docs        build the documentation and its API reference into site/
# make lock        renew the pinned versions in docker/
# make image       build the container image, with VARIANT=cpu without CUDA's libraries
# make image-test  build it from nothing and test it, docker stop and all
PYTHON ?= python3
VARIANT ?= gpu
DOCKER ?= docker
VENV := .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# An environment of another Python is not taken for this one's.
INSTALLED := $(VENV)/.installed-$(VERSION)
# One lock for every Python: where versions differ, markers choose.
COMPILE = build/uv/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" --extra files --extra ray --extra serve setup.cfg

MUTATION := build/mutants/packages

.PHONY: install tune test campaign mutants lint docs lock image image-test clean

install: $(INSTALLED)

$(INSTALLED): docker/requirements-test.lock setup.cfg pyproject.toml
	$(if $(filter 3.10 3.11 3.12 3.13,$(VERSION)),,$(error bertgrid-tf needs Python 3.10 to 3.13, and $(PYTHON) is \
$(if $(VERSION),Python $(VERSION),no Python): name one, as in `make $(or $(MAKECMDGOALS),tune) PYTHON=python3.12`))
	@test -e $@ || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r docker/requirements-test.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

tune: install
	$(BIN)/bertgrid-tf tune sample

test: install
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# Their own folder: nothing else needs them.
$(MUTATION):
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target $@ mutmut==3.8.1 libcst==1.9.0 coverage==7.17.5

mutants: install $(MUTATION)
	PYTHONPATH=$(CURDIR)/$(MUTATION) nice $(BIN)/python -m tests.mutants $(ARGUMENTS)

campaign: install
	$(BIN)/python -m tests.campaign --minutes 60

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
	$(PYTHON) -m venv build/uv
	build/uv/bin/pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --upgrade -o docker/requirements-cpu.lock
	$(COMPILE) --upgrade -c docker/requirements-cpu.lock --extra gpu -o docker/requirements-gpu.lock
	$(COMPILE) --upgrade -c docker/requirements-cpu.lock --extra onnx --extra mlflow --extra wandb \
		--extra test --extra dev -o docker/requirements-test.lock
	$(COMPILE) --upgrade -c docker/requirements-test.lock --extra docs -o docker/requirements-docs.lock

image:
	$(DOCKER) build --build-arg VARIANT=$(VARIANT) --target runtime $(BERTGRID_DOCKER_BUILD_ARGS) \
		-t bertgrid-tf:$(VARIANT) -t bertgrid-tf .

image-test:
	docker/test

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
