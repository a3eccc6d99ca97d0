"""Each processing in a process of its own: whatever happens to it harms nothing else."""

import asyncio
from pathlib import Path

import pytest

from batuta.pipeline import PipelineSettings
from batuta.pipeline.process_runner import run_to_end
from batuta.sdb import SdbClient
from batuta.service.client import ServiceError
from batuta.stages import Stage
from tests.pipeline.conftest import StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, alive, read
from tests.support.waiting import eventually_sync


def test_a_product_is_made_of_its_inputs_and_archived(
    service: PipelineProcess, sdb: SdbClient, events: str, tmp_path: Path
) -> None:
    record = service.make("COPY", events)
    assert (record["state"], record["error"]) == ("succeeded", None)
    assert record["progress"] == {"done": 1000, "total": 1000}
    assert record["inputs"] == [{"product": "EVENTS", "version": 1}]
    assert record["outputs"] == [{"product": "COPY", "version": 1}]
    stored = sdb.export("COPY", events, to=tmp_path / "copy.txt")
    assert (tmp_path / "copy.txt").read_text() == "1 2 3\n"
    assert stored.media_type == "text/x-copy"
    assert stored.metadata == {"characters": 6}
    assert stored.provider == "scripted_pipeline"
    assert stored.processing_id == record["id"]
    assert [(each.product, each.version) for each in stored.inputs] == [("EVENTS", 1)]


OWN_PROGRAM = """
import os, sys
from pathlib import Path
from batuta.pipeline import Pipeline, PipelineSettings, run

pipeline = Pipeline("own")
with Path("loads").open("a") as file:
    print(__name__, file=file)

@pipeline.product("LETTER")
def letter(context):
    Path("letter.txt").write_text("a")
    return Path("letter.txt")

if __name__ == "__main__":
    run(PipelineSettings.model_validate_json(sys.argv[1]), pipeline)
"""


@pytest.mark.parametrize("program", [("-m", "own_program"), ("own_program.py",)], ids=" ".join)
def test_a_program_that_serves_its_own_pipeline_is_loaded_once_for_all_processings(
    program: tuple[str, ...], settings: PipelineSettings, tmp_path: Path
) -> None:
    (tmp_path / "own_program.py").write_text(OWN_PROGRAM)
    service = PipelineProcess("", settings, tmp_path, tmp_path, program=program)
    service.start()
    try:
        for number in range(3):
            record = service.make("LETTER", f"o{number}")
            assert record["state"] == "succeeded", record["error"]
    finally:
        service.kill()
        service.http.close()
    assert (tmp_path / "loads").read_text().splitlines() == ["__main__", "__mp_main__"]


def test_it_is_made_from_the_versions_that_were_claimed_and_its_lineage_says_by_what(
    service: PipelineProcess, sdb: SdbClient, obs_id: str, tmp_path: Path
) -> None:
    for product, texts in {"EVENTS": ["old ", "new "], "GTI": ["gti"]}.items():
        for text in texts:
            (tmp_path / "file").write_text(text)
            sdb.import_file(tmp_path / "file", product, obs_id)
    for inputs, text in [
        ({"EVENTS": 1, "GTI": 1}, "old gti"),
        ({"EVENTS": 1}, "old "),
        ({"EVENTS": 0, "GTI": 0}, "new gti"),
        (None, "new gti"),
    ]:
        record = service.make("COPY", obs_id, inputs=inputs, graph_version="g1")
        assert record["state"] == "succeeded", record["error"]
        stored = sdb.export("COPY", obs_id, to=tmp_path / "copy.txt")
        assert (tmp_path / "copy.txt").read_text() == text
        assert [each.model_dump() for each in stored.inputs] == record["inputs"]
        assert (stored.processing_id, stored.graph_version) == (record["id"], "g1")
        assert stored.code == record["code"]
    sdb.withdraw("EVENTS", obs_id, 1, "noise")
    for version, problem in [(1, "was withdrawn"), (3, "no version 3")]:
        record = service.make("COPY", obs_id, inputs={"EVENTS": version})
        assert record["state"] == "failed"
        assert problem in record["error"]


