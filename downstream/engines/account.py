"""The account of a checkpoint's names: in a record, and in the message that refuses a file."""

from collections.abc import Sequence

from models.checkpoint.inert import printable
from models.checkpoint.load import LoadReport
from reports.record import CheckpointInfo

FOLDED_NAMES = 20  # of missing or unexpected parameters, in a record
SHOWN_NAMES = 3  # of each sort, in a message


def describe_checkpoint(report: LoadReport, *, name: str, sha256: str | None) -> CheckpointInfo:
    """Account for the names of a file, for the record."""
    return CheckpointInfo(
        name=name,
        sha256=sha256,
        loaded=len(report.loaded),
        missing=len(report.missing),
        unexpected=len(report.unexpected),
        reshaped=len(report.reshaped),
        missing_names=report.missing[:FOLDED_NAMES],
        unexpected_names=report.unexpected[:FOLDED_NAMES],
    )


def count_names(word: str, names: Sequence[str]) -> str:
    """Count names of one sort, and show the first ones: "2 missing (a, b)"."""
    if not names:
        return f"0 {word}"
    shown = [printable(name) for name in names[:SHOWN_NAMES]] + ["..."] * (len(names) > SHOWN_NAMES)
    return f"{len(names)} {word} ({', '.join(shown)})"
