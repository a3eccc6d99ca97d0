"""Stores: what is received enters whole, under its digest; what is abandoned is removed."""

import errno
import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.sdb.store import BucketStore, FolderStore, ProductStore, StoreError, open_store
from tests.support.buckets import open_bucket

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def a_folder(tmp_path: Path) -> ProductStore:
    return FolderStore(tmp_path / "store")


def a_bucket(tmp_path: Path) -> ProductStore:
    """The store for buckets, over the library's own folder: the same calls as for S3."""
    (tmp_path / "bucket").mkdir(exist_ok=True)
    return BucketStore((tmp_path / "bucket").as_uri(), tmp_path / "scratch")


each_store = pytest.mark.parametrize("make_store", [a_folder, a_bucket])
MakeStore = Callable[[Path], ProductStore]


def put(store: ProductStore, *pieces: bytes) -> str:
    upload = store.receive()
    try:
        upload.write(pieces)
        store.put(upload)
    finally:
        upload.close()
    return upload.sha256


async def read(store: ProductStore, start: int, stop: int) -> bytes:
    return b"".join([bytes(piece) async for piece in store.read(DIGEST, start, stop)])


@each_store
@pytest.mark.parametrize(("start", "stop"), [(0, len(CONTENT)), (7, 3_000_001), (5, 5)])
async def test_stored_bytes_are_read_back(
    tmp_path: Path, make_store: MakeStore, start: int, stop: int
) -> None:
    store = make_store(tmp_path)
    assert put(store, CONTENT[:1000], CONTENT[1000:]) == DIGEST
    assert await read(store, start, stop) == CONTENT[start:stop]


@each_store
def test_the_same_bytes_are_kept_once(tmp_path: Path, make_store: MakeStore) -> None:
    store = make_store(tmp_path)
    put(store, CONTENT)
    put(store, CONTENT)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.relative_to(tmp_path).parts[-3:] for path in files] == [
        ("sha256", DIGEST[:2], DIGEST[2:])
    ]


@each_store
def test_an_upload_closed_before_it_is_kept_leaves_nothing(
    tmp_path: Path, make_store: MakeStore
) -> None:
    upload = make_store(tmp_path).receive()
    upload.write([CONTENT])
    assert upload.path.exists()
    upload.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@each_store
async def test_a_missing_object_is_named(tmp_path: Path, make_store: MakeStore) -> None:
    with pytest.raises(StoreError, match=DIGEST[2:]):
        await read(make_store(tmp_path), 0, 5)


@each_store
def test_opening_a_store_removes_abandoned_uploads_and_nothing_else(
    tmp_path: Path, make_store: MakeStore
) -> None:
    mine = make_store(tmp_path).receive()
    dead = mine.path.with_name("dead.part")
    lines = (
        "import fcntl, os, sys",
        "descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)",
        "fcntl.flock(descriptor, fcntl.LOCK_EX)",
        "os.kill(os.getpid(), 9)",
    )
    killed = subprocess.run([sys.executable, "-c", "\n".join(lines), str(dead)], check=False)
    assert killed.returncode == -9
    assert dead.exists()
    make_store(tmp_path)
    assert mine.path.exists()
    assert not dead.exists()
    mine.close()


def test_a_disk_that_fails_takes_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    store = a_folder(tmp_path)
    before = _open_files()
    with monkeypatch.context() as failing:
        failing.setattr("fcntl.flock", fails)
        assert "Input/output error" in str(store.problem())
    assert list(store.incoming.iterdir()) == []
    upload = store.receive()
    with monkeypatch.context() as failing:
        failing.setattr(Path, "unlink", fails)
        with pytest.raises(OSError, match="Input/output error"):
            upload.close()
    assert _open_files() == before


def _open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def test_a_folder_store_is_for_its_user_alone(tmp_path: Path) -> None:
    put(a_folder(tmp_path), CONTENT)
    folders = [path for path in (tmp_path / "store").rglob("*") if path.is_dir()]
    assert folders
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///data/my%20products", Path("/data/my products")),
        ("file://localhost/data", Path("/data")),
        ("/data/products", Path("/data/products")),
        ("relative", Path.cwd() / "relative"),
        ("s3://bucket/prefix", None),
    ],
)
def test_a_store_is_named_by_a_path_or_an_address(url: str, folder: Path | None) -> None:
    assert store_folder(url) == folder


@pytest.mark.parametrize("url", ["file://elsewhere/data", "ftp://host/data", "", "file:relative"])
def test_a_store_of_another_kind_is_refused_naming_what_is_accepted(url: str) -> None:
    with pytest.raises(ValueError, match=r"accepted: file:///absolute/path, a plain path, s3://"):
        SdbSettings(store_url=url)


def test_a_store_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"--store-url .*file/store: "):
        open_store(SdbSettings(store_url=str(tmp_path / "file" / "store")))


@pytest.mark.parametrize("fails", [False, True])
def test_an_upload_in_parts_is_completed_or_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    monkeypatch.setattr("batuta.sdb.store.PART_BYTES", 2**20)
    with open_bucket() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        store = BucketStore("s3://b/p", tmp_path / "scratch")
        bucket.refuses_parts = fails
        if fails:
            with pytest.raises(StoreError, match="403 Forbidden"):
                put(store, CONTENT)
        else:
            put(store, CONTENT)
        assert list(bucket.objects.values()) == ([] if fails else [CONTENT])
        assert any("uploads" in request for request in bucket.requests)
        assert bucket.parts == {}