@pytest.mark.parametrize("stage", ["preliminary", 3, "final", None])
def test_what_it_makes_is_imported_at_the_stage_that_was_asked_for(
    service: PipelineProcess, sdb: SdbClient, obs_id: str, tmp_path: Path, stage: Stage | None
) -> None:
    (tmp_path / "file").write_text("events")
    sdb.import_file(tmp_path / "file", "EVENTS", obs_id, stage=stage)
    record = service.make("COPY", obs_id, stage=stage)
    assert record["state"] == "succeeded", record["error"]
    assert sdb.get("COPY", obs_id).stage == stage


def test_all_that_a_processing_prints_is_in_its_log(service: PipelineProcess, events: str) -> None:
    log = service.log(service.make("COPY", events))
    assert f"copies {events}" in log
    for speaker in ["on standard output", "by a library", "by C code", "by a child"]:
        assert f"said {speaker}" in log


@pytest.mark.parametrize(
    ("product", "error"),
    [
        ("RAISES", "ValueError: the gain is negative (scripted.py:"),
        ("EXITS", "exited with code 3 before its product was made"),
        ("LEAVES", "exited with code 0 before its product was made"),
        ("SYS_EXITS", "SystemExit: no calibration (scripted.py:"),
        ("KILLED", "killed by signal 9 (SIGKILL) before its product was made"),
        ("SEGFAULTS", "killed by signal 11 (SIGSEGV) before its product was made"),
        ("HANGS", "timed out after 1 s (timeout_s)"),
        ("MAKES_NOTHING", "the function returned never.txt, but did not write it"),
        ("YIELDS_NOTHING", "YIELDS_NOTHING: the function returned without making it"),
        ("RETURNS_NONE", "RETURNS_NONE: the function returned NoneType"),
        ("OUTSIDE", "is outside the work folder"),
        ("UNDECLARED", "output 'OTHER': not declared by UNDECLARED (declared: UNDECLARED"),
        ("NOT_UTF8_NAME", "output NOT_UTF8_NAME: the name of its file contains a lone surrogate"),
        ("INFINITE", "progress(1, inf): accepted: 0 <= done <= total"),
        ("GARBAGE", "its process sent what is not a message: b'garbage\\n'"),
        ("ENDLESS_LINE", "its process sent a message of more than 1048576 bytes"),
        ("HUGE_ERROR", "ValueError: xxx"),
        ("TWICE", "TWICE: returned twice"),
        ("FAILS_AFTER_YIELD", "RuntimeError: too late"),
        ("ASKS_UNDECLARED", "input 'EVENT': not declared by ASKS_UNDECLARED (declared: EVENTS)"),
        ("COPY", "input EVENTS: the sdb has none for obs_id o-"),
        ("ESCAPES", "output_path('../../escaped.txt')"),
    ],
)
def test_a_failure_is_recorded_in_one_line_and_archives_nothing(
    service: PipelineProcess, sdb: SdbClient, obs_id: str, product: str, error: str
) -> None:
    record = service.make(product, obs_id)
    assert record["state"] == "failed"
    assert error in record["error"]
    assert "\n" not in record["error"]
    assert list(sdb.list(obs_id=obs_id)) == []
    assert service.make("MANY")["state"] == "succeeded"


def test_a_mistake_in_metadata_costs_no_product_and_is_told_by_key(
    service: PipelineProcess, sdb: SdbClient, obs_id: str
) -> None:
    record = service.make("ODD_METADATA", obs_id)
    assert record["state"] == "succeeded", record["error"]
    (stored,) = sdb.list(obs_id=obs_id)
    assert stored.media_type == "text/plain"
    assert stored.metadata == {
        "gain": None,
        "from": "caf\\udce9.csv",
        "mean": 1.5,
        "taken": "2026-11-28T12:00:00+00:00",
        "wcs": "<class 'object'>",
    }
    log = service.log(record)
    for problem in (
        "metadata.gain: nan is not a JSON number",
        "metadata.from: contains a lone surrogate, which UTF-8 cannot encode",
        "metadata.wcs: a type is not a JSON value",
        "media_type: 'a csv' is not one (accepted: type/subtype)",
    ):
        assert f"output ODD_METADATA: {problem}" in log


