"""The command line as a person uses it: what it prints, what it writes, and how it refuses."""

import contextlib
import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import made_up_gpus
import pandas as pd
import pytest
import tiny_study
import typer
from bertgrid_tf.study.study import LOCK

from bertgrid_tf import cli

TUNE = (
    *("tune", "sample", "--model", "scratch:1x32", "--final-model", "scratch:1x32", "--max-train-samples", "60"),
    *("--no-sweeps", "--sweep", "context=current,current+previous", "--set", "sweep_epochs=1"),
    *("--learning-rates", "2e-3,1e-3", "--epochs", "2"),
)
"""A study of seconds: a sweep of two levels, two rows of two epochs, a final model."""

BRIEF = ("--model", "scratch:1x32", "--final-model", "none", "--no-sweeps", "--learning-rates", "1e-3", "--epochs", "1")
COLUMNS = ("--text-column", "text", "--label-column", "label", "--dialogue-column", "dlg", "--speaker-column", "who")


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def refusal(self) -> str:
        """The one sentence on stderr of a command that refused."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert re.fullmatch(r"[^\n]+\.\n", self.err), self.err
        return self.err.strip()


Command = Callable[..., Answer]


@pytest.fixture
def bertgrid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the console script in an empty folder."""
    for variable in [name for name in os.environ if name.startswith("BERTGRID_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["bertgrid-tf", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return Answer(code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def blank_figures() -> Iterator[None]:
    with tiny_study.blank_figures():
        yield


def process(*words: str, folder: Path, code: str = "from bertgrid_tf.cli import main; main()", **environment: str):
    """The console script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("BERTGRID_")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the lock, which names the last process."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LOCK
    }


def own_rows() -> list[list[str]]:
    words = {"good": "a lovely and great film", "bad": "a boring and awful film"}
    return [
        [f"d{dialogue}", ("Ann", "Bob")[line % 2], f"{words[label]} number {line}", label]
        for dialogue in range(20)
        for line in range(4)
        for label in [("good", "bad")[(dialogue + line) % 2]]
    ]


def write_rows(path: Path, rows: list[list[str]], header: str = "dlg,who,text,label") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A table of one's own: 20 dialogues of 4 utterances, 2 speakers, 2 classes."""
    return write_rows(tmp_path / "own.csv", own_rows())


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished study of the sample that no test may change, and what the command printed."""
    results = tmp_path_factory.mktemp("results")
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(sys, "argv", ["bertgrid-tf", *TUNE, "--results", str(results)])
        handler = signal.getsignal(signal.SIGTERM)
        cli.app(standalone_mode=False)
        signal.signal(signal.SIGTERM, handler)
    return results / "sample", out.getvalue()


@pytest.fixture
def study(first_run: tuple[Path, str], tmp_path: Path) -> Path:
    """A finished study that a test may change: `*TUNE, "--results", study.parent` made it."""
    return Path(shutil.copytree(first_run[0], tmp_path / "results" / "sample"))


# A study, from one end to the other


def test_tune_says_line_by_line_what_it_does_and_prints_the_summary(first_run):
    folder, out = first_run
    assert out.splitlines()[0] == "sample: 5 runs, up to 8 epochs. Starting TensorFlow …"
    assert re.fullmatch(r"Training on .+\.", out.splitlines()[1])
    runs = [line for line in out.splitlines() if "epochs of" in line]
    assert [line.split("  ")[0] for line in runs[:4]] == [
        "sweep context=current",
        "sweep context=current+previous",
        "grid learning_rate=0.002",
        "grid learning_rate=0.001",
    ]
    assert runs[4].startswith("final model scratch:1x32, learning_rate=")
    for said in ("Sweeps", "accuracy on dev by learning rate and epoch, percent", "Winner: learning_rate="):
        assert said in out
    assert f"bertgrid-tf predict {folder} FILE -o OUT" in out


def test_what_is_no_terminal_gets_plain_whole_lines(first_run):
    _, out = first_run
    epochs = [line for line in out.splitlines() if line.startswith("  epoch ")]
    assert len(epochs) >= 7
    assert all(re.search(r"study \d+%, .* left$", line) for line in epochs[1:])
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_terminal_gets_bars_and_ctrl_c_ends_cleanly_and_says_how_to_go_on(tmp_path):
    pty = pytest.importorskip("pty")
    child, terminal = pty.fork()
    if child == 0:
        # What a shell runs in the background ignores Ctrl-C, and so would what these tests start.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(tmp_path)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "120"}
        words = ["tune", "sample", "--no-sweeps", "--model", "scratch:1x32", "--epochs", "500"]
        os.execv(sys.executable, [sys.executable, "-c", "from bertgrid_tf.cli import main; main()", *words])
    seen, interrupted = "", False
    with contextlib.suppress(OSError):  # what Linux raises where the other end of a terminal is closed
        while part := os.read(terminal, 65536):
            seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", part.decode(errors="replace"))
            if "epoch 2/500" in seen and not interrupted:
                interrupted = bool(os.write(terminal, b"\x03"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    for name in ("epoch", "run", "study"):
        assert re.search(rf"{name} [━╸╺]+ +\d+ % .* left", seen)
    assert "Traceback" not in seen
    assert "Stopped. Everything up to the last finished epoch is in results/sample: the same command goes on" in seen


def test_results_prints_the_summary_again(bertgrid, first_run):
    folder, out = first_run
    answer = bertgrid("results", folder)
    assert answer.code == 0
    assert out.endswith(answer.out)


def test_the_same_command_again_changes_nothing(bertgrid, study):
    # The first time it names the folder of this copy in best.yaml.
    assert bertgrid(*TUNE, "--results", study.parent).code == 0
    before = content(study)
    answer = bertgrid(*TUNE, "--results", study.parent)
    assert answer.code == 0
    assert "epoch 1/" not in answer.out
    assert content(study) == before


@pytest.mark.usefixtures("blank_figures")
def test_a_table_of_one_s_own_is_tuned_evaluated_and_predicted_with(bertgrid, own):
    tuned = bertgrid("tune", "mine", "--data", own, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32")
    assert tuned.code == 0, tuned.err
    folder = Path("results/mine")
    assert (folder / "model" / "config.json").is_file()

    assert bertgrid("evaluate", folder, "--split", "dev").code == 0
    assert bertgrid("evaluate", folder).refusal == "mine has no split 'test'; choose from train, dev."

    # The study knows its own columns.
    assert bertgrid("predict", folder, own, "-o", "out.csv").code == 0
    assert list(pd.read_csv("out.csv")) == ["id", "label"]

    before = content(folder)
    write_rows(own, own_rows()[:-4])
    again = bertgrid("tune", "mine", "--data", own, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32")
    assert "no longer those that the study in results/mine began with" in again.refusal
    assert "no longer those of the study in results/mine" in bertgrid("evaluate", folder, "--split", "dev").refusal
    assert content(folder) == before


@pytest.mark.usefixtures("blank_figures")
def test_the_command_in_best_yaml_trains_the_winner_again(bertgrid, study):
    assert bertgrid(*TUNE, "--results", study.parent).code == 0
    command = next(line for line in (study / "best.yaml").read_text().splitlines() if "bertgrid-tf tune" in line)
    again = bertgrid(*shlex.split(command.partition("bertgrid-tf ")[2]))
    assert again.code == 0, again.err
    first, second = (
        answer.out.partition("\nFinal model ")[2].splitlines()[:2] for answer in (bertgrid("results", study), again)
    )
    assert first == second
    assert first


@pytest.mark.usefixtures("blank_figures")
def test_names_with_spaces_brackets_and_letters_of_any_script_are_fine(bertgrid, own, tmp_path):
    folder = tmp_path / "리뷰 [red] %s"
    data = write_rows(folder / "my [data].csv", own_rows())
    tuned = bertgrid(
        "tune", "영화 [1]", "--data", data, *COLUMNS, *BRIEF, "--final-model", "scratch:1x32", "--results", folder
    )
    assert tuned.code == 0, tuned.err
    assert f"predict '{folder}/영화 [1]' FILE" in tuned.out
    told = bertgrid("predict", folder / "영화 [1]", data, "-o", folder / "[out].csv")
    assert told.out == f"80 texts labelled in {folder}/[out].csv.\n"
    evaluated = bertgrid("evaluate", folder / "영화 [1]", "--split", "dev")
    assert "영화 [1], dev split" in evaluated.out
    assert f"Written down in {folder}/영화 [1]/evaluations.csv.\n" in evaluated.out


# Flags


def test_a_dry_run_prints_the_plan_and_writes_nothing(bertgrid):
    answer = bertgrid(*TUNE, "--dry-run")
    assert answer.code == 0
    rows = [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in answer.out.splitlines() if line.startswith("│")]
    assert [row[:3] for row in rows] == [
        ["sweep:context", "2", "2"],
        ["grid", "2", "4"],
        ["final", "1", "≤ 2"],
        ["in all", "5", "≤ 8"],
    ]
    assert "Every combination of all levels would be 4 runs, 8 epochs in all" in answer.out
    assert list(Path.cwd().parent.rglob("*")) == [Path.cwd()]


def test_a_dry_run_deletes_nothing(bertgrid, study):
    before = content(study)
    assert bertgrid(*TUNE, "--results", study.parent, "--fresh", "--dry-run").code == 0
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


@pytest.mark.parametrize(("name", "command"), [pytest.param(*found, id=found[0]) for found in commands()])
def test_every_flag_can_be_given_as_an_environment_variable_of_its_own(monkeypatch, name, command):
    options = [parameter for parameter in command.params if isinstance(parameter, typer.core.TyperOption)]
    arguments = [f"{parameter.name}" for parameter in command.params if isinstance(parameter, typer.core.TyperArgument)]
    flags = {option.name: option for option in options if option.name != "help"}
    variables = {str(option.envvar) for option in flags.values()}
    assert len(variables) == len(flags)
    assert all(re.fullmatch(r"BERTGRID_[A-Z_]+", variable) for variable in variables)
    for option in flags.values():
        assert not isinstance(option.envvar, list)
        monkeypatch.setenv(
            str(option.envvar), "1" if option.is_flag else "a=1 b=2" if option.multiple else f"<{option.name}>"
        )
    with command.make_context(name, arguments) as context:
        for key, option in flags.items():
            given = context.params[key]
            if option.is_flag:
                assert given is True
            elif option.multiple:
                assert list(given) == ["a=1", "b=2"]
            else:
                assert str(given) == f"<{key}>"


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
            heavy = {"tensorflow", "transformers", "keras", "tf_keras", "keras_tuner", "pandas", "sklearn", "numpy"}
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
            "Recipe sample: oversample_ratio=2 is no level to sweep: must be at most 1, not '2'.",
        ),
        (
            ["--sweep", "warmup_ratio=0", "--sweep", "warmup_ratio=1"],
            "--sweep warmup_ratio is given twice: give it once, with all",
        ),
        (["--budget", "soon"], "--budget 'soon' is no time to spend: write it as 2h, 90m, 1h30m or 5400s."),
        (["--set", "epochs"], "--set 'epochs' cannot be read: write it as --set KEY=VALUE."),
        (["--set", "=3"], "--set '=3' cannot be read: write it as --set KEY=VALUE."),
        (["--set", "nothing=3"], "There is no setting 'nothing'; choose from model, learning_rate"),
        (["--set", "sweep_epochs=0"], "Recipe sample: sweep_epochs must be at least 1, not '0'."),
        (["--set", "sweeps={a"], "--set sweeps={a cannot be read as YAML: line 1, column 3: "),
        (
            ["--set", "sweeps={context: current}"],
            "Recipe sample: sweeps.context must be a list, as [a, b], not 'current'.",
        ),
        (["--set", "corpus=nsmc"], "The recipe is for the corpus 'nsmc', not 'sample': run `tune nsmc`"),
        (["--learning-rates", "1e-4;2e-4"], "Recipe sample: each of learning_rates must be a number, not '1e-4;2e-4'."),
        (["--learning-rates", "0"], "Recipe sample: each of learning_rates must be greater than 0, not '0'."),
        (["--learning-rates=-1e-4"], "Recipe sample: each of learning_rates must be greater than 0, not '-1e-4'."),
        (["--learning-rates", "high"], "Recipe sample: each of learning_rates must be a number, not 'high'."),
        (["--learning-rates", "1e30"], "Recipe sample: each of learning_rates must be less than 1, not '1e30'."),
        (["--epochs", "0"], "Recipe sample: epochs must be at least 1, not '0'."),
        (["--epochs", "two"], "Recipe sample: epochs must be a whole number, not 'two'."),
        (["--metric", "f1_rage"], "Metric f1_rage: there is no class 'rage'; choose from anger, disgust"),
        *(
            (["--workers", count], f"--workers {count!r} cannot be: give a whole number of runs at a time, at least 1.")
            for count in ("0", "-1", "two", "1.5", "")
        ),
        *(
            (["--gpu-memory", size], f"--gpu-memory {size!r} is not a size of at least 1 MiB: write it as 16GB, 16GiB ")
            for size in ("16", "0GB")
        ),
        (["--max-train-samples", "all"], "Recipe sample: max_train_samples must be a whole number, not 'all'."),
        (["--model", ""], "Recipe sample: model must not be empty."),
        (["--recipe", "none.yaml"], "none.yaml does not exist; check the name."),
        (["--text-column", "text"], "Recipe sample: data.file is missing; give --data."),
        (["--data", "x.csv"], "Recipe sample: data.text_column is missing; give --text-column."),
        (["--study", "../sample"], "'../sample' is no name for a results folder: give a plain one with --study"),
        (["--study", ".."], "'..' is no name for a results folder: give a plain one with --study"),
        (["--study", ""], "'' is no name for a results folder: give a plain one with --study"),
        (["--results", "file"], "The results folder file/sample cannot be made (Not a directory): choose another"),
        (["--results", "file/below"], "The results folder file/below/sample cannot be made (Not a directory): choose"),
        (["--results", ".", "--study", "file"], "The results folder file cannot be made (File exists): choose another"),
    ],
)
def test_a_flag_that_makes_no_sense_is_refused_in_one_sentence(bertgrid, words, sentence):
    Path("file").write_text("mine")
    assert bertgrid("tune", "sample", *words).refusal.startswith(sentence)
    assert content(Path.cwd()) == {"file": b"mine"}


def test_a_recipe_of_another_corpus_is_refused(bertgrid):
    Path("other.yaml").write_text("corpus: friends\nepochs: 2\n")
    assert bertgrid("tune", "sample", "--recipe", "other.yaml").refusal == (
        "The recipe is for the corpus 'friends', not 'sample': run `tune friends`, "
        "with --study where its results folder is to have another name."
    )


def test_a_corpus_that_there_is_not_is_refused_with_those_there_are(bertgrid):
    sentence = (
        "There is no recipe 'freinds': choose from friends, nsmc, sample, "
        "or give --data FILE with --text-column and --label-column."
    )
    assert bertgrid("tune", "freinds").refusal == sentence
    assert bertgrid("data", "describe", "freinds").refusal == sentence


# Data


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "{path} does not exist; check the name."),
        (lambda path: path.write_text(""), "{path} is empty."),
        (lambda path: path.write_text("dlg,who,text,label\n"), "{path} has a header but no rows."),
        (
            lambda path: path.write_text("dlg,who,words,label\n1,A,hi,good\n"),
            "{path} has no column 'text'; its columns are",
        ),
        (lambda path: path.write_text('dlg,who,text,label\n1,A,"hi,good\n'), "{path}, line 2: the row cannot be read"),
        (
            lambda path: path.write_bytes(b"dlg,who,text,label\n1,A,\xe9,good\n"),
            "{path} is not UTF-8: line 2 has the byte",
        ),
        (
            lambda path: write_rows(path, [row for row in own_rows() if row[3] == "good"]),
            "mine: every utterance of the train split is labelled 'good'; a classifier needs at least two classes.",
        ),
        (
            lambda path: write_rows(path, own_rows()[:1]),
            "1 dialogues with 1 utterances are too few to hold out a share",
        ),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(bertgrid, own, damage, sentence):
    damage(own)
    for command in (["tune"], ["data", "describe"]):
        assert bertgrid(*command, "mine", "--data", own, *COLUMNS).refusal.startswith(sentence.format(path=own))
    assert content(Path.cwd()) == {}


def test_a_label_in_dev_that_train_lacks_is_refused(bertgrid, own):
    dev = write_rows(own.with_name("dev.csv"), [["d1", "Ann", "a film", "so-so"]])
    assert bertgrid("tune", "mine", "--data", own, *COLUMNS, "--dev-file", dev).refusal == (
        "mine: the dev split has the label 'so-so', which the train split lacks (it has bad, good); "
        "add training examples of it or take it out."
    )


@pytest.fixture
def friends(tmp_path: Path) -> Path:
    """A data folder with a small corpus in EmotionLines' files."""
    dialogue = [
        {"speaker": "Ann", "utterance": f"line {line}", "emotion": ("joy", "fear")[line % 2], "annotation": "5000000"}
        for line in range(6)
    ]
    (tmp_path / "data" / "friends").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        (tmp_path / "data" / "friends" / f"friends_{split}.json").write_text(json.dumps([dialogue] * 3))
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda text: "dialogues", " is not JSON: line 1, column 1: "),
        (
            lambda text: text[: len(text) // 2],
            " breaks off in the middle: its JSON is unfinished, line 1; get it anew.",
        ),
        (lambda text: '{"train": []}', " is not in the EmotionLines format: it must be a list of dialogues."),
        (lambda text: '[["hello"]]', ", dialogue 1, utterance 1 is not in the EmotionLines format"),
        (
            lambda text: text.replace("emotion", "mood"),
            ", dialogue 1, utterance 1 has no key 'emotion'; it has 'speaker'",
        ),
        (lambda text: "", " is empty."),
    ],
)
def test_a_dialogue_file_of_another_kind_is_refused(bertgrid, friends, damage, sentence):
    file = friends / "friends" / "friends_dev.json"
    file.write_text(damage(file.read_text()))
    before = content(friends)
    assert f"{file}{sentence}" in bertgrid("tune", "friends", "--data-dir", friends).refusal
    assert content(friends) == before


