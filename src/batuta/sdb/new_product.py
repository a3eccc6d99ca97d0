"""A product version to record, as its import describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from batuta.sdb.quicklook_records import NewQuicklook
from batuta.sdb.records import InputRef
from batuta.stages import Stage
from batuta.work_classes import WorkClass


@dataclass(frozen=True, kw_only=True)
class NewProduct:
    """A product to record, whose bytes are in the store already, unless they are its `content`."""

    product: str
    obs_id: str
    sha256: str
    size: int
    media_type: str
    filename: str | None
    metadata: Mapping[str, Any]
    provider: str | None
    processing_id: str | None
    attempt: int | None
    inputs: tuple[InputRef, ...]
    stage: Stage | None = None
    code: str | None = None
    graph_version: str | None = None
    work_class: WorkClass | None = None
    content: bytes | None = None
    quicklook: NewQuicklook | None = None

    @property
    def recorded_bytes(self) -> int:
        """What it adds to what is kept: its size, with that of its quicklook."""
        return self.size + (self.quicklook.size if self.quicklook is not None else 0)

    def described(self) -> dict[str, Any]:
        """Return what its record says of it, by column: two equal imports say the same."""
        return {
            "product": self.product,
            "obs_id": self.obs_id,
            "sha256": self.sha256,
            "size": self.size,
            "media_type": self.media_type,
            "filename": self.filename,
            "metadata": dict(self.metadata),
            "provider": self.provider,
            "processing_id": self.processing_id,
            "inputs": [ref.model_dump() for ref in self.inputs],
            "stage": self.stage,
            "code": self.code,
            "graph_version": self.graph_version,
        }

    def row(self, created: datetime) -> dict[str, Any]:
        """Return its row, but for the version."""
        return {**self.described(), "attempt": self.attempt, "created": created}
