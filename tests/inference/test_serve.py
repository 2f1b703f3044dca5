"""The served model: `predict`'s answers over HTTP, whatever comes at the same time, and refusals in one sentence."""

import csv
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from typer.testing import CliRunner

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `serve` is not installed")

from fastapi import FastAPI  # noqa: E402

from bertgrid_tf import cli, open_study  # noqa: E402
from bertgrid_tf.bert.checkpoint import load  # noqa: E402
from bertgrid_tf.corpus import Columns, Dialogue, Utterance  # noqa: E402
from bertgrid_tf.errors import UserError  # noqa: E402
from bertgrid_tf.inference.batching import BATCH_TEXTS, Batcher  # noqa: E402
from bertgrid_tf.inference.predict import predict_file  # noqa: E402
from bertgrid_tf.inference.serve import HEADERS, Limits, create_app  # noqa: E402
from bertgrid_tf.metrics.correction import Correction  # noqa: E402
from bertgrid_tf.recipe import load_recipe  # noqa: E402
from bertgrid_tf.storage.predictions import Predictions, predictions_file, write_predictions  # noqa: E402
from bertgrid_tf.storage.records import FinalTrial, StudyMetadata  # noqa: E402
from bertgrid_tf.storage.study_folder import StudyFolder  # noqa: E402

LABELS = ("bad", "good", "neither")
WORDS = ["a", "film", "it", "was", "the", "story", "of", "fun", "boring", "sad", "lovely", "awful", "Ann", "Bob"]
TOLERANCE = 1e-5
"""The most that other texts in the batch change of a probability."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A study of dialogues with speakers, whose models were trained on nothing, and a correction."""
    folder = StudyFolder(tmp_path_factory.mktemp("results") / "study")
    checkpoint = load("scratch:1x32", LABELS, texts=[" ".join(WORDS)] * 3)
    for seed, model in enumerate((folder.soup_model, folder.model)):
        checkpoint.reset(seed)
        # An untrained head gives all texts nearly the same probabilities.
        head = checkpoint.model.classifier
        head.kernel.assign(head.kernel * 50)
        checkpoint.save(model)
    overrides = {"model": "scratch:1x32", "context": "current+previous", "speaker_format": "colon", "max_length": 24}
    recipe = load_recipe("sample", None, overrides)
    for file in (folder.recipe_file, folder.best_file):
        file.write_text(recipe.to_yaml())
    counts = {split: dict.fromkeys(LABELS, 10) for split in ("train", "dev")}
    folder.write_metadata(StudyMetadata("0" * 16, LABELS, {"Ann": 9, "Bob": 9}, {}, {}, classes=counts))
    folder.write_final(FinalTrial(recipe.hyperparameters, 1, [{"accuracy": 0.5}]))
    truth = np.arange(30, dtype=np.int32) % 3
    dev = Predictions(np.arange(30), truth, np.full((30, 3), 1 / 3, np.float32))
    write_predictions(predictions_file(folder.predictions, "final", 1), dev, LABELS)
    folder.write_correction(Correction(1.0, [0.6, 0.3, 0.1], 1.5))
    (folder.model / "README.md").write_text(CARD)
    folder.report_file.write_text("<!DOCTYPE html><title>Report</title>")
    return folder


CARD = "---\nlibrary_name: transformers\n---\n\n# study\n\n<script>alert(1)</script> [x](javascript:alert(1))\n\n" + (
    "| class | F1 |\n| --- | --- |\n| <b>bad</b> | 0.5 |\n"
)


def lines(dialogues: int, length: int = 3) -> list[dict[str, str]]:
    """Utterances of dialogues of which no two are equal."""
    random = np.random.default_rng(0)
    return [
        {"d": str(dialogue), "who": random.choice(["Ann", "Bob"]), "text": " ".join(random.choice(WORDS, 5 + turn))}
        for dialogue in range(dialogues)
        for turn in range(length)
    ]


