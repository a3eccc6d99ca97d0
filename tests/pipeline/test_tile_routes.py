"""``GET /processing/{id}/tiles``: the tiles of a processing, while it runs and afterwards."""

from typing import Any

import pytest

from batuta.pipeline.tile_board import TilesReport
from batuta.pipeline.tile_codes import TileState
from tests.pipeline.pipeline_process import PipelineProcess, Record
from tests.pipeline.test_tile_board import Reader
from tests.support.waiting import eventually_sync


def tiles(service: PipelineProcess, record: Record, **query: Any) -> TilesReport:
    answer = service.http.get(f"/processing/{record['id']}/tiles", params=query)
    assert answer.is_success, answer.text
    return TilesReport.model_validate_json(answer.content)


def states(reader: Reader) -> list[int]:
    return [reader.tiles[place].state for place in sorted(reader.tiles)]


def test_the_tiles_of_a_processing_that_has_ended_are_told_with_what_each_took(
    tiled: PipelineProcess, obs_id: str
) -> None:
    record = tiled.make("HEIGHT", obs_id)
    report = tiles(tiled, record)
    reader = Reader()
    reader.read(report)
    (grid,) = report.grids or ()
    assert (grid.dataset, grid.rows, grid.cols) == ("height", 4, 4)
    assert grid.row_bounds == grid.col_bounds == (0, 16, 16, 32, 32, 48, 48, 64)
    assert (report.ended, report.attempt) == (True, 1)
    assert states(reader) == [TileState.DONE] * 16
    for tile in reader.tiles.values():
        assert tile.time >= 1
        assert tile.memory >= 1
        assert reader.workers[tile.worker - 1].startswith("process ")
    assert tiles(tiled, record, since=report.seq).changes == ""
    for unknown in (report.seq + 1, 0):
        assert tiles(tiled, record, since=unknown).full


def test_a_tile_that_fails_was_tried_again(tiled: PipelineProcess, obs_id: str) -> None:
    reader = Reader()
    reader.read(tiles(tiled, tiled.make("BROKEN_HEIGHT", obs_id)))
    again = TileState.FAILED | 0x40
    assert states(reader) == [4] * 4 + [again] * 4 + [4] * 8


def test_tiles_that_run_are_told_while_they_do_and_as_running_when_it_is_cancelled(
    tiled: PipelineProcess, obs_id: str
) -> None:
    record = tiled.post("SLOW_HEIGHT", obs_id)
    reader = Reader()

    def two_run() -> bool:
        answer = tiled.http.get(
            f"/processing/{record['id']}/tiles",
            params={} if reader.seq is None else {"since": reader.seq},
        )
        if answer.is_success:
            reader.read(TilesReport.model_validate_json(answer.content))
        return states(reader).count(TileState.RUNNING) == 2

    eventually_sync(two_run, timeout_s=60)
    assert len(set(reader.workers)) == 2
    assert not tiles(tiled, record).ended
    tiled.http.delete(f"/processing/{record['id']}").raise_for_status()
    ended = Reader()
    report = tiles(tiled, record)
    ended.read(report)
    assert report.ended
    assert states(ended) == states(reader)


def test_tiles_of_a_run_that_was_stopped_are_told_as_kept_by_the_one_that_resumes_it(
    tiled: PipelineProcess, obs_id: str
) -> None:
    record = tiled.post("RESUMED_HEIGHT", obs_id)

    def half() -> bool:
        reader = Reader()
        answer = tiled.http.get(f"/processing/{record['id']}/tiles")
        if answer.is_success:
            reader.read(TilesReport.model_validate_json(answer.content))
        return states(reader)[:8] == [TileState.DONE] * 8

    eventually_sync(half, timeout_s=60)
    tiled.http.delete(f"/processing/{record['id']}").raise_for_status()
    (tiled.stage / "go on").touch()
    again = tiled.make("RESUMED_HEIGHT", obs_id, processing_id=record["id"], attempt=2)
    assert (again["state"], again["error"]) == ("succeeded", None)
    report = tiles(tiled, record)
    reader = Reader()
    reader.read(report)
    assert report.attempt == 2
    # The journal may lack the last tiles before the kill: these are computed again.
    assert TileState.KEPT in states(reader)[:8]
    assert set(states(reader)[:8]) <= {TileState.KEPT, TileState.DONE}
    assert states(reader)[8:] == [TileState.DONE] * 8


def test_a_processing_without_an_orchestrator_has_no_tiles(
    service: PipelineProcess, events: str
) -> None:
    record = service.make("COPY", events)
    answer = service.http.get(f"/processing/{record['id']}/tiles")
    assert answer.status_code == 404
    assert "no tiles (it has opened no orchestrator" in answer.json()["detail"]


def test_a_processing_that_is_not_known_is_told(service: PipelineProcess) -> None:
    answer = service.http.get("/processing/nothing/tiles")
    assert (answer.status_code, answer.json()["detail"]) == (
        404,
        "processing 'nothing': not found",
    )


@pytest.mark.parametrize("since", ["-1", "x", str(2**63)])
def test_a_number_that_is_none_is_refused_by_its_name(service: PipelineProcess, since: str) -> None:
    answer = service.http.get("/processing/nothing/tiles", params={"since": since})
    assert answer.status_code == 422
    assert "since" in answer.text