def test_a_dialogue_file_that_is_not_utf_8_or_has_a_new_or_only_one_label_is_refused(bertgrid, friends):
    dev, train = (friends / "friends" / f"friends_{split}.json" for split in ("dev", "train"))
    whole = dev.read_text()
    for path, text, said in (
        (dev, whole.replace("joy", "rage"), "friends: the dev split has the label 'rage', which the train split lacks"),
        (dev, whole.replace("line 0", "l\udce9ne 0"), f"{dev} is not UTF-8: line 1 has the byte 0xe9"),
        (train, whole.replace("joy", "fear"), "friends: every utterance of the train split is labelled 'fear'"),
    ):
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        assert bertgrid("tune", "friends", "--data-dir", friends).refusal.startswith(said)
        path.write_text(whole)


def test_data_list_says_where_each_corpus_lies(bertgrid, friends, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    rows = {line.split()[1]: line for line in bertgrid("data", "list", "--data-dir", friends).out.splitlines()[3:-1]}
    assert list(rows) == ["sample", "friends", "nsmc"]
    assert str(friends / "friends") in rows["friends"]
    assert "not here: bertgrid-tf data fetch nsmc" in rows["nsmc"]


def test_data_describe_counts_classes_dialogues_and_tokens(bertgrid, own):
    flags = ("--model", "scratch:1x32", "--set", "max_length=9", "--set", "context=current+previous")
    answer = bertgrid("data", "describe", "mine", "--data", own, *COLUMNS, *flags)
    assert answer.code == 0
    for line in (
        "good *│ 36 \\(50.0%\\) │ 4 \\(50.0%\\)",
        "in all *│ +72 │ +8",
        "dialogues *│ +18 │ +2",
        "speakers *│ +2",
    ):
        assert re.search(line, answer.out)
    longer = re.search(r"longer than 9 +│ +([\d.]+)% │ +([\d.]+)%", answer.out)
    assert longer is not None
    assert float(longer[1]) > 50
    assert "scratch:1x32, context current+previous, speakers colon" in " ".join(answer.out.split())


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("command", [("data", "fetch", "nsmc"), ("tune", "nsmc"), ("data", "describe", "nsmc")])
def test_what_cannot_be_fetched_is_said_how_to_place_by_hand(bertgrid, monkeypatch, command):
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv(variable.upper(), os.environ[variable])
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    refusal = bertgrid(*command, "--data-dir", "data").refusal
    assert refusal.startswith("ratings_train.txt cannot be fetched (https://raw.githubusercontent.com/")
    assert refusal.endswith(
        "or get ratings_train.txt, ratings_test.txt from https://github.com/e9t/nsmc by hand "
        "and place them in data/nsmc."
    )
    assert content(Path.cwd()) == {}


def test_only_public_corpora_can_be_fetched(bertgrid):
    assert bertgrid("data", "fetch", "imdb").refusal == "There is no public corpus 'imdb'; there are friends and nsmc."


# Checkpoints


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "Checkpoint {} has no weights: put model.safetensors"),
        (
            lambda folder: [(folder / name).unlink() for name in ("vocab.txt", "tokenizer.json")],
            "Checkpoint {} has no vocabulary: put vocab.txt or tokenizer.json there.",
        ),
        (lambda folder: (folder / "config.json").unlink(), "{} is not a checkpoint: it has no config.json."),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"short"),
            "The weights of checkpoint {} cannot be read: ",
        ),
        (
            lambda folder: (folder / "tokenizer.json").write_text('{"version": "1'),
            "The vocabulary of checkpoint {} cannot",
        ),
        (lambda folder: shutil.rmtree(folder), "There is no checkpoint folder {}."),
    ],
)
def test_a_checkpoint_folder_that_lacks_something_is_refused(bertgrid, study, damage, sentence):
    model = study / "model"
    damage(model)
    before = content(study)
    assert bertgrid("tune", "sample", *BRIEF, "--model", model).refusal.startswith(sentence.format(model))
    assert content(study) == before
    assert content(Path("results/sample")) == {}


