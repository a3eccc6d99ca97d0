"""A product made tile by tile inside ``with context.orchestrator(...)``."""

from pathlib import Path

import psutil
import pytest

from batuta.sdb import SdbClient
from tests.pipeline.conftest import StartPipeline
from tests.pipeline.pipeline_process import alive, read
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm


@pytest.mark.parametrize("product", ["HEIGHT", "HEIGHT_ON_DASK", "HEIGHT_ON_SLURM"])
def test_the_progress_of_a_processing_is_that_of_its_tiles(
    product: str, start_pipeline: StartPipeline, sdb: SdbClient, request: pytest.FixtureRequest
) -> None:
    if product == "HEIGHT_ON_SLURM":
        request.getfixturevalue("slurm_environment")
    service = start_pipeline("tests.pipeline.tiled:pipeline")
    record = service.make(product)
    assert (record["state"], record["error"]) == ("succeeded", None)
    assert record["progress"] == {"done": 16, "total": 16}
    assert sdb.get(product, "sb1").media_type == "image/tiff"


def test_a_processing_that_is_cancelled_leaves_nothing_in_the_queue(
    slurm_environment: LocalSlurm, start_pipeline: StartPipeline, stage: Path
) -> None:
    service = start_pipeline("tests.pipeline.tiled:pipeline")
    record = service.post("SLOW_HEIGHT_ON_SLURM")
    eventually_sync(lambda: len(list(stage.glob("tile-*"))) == 2, timeout_s=60)
    assert slurm_environment.queue.active_jobs()
    service.http.delete(f"/processing/{record['id']}")
    assert service.get(record)["state"] == "cancelled"
    eventually_sync(lambda: not slurm_environment.queue.active_jobs(), timeout_s=30)


def test_the_workers_of_an_orchestrator_end_with_their_processing(
    start_pipeline: StartPipeline, stage: Path
) -> None:
    service = start_pipeline("tests.pipeline.tiled:pipeline")
    record = service.post("SLOW_HEIGHT")

    def workers() -> str:
        found = [path.name.removeprefix("tile-") for path in stage.glob("tile-*")]
        return " ".join(found) if len(found) == 2 else ""

    pids = eventually_sync(workers, timeout_s=60)
    folders = _folders_of_results(int(read(stage / "leader")))
    assert [folder.exists() for folder in folders] == [True, True]
    service.http.delete(f"/processing/{record['id']}")
    assert alive(pids) == []
    assert service.get(record)["state"] == "cancelled"
    assert not any(folder.exists() for folder in folders)


def _folders_of_results(pid: int) -> list[Path]:
    """Where an orchestrator's results travel, on disk and in memory: it holds a lock there."""
    files = psutil.Process(pid).open_files()
    return [Path(file.path).parent for file in files if "owner.lock" in file.path]
