"""Uploads by the tus protocol: resumed where they were cut, imported once."""

import hashlib
import os
from base64 import b64encode
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb
from batuta.sdb.store import object_path
from batuta.sdb.tables import MIGRATIONS, UPLOADS
from batuta.sdb.uploads.records import UploadRecords
from batuta.service.database import open_database
from batuta.service.scopes import Scope
from batuta.service.token_file import add_token
from tests.sdb.archives import picture
from tests.sdb.conftest import MakeSettings
from tests.sdb.test_imports import metric
from tests.sdb.tus import (
    CONTENT,
    DIGEST,
    MIB,
    SAID,
    TUS,
    append,
    begin_to_send,
    complete_upload,
    create,
    execute,
    has_received,
    listed,
    metadata,
    offset_of,
    partial_files,
    send_and_cut,
    tus,
)
from tests.support.services import ServiceProcess, serving
from tests.support.waiting import eventually_sync

__all__ = ["tus"]

EACH_CONTENT = pytest.mark.parametrize("content", [b"small", CONTENT], ids=["small", "large"])


@EACH_CONTENT
@pytest.mark.parametrize("appended", [False, True])
def test_an_upload_in_parts_is_imported_as_one_file(
    tus: httpx.Client, settings: SdbSettings, content: bytes, *, appended: bool
) -> None:
    digest = hashlib.sha256(content).hexdigest()
    said = {"metadata": '{"a": 1}', "sha256": "appended" if appended else digest}
    whole = content + (digest.encode() if appended else b"")
    path = create(tus, len(whole), **said)
    for begin, end in ((0, 2), (2, len(content) - 1), (len(content) - 1, len(whole))):
        assert offset_of(tus, path) == begin
        assert listed(tus) == []
        answer = append(tus, path, begin, whole[begin:end])
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Upload-Offset"] == str(end)
        assert answer.headers["Upload-Expires"].endswith(" GMT")
    [stored] = listed(tus)
    assert (stored["sha256"], stored["size"]) == (digest, len(content))
    assert (stored["filename"], stored["media_type"]) == ("a.fits", "application/fits")
    assert stored["metadata"] == {"a": 1}
    assert tus.get(urlsplit(stored["uri"]).path).content == content
    assert answer.headers["Location"] == stored["uri"].removesuffix("/data")
    state = tus.get(path).json()
    assert (state["state"], state["is_new"], state["stored"]) == ("imported", True, stored)
    assert offset_of(tus, path) == len(whole)
    assert partial_files(settings) == []