def test_a_maximum_length_beyond_the_positions_is_refused(bertgrid):
    for words in (("--set", "max_length=513"), ("--sweep", "max_length=32,513")):
        assert bertgrid("tune", "sample", *BRIEF, *words).refusal.startswith(
            "max_length 513 is beyond the 512 positions of scratch:1x32"
        )


def test_a_tokenizer_that_knows_none_of_the_text_is_refused(bertgrid, study, tmp_path):
    rows = [[f"d{n}", "앤", f"정말 좋은 영화 {n}", ("good", "bad")[n % 2]] for n in range(40)]
    korean = write_rows(tmp_path / "korean.csv", rows)
    tuned = bertgrid("tune", "mine", "--data", korean, *COLUMNS, *BRIEF, "--model", study / "model")
    assert tuned.refusal.startswith(f"The vocabulary of {study / 'model'} does not know these texts: ")
    assert "of their pieces are [UNK]; choose a checkpoint of the texts' language" in tuned.refusal
    Path("out.csv").write_text("mine")
    predicted = bertgrid("predict", study, korean, "--text-column", "text", "-o", "out.csv")
    assert "of their pieces are [UNK]" in predicted.refusal
    assert Path("out.csv").read_text() == "mine"


HUB_AWAY = (
    "Checkpoint someone/some-bert is not in the local cache and the hub cannot be reached: connect, or give "
    "--model a folder with config.json, vocab.txt and model.safetensors."
)


