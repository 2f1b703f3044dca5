"""A function in a child process: its result, its errors, and what it has sent where it is killed."""

import os
import signal
from pathlib import Path

import pytest

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.isolated_process import Send, run_isolated


def double(number: int, send: Send) -> int:
    print("Libraries print.")
    return 2 * number


def refuse(name: str, send: Send) -> None:
    raise UserError(f"{name} is not a checkpoint.")


def divide(number: int, send: Send) -> float:
    return number / 0


def die(sent: list[list[int]], send: Send) -> None:
    """Die as a process does that the kernel kills for its memory."""
    for result in sent:
        send(result)
    os.kill(os.getpid(), signal.SIGKILL)


def run_out_of_memory(sent: list[int], send: Send) -> None:
    send(sent)
    raise MemoryError


@pytest.fixture(autouse=True)
def of_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the children find the functions above."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))


def test_what_a_function_returns_comes_back():
    assert run_isolated(double, 21) == 42


def test_a_user_s_error_is_raised_in_the_parent_and_any_other_names_the_function_and_its_cause():
    with pytest.raises(UserError, match=r"^here is not a checkpoint\.$"):
        run_isolated(refuse, "here")
    with pytest.raises(RuntimeError, match=r"runs divide failed:\n(.|\n)*ZeroDivisionError"):
        run_isolated(divide, 1)


def test_a_child_that_is_killed_or_out_of_memory_leaves_what_it_sent_last():
    assert run_isolated(die, [[1], [1, 2]]) == [1, 2]
    assert run_isolated(die, []) is None
    assert run_isolated(run_out_of_memory, [1]) == [1]