def test_a_picture_is_archived_with_its_product_and_one_that_cannot_be_used_costs_none(
    service: PipelineProcess, sdb: SdbClient, obs_id: str, tmp_path: Path
) -> None:
    record = service.make("WITH_QUICKLOOK", obs_id)
    assert record["state"] == "succeeded", record["error"]
    state = sdb.quicklook("WITH_QUICKLOOK", obs_id, to=tmp_path / "picture")
    assert (state.origin, state.media_type) == ("given", "image/png")
    assert (tmp_path / "picture").read_bytes().startswith(b"\x89PNG")
    log = service.log(record)
    for product, problem in (
        ("WITHOUT", "page.png: it begins with b'<svg/>' (accepted: a PNG, JPEG or WebP picture)"),
        ("OUTSIDE_QUICKLOOK", "/etc/hostname is outside the work folder"),
        ("NO_QUICKLOOK", "the function returned never.png, but did not write it"),
    ):
        assert f"output {product}: quicklook: {problem}" in log
        with pytest.raises(ServiceError, match="is not drawn"):
            sdb.quicklook(product, obs_id, to=tmp_path / "none")


def test_more_steps_than_can_be_counted_are_told_in_proportion(service: PipelineProcess) -> None:
    progress = service.make("COUNTS_BYTES")["progress"]
    assert progress["done"] / progress["total"] == pytest.approx(0.6)
    assert progress["total"] < 2**31


def test_a_work_folder_that_cannot_be_made_fails_its_processing_alone(
    own_service: PipelineProcess,
) -> None:
    work = own_service.settings.folder("") / "work"
    work.rename(work.with_name("moved"))
    work.touch()
    record = own_service.make("MANY", "o1")
    assert record["state"] == "failed"
    assert "its process could not be started: Not a directory" in record["error"]
    work.unlink()
    work.with_name("moved").rename(work)
    assert own_service.make("MANY", "o2")["state"] == "succeeded"


def test_a_traceback_is_in_the_log(service: PipelineProcess) -> None:
    log = service.log(service.make("RAISES"))
    assert "Traceback (most recent call last)" in log
    assert "in raises" in log


def test_a_processing_without_workers_has_no_logs_of_them(service: PipelineProcess) -> None:
    record = service.make("MANY")
    answer = service.http.get(f"/processing/{record['id']}/workers_log")
    assert answer.status_code == 404
    assert "it has opened no orchestrator with workers" in answer.json()["detail"]


def test_how_a_process_was_killed_is_in_the_log(service: PipelineProcess) -> None:
    assert "worker process killed by signal 9 (SIGKILL)" in service.log(service.make("KILLED"))
    assert "Fatal Python error: Segmentation fault" in service.log(service.make("SEGFAULTS"))


@pytest.mark.parametrize("product", ["HANGS", "LEAVES_CHILDREN"])
def test_nothing_that_a_processing_started_outlives_it(
    service: PipelineProcess, product: str
) -> None:
    record = service.make(product)
    assert record["state"] == ("failed" if product == "HANGS" else "succeeded")
    assert alive(read(service.stage / "pids")) == []
    assert list((service.settings.folder("") / "work").iterdir()) == []


def test_products_are_made_where_no_socket_can_be_in_the_temporary_folder(
    start_pipeline: StartPipeline, events: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    record = start_pipeline().make("COPY", events)
    assert (record["state"], record["error"]) == ("succeeded", None)


def test_a_killed_service_leaves_no_process(own_service: PipelineProcess) -> None:
    own_service.post("WORKS")
    pids = read(own_service.stage / "pids")
    assert len(alive(pids)) == 3
    own_service.kill()
    eventually_sync(lambda: not alive(pids))


async def test_cleaning_up_ends_however_often_it_is_cancelled() -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()

    async def clean_up() -> None:
        await may_end.wait()
        ended.set()

    task = asyncio.create_task(run_to_end(clean_up()))
    for _ in range(4):
        await asyncio.sleep(0)  # to the next wait of the task, where the cancellation arrives
        task.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_cleaning_up_raises_is_raised() -> None:
    async def clean_up() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await run_to_end(clean_up())