def test_a_hub_that_cannot_be_reached_is_said_so(tmp_path):
    # In a process of its own, since the hub's address is read when its library is imported.
    away = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": f"http://127.0.0.1:{closed_port()}"}
    asked = process("tune", "sample", *BRIEF, "--model", "someone/some-bert", folder=tmp_path, **away)
    out, err = asked.communicate()
    assert Answer(asked.returncode, out, err).refusal == HUB_AWAY


def test_a_hub_that_is_switched_off_is_said_so(bertgrid, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert bertgrid("tune", "sample", *BRIEF, "--model", "someone/some-bert").refusal == HUB_AWAY


# Runs that diverge


@pytest.mark.usefixtures("blank_figures")
def test_a_row_that_diverges_is_recorded_and_the_study_goes_on(bertgrid):
    flags = ("--learning-rates", "0.9,1e-7", "--set", "weight_decay=1e6", "--max-train-samples", "60")
    answer = bertgrid("tune", "sample", *BRIEF, *flags)
    assert answer.code == 0, answer.err
    assert "epoch 1/1  diverged: the loss is no longer a number" in answer.out
    assert re.search(r"│ 0.9 +│ +diverged │", answer.out)
    cells = pd.read_csv("results/sample/cells.csv")
    assert cells.set_index("learning_rate")["accuracy"].isna().to_dict() == {0.9: True, 1e-7: False}
    assert "Winner: learning_rate=1e-07" in answer.out


@pytest.mark.usefixtures("blank_figures")
def test_a_study_all_of_whose_rows_diverge_ends_in_one_sentence(bertgrid):
    flags = ("--learning-rates", "0.9,0.8", "--set", "weight_decay=1e6", "--max-train-samples", "60")
    refusal = bertgrid("tune", "sample", *BRIEF, *flags).refusal
    assert refusal == "Every run of the grid diverged or failed (results/sample): try lower --learning-rates."
    assert pd.read_csv("results/sample/cells.csv")["accuracy"].isna().all()


# The results folder


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("--seed", "7"), "seed"),
        (("--set", "max_length=24", "--epochs", "3"), "hyperparameters.max_length, epochs"),
        (("--sweep", "warmup_ratio=0,0.1"), "sweeps.warmup_ratio"),
        (("--final-model", "none"), "final.model"),
    ],
)
def test_the_folder_of_another_recipe_is_refused_with_the_keys_that_differ(bertgrid, study, words, keys):
    before = content(study)
    assert bertgrid(*TUNE, *words, "--results", study.parent).refusal == (
        f"{study} holds a study of another recipe (they differ in {keys}): give the same settings to go on, "
        "another --study NAME, or --fresh to start over."
    )
    assert content(study) == before


