"""What a check finds, and what it has looked at."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from batuta.sdb.check.recorded import RecordedBytes


class Kind(StrEnum):
    """What is wrong."""

    MISSING = "missing"
    SIZE = "size"
    DIGEST = "digest"
    UNREADABLE = "unreadable"
    UNNAMED = "unnamed"
    FOREIGN = "foreign"
    TEMPORARY = "temporary"
    USAGE = "usage"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, of one record where it concerns one.

    Attributes
    ----------
    kind : Kind
        What is wrong.
    detail : str
        The same in words, with the figures.
    sha256 : str or None
        The digest that the bytes have, or should have.
    record : RecordedBytes or None
        The record that names them.
    path : str or None
        The file or object, where no record names it.
    mended : bool
        Whether this check has put it right.
    """

    kind: Kind
    detail: str
    sha256: str | None = None
    record: RecordedBytes | None = None
    path: str | None = None
    mended: bool = False

    @property
    def line(self) -> str:
        """The finding in one line."""
        what = self.path or ""
        if self.record is not None:
            part = " (quicklook)" if self.record.part == "quicklook" else ""
            what = f"{self.record.product} of {self.record.obs_id} v{self.record.version}{part}"
        digest = f" {self.sha256}" if self.record is not None else ""
        return f"{what}:{digest} {self.kind}: {self.detail}"

    def as_dict(self) -> dict[str, Any]:
        """The finding for programs."""
        named = ("product", "obs_id", "version", "part")
        return {
            "kind": str(self.kind),
            **{name: getattr(self.record, name, None) for name in named},
            "sha256": self.sha256,
            "path": self.path,
            "detail": self.detail,
            "mended": self.mended,
        }


@dataclass
class Summary:
    """What a check has looked at, and how much of it is wrong.

    Attributes
    ----------
    records, files : int
        How many records name bytes, and how many files they name.
    read_bytes : int
        How many bytes were hashed.
    wrong, mended : dict
        How many findings there are of each kind, and how many were put right.
    set_aside, put_back, deleted : int
        Files that no record names which were set aside, those of them that a record names again,
        and those that were deleted for good.
    """

    records: int = 0
    files: int = 0
    read_bytes: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    set_aside: int = 0
    put_back: int = 0
    deleted: int = 0

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong, or nothing is any more."""
        return self.wrong == self.mended

    def count(self, finding: Finding) -> None:
        """Count a finding."""
        for counts in (self.wrong, self.mended) if finding.mended else (self.wrong,):
            counts[finding.kind] = counts.get(finding.kind, 0) + 1

    def as_dict(self) -> dict[str, Any]:
        """The summary for programs."""
        return asdict(self)
