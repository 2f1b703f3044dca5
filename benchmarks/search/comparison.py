"""Every search on the same problems: epochs spent, and regret."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.search.peers import peers as installed_peers
from benchmarks.search.simulation import simulate_search
from benchmarks.search.surfaces import Noise, draw_surface
from bertgrid_tf.errors import UserError
from tuners.space import SearchSpace
from tuners.strategies import (
    Asha,
    BayesianOptimization,
    Genetic,
    HillClimb,
    ObservedTrial,
    RecordedTable,
    Strategy,
    Surface,
)
from tuners.strategies.strategy import standard_error
from tuners.table import Table

SIMULATED = "simulated"
SIMULATED_RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(2e-5, 1e-6, 7))
SIMULATED_EPOCHS = 10
SIMULATED_EXAMPLES = 1178
FIRST_SIMULATED = 10_000
"""First seed of a synthetic surface; the strategies' constants were tuned on surfaces of lower seeds."""
STRATEGIES = ("climb", "asha", "bayes", "genetic", "surface")


@dataclass(frozen=True)
class Problem:
    """One table to search.

    Attributes:
        space: Learning rates and epochs, with the learning rate to start from.
        observed: Scores that the search sees, float64 [rates, epochs], larger is better; NaN where a row diverged.
        truth: True scores, float64 [rates, epochs]; minus infinity where a row diverges.
        examples: Size of the dev split.
        seed: Seed of the search.
    """

    space: SearchSpace
    observed: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]
    examples: int
    seed: int

    def curve(self, rate: float) -> list[float]:
        """Observed scores of a learning rate, epoch by epoch."""
        return [float(score) for score in self.observed[self.space.learning_rates.index(rate)]]

    def regret(self, trials: Sequence[ObservedTrial]) -> float:
        """Simple regret of the best cell of these trials; infinity where no cell has a score."""
        best = max(trials, key=lambda trial: trial.best, default=None)
        if best is None or not best.best_epoch:
            return math.inf
        return float(self.truth.max() - self.truth[self.space.learning_rates.index(best.rate), best.best_epoch - 1])

    @property
    def standard_error(self) -> float:
        """Standard error of the best true score."""
        return standard_error(float(self.truth.max()), self.examples)


@dataclass(frozen=True)
class Comparison:
    """One search over all problems.

    Attributes:
        search: Name; a search that was cut off at the epochs of climb ends in ", cut".
        epochs: Mean of the epochs trained.
        share: Mean of their share of the grid's epochs.
        median_regret: 50th percentile of the simple regret, a fraction.
        high_regret: 90th percentile.
        tied: Share of problems where the selected cell is tied with the best.
    """

    search: str
    epochs: float
    share: float
    median_regret: float
    high_regret: float
    tied: float


