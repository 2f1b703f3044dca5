"""A posterior over whole surfaces: recorded tables, shifted and scaled, with a smooth Gaussian process around them.

After freeze-thaw search (Swersky, Snoek and Adams, 2014; Rakotoarison et al., "In-Context Freeze-Thaw Bayesian
Optimization", ICML 2024) and Quick-Tune (Arango et al., ICLR 2024), without a network and without fitting.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tuners.space import SearchSpace, Value
from tuners.strategies.strategy import IDLE, Idle, ObservedTrial, SearchState, standard_error

Array = npt.NDArray[np.float64]

SAMPLES = 256
"""Surfaces that are drawn from the posterior."""
SHIFTS = np.arange(-7, 7.25, 0.5)
"""Shifts of a table, in factors of 2 of the learning rate."""
SHIFT = 0.7
"""Standard deviation of a shift, where the table is of a like study."""
STRETCHES, STRETCH_WEIGHTS = (-0.36, 0.0, 0.36), (0.49, 1.0, 0.49)
"""Logarithms of the exponents by which the share of the epochs is bent, for studies that learn sooner or later."""
START = 4.0
"""Standard deviation, in factors of 2, of the best rate around the start's where no table is of a like study."""
UNLIKE = 0.15
"""Least probability that the study is like no table."""
OWN = 0.7
"""Weight of a table's own shape against the mean shape of all tables under the same shift."""
# In shares of the expected gain of the best cell over the baseline:
SMOOTH = (0.08, 0.24)
"""Standard deviations of the smooth process, usual and where nothing recorded is like it."""
USUAL = 0.75
"""Probability of the first."""
COMMON = 3.75
"""Deviation of what all rows have in common at an epoch, in those of the smooth process."""
OCTAVES, SPAN = 1.5, 0.5
"""Its length scales, in factors of 2 of the learning rate and in shares of the epochs."""
GAIN, OFFSET = 0.5, 0.1
"""Standard deviations of the gain itself and of the baseline."""
EARLY, SETTLED = 0.2, 0.4
"""Standard deviation of a score's noise at the beginning, and the share of the epochs over which it falls by e."""
PLATEAU = 0.5
"""Share by which the smooth process is smaller where the expected shape is at its best."""
# In standard errors of the dev split; two scores on the same texts differ by less than the errors of both.
CELL, ROW = 0.5, 0.3
"""Noise that a cell and that a row has to itself."""
SWITCH = 2.0
"""A row is left for another only where the other is worth that many times as much."""
ENOUGH = 0.1
"""Standard errors of expected improvement below which the search ends."""
MOST_COLUMNS, MOST_CELLS = 12, 1500
"""Epochs of a schedule, and cells of a grid, that are looked at."""
NO_TABLE_GAIN = 0.35
"""Expected gain, as a share of what is missing to 1, where there is no table."""
NO_SHARE_ERROR = 0.02
"""Standard error where the objective is no share of the dev split, in expected gains."""
_SHUFFLED = np.random.default_rng(0).permutation(SAMPLES)


@dataclass(frozen=True, eq=False)
class RecordedTable:
    """The learning-rate × epoch table of another study.

    Attributes:
        rates: Learning rates, float64 [rates].
        scores: Scores, float64 [rates, epochs], larger is better, the mean where there are several seeds; NaN where a
            trial diverged.
        baseline: Score of a model that has learned nothing.
        weight: Probability that the study to search is like this one; over all tables at most 1.
    """

    rates: Array
    scores: Array
    baseline: float
    weight: float


