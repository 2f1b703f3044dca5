"""The final model on Hugging Face's hub: model, tokenizer and card, in one commit."""

from bertgrid_tf.bert.checkpoint_config import first_line
from bertgrid_tf.bert.checkpoint_files import complete_folder
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder

_PUSHED = (".json", ".txt", ".model", ".safetensors")
"""The suffixes of the files that a model and its tokenizer consist of."""


def push(study_folder: StudyFolder, repository: str, card: str, private: bool = False, update: bool = False) -> str:
    """Upload the final model with its tokenizer, its correction and a card to the hub that `HF_ENDPOINT` names.

    The token is that of huggingface_hub: `HF_TOKEN`, or what `hf auth login` has stored.

    Args:
        study_folder: The study.
        repository: OWNER/NAME on the hub.
        card: The model card in Markdown.
        private: Whether only the owner may see it.
        update: Whether the repository may be there already: it then gets a further commit.

    Returns:
        The address of the repository.

    Raises:
        UserError: There is no final model or no token; the name is none, or is taken; the token has no right to write
            there; the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors, get_token
    from huggingface_hub.utils import validate_repo_id

    models = study_folder.final_models()
    if len(models) > 1:
        raise UserError(
            f"The final model is the mean of {len(models)} models, and a model on the hub is one: push that of a study "
            "with final.n_seeds 1 and no final.folds, or hand on the study folder, which `serve` and `predict` take."
        )
    folder = complete_folder(str(models[0]))
    owner, slash, _ = repository.partition("/")
    try:
        validate_repo_id(repository)
    except errors.HFValidationError:
        slash = ""
    if not (owner and slash):
        raise UserError(f"{repository!r} is no name for a model on the hub: write it as OWNER/NAME.")
    if get_token() is None:
        raise UserError("The hub takes models of those alone who have a token: run `hf auth login`, or set HF_TOKEN.")
    files = [path for path in sorted(folder.iterdir()) if path.suffix in _PUSHED]
    additions = [CommitOperationAdd("README.md", card.encode()), *(CommitOperationAdd(one.name, one) for one in files)]
    hub = HfApi()
    try:
        url = hub.create_repo(repository, private=private or None, exist_ok=update)
        if private and not hub.model_info(repository).private:
            raise UserError(f"{repository} is public: name another model, or make it private on the hub.")
        hub.create_commit(repository, additions, commit_message="Upload the final model of a bertgrid-tf study")
    except errors.HfHubHTTPError as error:
        raise UserError(_refusal(repository, error.response.status_code, error.server_message)) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{repository} was not uploaded, since {hub.endpoint} cannot be reached ({first_line(error)}): connect, "
            "and give the command again with --update, which takes up what is there already."
        ) from error
    return str(url)


def _refusal(repository: str, status: int, message: str | None) -> str:
    """Return why the hub has refused, and what to do."""
    if status == 401:
        return "The hub does not know the token: run `hf auth login`, or set HF_TOKEN to one that is valid."
    if status == 403:
        return f"The token has no right to write {repository}: give one with that right, or name a model of your own."
    if status == 409:
        return f"{repository} is there already: name another model, or give --update to add a commit to it."
    because = f" ({message.splitlines()[0]})" if message else ""
    return (
        f"{repository} was not uploaded, since the hub answers with status {status}{because}: try again later, "
        "with --update if it is there by now."
    )
