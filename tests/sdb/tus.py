"""A client of tus, the protocol by which uploads are resumed, and what an sdb has of uploads."""

import hashlib
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.sdb.tables import MIGRATIONS, UPLOADS
from batuta.service.database import open_database
from tests.support.services import serving

MIB = 2**20
CONTENT = bytes(range(256)) * 12_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
SAID = {"product": "EVT", "obs_id": "o1", "filename": "a.fits", "filetype": "application/fits"}


@pytest.fixture
def tus(settings: SdbSettings) -> Iterator[httpx.Client]:
    """A client of tus."""
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


def metadata(fields: dict[str, str]) -> str:
    return ",".join(f"{key} {b64encode(value.encode()).decode()}" for key, value in fields.items())


def ask_to_create(tus: httpx.Client, length: int, **said: str) -> httpx.Response:
    headers = {**TUS, "Upload-Length": str(length), "Upload-Metadata": metadata({**SAID, **said})}
    return tus.post("/uploads", headers=headers)


def create(tus: httpx.Client, length: int, **said: str) -> str:
    created = ask_to_create(tus, length, **said)
    assert created.status_code == 201, created.text
    assert created.headers["Tus-Resumable"] == "1.0.0"
    return urlsplit(created.headers["Location"]).path


def append(
    tus: httpx.Client, path: str, offset: int, content: bytes, **more: str
) -> httpx.Response:
    headers = {
        **TUS,
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    return tus.patch(path, headers={**headers, **more}, content=content)


def offset_of(tus: httpx.Client, path: str) -> int:
    found = tus.head(path, headers=TUS)
    assert found.status_code == 200
    assert found.headers["Cache-Control"] == "no-store"
    return int(found.headers["Upload-Offset"])


def send_and_cut(tus: httpx.Client, path: str, offset: int, length: int, sent: bytes) -> None:
    """Say that `length` bytes follow, send some of them, and close the connection."""
    with begin_to_send(tus, path, offset, length, sent):
        pass


def begin_to_send(
    tus: httpx.Client, path: str, offset: int, length: int, sent: bytes
) -> socket.socket:
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: {tus.base_url.host}\r\nTus-Resumable: 1.0.0\r\n"
        f"Upload-Offset: {offset}\r\nContent-Type: application/offset+octet-stream\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    connection = socket.create_connection((tus.base_url.host, tus.base_url.port or 0))
    connection.sendall(head.encode() + sent)
    return connection


def listed(tus: httpx.Client) -> list[dict[str, Any]]:
    return list(tus.get("/products").json()["items"])


def receiving_folder(settings: SdbSettings) -> Path:
    folder = Path(settings.store_url)
    return folder / "incoming" if folder.exists() else settings.scratch_folder


def has_received(settings: SdbSettings, size: int) -> bool:
    return [path.stat().st_size for path in partial_files(settings)] == [size]


def partial_files(settings: SdbSettings) -> list[Path]:
    return list(receiving_folder(settings).iterdir())


def complete_upload(tus: httpx.Client, settings: SdbSettings) -> tuple[str, Path]:
    """Return the path and the file of an upload of which all was received, and nothing imported."""
    path = create(tus, len(CONTENT), sha256=DIGEST)
    append(tus, path, 0, CONTENT[:MIB])
    [file] = partial_files(settings)
    file.write_bytes(CONTENT)
    execute(settings, sa.update(UPLOADS).values(received=len(CONTENT)))
    return path, file


def execute(settings: SdbSettings, statement: sa.Executable) -> None:
    with open_database(settings.database_url, MIGRATIONS) as engine, engine.begin() as connection:
        connection.execute(statement)
