"""A study that has ended ▶ its table in the user's bank."""

import hashlib
import json
from datetime import date
from pathlib import Path
from statistics import median

from bertgrid_tf.bank.card import Card, meta_features
from bertgrid_tf.bank.studies import write_study
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.system.host import description
from bertgrid_tf.training.encoding import CorpusEncoder


def contribute(folder: StudyFolder, encoder: CorpusEncoder, bank: Path) -> None:
    """Add the learning-rate × epoch table of a study to a bank; that of an earlier session is replaced.

    Task and study get numbers for names: what is written holds no text, no path, and no name of a class or a file.

    Args:
        folder: A study whose search has ended.
        encoder: Encodes its corpus.
        bank: The bank's folder.

    Raises:
        UserError: The bank cannot be written, or the study cannot be read.
    """
    recipe, winner, metadata = folder.read_recipe(), folder.read_best().hyperparameters, folder.read_metadata()
    table = folder.read_table()
    assert table is not None
    seconds = [float(cell["seconds"]) for cell in folder.read_cells() if "seconds" in cell]
    card = Card(
        **meta_features(recipe, encoder, winner).model_dump(),
        task=f"user-{_digest(metadata.fingerprint)}",
        source="user",
        machine=description(),
        seconds=round(median(seconds), 3) if seconds else None,
        date=date.today().isoformat(),
    )
    trained = winner.model_dump(exclude={"model", "learning_rate"}) | {"model": metadata.checkpoints[winner.model]}
    same = [metadata.fingerprint, trained, *(recipe.metric, recipe.grid_schedule, recipe.epochs, recipe.seed)]
    write_study(bank, f"study-{_digest(json.dumps(same, sort_keys=True))}", card, {recipe.seed: table})


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
