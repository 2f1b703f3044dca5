"""What the model card says, and that its code does what the model was trained on."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from bertgrid_tf import recipe as recipes
from bertgrid_tf.analysis import (
    CellAnalysis,
    Change,
    ClassReport,
    Cost,
    InteractionCheck,
    PostHocGain,
    ScoreEstimate,
    SeedRepeats,
    StudyAnalysis,
)
from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.trainer import Trainer
from bertgrid_tf.corpus import CONTEXTS, Dialogue, Utterance
from bertgrid_tf.metrics.calibration import Calibration, Reliability
from bertgrid_tf.metrics.compare import Baseline, Difference
from bertgrid_tf.report.card import PLACE, card
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata
from bertgrid_tf.training.encoding import encode_dialogues

LABELS = ("joy", "no|ne", "sad")
COUNTS = {"train": {"joy": 30, "no|ne": 60, "sad": 10}, "dev": {"joy": 3, "no|ne": 6, "sad": 1}}
DIALOGUE = Dialogue(
    tuple(
        Utterance(text, speaker=speaker)
        for text, speaker in [
            ("Hi.", "Ross"),
            ("Where have you been?", "Rachel"),
            ("At the museum.", "Ross"),
            ("Again?", "Rachel"),
        ]
    )
)


def metrics(accuracy: float) -> dict[str, float]:
    overall = {"accuracy": accuracy, "macro_f1": 0.5, "weighted_f1": 0.625, "loss": 0.75}
    per_class = {f"{name}_{label}": 0.5 for name in ("precision", "recall", "f1") for label in LABELS}
    return overall | per_class | {"recall_sad": 0.0}


def classes(joy: int, nobody: int, sad: int, accuracy: float) -> ClassReport:
    """The report of a number of texts of each class, and an accuracy with an interval of 0.1 on both sides."""
    support = dict(zip(LABELS, (joy, nobody, sad), strict=True))
    score = ScoreEstimate(accuracy, accuracy - 0.1, accuracy + 0.1)
    baseline = Baseline("no|ne", 0.6, 0.46, False, Difference(accuracy - 0.6, 0.02, 0.2, 0.01), True)
    return ClassReport(LABELS, np.diag(list(support.values())), support, metrics(accuracy), score, baseline)


def reliability_off_by(error: float) -> Reliability:
    return Reliability(np.array([0.5 + error]), np.array([0.5]), np.ones(1))


PAIRS = {"data": {"text_column": "a", "text_pair_column": "b", "label_column": "c"}}


def analysis(overrides: dict[str, Any] | None = None, **changes: Any) -> StudyAnalysis:
    """Of a study that has a final model and nothing that was asked for besides."""
    recipe = recipes.load_recipe("sample", None, {"sweeps": {}} | (overrides or {}))
    hyperparameters = recipe.hyperparameters.model_copy(
        update={"model": "bert-large-cased", "context": "current+previous"}
    )
    hyperparameters = hyperparameters.model_copy(update=changes.pop("hyperparameters", {}))
    tables = [CellAnalysis(1e-3, epoch, ScoreEstimate(0.7, 0.61, 0.78), 1.0, True, metrics(0.7)) for epoch in (1, 2)]
    return replace(
        StudyAnalysis(
            folder="results/mine",
            recipe=recipe,
            metadata=StudyMetadata(
                "0123456789abcdef",
                LABELS,
                {"Ross": 7},
                {},
                {"bertgrid-tf": "0.1.0", "tensorflow": "2.20.0"},
                "",
                COUNTS,
            ),
            winner=recipe,
            best=tables[1],
            optimism=None,
            sweeps=[],
            cells=[*tables, CellAnalysis(5e-4, 1, ScoreEstimate(0.4, 0.3, 0.5), 0.01, False, metrics(0.4))],
            dev=None,
            final=FinalTrial(hyperparameters, 4, [metrics(0.5), metrics(0.75)]),
            final_dev=classes(*COUNTS["dev"].values(), 0.75),
            test=None,
            interaction_checks=[],
            seed_repeats=[],
            gains=[],
            calibration=None,
            cost=Cost({}, 0, 0, 0, None, None, None, None),
            lengths=None,
            command="bertgrid-tf tune sample --recipe results/mine/best.yaml --study again",
            predict_command="bertgrid-tf predict results/mine FILE -o OUT",
            mistakes=[],
        ),
        **changes,
    )


def front(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---\n")[1])


def table(text: str, head: str) -> list[list[str]]:
    """The lines of the table whose head begins so."""
    lines = text[text.index(f"| {head}") :].split("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").replace(r"\|", "/").split("|")] for line in lines[2:]]


def test_the_hub_reads_what_the_model_is_and_how_it_scores_by_split():
    opened = classes(2, 5, 1, 0.625)
    data = ModelCard(card(analysis(test=opened))).data
    assert data.base_model == "bert-large-cased"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
    assert data.metrics == ["accuracy", "f1"]
    assert data.language is None
    scores = {(one.dataset_split, one.metric_name): one.metric_value for one in data.eval_results}
    assert data.model_name == "mine"
    assert scores["dev", "Accuracy"] == 0.75
    assert scores["test", "Accuracy"] == 0.625
    assert scores["dev", "Macro-F1"] == 0.5
    assert len(scores) == 6


def test_a_revision_is_no_part_of_the_base_s_name():
    made = analysis()
    assert made.final is not None
    named = made.final.hyperparameters.model_copy(update={"model": "klue/roberta-base@main"})
    text = card(replace(made, final=replace(made.final, hyperparameters=named)))
    assert ModelCard(text).data.base_model == "klue/roberta-base"


@pytest.mark.parametrize("model", ["scratch", "scratch:2x256", "./minilm", "/models/minilm"])
def test_a_model_that_the_hub_does_not_have_is_not_named_as_its_base(model):
    made = analysis()
    assert made.final is not None
    named = made.final.hyperparameters.model_copy(update={"model": model})
    assert "base_model" not in front(card(replace(made, final=replace(made.final, hyperparameters=named))))


def test_the_data_stand_there_class_by_class_with_their_fingerprint():
    written = card(analysis())
    assert "The corpus sample (fingerprint `0123456789abcdef`)" in written
    assert table(written, "class | train") == [
        ["joy", "30 (30.0 %)", "3 (30.0 %)"],
        ["no/ne", "60 (60.0 %)", "6 (60.0 %)"],
        ["sad", "10 (10.0 %)", "1 (10.0 %)"],
        ["in all", "100", "10"],
    ]


def test_scores_stand_beside_their_interval_and_how_flattering_they_are():
    written = card(analysis(optimism=0.0125))
    assert table(written, " | dev, 10 texts") == [
        ["Accuracy", "75.00 %"],
        ["Macro-F1", "50.00 %"],
        ["Weighted F1", "62.50 %"],
        ["Loss", "0.7500"],
        ["95 % interval of accuracy", "65.00 to 85.00"],
        ["accuracy of always saying no/ne", "60.00 %"],
        ["accuracy of guessing by the classes' frequencies", "46.00 %"],
    ]
    assert (
        "On dev: accuracy **70.00 %** (95 % interval 61.00 to 78.00). Winner: `learning_rate=0.001`, after epoch **2** "
        "of 6. As the best of 3, this score is expected to be 1.25 points too good" in written
    )
    assert "has not been opened" in written
    assert table(written, "class | texts")[-1] == ["sad", "1", "50.00 %", "0.00 %", "50.00 %"]


def test_the_opened_test_split_has_its_column_and_its_classes():
    opened = classes(2, 5, 1, 0.625)
    written = card(analysis(test=opened))
    assert table(written, " | dev, 10 texts | test, 8 texts")[0] == ["Accuracy", "75.00 %", "62.50 %"]
    assert ["95 % interval of accuracy", "65.00 to 85.00", "52.50 to 72.50"] in table(written, " | dev, 10 texts")
    assert "Class by class on test" in written
    assert "has not been opened" not in written


def test_a_model_that_plain_transformers_would_compute_otherwise_says_so_and_has_other_code():
    written = card(analysis(hyperparameters={"context": "current", "pooling": "mean"}))
    assert ModelCard(written).data.library_name == "bertgrid-tf"
    assert "plain transformers reads the first token's: it loads this folder, but gives other classes." in written
    assert f'classifier = Trainer(load("{PLACE}", {LABELS}), pooling="mean")' in written
    assert "from transformers import" not in written
    written = card(analysis(hyperparameters={"truncation": "head+tail"}))
    assert "then the text itself in its middle, so that a quarter is kept of its beginning" in written
    assert 'max_length=48, truncation="head+tail")' in written
    assert "plain transformers reads" not in written
    written = card(analysis(hyperparameters={"truncation": "windows", "context": "current"}))
    assert "it is cut at its end; further inputs hold the rest, in windows that overlap by half" in written
    assert 'max_length=48, truncation="windows")' in written


def test_a_model_that_does_not_beat_the_baseline_says_so_first():
    made = analysis()
    dev = made.final_dev
    beaten = replace(dev, baseline=replace(dev.baseline, beaten=False))
    sentence = (
        "# mine\n\n**Not significantly better** than always saying `no|ne` (60.00 % on dev): the model has accuracy "
        "75.00 %, a difference of +15.00 points (+2.00 to +20.00)."
    )
    assert sentence in card(replace(made, final_dev=beaten))
    assert "better** than" not in card(made)


def test_limits_name_ties_small_classes_and_classes_never_found():
    limits = card(analysis()).split("## Limits")[1]
    assert "2 of 3 cells are tied at the 5 % level (≈), the best included; the cheapest of them:" in limits
    assert "60.0 % of the texts are no|ne, 10.0 % sad" in limits
    assert "No text of sad was recognised on dev" in limits
    nobody_sad = classes(3, 6, 0, 0.75)
    assert "No text of" not in card(analysis(final_dev=nobody_sad))


def test_what_was_not_looked_at_is_left_out_and_what_was_is_said():
    check = InteractionCheck("context", "a", "b", *[ScoreEstimate(0.0, -0.1, 0.1)] * 3, 0.01, "interacts")
    asked = {
        "interaction_checks": [check, replace(check, parameter="warmup_ratio", verdict="too little data to tell")],
        "seed_repeats": [SeedRepeats(1e-3, 2, [0.7, 0.66, 0.72])],
        "gains": [
            PostHocGain("soup", "accuracy", Change(0.7, 0.75, 0.01), None, True, "Of two cells."),
            PostHocGain("logit adjustment", "macro_f1", Change(0.5, 0.49, 0.5), None, False, "Strength 0."),
            PostHocGain("temperature", "loss", Change(1.2, 1.1, None), None, True, "Temperature 1.40."),
        ],
        "calibration": Calibration(1.4, reliability_off_by(0.08), reliability_off_by(0.03), 1.2, 1.1),
    }
    sentences = [
        "Interaction check of `context`: interacts; `a` less `b` at the winner: +0.00 points (-10.00 to +10.00), "
        "p 0.01.",
        "the mean 69.33 % of 3 seeds, from 66.00 % to 72.00 %",
        "temperature: loss 1.2000 without, 1.1000 with it on dev. Temperature 1.40.",
        "expected calibration error of 8.0 % on dev.",
        "It ran on 2 cores of a CPU.",
    ]
    full_analysis = analysis(**asked)
    assert full_analysis.metadata is not None
    on_cpu = replace(full_analysis.metadata, hardware="2 cores of a CPU")
    plain, full = card(analysis()), card(replace(full_analysis, metadata=on_cpu))
    for sentence in sentences:
        assert sentence in full
        assert sentence not in plain
    assert "Interaction check of `warmup_ratio`" not in full
    # The one was of no use, the other is another model.
    assert "logit adjustment" not in full
    assert "soup" not in full
    # No number is missing where evidence is.
    assert "None" not in plain.replace("`[None]`", "").replace("=None", "")


def test_how_to_repeat_it_has_the_command_the_seed_and_the_versions():
    written = card(analysis()).split("## Reproduction")[1]
    assert "```sh\nbertgrid-tf tune sample --recipe results/mine/best.yaml --study again\n```" in written
    assert "Seed 1, with bertgrid-tf 0.1.0, tensorflow 2.20.0." in written
    assert "```" not in card(analysis(command="")).split("## Reproduction")[1]


def test_the_layout_is_said_in_words():
    written = card(analysis(hyperparameters={"min_speaker_count": 5})).split("## Input")[1]
    assert (
        "A text alone is not what the model was trained on: an input is the text to classify with neighbours" in written
    )
    assert "in this order: the text itself, the one before it." in written
    assert "Ross's utterance `At the museum.` is written `Ross : At the museum.`" in written
    assert "fewer than 5 texts in training" in written
    assert "more than 48 tokens" in written
    alone = card(analysis(hyperparameters={"context": "current"})).split("## Input")[1]
    assert "An input is one text alone. Where that makes more than 48 tokens" in alone
    assert "[None]" not in alone


def test_pairs_are_described_as_pairs():
    single = {"context": "current"}
    written = card(analysis(PAIRS, hyperparameters=single)).split("## Input")[1].split("## Scores")[0]
    assert "An input is a pair of texts. Where that makes more than 48 tokens" in written
    assert "the longer text is cut first, at its end." in written
    assert '"text_pair": "At the museum."' in written
    assert "dialogue" not in written
    cut = card(analysis(PAIRS, hyperparameters=single | {"truncation": "head+tail"})).split("## Input")[1]
    assert "the longer text is cut first, in its middle" in cut
    assert "[(('Where have you been?', 'At the museum.'), None)]" in cut


def test_a_corpus_without_speakers_has_none_in_its_inputs():
    made = analysis()
    assert made.metadata is not None
    written = (
        card(replace(made, metadata=replace(made.metadata, speakers={}))).split("## Input")[1].split("## Scores")[0]
    )
    assert '"At the museum."' in written
    assert "Ross :" not in written
    assert "Ross's utterance" not in written


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Trainer:
    """A tiny model, saved in a folder of its name."""
    folder = str(tmp_path_factory.mktemp("card") / "model")
    texts = [utterance.text for utterance in DIALOGUE.utterances]
    drawn = load("scratch:1x32", LABELS, texts=[*texts, "Ross : Rachel Says [None]"] * 3)
    drawn.reset(0)
    drawn.save(Path(folder))
    return Trainer(load(folder, LABELS))


ANSWERS = """
import ast, json, sys
answers = []
for code in json.load(sys.stdin):
    program, names = ast.parse(code), {}
    last = program.body.pop()
    exec(compile(program, "card", "exec"), names)
    answers.append(eval(compile(ast.Expression(last.value), "card", "eval"), names))
    answers[-1] = getattr(answers[-1], "tolist", lambda: answers[-1])()
