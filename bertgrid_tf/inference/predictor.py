"""The model of a study with the hyperparameters that it was trained with."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.encode import Coverage
from bertgrid_tf.bert.trainer import OnTrainBatchEnd, Trainer
from bertgrid_tf.corpus import Dialogue, utterances
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.study_folder import StudyFolder
from bertgrid_tf.training.encoding import encode_dialogues


def ensemble(members: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean of the probabilities of a model's members, float32 [texts, classes] each."""
    return np.mean(list(members), axis=0)


class Predictor:
    """The final model of a study, which is the mean of its members, or the soup of its search.

    Args:
        folder: The study.
        soup: Whether to load the soup instead of the final model.

    Attributes:
        labels: The class names in the order of their ids.

    Raises:
        UserError: The study has no such model.
    """

    def __init__(self, folder: StudyFolder, soup: bool = False) -> None:
        metadata = folder.read_metadata()
        source = folder.read_best() if soup else folder.read_final()
        models = [folder.soup_model] if soup else folder.final_models()
        if not models[0].is_dir():
            raise UserError(f"The study in {folder.path} has no soup folder: give --soup to its `tune` command.")
        self._hyperparameters = source.hyperparameters
        self._speakers = metadata.speakers
        self._has_pairs = folder.read_recipe().has_pairs
        self._members = list[Trainer]()
        for model in models:
            with folder.loading(model) as self.labels:
                precision, pooling = self._hyperparameters.resolved_precision, self._hyperparameters.pooling
                self._members.append(Trainer(load(str(model), self.labels), precision, pooling=pooling))
        self._checkpoint = self._members[0].checkpoint

    def probabilities(
        self,
        dialogues: Sequence[Dialogue],
        on_batch_end: OnTrainBatchEnd | None = None,
        pieces: Mapping[str, list[int]] | None = None,
    ) -> np.ndarray:
        """Return the class probabilities of every utterance, float32 [utterances, classes].

        Args:
            dialogues: The dialogues whose utterances are classified.
            on_batch_end: Called after every batch of each member with the texts done, all texts, and NaN.
            pieces: The ids of texts that have been tokenised already, as those that `coverage` counted.

        Raises:
            UserError: The study's texts are pairs and one of these is none, or the other way round.
        """
        if any((utterance.text_pair is not None) != self._has_pairs for utterance in utterances(dialogues)):
            raise UserError(
                "The model was trained on pairs of texts: give every text its second one (--text-pair-column)."
                if self._has_pairs
                else "The model was trained on single texts: leave the second ones out."
            )
        tokenizer = self._checkpoint.tokenizer
        encoded = encode_dialogues(tokenizer, dialogues, self._hyperparameters, self._speakers, pieces)
        return ensemble(member.probabilities(encoded, on_batch_end) for member in self._members)

    def coverage(self) -> Coverage:
        """Begin to count how much of texts the vocabulary knows."""
        return Coverage(self._checkpoint.tokenizer, self._checkpoint.name)