@pytest.mark.usefixtures("blank_figures")
def test_fresh_starts_over(bertgrid, study):
    (study / "oracle.json").write_text("{")
    (study / "grid.csv").unlink()
    answer = bertgrid(*BRIEF_SAMPLE, "--fresh", "--results", study.parent)
    assert answer.code == 0, answer.err
    assert not (study / "model").exists()
    assert not (study / "trial_0003").exists()
    assert pd.read_csv(study / "grid.csv").shape == (1, 2)


BRIEF_SAMPLE = ("tune", "sample", *BRIEF, "--max-train-samples", "60")


def test_a_folder_that_is_no_study_s_is_neither_used_nor_deleted(bertgrid):
    Path("results/sample").mkdir(parents=True)
    Path("results/sample/thesis.txt").write_text("mine")
    for words in ((), ("--fresh",)):
        assert bertgrid("tune", "sample", *BRIEF, *words).refusal == (
            "results/sample holds other files than a study's: choose another folder with --results or --study."
        )
        assert content(Path("results/sample")) == {"thesis.txt": b"mine"}


@pytest.mark.parametrize("name", ["oracle.json", "trial_0001/trial.json"])
def test_a_truncated_state_is_named_and_kept(bertgrid, study, name):
    (study / name).write_text((study / name).read_text()[:100])
    before = content(study)
    refusal = bertgrid(*TUNE, "--results", study.parent).refusal
    assert refusal.startswith(f"{study / name} cannot be read (")
    assert refusal.endswith("restore it from a copy, or start over with --fresh.")
    assert content(study) == before


