"""A check's finding on the terminal."""

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bertgrid_tf.doctor import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_WIDTHS = {"status": max(map(len, _STYLES)), "name": len("temporary files")}


def finding_line(finding: Finding, fold: bool) -> RenderableType:
    """Status, name, what is so and what to do.

    Args:
        finding: of `doctor.examine`.
        fold: whether a long text goes on below itself, as on a terminal; else it is one line however long.
    """
    remedy = f" ▶ {finding.remedy}" if finding.remedy else ""
    if not fold:
        columns = (finding.status.ljust(_WIDTHS["status"]), finding.name.ljust(_WIDTHS["name"]), finding.text)
        return Text("  ".join(columns) + remedy)
    row = Table.grid(padding=(0, 2))
    for width in _WIDTHS.values():
        row.add_column(width=width)
    row.add_column(overflow="fold")
    row.add_row(Text(finding.status, _STYLES[finding.status]), escape(finding.name), Text(finding.text + remedy))
    return row