@dataclass(frozen=True, eq=False)
class Surface:
    """A search on the posterior over whole surfaces.

    Every recorded table, shifted in log learning rate and bent in time, is a hypothesis on the shape of the surface;
    the scale, the offset and a smooth residual are Gaussian, so that the weight of a hypothesis, given the cells seen,
    is known in closed form. Surfaces drawn from the mixture tell what the next row, or the rest of a running one, would
    add to the best cell seen if the rest of the budget were spent on it, and on one further row. The first row is that
    of the highest expected score. A row is left only for one that is worth twice as much, since only the last epochs of
    a schedule show what a row is worth. The search ends with the budget, or where nothing is worth an epoch.

    Not for grids of one row, nor where the table itself is wanted.

    Example:
        >>> from tuners.space import SearchSpace
        >>> from tuners.strategies import ObservedTrial, SearchState, Surface
        >>> space = SearchSpace.of([8e-5, 4e-5, 2e-5, 1e-5], epochs=4, start={"learning_rate": 4e-5})
        >>> surface = Surface(share=0.25, examples=1000)
        >>> surface.propose(SearchState(space, space.start, [], seed=1))
        {'learning_rate': 4e-05}
        >>> whole = ObservedTrial({"learning_rate": 4e-5}, [0.6, 0.7, 0.75, 0.77], ended=True)
        >>> surface.propose(SearchState(space, space.start, [whole], seed=1)) is None
        True

    Attributes:
        share: Largest share of the grid's epochs to train; one row is trained in any case.
        examples: Size of the dev split where the objective is a share of it.
        tables: Tables of other studies.
    """

    share: float = 0.15
    examples: int | None = None
    tables: Sequence[RecordedTable] = ()

    name: ClassVar[str] = "surface"
    sweeps: ClassVar[bool] = True

    def propose(self, state: SearchState) -> Mapping[str, Value] | Idle | None:
        """See `Strategy`. Running rows count with what they are expected to reach."""
        space, running = state.space, _running(state)
        left, untried = self._left(state), _untried(state)
        if left > 0 and untried:
            posterior = self._posterior(state)
            first = not any(trial.best_epoch for trial in state.trials)
            row, gain = (posterior.likeliest(untried), math.inf) if first else posterior.plan(untried, left, running)
            if gain > ENOUGH * posterior.error:
                return {"learning_rate": space.learning_rates[row]}
        return IDLE if running else None

    def should_stop(self, state: SearchState, trial: ObservedTrial) -> bool:
        """See `Strategy`."""
        rates, epoch = state.space.learning_rates, len(trial.scores)
        if state.epochs >= self.max_epochs(state.space):
            return True
        if trial.rate not in rates or epoch not in _columns(state.space)[:-1]:
            return False
        posterior, row = self._posterior(state), rates.index(trial.rate)
        left, untried = max(self._left(state, trial), 1), _untried(state)
        others = [other for other in _running(state) if other != row]
        _, stay = posterior.plan(untried, left, others, row)
        _, leave = posterior.plan(untried, left, others)
        return max(stay, leave) <= ENOUGH * posterior.error or leave > SWITCH * stay

    def max_epochs(self, space: SearchSpace) -> int:
        """See `Strategy`."""
        return max(int(self.share * len(space.learning_rates) * space.epochs), space.epochs)

    def describe(self) -> Mapping[str, Any]:
        """See `Strategy`; the tables may become more while a study is interrupted."""
        return {"share": self.share, "examples": self.examples}

    def tied_probability(self, state: SearchState) -> float:
        """Return the probability that the best cell seen is within one standard error of the best of the whole grid.

        At least one trial needs a score.
        """
        rates = state.space.learning_rates
        best = max((trial for trial in state.trials if trial.rate in rates), key=lambda trial: trial.best)
        posterior = self._posterior(state)
        columns = _columns(state.space)
        column = min(range(len(columns)), key=lambda column: abs(columns[column] - best.best_epoch))
        pick = posterior.draws[:, rates.index(best.rate), column]
        return float((posterior.draws.max(axis=(1, 2)) - pick <= posterior.error).mean())

    def _left(self, state: SearchState, leaving: ObservedTrial | None = None) -> int:
        """Return the epochs of the budget that no running row will need, but for one that may leave."""
        spent = (len(trial.scores) if trial.ended or trial is leaving else trial.stop_epoch for trial in state.trials)
        return self.max_epochs(state.space) - sum(spent)

    def _posterior(self, state: SearchState) -> "_Posterior":
        space, columns = state.space, _columns(state.space)
        seen = [
            (space.learning_rates.index(trial.rate) * len(columns) + column, trial.scores[epoch - 1])
            for trial in state.trials
            if trial.rate in space.learning_rates
            for column, epoch in enumerate(columns)
            if epoch <= len(trial.scores)
        ]
        cells, scores = np.array([cell for cell, _ in seen], dtype=np.int64), np.array([score for _, score in seen])
        prior = _prior(
            tuple(self.tables), space.learning_rates, columns, float(state.start["learning_rate"]), state.seed
        )
        # The lowest score seen stands for that of a model that has learned nothing, as a diverged one has.
        baseline = float(np.nanmin(scores)) if np.isfinite(scores).any() else 0.0
        if self.examples is None:
            gain = max(2 * float(np.nanmax(scores) - baseline) if np.isfinite(scores).any() else 0.0, 1e-9)
            error = NO_SHARE_ERROR
        else:
            gain = prior.gain * max(1 - baseline, 1e-9)
            error = standard_error(min(max(baseline + gain, 0.03), 0.97), self.examples) / gain
        return _Posterior(prior, cells, np.where(np.isnan(scores), 0.0, (scores - baseline) / gain), error)


