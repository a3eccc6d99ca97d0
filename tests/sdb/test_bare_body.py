"""Imports whose body is the file itself, and where the bytes of small and large files go."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from batuta.sdb import SdbClient
from tests.sdb.test_imports import kept, stored_files

KIB = 2**10
SMALL = 64 * KIB
"""The largest file that is kept in the database, by default."""


def content_of(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


@pytest.mark.parametrize("appended", [False, True])
@pytest.mark.parametrize("size", [0, 1, SMALL, SMALL + 1, 300 * KIB, 3000 * KIB + 7])
def test_a_body_is_a_file_whatever_its_size(
    http: httpx.Client, store_folder: Path, size: int, appended: bool
) -> None:
    content = content_of(size)
    digest = hashlib.sha256(content).hexdigest()
    query = {"filename": "a b.csv", "metadata": '{"a": 1}', "attempt": "2", "processing_id": "p"}
    query["sha256"] = "appended" if appended else digest.upper()
    body = content + digest.encode() if appended else content
    for status in (201, 200):  # on one connection: the next request is understood after it
        answer = http.post(
            "/products/A/o1", params=query, content=body, headers={"Content-Type": "text/csv"}
        )
        assert answer.status_code == status, answer.text
    stored = answer.json()
    assert (stored["product"], stored["obs_id"], stored["version"]) == ("A", "o1", 1)
    assert (stored["sha256"], stored["size"]) == (digest, size)
    assert (stored["filename"], stored["media_type"]) == ("a b.csv", "text/csv")
    assert (stored["metadata"], stored["processing_id"]) == ({"a": 1}, "p")
    assert kept(store_folder) == [content]
    assert len(stored_files(store_folder)) == (size > SMALL)
    assert http.get("/products/A/o1/data?verify=true").content == content


@pytest.mark.parametrize("size", [10, 3000 * KIB])
@pytest.mark.parametrize("digest", ["0" * 64, "x" * 64, ""])
def test_a_wrong_digest_at_the_end_is_refused_and_leaves_nothing(
    http: httpx.Client, store_folder: Path, size: int, digest: str
) -> None:
    answer = http.post("/products/A/o1?sha256=appended", content=content_of(size) + digest.encode())
    assert answer.status_code == 422
    assert "sha256: " in answer.text or "its SHA-256 is" in answer.text
    assert http.get("/products").json()["items"] == []
    assert kept(store_folder) == []


@pytest.mark.parametrize(
    ("path", "query", "headers", "status", "said"),
    [
        ("A/o1", {"color": "red"}, {}, 422, "query: unknown: 'color'; known: attempt"),
        ("A/o1", [("attempt", "1"), ("attempt", "2")], {}, 422, "query.attempt: given 2"),
        ("A/a b", {"metadata": "[1]"}, {}, 422, "obs_id: 'a b' is not a name"),
        ("A/o1", {"filename": "a/../"}, {}, 422, "file: filename"),
        ("A/o1?filename=%ff", {}, {}, 422, "filename: b'\\xff' is not UTF-8"),
        ("A/o1", {}, {"Content-Encoding": "gzip"}, 415, "Content-Encoding: 'gzip'"),
        (
            "A/o1",
            {},
            {"Content-Type": "application/x-www-form-urlencoded"},
            415,
            "accepted: that of the file",
        ),
        ("A/o1", {}, {"Content-Type": "csv"}, 422, "'csv' is not a media type"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line(
    http: httpx.Client, path: str, query: Any, headers: dict[str, str], status: int, said: str
) -> None:
    address = f"/products/{path}"
    answer = http.post(address, params=query or None, content=b"x", headers=headers)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    assert http.get("/products").json()["items"] == []


def test_a_range_of_a_small_file_is_sent(http: httpx.Client) -> None:
    assert http.post("/products/A/o1", content=b"0123456789").status_code == 201
    answer = http.get("/products/A/o1/data", headers={"Range": "bytes=2-4"})
    assert (answer.status_code, answer.content) == (206, b"234")
    assert answer.headers["Content-Range"] == "bytes 2-4/10"


def test_a_client_sends_long_metadata_in_a_form(client: SdbClient, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2")
    for length in (10, 100_000):
        stored = client.import_file(path, "A", "o1", metadata={"a": "x" * length})
        assert (stored.metadata, stored.filename) == ({"a": "x" * length}, "a.csv")
        assert stored.media_type == "text/csv"
