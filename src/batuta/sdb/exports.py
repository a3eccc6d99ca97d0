"""An export: a product's bytes, all or one range of them, as HTTP has it (RFC 9110)."""

from collections.abc import AsyncIterator
from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request, Response
from starlette.responses import StreamingResponse

from batuta.sdb.metrics import SdbMetrics
from batuta.sdb.ranges import UnsatisfiableRangeError, parse_range
from batuta.sdb.records import StoredProduct
from batuta.sdb.store import Store
from batuta.service.problems import ProblemError


async def export(
    request: Request, stored: StoredProduct, store: Store, metrics: SdbMetrics
) -> Response:
    """Answer `request` with the bytes of `stored`.

    Raises
    ------
    ProblemError
        416 if it asks for a range that is not there.
    StoreError
        If the store does not have them.
    """
    headers = _headers(stored)
    if _known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    part = _asked_range(request, stored, headers["ETag"])
    sent = part if part is not None else range(stored.size)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{stored.size}"
    headers["Content-Length"] = str(len(sent))
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=stored.media_type)
    metrics.exports.inc()
    body = await _begun(store.read(stored.sha256, sent.start, sent.stop))
    return StreamingResponse(
        _counted(body, metrics),
        status_code=status,
        headers=headers,
        media_type=stored.media_type,
    )


def _headers(stored: StoredProduct) -> dict[str, str]:
    filename = quote(stored.filename or f"{stored.product}_{stored.obs_id}", safe="")
    return {
        "ETag": f'"{stored.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{filename}",
        # What was imported as a page must not run as one of this service.
        "X-Content-Type-Options": "nosniff",
        "Batuta-Version": str(stored.version),
    }


def _known(if_none_match: str | None, etag: str) -> bool:
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def _asked_range(request: Request, stored: StoredProduct, etag: str) -> range | None:
    if request.headers.get("if-range", etag) != etag:
        return None
    header = request.headers.get("range")
    try:
        return parse_range(header, stored.size)
    except UnsatisfiableRangeError as exc:
        raise ProblemError(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            f"Range: {header!r} (accepted: within the {stored.size} bytes that there are)",
            {"Content-Range": f"bytes */{stored.size}"},
        ) from exc


async def _begun(pieces: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
    """Read the first piece now, while a failure can still be answered as such."""
    first = await anext(pieces, None)
    return _rejoined(first, pieces)


async def _rejoined(
    first: memoryview | None, rest: AsyncIterator[memoryview]
) -> AsyncIterator[memoryview]:
    if first is not None:
        yield first
    async for piece in rest:
        yield piece


async def _counted(
    pieces: AsyncIterator[memoryview], metrics: SdbMetrics
) -> AsyncIterator[memoryview]:
    async for piece in pieces:
        metrics.exported_bytes.inc(len(piece))
        yield piece