def test_an_upload_goes_on_where_its_connection_was_cut(
    tus: httpx.Client, settings: SdbSettings
) -> None:
    path = create(tus, len(CONTENT), sha256=DIGEST)
    for until in (3 * MIB // 2, 2 * MIB):
        start = offset_of(tus, path)
        send_and_cut(tus, path, start, len(CONTENT) - start, CONTENT[start:until])
        # Not asked for meanwhile: that would interrupt what is still on its way.
        eventually_sync(partial(has_received, settings, until))
        eventually_sync(lambda: metric(tus, "batuta_sdb_receiving") == 0)
        assert offset_of(tus, path) == until
    [file] = partial_files(settings)
    assert file.read_bytes() == CONTENT[: 2 * MIB]
    assert metric(tus, "batuta_sdb_open_uploads") == 1
    assert metric(tus, "batuta_sdb_open_uploads_bytes") == 2 * MIB
    assert append(tus, path, 2 * MIB, CONTENT[2 * MIB :]).status_code == 204
    assert listed(tus)[0]["sha256"] == DIGEST
    assert metric(tus, "batuta_sdb_open_uploads_bytes") == 0
    assert metric(tus, "batuta_sdb_resumed_uploads_total") == 2


def test_who_asks_for_the_offset_interrupts_a_connection_that_is_dead(tus: httpx.Client) -> None:
    """Its sender has lost it, and the sdb does not know yet."""
    path = create(tus, len(CONTENT), sha256=DIGEST)
    with begin_to_send(tus, path, 0, len(CONTENT), CONTENT[:MIB]) as dead:
        eventually_sync(lambda: metric(tus, "batuta_sdb_receiving") == 1)
        start = offset_of(tus, path)
        assert start <= MIB
        assert append(tus, path, start, CONTENT[start:]).status_code == 204
        assert listed(tus)[0]["sha256"] == DIGEST
        dead.settimeout(10)
        assert dead.recv(100).startswith(b"HTTP/1.1 409")


@EACH_CONTENT
def test_an_upload_goes_on_after_the_sdb_was_killed(settings: SdbSettings, content: bytes) -> None:
    half = len(content) // 2
    service = ServiceProcess("batuta.sdb:run", settings)
    with httpx.Client(base_url=service.start(), timeout=60) as tus:
        path = create(tus, len(content), sha256=hashlib.sha256(content).hexdigest())
        assert append(tus, path, 0, content[:half]).status_code == 204
    service.kill()
    with (
        httpx.Client(base_url=service.start(), timeout=60) as tus,
        begin_to_send(tus, path, half, len(content) - half, content[half:-1]),
    ):
        eventually_sync(lambda: metric(tus, "batuta_sdb_receiving") == 1)
        service.kill()
    with httpx.Client(base_url=service.start(), timeout=60) as tus:
        start = offset_of(tus, path)
        assert start >= half
        assert append(tus, path, start, content[start:]).status_code == 204
        [stored] = listed(tus)
        assert tus.get(urlsplit(stored["uri"]).path + "?verify=true").content == content
    assert service.stop() == 0


def test_what_was_complete_and_not_imported_is_imported_when_it_is_asked_for(
    settings: SdbSettings,
) -> None:
    """As after a kill between the last byte and the record."""
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        path = create(tus, len(CONTENT), sha256=DIGEST)
        append(tus, path, 0, CONTENT[:MIB])
    [file] = partial_files(settings)
    file.write_bytes(CONTENT)
    execute(settings, sa.update(UPLOADS).values(received=len(CONTENT)))
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        assert offset_of(tus, path) == len(CONTENT)
        assert [each["sha256"] for each in listed(tus)] == [DIGEST]
        assert tus.get(path).json()["stored"]["version"] == 1
    assert partial_files(settings) == []


def test_what_was_stored_and_not_recorded_keeps_no_second_name(
    make_settings: MakeSettings, store_folder: Path
) -> None:
    """As after a kill between the name in the store and the record: renaming does nothing then."""
    settings = make_settings()
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        path, file = complete_upload(tus, settings)
        (store_folder / object_path(DIGEST)).hardlink_to(file)
        assert offset_of(tus, path) == len(CONTENT)
        assert [each["sha256"] for each in listed(tus)] == [DIGEST]
        assert partial_files(settings) == []


def test_a_list_of_uploads_does_not_read_their_pictures(
    tus: httpx.Client, settings: SdbSettings
) -> None:
    path = create(tus, len(CONTENT))
    assert tus.put(f"{path}/quicklook", content=picture("PNG")).status_code == 204
    with open_database(settings.database_url, MIGRATIONS) as engine:
        records = UploadRecords(engine)
        one = records.find(path.rpartition("/")[2])
        assert one is not None
        assert one.quicklook == picture("PNG")
        assert records.find_all(None, None) == [replace(one, quicklook=None)]


def test_bytes_that_the_disk_may_not_have_are_sent_again(settings: SdbSettings) -> None:
    """Beyond what was recorded, after a power cut, a file may hold anything; less may be there."""
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url, timeout=60) as tus:
        path = create(tus, len(CONTENT), sha256=DIGEST)
        append(tus, path, 0, CONTENT[:MIB])
        [file] = partial_files(settings)
        with file.open("ab") as torn:
            torn.write(bytes(1000))
        assert offset_of(tus, path) == MIB
        assert append(tus, path, MIB, CONTENT[MIB : 2 * MIB]).status_code == 204
        os.truncate(file, 5)
        assert offset_of(tus, path) == 5
        assert append(tus, path, 5, CONTENT[5:]).status_code == 204
        assert listed(tus)[0]["sha256"] == DIGEST


@EACH_CONTENT
def test_an_upload_again_is_answered_with_the_version_that_it_repeats(
    tus: httpx.Client, content: bytes
) -> None:
    for said in ({}, {"processing_id": "p1"}):
        versions = []
        for _ in range(2):
            path = create(tus, len(content), **said)
            assert append(tus, path, 0, content).status_code == 204
            state = tus.get(path).json()
            versions.append((state["stored"]["version"], state["is_new"]))
        assert versions == [(versions[0][0], True), (versions[0][0], False)]
    by_form = tus.post(
        "/products/EVT/o1",
        params={"filename": "a.fits", "processing_id": "p1"},
        content=content,
        headers={"Content-Type": "application/fits"},
    )
    assert (by_form.status_code, by_form.json()["version"]) == (200, 2)