def predicted(folder: StudyFolder, rows: list[dict[str, str]], out: Path, dialogues: bool, **flags: bool) -> Any:
    """What `predict --proba` writes for the rows: a label and the probabilities for each."""
    table = out / "in.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("d", "who", "text"))
        writer.writeheader()
        writer.writerows(rows)
    columns = Columns("text", dialogue="d", speaker="who") if dialogues else Columns("text")
    predict_file(folder, table, out / "out.csv", columns, True, **flags)
    written = pd.read_csv(out / "out.csv")
    return written["label"].tolist(), written[[f"p_{label}" for label in LABELS]].to_numpy()


def assert_equal(predictions: list[dict[str, Any]], expected: tuple[list[str], np.ndarray]) -> None:
    given = np.array([[one["probabilities"][label] for label in LABELS] for one in predictions])
    np.testing.assert_allclose(given, expected[1], atol=TOLERANCE)
    assert [one["label"] for one in predictions] == expected[0]


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Runs an app in a server of its own, on a free port; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


LIMITS = Limits(texts=100, characters=50, body=20_000, waiting=120)


@pytest.fixture(scope="module")
def app(folder: StudyFolder) -> FastAPI:
    return create_app(folder, limits=LIMITS)


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with running(app) as url:
        yield url


def post(url: str, **body: Any) -> requests.Response:
    return requests.post(f"{url}/predict", json=body, timeout=60)


@pytest.fixture
def busy(app: FastAPI) -> Iterator[Callable[[], None]]:
    """Keeps the model from answering until it is called, or the test ends."""
    begun, ended = Event(), Event()
    app.state.batcher._worker.submit(lambda: (begun.set(), ended.wait(60)))
    assert begun.wait(60)
    yield ended.set
    ended.set()


def wait_for(condition: Callable[[], bool]) -> None:
    end = monotonic() + 60
    while not condition():
        assert monotonic() < end
        sleep(0.01)


