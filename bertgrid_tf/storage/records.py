"""The records that a study keeps as JSON, and the line of its time table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, Field

from bertgrid_tf.corpus import Finding
from bertgrid_tf.hyperparameters import MOST_EPOCHS, Hyperparameters, LearningRate, Value
from bertgrid_tf.recipe import MOST_MEMBERS
from bertgrid_tf.trial_config import TrialConfig

Count = Annotated[int, Field(ge=0)]
Epoch = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1)]
TrialId = Annotated[str, Field(pattern=r"^\d{4,}$")]
_UNKNOWN = BeforeValidator(lambda text: None if text in ("", "nan") else text)

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
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    speakers: Mapping[str, Count]
    checkpoints: Mapping[str, str]
    versions: Mapping[str, str]
    hardware: str = ""
    classes: Mapping[str, Mapping[str, Count]] = field(default_factory=dict)
    findings: Sequence[Finding] = ()
    began: str = ""

    def shares(self) -> np.ndarray:
        """Return the share of each class in the training split, float64 [classes]."""
        texts = np.array([self.classes["train"][label] for label in self.labels])
        return texts / texts.sum()


@dataclass(frozen=True)
class TrackedStudy:
    """A study in experiment trackers (`tracking.json`).

    Attributes:
        id: Drawn once, so that a study in the same folder, moved or resumed, has the same runs there.
    """

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


@dataclass(frozen=True)
class SearchConfidence:
    """How sure a search that left cells out is of its best cell (`confidence.json`).

    Attributes:
        tied: Probability that it is within one standard error of the full grid's best.
    """

    tied: Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class FinalTrial:
    """The final model's trial (`final.json`).

    Attributes:
        hyperparameters: Hyperparameters of the final profile.
        schedule_epochs: Epochs over which the learning-rate schedule was spread.
        epochs: Dev metrics after each epoch trained; the last are the model's. Of several members they are those of the
            mean of their probabilities, and what is no score is a member's on average. Trained on dev too, it has none.
        gpus: GPUs that trained it together; 1 for the CPU too.
        members: Models whose mean it is.
    """

    hyperparameters: Hyperparameters
    schedule_epochs: Epoch
    epochs: Sequence[Mapping[str, float]]
    gpus: Annotated[int, Field(ge=1)] = 1
    members: Annotated[int, Field(ge=1, le=MOST_MEMBERS)] = 1

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
    """A trial after the search (`follow_up/NAME.json`): a seed of a tied row, an interaction check, a member.

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

    cells: Sequence[tuple[LearningRate, Epoch]]
    left_out: Sequence[tuple[LearningRate, Epoch]]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Mistake:
    """A text that the mean of models which were not trained on it labels otherwise (a line of `mistakes.csv`).

    Attributes:
        id: The source's id of the text; without one, its number in its split, from 1.
        context: The two utterances before it in its dialogue.
        text: The text.
        label: Its class in the data.
        predicted: The class with the highest mean probability over the runs.
        p_predicted: That probability.
        p_label: The mean probability of the label.
        contradicting: Runs that predict another class than the label.
        runs: All runs that count.
        kind: LIKELY_ERROR or HARD.
        split: The split that the text is of.
    """

    id: str
    context: str
    text: str
    label: str
    predicted: str
    p_predicted: Probability
    p_label: Probability
    contradicting: Count
    runs: Count
    kind: MistakeKind
    split: Literal["dev", "train"] = "dev"


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
    at_beginning: Annotated[Seconds | None, _UNKNOWN] = None
    after_first_epoch: Annotated[Seconds | None, _UNKNOWN] = None
    measured: Seconds = 0.0


class CellLine(BaseModel, extra="allow"):
    """A line of `cells.csv`: a cell of the grid with its metrics after this epoch, NaN where it diverged."""

    __pydantic_extra__: dict[str, float]
    learning_rate: LearningRate
    epoch: Epoch
    trial_id: TrialId
    train_seconds: Seconds


class SweepLine(BaseModel):
    """A line of `sweeps.csv`: a level of a sweep, with the epoch and score of its best epoch where it has one."""

    parameter: str
    level: str
    epoch: Annotated[Epoch | None, _UNKNOWN]
    score: float
    chosen: Literal["True", "False"]
    trial_id: Annotated[TrialId | None, _UNKNOWN]
    status: str
    overruled: Literal["True", "False"]


class LengthLine(BaseModel):
    """A line of `lengths.csv`: how many texts have how many tokens."""

    tokens: Count
    texts: Count


class EvaluationLine(BaseModel):
    """A line of `evaluations.csv`, of which the metrics and the classes' counts are not read."""

    opened: str
    split: str
    of: str


class _Values(BaseModel):
    values: dict[str, Value]


class TrialRecord(BaseModel):
    """KerasTuner's record of a trial (`trial_*/trial.json`), as far as it is read without KerasTuner."""

    trial_id: TrialId
    hyperparameters: _Values
    status: str
    score: float | None
    best_step: Count