def test_another_digest_is_refused_and_leaves_nothing(
    tus: httpx.Client, settings: SdbSettings
) -> None:
    for said, content in (
        ({"sha256": "0" * 64}, CONTENT),
        ({"sha256": "appended"}, CONTENT + b"0" * 64),
        ({"sha256": "appended"}, CONTENT + b"x" * 64),
    ):
        path = create(tus, len(content), **said)
        answer = append(tus, path, 0, content)
        assert answer.status_code == 422
        assert "SHA-256" in answer.text or "sha256" in answer.text
        assert tus.get(path).status_code == 404
    assert listed(tus) == []
    assert partial_files(settings) == []


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\xff" * 64], ids=["nul", "not_ascii"])
@pytest.mark.parametrize("cut", [64, 32], ids=["whole", "in_two_parts"])
def test_what_follows_a_file_and_is_no_digest_is_refused(
    tus: httpx.Client, settings: SdbSettings, tail: bytes, cut: int
) -> None:
    """As of a sender that announces a digest, and sends more of the file."""
    path = create(tus, len(CONTENT) + 64, sha256="appended")
    answer = append(tus, path, 0, CONTENT + tail[:cut])
    if cut < len(tail):
        assert answer.status_code == 204
        assert offset_of(tus, path) == len(CONTENT) + cut
        answer = append(tus, path, len(CONTENT) + cut, tail[cut:])
    assert (answer.status_code, "64 hexadecimal digits" in answer.text) == (422, True)
    assert tus.get(path).status_code == 404
    assert partial_files(settings) == []


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_part_with_another_checksum_is_not_kept(tus: httpx.Client, algorithm: str) -> None:
    path = create(tus, len(CONTENT))
    assert append(tus, path, 0, CONTENT[:MIB]).status_code == 204
    part = CONTENT[MIB:]

    def checksum(content: bytes) -> str:
        return f"{algorithm} {b64encode(hashlib.new(algorithm, content).digest()).decode()}"

    wrong = append(tus, path, MIB, part, **{"Upload-Checksum": checksum(part[:-1])})
    assert (wrong.status_code, wrong.headers["Tus-Resumable"]) == (460, "1.0.0")
    assert "nothing of it was kept" in wrong.json()["detail"]
    assert offset_of(tus, path) == MIB
    right = append(tus, path, MIB, part, **{"Upload-Checksum": checksum(part)})
    assert right.status_code == 204
    assert listed(tus)[0]["sha256"] == DIGEST


@pytest.mark.parametrize("value", ["md5 AAAA", "sha256", "sha256 ====", "sha256 AAAA", ""])
def test_a_checksum_of_another_kind_is_refused(tus: httpx.Client, value: str) -> None:
    path = create(tus, 10)
    answer = append(tus, path, 0, b"0123456789", **{"Upload-Checksum": value})
    assert answer.status_code == 400
    assert "accepted: sha1 or sha256" in answer.json()["detail"]
    assert offset_of(tus, path) == 0


def test_a_wrong_offset_or_too_many_bytes_are_refused(tus: httpx.Client) -> None:
    path = create(tus, len(CONTENT))
    assert append(tus, path, 0, CONTENT[:MIB]).status_code == 204
    for offset in (0, MIB - 1, MIB + 1, len(CONTENT)):
        answer = append(tus, path, offset, b"x")
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, str(MIB))
        assert f"accepted: {MIB}" in answer.json()["detail"]
    assert append(tus, path, MIB, CONTENT[MIB:] + b"x").status_code == 413
    assert offset_of(tus, path) == MIB
    pieces = (each for each in (CONTENT[MIB:], b"x"))  # of no announced length
    headers = {**TUS, "Upload-Offset": str(MIB), "Content-Type": "application/offset+octet-stream"}
    assert tus.patch(path, headers=headers, content=pieces).status_code == 413
    start = offset_of(tus, path)
    assert append(tus, path, start, CONTENT[start:]).status_code == 204
    assert append(tus, path, len(CONTENT), b"x").status_code == 413
    assert append(tus, path, len(CONTENT), b"").status_code == 204
    assert [each["sha256"] for each in listed(tus)] == [DIGEST]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({"Tus-Resumable": "0.2"}, 412, "Tus-Resumable: '0.2' (accepted: 1.0.0)"),
        ({"Upload-Length": "-1"}, 422, "Upload-Length: '-1' (accepted: a number of bytes)"),
        ({"Upload-Length": "1" * 30}, 422, "(accepted: a number of bytes)"),
        ({"Upload-Length": str(2**41)}, 413, "see max_upload_bytes"),
        ({"Upload-Metadata": ""}, 422, "product: missing; obs_id: missing"),
        ({"Upload-Metadata": "color cmVk"}, 422, "unknown: 'color'; known: product"),
        ({"Upload-Metadata": "product QQ==,product QQ=="}, 422, "product: given twice"),
        ({"Upload-Metadata": "product %%%"}, 422, "'%%%' is not UTF-8 in Base64"),
        ({"Upload-Metadata": metadata({**SAID, "product": "../x"})}, 422, "is not a name"),
        ({"Upload-Metadata": metadata({**SAID, "filename": "C:x"})}, 422, "filename"),
        ({"Upload-Metadata": metadata({**SAID, "fingerprint": "f"})}, 422, "fingerprint: 'f'"),
        ({"Upload-Metadata": metadata({**SAID, "sha256": "appended"})}, 422, "Upload-Length: 10"),
    ],
    ids=str,
)
def test_a_wrong_creation_is_refused_in_one_line(
    sdb_url: str, headers: dict[str, str], status: int, said: str
) -> None:
    given = {**TUS, "Upload-Length": "10", "Upload-Metadata": metadata(SAID), **headers}
    with httpx.Client(base_url=sdb_url) as tus:
        answer = tus.post("/uploads", headers=given)
        assert answer.status_code == status, answer.text
        assert said in answer.json()["detail"]
        assert "\n" not in answer.json()["detail"]
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert tus.get("/uploads").json()["items"] == []


