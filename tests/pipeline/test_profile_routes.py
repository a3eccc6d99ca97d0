"""The profile of a processing is retained however that ends, linked from its record, and served."""

import io
import os
import signal
from pathlib import Path

import psutil
import pytest

from batuta.profiling.capture.layout import PROFILE_FOLDER, RUN_FILE, SUMMARY_HTML, SUMMARY_TEXT
from tests.pipeline.conftest import PROFILED, StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, Record, read
from tests.pipeline.profiled import PARTS
from tests.support.waiting import eventually_sync


def get(service: PipelineProcess, record: Record, what: str = "") -> str:
    """Ask for the profile that a record links, or for a file of it."""
    address = service.http.base_url.join(record["profile"] + what)
    response = service.http.get(address)
    assert response.is_success, response.text
    return response.text


def refused(service: PipelineProcess, path: str) -> str:
    response = service.http.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"] == "application/problem+json"
    return str(response.json()["detail"])


def listed(service: PipelineProcess, record: Record) -> dict[str, list[str]]:
    """The files of each profile of a processing."""
    response = service.http.get(f"/processing/{record['id']}/profile/files")
    assert response.is_success, response.text
    return {each["name"]: each["files"] for each in response.json()["items"]}


def retained_folders(service: PipelineProcess) -> set[Path]:
    """What is on the disk of the service."""
    return set((service.settings.folder("") / "profiles").glob("*/*"))


def test_the_record_links_the_page_and_its_files(profiled: PipelineProcess, obs_id: str) -> None:
    record = profiled.make("ONE", obs_id)
    assert record["state"] == "succeeded"
    assert record["profile"] == f"/pipeline/processing/{record['id']}/profile"
    assert profiled.records(obs_id=obs_id) == [record]
    assert get(profiled, record) == f"{obs_id}: {SUMMARY_HTML}"
    assert get(profiled, record, "/summary.html") == f"{obs_id}: {SUMMARY_HTML}"
    assert get(profiled, record, "/summary.txt") == f"{obs_id}: {SUMMARY_TEXT}"
    assert get(profiled, record, "/run.json") == f"{obs_id}: {PROFILE_FOLDER}/{RUN_FILE}"
    assert get(profiled, record, "/tasks.parquet") == f"{obs_id}: {PROFILE_FOLDER}/tasks.parquet"
    expected = ["summary.html", "summary.txt", "run.json", "tasks.parquet"]
    assert listed(profiled, record) == {"orchestrator": expected}


def test_the_page_may_run_its_own_scripts_and_load_nothing(profiled: PipelineProcess) -> None:
    record = profiled.make("ONE")
    page = profiled.http.get(f"/processing/{record['id']}/profile")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; ")
    assert "connect-src" not in policy
    assert "http" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    table = profiled.http.get(f"/processing/{record['id']}/profile/tasks.parquet")
    assert table.headers["Content-Type"] == "application/vnd.apache.parquet"


def test_without_a_page_the_text_is_shown(profiled: PipelineProcess) -> None:
    record = profiled.make("TEXT")
    response = profiled.http.get(f"/processing/{record['id']}/profile")
    assert response.text == "only text"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_each_orchestrator_of_a_processing_has_a_profile_of_its_own(
    profiled: PipelineProcess,
) -> None:
    record = profiled.make("SEVERAL")
    names = {
        "maps-north": "north",
        "north": "elsewhere",
        "orchestrator": "first",
        "orchestrator-2": "second",
    }
    assert list(listed(profiled, record)) == sorted(names)
    page = get(profiled, record)
    for name, word in names.items():
        assert f'href="profile/summary.html?name={name}"' in page
        assert get(profiled, record, f"?name={name}") == f"{word}: {SUMMARY_HTML}"
        assert get(profiled, record, f"/summary.txt?name={name}") == f"{word}: {SUMMARY_TEXT}"
    address = f"/processing/{record['id']}/profile"
    policy = profiled.http.get(address).headers["Content-Security-Policy"]
    assert "script-src" not in policy
    several = refused(profiled, f"{address}/summary.txt")
    assert several.endswith(
        "it has several profiles (?name=, accepted: maps-north, north, orchestrator, "
        "orchestrator-2)"
    )
    assert "it has no profile named 'south' (" in refused(profiled, f"{address}?name=south")
    assert (profiled.stage / "scratch" / "north" / SUMMARY_TEXT).exists()


