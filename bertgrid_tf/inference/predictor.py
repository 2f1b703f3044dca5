"""The model of a study with the hyperparameters that it was trained with."""

from collections.abc import Sequence

import numpy as np

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import check_vocabulary, unknown_texts
from bertgrid_tf.bert.trainer import OnTrainBatchEnd, Trainer
from bertgrid_tf.corpus import Dialogue, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import encode_dialogues


class Predictor:
    """The final model of a study, or the soup of its search.

    Args:
        folder: The study.
        soup: Whether to load the soup instead of the final model.

    Attributes:
        labels: The class names in the order of their ids.

    Raises:
        UserError: The study has no such model.
    """

    def __init__(self, folder: StudyFolder, soup: bool = False) -> None:
        metadata, model = folder.read_metadata(), folder.soup_model if soup else folder.model
        source = folder.read_best() if soup else folder.read_final()
        if not model.is_dir():
            remedy = ": give --soup to its `tune` command." if soup else " yet: run its `tune` command again to go on."
            raise UserError(f"The study in {folder.path} has no {model.name} folder{remedy}")
        self._hyperparameters = source.hyperparameters
        self._speakers = metadata.speakers
        with folder.loading(model) as self.labels:
            self._trainer = Trainer(load(str(model), self.labels), self._hyperparameters.resolved_precision)

    def probabilities(self, dialogues: Sequence[Dialogue], on_batch_end: OnTrainBatchEnd | None = None) -> np.ndarray:
        """Return the class probabilities of every utterance, float32 [utterances, classes].

        Args:
            dialogues: The dialogues whose utterances are classified.
            on_batch_end: Called after every batch with the texts done, all texts, and NaN.

        Raises:
            UserError: The vocabulary does not fit the texts.
        """
        checkpoint = self._trainer.checkpoint
        texts = [utterance.text for utterance in utterances(dialogues)]
        # Emoji and numbers alone are of no language, so that the vocabulary is not that of another one.
        worded = [text for text in texts if any(map(str.isalpha, text))]
        if worded:
            check_vocabulary(checkpoint.tokenizer, checkpoint.name, worded)
        encoded = encode_dialogues(checkpoint.tokenizer, dialogues, self._hyperparameters, self._speakers)
        return self._trainer.probabilities(encoded, on_batch_end)

    def unknown_remarks(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Return a sentence about the texts whose labels are guesses, since the vocabulary has none of their pieces."""
        lines = list(utterances(dialogues))
        unknown = unknown_texts(self._trainer.checkpoint.tokenizer, [line.text for line in lines])
        if not unknown:
            return []
        examples = ", ".join(repr(lines[index].text[:20]) for index in unknown[:3])
        return [
            f"The vocabulary has nothing of {len(unknown):,} of the {len(lines):,} texts, as {examples}: their labels "
            "are guesses."
        ]
