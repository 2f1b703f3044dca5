import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertgrid_tf.bert.encode import Coverage, check_vocabulary, encode, full_lengths, tokenized, truncated_lengths
from bertgrid_tf.errors import UserError

WORDS = st.sampled_from(["the", "film", "was", "fun"])


def pieces(checkpoint, encoded, row):
    return checkpoint.tokenizer.convert_ids_to_tokens(encoded.ids[encoded.starts[row] : encoded.starts[row + 1]])


def types(encoded, row):
    return encoded.types[encoded.starts[row] : encoded.starts[row + 1]].tolist()


@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.data())
def test_the_focus_is_cut_only_when_nothing_else_is_left(lengths, data):
    focus = data.draw(st.integers(0, len(lengths) - 1))
    room = data.draw(st.integers(0, 60))
    kept = truncated_lengths(lengths, focus, room)
    assert sum(kept) == min(room, sum(lengths))
    assert all(0 <= k <= n for k, n in zip(kept, lengths, strict=True))
    if kept[focus] < lengths[focus]:
        assert all(k == 0 for i, k in enumerate(kept) if i != focus)


def test_segments_stand_between_separators_in_model_order(checkpoint):
    encoded = encode(checkpoint.tokenizer, [(("the film", "was fun", "it"), 1)], 32)
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", "the", "film", "[SEP]", "was", "fun", "[SEP]", "it", "[SEP]"]


def test_a_single_text_is_encoded_as_the_tokenizer_itself_does(checkpoint, texts):
    encoded = encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 12)
    plain = checkpoint.tokenizer(texts, truncation=True, max_length=12)["input_ids"]
    assert [encoded.ids[a:b].tolist() for a, b in zip(encoded.starts, encoded.starts[1:], strict=False)] == plain


def test_a_pair_is_encoded_as_the_tokenizer_itself_does(checkpoint):
    encoded = encode(checkpoint.tokenizer, [(("the film", "was fun"), 0)], 32)
    plain = checkpoint.tokenizer("the film", "was fun")
    assert encoded.ids.tolist() == plain["input_ids"]
    assert types(encoded, 0) == plain["token_type_ids"]


