"""The model soup of a study's rows."""

from bertgrid_tf.analysis import StudyScores
from bertgrid_tf.storage.records import Soup
from bertgrid_tf.storage.study_folder import StudyFolder, weights_file
from bertgrid_tf.training.soup import SoupMember
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig


def average_rows(winner: TrialConfig, scores: StudyScores, folder: StudyFolder, runner: TrialRunner) -> None:
    """Average the weights of the grid's rows, unless that is done.

    A row whose weights were lost with a killed process is left out. The kept weights are deleted.
    """
    if not folder.soup_file.exists():
        members = []
        for cell in scores.cells:
            file = weights_file(folder.path / scores.trial_of(cell.learning_rate, cell.epoch), cell.epoch)
            if cell.score is not None and file.is_file():
                members.append(SoupMember(cell.learning_rate, cell.epoch, cell.score.value, file))
        if members:
            averaged, metrics = runner.average_weights(winner.hyperparameters, members, folder.soup_model)
            left_out = [member for member in members if member not in averaged]
            cells, others = ([(row.learning_rate, row.epoch) for row in rows] for rows in (averaged, left_out))
            folder.write_soup(Soup(cells, others, metrics))
    folder.delete_weights()
