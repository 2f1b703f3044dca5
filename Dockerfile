# bertgrid-tf in a container: `docker build -t bertgrid-tf .`, or without CUDA's libraries --build-arg VARIANT=cpu.
# Stages: base (Python and the locked libraries) ▶ wheel (this project, built) ▶ runtime ▶ test (runtime and pytest).
# docs/container.md is the manual.

# Debian 13 has Python 3.13. A mirror's copy, one with certificates of your own, or debian:bookworm-slim with Python 3.11
# can stand in for it.
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BASE_IMAGE} AS base
# No versions here: within a Debian release they change for security fixes only, and the old ones leave the mirrors.
# fonts-nanum has Hangul for the figures.
# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -y -q --no-install-recommends ca-certificates fonts-nanum python3 python3-venv tini \
    && apt-get clean \
    && rm -rf /var/lib/apt/lists/*
ENV LANG=C.UTF-8 \
    PATH=/opt/bertgrid/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
ARG VARIANT=gpu
# Only for a package mirror of your own.
ARG PIP_INDEX_URL
COPY docker/requirements-${VARIANT}.lock /opt/bertgrid/requirements.lock
# pip compiles the bytecode, which no later user could write. The removed files serve compilers and Java only:
# TensorFlow's headers, libclang, Ray's jars. 0.4 GB; the packages import and work without.
RUN python3 -m venv /opt/bertgrid \
    && pip install --require-hashes -r /opt/bertgrid/requirements.lock \
    && packages=$(echo /opt/bertgrid/lib/python3.*/site-packages) \
    && rm -r "$packages/tensorflow/include" "$packages/clang/native" "$packages/ray/jars"
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="bertgrid-tf" \
      org.opencontainers.image.description="Time-efficient tuning of BERT text classifiers" \
      org.opencontainers.image.version="${VERSION}"

FROM base AS wheel
COPY setup.cfg pyproject.toml README.md LICENSE /source/
COPY bertgrid_tf /source/bertgrid_tf
COPY tuners /source/tuners
# Built with the locked setuptools, without asking the network for another.
# hadolint ignore=DL3013
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels /source \
    && pip install --no-deps --no-index --find-links /wheels --prefix /installed bertgrid-tf

FROM base AS runtime
# Any user (--user UID:GID) may write into the volumes. /usr/local/bin is on the paths that replace the image's own: a
# login shell's and cluster managers'. python is no link, since it locates its libraries by its own path.
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp --shell /bin/bash bertgrid \
    && install -d -m 1777 /datasets /results /cache \
    && ln -s /opt/bertgrid/bin/bertgrid-tf /opt/bertgrid/bin/ray /usr/local/bin/ \
    && printf '#!/bin/sh\nexec /opt/bertgrid/bin/python "$@"\n' >/usr/local/bin/python \
    && chmod 755 /usr/local/bin/python
COPY --from=wheel /installed /opt/bertgrid
# HOME is the one folder that every user can write, on a read-only root filesystem too (--tmpfs /tmp). USER is the name
# of users without an entry in /etc/passwd. `serve` listens where a published port leads, which is not the container's
# own 127.0.0.1. The last two have NVIDIA's container runtime mount the driver.
ENV BERTGRID_DATA=/datasets \
    BERTGRID_RESULTS=/results \
    BERTGRID_HTTP_HOST=0.0.0.0 \
    HF_HOME=/cache \
    HOME=/tmp \
    USER=bertgrid \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/datasets", "/results", "/cache"]
WORKDIR /results
USER 1000:1000
# tini is process 1, which forwards `docker stop` and Ctrl-C: a study then stops cleanly, and exits with 130.
ENTRYPOINT ["/usr/bin/tini", "--", "bertgrid-tf"]
CMD ["--help"]

FROM runtime AS test
USER 0
COPY docker/requirements-test.lock /opt/bertgrid/
RUN pip install --require-hashes -r /opt/bertgrid/requirements-test.lock
COPY . /checkout
WORKDIR /checkout
# The checkout's packages are links to the installed ones, so that the tests run against the shipped code.
RUN rm -r bertgrid_tf tuners \
    && packages=$(echo /opt/bertgrid/lib/python3.*/site-packages) \
    && ln -s "$packages/bertgrid_tf" "$packages/tuners" .
USER 1000:1000
# Tests name their own folders and addresses.
ENV BERTGRID_DATA= \
    BERTGRID_RESULTS= \
    BERTGRID_HTTP_HOST= \
    HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
ENTRYPOINT ["/usr/bin/tini", "--", "pytest"]
CMD ["-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile"]

# The last stage is the default target of `docker build .`.
FROM runtime
