"""Summing up a profile, as text and as a page: time, and sizes of the files.

Run with ``TASKS FOLDER``, it writes the profile of a run of tiles of two tasks, and sums it up.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from batuta.orchestrator.run_profile import write_reports
from batuta.profiling.capture.layout import PROFILE_FOLDER, SUMMARY_HTML, SUMMARY_TEXT, TASKS
from batuta.profiling.capture.records import Measure, TaskOutcome, TaskRow, WorkerId
from batuta.profiling.files.run_info import GridInfo, RunInfo, RunState
from batuta.profiling.files.writer import ProfileWriter
from benchmarks.support.figures import Figure
from benchmarks.support.measure import (
    FOLDER,
    Result,
    Subject,
    best,
    print_result,
    take_turns,
)

NAMES: Final = ("resample", "match")
"""The tasks of a tile."""
WORKERS: Final = 8
TASKS_PER_WORKER: Final = 10
"""Before it is renewed, as by default."""
TILES_PER_ROW: Final = 100
BEGIN_S: Final = 1_800_000_000.0
TILE_S: Final = 0.5


def write_profile(tasks: int, folder: Path) -> None:
    """Write the profile that such a run would write."""
    tiles = tasks // len(NAMES)
    inside = folder / PROFILE_FOLDER
    inside.mkdir()
    writer = ProfileWriter(inside, _info(tiles, RunState.RUNNING))
    for tile in range(tiles):
        writer.record_tasks(list(_rows(tile)))
    writer.record_places(
        [(tile * len(NAMES) + 1, "dsm", *divmod(tile, TILES_PER_ROW)) for tile in range(tiles)]
    )
    writer.close(_info(tiles, RunState.DONE))


def _rows(tile: int) -> Iterator[TaskRow]:
    lane, turn = tile % WORKERS, tile // WORKERS
    pid = 1000 + lane + WORKERS * (turn * len(NAMES) // TASKS_PER_WORKER)
    worker = WorkerId(f"process {pid}", "north", pid)
    # Slower in the middle of each row of tiles, like mountains.
    share = 0.5 + 0.4 * (1 - abs(2 * (tile % TILES_PER_ROW) / TILES_PER_ROW - 1))
    start_s = BEGIN_S + turn * TILE_S
    for rank, name in enumerate(NAMES):
        number, wall_s = tile * len(NAMES) + rank, share * TILE_S * (0.2, 0.8)[rank]
        peak = int(2e8 + 1e9 * share * rank)
        measure = Measure(name, start_s, wall_s, 0.9 * wall_s, peak, 4096, 1000, 262_144)
        after = (number - 1,) if rank else ()
        yield TaskRow(number, 1, TaskOutcome.DONE, None, worker, 0.0, after, measure)
        start_s += wall_s


def _info(tiles: int, state: RunState) -> RunInfo:
    rows = -(-tiles // TILES_PER_ROW)
    grid = GridInfo(
        dataset="dsm", rows=rows, cols=TILES_PER_ROW, tile_rows_px=512, tile_cols_px=512
    )
    return RunInfo(
        state=state,
        version="",
        mode="multiprocessing",
        config={"mode": "multiprocessing", "nb_workers": WORKERS},
        host="north",
        cores=WORKERS,
        ram_bytes=32_000_000_000,
        started_s=BEGIN_S,
        ended_s=BEGIN_S + (tiles // WORKERS + 1) * TILE_S,
        nb_workers=WORKERS,
        worker_limit_bytes=2_000_000_000,
        grids=(grid,),
        tiles_total=tiles,
        tiles_done=tiles,
    )


def grouped(folder: Path) -> object:
    """Sum up time and peak memory by task name, as one would by hand."""
    table = pd.read_parquet(folder / PROFILE_FOLDER / f"{TASKS}.parquet")
    found = table.groupby("name").agg({"wall_s": ["count", "sum", "max"], "peak_bytes": "max"})
    return found.to_string()


def timed_s(action: Callable[[], object]) -> float:
    """Return the processor time of an action."""
    begun = time.process_time()
    action()
    return time.process_time() - begun


def text_alone(folder: Path) -> str:
    """Return the summary as text."""
    from batuta.profiling.analysis.analyse import analyse_profile  # noqa: PLC0415
    from batuta.profiling.files.reader import read_profile  # noqa: PLC0415
    from batuta.profiling.report.text import profile_text  # noqa: PLC0415

    return profile_text(analyse_profile(read_profile(folder)))


def import_all() -> None:
    """Import what draws the page."""
    import batuta.profiling.report.page  # noqa: F401, PLC0415


def main(tasks: int, folder: Path) -> None:
    """Write a profile, and sum it up."""
    write_profile(tasks, folder)
    import_s = timed_s(import_all)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parts = {
        "grouped_s": timed_s(lambda: grouped(folder)),
        "text_s": timed_s(lambda: text_alone(folder)),
        "both_s": timed_s(lambda: write_reports(folder)),
    }
    print_result(
        import_s=import_s,
        **parts,
        memory_bytes=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024,
        table_bytes=(folder / PROFILE_FOLDER / f"{TASKS}.parquet").stat().st_size,
        text_bytes=(folder / SUMMARY_TEXT).stat().st_size,
        page_bytes=(folder / SUMMARY_HTML).stat().st_size,
    )


SIZES: Final = (10_000, 100_000)
MB: Final = 1e6
KB: Final = 1e3


def figures(*, quick: bool) -> list[Figure]:
    """Compare with what one would do by hand: pandas, by task name."""
    subjects = {str(tasks): Subject("profiling_report", (str(tasks), FOLDER)) for tasks in SIZES}
    results = take_turns(subjects, 2 if quick else 5)
    lines = [figure for tasks in SIZES for figure in _figures(tasks, results[str(tasks)])]
    import_s = min(best(each, "import_s") for each in results.values())
    return [
        *lines,
        Figure(what="importing what draws the page, once", measured=f"{import_s:.2f} s"),
    ]


def _figures(tasks: int, results: list[Result]) -> list[Figure]:
    by_hand_s = best(results, "grouped_s")
    text_s, both_s = best(results, "text_s"), best(results, "both_s")
    last = results[-1]
    table, page = (float(last[key]) / MB for key in ("table_bytes", "page_bytes"))
    return [
        Figure(
            what=f"{tasks:,} tasks summed up as text",
            measured=f"{text_s:.2f} s, {float(last['text_bytes']) / KB:.1f} kB",
            against=f"pandas, by task name: {by_hand_s:.3f} s",
            ratio=text_s / by_hand_s,
        ),
        Figure(
            what=f"{tasks:,} tasks summed up as text and as a page",
            measured=f"{both_s:.2f} s, {page:.1f} MB",
            against=f"their table: {table:.1f} MB",
            ratio=page / table,
            unit="x its size",
        ),
        Figure(
            what="the same, memory",
            measured=f"{best(results, 'memory_bytes') / MB:.0f} MB",
        ),
    ]


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