@pytest.mark.parametrize("name", ["..%2F..%2Fsdb.db", "%2e%2e", "0" * 32, "A" * 32, "x"])
def test_no_name_becomes_a_path(sdb_url: str, name: str) -> None:
    with httpx.Client(base_url=sdb_url) as tus:
        for method in ("GET", "HEAD", "PATCH", "DELETE"):
            headers = {
                **TUS,
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
            }
            assert tus.request(method, f"/uploads/{name}", headers=headers).status_code == 404


def test_a_link_in_the_place_of_a_part_is_not_followed(
    sdb_url: str, store_folder: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"as it was")
    with httpx.Client(base_url=sdb_url) as tus:
        path = create(tus, 10)
        (store_folder / "incoming" / f"{path.rpartition('/')[2]}.upload").symlink_to(victim)
        assert append(tus, path, 0, b"0123456789").status_code in {409, 503}
    assert victim.read_bytes() == b"as it was"


def test_the_interface_is_told(sdb_url: str) -> None:
    answer = httpx.options(f"{sdb_url}/uploads")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert answer.headers["Tus-Extension"] == "creation,expiration,checksum,termination"
    assert answer.headers["Tus-Max-Size"] == str(2**40)
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"


def test_an_empty_upload_is_imported_at_once(tus: httpx.Client) -> None:
    create(tus, 0)
    assert [each["size"] for each in listed(tus)] == [0]


def test_an_upload_that_is_ended_leaves_nothing(tus: httpx.Client, settings: SdbSettings) -> None:
    path = create(tus, len(CONTENT))
    append(tus, path, 0, CONTENT[:MIB])
    assert tus.delete(path, headers=TUS).status_code == 204
    assert partial_files(settings) == []
    assert tus.head(path, headers=TUS).status_code == 404
    assert append(tus, path, MIB, CONTENT[MIB:]).status_code == 404
    assert tus.get("/uploads").json()["items"] == []


def test_a_picture_is_imported_with_an_upload(tus: httpx.Client) -> None:
    given = picture(large=True)
    path = create(tus, len(CONTENT))
    assert tus.put(f"{path}/quicklook", content=b"<svg/>").status_code == 422
    assert tus.put(f"{path}/quicklook", content=bytes(3 * MIB)).status_code == 413
    assert tus.put(f"{path}/quicklook", content=given).status_code == 204
    append(tus, path, 0, CONTENT)
    assert tus.get("/products/EVT/o1/quicklook").content == given
    assert tus.put(f"{path}/quicklook", content=given).status_code == 409


def test_an_upload_belongs_to_the_token_that_has_created_it(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens.yaml"
    mine, other, reader = (
        add_token(tokens, name, [scope])
        for name, scope in (("a", Scope.IMPORT), ("b", Scope.IMPORT), ("c", Scope.READ))
    )
    shared = "shared-by-all-services"
    settings = make_settings(token=shared, tokens=tokens)
    with serving(open_sdb, settings) as url, httpx.Client(base_url=url) as tus:
        tus.headers["Authorization"] = f"Bearer {mine}"
        path = create(tus, 10)
        for token, status in ((other, 404), (shared, 404), (reader, 403)):
            tus.headers["Authorization"] = f"Bearer {token}"
            answers = [
                tus.head(path, headers=TUS),
                tus.get(path),
                append(tus, path, 0, b"0123456789"),
                tus.put(f"{path}/quicklook", content=picture()),
                tus.delete(path, headers=TUS),
            ]
            assert {each.status_code for each in answers} == {status}
            if status == 404:
                assert tus.get("/uploads").json()["items"] == []
        tus.headers["Authorization"] = f"Bearer {mine}"
        assert [each["offset"] for each in tus.get("/uploads").json()["items"]] == [0]
        assert append(tus, path, 0, b"0123456789").status_code == 204