def test_trials_without_their_oracle_are_refused_in_the_command_line_s_words(bertgrid, study):
    (study / "oracle.json").unlink()
    before = content(study)
    assert bertgrid(*TUNE, "--results", study.parent).refusal == (
        f"{study} holds trials but no oracle.json: restore it from a copy, choose another --study NAME or --fresh."
    )
    assert content(study) == before


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"labels": 1}'])
def test_damaged_facts_of_a_study_are_named(bertgrid, study, text):
    for name, command in (
        ("study.json", [*TUNE, "--results", study.parent]),
        ("study.json", ["evaluate", study]),
        ("final.json", ["results", study]),
        ("final.json", ["evaluate", study]),
    ):
        whole = (study / name).read_text()
        (study / name).write_text(text)
        before = content(study)
        assert bertgrid(*command).refusal == (
            f"{study / name} is missing or damaged: restore it from a copy, or start the study over with --fresh."
        )
        assert content(study) == before
        (study / name).write_text(whole)


@pytest.mark.usefixtures("blank_figures")
@pytest.mark.parametrize("name", ["cells.csv", "sweeps.csv"])
def test_a_cut_table_is_named_and_tune_writes_it_anew(bertgrid, study, name):
    whole = (study / name).read_text()
    (study / name).write_text(whole[: whole.rindex(",")])
    assert bertgrid("results", study).refusal == (
        f"{study / name} is damaged: run the study's `tune` command again, which writes it anew."
    )
    assert bertgrid(*TUNE, "--results", study.parent).code == 0
    assert (study / name).read_text() == whole


@pytest.mark.parametrize("command", [("results",), ("evaluate",), ("predict", "-o", "out.csv", "own.csv")])
def test_what_is_no_results_folder_is_refused(bertgrid, tmp_path, command):
    name, *rest = command
    for folder in (tmp_path / "none", tmp_path):
        assert bertgrid(name, folder, *rest).refusal == (
            f"{folder} is no results folder: it has no recipe.yaml; name the folder of a study."
        )


