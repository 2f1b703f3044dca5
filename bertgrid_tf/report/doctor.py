"""A check's finding on the terminal."""

from rich.text import Text

from bertgrid_tf.study.doctor import Finding

_STYLES = {"ok": "green", "warning": "yellow", "problem": "bold red"}


def finding_line(finding: Finding) -> Text:
    """Return status, name, text and remedy of a finding in one line."""
    remedy = f" ▶ {finding.remedy}" if finding.remedy else ""
    status = (finding.status.ljust(7), _STYLES[finding.status])
    return Text.assemble(status, f"  {finding.name:11}  {finding.text}{remedy}")
