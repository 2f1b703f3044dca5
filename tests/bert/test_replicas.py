"""Several devices that train one model: here, in a process whose CPU is three of them; and a host that has but one."""

import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from bertgrid_tf.bert.replicas import replica_count, strategy
from bertgrid_tf.errors import UserError

THREE_DEVICES = Path(__file__).with_name("three_devices.py")


# Of several minutes where cores are scarce.
@pytest.mark.timeout(900)
def test_several_devices_train_as_one():
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(THREE_DEVICES)]
    done = subprocess.run(pytest_, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def only_the_cpu() -> None:
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this host has a GPU")


def test_on_a_host_without_a_gpu_one_or_all_is_the_cpu(only_the_cpu):
    assert replica_count(1) == replica_count("all") == 1
    with pytest.raises(UserError) as refused:
        replica_count(2)
    assert str(refused.value) == (
        "The final model cannot be trained on 2 GPUs, since TensorFlow sees no GPU: choose --final-gpus 1 or all."
    )


def test_a_single_device_is_not_wrapped():
    assert not tf.distribute.has_strategy()
    assert strategy(1) is tf.distribute.get_strategy()