def test_texts_at_the_same_time_share_batches_and_get_the_probabilities_of_predict(folder, app, url, busy, tmp_path):
    batcher, rows = app.state.batcher, lines(30)
    before = batcher.batches
    with ThreadPoolExecutor(30) as clients:
        texts = [row["text"] for row in rows]
        answers = [clients.submit(post, url, texts=texts[at : at + 3]) for at in range(0, 90, 3)]
        wait_for(lambda: len(batcher._queue) == 30)
        busy()
        answers = [answer.result() for answer in answers]
    assert {answer.status_code for answer in answers} == {200}
    # A batch takes as many whole requests as it has room for.
    assert batcher.batches - before == -(-90 // (BATCH_TEXTS - BATCH_TEXTS % 3))
    predictions = [one for answer in answers for one in answer.json()["predictions"]]
    expected = predicted(folder, rows, tmp_path, dialogues=False)
    assert len({*expected[0]}) > 1
    assert_equal(predictions, expected)


def test_dialogues_with_speakers_are_each_other_s_context_as_for_predict(folder, url, tmp_path):
    rows = lines(8)
    dialogues = [[{"speaker": row["who"], "text": row["text"]} for row in rows[at : at + 3]] for at in range(0, 24, 3)]
    expected = predicted(folder, rows, tmp_path, dialogues=True)
    answer = post(url, dialogues=[*dialogues, []]).json()
    assert [len(one) for one in answer["predictions"]] == [3] * 8 + [0]
    assert_equal([one for dialogue in answer["predictions"] for one in dialogue], expected)
    assert np.abs(expected[1] - predicted(folder, rows, tmp_path, dialogues=False)[1]).max() > 100 * TOLERANCE


def test_the_soup_answers_without_the_correction_as_for_predict(folder, tmp_path):
    with running(open_study(folder.path).app(soup=True)) as url:
        rows = lines(4)
        expected = predicted(folder, rows, tmp_path, dialogues=False, soup=True)
        assert_equal(post(url, texts=[row["text"] for row in rows]).json()["predictions"], expected)
        assert "The soup of the search" in requests.get(url, timeout=60).text


def test_texts_of_which_the_vocabulary_has_nothing_have_a_warning_or_are_refused(url):
    answer = post(url, texts=["a film", "😀"]).json()
    assert answer["warnings"] == ["The vocabulary has nothing of 1 of the 2 texts, as '😀': their labels are guesses."]
    answer = post(url, texts=["영화 정말 재미있다"])
    assert (answer.status_code, len(answer.json())) == (422, 1)
    assert "does not know these texts" in answer.json()["detail"]


def test_a_request_that_fails_or_is_not_known_fails_none_of_its_batch(folder, monkeypatch):
    batcher = Batcher(folder, wait_seconds=0.5)
    own = batcher._predictor.probabilities

    def failing(dialogues: list[Dialogue], *rest: object, **more: object) -> np.ndarray:
        if any("sad" in text for dialogue in dialogues for text in dialogue.texts):
            raise BaseException("a panic")
        return own(dialogues, *rest, **more)

    monkeypatch.setattr(batcher._predictor, "probabilities", failing)
    answers = [
        batcher.submit([Dialogue((Utterance(text),))]) for text in ("a film", "sad", "영화 정말", "it was lovely")
    ]
    assert answers[0].result().probabilities.shape == answers[3].result().probabilities.shape == (1, 3)
    with pytest.raises(BaseException, match="a panic"):
        answers[1].result()
    with pytest.raises(UserError, match="does not know these texts"):
        answers[2].result()


def test_more_texts_than_may_wait_are_answered_with_503_and_the_others_as_usual(app, url, busy):
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(post, url, texts=["a film"] * 100)
        wait_for(lambda: app.state.batcher._waiting == 100)
        refused = post(url, texts=["a film"] * 21)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json() == {"detail": "Too many texts wait for the model: send the request again later."}
        second = clients.submit(post, url, texts=["a film"] * 20)
        wait_for(lambda: app.state.batcher._waiting == 120)
        assert requests.get(f"{url}/healthz", timeout=60).json() == {"status": "ok"}
        busy()
        assert [len(answer.result().json()["predictions"]) for answer in (first, second)] == [100, 20]


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ({"texts": ["a film"] * 101}, 422, "The request has 101 texts: send at most 100 at a time."),
        ({"texts": ["a", "x" * 51]}, 422, "Text 2 has 51 characters: send at most 50."),
        ({"dialogues": [[{"text": "x" * 48, "speaker": "Ann"}]]}, 422, "Text 1 has 51 characters: send at most 50."),
        ({"texts": ["a" * 20_000]}, 413, "The request has too many bytes: send at most 20,000."),
        ({}, 422, "Give texts, pairs or dialogues, one of the three."),
        ({"texts": ["a"], "dialogues": []}, 422, "Give texts, pairs or dialogues, one of the three."),
        ({"pairs": [{"text": "a"}]}, 422, "pairs.0.text_pair: Field required."),
        ({"pairs": [{"text": "x" * 30, "text_pair": "x" * 30}]}, 422, "Text 1 has 60 characters: send at most 50."),
        (
            {"pairs": [{"text": "a film", "text_pair": "fun"}]},
            422,
            "The model was trained on single texts: leave the second ones out.",
        ),
        ({"texts": []}, 422, "There are no texts to classify: give at least one."),
        ({"dialogues": [[]]}, 422, "There are no texts to classify: give at least one."),
        ({"texts": ["a", 3]}, 422, "texts.1: Input should be a valid string."),
        ({"texts": "a film"}, 422, "texts: Input should be a valid list."),
        ({"texts": ["a"], "labels": 1}, 422, "labels: Extra inputs are not permitted."),
        ({"dialogues": [[{"txt": "a"}]]}, 422, "dialogues.0.0.text: Field required."),
        ({"texts": ["t\ud83dwo"]}, 422, "Text 1 has half of a surrogate pair: send whole characters."),
        (b"texts", 422, "The body is no JSON: Expecting value at character 0."),
        (b"", 422, "The body must be a JSON object, with the header Content-Type: application/json."),
        (b"[1]", 422, "The body must be a JSON object, with the header Content-Type: application/json."),
        (b"[" * 19_000, 4, ""),
        (b'{"texts": ["\xff"]}', 4, ""),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused_in_one_sentence(url, body, code, sentence):
    json = {} if isinstance(body, bytes) else {"json": body}
    data = {"data": body, "headers": {"Content-Type": "application/json"}} if isinstance(body, bytes) else {}
    answer = requests.post(f"{url}/predict", **json, **data, timeout=60)
    assert answer.status_code in ((400, 422) if code == 4 else (code,))
    assert answer.json().keys() == {"detail"}
    assert answer.json()["detail"].startswith(sentence)


def test_a_body_of_unknown_length_is_read_no_further_than_the_limit(url):
    parts = iter([b'{"texts": ["', *[b"a" * 1_000] * 30, b'"]}'])
    answer = requests.post(f"{url}/predict", data=parts, headers={"Content-Type": "application/json"}, timeout=60)
    assert (answer.status_code, answer.json()["detail"][:34]) == (413, "The request has too many bytes: se")


def test_without_the_token_only_the_health_is_answered(folder):
    with running(create_app(folder, token="s3cret!")) as url:
        for headers in ({}, {"Authorization": "Bearer s3cret"}, {"Authorization": "s3cret!"}):
            for path in ("/", "/report", "/docs", "/openapi.json", "/predict", "/nowhere"):
                answer = requests.get(url + path, headers=headers, timeout=60)
                assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
                assert answer.json()["detail"].startswith("The token is missing or wrong")
            assert requests.get(f"{url}/healthz", headers=headers, timeout=60).ok
        headers = {"Authorization": "Bearer s3cret!"}
        assert requests.post(f"{url}/predict", json={"texts": ["a film"]}, headers=headers, timeout=60).ok
        api = requests.get(f"{url}/openapi.json", headers=headers, timeout=60).json()
        assert api["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}


@pytest.mark.parametrize("token", ["", "two words", "schlüssel", "a\n"])
def test_a_token_that_no_header_can_carry_is_refused(folder, token):
    with pytest.raises(UserError, match="one or more visible ASCII characters"):
        create_app(folder, token=token)


def test_the_pages_run_no_script_and_show_html_as_text(url):
    for path in ("/", "/report", "/docs"):
        answer = requests.get(url + path, timeout=60)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert HEADERS.items() <= answer.headers.items()
        assert "script-src" not in HEADERS["Content-Security-Policy"]
        assert "<script" not in answer.text
    card = requests.get(url, timeout=60).text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in card
    assert "<td>&lt;b&gt;bad&lt;/b&gt;</td>" in card
    assert 'href="javascript' not in card
    assert "library_name" not in card
    assert '<a href="report">' in card
    assert requests.get(f"{url}/report", timeout=60).text == "<!DOCTYPE html><title>Report</title>"


def test_the_api_is_described_with_every_path_and_without_another_host(url):
    page, api = (requests.get(url + path, timeout=60) for path in ("/docs", "/openapi.json"))
    assert {*api.json()["paths"]} == {"/predict", "/healthz", "/", "/report", "/docs"}
    assert all(f"<code>{method}</code>" in page.text for method in ("POST /predict", "GET /healthz", "GET /"))
    assert "PredictRequest" in page.text
    assert "http" not in page.text.replace("HTTPValidationError", "")
    codes = api.json()["paths"]["/predict"]["post"]["responses"]
    assert {*codes} == {"200", "401", "413", "422", "503"}


def test_a_name_that_stands_for_the_address_of_another_page_is_refused(folder):
    with running(create_app(folder, hosts={"localhost", "127.0.0.1", "::1"})) as url:
        port = url.rpartition(":")[2]
        for host, code in (
            (f"127.0.0.1:{port}", 200),
            ("localhost", 200),
            (f"[::1]:{port}", 200),
            (f"evil.example:{port}", 421),
            ("evil.example", 421),
        ):
            assert requests.get(url, headers={"Host": host}, timeout=60).status_code == code, host


def test_an_app_can_be_mounted_in_another_one(folder):
    outer = FastAPI()
    outer.mount("/moods", open_study(folder.path).app(token="abc", texts=1))
    with running(outer) as url:
        headers = {"Authorization": "Bearer abc"}
        answer = requests.post(f"{url}/moods/predict", json={"texts": ["a film"]}, headers=headers, timeout=60)
        assert len(answer.json()["predictions"]) == 1
        answer = requests.post(f"{url}/moods/predict", json={"texts": ["a film"] * 2}, headers=headers, timeout=60)
        assert answer.json()["detail"] == "The request has 2 texts: send at most 1 at a time."
        assert requests.get(f"{url}/moods/healthz", timeout=60).ok
        assert requests.get(f"{url}/moods/", timeout=60).status_code == 401
        assert "<h1>study</h1>" in requests.get(f"{url}/moods/", headers=headers, timeout=60).text


def test_without_its_packages_the_app_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(UserError, match=r"not installed: pip install 'bertgrid-tf\[serve\]'"):
        open_study(folder.path).app()


def test_sigterm_lets_nobody_in_and_ends_with_exit_code_0_once_the_queue_is_answered(folder):
    words = ["serve", str(folder.path), "--port", "0", "--batch-wait", "4000"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BERTGRID_")}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-m", "bertgrid_tf", *words], env=environment, **pipes) as process:
        assert process.stdout.readline().startswith("Computing on ")
        sentence = process.stdout.readline()
        url = re.fullmatch(r".* is served on (http://127\.0\.0\.1:\d+); Ctrl-C ends it\.\n", sentence)[1]
        with ThreadPoolExecutor(10) as clients:
            answers = [clients.submit(post, url, texts=["a film"] * 3) for _ in range(10)]
            sleep(1.5)
            process.terminate()
            port = int(url.rpartition(":")[2])
            wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) != 0)
            assert not any(answer.done() for answer in answers)
            assert [len(answer.result().json()["predictions"]) for answer in answers] == [3] * 10
        assert process.wait(60) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


