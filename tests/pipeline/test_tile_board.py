"""The states of tiles on their way from an orchestrator to the answers of a service."""

import base64
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batuta.datasets.grid import GridSpec
from batuta.orchestrator.events import (
    Event,
    RunStarted,
    TileDone,
    TileFailed,
    TileKept,
    TileLayout,
    TileOutcome,
    TileRetried,
    TileStarted,
)
from batuta.pipeline.messages import MESSAGE_ADAPTER, TilesChanged, TilesPlanned, encode
from batuta.pipeline.process_runner import MAX_LINE_BYTES
from batuta.pipeline.retention import RetentionFolder
from batuta.pipeline.runner import ProcessingRun
from batuta.pipeline.tile_board import MAX_REMEMBERED, TileBoard, TileBoards, TilesReport
from batuta.pipeline.tile_codes import (
    AGAIN,
    MAX_TILES,
    TileChange,
    TileGridRecord,
    TileState,
    decode_changes,
    decode_present,
    encode_changes,
    encode_present,
    memory_code,
    time_code,
)
from batuta.pipeline.tile_progress import TileSender, TileStates, grid_record

ROWS, COLS = 3, 5
DEADLINE_S = 30.0
TILES = 20_000


class Collected:
    """Receives messages as a service does: each as a line."""

    def __init__(self, board: TileBoard) -> None:
        self.board = board
        self.longest_bytes = 0

    def send_tiles(self, message: TilesPlanned | TilesChanged) -> None:
        line = encode(message)
        self.longest_bytes = max(self.longest_bytes, len(line))
        received = MESSAGE_ADAPTER.validate_json(line)
        if isinstance(received, TilesPlanned):
            self.board.plan(received)
        elif isinstance(received, TilesChanged):
            self.board.change(received)


class Reader:
    """What somebody knows who asks again and again, as the page does."""

    def __init__(self) -> None:
        self.tiles: dict[int, TileChange] = {}
        self.workers: list[str] = []
        self.seq: int | None = None
        self.full_answers = 0

    def ask(self, board: TileBoard) -> None:
        self.read(board.report(self.seq))

    def read(self, report: TilesReport) -> None:
        self.seq = report.seq
        if report.full:
            self.full_answers += 1
            self.workers = []
            self.tiles = dict(enumerate(planes(report)))
        assert report.first_worker == len(self.workers) + 1
        self.workers += report.workers
        for change in decode_changes(report.changes or ""):
            self.tiles[change.tile] = change


def planes(report: TilesReport) -> list[TileChange]:
    """Decode a report that tells all."""
    decoded = [
        base64.b64decode(plane or "") for plane in (report.states, report.times, report.memories)
    ]
    numbers = base64.b64decode(report.tile_workers or "")
    workers = struct.unpack(f"<{len(numbers) // 2}H", numbers)
    return [
        TileChange(tile, worker, *codes)
        for tile, (worker, *codes) in enumerate(zip(workers, *decoded, strict=True))
    ]


def layout(rows: int = ROWS, cols: int = COLS, name: str = "dem") -> TileLayout:
    return TileLayout(name, rows, cols, b"\1" * (rows * cols), None)


def board() -> TileBoard:
    return TileBoard(1, 1_700_000_000.0)


def sequence(rows: int, cols: int) -> st.SearchStrategy[list[Event]]:
    row, col = st.integers(0, rows - 1), st.integers(0, cols - 1)
    worker = st.sampled_from(["process 1", "process 2", "process 3"])
    return st.lists(
        st.one_of(
            st.builds(TileStarted, st.just("dem"), row, col, worker),
            st.builds(TileRetried, st.just("dem"), row, col, st.just("cause")),
            st.builds(TileFailed, st.just("dem"), row, col, st.just("cause")),
            st.builds(TileKept, st.just("dem"), row, col, st.just(TileOutcome.SAVED)),
            st.builds(
                TileDone,
                st.just("dem"),
                row,
                col,
                st.sampled_from(TileOutcome),
                worker,
                st.floats(0, 1e5),
                st.integers(0, 2**40),
            ),
        ),
        max_size=40,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(sequence(ROWS, COLS), max_size=6), st.booleans())