# The final model at work


def test_opening_the_test_split_is_written_down_every_time(bertgrid, study):
    for times in (1, 2):
        answer = bertgrid("evaluate", study, "--split", "test")
        assert answer.code == 0
        assert f"Written down in {study}/evaluations.csv." in answer.out
        opened = pd.read_csv(study / "evaluations.csv")
        assert list(opened["split"]) == ["test"] * 2 * times
        assert list(opened["of"]) == ["final", "corrected"] * times
    reached = f"accuracy {100 * opened['accuracy'][0]:.2f} %"
    assert f"{reached} (" in answer.out
    assert f"On the test split, which was opened:\n{reached} (" in bertgrid("results", study).out
    assert f"calibration error {100 * opened['calibration_error'][0]:.1f} points" in answer.out
    assert opened["f1_joy"][0] == opened["f1_joy"][2]
    assert pd.to_datetime(opened["opened"]).is_monotonic_increasing


def test_the_memory_that_a_final_model_may_take_has_a_cap(bertgrid, study, own, monkeypatch):
    predict = ("predict", study, own, "--text-column", "text", "-o", "out.csv")
    for words in (("evaluate", study), predict):
        refused = bertgrid(*words, "--gpu-memory", "lots").refusal
        assert refused.startswith("--gpu-memory 'lots' is not a size of at least 1 MiB: ")
    made_up_gpus.give(monkeypatch, made_up_gpus.T4)
    refused = bertgrid(*predict, "--gpu-memory", "20GB").refusal
    assert refused == "--gpu-memory 20 GB is more than the 16 GB of Tesla T4: give less."


def test_without_a_gpu_its_memory_s_cap_is_ignored_and_that_is_said(bertgrid, study, own, monkeypatch):
    made_up_gpus.give(monkeypatch)
    monkeypatch.setenv("BERTGRID_GPU_MEMORY", "16GB")
    for words in (("evaluate", study), ("predict", study, own, "--text-column", "text", "-o", "out.csv")):
        said = bertgrid(*words).out.splitlines()[0]
        assert re.fullmatch(r"Computing on the CPU: .+, so that --gpu-memory is ignored\.", said)


def test_a_split_that_there_is_not_is_refused(bertgrid, study):
    assert bertgrid("evaluate", study, "--split", "tset").refusal == (
        "sample has no split 'tset'; choose from train, dev, test."
    )
    assert not (study / "evaluations.csv").exists()


def test_a_study_without_a_final_model_neither_evaluates_nor_predicts(bertgrid, study, own):
    shutil.rmtree(study / "model")
    (study / "final.json").unlink()
    for words in (("evaluate", study), ("predict", study, own, "--text-column", "text", "-o", "out.csv")):
        assert bertgrid(*words).refusal == (
            f"The study in {study} has no final model: run its `tune` command again to go on, "
            "or with another --final-model."
        )


