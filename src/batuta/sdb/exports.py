"""An export: the bytes of a product, all or one range of them (RFC 9110).

Each answer has the digest of all of them (RFC 9530), by which its receiver can verify a whole file.
The bytes are read again, and compared with it before anything is sent, only if that is asked for:
it costs a second reading.
"""

import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from batuta.sdb.contents import Contents
from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.ranges import UnsatisfiableRangeError, parse_range
from batuta.sdb.records import StoredProduct
from batuta.sdb.store import DamagedObjectError
from batuta.service.problems import ProblemError


@dataclass(frozen=True)
class ExportRequest:
    """What is asked for: a product, by an HTTP request, verified in the store first or not."""

    request: Request
    stored: StoredProduct
    verify: bool


async def export(asked: ExportRequest, contents: Contents, metrics: SdbMetrics) -> Response:
    """Answer with the bytes of a product.

    Raises
    ------
    ProblemError
        416 if the requested range is not satisfiable.
    StoreError
        If the store cannot read them, or has lost them.
    DamagedObjectError
        If they are verified, and are not those that were imported.
    """
    request, stored = asked.request, asked.stored
    headers = _headers(stored)
    if etag_matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = _requested_range(request, stored, headers["ETag"])
    sent = part if part is not None else range(stored.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
    headers["Content-Length"] = str(len(sent))
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=stored.media_type)
    if asked.verify:
        await _verify(stored, contents)
    metrics.exports.inc()
    body = await _with_first_piece(contents.read(stored, sent.start, sent.stop))
    return StreamingResponse(
        _count_bytes(body, metrics),
        status_code=status,
        headers=headers,
        media_type=stored.media_type,
    )


async def _verify(stored: StoredProduct, contents: Contents) -> None:
    digest = await contents.digest(stored)
    if digest != stored.sha256:
        raise DamagedObjectError(
            f"{stored.product} of {stored.obs_id}, version {stored.version}: damaged: its SHA-256 "
            f"is {digest}, not {stored.sha256}; nothing was sent"
        )


def _headers(stored: StoredProduct) -> dict[str, str]:
    filename = quote(stored.filename or f"{stored.product}_{stored.obs_id}", safe="")
    return {
        "ETag": f'"{stored.sha256}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(stored.sha256)).decode()}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{filename}",
        # An imported HTML page must not run in the origin of this service.
        "X-Content-Type-Options": "nosniff",
        "Batuta-Version": str(stored.version),
    }


def etag_matches(if_none_match: str | None, etag: str) -> bool:
    """Return whether the ``If-None-Match`` of a request names `etag`."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def _requested_range(request: Request, stored: StoredProduct, etag: str) -> range | None:
    if request.headers.get("if-range", etag) != etag:
        return None
    header = request.headers.get("range")
    try:
        return parse_range(header, stored.size)
    except UnsatisfiableRangeError as exc:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"Range: {header!r} (accepted: a range within its {stored.size} bytes)",
            {"Content-Range": f"bytes */{stored.size}"},
        ) from exc


async def _with_first_piece(pieces: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    """Read the first chunk while a failure can still be answered by a status."""
    first = await anext(pieces, None)
    return _rejoined(first, pieces)


async def _rejoined(
    first: memoryview | None, rest: AsyncIterator[memoryview]
) -> AsyncIterator[memoryview]:
    if first is not None:
        yield first
    async for piece in rest:
        yield piece


async def _count_bytes(
    pieces: AsyncIterator[memoryview], metrics: SdbMetrics
) -> AsyncIterator[memoryview]:
    async for piece in pieces:
        metrics.exported_bytes.inc(len(piece))
        yield piece