def test_states_after_any_events_equal_those_after_a_snapshot_and_its_changes(
    rounds: list[list[Event]], two_runs: bool
) -> None:
    known, reader = board(), Reader()
    sender = TileSender(Collected(known))
    observer = TileStates(sender)
    observer.on_event(RunStarted(ROWS * COLS, (layout(),)))
    for number, events in enumerate(rounds):
        if two_runs and number == 3:
            observer.on_event(RunStarted(ROWS * COLS, (layout(),)))
        for event in events:
            observer.on_event(event)
        reader.ask(known)  # wherever the thread of the sender may be
    sender.close()
    reader.ask(known)
    late = Reader()
    late.ask(known)
    assert (reader.tiles, reader.workers) == (late.tiles, late.workers)
    assert reader.seq == late.seq


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], TileState.WAITING),
        ([TileStarted("dem", 1, 2, "w")], TileState.RUNNING),
        ([TileDone("dem", 1, 2, TileOutcome.SAVED)], TileState.DONE),
        ([TileDone("dem", 1, 2, TileOutcome.EMPTY)], TileState.EMPTY),
        ([TileKept("dem", 1, 2, TileOutcome.SAVED)], TileState.KEPT),
        ([TileFailed("dem", 1, 2, "cause")], TileState.FAILED),
        ([TileRetried("dem", 1, 2, "cause")], TileState.RETRIED | AGAIN),
        (
            [TileRetried("dem", 1, 2, "cause"), TileDone("dem", 1, 2, TileOutcome.SAVED)],
            TileState.DONE | AGAIN,
        ),
    ],
)
def test_each_event_gives_its_tile_a_state(events: list[Event], state: int) -> None:
    known = board()
    sender = TileSender(Collected(known))
    observer = TileStates(sender)
    for event in [RunStarted(ROWS * COLS, (layout(),)), *events]:
        observer.on_event(event)
    sender.close()
    states = [tile.state for tile in planes(known.report())]
    assert states[1 * COLS + 2] == state
    assert states.count(TileState.WAITING) == ROWS * COLS - (len(events) > 0)


def test_the_grids_of_several_runs_follow_each_other_and_empty_cells_have_no_tile() -> None:
    known = board()
    sender = TileSender(Collected(known))
    observer = TileStates(sender)
    first = TileLayout("pairs", 1, 3, bytes([1, 0, 1]), None)
    events: list[Event] = [
        RunStarted(2, (first,)),
        TileDone("pairs", 0, 2, TileOutcome.SAVED),
        RunStarted(4, (layout(2, 2),)),
        TileFailed("dem", 1, 0, "cause"),
    ]
    for event in events:
        observer.on_event(event)
    sender.close()
    report = known.report()
    assert [(grid.dataset, grid.rows, grid.cols) for grid in report.grids or ()] == [
        ("pairs", 1, 3),
        ("dem", 2, 2),
    ]
    assert [tile.state for tile in planes(report)] == [1, 0, 4, 1, 1, 7, 1]


def test_what_an_event_names_beyond_the_grid_is_no_tile() -> None:
    known = board()
    sender = TileSender(Collected(known))
    observer = TileStates(sender)
    events: list[Event] = [
        RunStarted(1, (layout(1, 1),)),
        TileDone("dem", 4, 0, TileOutcome.SAVED),
        TileDone("other", 0, 0, TileOutcome.SAVED),
    ]
    for event in events:
        observer.on_event(event)
    sender.close()
    assert [tile.state for tile in planes(known.report())] == [TileState.WAITING]


# Geometry


def test_tiles_in_rows_and_columns_are_told_by_their_bounds() -> None:
    spec = GridSpec(rows=25, cols=30, row_split=10, col_split=20, row_overlap=0, col_overlap=0)
    windows = spec.tiling()
    record = grid_record(TileLayout("dem", 3, 2, b"\1" * 6, windows))
    assert record.row_bounds == (0, 10, 10, 20, 20, 25)
    assert record.col_bounds == (0, 20, 20, 30)
    assert record.windows is None


def test_tiles_that_lie_anywhere_are_told_one_by_one() -> None:
    windows = np.array([[[0, 4, 0, 4], [2, 6, 5, 9]]])
    record = grid_record(TileLayout("pairs", 1, 2, b"\1\1", windows))
    assert record.row_bounds is None
    assert struct.unpack("<8i", base64.b64decode(record.windows or "")) == (0, 4, 0, 4, 2, 6, 5, 9)