def _untried(state: SearchState) -> list[int]:
    """List the rows that no trial has."""
    tried = {trial.rate for trial in state.trials}
    return [row for row, rate in enumerate(state.space.learning_rates) if rate not in tried]


def _running(state: SearchState) -> list[int]:
    """List the rows whose trials have not ended."""
    rates = state.space.learning_rates
    return [rates.index(trial.rate) for trial in state.trials if not trial.ended and trial.rate in rates]


def _columns(space: SearchSpace) -> tuple[int, ...]:
    """Return the epochs that are looked at: all of a short schedule, some of a long one, the last included."""
    most = max(min(MOST_COLUMNS, MOST_CELLS // len(space.learning_rates)), 2)
    return tuple(round(epoch) for epoch in np.linspace(space.epochs, 1, min(space.epochs, most))[::-1])


@dataclass(frozen=True, eq=False)
class _Prior:
    """What is thought of a grid before a cell of it is seen, in expected gains over the baseline.

    Attributes:
        shapes: A mean for each hypothesis, float64 [hypotheses, cells].
        log_weights: Their logarithmic probabilities with each smooth process, float64 [processes, hypotheses].
        covariances: Covariances with each smooth process, float64 [processes, cells, cells].
        early: Variance of a score's noise before training has settled, float64 [cells].
        gain: Expected gain, as a share of what the baseline misses to 1.
        normal: Normal numbers, float64 [SAMPLES, cells].
        columns: Epochs of the columns.
    """

    shapes: Array
    log_weights: Array
    covariances: Array
    early: Array
    gain: float
    normal: Array
    columns: tuple[int, ...]


@lru_cache(maxsize=8)
def _prior(
    given: tuple[RecordedTable, ...], rates: tuple[float, ...], columns: tuple[int, ...], start: float, seed: int
) -> _Prior:
    octaves, shares = np.log2(rates), np.array(columns) / columns[-1]
    tables = [*given, _GENERIC]
    trust = np.array([table.weight for table in tables])
    unlike = max(1 - trust.sum(), UNLIKE)
    like = trust / trust.sum() if trust.sum() else np.full(len(tables), 1 / len(tables))
    # Of a like study a table is shifted by little; of another its best row may be any of the grid's.
    near = np.exp(-0.5 * (SHIFTS / SHIFT) ** 2)
    best = [np.log2(table.rates[np.nan_to_num(table.scores, nan=-np.inf).max(axis=1).argmax()]) for table in tables]
    places = np.array(best)[:, None] + SHIFTS
    far = np.exp(-0.5 * ((places - math.log2(start)) / START) ** 2)
    far = far * (places >= octaves.min() - 0.5) * (places <= octaves.max() + 0.5) + 1e-12
    weights = (1 - unlike) * like[:, None] * near / near.sum() + unlike * far / far.sum()
    weights = (weights[:, :, None] * STRETCH_WEIGHTS / sum(STRETCH_WEIGHTS)).ravel()
    shapes = np.array([_shapes(table, rates, columns) for table in tables])
    shapes = (1 - OWN) * np.einsum("tsbc->sbc", like[:, None, None, None] * shapes) + OWN * shapes
    shapes = shapes.reshape(len(weights), -1)
    mean = weights @ shapes / weights.sum()
    octave, share = np.repeat(octaves, len(shares)), np.tile(shares, len(octaves))
    in_time = np.exp(-0.5 * ((share[:, None] - share) / SPAN) ** 2)
    in_rate = np.exp(-0.5 * ((octave[:, None] - octave) / OCTAVES) ** 2)
    free = 1 - PLATEAU * mean.clip(0, 1)
    smooth = in_time * (in_rate * np.outer(free, free) + COMMON**2)
    scale = GAIN**2 * np.outer(mean, mean) + OFFSET**2 + 1e-6 * np.eye(len(mean))
    normal = np.random.default_rng(seed).standard_normal((SAMPLES // 2, len(mean)))
    gains = [(np.nanmax(table.scores) - table.baseline) / max(1 - table.baseline, 1e-9) for table in tables]
    return _Prior(
        shapes=shapes,
        log_weights=np.log(weights) + np.log([[USUAL], [1 - USUAL]]),
        covariances=np.square(SMOOTH)[:, None, None] * smooth + scale,
        early=EARLY**2 * np.exp(-2 * share / SETTLED),
        gain=max(float(like @ gains), 1e-3),
        normal=np.concatenate([normal, -normal]),
        columns=columns,
    )


def _generic() -> RecordedTable:
    """Return what is expected where no table is: scores rise with the sum of the learning rates, then collapse."""
    octaves, epochs = np.arange(-5.0, 4.0), np.arange(1, 11) / 10
    progress = 2 ** octaves[:, None] * epochs * (2 - epochs)
    scores = NO_TABLE_GAIN * (1 - np.exp(-4 * progress)) * np.exp(-0.1 * np.maximum(octaves, 0)[:, None] ** 2)
    scores[octaves > 2] = 0
    return RecordedTable(2.0**octaves, scores, 0.0, 0.0)


_GENERIC = _generic()


@lru_cache(maxsize=512)
def _shapes(table: RecordedTable, rates: tuple[float, ...], columns: tuple[int, ...]) -> Array:
    """Read a table at the cells of a grid, shifted and bent.

    Args:
        table: The table.
        rates: Learning rates of the grid.
        columns: Epochs of the grid, the last that of the schedule.

    Returns:
        Scores between the baseline, 0, and the table's best, 1, float64 [shifts, stretches, rows × columns].
    """
    order, octaves, shares = np.argsort(table.rates), np.log2(rates), np.array(columns) / columns[-1]
    scores = np.nan_to_num(table.scores[order], nan=table.baseline) - table.baseline
    scores = np.column_stack([np.zeros(len(scores)), scores / max(scores.max(), 1e-9)])
    ends, known = np.linspace(0, 1, scores.shape[1]), np.log2(table.rates[order])
    bent = [np.array([np.interp(shares ** np.exp(stretch), ends, row) for row in scores]) for stretch in STRETCHES]
    # The higher a table is shifted, the lower is the rate at which it is read.
    read = [[[np.interp(octaves, known + shift, column) for column in rows.T] for rows in bent] for shift in SHIFTS]
    return np.swapaxes(np.array(read), 2, 3).reshape(len(SHIFTS), len(STRETCHES), -1)


class _Posterior:
    """Surfaces drawn in the light of the cells seen, in expected gains over the baseline.

    Attributes:
        draws: Scores without noise, float64 [SAMPLES, rows, columns].
        error: Standard error of the dev split.

    Args:
        prior: What was thought before.
        cells: Indices of the cells seen, int64 [seen].
        scores: Their scores, float64 [seen].
        error: Standard error of the dev split.
    """

    def __init__(self, prior: _Prior, cells: npt.NDArray[np.int64], scores: Array, error: float) -> None:
        self.error = error
        self._columns = np.array(prior.columns)
        rows = cells // len(self._columns)
        noise = error**2 * (CELL**2 * np.eye(len(cells)) + ROW**2 * (rows[:, None] == rows))
        between = prior.covariances[:, cells[:, None], cells] + noise + np.diag(prior.early[cells])
        behind = scores - prior.shapes[:, cells]
        log_weights = prior.log_weights.copy()
        for process, root in enumerate(np.linalg.cholesky(between)):
            squares = (np.linalg.solve(root, behind.T) ** 2).sum(axis=0)
            log_weights[process] -= 0.5 * squares + np.log(np.diagonal(root)).sum()
        weights = np.exp(log_weights - log_weights.max()).ravel()
        # Systematic resampling: as many draws of a hypothesis as its weight says; the normal numbers are in pairs.
        uniform = (np.arange(SAMPLES) + 0.5) / SAMPLES
        places = np.minimum(np.searchsorted(np.cumsum(weights) / weights.sum(), uniform), len(weights) - 1)
        processes, hypotheses = np.divmod(places[_SHUFFLED], log_weights.shape[1])
        draws = prior.shapes[hypotheses]
        for process, covariance in enumerate(prior.covariances):
            mine = processes == process
            gain = np.linalg.solve(between[process], covariance[cells])
            left = covariance - covariance[:, cells] @ gain
            root = np.linalg.cholesky(left + 1e-6 * np.eye(len(left)))
            draws[mine] += behind[hypotheses[mine]] @ gain + prior.normal[mine] @ root.T
        self.draws = draws.reshape(SAMPLES, -1, len(self._columns))
        self._reached = np.bincount(rows, minlength=self.draws.shape[1])
        means = draws.mean(axis=0)
        self._incumbent = draws[:, cells[means[cells].argmax()]] if len(cells) else np.zeros(SAMPLES)

    def likeliest(self, rows: Sequence[int]) -> int:
        """Return the row whose best cell has the highest expected score."""
        best = self.draws.mean(axis=0).max(axis=1)
        return max(rows, key=lambda row: float(best[row]))

    def plan(
        self, untried: Sequence[int], left: int, running: Sequence[int], row: int | None = None
    ) -> tuple[int, float]:
        """Find the row on which to spend an epoch.

        Args:
            untried: Rows to choose from.
            left: Epochs of the budget.
            running: Rows that others train to their ends.
            row: A running row that is to be trained to its end first; None for any of `untried`.

        Returns:
            The row, and how much it, with one further row as far as the budget goes, is expected to add to the best.
        """
        floor = self._incumbent
        for other in running:
            floor = np.maximum(floor, self._ahead(other, self._columns[-1])[0])
        plans, seconds = [], dict[int, Array]()
        for first in untried if row is None else [row]:
            ahead, cost = self._ahead(first, left)
            reached = np.maximum(floor, ahead)
            alone = value = float((reached - floor).mean())
            if left > cost and untried:
                if left - cost not in seconds:
                    seconds[left - cost] = np.array([self._ahead(second, left - cost)[0] for second in untried])
                value = float((np.maximum(reached, seconds[left - cost]) - floor).mean(axis=1).max())
            # Of two rows that the budget pays for in either order, the better is first.
            plans.append((round(value, 9), alone, first))
        value, _, first = max(plans, default=(0.0, 0.0, -1))
        return first, value

    def _ahead(self, row: int, epochs: int) -> tuple[Array, int]:
        """Return the best score, float64 [SAMPLES], of the next `epochs` of a row, and how many of them it has."""
        reached = int(self._reached[row])
        epoch = int(self._columns[reached - 1]) if reached else 0
        until = int(np.searchsorted(self._columns, epoch + epochs, side="right"))
        if until <= reached:
            return np.full(SAMPLES, -np.inf), 0
        return self.draws[:, row, reached:until].max(axis=1), min(epochs, int(self._columns[-1]) - epoch)
