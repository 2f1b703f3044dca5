"""The final model on a hub: what is uploaded, and what is refused."""

import shutil
from collections.abc import Iterator

import hub_server
import pytest
from console_script import closed_port
from hub_server import TOKEN, Hub
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import reset_sessions


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, and a token for it."""
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    reset_sessions()  # that of a test without a network refuses all calls
    with hub_server.hub() as held:
        monkeypatch.setattr(constants, "ENDPOINT", held.address)
        yield held


def test_model_tokenizer_and_card_are_pushed_and_nothing_else(bertgrid, study, hub):
    model = study / "model"
    (model / "notes.md").write_text("mine")
    answer = bertgrid("push", study, "me/moods")
    assert answer.code == 0, answer.err
    assert answer.out == f"The model is at {hub.address}/me/moods.\n"
    pushed = hub.files["me/moods"]
    expected = {file.name for file in model.iterdir()} - {"notes.md"}
    assert {"model.safetensors", "config.json", "vocab.txt", "correction.json", "README.md"} <= expected == set(pushed)
    for name in expected - {"README.md"}:
        assert pushed[name] == (model / name).read_bytes(), name
    card = pushed["README.md"].decode()
    assert "me/moods" in card
    assert str(study) not in card
    assert ModelCard(card).data.pipeline_tag == "text-classification"
    assert hub.private == {"me/moods": False}


def test_a_model_that_is_there_is_refused_without_update_and_a_public_one_as_private(bertgrid, study, hub):
    assert bertgrid("push", study, "me/moods").code == 0
    refused = bertgrid("push", study, "me/moods").refusal
    assert refused == "me/moods is there already: name another model, or give --update to add a commit to it."
    (study / "model" / "config.json").write_text((study / "model" / "config.json").read_text() + "\n")
    refused = bertgrid("push", study, "me/moods", "--private", "--update").refusal
    assert refused == "me/moods is public: name another model, or make it private on the hub."
    assert hub.commits == ["me/moods"]
    assert bertgrid("push", study, "me/moods", "--update").code == 0
    assert hub.commits == ["me/moods"] * 2
    assert hub.files["me/moods"]["config.json"] == (study / "model" / "config.json").read_bytes()


def test_a_private_model_is_private_from_the_start(bertgrid, study, hub):
    assert bertgrid("push", study, "me/moods", "--private").code == 0
    assert hub.private == {"me/moods": True}


@pytest.mark.parametrize(
    ("name", "variables", "sentence"),
    [
        ("moods", {}, "'moods' is no name for a model on the hub: write it as OWNER/NAME."),
        ("me/a/b", {}, "'me/a/b' is no name for a model on the hub: write it as OWNER/NAME."),
        ("me/..", {}, "'me/..' is no name for a model on the hub: write it as OWNER/NAME."),
        (
            "me/moods",
            {"HF_TOKEN": ""},
            "The hub takes models of those alone who have a token: run `hf auth login`, or set HF_TOKEN.",
        ),
        (
            "me/moods",
            {"HF_TOKEN": "hf_wrong"},
            "The hub does not know the token: run `hf auth login`, or set HF_TOKEN to one that is valid.",
        ),
        (
            "you/moods",
            {},
            "The token has no right to write you/moods: give one with that right, or name a model of your own.",
        ),
    ],
)
def test_a_refusal_is_a_sentence(bertgrid, study, hub, monkeypatch, tmp_path, name, variables, sentence):
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert bertgrid("push", study, name).refusal == sentence
    assert not hub.commits


def test_a_hub_that_fails_or_is_out_of_reach_is_a_sentence_and_the_push_is_taken_up(bertgrid, study, hub, monkeypatch):
    hub.status = 507
    assert bertgrid("push", study, "me/moods").refusal == (
        "me/moods was not uploaded, since the hub answers with status 507 (The disk is full): try again later, with "
        "--update if it is there by now."
    )
    hub.status = None
    assert bertgrid("push", study, "me/moods", "--update").code == 0
    assert hub.commits == ["me/moods"]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    refused = bertgrid("push", study, "me/other").refusal
    assert refused.startswith(f"me/other was not uploaded, since {constants.ENDPOINT} cannot be reached (")
    assert refused.endswith("connect, and give the command again with --update, which takes up what is there already.")


def test_a_study_without_a_final_model_and_a_model_without_weights_are_refused(bertgrid, study, hub):
    (study / "model" / "model.safetensors").unlink()
    assert "has no weights" in bertgrid("push", study, "me/moods").refusal
    shutil.rmtree(study / "model")
    (study / "final.json").unlink()
    assert "has no final model yet" in bertgrid("push", study, "me/moods").refusal
    assert not hub.private