def test_what_is_not_a_file_of_the_profile_is_not_found(profiled: PipelineProcess) -> None:
    before = retained_folders(profiled)
    record = profiled.make("ONE")
    (retained,) = retained_folders(profiled) - before
    (retained.parent / "secret.parquet").write_text("secret")
    (retained / "orchestrator" / PROFILE_FOLDER / "other.txt").write_text("secret")
    address = f"/processing/{record['id']}/profile"
    for file in ("other.txt", "places.parquet", "tasks-1.parquet", "profiling_summary.txt", "run"):
        detail = refused(profiled, f"{address}/{file}")
        assert f"its profile has no {file!r} (accepted: summary.html, summary.txt, " in detail
    for path in (
        f"{address}/..%2F..%2Fsecret.parquet",
        f"{address}/%2e%2e/%2e%2e/secret.parquet",
        f"{address}/tasks-1.parquet%00.txt",
        f"{address}/summary.txt/",
    ):
        assert profiled.http.get(path).status_code in (307, 404, 422)
    for name in ("..", "../..", ".", "", "%2e%2e", "orchestrator/"):
        assert refused(profiled, f"{address}/summary.txt?name={name}")


def test_nothing_that_links_lead_to_is_shown(profiled: PipelineProcess) -> None:
    record = profiled.make("LINKS")
    assert listed(profiled, record) == {"orchestrator": ["summary.txt"]}
    assert get(profiled, record) == "mine"


def test_a_processing_without_orchestrator_has_no_profile(profiled: PipelineProcess) -> None:
    before = retained_folders(profiled)
    record = profiled.make("NONE")
    assert (record["state"], record["profile"]) == ("succeeded", None)
    for what in ("", "/files", "/summary.txt"):
        detail = refused(profiled, f"/processing/{record['id']}/profile{what}")
        assert detail.startswith(f"processing {record['id']!r}: no profile (")
    assert refused(profiled, "/processing/p9/profile") == "processing 'p9': not found"
    assert retained_folders(profiled) == before


@pytest.mark.parametrize("product", ["RAISES", "KILLED", "HANGS"])
def test_a_processing_that_fails_has_the_profile_of_what_it_did(
    product: str, profiled: PipelineProcess
) -> None:
    record = profiled.make(product)
    assert record["state"] == "failed"
    assert listed(profiled, record) == {"orchestrator": ["run.json", *sorted(PARTS)]}
    assert get(profiled, record, f"/{PARTS[1]}") == f"part: {PARTS[1]}"
    page = get(profiled, record)  # these parts are no tables: there is nothing to sum up
    assert f'href="profile/{PARTS[1]}?name=orchestrator"' in page
    assert "<p>Its page cannot be drawn: " in page
    assert RUN_FILE in page
    assert list((profiled.settings.folder("") / "work").iterdir()) == []


