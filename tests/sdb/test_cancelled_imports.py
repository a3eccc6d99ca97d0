"""Imports that are cancelled, as a service that stops cancels those that take too long."""

import asyncio
import hashlib
import json
import os
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message, Scope

from batuta.sdb.service import Sdb, open_sdb
from batuta.sdb.store import FolderStore, ReceivedFile, Upload
from batuta.sdb.uploads.partial_file import PartialFile
from tests.sdb.conftest import MakeSettings

URL = "http://127.0.0.1:8001"
CONTENT = bytes(2**20)


class _Paused:
    """Work on an open file, in a thread, that lasts until the test lets it go on."""

    def __init__(self) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.found_open: list[bool] = []

    def wait(self, path: Path) -> None:
        self.begun.set()
        assert self.may_end.wait(60)
        opened = {str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.exists()}
        self.found_open.append(str(path) in opened)


@pytest.fixture
def paused() -> _Paused:
    return _Paused()


async def ask(sdb: Sdb, method: str, path: str, body: bytes, **headers: str) -> list[Message]:
    """Ask as a server does, without one: return what is answered."""
    scope: Scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"127.0.0.1:8001"),
            *((name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8001),
        "state": {},
    }
    pieces = iter([body[:-1], body[-1:]] if body else [b""])
    left = [len(body)]

    async def receive() -> Message:
        piece = next(pieces, b"")
        left[0] -= len(piece)
        return {"type": "http.request", "body": piece, "more_body": left[0] > 0}

    answered: list[Message] = []

    async def send(message: Message) -> None:
        answered.append(message)

    await sdb.app(scope, receive, send)
    return answered


async def cancel_while(paused: _Paused, work: Any) -> None:
    """Cancel a request while its thread works; let that go on once the request could have ended."""
    asking = asyncio.create_task(work)
    assert await asyncio.to_thread(paused.begun.wait, 60)
    asking.cancel()
    for _ in range(200):  # turns of the loop and of threads, in which its files would be closed
        await asyncio.to_thread(os.getpid)
    paused.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert paused.found_open == [True]


@pytest.mark.parametrize("method", ["write", "sync"])
async def test_no_thread_goes_on_with_a_file_of_an_import_that_is_closed(
    make_settings: MakeSettings, paused: _Paused, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work: Callable[..., None] = getattr(Upload, method)

    def pause(upload: Upload, *pieces: Iterable[bytes]) -> None:
        paused.wait(upload.path)
        work(upload, *pieces)

    async with open_sdb(make_settings(), URL) as sdb:
        monkeypatch.setattr(Upload, method, pause)
        await cancel_while(paused, ask(sdb, "POST", "/products/A/o1", CONTENT))


async def test_nor_with_that_of_an_import_by_reference(
    make_settings: MakeSettings, paused: _Paused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "given" / "a.fits"
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    copy = Upload.copy_from

    def pause(upload: Upload, source: int, size: int) -> None:
        paused.wait(file)
        copy(upload, source, size)

    monkeypatch.setattr(Upload, "copy_from", pause)
    said = {"path": str(file), "product": "A", "obs_id": "o1"}
    async with open_sdb(make_settings(reference_folders=[file.parent]), URL) as sdb:
        body = json.dumps(said).encode()
        kind = "application/json"
        work = ask(sdb, "POST", "/products/reference", body, content_type=kind)
        await cancel_while(paused, work)


@pytest.mark.parametrize("where", ["write", "put"])
async def test_nor_with_that_of_an_upload_in_parts(
    make_settings: MakeSettings, paused: _Paused, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, put = PartialFile.write, FolderStore.put

    def pause_write(file: PartialFile, pieces: Iterable[bytes]) -> None:
        paused.wait(file.path)
        write(file, pieces)

    def pause_put(store: FolderStore, received: ReceivedFile) -> None:
        paused.wait(received.path)
        put(store, received)

    digest = hashlib.sha256(CONTENT).hexdigest()
    tus = {"tus_resumable": "1.0.0", "upload_offset": "0"}
    said = f"product {_encoded('A')},obs_id {_encoded('o1')},sha256 {_encoded(digest)}"
    async with open_sdb(make_settings(), URL) as sdb:
        created = await ask(
            sdb, "POST", "/uploads", b"", **tus, upload_length=str(2**20), upload_metadata=said
        )
        location = dict(created[0]["headers"])[b"location"].decode()
        monkeypatch.setattr(PartialFile, "write", pause_write if where == "write" else write)
        monkeypatch.setattr(FolderStore, "put", pause_put if where == "put" else put)
        kind = "application/offset+octet-stream"
        path = location.removeprefix(URL)
        await cancel_while(paused, ask(sdb, "PATCH", path, CONTENT, **tus, content_type=kind))


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()
