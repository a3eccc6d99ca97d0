"""The record of a product version, and its lineage."""

import re
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from batuta.messaging.events import Name
from batuta.stages import Stage

MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,127}/[\w.+-]{1,127}", re.ASCII)


class InputRef(BaseModel):
    """A version of a product of the same observation that another product was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: Name
    version: int = Field(ge=1, le=2**31 - 1)


class StoredProduct(BaseModel):
    """One version of a product, as every body of the sdb shows it.

    `size` is in bytes, `sha256` in lower-case hexadecimal, `created` in UTC. `uri` is the
    REST address of its bytes. `processing_id`, `provider` and `inputs` name the processing that
    made it, its pipeline, and what it was made from; they are None, None and empty for an import
    by hand. `code` is the version of its pipeline's code, and `graph_version` that of the product
    graph under which it was asked for, where its pipeline told them. `withdrawn` is when it was
    withdrawn, in UTC, and `withdrawn_reason` why. `stage` is how definitive it is; None where its
    import told none: final.
    """

    model_config = ConfigDict(frozen=True)

    product: str
    obs_id: str
    version: int
    size: int
    sha256: str
    media_type: str
    metadata: dict[str, Any]
    created: datetime
    uri: str
    provider: str | None = None
    processing_id: str | None = None
    filename: str | None = None
    inputs: tuple[InputRef, ...] = ()
    code: str | None = None
    graph_version: str | None = None
    withdrawn: datetime | None = None
    withdrawn_reason: str | None = None
    stage: Stage | None = None


class QuicklookState(BaseModel):
    """Whether a version has a quicklook.

    `state` is ``ready`` (there is one: ``given`` with the product or ``drawn``, by `origin`),
    ``drawing`` (ask again), ``failed`` (its file could not be drawn) or ``none`` (files of its kind
    are not drawn); `reason` says why there is none. `media_type`, `size` (in bytes) and `sha256`
    are those of the picture.
    """

    model_config = ConfigDict(frozen=True)

    product: str
    obs_id: str
    version: int
    state: Literal["ready", "drawing", "failed", "none"]
    origin: Literal["given", "drawn"] | None = None
    media_type: str | None = None
    size: int | None = None
    sha256: str | None = None
    reason: str | None = None


class LineageNode(BaseModel):
    """One product of a lineage; `stored` is None where the sdb does not have that version."""

    model_config = ConfigDict(frozen=True)

    product: str
    version: int
    stored: StoredProduct | None


class Lineage(BaseModel):
    """All versions that a product was made from: itself first, then breadth first, each once."""

    model_config = ConfigDict(frozen=True)

    obs_id: str
    items: tuple[LineageNode, ...]
