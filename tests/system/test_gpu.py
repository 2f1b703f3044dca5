"""The driver's description of the GPUs, and every reason why TensorFlow lists none, on a machine without one."""

from dataclasses import replace

import pynvml
import pytest
from made_up_gpus import give_driver

from bertgrid_tf.errors import UserError
from bertgrid_tf.system.gpu import Driver, explain_missing_gpu, parse_memory, query_driver

CUDA = 12
DRIVER = Driver("550.90", CUDA, (("A10", 1), ("A10", 1)))
START = "start it with `docker run --gpus all …` (the host needs the NVIDIA Container Toolkit)"
NO_CUDA = "there is an NVIDIA GPU, but TensorFlow has no CUDA libraries; "
HIDDEN = "CUDA_VISIBLE_DEVICES={!r} hides the GPUs; unset it, or name some of `nvidia-smi -L`"
UNKNOWN = (
    "TensorFlow lists no GPU, though the driver and CUDA's libraries are here; read its log: `TF_CPP_MIN_LOG_LEVEL=0"
)
LAPTOP = "there is no NVIDIA GPU here, or no driver for it"
CONTAINER = "this container was started without a GPU"


@pytest.mark.parametrize(
    "facts, sentence",
    [
        ((CUDA, None), LAPTOP),
        ((CUDA, Driver("550.90", CUDA)), LAPTOP),
        ((None, None, "docker"), CONTAINER),
        ((CUDA, None, "docker"), f"{CONTAINER}; if the host has one, {START}"),
        ((None, None, "docker", True), f"{CONTAINER}; if the host has one, use the gpu image, and {START}"),
        ((None, DRIVER), f"{NO_CUDA}install the extra `gpu` of bertgrid-tf"),
        ((None, DRIVER, "docker"), f"{NO_CUDA}use the gpu image"),
        (
            (CUDA, replace(DRIVER, version="470", cuda=11), "docker"),
            "the NVIDIA driver 470 supports CUDA 11, and TensorFlow needs CUDA 12; install a newer driver on the host",
        ),
        (
            (CUDA, Driver(error="Unknown Error")),
            "the NVIDIA driver does not start (Unknown Error); restart the machine, and run `nvidia-smi`",
        ),
        *(((CUDA, DRIVER, None, True, visible), HIDDEN.format(visible)) for visible in ("-1", "", "2,0")),
        *(((CUDA, DRIVER, None, True, visible), UNKNOWN) for visible in (None, "1", " 0,7", "GPU-8a1b", "MIG-8a1b")),
    ],
)
def test_every_reason_has_its_sentence_and_what_can_be_mended_needs_attention(facts, sentence):
    found = explain_missing_gpu(*facts)
    assert str(found).startswith(sentence)
    assert found.needs_attention == (sentence not in (LAPTOP, CONTAINER))


@pytest.mark.parametrize("runtime", ["docker", "podman", "apptainer", "kubernetes"])
def test_every_container_runtime_has_a_way_to_gpus(runtime):
    assert explain_missing_gpu(CUDA, None, runtime).needs_attention


def test_the_driver_describes_itself_and_its_gpus(monkeypatch):
    give_driver(monkeypatch, ("A10", 24), ("T4", 16), ("A10", 12), ("GB10", None))
    driver = query_driver()
    assert driver is not None
    assert (driver.version, driver.cuda, len(driver.gpus)) == ("550.90.07", 12, 4)
    assert [driver.memory(name) for name in ("A10", "T4", "GB10", "A10 MIG 1g.5gb")] == [12, 16, None, None]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, None),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, None),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, Driver(error="RM has detected an NVML/RM version mismatch.")),
    ],
)
def test_a_driver_that_does_not_start_is_distinguished_from_none(monkeypatch, error, expected):
    def fails() -> None:
        raise pynvml.NVMLError(error)

    give_driver(monkeypatch)
    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    assert query_driver() == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16GB", 16 * 10**9),
        ("16g", 16 * 10**9),
        (" 16 GiB ", 16 * 2**30),
        ("14500MiB", 14_500 * 2**20),
        ("1MiB", 2**20),
    ],
)
def test_memory_is_read_with_its_unit(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "16", "GB", "16XB", "-1GB", "1,5GB", "nan GB", "0GB", "0.5MB"])
def test_memory_that_is_no_size_or_a_tiny_one_is_refused(text):
    with pytest.raises(UserError, match=f"^--gpu-memory '{text}' is not a size of at least 1 MiB: write it as 16GB, "):
        parse_memory(text)
