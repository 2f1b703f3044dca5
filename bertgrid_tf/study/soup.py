"""The model soup of a study's rows."""

from collections.abc import Callable

from bertgrid_tf.analysis import StudyScores
from bertgrid_tf.storage.records import Soup
from bertgrid_tf.storage.study_folder import StudyFolder, weights_file
from bertgrid_tf.training.soup import SoupMember
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig


def average_rows(
    winner: TrialConfig,
    scores: StudyScores,
    folder: StudyFolder,
    runner: TrialRunner,
    on_message: Callable[[str], None],
) -> None:
    """Average the weights of the grid's rows, unless that is done.

    Args:
        winner: The winning trial.
        scores: The study's.
        folder: The study's.
        runner: Runs the trials.
        on_message: Called with a sentence where the weights of rows are missing, which are left out.
    """
    if not folder.soup_file.exists():
        members, rows = [], {cell.learning_rate for cell in scores.cells if cell.score is not None}
        for cell in scores.cells:
            file = weights_file(folder.path / scores.trial_of(cell.learning_rate, cell.epoch), cell.epoch)
            if cell.score is not None and file.is_file():
                members.append(SoupMember(cell.learning_rate, cell.epoch, cell.score.value, file))
        if lost := rows - {member.learning_rate for member in members}:
            whose = ", ".join(f"{rate:g}" for rate in sorted(lost, reverse=True))
            on_message(f"The soup is made without the learning rates {whose}, whose weights are missing.")
        if members:
            averaged, metrics = runner.average_weights(winner.hyperparameters, members, folder.soup_model)
            left_out = [member for member in members if member not in averaged]
            cells, others = ([(row.learning_rate, row.epoch) for row in rows] for rows in (averaged, left_out))
            folder.write_soup(Soup(cells, others, metrics))
