"""Exports over REST: whole, in ranges, when they changed; and what is answered when not there."""

import base64
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.sdb import SdbClient
from batuta.sdb.ranges import UnsatisfiableRangeError, parse_range
from batuta.service.client import ServiceError

CONTENT = bytes(range(256)) * 10_000
DATA = "/products/IMG/sb1/data"


@pytest.fixture
def small_file_bytes() -> int:
    """All bytes are in the store."""
    return 0


@pytest.fixture
def imported(client: SdbClient, make_file: Any) -> None:
    client.import_file(make_file(b"old"), "IMG", "sb1")
    client.import_file(make_file(CONTENT), "IMG", "sb1")


@pytest.mark.usefixtures("imported")
def test_the_newest_version_is_given_unless_one_is_named(http: httpx.Client) -> None:
    newest, first = http.get(DATA), http.get("/products/IMG/sb1/versions/1/data")
    assert newest.content == CONTENT
    assert first.content == b"old"
    assert newest.headers["batuta-version"] == "2"
    assert newest.headers["etag"] == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert newest.headers["content-disposition"] == "attachment; filename*=UTF-8''product.bin"
    assert newest.headers["content-security-policy"].endswith("sandbox")
    assert newest.headers["x-content-type-options"] == "nosniff"


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=100-1200000", slice(100, 1_200_001)),
        ("bytes=2559999-", slice(2_559_999, None)),
        ("bytes=-10", slice(-10, None)),
        ("bytes=10-99999999", slice(10, None)),
        ("bytes=-99999999", slice(None)),
    ],
)
def test_a_range_gives_that_part(http: httpx.Client, asked: str, part: slice) -> None:
    answer = http.get(DATA, headers={"Range": asked})
    start, stop, _ = part.indices(len(CONTENT))
    assert answer.status_code == 206
    assert answer.content == CONTENT[part]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("asked", ["bytes=5-1", "lines=1-2", "bytes=0-1,5-6", "bytes=-", "x"])
def test_a_malformed_range_is_ignored(http: httpx.Client, asked: str) -> None:
    answer = http.get(DATA, headers={"Range": asked})
    assert answer.status_code == 200
    assert answer.content == CONTENT


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("asked", ["bytes=2560000-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(http: httpx.Client, asked: str) -> None:
    answer = http.get(DATA, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */2560000"
    assert asked in answer.json()["detail"]


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(0, 50))
def test_ranges_are_slices_of_the_bytes(content: bytes, first: int, last: int) -> None:
    expected = content[first : last + 1]
    try:
        found = parse_range(f"bytes={first}-{last}", len(content))
    except UnsatisfiableRangeError:
        assert expected == b""
    else:
        if found is None:
            assert last < first
        else:
            assert content[found.start : found.stop] == expected


@pytest.mark.usefixtures("imported")
def test_a_matching_etag_answers_304(http: httpx.Client) -> None:
    etag = http.get(DATA).headers["etag"]
    assert http.get(DATA, headers={"If-None-Match": f'"x", W/{etag}'}).status_code == 304
    assert http.get(DATA, headers={"If-None-Match": '"x"'}).status_code == 200


@pytest.mark.usefixtures("imported")
def test_a_range_of_what_has_changed_gives_all_of_it(http: httpx.Client) -> None:
    old = http.get("/products/IMG/sb1/versions/1/data").headers["etag"]
    answer = http.get(DATA, headers={"Range": "bytes=0-3", "If-Range": old})
    assert answer.status_code == 200
    assert answer.content == CONTENT


@pytest.mark.usefixtures("imported")
def test_head_answers_the_size_without_a_body(http: httpx.Client) -> None:
    answer = http.head(DATA)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.content == b""


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("tail", ["", "/data", "/lineage"])
def test_a_missing_product_is_a_404_that_lists_what_exists(http: httpx.Client, tail: str) -> None:
    product = http.get(f"/products/LC/sb1{tail}")
    version = http.get(f"/products/IMG/sb1/versions/7{tail}")
    assert (product.status_code, version.status_code) == (404, 404)
    assert product.json()["detail"] == "LC of sb1: not found (available for sb1: IMG)"
    assert version.json()["detail"] == "IMG of sb1 has no version 7 (available: 1 to 2)"


@pytest.mark.parametrize("path", ["..%2Fx/sb1", "IMG/a%20b", "IMG/sb1/versions/0"])
def test_an_invalid_name_is_refused(http: httpx.Client, path: str) -> None:
    assert http.get(f"/products/{path}").status_code in {404, 422}


@pytest.mark.usefixtures("imported")
def test_bytes_that_the_store_has_lost_are_an_error_that_names_them(
    http: httpx.Client, store_folder: Path
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    (store_folder / "sha256" / digest[:2] / digest[2:]).unlink()
    answer = http.get(DATA)
    assert answer.status_code == 500
    assert digest[2:] in answer.json()["detail"]


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize(
    ("method", "headers"),
    [("GET", {}), ("GET", {"Range": "bytes=5-9"}), ("HEAD", {}), ("GET", {"If-None-Match": "*"})],
)
@pytest.mark.parametrize("asked", ["", "?verify=true"])
def test_every_answer_has_the_digest_of_the_whole(
    http: httpx.Client, method: str, headers: dict[str, str], asked: str
) -> None:
    answer = http.request(method, DATA + asked, headers=headers)
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.status_code in {200, 206, 304}


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, len(CONTENT) - 1)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty, Path.unlink])
@pytest.mark.parametrize("part", [None, "bytes=0-9"])
def test_what_is_damaged_is_not_sent_where_that_is_verified(
    http: httpx.Client, store_folder: Path, damage: Callable[[Path], None], part: str | None
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    damage(store_folder / "sha256" / digest[:2] / digest[2:])
    answer = http.get(f"{DATA}?verify=true", headers={"Range": part} if part else {})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "etag" not in answer.headers
    assert digest[2:] in answer.json()["detail"]


@pytest.mark.usefixtures("imported")
@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_what_is_damaged_never_reaches_a_file_of_the_client(
    client: SdbClient, store_folder: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    damage(store_folder / "sha256" / digest[:2] / digest[2:])
    with pytest.raises(ServiceError):
        client.export("IMG", "sb1", to=tmp_path / "out")
    assert not (tmp_path / "out").exists()
