"""What the sdb answers a conductor: believed only if it is an answer to what was asked."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from batuta.conductor.dispatch import archive
from batuta.conductor.dispatch.archive import open_archive
from batuta.messaging import DataAvailable
from batuta.service.client import ServiceError
from tests.conductor.processing_records import RUNNING
from tests.support.raw_server import raw_server

HELD = {
    "product": "B",
    "obs_id": "o1",
    "version": 1,
    "sha256": "0" * 64,
    "created": "2026-01-01T00:00:00Z",
}


def answer(body: bytes, headers: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, headers, len(body), body)


def items(count: int = 1, headers: bytes = b"", **given: Any) -> bytes:
    return answer(json.dumps({"items": [{**HELD, **given}] * count}).encode(), headers)


@asynccontextmanager
async def sdb(data: bytes, *, drips: bool = False) -> AsyncIterator[str]:
    """An sdb that answers every request with `data`, then byte by byte without end."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(data)
            while drips:
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(b" ")

    async with raw_server(handle) as url:
        yield url


async def ask(url: str) -> None:
    async with open_archive(url, None) as opened:
        await opened.find([DataAvailable(product="B", obs_id="o1", version=1)])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(answer(b"null"), id="no lookup"),
        pytest.param(answer(b"[" * 100_000), id="nested too deeply"),
        pytest.param(answer(b"[" * 100_000, status=b"500 X"), id="error nested too deeply"),
        pytest.param(answer(b"x", b"Content-Encoding: gzip\r\n"), id="compressed"),
        pytest.param(answer(b" " * 5_000_000), id="too long"),
        pytest.param(b"\0\xff\r\n\r\n", id="no HTTP"),
        pytest.param(items(2), id="more than was asked for"),
        pytest.param(items(product="C"), id="another product"),
        pytest.param(items(obs_id="o2"), id="another observation"),
        pytest.param(items(version=2), id="another version"),
        pytest.param(items(version=10**30), id="a version beyond any database"),
        pytest.param(items(created="0001-01-01T00:00:00"), id="an absurd time"),
        pytest.param(items(created="2026-01-01T00:00:00"), id="a time without zone"),
    ],
)
async def test_an_answer_that_is_none_is_as_if_the_sdb_did_not_answer(data: bytes) -> None:
    async with sdb(data) as url:
        with pytest.raises(ServiceError, match="sdb"):
            await ask(url)


async def test_an_sdb_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "ANSWER_TIMEOUT_S", 0.2)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    async with sdb(head, drips=True) as url:
        with pytest.raises(ServiceError, match=r"was not answered within 0.2 s"):
            await ask(url)


@pytest.mark.parametrize("ahead_s", [-7200, 0, 7200])
@pytest.mark.parametrize("made", [True, False])
async def test_clocks_that_differ_do_not_decide_what_was_made(
    ahead_s: float, *, made: bool
) -> None:
    """An import that names no processing is of the one that was requested before it."""
    now = time.time()
    created = now + ahead_s - (0 if made else 600)
    date = f"Date: {format_datetime(datetime.fromtimestamp(now + ahead_s, UTC), usegmt=True)}\r\n"
    held = {**HELD, "created": datetime.fromtimestamp(created, UTC).isoformat()}
    body = json.dumps({"items": [None, held]}).encode()
    async with (
        sdb(answer(body, date.encode())) as url,
        open_archive(url, None) as opened,
    ):
        assert await opened.holds_products_of([replace(RUNNING, requested=now - 1)]) == [made]


async def test_what_a_processing_imported_for_another_observation_is_not_its_product() -> None:
    body = json.dumps({"items": [{**HELD, "processing_id": "p1", "obs_id": "o2"}, None]}).encode()
    async with sdb(answer(body)) as url, open_archive(url, None) as opened:
        assert await opened.holds_products_of([RUNNING]) == [False]
