"""The final model's card: its README.md, in the format of Hugging Face."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from bertgrid_tf.analysis import ADJUSTMENT, TEMPERATURE, ClassReport, PostHocGain, StudyAnalysis
from bertgrid_tf.corpus import NONE_MARKER, Dialogue, Layout, Utterance, format_inputs
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.metrics.compare import INTERACTS
from bertgrid_tf.report.answer import best_cell, interaction_check, optimism, seeds, tied_set
from bertgrid_tf.report.format import by_class, class_counts, limits, percent, score
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata

PLACE = "path/of/this/folder"
"""The placeholder for the model's folder in the card's code."""

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
"""The index of the utterance to classify in the example."""

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
    """Return the model card in Markdown, with the metadata of a Hugging Face model card in front.

    Args:
        analysis: A study whose final model is trained. What the analysis does not know, the card leaves out.
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
        "\n".join(f"* {sentence}" for sentence in _limits(analysis, metadata, splits)),
        *_reproduction(analysis, metadata),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(analysis: StudyAnalysis, final: FinalTrial, splits: Mapping[str, ClassReport]) -> str:
    corpus = analysis.recipe.corpus
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
    # The hub knows neither folders nor models without pretrained weights.
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
        f"Sorts texts into {len(metadata.labels)} classes: {', '.join(metadata.labels)}. It is `{final.model}`, "
        f"fine-tuned on the corpus {analysis.recipe.corpus} to epoch {len(final.epochs)} of a schedule of "
        f"{final.schedule_epochs}, with the best hyperparameters of a search by bertgrid-tf: {hyperparameters}.",
    ]


def _data(analysis: StudyAnalysis, metadata: StudyMetadata) -> list[str]:
    limited = analysis.recipe.max_train_samples
    return [
        "## Data",
        f"The corpus {analysis.recipe.corpus} (fingerprint `{metadata.fingerprint}`), texts of each class"
        + (f"; of its training split about {limited:,} texts in whole dialogues were used" if limited else "")
        + ":",
        _table(["class", *metadata.classes], class_counts(metadata.classes)),
    ]


def _input(hyperparameters: Hyperparameters, metadata: StudyMetadata) -> list[str]:
    layout = Layout(hyperparameters.context, hyperparameters.speaker_format if metadata.speakers else "none")
    example, text = format_inputs([_DIALOGUE], layout)[_CLASSIFIED], _DIALOGUE.utterances[_CLASSIFIED].text
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
        words.append(f"Ross's utterance `{text}` is written `{written}`; a text without a speaker stays as it is.")
    if metadata.speakers and hyperparameters.min_speaker_count:
        words.append(
            f"So does a text of a speaker with fewer than {hyperparameters.min_speaker_count} texts in training."
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
        f"`{text}` is classified by",
        _fenced(code, "python"),
        "`bertgrid-tf predict` classifies a whole file so"
        + (
            ", and cuts a text that is too long by itself, which in a pair transformers refuses." if count == 2 else "."
        ),
    ]


def _scores(analysis: StudyAnalysis, splits: Mapping[str, ClassReport]) -> list[str]:
    heads = [f"{split}, {sum(classes.support.values()):,} texts" for split, classes in splits.items()]
    metric = analysis.recipe.metric
    rows = [[_NAMES[name], *(score(name, report.metrics[name]) for report in splits.values())] for name in OVERALL]
    rows.append([f"95 % interval of {metric}", *(limits(metric, report.score) for report in splits.values())])
    parts = ["## Scores", _table(["", *heads], rows)]
    if "test" in splits:
        parts.append("Nothing was decided by the test split's scores.")
    else:
        parts.append("Hyperparameters and epoch were chosen on dev; the test split, if any, has not been opened.")
    if analysis.best is not None:
        parts.append(" ".join([best_cell(analysis), *optimism(analysis)]))
    if kept := [gain for gain in analysis.gains if gain.kept and gain.name in (ADJUSTMENT, TEMPERATURE)]:
        parts.append(
            "`bertgrid-tf predict` and `export` also correct the probabilities (`correction.json`); plain transformers "
            "does not:"
        )
        parts.append("\n".join(f"* {gain.name}: {_gain(gain)}. {gain.detail}" for gain in kept))
    for split, report in splits.items():
        head = ["class", "texts", "precision", "recall", "F1"]
        parts += [f"Class by class on {split}:", _table(head, by_class(report))]
    return parts


def _limits(analysis: StudyAnalysis, metadata: StudyMetadata, splits: Mapping[str, ClassReport]) -> list[str]:
    corpus = analysis.recipe.corpus
    sentences = [
        f"The model was trained on texts of {corpus} alone. Its scores on texts of another source, time or language "
        "were not measured; for any text it answers with one of its classes."
    ]
    if train := metadata.classes.get("train", {}):
        total = sum(train.values())
        most, least = max(train, key=lambda label: train[label]), min(train, key=lambda label: train[label])
        sentences.append(
            f"Its training data are imbalanced: {percent(train[most] / total)} of the texts are {most}, "
            f"{percent(train[least] / total)} {least}."
        )
    split, report = list(splits.items())[-1]
    if missed := [one for one in report.labels if report.support.get(one) and not report.metrics[f"recall_{one}"]]:
        sentences.append(f"No text of {' or '.join(missed)} was recognised on {split}.")
    sentences.append("The scores are noisy: a 95 % interval is that of other texts of the same kind and number.")
    sentences += [*tied_set(analysis), *seeds(analysis)]
    sentences += [
        interaction_check(check, analysis.recipe.metric)
        for check in analysis.interaction_checks
        if check.verdict == INTERACTS
    ]
    if calibration := analysis.calibration:
        sentences.append(
            f"Its probabilities{' after logit adjustment' if analysis.adjusted else ''} are not calibrated: their "
            f"expected calibration error on dev is {percent(calibration.before.error)}."
        )
    return sentences


def _reproduction(analysis: StudyAnalysis, metadata: StudyMetadata) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
    on = f" It ran on {metadata.hardware}." if metadata.hardware else ""
    command = [_fenced(analysis.command, "sh")] if analysis.command else []
    return ["## Reproduction", *command, f"Seed {analysis.recipe.seed}, with {versions}.{on}"]


def _gain(gain: PostHocGain) -> str:
    before, after = score(gain.metric, gain.on_dev.before), score(gain.metric, gain.on_dev.after)
    return f"{gain.metric} {before} without, {after} with it on dev"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def _fenced(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"
