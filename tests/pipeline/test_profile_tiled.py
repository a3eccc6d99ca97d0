"""The profile of a real orchestrator, as its pipeline service retains and serves it."""

import io
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batuta.profiling.files.reader import read_profile
from batuta.profiling.files.run_info import RunState
from tests.pipeline.pipeline_process import PipelineProcess, Record, read
from tests.support.waiting import eventually_sync

TILES = {(row, col) for row in range(4) for col in range(4)}


def retained(service: PipelineProcess, run: str) -> Path:
    """Where the profile of the one orchestrator of a run is on the disk of the service."""
    (folder,) = (service.settings.folder("") / "profiles").glob(f"*/{run}/*")
    return folder


def stop(service: PipelineProcess, record: Record, how: str) -> None:
    if how == "cancelled":
        service.http.delete(f"/processing/{record['id']}")
    else:
        os.kill(int(read(service.stage / "pids")), signal.SIGKILL)


def test_the_profile_of_a_tiled_product_has_each_of_its_tiles(profiled: PipelineProcess) -> None:
    record = profiled.make("TILED")
    assert (record["state"], record["error"]) == ("succeeded", None)
    address = f"/processing/{record['id']}/profile"
    table = pq.read_table(io.BytesIO(profiled.http.get(f"{address}/tasks.parquet").content))
    places = zip(table["row"].to_pylist(), table["col"].to_pylist(), strict=True)
    assert {place for place in places if place != (None, None)} == TILES
    assert profiled.http.get(f"{address}/run.json").json()["state"] == "done"
    text = profiled.http.get(f"{address}/summary.txt").text
    assert "ramp" in text
    page = profiled.http.get(address)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "ramp" in page.text


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_stopped_half_way_it_has_the_profile_of_what_was_done(
    how: str, profiled: PipelineProcess
) -> None:
    record = profiled.post("TILED_HALF_WAY")
    work_dir = Path(read(profiled.stage / "work_dir"))
    folder = work_dir / "orchestrator" / "profile"

    def recorded() -> bool:
        rows = [pq.read_metadata(part).num_rows for part in folder.glob("tasks-*.parquet")]
        return bool(sum(rows) >= len(TILES) // 2)

    eventually_sync(recorded, timeout_s=60)
    stop(profiled, record, how)
    ended = profiled.end_of(record)
    assert ended["state"] == {"cancelled": "cancelled", "killed": "failed"}[how]
    assert ended["profile"] is not None
    profile = read_profile(retained(profiled, work_dir.name))
    assert profile.run.state is RunState.RUNNING
    done = zip(profile.tasks["row"].to_pylist(), profile.tasks["col"].to_pylist(), strict=True)
    assert {(row, col) for row, col in TILES if row < 2} <= set(done)
    assert not list((profiled.settings.folder("") / "work").iterdir())

    address = f"/processing/{record['id']}/profile"
    assert "summary.txt" not in profiled.http.get(f"{address}/files").text
    page = profiled.http.get(address, timeout=120)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "ramp_half_way" in page.text
    assert "ramp_half_way" in profiled.http.get(f"{address}/summary.txt").text