# Of an empty second text, transformers makes no pair.
@given(st.lists(WORDS, max_size=14), st.lists(WORDS, min_size=1, max_size=14), st.integers(4, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_pair_without_focus_is_cut_as_transformers_cuts_it(checkpoint, first, second, max_length):
    both = " ".join(first), " ".join(second)
    encoded = encode(checkpoint.tokenizer, [(both, None)], max_length)
    plain = checkpoint.tokenizer(*both, truncation=True, max_length=max_length)
    assert encoded.ids.tolist() == plain["input_ids"]
    assert types(encoded, 0) == plain["token_type_ids"]


def test_each_text_of_a_pair_that_is_too_long_keeps_its_beginning_and_its_end(checkpoint):
    long = ["the", "film", "was", "a", "story", "of", "it"]
    pair = " ".join(long), " ".join(reversed(long))
    encoded = encode(checkpoint.tokenizer, [(pair, None)], 11, truncation="head+tail")
    kept = [long[0], *long[-3:]], [long[-1], *long[2::-1]]
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", *kept[0], "[SEP]", *kept[1], "[SEP]"]
    encoded = encode(checkpoint.tokenizer, [((pair[0], "fun"), None)], 8, truncation="head+tail")
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", long[0], *long[-3:], "[SEP]", "fun", "[SEP]"]


def test_token_types_tell_the_focus_from_its_context(checkpoint):
    current_first = encode(checkpoint.tokenizer, [(("it", "was"), 0)], 32)
    assert types(current_first, 0) == [0, 0, 0, 1, 1]
    between = encode(checkpoint.tokenizer, [(("it", "was", "fun"), 1)], 32)
    assert types(between, 0) == [0, 0, 0, 1, 1, 0, 0]
    last = encode(checkpoint.tokenizer, [(("it", "was", "fun"), 2)], 32)
    assert types(last, 0) == [0, 0, 0, 0, 0, 1, 1]


def test_context_is_cut_before_the_focus(checkpoint):
    long = "the film was a story of it"
    encoded = encode(checkpoint.tokenizer, [((long, long), 1)], 12)
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", "the", "film", "[SEP]", *long.split(), "[SEP]"]
    assert encoded.full_lengths.tolist() == [17]


def test_of_a_focus_that_is_too_long_a_quarter_is_kept_of_its_beginning_and_the_rest_of_its_end(checkpoint):
    words = ["the", "film", "was", "a", "story", "of", "it", "great", "lovely", "fun", "awful", "sad"]
    long = " ".join(words)
    for room, kept in ((8, [*words[:2], *words[-6:]]), (3, words[-3:]), (11, [*words[:2], *words[-9:]]), (12, words)):
        encoded = encode(checkpoint.tokenizer, [((long,), 0)], room + 2, truncation="head+tail")
        assert pieces(checkpoint, encoded, 0) == ["[CLS]", *kept, "[SEP]"]
        assert encoded.full_lengths.tolist() == [14]
    # The context is cut at its end, and before the focus is.
    encoded = encode(checkpoint.tokenizer, [((long, long), 1)], 18, truncation="head+tail")
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", *words[:3], "[SEP]", *words, "[SEP]"]
    encoded = encode(checkpoint.tokenizer, [((long, long), 0)], 7, truncation="head+tail")
    assert pieces(checkpoint, encoded, 0) == ["[CLS]", words[0], *words[-3:], "[SEP]", "[SEP]"]
    assert types(encoded, 0) == [0] * 6 + [1]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(3, 12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_windows_hold_all_of_a_text_and_overlap_by_half(checkpoint, counts, max_length):
    words = sorted(word for word in checkpoint.tokenizer.get_vocab() if word.isalpha())
    numbered = [[words[at % len(words)] for at in range(count)] for count in counts]
    inputs = [((" ".join(text),), 0) for text in numbered]
    encoded = encode(checkpoint.tokenizer, inputs, max_length, truncation="windows")
    assert len(encoded) == encoded.windows.sum()
    row, room = 0, max_length - 2
    for text, count in zip(numbered, encoded.windows, strict=True):
        own = [pieces(checkpoint, encoded, row + number)[1:-1] for number in range(count)]
        steps = [min(number * max(room // 2, 1), max(len(text) - room, 0)) for number in range(count)]
        assert own == [text[step : step + room] for step in steps]
        assert steps[-1] + room >= len(text)
        row += count
    head = encode(checkpoint.tokenizer, inputs, max_length)
    firsts = encoded.take(np.cumsum(encoded.windows) - encoded.windows)
    assert np.array_equal(firsts.ids, head.ids)
    assert np.array_equal(firsts.full_lengths, head.full_lengths)


def test_windows_are_of_the_focus_or_of_the_longer_text_of_a_pair(checkpoint):
    long = "the film was a story of it great"
    encoded = encode(checkpoint.tokenizer, [(("it", long), 1)], 7, truncation="windows")
    shown = [pieces(checkpoint, encoded, row) for row in range(len(encoded))]
    assert shown[0] == ["[CLS]", "[SEP]", "the", "film", "was", "a", "[SEP]"]
    assert [row[2:-1] for row in shown] == [long.split()[begin : begin + 4] for begin in (0, 2, 4)]
    encoded = encode(
        checkpoint.tokenizer, [((long, "it"), None), ((long, f"{long} it"), None)], 8, truncation="windows"
    )
    assert encoded.windows.tolist() == [3, 7]
    assert pieces(checkpoint, encoded, 1) == ["[CLS]", "was", "a", "story", "of", "[SEP]", "it", "[SEP]"]
    assert pieces(checkpoint, encoded, 9) == ["[CLS]", "the", "film", "[SEP]", "it", "great", "it", "[SEP]"]
    assert types(encoded, 9) == [0] * 4 + [1] * 4


def test_a_text_is_selected_and_averaged_with_all_of_its_windows(checkpoint, monkeypatch):
    texts = ["the film was a story of it great", "fun", "it was a story of fun"]
    encoded = encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 6, truncation="windows")
    assert encoded.windows.tolist() == [3, 1, 2]
    assert encoded.select(np.arange(3)) is encoded
    taken = encoded.select(np.array([2, 0, 2]))
    assert taken.windows.tolist() == [2, 3, 2]
    rows = [4, 5, 0, 1, 2, 4, 5]
    assert [pieces(checkpoint, taken, at) for at in range(7)] == [pieces(checkpoint, encoded, row) for row in rows]
    means = encoded.mean_of_texts(np.array([[1, 0], [0, 1], [0.5, 0.5], [1, 0], [0, 1], [0, 1]], np.float32))
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, [[0.5, 0.5], [1, 0], [0, 1]])
    monkeypatch.setattr("bertgrid_tf.bert.encode.CHUNK", 2)
    on_disk = encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 6, truncation="windows")
    assert np.array_equal(on_disk.ids, encoded.ids) and np.array_equal(on_disk.windows, encoded.windows)
    assert np.array_equal(on_disk.select(np.array([2, 0, 2])).ids, taken.ids)


def test_an_empty_text_is_two_special_tokens(checkpoint):
    encoded = encode(checkpoint.tokenizer, [(("",), 0), (("it",), 0)], 8)
    assert encoded.lengths.tolist() == [2, 3]


def test_take_repeats_and_reorders(checkpoint, texts):
    encoded = encode(checkpoint.tokenizer, [((text,), 0) for text in texts[:6]], 16)
    taken = encoded.take(np.array([5, 0, 0]))
    assert [pieces(checkpoint, taken, i) for i in range(3)] == [pieces(checkpoint, encoded, i) for i in (5, 0, 0)]
    assert len(taken) == 3


def test_texts_of_another_script_are_refused(checkpoint):
    with pytest.raises(UserError, match=r"tiny does not know these texts: 100% of their pieces are \[UNK\]"):
        check_vocabulary(checkpoint.tokenizer, "tiny", ["привет мир", "мир"])


def test_empty_texts_are_not_unknown(checkpoint):
    check_vocabulary(checkpoint.tokenizer, "tiny", ["", ""])


def test_a_tokenizer_that_sets_no_special_tokens_is_refused(checkpoint):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    bare = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="[UNK]", pad_token="[UNK]")
    with pytest.raises(UserError, match="sets no special tokens around texts"):
        encode(tokenizer, [(("a",), 0)], 8)


def test_a_length_without_room_is_refused(checkpoint):
    with pytest.raises(UserError, match="max_length 4 leaves no room"):
        encode(checkpoint.tokenizer, [(("it", "was", "fun"), 0)], 4)


def test_many_texts_are_encoded_as_few_are_and_lie_on_disk(checkpoint, texts, monkeypatch):
    inputs = [((text, "it was"), 0) for text in texts]
    few = encode(checkpoint.tokenizer, inputs, 12)
    known = tokenized(checkpoint.tokenizer, texts[:5])
    monkeypatch.setattr("bertgrid_tf.bert.encode.CHUNK", 7)
    many = encode(checkpoint.tokenizer, iter(inputs), 12, known)
    assert isinstance(many.ids, np.memmap)
    for one, other in (
        (many, few),
        (many.take(np.array([9, 0, 0])), few.take(np.array([9, 0, 0]))),
        (many.select(np.arange(len(texts))[::-1]), few.take(np.arange(len(texts))[::-1])),
    ):
        for name in ("ids", "types", "starts", "full_lengths"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert full_lengths(checkpoint.tokenizer, inputs).tolist() == few.full_lengths.tolist()


def test_a_folder_that_takes_no_encoded_texts_is_named(checkpoint, texts, monkeypatch):
    monkeypatch.setattr("bertgrid_tf.bert.encode.CHUNK", 7)
    monkeypatch.setattr("tempfile.tempdir", "/absent")
    with pytest.raises(UserError, match=r"cannot be written to /absent \(No such file or directory\): make room"):
        encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 12)


def test_the_padding_and_truncation_that_a_tokenizer_s_file_asks_for_are_ours_to_decide(checkpoint):
    tokenizer = copy.deepcopy(checkpoint.tokenizer)
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    assert encode(tokenizer, [(("the film was fun",), 0), (("it",), 0)], 12).lengths.tolist() == [6, 3]


def test_a_vocabulary_is_judged_by_all_texts_together(checkpoint):
    coverage = Coverage(checkpoint.tokenizer, "tiny")
    coverage.add(["привет мир", "☺"], worded_only=True)
    assert not coverage.fits
    coverage.add(["the film was", "it"], worded_only=True)
    assert coverage.fits
    assert coverage.remarks() == [
        "The vocabulary has nothing of 2 of the 4 texts, as 'привет мир', '☺': their labels are guesses."
    ]
