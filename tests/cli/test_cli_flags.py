"""Flags, their environment variables and their refusals."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from console_script import TUNE, content, process

from bertgrid_tf import cli


def test_a_dry_run_prints_the_plan_and_writes_nothing(bertgrid):
    answer = bertgrid(*TUNE, "--dry-run")
    assert answer.code == 0
    rows = [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in answer.out.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows] == [
        ["sweep:context", "2", "2"],
        ["grid", "2", "4"],
        ["in all", "4", "6"],  # the final model is the winner, whose weights are kept
    ]
    assert "Every combination of all levels would be 4 trials, 8 epochs in all" in answer.out
    assert re.fullmatch(
        r"On disk: up to \S+ MB in results/sample, \S+ MB when the study has ended; \S+ GB are free there.",
        answer.out.splitlines()[-1],
    )
    assert list(Path.cwd().parent.rglob("*")) == [Path.cwd()]


def test_a_dry_run_without_the_checkpoint_has_a_plan(bertgrid):
    answer = bertgrid("tune", "sample", "--model", "absent/model", "--dry-run")
    assert answer.code == 0
    assert answer.out.splitlines()[-1].startswith(
        "The disk that it takes depends on the size of the model, which is not "
    )


def test_a_dry_run_deletes_nothing(bertgrid, study):
    before = content(study)
    assert bertgrid(*TUNE, "--results", study.parent, "--fresh", "--dry-run").code == 0
    assert content(study) == before


def test_a_dry_run_of_a_study_that_has_begun_prints_what_is_missing(bertgrid, study):
    before = content(study)
    same = bertgrid(*TUNE, "--results", study.parent, "--dry-run")
    assert same.out.splitlines()[-1] == f"The study in {study} has all of this: there is nothing to train."
    grown = bertgrid(*TUNE, "--learning-rates", "0.002,1e-3,5e-4", "--results", study.parent, "--dry-run")
    rows = [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in grown.out.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows] == [["grid", "1", "2"], ["in all", "1", "2"]]
    fewer = bertgrid(*TUNE, "--learning-rates", "5e-4", "--results", study.parent, "--dry-run")
    assert fewer.refusal == (
        f"The study in {study} has more than it is now asked for (learning_rates lacks 0.002, 0.001): a study grows "
        "and never shrinks, so give all that it has, choose another --study NAME, or --fresh to start over."
    )
    assert content(study) == before


def commands() -> Iterator[tuple[str, typer.core.TyperCommand]]:
    def walk(name: str, command: object) -> Iterator[tuple[str, typer.core.TyperCommand]]:
        if isinstance(command, typer.core.TyperGroup):
            for inner, below in command.commands.items():
                yield from walk(f"{name} {inner}".strip(), below)
        else:
            assert isinstance(command, typer.core.TyperCommand)
            yield name, command

    yield from walk("", typer.main.get_command(cli.app))


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in commands()])
def test_every_flag_can_be_given_as_an_environment_variable_of_its_own(monkeypatch, name, command):
    options = [parameter for parameter in command.params if isinstance(parameter, typer.core.TyperOption)]
    arguments = [f"{parameter.name}" for parameter in command.params if isinstance(parameter, typer.core.TyperArgument)]
    flags = {option.name: option for option in options if option.name != "help"}
    variables = {str(option.envvar) for option in flags.values()}
    assert len(variables) == len(flags)
    assert all(re.fullmatch(r"BERTGRID_[A-Z_]+", variable) for variable in variables)
    # Numbers; the others take any text.
    numbers = ("workers", "port", "max_texts", "max_characters", "max_body", "max_waiting")
    texts = dict.fromkeys(numbers, "3") | {"batch_wait": "3.0"}
    for key, option in flags.items():
        assert not isinstance(option.envvar, list)
        text = "1" if option.is_flag else "a=1 b=2" if option.multiple else texts.setdefault(key, f"<{key}>")
        monkeypatch.setenv(str(option.envvar), text)
    with command.make_context(name, arguments) as context:
        for key, option in flags.items():
            given = context.params[key]
            if option.is_flag:
                assert given is True
            elif option.multiple:
                assert list(given) == ["a=1", "b=2"]
            else:
                assert str(given) == texts[key]


def test_variables_and_flags_do_the_same(bertgrid, monkeypatch):
    flags = bertgrid(
        "tune",
        "sample",
        "--no-sweeps",
        "--sweep",
        "oversample_ratio=0,0.5,1",
        "--set",
        "batch_size=8",
        "--set",
        "sweep_epochs=3",
        "--learning-rates",
        "1e-4",
        "--epochs",
        "2",
        "--dry-run",
    )
    for name, value in {
        "NO_SWEEPS": "1",
        "SWEEP": "oversample_ratio=0,0.5,1",
        "SET": "batch_size=8 sweep_epochs=3",
        "LEARNING_RATES": "1e-4",
        "EPOCHS": "2",
        "DRY_RUN": "1",
    }.items():
        monkeypatch.setenv(f"BERTGRID_{name}", value)
    assert bertgrid("tune", "sample") == flags
    assert flags.code == 0


@pytest.mark.parametrize("words", [["--help"], ["tune", "--help"], ["data", "describe", "--help"]])
def test_help_imports_nothing_heavy(tmp_path, words):
    code = """if True:
        import sys
        from bertgrid_tf.cli import main
        try:
            main()
        except SystemExit as ended:
            heavy = {"tensorflow", "transformers", "keras", "tf_keras", "keras_tuner", "pandas", "sklearn"}
            print("heavy:", sorted(heavy.intersection(sys.modules)), ended.code)
    """
    out, _ = process(*words, folder=tmp_path, code=code).communicate()
    assert "Usage: " in out
    assert out.splitlines()[-1] == "heavy: [] 0"


def test_spaces_around_levels_and_settings_do_not_matter(bertgrid):
    tight = bertgrid("tune", "sample", "--sweep", "context=current,current+next", "--set", "epochs=3", "--dry-run")
    loose = bertgrid("tune", "sample", "--sweep", "context = current, current+next", "--set", "epochs = 3", "--dry-run")
    assert tight == loose
    assert tight.code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--sweep", "context"], "--sweep 'context' cannot be read: write it as --sweep PARAM=a,b,c."),
        (["--sweep", "context="], "--sweep 'context=' cannot be read: write it as --sweep PARAM=a,b,c."),
        (["--sweep", "contxt=a"], "Recipe sample: there is no parameter 'contxt' to sweep; choose from model, batch_"),
        (["--sweep", "context=all"], "Recipe sample: context=all is no level to sweep: there is no 'all'; choose from"),
        (
            ["--sweep", "oversample_ratio=0,2"],
            "Recipe sample: oversample_ratio=2 is no level to sweep: must be a number from 0 to 1, not '2'.",
        ),
        (
            ["--sweep", "warmup_ratio=0", "--sweep", "warmup_ratio=1"],
            "--sweep warmup_ratio is given twice: give it once, with all",
        ),
        (
            ["--budget", "soon"],
            "--budget 'soon' is no time to spend: write it as 2h, 90m, 1h30m or 5400s, below ten years.",
        ),
        (["--set", "epochs"], "--set 'epochs' cannot be read: write it as --set KEY=VALUE."),
        (["--set", "=3"], "--set '=3' cannot be read: write it as --set KEY=VALUE."),
        (["--set", "nothing=3"], "There is no setting 'nothing'; choose from model, learning_rate"),
        (["--set", "sweep_epochs=0"], "Recipe sample: sweep_epochs must be a whole number from 1 to 10,000, not '0'."),
        (["--set", "sweeps={a"], "--set sweeps={a cannot be read as YAML: line 1, column 3: "),
        (
            ["--set", "sweeps={context: current}"],
            "Recipe sample: sweeps.context must be a list, as [a, b], not 'current'.",
        ),
        (["--set", "corpus=nsmc"], "The recipe is for the corpus 'nsmc', not 'sample': run `tune nsmc`"),
        (
            ["--learning-rates", "1e-4;2e-4"],
            "Recipe sample: each of learning_rates must be a number above 0 and below 1, not '1e-4;2e-4'.",
        ),
        (
            ["--learning-rates", "0"],
            "Recipe sample: each of learning_rates must be a number above 0 and below 1, not '0'.",
        ),
        (
            ["--learning-rates=-1e-4"],
            "Recipe sample: each of learning_rates must be a number above 0 and below 1, not '-1e-4'.",
        ),
        (
            ["--learning-rates", "high"],
            "Recipe sample: each of learning_rates must be a number above 0 and below 1, not 'high'.",
        ),
        (
            ["--learning-rates", "1e30"],
            "Recipe sample: each of learning_rates must be a number above 0 and below 1, not '1e30'.",
        ),
        (["--epochs", "0"], "Recipe sample: epochs must be a whole number from 1 to 10,000, not '0'."),
        (["--epochs", "two"], "Recipe sample: epochs must be a whole number from 1 to 10,000, not 'two'."),
        (["--metric", "f1_rage"], "Metric f1_rage: there is no class 'rage'; choose from anger, disgust"),
        *(
            (["--workers", count], f"workers must be auto or a whole number from 1 to 1,024, not {count!r}.")
            for count in ("0", "-1", "two", "1.5", "1000000000")
        ),
        *(
            (["--gpu-memory", size], f"--gpu-memory {size!r} is not a size of at least 1 MiB: write it as 16GB, 16GiB ")
            for size in ("16", "0GB")
        ),
        (
            ["--max-train-samples", "all"],
            "Recipe sample: max_train_samples must be a whole number from 1 to 1,000,000,000, not 'all'.",
        ),
        (["--model", ""], "Recipe sample: model must not be empty."),
        (["--recipe", "none.yaml"], "none.yaml does not exist; check the name."),
        (["--text-column", "text"], "Recipe sample: data.label_column is missing; give --label-column."),
        (["--text-column", "text", "--label-column", "label"], "The table of sample is missing: give --data FILE or, "),
        (["--data", "x.csv"], "Recipe sample: data.text_column is missing; give --text-column."),
        (["--study", "../sample"], "'../sample' is no name for a study folder: give a plain one with --study"),
        (["--study", ".."], "'..' is no name for a study folder: give a plain one with --study"),
        (["--study", ""], "'' is no name for a study folder: give a plain one with --study"),
        (["--results", "file"], "The study folder file/sample cannot be made (Not a directory): choose another"),
        (["--results", "file/below"], "The study folder file/below/sample cannot be made (Not a directory): choose"),
        (["--results", ".", "--study", "file"], "The study folder file cannot be made (File exists): choose another"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_in_one_sentence(bertgrid, words, sentence):
    Path("file").write_text("mine")
    assert bertgrid("tune", "sample", *words).refusal.startswith(sentence)
    assert content(Path.cwd()) == {"file": b"mine"}


@pytest.mark.parametrize(
    "words",
    [
        ("results", "PATH"),
        ("compare", "PATH", "PATH"),
        ("export", "PATH", "--format", "onnx"),
        ("data", "describe", "PATH"),
        ("data", "describe", "mine", "--data", "PATH", "--text-column", "text", "--label-column", "label"),
        ("tune", "PATH", "--dry-run"),
        ("tune", "sample", "--model", "PATH"),
    ],
)
def test_a_path_that_the_file_system_refuses_is_named_in_one_sentence(bertgrid, words):
    long = "x" * 300
    refusal = bertgrid(*(long if word == "PATH" else word for word in words)).refusal
    assert long in refusal
    assert "cannot be used (File name too long): give another path" in refusal


def test_a_recipe_of_another_corpus_is_refused(bertgrid):
    Path("other.yaml").write_text("corpus: friends\nepochs: 2\n")
    assert bertgrid("tune", "sample", "--recipe", "other.yaml").refusal == (
        "The recipe is for the corpus 'friends', not 'sample': run `tune friends`, "
        "with --study where its study folder is to have another name."
    )


def test_a_corpus_that_there_is_not_is_refused_with_those_there_are(bertgrid):
    sentence = (
        "There is no recipe 'freinds': choose from friends, nsmc, sample, "
        "or give --data FILE with --text-column and --label-column."
    )
    assert bertgrid("tune", "freinds").refusal == sentence
    assert bertgrid("data", "describe", "freinds").refusal == sentence


def test_a_tracker_that_is_none_and_texts_for_no_tracker_are_refused(bertgrid):
    refused = bertgrid(*TUNE, "--track", "mlflow, comet", "--dry-run").refusal
    assert refused == "--track takes mlflow or wandb, or both separated by a comma, not 'comet'."
    refused = bertgrid(*TUNE, "--track-texts", "--dry-run").refusal
    assert refused == "--track-texts says what --track sends: give --track, too."


def test_a_tracker_whose_package_is_not_installed_is_refused_before_anything_is_read(bertgrid, monkeypatch):
    for name, title in (("mlflow", "MLflow"), ("wandb", "Weights & Biases")):
        monkeypatch.setitem(sys.modules, name, None)
        refused = bertgrid(*TUNE, "--track", name).refusal
        assert refused == f"{title} is not installed: pip install 'bertgrid-tf[{name}]'."
    assert list(Path.cwd().parent.rglob("*")) == [Path.cwd()]
