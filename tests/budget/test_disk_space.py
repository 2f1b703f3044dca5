"""The disk that a study is said to take, beside what one takes."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_study import Recorder, corpus_of, run, tiny

from bertgrid_tf.budget.disk_space import STATE, DiskSpace, disk_space
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.study.preparation import check_space
from bertgrid_tf.trial_config import TrialConfig

WEIGHTS = 4 * 10**7


class Scales(Recorder):
    """Weighs the study folder after every epoch and before every trial."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.most = 0

    def weigh(self) -> int:
        self.most = max(self.most, sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()))
        return self.most

    def on_trial_begin(self, trial: str, config: TrialConfig, steps: int) -> None:
        super().on_trial_begin(trial, config, steps)
        self.weigh()

    def on_epoch_end(self, trial: str, epoch: int, metrics: Mapping[str, float]) -> None:
        super().on_epoch_end(trial, epoch, metrics)
        self.weigh()


GOES_ON = {"lr_schedule": "constant", "warmup_ratio": 0.0}
ROWS = [1e-3 / 2**n for n in range(70)]


@pytest.mark.parametrize(
    "overrides",
    [{"soup": False}, {"lr_schedule": "inverse_sqrt", "soup": True}],
    ids=["plain", "states and a soup"],
)
def test_a_study_takes_the_disk_that_it_is_said_to(overrides, monkeypatch, tmp_path):
    recipe = tiny(**{"sweeps": {}, "final.model": "none"} | overrides)
    scales = Scales(tmp_path / "study")
    run(tmp_path / "study", recipe, callback=scales)
    monkeypatch.setattr(
        "bertgrid_tf.budget.disk_space._weights",
        lambda models, corpus: (tmp_path / "study/model/model.safetensors").stat().st_size if models else 0,
    )
    space = disk_space(recipe, corpus_of(recipe))
    assert scales.most < space.most
    counted = ("*.npz", "*.safetensors", "predictions/*.csv")
    files = [file for name in counted for file in (tmp_path / "study").rglob(name)]
    # Tiny arrays have their headers, too.
    assert space.kept / 1.3 < sum(file.stat().st_size for file in files) < 1.1 * space.kept


def sized(monkeypatch: pytest.MonkeyPatch, **overrides: object) -> tuple[float, float]:
    """The forecast in times the weights of a model."""
    monkeypatch.setattr("bertgrid_tf.budget.disk_space._weights", lambda models, corpus: WEIGHTS if models else 0)
    recipe = tiny(**{"sweeps": {}, "final.model": "none"} | overrides)
    space = disk_space(recipe, corpus_of(recipe))
    return space.most // WEIGHTS, space.kept // WEIGHTS


def test_a_running_trial_has_two_states_and_the_best_epoch_s_weights(monkeypatch):
    assert sized(monkeypatch) == (1 + 2 * (STATE + 1), 1)


def test_the_states_of_rows_that_can_go_on_stay(monkeypatch):
    states = len(ROWS) * STATE
    assert sized(monkeypatch, learning_rates=ROWS, **GOES_ON) == (states + 1 + 2 * (STATE + 1), states + 1)
    branched = states + len(ROWS)
    assert sized(monkeypatch, learning_rates=ROWS, lr_schedule="inverse_sqrt")[1] == branched + 1


def test_a_soup_keeps_the_weights_of_every_trial(monkeypatch):
    assert sized(monkeypatch, learning_rates=ROWS, soup=True) == (len(ROWS) + 2 * (STATE + 1), 2)


def test_a_disk_with_too_little_room_is_a_warning(monkeypatch, tmp_path):
    (tmp_path / "held").write_bytes(bytes(1000))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9_000))
    messages: list[str] = []
    check_space(StudyFolder(tmp_path), DiskSpace(10_000, 10_000), messages.append)
    assert not messages
    check_space(StudyFolder(tmp_path), DiskSpace(10_001, 10_000), messages.append)
    assert messages[0].startswith(f"The study may take 0 MB on disk, and {tmp_path} has room for 0 MB: make room, or ")
