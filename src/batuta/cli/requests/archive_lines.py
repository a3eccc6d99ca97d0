"""What commands say of checks and backups of an sdb."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Final

import typer

from batuta.cli.output import echo
from batuta.formatting import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from batuta.sdb.backup.copying import CopySummary
    from batuta.sdb.check import Finding

PLACE_HELP: Final = "A folder, or s3://bucket/prefix."
AT_HELP: Final = (
    "Take the newest snapshot that was taken by then: 2026-11-29T08:00, or 2d for two days ago."
)


def copied_parts(summary: "CopySummary", duration_s: float) -> list[str]:
    """Return what is said of the files that were copied."""
    records, files = format_count(summary.records, "record"), format_count(summary.files, "file")
    copied = f"{summary.copied} copied, {format_bytes(summary.copied_bytes)}"
    lost = [f"{summary.missing} missing"] if summary.missing else []
    return [f"{records}, {files}: {copied} in {format_seconds(duration_s)}", *lost]


def moment_of(moment: datetime) -> str:
    """Return a moment as ``--at`` takes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def print_finding(finding: "Finding", *, as_json: bool) -> None:
    """Print a line for a finding."""
    if as_json:
        typer.echo(json.dumps(finding.as_dict()))
    else:
        echo(finding.line)