print(json.dumps(answers))
"""
LAYOUTS = [
    ("current", "says", 48),
    ("current+previous", "brackets", 15),
    ("previous+current", "colon", 14),
    ("current+next", "plain", 48),
    ("previous+current+next", "none", 12),
    ("previous2+previous+current", "plain", 15),
]
"""Context, speaker format, and a maximum length that cuts or does not."""


@pytest.mark.slow
def test_the_code_gives_the_model_what_it_was_trained_on(classifier):
    assert [context for context, *_ in LAYOUTS] == list(CONTEXTS)
    made = [
        analysis(hyperparameters=dict(zip(("context", "speaker_format", "max_length"), one, strict=True)))
        for one in LAYOUTS
    ]
    short = {"context": "current", "max_length": 10}
    made.append(analysis(PAIRS, hyperparameters=short))
    codes = [card(one).split("```python\n")[1].split("```")[0] for one in made]
    codes = [code.replace(PLACE, classifier.checkpoint.name) for code in codes]
    # In a process of its own, where transformers finds PyTorch if it is there, as it does for who reads the card.
    plain = {name: value for name, value in os.environ.items() if name not in ("USE_TORCH", "USE_TF")}
    command = [sys.executable, "-c", ANSWERS]
    done = subprocess.run(command, input=json.dumps(codes), capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr
    pair = Dialogue((Utterance("Where have you been?", text_pair="At the museum."),) * 3)
    for layout, one, answer in zip([*LAYOUTS, ("pair", 10)], made, json.loads(done.stdout), strict=True):
        assert one.final is not None
        trained = one.final.hyperparameters
        texts = encode_dialogues(
            classifier.checkpoint.tokenizer, [pair if one.recipe.has_pairs else DIALOGUE], trained, {}
        )
        assert (texts.full_lengths[2] > texts.lengths[2]) == (layout[-1] < 48)
        if isinstance(answer[0], dict):
            scores = {label["label"]: label["score"] for label in answer}
            answer = [[scores[label] for label in LABELS]]
        np.testing.assert_allclose(answer[0], classifier.probabilities(texts)[2], atol=1e-5, err_msg=str(layout))
