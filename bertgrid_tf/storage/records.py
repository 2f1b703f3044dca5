"""The records that a study keeps as JSON, and the line of its time table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bertgrid_tf.corpus import Finding
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.trial_config import TrialConfig

MistakeKind = Literal["likely label error", "hard"]
LIKELY_ERROR: MistakeKind = "likely label error"
HARD: MistakeKind = "hard"


@dataclass(frozen=True)
class StudyMetadata:
    """The data, checkpoints, libraries and machine of a study (`study.json`).

    Attributes:
        fingerprint: Fingerprint of the corpus (`Corpus.fingerprint`).
        labels: Class names in the order of their ids.
        speakers: Utterances per speaker in the training split.
        checkpoints: Hash of each model of the search (`bert.checkpoint.identity`).
        versions: Versions of bertgrid-tf and of the libraries that the numbers depend on.
        hardware: Devices and host, in words.
        classes: Utterances per class in train and in dev.
        findings: What in the data is probably not as it should be, the gravest first.
        began: When the study began, UTC, in ISO 8601; empty if unknown.
    """

    fingerprint: str
    labels: tuple[str, ...]
    speakers: Mapping[str, int]
    checkpoints: Mapping[str, str]
    versions: Mapping[str, str]
    hardware: str = ""
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    began: str = ""

    def shares(self) -> np.ndarray:
        """Return the share of each class in the training split, float64 [classes]."""
        texts = np.array([self.classes["train"][label] for label in self.labels])
        return texts / texts.sum()


@dataclass(frozen=True)
class FinalTrial:
    """The final model's trial (`final.json`).

    Attributes:
        hyperparameters: Hyperparameters of the final profile.
        schedule_epochs: Epochs over which the learning-rate schedule was spread.
        epochs: Dev metrics after each epoch trained; the last are the model's.
        gpus: GPUs that trained it together; 1 for the CPU too.
    """

    hyperparameters: Hyperparameters
    schedule_epochs: int
    epochs: Sequence[Mapping[str, float]]
    gpus: int = 1

    @property
    def model(self) -> str:
        """The checkpoint that was fine-tuned."""
        return self.hyperparameters.model


@dataclass(frozen=True)
class MeasuredSetting:
    """The measured value of an `auto` setting (`auto_settings.json`).

    Attributes:
        value: The value.
        of: Inputs of the measurement; for others the value is measured anew.
        on: Name of the device.
        because: The reason, a clause whose subject is the value.
        curve: The measurements, a line each, every line with the same columns.
    """

    value: Value
    of: Mapping[str, Value]
    on: str
    because: str
    curve: Sequence[Mapping[str, Value]]


@dataclass(frozen=True)
class FollowUpTrial:
    """A trial after the search (`follow_up/NAME.json`): another seed of a tied row, or an interaction check.

    Attributes:
        name: Name of its predictions, and of its folder while it runs.
        config: Its configuration.
        epochs: Dev metrics after each epoch, up to the last or until it diverged; empty before it has ended.
    """

    name: str
    config: TrialConfig
    epochs: Sequence[Mapping[str, float]] = ()


@dataclass(frozen=True)
class Soup:
    """The average of the weights of several rows (`soup.json`).

    Attributes:
        cells: Learning rate and epoch of each row that was averaged, the best first.
        left_out: Learning rate and epoch of each row that was not.
        metrics: Dev metrics of the average.
    """

    cells: Sequence[tuple[float, int]]
    left_out: Sequence[tuple[float, int]]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Mistake:
    """A dev text that the mean of a study's runs labels otherwise (a line of `mistakes.csv`).

    Attributes:
        id: The source's id of the text; without one, its number in dev, from 1.
        context: The two utterances before it in its dialogue.
        text: The text.
        label: Its class in the data.
        predicted: The class with the highest mean probability over the runs.
        p_predicted: That probability.
        p_label: The mean probability of the label.
        contradicting: Runs that predict another class than the label.
        runs: All runs that count.
        kind: LIKELY_ERROR or HARD.
    """

    id: str
    context: str
    text: str
    label: str
    predicted: str
    p_predicted: float
    p_label: float
    contradicting: int
    runs: int
    kind: MistakeKind


@dataclass
class StageTime:
    """Predicted and measured time of a stage over all sessions, in seconds (a line of `times.csv`).

    Attributes:
        stage: Name of the stage.
        at_beginning: Prediction at the stage's beginning; of the first stage, after its first steps.
        after_first_epoch: Prediction after the first epoch of the study.
        measured: Measured time, without that of a killed session's unfinished epoch.
    """

    stage: str
    at_beginning: float | None = None
    after_first_epoch: float | None = None
    measured: float = 0.0