@pytest.fixture
def serve(folder: StudyFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, list[FastAPI]]]:
    """Runs the command up to its server; returns what it prints, and the app that it would run."""
    apps: list[FastAPI] = []

    def keep(app: FastAPI, listener: socket.socket) -> None:
        assert listener.proto == socket.IPPROTO_TCP  # or asyncio sends an answer in two parts, 40 ms apart
        listener.close()
        apps.append(app)

    monkeypatch.setattr("bertgrid_tf.inference.serve.run", keep)
    monkeypatch.delenv("BERTGRID_TOKEN", raising=False)

    def run(*words: str) -> tuple[str, list[FastAPI]]:
        answer = CliRunner().invoke(cli.app, ["serve", str(folder.path), "--port", "0", *words], catch_exceptions=False)
        return answer.stdout, apps

    return run


def test_the_variable_s_token_is_asked_for_and_without_one_other_hosts_are_a_warning(serve, monkeypatch):
    warning = "Whoever reaches this port can use the model and read its report: set BERTGRID_TOKEN to a secret."
    assert warning not in serve()[0]
    monkeypatch.setattr("bertgrid_tf.cli.serve.ip_address", lambda address: SimpleNamespace(is_loopback=False))
    assert warning in serve("--max-texts", "1")[0].splitlines()
    monkeypatch.setenv("BERTGRID_TOKEN", "abc")
    out, (alone, opened, closed) = serve()
    assert warning not in out
    with running(alone) as url:
        assert requests.get(url, headers={"Host": "evil.example"}, timeout=60).status_code == 421
    with running(opened) as url:
        assert requests.get(url, headers={"Host": "model.example"}, timeout=60).ok
        assert post(url, texts=["a", "a"]).status_code == 422
    with running(closed) as url:
        assert requests.get(url, timeout=60).status_code == 401


def test_a_port_that_is_taken_and_a_host_that_there_is_not_are_refused_before_the_model_is_loaded(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        sentence = rf"Port {port} of 127\.0\.0\.1 cannot be opened \(Address already in use\): give another --port or"
        with pytest.raises(UserError, match=sentence):
            serve("--port", port)
    with pytest.raises(UserError, match=r"of x{70} cannot be opened"):
        serve("--host", "x" * 70)
