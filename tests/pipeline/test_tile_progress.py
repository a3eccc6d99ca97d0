"""A product made tile by tile inside ``with context.orchestrator(...)``."""

from pathlib import Path

import psutil
import pytest

from batuta.sdb import SdbClient
from tests.pipeline.conftest import TILED, StartPipeline
from tests.pipeline.pipeline_process import PipelineProcess, alive, read
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm


@pytest.mark.parametrize("product", ["HEIGHT", "HEIGHT_ON_DASK", "MAPPED_HEIGHT"])
def test_the_progress_of_a_processing_is_that_of_its_tiles(
    product: str, tiled: PipelineProcess, sdb: SdbClient, obs_id: str
) -> None:
    check_progress(tiled, product, sdb, obs_id)


def test_a_tile_that_fails_names_its_line_and_leaves_the_logs_of_its_workers(
    tiled: PipelineProcess, obs_id: str
) -> None:
    record = tiled.make("BROKEN_HEIGHT", obs_id)
    assert record["state"] == "failed"
    assert "4 of 16 tiles failed" in record["error"]
    assert "ValueError: the slope is vertical (in task broken_ramp, tiled.py:" in record["error"]
    assert 'raise ValueError("the slope is vertical")' in tiled.log(record)  # of the traceback
    logs = tiled.http.get(f"/processing/{record['id']}/workers_log")
    assert logs.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "== orchestrator/worker_" in logs.text
    assert "row 16 is looked at" in logs.text


@pytest.mark.usefixtures("slurm_environment")
def test_the_progress_of_a_processing_on_slurm_is_that_of_its_tiles(
    start_pipeline: StartPipeline, sdb: SdbClient, obs_id: str
) -> None:
    check_progress(start_pipeline(TILED), "HEIGHT_ON_SLURM", sdb, obs_id)


def check_progress(service: PipelineProcess, product: str, sdb: SdbClient, obs_id: str) -> None:
    record = service.make(product, obs_id)
    assert (record["state"], record["error"]) == ("succeeded", None)
    assert record["progress"] == {"done": 16, "total": 16}
    assert sdb.get(product, obs_id).media_type == "image/tiff"


def test_a_processing_that_is_cancelled_leaves_nothing_in_the_queue(
    slurm_environment: LocalSlurm, start_pipeline: StartPipeline
) -> None:
    service = start_pipeline(TILED)
    record = service.post("SLOW_HEIGHT_ON_SLURM")
    eventually_sync(lambda: list(service.stage.glob("tile-*")), timeout_s=60)
    assert slurm_environment.queue.active_jobs()
    service.http.delete(f"/processing/{record['id']}")
    assert service.get(record)["state"] == "cancelled"
    eventually_sync(lambda: not slurm_environment.queue.active_jobs(), timeout_s=30)


def test_the_workers_of_an_orchestrator_end_with_their_processing(
    tiled: PipelineProcess,
) -> None:
    record = tiled.post("SLOW_HEIGHT")

    def workers() -> str:
        found = [path.name.removeprefix("tile-") for path in tiled.stage.glob("tile-*")]
        return " ".join(found) if len(found) == 2 else ""

    pids = eventually_sync(workers, timeout_s=60)
    folders = _folders_of_results(int(read(tiled.stage / "leader")))
    assert [folder.exists() for folder in folders] == [True, True]
    tiled.http.delete(f"/processing/{record['id']}")
    assert alive(pids) == []
    assert tiled.get(record)["state"] == "cancelled"
    assert not any(folder.exists() for folder in folders)


def _folders_of_results(pid: int) -> list[Path]:
    """Where an orchestrator's results travel, on disk and in memory: it holds a lock there."""
    files = psutil.Process(pid).open_files()
    return [Path(file.path).parent for file in files if "owner.lock" in file.path]