def test_a_cancelled_processing_has_a_profile(profiled: PipelineProcess) -> None:
    record = profiled.post("WAITS")
    read(profiled.stage / "pids")
    assert profiled.get(record)["profile"] is None
    assert "no profile (" in refused(profiled, f"/processing/{record['id']}/profile")
    cancelled = profiled.http.delete(f"/processing/{record['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert listed(profiled, cancelled) == {"orchestrator": ["run.json", *sorted(PARTS)]}


def test_where_the_warden_is_killed_the_service_keeps_the_profile(
    profiled: PipelineProcess,
) -> None:
    record = profiled.post("WAITS")
    os.kill(psutil.Process(int(read(profiled.stage / "pids"))).ppid(), signal.SIGKILL)
    ended = profiled.end_of(record)
    assert ended["error"].startswith("lost: ")
    assert len(listed(profiled, ended)["orchestrator"]) == 4


@pytest.mark.timeout(300)  # five starts of a service
def test_what_kills_the_service_each_time_is_given_up_with_the_profile_of_its_last_run(
    start_pipeline: StartPipeline,
) -> None:
    service = start_pipeline(PROFILED)
    record = service.post("WAITS")
    for number in range(4):
        pid = int(read(service.stage / "pids"))
        (service.stage / "pids").unlink()
        if number % 2:
            # Nobody is left to keep it: the next service does.
            warden = psutil.Process(pid).ppid()
            os.kill(warden, signal.SIGSTOP)
            service.kill()
            os.kill(warden, signal.SIGKILL)
        else:
            service.kill()
        service.start()
    ended = service.end_of(record)
    assert ended["error"] == "the service died 4 times while this processing ran; giving up"
    assert listed(service, ended) == {"orchestrator": ["run.json", *sorted(PARTS)]}
    assert [each.name.rpartition("-")[2] for each in retained_folders(service)] == ["4"]
    assert service.make("ONE")["state"] == "succeeded"


def test_a_new_attempt_replaces_the_profile(profiled: PipelineProcess, processing_id: str) -> None:
    before = retained_folders(profiled)
    first = profiled.make("FAILS_ONCE", "profiled-again", processing_id=processing_id)
    assert (first["state"], get(profiled, first)) == ("failed", f"first: {SUMMARY_HTML}")
    again = profiled.post("FAILS_ONCE", "profiled-again", processing_id=processing_id, attempt=2)
    assert again["profile"] is None
    assert get(profiled, profiled.end_of(again)) == f"second: {SUMMARY_HTML}"
    assert len(retained_folders(profiled) - before) == 1


def test_a_new_attempt_that_leaves_no_profile_has_none(
    profiled: PipelineProcess, processing_id: str
) -> None:
    first = profiled.make("FAILS_ONCE", "not-again", processing_id=processing_id)
    assert first["profile"] is not None
    second = profiled.make("FAILS_ONCE", "not-again", processing_id=processing_id, attempt=2)
    assert (second["state"], second["profile"]) == ("succeeded", None)


def test_profiles_and_logs_are_removed_when_they_are_old(start_pipeline: StartPipeline) -> None:
    service = start_pipeline(PROFILED, keep_s=0)
    stuck, gone = service.make("ONE", "sb1"), service.make("ONE", "sb2")
    (kept,) = (each for each in retained_folders(service) if "sb1: " in summary_in(each))
    # A file where it is moved to when it is removed: it cannot be.
    kept.parent.with_name(f".{kept.parent.name}").touch()
    service.kill()
    service.start()
    eventually_sync(lambda: service.get(gone)["profile"] is None)
    assert service.get(gone)["state"] == "succeeded"
    eventually_sync(lambda: retained_folders(service) == {kept})
    assert "no profile (" in refused(service, f"/processing/{gone['id']}/profile")
    assert refused(service, f"/processing/{gone['id']}/log")
    # What cannot be removed yet stays, and stops nothing.
    assert get(service, service.get(stuck)) == f"sb1: {SUMMARY_HTML}"
    assert service.make("TEXT")["state"] == "succeeded"


def summary_in(folder: Path) -> str:
    return (folder / "orchestrator" / SUMMARY_TEXT).read_text()


def test_the_interface_describes_the_profile(profiled: PipelineProcess) -> None:
    address = profiled.http.base_url.join("/openapi.json")
    paths = profiled.http.get(address).json()["paths"]
    path = "/pipeline/processing/{processing_id}/profile"
    page, file = paths[path]["get"], paths[f"{path}/{{file}}"]["get"]
    assert set(page["responses"]["200"]["content"]) == {"text/html", "text/plain"}
    assert "application/vnd.apache.parquet" in file["responses"]["200"]["content"]
    assert [each["name"] for each in file["parameters"]] == ["processing_id", "file", "name"]
    assert f"{path}/files" in paths


def test_a_large_file_comes_whole(profiled: PipelineProcess) -> None:
    before = retained_folders(profiled)
    record = profiled.make("ONE")
    (retained,) = retained_folders(profiled) - before
    content = os.urandom(3_000_001)
    (retained / "orchestrator" / PROFILE_FOLDER / "tasks.parquet").write_bytes(content)
    address = f"/processing/{record['id']}/profile/tasks.parquet"
    received = io.BytesIO()
    with profiled.http.stream("GET", address) as response:
        assert response.headers["Content-Length"] == str(len(content))
        for piece in response.iter_bytes():
            received.write(piece)
    assert received.getvalue() == content
