"""Fixtures that the tests of several rooms share: the real corpora, a bank, models."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# The tests run in a process for each core. A variable, for the processes that tests start.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

# A first example pays for imports and traces; time is measured in benchmarks, never in tests.
hypothesis.settings.register_profile("bertgrid", deadline=None, max_examples=50)
hypothesis.settings.load_profile("bertgrid")

# Of two processes that share the files out, none is to begin one of these when the other has nothing left.
SLOWEST = (
    "test_workers.py",
    "test_study.py",
    "test_stops.py",
    "test_replicas.py",
    "test_ray_hosts.py",
    "test_cli_study.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in SLOWEST)


def pytest_collection_finish() -> None:
    # What is imported by now stays: to look through all of it takes every collection half a second.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bank that gets the tables of the tests' studies, in place of the user's own."""
    folder = tmp_path_factory.mktemp("bank")
    os.environ["BERTGRID_BANK"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def models() -> Iterator[None]:
    """The models of all studies in this process (`shared_models`)."""
    if "tensorflow" not in sys.modules:  # whose import takes longer than the few tests that need none of it
        yield
        return
    from shared_models import share_models

    with share_models():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real corpora (`friends/`, `nsmc/`), named by BERTGRID_TEST_DATA; skips where it is absent."""
    folder = os.environ.get("BERTGRID_TEST_DATA")
    if not folder or not (Path(folder) / "friends").is_dir():
        pytest.skip("set BERTGRID_TEST_DATA to a folder with friends/ and nsmc/ to run the tests on the real corpora")
    return Path(folder)