def recorded(path: Path, count: int, examples: int | None) -> list[Problem]:
    """Read the problems of a recorded table: every seed's table in turn, from every row as the start in turn.

    Args:
        path: A CSV (`Table.from_csv`), or a folder or stem with a table for each seed: NAME-seed1.csv, NAME-seed2.csv …
        count: Number of problems.
        examples: Size of the dev split; None for `dev_texts` of NAME.json beside the tables.

    Raises:
        UserError: There is no such table, it has untried cells, or the size of the dev split is unknown.
    """
    files = _files(path)
    tables = [Table.from_csv(file) for file in files]
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        if (table.learning_rates, table.epochs) != (first.learning_rates, first.epochs):
            raise UserError(f"{file} has other learning rates or epochs than {files[0]}: compare on one at a time.")
        if not table.tried.all():
            raise UserError(f"{file} has cells that were never tried: give a full table.")
    examples = examples if examples is not None else _examples(files[0])
    truth = np.nan_to_num(np.mean([table.scores for table in tables], axis=0), nan=-np.inf)
    problems = []
    for number in range(count):
        start = first.learning_rates[number // len(tables) % len(first.learning_rates)]
        space = SearchSpace.of(first.learning_rates, first.epochs, start={"learning_rate": start})
        problems.append(Problem(space, tables[number % len(tables)].scores, truth, examples, number))
    return problems


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    folder, name = (path, "*") if path.is_dir() else (path.parent, path.name)
    files = sorted(folder.glob(f"{name}-seed*.csv"))
    names = sorted({file.name.rpartition("-seed")[0] for file in files})
    if not files:
        raise UserError(
            f"{path} is no recorded table: give a CSV file, a folder or a stem with NAME-seedN.csv, or {SIMULATED}."
        )
    if len(names) > 1:
        raise UserError(f"{path} holds several tables: give one of {', '.join(str(path / name) for name in names)}.")
    return files


def _examples(file: Path) -> int:
    card = file.with_name(f"{file.stem.rpartition('-seed')[0] or file.stem}.json")
    try:
        return int(json.loads(card.read_text(encoding="utf-8"))["dev_texts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"The number of dev examples behind {file} is not known: give --dev-size.") from error


def simulated(count: int, examples: int) -> list[Problem]:
    """Draw problems on synthetic surfaces, 7 learning rates × 10 epochs, one surface for each seed.

    The start is off the best rate by a drawn factor, about two in either direction.
    """
    problems = []
    for seed in range(FIRST_SIMULATED, FIRST_SIMULATED + count):
        surface, noise = draw_surface(SIMULATED_RATES, SIMULATED_EPOCHS, seed), Noise(examples, seed=seed)
        truth = np.array([surface.accuracies(rate) for rate in SIMULATED_RATES])
        observed = np.array([noise.observe(rate, row) for rate, row in zip(SIMULATED_RATES, truth, strict=True)])
        start = surface.best_rate * 2 ** np.random.default_rng([seed, 4]).standard_normal()
        space = SearchSpace.of(SIMULATED_RATES, SIMULATED_EPOCHS, start={"learning_rate": start})
        problems.append(Problem(space, observed, truth, examples, seed))
    return problems


def compare(problems: Sequence[Problem], names: Sequence[str], share: float, peers: bool) -> Iterator[Comparison]:
    """Run every search on every problem.

    Args:
        problems: Problems of one table, or of one kind of surface.
        names: Names out of `STRATEGIES`.
        share: Largest share of the grid's epochs for the strategies that have a budget.
        peers: Whether searches without a budget, and those of other libraries, are run too, cut off at the epochs that
            climb spends on the same problem.

    Yields:
        The full grid first, then each search.
    """
    grids = [
        [
            ObservedTrial({"learning_rate": rate}, tuple(problem.curve(rate)), True)
            for rate in problem.space.learning_rates
        ]
        for problem in problems
    ]
    yield _summarize("grid", problems, grids)
    for name in names:
        yield _summarize(name, problems, [simulate(name, problem, share) for problem in problems])
    if not peers:
        return
    budgets = [trained_epochs(simulate("climb", problem, share)) for problem in problems]
    cut = [simulate("asha", problem, share, budget) for problem, budget in zip(problems, budgets, strict=True)]
    yield _summarize("asha, cut", problems, cut)
    for name, peer in installed_peers().items():
        trials = [
            peer(problem.space, problem.curve, problem.seed, budget)
            for problem, budget in zip(problems, budgets, strict=True)
        ]
        yield _summarize(f"{name}, cut", problems, trials)


def simulate(
    name: str,
    problem: Problem,
    share: float,
    max_epochs: float = math.inf,
    tables: Sequence[RecordedTable] = (),
) -> list[ObservedTrial]:
    """Run a strategy on a problem.

    Args:
        name: Name out of `STRATEGIES`.
        problem: The problem.
        share: Largest share of the grid's epochs for the strategies that have a budget.
        max_epochs: Epochs after which the search is cut off.
        tables: What "surface" knows of other tasks.

    Returns:
        The trials in the order of their start.
    """
    strategies: dict[str, Strategy] = {
        "climb": HillClimb(share, examples=problem.examples),
        "asha": Asha(),
        "bayes": BayesianOptimization(share),
        "genetic": Genetic(share),
        "surface": Surface(share, problem.examples, tables),
    }
    return simulate_search(strategies[name], problem.space, problem.curve, seed=problem.seed, max_epochs=max_epochs)


def trained_epochs(trials: Sequence[ObservedTrial]) -> int:
    """Return the epochs of all trials."""
    return sum(len(trial.scores) for trial in trials)


def _summarize(name: str, problems: Sequence[Problem], trials: Sequence[Sequence[ObservedTrial]]) -> Comparison:
    epochs = [trained_epochs(observed) for observed in trials]
    regrets = [problem.regret(observed) for problem, observed in zip(problems, trials, strict=True)]
    return Comparison(
        name,
        float(np.mean(epochs)),
        float(np.mean([spent / problem.truth.size for spent, problem in zip(epochs, problems, strict=True)])),
        float(np.median(regrets)),
        # Interpolating between infinities is no number.
        float(np.quantile(regrets, 0.9, method="higher")),
        float(np.mean([regret <= problem.standard_error for regret, problem in zip(regrets, problems, strict=True)])),
    )
