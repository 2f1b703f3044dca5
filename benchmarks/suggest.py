r"""What the bank suggests for tasks that it has not seen: every task is left out in turn; nothing is trained.

    python -m benchmarks.suggest

The truth of a table is the mean of its seeds. A row is *tied* if its best score is within one standard error of the
table's best. *Regret* is the table's best score minus that of the chosen cell, in points; a learning rate between or
beyond the rows of a table is taken at the nearest, which favours choices beyond it. Every task weighs the same;
intervals (95 %) are of a bootstrap over tasks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from rich.console import Console, Group, RenderableType
from rich.table import Column, Table

from benchmarks import command
from bertgrid_tf.bank.studies import RecordedStudy, read_studies
from bertgrid_tf.bank.suggest import RATES, best_cells, distances, scaled_cells, suggest

ONE_SOURCE = {"movie-reviews": "reviews", "sst2": "reviews", "sst5": "reviews"}
"""Tasks whose texts come from one source, which are left out together."""
Cell = tuple[float, int]
Choice = Callable[[RecordedStudy, Sequence[RecordedStudy]], Sequence[Cell]]


@dataclass(frozen=True)
class Outcome:
    """One choice on one table.

    Attributes:
        task: The task, or the source of several.
        tied: Whether a chosen row is tied with the best.
        regret: Regret of the best chosen cell, a fraction.
        row_regret: Regret of the best cell of the chosen rows.
    """

    task: str
    tied: bool
    regret: float
    row_regret: float


def suggested(study: RecordedStudy, others: Sequence[RecordedStudy]) -> list[Cell]:
    """Choose the likeliest row of the suggestion, and its likeliest column."""
    suggestion = suggest(study.card, others)
    return [(suggestion.learning_rate, suggestion.epoch)]


def suggested_rows(study: RecordedStudy, others: Sequence[RecordedStudy]) -> list[Cell]:
    """Choose all of the suggested cells."""
    suggestion = suggest(study.card, others)
    return list(product(suggestion.learning_rates, range(1, suggestion.epochs + 1)))


def nearest(study: RecordedStudy, others: Sequence[RecordedStudy]) -> list[Cell]:
    """Choose the best cell of the most alike table."""
    scored = [other for other in others if other.card.source != "published"]
    other = scored[int(distances(study.card, [other.card for other in scored]).argmin())]
    row, column = np.unravel_index(np.nanargmax(other.mean), other.mean.shape)
    return [(float(other.rates[row]), int(column) + 1)]


def likeliest(study: RecordedStudy, others: Sequence[RecordedStudy]) -> list[Cell]:
    """Choose the cell that is the likeliest best over all tables, whatever they are like."""
    return [_likeliest(np.array([best_cells(other) for other in others]))]


def likeliest_scaled(study: RecordedStudy, others: Sequence[RecordedStudy]) -> list[Cell]:
    """Choose likewise, with learning rates scaled by the sizes of the checkpoints."""
    return [_likeliest(scaled_cells(study.card, others))]


def _likeliest(cells: npt.NDArray[np.float64]) -> Cell:
    mean = cells.mean(axis=0)
    row, column = np.unravel_index(mean.argmax(), mean.shape)
    return float(RATES[row]), int(column) + 1


def fixed(rates: Sequence[float], epochs: Sequence[int]) -> Choice:
    """Make a choice of cells that depends on nothing."""
    return lambda study, others: list(product(rates, epochs))


CHOICES: dict[str, Choice] = {
    "suggested cell": suggested,
    "best cell of the nearest table": nearest,
    "likeliest cell of the bank": likeliest,
    "… scaled by the checkpoint's size": likeliest_scaled,
    "2e-5, 3 epochs": fixed([2e-5], [3]),
    "middle of BERT's range (3e-5, 3 epochs)": fixed([3e-5], [3]),
    "BERT's range, its 9 cells trained": fixed([5e-5, 3e-5, 2e-5], [2, 3, 4]),
    "suggested rows and epochs, trained": suggested_rows,
}


def task_of(study: RecordedStudy) -> str:
    """Return the task of a study, or the source that it shares with others."""
    return ONE_SOURCE.get(study.card.task, study.card.task)


def checkpoint_of(study: RecordedStudy) -> tuple[object, ...]:
    """Return what tells checkpoints apart on a card."""
    return study.card.pretrained, study.card.layers, study.card.width


def outcome(study: RecordedStudy, cells: Sequence[Cell]) -> Outcome:
    """Score chosen cells on a table."""
    mean = np.nan_to_num(study.mean, nan=float(np.nanmin(study.mean)))
    rows = [int(np.abs(np.log(study.rates / rate)).argmin()) for rate, _ in cells]
    scores = [mean[row, min(epoch, mean.shape[1]) - 1] for row, (_, epoch) in zip(rows, cells, strict=True)]
    behind = float(mean.max() - mean[rows].max())
    return Outcome(task_of(study), behind <= study.noise, float(mean.max() - max(scores)), behind)


def tables(studies: Sequence[RecordedStudy]) -> list[RecordedStudy]:
    """Return the studies on which choices can be scored: those with a score in every cell but diverged ones."""
    return [study for study in studies if study.card.source != "published" and study.tried.all()]


def leave_one_out(
    studies: Sequence[RecordedStudy], choice: Choice, new_checkpoint: bool = False, pretrained: bool = False
) -> list[Outcome]:
    """Choose for every table by the studies of other tasks.

    Args:
        studies: The bank.
        choice: The choice.
        new_checkpoint: Whether the studies of the table's checkpoint are left out as well.
        pretrained: Whether the tables of checkpoints without pretraining are left out, as truths alone.
    """
    outcomes = []
    for study in tables(studies):
        others = [
            other
            for other in studies
            if task_of(other) != task_of(study)
            and not (new_checkpoint and checkpoint_of(other) == checkpoint_of(study))
        ]
        if study.card.pretrained or not pretrained:
            outcomes.append(outcome(study, choice(study, others)))
    return outcomes


def interval(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> tuple[float, float, float]:
    """Return the mean over tasks with its interval."""
    tasks = sorted({one.task for one in outcomes})
    means = np.array([np.mean([value(one) for one in outcomes if one.task == task]) for task in tasks])
    drawn = means[np.random.default_rng(1).integers(len(means), size=(5000, len(means)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(means.mean()), float(low), float(high)


def report(studies: Sequence[RecordedStudy], title: str, **which: bool) -> RenderableType:
    """Return a table of all choices."""
    columns = ("tied row", "regret, points", "regret of the row's best")
    grid = Table("choice", *(Column(name, justify="right") for name in columns), title=title, title_justify="left")
    outcomes: list[Outcome] = []
    for name, choice in CHOICES.items():
        outcomes = leave_one_out(studies, choice, **which)
        cells = []
        for value, digits in ((lambda one: one.tied, 0), (lambda one: one.regret, 2), (lambda one: one.row_regret, 2)):
            mean, low, high = (f"{100 * number:.{digits}f}" for number in interval(outcomes, value))
            cells.append(f"{mean} ({low} to {high})")
        grid.add_row(name, *cells)
    tasks = sorted({one.task for one in outcomes})
    return Group(grid, f"{len(outcomes)} tables of {len(tasks)} tasks: {', '.join(tasks)}.")


def calibration(studies: Sequence[RecordedStudy]) -> str:
    """Compare probabilities and expected scores of suggestions with the left-out tables."""
    said, true, rows, epochs, errors = [], [], [], [], []
    for study in tables(studies):
        suggestion = suggest(study.card, [other for other in studies if task_of(other) != task_of(study)])
        inside = [int(np.abs(np.log(RATES / rate)).argmin()) for rate in suggestion.learning_rates]
        said.append(suggestion.probability)
        true.append(best_cells(study)[inside, : suggestion.epochs].sum())
        rows.append(len(inside))
        epochs.append(suggestion.epochs)
        if suggestion.score is not None:
            errors.append(abs(suggestion.score[0] - np.nanmax(study.mean)))
    off = f" Expected scores are off by {100 * np.mean(errors):.0f} points." if errors else ""
    return (
        f"On average {np.mean(rows):.1f} rows × {np.mean(epochs):.1f} epochs are suggested, to hold the best cell with "
        f"{np.mean(said):.0%}; they held it with {np.mean(true):.0%}.{off}"
    )


def main() -> None:
    """Parse the command line, choose, print."""
    parser = command.parser(__doc__, trains=False)
    parser.add_argument("--each", action="store_true", help="print every table's best and suggested cell")
    flags = parser.parse_args()
    studies, console = read_studies(), Console()
    console.print(report(studies, "Every task left out in turn"))
    console.print(calibration(studies))
    console.print(report(studies, "… on pretrained checkpoints alone", pretrained=True))
    console.print(report(studies, "… with its checkpoint left out too", new_checkpoint=True))
    for study in tables(studies) if flags.each else ():
        others = [other for other in studies if task_of(other) != task_of(study)]
        (cell,), own = suggested(study, others), nearest(study, [study])[0]
        one = outcome(study, [cell])
        console.print(
            f"{study.name}: best {own[0]:g}, {own[1]}; suggested {cell[0]:g}, {cell[1]}; "
            f"regret {100 * one.regret:.2f}, of the row {100 * one.row_regret:.2f}{', tied' * one.tied}",
            highlight=False,
        )


if __name__ == "__main__":
    command.run(main)
