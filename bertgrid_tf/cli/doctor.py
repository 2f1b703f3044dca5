"""The command `doctor`."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from bertgrid_tf.cli.options import (
    DATASETS,
    RESULTS,
    CorpusName,
    DataDir,
    Model,
    ResultsParent,
    Sets,
    corpus_name,
    flag,
    read_recipe,
    setting,
    with_data_flags,
)

if TYPE_CHECKING:
    from bertgrid_tf.study.doctor import CheckResult

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


@with_data_flags
def doctor(
    context: typer.Context,
    name: CorpusName = None,
    model: Model = None,
    final_model: Annotated[str | None, setting("--final-model")] = None,
    set_: Sets = None,
    data_dir: DataDir = DATASETS,
    results: ResultsParent = RESULTS,
    as_json: Annotated[bool, flag("--json", "print all findings as JSON, at the end")] = False,
    **flags: object,
) -> None:
    """Check this machine, the data and the checkpoints of a study; exit code 1 where it could not run."""
    from bertgrid_tf.data import data_dirs
    from bertgrid_tf.study.doctor import examine

    console = Console()
    findings = []
    name = corpus_name(name, context.params) if name or context.params.get("data") else "sample"
    for finding in examine(read_recipe(name, None, context.params), results, data_dirs(data_dir)):
        findings.append(finding)
        if not as_json:
            console.print(_line(finding), highlight=False, soft_wrap=True)
    could_run = all(finding.status != "problem" for finding in findings)
    if as_json:
        answer = {"study": name, "could_run": could_run, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        command = f"bertgrid-tf tune {name}"
        verdict = f"`{command}` can run here." if could_run else f"`{command}` cannot run here: see the problems above."
        console.print(verdict, style="bold", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if could_run else 1)


def _line(finding: "CheckResult") -> Text:
    """Return status, name, text and remedy of a finding in one line."""
    remedy = f" ▶ {finding.remedy}" if finding.remedy else ""
    status = (finding.status.ljust(7), _STYLES[finding.status])
    return Text.assemble(status, f"  {finding.name:11}  {finding.text}{remedy}")
