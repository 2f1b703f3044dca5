"""What one training run is made of, from the recipe to the training step."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from typing_extensions import Self

from bertgrid_tf.hyperparameters import Hyperparameters, Value

GRID, SEEDS, INTERACTIONS, FINAL, SOUP = "grid", "seeds", "interactions", "final", "soup"
"""The stages of a study, besides `sweep:PARAMETER`; "soup" trains nothing."""
AFTER_SEARCH = (SEEDS, INTERACTIONS, FINAL)
"""The stages after the search, whose length depends on what wins."""


@dataclass(frozen=True)
class TrialConfig:
    """The configuration of one trial.

    Attributes:
        hyperparameters: One value for each.
        schedule_epochs: Epochs over which the learning-rate schedule is spread.
        stop_epoch: Epochs to train, at most `schedule_epochs`.
        seed: Decides the order of the texts, dropout, resampling and the head's initial weights.
        stage: The stage of the study that asks for the trial: "sweep:PARAMETER", or one of this module's names.
        gpus: GPUs that train the model together; 1 for the CPU too.
        parameter: The swept hyperparameter that an interaction check varies; None for other trials.
        held_out: The fold of the training texts that is left out, from 0, and the number of folds, which the seed
            divides them into; None to train on all.
        with_dev: Whether the trial trains on dev too, so that it has no score.
    """

    hyperparameters: Hyperparameters
    schedule_epochs: int
    stop_epoch: int
    seed: int = 0
    stage: str = GRID
    gpus: int = 1
    parameter: str | None = None
    held_out: tuple[int, int] | None = None
    with_dev: bool = False

    @classmethod
    def from_values(cls, values: Mapping[str, Value], seed: int, stage: str = GRID, gpus: int = 1) -> Self:
        """Make a configuration of a KerasTuner trial's values."""
        hyperparameters = Hyperparameters.from_values(values)
        return cls(hyperparameters, int(values["schedule_epochs"]), int(values["stop_epoch"]), seed, stage, gpus)

    @property
    def values(self) -> dict[str, Value]:
        """The values of a KerasTuner trial: hyperparameters and schedule."""
        schedule = {"schedule_epochs": self.schedule_epochs, "stop_epoch": self.stop_epoch}
        return self.hyperparameters.model_dump() | schedule

    def with_hyperparameters(self, **changes: Value) -> Self:
        """Copy the configuration with other values of some hyperparameters."""
        return replace(self, hyperparameters=self.hyperparameters.model_copy(update=changes))
