"""Searches compared on recorded tables, or on made-up ones: what they spend, and what they miss.

Terms: a table's true scores are the means over its seeds (of one seed, that seed's). A search sees one seed's scores
and picks the best cell that it has seen. Its regret is what the true score of that cell lacks to the best true score.
A cell is tied with the best where its true score is within one standard error of it, √(p(1-p)/n) for n dev examples
(the one-standard-error rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984).
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bertgrid_tf.errors import UserError
from tuners.rehearsal import rehearse
from tuners.space import SearchSpace
from tuners.strategies import Asha, Bayes, Climb, Genetic, Strategy, Tried
from tuners.strategies.strategy import standard_error
from tuners.surface import Noise, draw_surface
from tuners.table import Table

SIMULATED = "simulated"
SIMULATED_RATES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(2e-5, 1e-6, 7))
SIMULATED_EPOCHS = 10
FIRST_SIMULATED = 10_000
"""The first seed of a made-up surface; the strategies' constants were found on surfaces of lower ones."""
STRATEGIES = ("climb", "asha", "bayes", "genetic")


@dataclass(frozen=True)
class Case:
    """One search to make: what it sees, and what is true.

    Attributes:
        space: Rates and epochs, with the learning rate that it starts from.
        observed: float64 [rates, epochs], larger being better; NaN where a run diverged.
        truth: float64 [rates, epochs]; minus infinity where a run diverges.
        examples: Of the dev split.
        seed: Of what the search draws.
    """

    space: SearchSpace
    observed: npt.NDArray[np.float64]
    truth: npt.NDArray[np.float64]
    examples: int
    seed: int

    def row(self, rate: float) -> list[float]:
        """The scores that a run of this rate sees, epoch by epoch."""
        return [float(score) for score in self.observed[self.space.learning_rates.index(rate)]]

    def regret(self, runs: Sequence[Tried]) -> float:
        """What the true score of the picked cell lacks to the best; infinity where there is no pick."""
        best = max(runs, key=lambda run: run.best, default=None)
        if best is None or not best.best_epoch:
            return math.inf
        return float(self.truth.max() - self.truth[self.space.learning_rates.index(best.rate), best.best_epoch - 1])

    @property
    def tie(self) -> float:
        """One standard error of the best true score."""
        best = float(self.truth.max())
        return standard_error(best, self.examples)


@dataclass(frozen=True)
class Measured:
    """How one search did over all cases.

    Attributes:
        search: Its name.
        epochs: Trained, on average.
        share: Of the grid's epochs, on average.
        median_regret, high_regret: The 50th and the 90th percentile, as shares.
        tied: Share of cases whose pick is tied with the best.
        cut_off: Whether it was cut off at what climb spent.
    """

    search: str
    epochs: float
    share: float
    median_regret: float
    high_regret: float
    tied: float
    cut_off: bool