def test_the_competition_s_file_is_answered_as_it_wants(bertgrid, study):
    lines = ["id,i_dialog,i_utterance,speaker,utterance", '7,0,0,Ann,"Well, hello"', "3,0,1,Bob,Hi", "9,1,0,Ann,Oh"]
    Path("en_data.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    assert bertgrid("predict", study, "en_data.csv", "-o", "out.csv").out.startswith("3 texts labelled in out.csv.\n")
    with Path("out.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["Id", "Expected"]
    assert [key for key, _ in rows] == ["7", "3", "9"]
    assert {label for _, label in rows} <= {
        "anger",
        "disgust",
        "fear",
        "joy",
        "neutral",
        "non-neutral",
        "sadness",
        "surprise",
    }


def test_a_file_in_nsmc_s_format_is_labelled_by_its_ids(bertgrid, study):
    Path("ratings.txt").write_text('id\tdocument\tlabel\n12\tso "great\t1\n11\t\t0\n')
    assert bertgrid("predict", study, "ratings.txt", "-o", "out.csv").code == 0
    labelled = pd.read_csv("out.csv")
    assert list(labelled) == ["id", "label"]
    assert list(labelled["id"]) == [12, 11]


def test_a_table_is_labelled_with_probabilities_and_ids_of_its_own(bertgrid, study, own):
    flags = ("--text-column", "text", "--dialogue-column", "dlg", "--speaker-column", "who", "--proba")
    assert bertgrid("predict", study, own, *flags, "-o", "deep/out.csv").code == 0
    labelled = pd.read_csv("deep/out.csv")
    probabilities = labelled.filter(like="p_")
    assert list(labelled["id"]) == list(range(1, 81))
    assert len(probabilities.columns) == 8
    assert probabilities.sum(axis=1).sub(1).abs().max() < 1e-5
    assert list("p_" + labelled["label"]) == list(probabilities.idxmax(axis=1))

    keyed = write_rows(own, [[f"k{n}", "hello"] for n in range(3)], "key,text")
    assert bertgrid("predict", study, keyed, "--text-column", "text", "--key-column", "key", "-o", "out.csv").code == 0
    assert list(pd.read_csv("out.csv")["id"]) == ["k0", "k1", "k2"]


def test_dialogue_columns_change_what_the_model_sees(bertgrid, study, own):
    # The winner's layout shows the previous utterance, if not the speaker.
    final = json.loads((study / "final.json").read_text())
    final["hyperparameters"]["context"] = "current+previous"
    (study / "final.json").write_text(json.dumps(final))
    alone = ("--text-column", "text", "--proba", "-o", "alone.csv")
    assert bertgrid("predict", study, own, *alone).code == 0
    assert bertgrid("predict", study, own, *alone[:-1], "together.csv", "--dialogue-column", "dlg").code == 0
    one, other = (pd.read_csv(name).filter(like="p_").to_numpy() for name in ("alone.csv", "together.csv"))
    first = [n for n in range(80) if n % 4 == 0]
    later = [n for n in range(80) if n % 4]
    assert abs(one[first] - other[first]).max() < 1e-5
    assert abs(one[later] - other[later]).max() > 1e-5


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["own.csv", "-o", "out.csv"],
            "own.csv: say which column holds the text with --text-column; its columns are dlg",
        ),
        (["own.csv", "--text-column", "txt", "-o", "out.csv"], "own.csv has no column 'txt'; its columns are dlg, who"),
        (
            ["own.csv", "--key-column", "dlg", "-o", "out.csv"],
            "--dialogue-column, --speaker-column and --key-column need",
        ),
        (
            ["own.csv", "--text-column", "text", "--key-column", "dlg", "-o", "out.csv"],
            "own.csv, line 3: the id 'd0' in the column 'dlg' stands on line 2 already; ids must differ.",
        ),
        (["none.csv", "-o", "out.csv"], "none.csv does not exist; check the name."),
        (["empty.csv", "-o", "out.csv"], "empty.csv is empty."),
        ([".", "-o", "out.csv"], ". is a folder; name a file in it."),
        (["own.csv", "--text-column", "text", "-o", "."], ". is a folder: name a file in it with -o."),
        (
            ["own.csv", "--text-column", "text", "-o", "./own.csv"],
            "own.csv is the file with the texts: name another with",
        ),
        (
            ["own.csv", "--text-column", "text", "-o", "empty.csv/x"],
            "empty.csv/x cannot be written, since empty.csv is no",
        ),
    ],
)
def test_what_cannot_be_labelled_is_refused_before_anything_is_written(bertgrid, study, words, sentence):
    write_rows(Path("own.csv"), own_rows())
    Path("empty.csv").write_text("")
    Path("out.csv").write_text("mine")
    before = content(Path.cwd())
    assert bertgrid("predict", study, *words).refusal.startswith(sentence)
    assert content(Path.cwd()) == before


# The evidence


def test_a_report_is_drawn_with_the_study_and_anew_when_asked(bertgrid, study):
    drawn = (study / "report.html").read_bytes()
    (study / "report.html").unlink()
    shutil.rmtree(study / "figures")
    answer = bertgrid("report", study)
    assert answer.out == f"The report is {study}/report.html, its figures lie in {study}/figures.\n"
    # Its own path stands in it.
    page = (study / "report.html").read_bytes()
    assert len(page) == pytest.approx(len(drawn), rel=0.01)
    assert {"grid.svg", "grid.png", "sweeps.svg", "confusion.png"} <= {
        file.name for file in (study / "figures").iterdir()
    }
    assert (study / "model" / "README.md").read_text().startswith("---\nlibrary_name: transformers\n")


def test_studies_stand_side_by_side_with_what_can_be_told_apart(bertgrid, study):
    again = Path(shutil.copytree(study, study.parent / "follow_up"))
    answer = bertgrid("compare", study, again)
    assert "winner's accuracy" in answer.out
    assert "≈ best" in answer.out
    assert bertgrid("compare", study).refusal == "compare needs two results folders or more."
    assert bertgrid("compare", study, study.parent).refusal.startswith(f"{study.parent} is no results folder")


def test_a_model_is_exported_and_not_over_what_is_there(bertgrid, study):
    answer = bertgrid("export", study, "--format", "savedmodel")
    assert answer.out.startswith(f"{study}/savedmodel holds the model: on 16 texts its probabilities are those of the")
    refused = bertgrid("export", study, "--format", "savedmodel").refusal
    assert refused == f"{study}/savedmodel is there already: delete it, or name another folder with -o."
    assert bertgrid("export", study, "--format", "pmml").refusal == (
        "A model cannot be exported as 'pmml': choose from savedmodel, onnx."
    )


def test_a_soup_that_was_not_made_cannot_be_used(bertgrid, study, own):
    refused = bertgrid("predict", study, own, "--text-column", "text", "-o", "out.csv", "--soup").refusal
    assert refused == f"The study in {study} has no soup folder: give --soup to its `tune` command."


def test_soup_and_a_refitted_head_are_not_asked_for_together(bertgrid):
    refused = bertgrid("tune", "sample", "--soup", "--set", "head=smote").refusal
    assert refused.endswith("soup averages heads that were trained: give head trained alone, or no soup.")