@pytest.mark.parametrize("windows", [None, (), np.zeros((2, 2))])
def test_tiles_without_windows_are_told_by_row_and_column_alone(windows: Any) -> None:
    record = grid_record(TileLayout("tables", 1, 2, b"\1\1", windows))
    assert (record.row_bounds, record.windows) == (None, None)


@given(st.lists(st.integers(0, 1), max_size=70))
def test_which_cells_have_a_tile_is_decoded_as_it_was_encoded(cells: list[int]) -> None:
    present = bytes(cells)
    assert decode_present(encode_present(present), len(present)) == present


# Codes


@given(st.floats(0.001, 1e6), st.integers(2**20, 2**50))
def test_codes_tell_times_and_memories_to_five_per_cent(seconds: float, size: int) -> None:
    assert 0.001 * 2 ** ((time_code(seconds) - 1) / 8) == pytest.approx(seconds, rel=0.05)
    assert 2**20 * 2 ** ((memory_code(size) - 1) / 8) == pytest.approx(size, rel=0.05)


def test_what_is_not_known_has_the_code_zero_and_what_is_small_has_not() -> None:
    assert (time_code(None), memory_code(None)) == (0, 0)
    assert (time_code(0.0), memory_code(0)) == (1, 1)
    assert time_code(1e30) == 255


@pytest.mark.parametrize("text", ["?", "QUJD", "QQ="])
def test_changes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not base64|not a multiple of 9"):
        list(decode_changes(text))


# Asking for changes


def planned(cells: int) -> TileBoard:
    known = board()
    known.plan(TilesPlanned(grid=TileGridRecord(dataset="dem", rows=1, cols=cells)))
    return known


def changed(*tiles: int, state: TileState = TileState.DONE) -> TilesChanged:
    return TilesChanged(
        changes=encode_changes([TileChange(tile, 0, state, 1, 1) for tile in tiles])
    )


def test_only_what_changed_since_is_told_each_tile_once() -> None:
    known = planned(100)
    seq = known.report().seq
    known.change(changed(7, state=TileState.RUNNING))
    known.change(changed(3, 7))
    report = known.report(seq)
    assert (report.full, report.grids, report.states) == (False, None, None)
    assert [tile.tile for tile in decode_changes(report.changes or "")] == [3, 7]
    assert known.report(report.seq).changes == ""


def test_a_number_beyond_the_last_one_is_answered_with_all() -> None:
    known = planned(100)
    assert known.report(known.seq + 1).full


def test_a_number_of_an_earlier_run_is_answered_with_all() -> None:
    earlier = planned(100)
    earlier.change(changed(*range(50)))
    later = TileBoard(2, 1_700_000_001.0)
    later.plan(TilesPlanned(grid=TileGridRecord(dataset="dem", rows=1, cols=100)))
    assert later.report(earlier.seq).full


def test_a_number_before_the_last_grid_is_answered_with_all() -> None:
    known = planned(100)
    seq = known.seq
    known.plan(TilesPlanned(grid=TileGridRecord(dataset="dsm", rows=1, cols=2)))
    assert known.report(seq).full