def recorded(path: Path, seeds: int, examples: int | None) -> list[Case]:
    """The cases of a recorded table.

    Each seed's table is searched from every row as the start, in turn, until there are `seeds` cases (or all
    combinations, if those are fewer and nothing is drawn but the strategies' own numbers).

    Args:
        path: A CSV (`Table.from_csv`), or a folder or a stem with one a seed, NAME-seed1.csv, NAME-seed2.csv …; of
            several NAMEs in a folder the stem chooses.
        seeds: How many searches to make.
        examples: Of the dev split; None for what NAME.json beside the tables says.

    Raises:
        UserError: there is no such table, it has cells that were never tried, or the dev split's size is not known.
    """
    files = _files(path)
    tables = [Table.from_csv(file) for file in files]
    first = tables[0]
    for file, table in zip(files, tables, strict=True):
        if (table.learning_rates, table.epochs) != (first.learning_rates, first.epochs):
            raise UserError(f"{file} has other learning rates or epochs than {files[0]}: replay them one at a time.")
        if not table.tried.all():
            raise UserError(
                f"{file} has cells that were never tried, so what a search would see there is not known: give a table "
                "that is full."
            )
    examples = examples if examples is not None else _examples(files[0])
    truth = np.nan_to_num(np.mean([table.scores for table in tables], axis=0), nan=-np.inf)
    cases = []
    for number in range(seeds):
        start = first.learning_rates[number // len(tables) % len(first.learning_rates)]
        space = SearchSpace.of(first.learning_rates, first.epochs, start={"learning_rate": start})
        cases.append(Case(space, tables[number % len(tables)].scores, truth, examples, number))
    return cases


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    folder, name = (path, "*") if path.is_dir() else (path.parent, path.name)
    files = sorted(folder.glob(f"{name}-seed*.csv"))
    names = {file.name.rpartition("-seed")[0] for file in files}
    if not files:
        raise UserError(
            f"{path} is no recorded table: give a CSV file, a folder or a stem with NAME-seedN.csv, or {SIMULATED}."
        )
    if len(names) > 1:
        raise UserError(
            f"{path} holds several tables: give one of {', '.join(str(path / name) for name in sorted(names))}."
        )
    return files


def _examples(file: Path) -> int:
    described = file.with_name(f"{file.stem.rpartition('-seed')[0] or file.stem}.json")
    try:
        return int(json.loads(described.read_text(encoding="utf-8"))["utterances"]["dev"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"How many dev examples the scores of {file} are of is not known: give --dev-size.") from error


def simulated(seeds: int, examples: int) -> list[Case]:
    """Cases on made-up surfaces (`tuners.surface`), 7 learning rates × 10 epochs, another one for each seed.

    The start is off the best rate by a factor that is drawn, of about two either way.
    """
    cases = []
    for seed in range(FIRST_SIMULATED, FIRST_SIMULATED + seeds):
        surface, noise = draw_surface(SIMULATED_RATES, SIMULATED_EPOCHS, seed), Noise(examples, seed=seed)
        truth = np.array([surface.accuracies(rate) for rate in SIMULATED_RATES])
        seen = np.array([noise.observe(rate, row) for rate, row in zip(SIMULATED_RATES, truth, strict=True)])
        guess = surface.best_rate * 2 ** np.random.default_rng([seed, 4]).standard_normal()
        space = SearchSpace.of(SIMULATED_RATES, SIMULATED_EPOCHS, start={"learning_rate": guess})
        cases.append(Case(space, seen, truth, examples, seed))
    return cases


def measure(cases: Sequence[Case], searches: Sequence[str], share: float, peers: bool) -> Iterator[Measured]:
    """Makes every search of every case.

    Args:
        cases: Of one table, or of one sort of surface.
        searches: Of `STRATEGIES`.
        share: The most of the grid's epochs that those with a budget train.
        peers: Whether those without one, and other people's, are made besides, cut off at what climb spent in the same
            case.

    Yields:
        "grid" first, then each search as it ends.
    """
    yield _measured("grid", cases, [_grid(case) for case in cases])
    own: dict[str, list[list[Tried]]] = {}
    for name in searches:
        own[name] = [_own(name, case, share) for case in cases]
        yield _measured(name, cases, own[name])
    if not peers:
        return
    # KerasTuner takes seconds to import.
    from tuners.peers import peers as others

    climbed = own.get("climb") or [_own("climb", case, share) for case in cases]
    budgets = [_spent(runs) for runs in climbed]
    cut = [_own("asha", case, share, budget) for case, budget in zip(cases, budgets, strict=True)]
    yield _measured("asha, cut", cases, cut, cut_off=True)
    for name, peer in others().items():
        runs = [peer(case.space, case.row, case.seed, budget) for case, budget in zip(cases, budgets, strict=True)]
        yield _measured(f"{name}, cut", cases, runs, cut_off=True)


def _spent(runs: Sequence[Tried]) -> int:
    """Epochs that were trained."""
    return sum(len(run.scores) for run in runs)


def _grid(case: Case) -> list[Tried]:
    return [Tried({"learning_rate": rate}, tuple(case.row(rate)), True) for rate in case.space.learning_rates]


def _own(name: str, case: Case, share: float, most_epochs: float = math.inf) -> list[Tried]:
    known: dict[str, Callable[[], Strategy]] = {
        "climb": lambda: Climb(share, examples=case.examples),
        "asha": Asha,
        "bayes": lambda: Bayes(share),
        "genetic": lambda: Genetic(share),
    }
    strategy = known[name]()
    return rehearse(
        strategy,
        case.space,
        lambda values: case.row(float(values["learning_rate"])),
        seed=case.seed,
        most_epochs=most_epochs,
    )


def _measured(name: str, cases: Sequence[Case], runs: Sequence[Sequence[Tried]], cut_off: bool = False) -> Measured:
    spent = [_spent(found) for found in runs]
    regrets = [case.regret(found) for case, found in zip(cases, runs, strict=True)]
    return Measured(
        name,
        float(np.mean(spent)),
        float(np.mean([epochs / case.truth.size for epochs, case in zip(spent, cases, strict=True)])),
        float(np.median(regrets)),
        # Interpolating between infinities is no number.
        float(np.quantile(regrets, 0.9, method="higher")),
        float(np.mean([regret <= case.tie for regret, case in zip(regrets, cases, strict=True)])),
        cut_off,
    )
