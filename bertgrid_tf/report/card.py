"""The final model's card: the README.md that goes with a model wherever it goes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from bertgrid_tf.analysis import ADJUSTMENT, TEMPERATURE, ClassReport, PostHocGain, StudyAnalysis
from bertgrid_tf.corpus import NONE_MARKER, Dialogue, Layout, Utterance, format_inputs
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.report.format import by_class, count_of, interval, limits, percent, points, score
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata

PLACE = "path/of/this/folder"
"""What stands in the card's code for the folder that the model lies in."""

_NAMES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "weighted_f1": "Weighted F1", "loss": "Loss"}
_HUB_METRICS = {"accuracy": "accuracy", "macro_f1": "f1", "weighted_f1": "f1"}
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")

_DIALOGUE = Dialogue(
    (
        Utterance("Hi.", speaker="Ross"),
        Utterance("Where have you been?", speaker="Rachel"),
        Utterance("At the museum.", speaker="Ross"),
        Utterance("Again?", speaker="Rachel"),
    )
)
_CLASSIFIED = 2
"""The place of the utterance to classify in the example."""

_WORDS = {
    "current": "the text itself",
    "previous": "the one before it",
    "previous2": "the second before it",
    "next": "the one after it",
}

# By the number of segments: a plain tokenizer knows texts and pairs. Unless torch_dtype is None, the pipeline of
# transformers 4.54 loads no TensorFlow model.
_CODE = {
    1: """from transformers import pipeline

classify = pipeline("text-classification", model="{place}", torch_dtype=None)
classify("{segments[0]}", top_k=None, truncation=True, max_length={max_length})""",
    2: """from transformers import pipeline

classify = pipeline("text-classification", model="{place}", torch_dtype=None)
pair = {{"text": "{segments[0]}", "text_pair": "{segments[1]}"}}
classify(pair, top_k=None, truncation="{cut}", max_length={max_length})""",
    3: """from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import encode
from bertgrid_tf.bert.trainer import Trainer

classifier = Trainer(load("{place}", {labels}))
text = encode(classifier.checkpoint.tokenizer, [({segments}, {focus})], max_length={max_length})
classifier.probabilities(text)""",
}


