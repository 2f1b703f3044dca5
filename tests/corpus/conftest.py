"""What the tests of corpus/ share: small files, and how a refusal must read."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bertgrid_tf.errors import UserError

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file of the given name and content and returns its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


@pytest.fixture
def refusal() -> Callable[..., None]:
    """Calls what must be refused and checks that the refusal is one sentence that names all `parts`."""

    def check(call: Callable[[], object], *parts: object) -> None:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        for part in parts:
            assert str(part) in message
        assert message.endswith(".")
        assert "\n" not in message
        assert not re.search(r"[.!?] [A-Z]", message), f"more than one sentence: {message}"

    return check
