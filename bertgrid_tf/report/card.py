"""The final model's card: its README.md, in the format of Hugging Face."""

import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from bertgrid_tf.analysis import ADJUSTMENT, TEMPERATURE, ClassReport, StudyAnalysis
from bertgrid_tf.corpus import NONE_MARKER, Dialogue, Layout, Utterance, format_inputs
from bertgrid_tf.metrics.classification import OVERALL
from bertgrid_tf.metrics.compare import INTERACTS
from bertgrid_tf.report.answer import (
    best_score,
    interaction_check,
    members,
    optimism,
    seeds,
    settings,
    tied_set,
    unbeaten,
    without_dev,
)
from bertgrid_tf.report.format import by_class, class_counts, limits, percent, score
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata

# The code in it goes by the number of segments, since a plain tokenizer knows texts and pairs. Unless torch_dtype is
# None, the pipeline of transformers 4.54 loads no TensorFlow model.
TEMPLATE = Path(__file__).with_name("card.md.j2")
PLACE = "path/of/this/folder"
"""The placeholder for the model's folder in the card's code."""

_NAMES = {
    "accuracy": "Accuracy",
    "macro_f1": "Macro-F1",
    "weighted_f1": "Weighted F1",
    "loss": "Loss",
    "balanced_accuracy": "Balanced accuracy",
    "mcc": "Matthews' correlation coefficient",
    "cohen_kappa": "Cohen's kappa",
    "quadratic_kappa": "Quadratic kappa",
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
}
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
_PAIR = Dialogue((Utterance("Where have you been?", text_pair="At the museum."),))

_WORDS = {
    "current": "the text itself",
    "previous": "the one before it",
    "previous2": "the second before it",
    "next": "the one after it",
}


_WINDOWS = "; further inputs hold the rest, in windows that overlap by half, and the text has their mean probabilities"


def card(analysis: StudyAnalysis, place: str = PLACE) -> str:
    """Return the model card in Markdown, with the metadata of a Hugging Face model card in front.

    Args:
        analysis: A study whose final model is trained. What the analysis does not know, the card leaves out.
        place: Where the code in the card loads the model from: a folder, or a name on the hub.
    """
    from jinja2 import Environment, StrictUndefined

    final, metadata, dev = analysis.final, analysis.metadata, analysis.final_dev
    assert final is not None and metadata is not None
    hyperparameters, metric = final.hyperparameters, analysis.recipe.metric
    splits = {split: report for split, report in (("dev", dev), ("test", analysis.test)) if report is not None}
    layout = Layout(hyperparameters.context, hyperparameters.speaker_format if metadata.speakers else "none")
    pairs = analysis.recipe.has_pairs
    of_one = [report.metrics for report in splits.values()][:1]
    shown = [name for name in OVERALL if all(name in metrics for metrics in of_one)] + [metric] * (
        metric not in OVERALL
    )
    baseline = next((report.baseline.label for report in splits.values()), "")
    scores = [
        *(
            [_NAMES.get(name, name), *(score(name, report.metrics[name]) for report in splits.values())]
            for name in shown
        ),
        [f"95 % interval of {metric}", *(limits(metric, report.score) for report in splits.values())],
        [
            f"{metric} of always saying {baseline}",
            *(score(metric, report.baseline.always) for report in splits.values()),
        ],
        [
            f"{metric} of guessing by the classes' frequencies",
            *(score(metric, report.baseline.guessing) for report in splits.values()),
        ],
    ]
    rules = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = rules.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        analysis=analysis,
        recipe=analysis.recipe,
        final=final,
        metadata=metadata,
        hyperparameters=hyperparameters,
        labels=tuple(metadata.labels),
        front=_front(analysis, final, splits),
        name=Path(analysis.folder).name,
        counts=class_counts(metadata.classes),
        place=place,
        members=members(analysis),
        plain=(hyperparameters.pooling, hyperparameters.truncation) == ("cls", "head"),
        windows=_WINDOWS if hyperparameters.truncation == "windows" else "",
        places=[_WORDS[place] for place in hyperparameters.context.split("+")],
        none_marker=NONE_MARKER,
        dialogue="\n".join(f"{utterance.speaker}: {utterance.text}" for utterance in _DIALOGUE.utterances),
        text=_DIALOGUE.utterances[_CLASSIFIED].text,
        pairs=pairs,
        example=format_inputs([_PAIR if pairs else _DIALOGUE], layout)[0 if pairs else _CLASSIFIED],
        heads=[f"{split}, {sum(report.support.values()):,} texts" for split, report in splits.items()],
        scores=scores,
        score=score,
        unbeaten=[one for split, report in splits.items() for one in unbeaten(metric, report, "the model", split)],
        search=[best_score(analysis), *settings(analysis), *optimism(analysis)],
        kept=[gain for gain in analysis.gains if gain.kept and gain.name in (ADJUSTMENT, TEMPERATURE)],
        by_class={split: by_class(report) for split, report in splits.items()},
        limits=_limits(analysis, metadata, splits),
    )
    return re.sub("\n{3,}", "\n\n", text).strip() + "\n"


def _front(analysis: StudyAnalysis, final: FinalTrial, splits: Mapping[str, ClassReport]) -> str:
    corpus = analysis.recipe.corpus
    scores = [
        EvalResult(
            task_type="text-classification",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=split,
            metric_type=kind,
            metric_name=_NAMES[metric],
            metric_value=round(report.metrics[metric], 4),
        )
        for split, report in splits.items()
        for metric, kind in _HUB_METRICS.items()
    ]
    # The hub knows neither folders nor models without pretrained weights.
    base, _, _ = final.model.partition("@")
    on_hub = _HUB_ID.fullmatch(base) and not Path(final.model).exists() and final.model != "scratch"
    return ModelCardData(
        base_model=base if on_hub else None,
        library_name="transformers" if final.hyperparameters.pooling == "cls" else "bertgrid-tf",
        metrics=sorted(set(_HUB_METRICS.values())),
        model_name=Path(analysis.folder).name,
        eval_results=scores or None,
        pipeline_tag="text-classification",
    ).to_yaml()


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
    sentences += [sentence.replace("**", "") for sentence in without_dev(analysis.recipe)]
    for split, report in list(splits.items())[-1:]:
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
            f"Its probabilities{' after logit adjustment' if analysis.adjusted else ''} have an expected calibration "
            f"error of {percent(calibration.before.error)} on dev."
        )
    return sentences