def card(analysis: StudyAnalysis) -> str:
    """The model card in Markdown, with the YAML of a Hugging Face model card in front.

    Args:
        evidence: of a study whose final model is trained. What it does not tell, the card leaves out.
    """
    final, metadata, dev = analysis.final, analysis.metadata, analysis.final_dev
    assert final is not None and metadata is not None and dev is not None
    splits = {"dev": dev} | ({"test": analysis.test} if analysis.test else {})
    parts = [
        f"---\n{_metadata(analysis, final, splits)}\n---",
        *_introduction(analysis, final, metadata),
        *_data(analysis, metadata),
        *_input(final.hyperparameters, metadata),
        *_scores(analysis, splits),
        "## Limits",
        "\n".join(f"* {sentence}" for sentence in _limits(analysis, splits)),
        *_repetition(analysis, metadata),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(analysis: StudyAnalysis, final: FinalTrial, splits: Mapping[str, ClassReport]) -> str:
    corpus = analysis.data.name
    scores = [
        EvalResult(
            task_type="text-classification",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=split,
            metric_type=kind,
            metric_name=_NAMES[metric],
            metric_value=round(classes.metrics[metric], 4),
        )
        for split, classes in splits.items()
        for metric, kind in _HUB_METRICS.items()
    ]
    # What is a folder here, or was trained from nothing, the hub does not know.
    on_hub = _HUB_ID.fullmatch(final.model) and not Path(final.model).exists() and final.model != "scratch"
    return ModelCardData(
        base_model=final.model if on_hub else None,
        library_name="transformers",
        metrics=sorted(set(_HUB_METRICS.values())),
        model_name=Path(analysis.folder).name,
        eval_results=scores,
        pipeline_tag="text-classification",
    ).to_yaml()


def _introduction(analysis: StudyAnalysis, final: FinalTrial, metadata: StudyMetadata) -> list[str]:
    hyperparameters = ", ".join(
        f"`{name}` {value}" for name, value in final.hyperparameters.model_dump().items() if name != "model"
    )
    return [
        f"# {Path(analysis.folder).name}",
        f"Sorts texts into {len(metadata.labels)} classes: {', '.join(metadata.labels)}. It is `{final.model}`, trained "
        f"on the corpus {analysis.data.name} to epoch {len(final.epochs)} of a schedule of {final.schedule_epochs}, with the "
        f"settings that bertgrid-tf found best: {hyperparameters}.",
    ]


def _data(analysis: StudyAnalysis, metadata: StudyMetadata) -> list[str]:
    splits = analysis.data.classes
    totals = {split: sum(counts.values()) for split, counts in splits.items()}
    rows = [
        [label, *(count_of(counts.get(label, 0), totals[split]) for split, counts in splits.items())]
        for label in metadata.labels
    ]
    limited = analysis.recipe.max_train_samples
    return [
        "## Data",
        f"The corpus {analysis.data.name} (fingerprint `{metadata.fingerprint}`), texts of each class"
        + (f"; of its training split about {limited:,} texts in whole dialogues were used" if limited else "")
        + ":",
        _table(["class", *splits], [*rows, ["in all", *(f"{total:,}" for total in totals.values())]]),
    ]


def _input(hyperparameters: Hyperparameters, metadata: StudyMetadata) -> list[str]:
    """How an input is laid out, in words, by an example and in code."""
    layout = Layout(hyperparameters.context, hyperparameters.speaker_format if metadata.speakers else "none")
    example, said = format_inputs([_DIALOGUE], layout)[_CLASSIFIED], _DIALOGUE.utterances[_CLASSIFIED].text
    places = hyperparameters.context.split("+")
    count, most = len(places), f"more than {hyperparameters.max_length} tokens, special ones included"
    if count == 1:
        words = [f"An input is one text alone. Where that makes {most}, it is cut at its end."]
    else:
        words = [
            "A text alone is not what the model was trained on: an input is the text to classify with neighbours of "
            f"the same dialogue, in this order: {', '.join(_WORDS[place] for place in places)}.",
            f"`{NONE_MARKER}` stands for a neighbour that the dialogue does not have.",
            f"Where that makes {most}, the neighbours are cut first, at their ends.",
        ]
    if metadata.speakers:
        written = example.segments[example.focus]
        words.append(f"What Ross says, `{said}`, is written `{written}`; a text without a speaker stands as it is.")
    if metadata.speakers and hyperparameters.min_speaker_count:
        words.append(
            f"So does one of a speaker with fewer than {hyperparameters.min_speaker_count} texts in the training split."
        )
    lines = "\n".join(f"{utterance.speaker}: {utterance.text}" for utterance in _DIALOGUE.utterances)
    code = _CODE[count].format(
        place=PLACE,
        segments=example.segments,
        focus=example.focus,
        cut="only_second" if example.focus == 0 else "only_first",
        labels=tuple(metadata.labels),
        max_length=hyperparameters.max_length,
    )
    return [
        "## Input",
        " ".join(words),
        "In the dialogue",
        _fenced(lines),
        f"`{said}` is classified by",
        _fenced(code, "python"),
        "`bertgrid-tf predict` does so with a whole file"
        + (
            ", and cuts a text that is too long by itself, which in a pair transformers refuses." if count == 2 else "."
        ),
    ]


def _scores(analysis: StudyAnalysis, splits: Mapping[str, ClassReport]) -> list[str]:
    heads = [f"{split}, {sum(classes.support.values()):,} texts" for split, classes in splits.items()]
    metric, best = analysis.recipe.metric, analysis.best
    rows = [[_NAMES[name], *(score(name, c.metrics[name]) for c in splits.values())] for name in OVERALL]
    rows.append([f"95 % interval of {metric}", *(limits(metric, c.score) for c in splits.values())])
    parts = ["## Scores", _table(["", *heads], rows)]
    if "test" in splits:
        parts.append("Nothing was decided by the test split's scores.")
    else:
        parts.append("Settings and epoch were chosen on dev; the test split, if there is one, has not been opened.")
    if best is not None and best.score is not None:
        parts.append(
            f"In the search, the configuration reached {metric} {interval(metric, best.score)} on dev; the interval, "
            f"of 95 %, is over dialogues{_optimism(analysis)}."
        )
    if kept := [gain for gain in analysis.gains if gain.kept and gain.name in (ADJUSTMENT, TEMPERATURE)]:
        parts.append(
            "`bertgrid-tf predict` and `export` correct its probabilities besides, as `correction.json` says; plain "
            "transformers does not:"
        )
        parts.append("\n".join(f"* {g.name}: {_gained(g)}. {g.detail}" for g in kept))
    for split, classes in splits.items():
        head = ["class", "texts", "precision", "recall", "F1"]
        parts += [f"Class by class on {split}:", _table(head, by_class(classes))]
    return parts


def _limits(analysis: StudyAnalysis, splits: Mapping[str, ClassReport]) -> list[str]:
    metric, best, corpus = analysis.recipe.metric, analysis.best, analysis.data.name
    found = [
        f"It has seen texts of {corpus} alone. How it does on texts of another source, time or language was not "
        "measured; whatever it is given, it answers with one of its classes."
    ]
    if train := analysis.data.classes.get("train", {}):
        total = sum(train.values())
        most, least = max(train, key=lambda label: train[label]), min(train, key=lambda label: train[label])
        found.append(
            f"It has learned from more texts of some classes than of others: {percent(train[most] / total)} of them "
            f"are {most}, {percent(train[least] / total)} {least}."
        )
    split, classes = list(splits.items())[-1]
    if missed := [one for one in classes.labels if classes.support.get(one) and not classes.metrics[f"recall_{one}"]]:
        found.append(f"Not one text of {' or '.join(missed)} was recognised on {split}.")
    if best is not None and best.score is not None:
        found.append(
            f"Its scores are noisy: with other texts of the same kind, and as many, its {metric} in the search, "
            f"{interval(metric, best.score)}, could be any in that interval."
        )
    if len(analysis.tied) > 1:
        found.append(
            f"{len(analysis.tied)} of the {len(analysis.cells)} pairs of learning rate and epoch that were tried "
            "cannot be told from the best (at 5 %): that this one won is partly chance."
        )
    for repeat in analysis.repeats:
        scores = sorted(repeat.scores)
        found.append(
            f"With {len(scores)} seeds, learning rate {repeat.learning_rate:g} and epoch {repeat.epoch} reached "
            f"{metric} from {score(metric, scores[0])} to {score(metric, scores[-1])} in the search."
        )
    found += [
        f"`{audit.parameter}` was chosen as if it did not depend on learning rate and epochs; an audit found that it "
        "does."
        for audit in analysis.audits
        if audit.verdict == "interacts"
    ]
    if calibration := analysis.calibration:
        found.append(
            f"Its probabilities{', once adjusted,' if analysis.adjusted else ''} are not shares of right answers: on "
            f"dev they differ from them by {100 * calibration.before.error:.1f} points on average (expected "
            "calibration error)."
        )
    return found


def _repetition(analysis: StudyAnalysis, metadata: StudyMetadata) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
    on = f" It ran on {analysis.hardware}." if analysis.hardware else ""
    again = [_fenced(analysis.command, "sh")] if analysis.command else []
    return ["## How to repeat it", *again, f"Seed {analysis.recipe.seed}, with {versions}.{on}"]


def _optimism(analysis: StudyAnalysis) -> str:
    if analysis.optimism is None:
        return ""
    by = points(analysis.recipe.metric, analysis.optimism)
    return f". Since it was chosen among {len(analysis.cells)}, that is expected to be {by} too good"


def _gained(gain: PostHocGain) -> str:
    before, after = score(gain.metric, gain.on_dev.before), score(gain.metric, gain.on_dev.after)
    return f"{gain.metric} {before} without, {after} with it on dev"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"
