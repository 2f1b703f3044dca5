"""What the tests of the tuners share."""

import os

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """fsync guards against power cuts, which no test makes; a kill loses nothing that was written."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
