"""The commands that read study folders: `results`, `report`, `compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bertgrid_tf.cli.options import StudyPath
from bertgrid_tf.errors import UserError


def results(folder: StudyPath) -> None:
    """Print the sweeps, the grid, the winner and the final scores of a study."""
    from bertgrid_tf.analysis import analyze
    from bertgrid_tf.report.summary import print_summary
    from bertgrid_tf.storage.study_folder import StudyFolder

    study = StudyFolder.existing(folder)
    print_summary(Console(), study, analyze(study))


def report(folder: StudyPath) -> None:
    """Draw a study's report.html and its figures anew; it may still be running."""
    from bertgrid_tf.api import open_study

    file = open_study(folder).report()
    sentence = f"The report is {file}, its figures lie in {file.with_name('figures')}."
    Console().print(sentence, markup=False, highlight=False, soft_wrap=True)


def compare(folders: Annotated[list[Path], typer.Argument(metavar="DIR DIR…", help="study folders")]) -> None:
    """Set studies side by side, and test which of their winners differ."""
    from bertgrid_tf.analysis import analyze, compare_studies
    from bertgrid_tf.report.studies import studies_table
    from bertgrid_tf.storage.study_folder import StudyFolder

    if len(folders) < 2:
        raise UserError("compare needs two study folders or more.")
    studies = [StudyFolder.existing(folder) for folder in folders]
    ranked = compare_studies(studies)
    Console().print(studies_table([analyze(study) for study in studies], ranked), highlight=False)