def test_who_has_not_asked_for_long_is_answered_with_all() -> None:
    known = planned(10_000)
    seq = known.seq
    message = changed(*range(1000))
    for _ in range(3 * MAX_REMEMBERED // 1000):
        known.change(message)
    assert known.report(seq).full
    assert not known.report(known.seq - 1000).full


def test_changes_of_no_tile_and_workers_without_a_name_are_left_out() -> None:
    known = planned(2)
    changes = [TileChange(0, 9, TileState.DONE, 0, 0), TileChange(2, 0, TileState.DONE, 0, 0)]
    known.change(TilesChanged(changes=encode_changes(changes)))
    assert [(tile.worker, tile.state) for tile in planes(known.report())] == [(0, 4), (0, 1)]


# Bounds


def test_a_grid_of_too_many_tiles_is_not_told() -> None:
    known = board()
    sender = TileSender(Collected(known))
    assert sender.plan(layout(1000, 1001)) is None
    assert sender.plan(layout()) is not None
    sender.close()
    assert [grid.rows for grid in known.grids] == [ROWS]
    too_many = TileGridRecord(dataset="dem", rows=1, cols=MAX_TILES)
    known.plan(TilesPlanned(grid=too_many))
    assert len(known.grids) == 1


def test_a_hundred_thousand_tiles_take_less_than_two_megabytes_at_the_service() -> None:
    messages = [changed(*range(first, first + 1000)) for first in range(0, 100_000, 1000)]
    tracemalloc.start()
    try:
        known = planned(100_000)
        for message in messages:
            known.change(message)
        size_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size_bytes < 2e6
    assert len(known.report().model_dump_json()) < 1e6


class Stuck:
    """A service that reads nothing until it is told to."""

    def __init__(self, known: TileBoard) -> None:
        self.go_on = threading.Event()
        self.collected = Collected(known)

    def send_tiles(self, message: TilesPlanned | TilesChanged) -> None:
        assert self.go_on.wait(DEADLINE_S)
        self.collected.send_tiles(message)


def test_a_service_that_does_not_read_blocks_no_computation_and_each_tile_is_held_once() -> None:
    known = board()
    stuck = Stuck(known)
    sender = TileSender(stuck)
    place = sender.plan(layout(1, TILES))
    assert place is not None
    tracemalloc.start()
    try:
        for state in (TileState.RUNNING, TileState.RETRIED, TileState.RUNNING, TileState.DONE):
            for tile in range(TILES):
                sender.change(tile, state, "process 1")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 20 * TILES
    stuck.go_on.set()
    sender.close()
    assert known.count(TileState.DONE) == TILES
    assert stuck.collected.longest_bytes < 40_000


def test_every_message_fits_in_a_line() -> None:
    known = board()
    collected = Collected(known)
    sender = TileSender(collected)
    windows = np.random.default_rng(1).integers(0, 2**31, (128, 128, 4))
    holes = bytes(number % 2 for number in range(700_000))
    for each in (
        TileLayout("a" * 300, 128, 128, b"\1" * 128 * 128, windows),
        TileLayout("holes", 700, 1000, holes, None),
        TileLayout("line", 1, 10_000, b"\1" * 10_000, np.full((1, 10_000, 4), 2**31 - 1)),
    ):
        sender.plan(each)
    sender.close()
    assert len(known.grids) == 3
    assert collected.longest_bytes < MAX_LINE_BYTES


def test_a_sender_that_has_told_nothing_starts_no_thread() -> None:
    before = threading.active_count()
    TileSender(Collected(board())).close()
    assert threading.active_count() == before


# Records


def run_of(attempt: int = 1) -> ProcessingRun:
    return ProcessingRun(
        id="p", product="DEM", obs_id="o", provider="t", key="k", run_id="k-1", attempt=attempt
    )


def test_the_tiles_of_a_run_are_recorded_at_its_end_until_its_log_is_removed(
    tmp_path: Path,
) -> None:
    retention = RetentionFolder(tmp_path)
    boards = TileBoards(retention)
    live = boards.begin(run_of())
    live.plan(TilesPlanned(grid=TileGridRecord(dataset="dem", rows=1, cols=4)))
    live.change(changed(2))
    assert boards.recorded_report("k", None) is None
    boards.end(run_of())
    assert boards.live_report("k", None) is None
    report = boards.recorded_report("k", live.seq - 1)
    assert report is not None
    assert (report.ended, report.full) == (True, True)
    assert planes(report) == planes(live.report())
    nothing_new = boards.recorded_report("k", report.seq)
    assert nothing_new is not None
    assert (nothing_new.full, nothing_new.changes, nothing_new.ended) == (False, "", True)
    retention.remove("k")
    assert boards.recorded_report("k", None) is None


def test_a_run_that_starts_drops_the_tiles_of_the_run_before(tmp_path: Path) -> None:
    boards = TileBoards(RetentionFolder(tmp_path))
    boards.begin(run_of()).plan(TilesPlanned(grid=TileGridRecord(dataset="d", rows=1, cols=4)))
    boards.end(run_of())
    boards.begin(run_of(2))
    boards.end(run_of(2))  # it has opened no orchestrator
    assert boards.recorded_report("k", None) is None
