import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.bank.card import Card, MetaFeatures
from bertgrid_tf.bank.studies import RecordedStudy
from bertgrid_tf.bank.suggest import EPOCHS, MOST_RATES, RATES, best_cells, distances, size_exponent, suggest
from bertgrid_tf.errors import UserError

ROWS = np.array([4e-4, 2e-4, 1e-4, 5e-5])


def study(best: float, width: int = 128, name: str = "one", **keys: object) -> RecordedStudy:
    """A study of four rates and three epochs, whose best cell is the last epoch of the rate `best`."""
    scores = 0.7 - 0.1 * np.abs(np.log2(ROWS / best))[:, None] - 0.02 * np.arange(2, -1, -1)
    card = Card(
        task=name, source="recorded", seeds=(1,), width=width, layers=2, texts=1000, tokens_mean=20.0, dev_texts=1000,
        batch_size=32, baseline=0.2, machine="here", seconds=10.0,
    ).model_copy(update=keys)  # fmt: skip
    return RecordedStudy(name, card, ROWS, scores[None], np.ones(scores.shape, bool))


def test_the_best_cell_of_a_like_study_is_suggested():
    slow, fast = study(1e-4, width=512), study(4e-4, width=64)
    for one, best in ((slow, 1e-4), (fast, 4e-4)):
        suggestion = suggest(one.card, [slow, fast])
        assert (suggestion.learning_rate, suggestion.epoch) == (pytest.approx(best), 3)
        assert suggestion.learning_rate in suggestion.learning_rates
        assert suggestion.neighbours[0].study is one
        assert (suggestion.neighbours[0].learning_rate, suggestion.neighbours[0].epoch) == (best, 3)


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_where_all_or_no_texts_are_right_there_is_noise_all_the_same(score):
    scores = np.full((1, 4, 3), score)
    scores[0, 0, 0] = 0.5 * score
    perfect = RecordedStudy("perfect", study(1e-4).card, ROWS, scores, np.ones((4, 3), bool))
    assert 0 < perfect.noise < 1e-2
    assert best_cells(perfect).sum() == pytest.approx(1)
    assert suggest(perfect.card, [perfect, study(1e-4)]).probability > 0.5


def test_a_checkpoint_of_another_size_gets_scaled_learning_rates():
    small, large = study(4e-4, width=64), study(1e-4, width=256, name="two")
    assert -1 < size_exponent([small, large]) < -0.4  # −1 but for the ridge
    assert size_exponent([small]) == size_exponent([study(1e-4, layers=None)]) == 0
    assert suggest(study(1e-4, width=128).card, [small, large]).learning_rate == pytest.approx(2e-4)
    larger = suggest(study(1e-4, width=1024).card, [small, large])
    assert larger.learning_rate < 1e-4


def test_the_less_a_bank_holds_of_the_kind_the_less_sure_the_suggestion_is():
    like, unlike = study(1e-4), study(1e-4, width=1024, pretrained=True, texts=10**6, family="roberta")
    sure, unsure = suggest(like.card, [like, study(4e-4, width=129)]), suggest(unlike.card, [like])
    assert sure.probability > unsure.probability
    assert sure.unlike < 0.2 < unsure.unlike


def test_expected_score_and_time_are_those_of_like_studies():
    one = study(1e-4)
    suggestion = suggest(one.card.model_copy(update={"baseline": 0.6, "texts": 2000}), [one], machine="here")
    # From 0.2 it went 0.5 of 0.8 on the way to 1.
    assert suggestion.score == (pytest.approx(0.6 + 0.4 * 0.5 / 0.8), pytest.approx(0))
    assert suggestion.epoch_seconds == pytest.approx(10 * (2000 + 1000 / 3) / (1000 + 1000 / 3))
    assert suggest(one.card, [one], machine="elsewhere").epoch_seconds is None
    assert suggest(one.card.model_copy(update={"metric": "mcc"}), [one]).score is None


def test_the_maximum_length_holds_99_of_100_texts():
    one = study(1e-4)
    lengths = {20.0: 32, 61.0: 64, 64.0: 64, 65.0: 96, 9000.0: 512}
    for longest, length in lengths.items():
        assert suggest(one.card.model_copy(update={"tokens_p99": longest}), [one]).max_length == length
    assert suggest(one.card, [one]).max_length is None


def test_a_range_without_scores_says_where_and_not_which():
    card = Card(task="range", source="published", seeds=(1,))
    scores, tried = np.full((1, 2, 3), np.nan), np.array([[False, True, True]] * 2)
    published = RecordedStudy("range", card, np.array([1e-4, 5e-5]), scores, tried)
    cells = best_cells(published)
    assert cells.sum() == pytest.approx(1)
    assert cells[:, 0].sum() == 0
    suggestion = suggest(card, [published])
    assert suggestion.neighbours[0].learning_rate is None
    assert suggestion.learning_rates[0] >= 1e-4
    assert suggestion.learning_rates[-1] <= 5e-5


def test_distance_is_that_of_standardised_logarithms():
    one, twice, unknown = study(1e-4), study(1e-4, texts=4000), study(1e-4, texts=None)
    near, far, missing = distances(one.card, [one.card, twice.card, unknown.card])
    assert near == 0
    assert far > missing > 0


def test_an_empty_bank_and_single_rows_suggest_nothing():
    row = study(1e-4)
    row = RecordedStudy("row", row.card, row.rates[:1], row.scores[:, :1], row.tried[:1])
    for studies in ([], [row]):
        with pytest.raises(UserError, match="bank of studies is empty"):
            suggest(MetaFeatures(), studies)


@given(
    st.builds(
        MetaFeatures,
        texts=st.none() | st.integers(0, 10**9),
        tokens_p99=st.none() | st.floats(0, 1e6),
        label_entropy=st.none() | st.floats(0, 20),
        layers=st.none() | st.integers(0, 96),
        pretrained=st.none() | st.booleans(),
        script=st.none() | st.sampled_from(["latin", "hangul"]),
        baseline=st.none() | st.floats(-1, 1),
    )
)
def test_whatever_the_task_a_suggestion_is_within_bounds(features):
    suggestion = suggest(features, [study(1e-4), study(4e-4, width=64, texts=None, baseline=None)], machine="here")
    assert 0 < suggestion.row_probability <= suggestion.probability + 1e-9 <= 1 + 2e-9
    assert 1 <= suggestion.epoch <= suggestion.epochs <= EPOCHS
    assert 1 <= len(suggestion.learning_rates) <= MOST_RATES
    assert set(suggestion.learning_rates) <= {float(f"{rate:.3g}") for rate in RATES}
    assert len(suggestion.neighbours) == 2
    assert 0 <= suggestion.unlike <= 1
