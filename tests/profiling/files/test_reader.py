"""Reading profiles of runs that ended or were killed, and refusing anything else."""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batuta.errors import ConfigurationError
from batuta.profiling.capture.layout import PROFILE_FOLDER
from batuta.profiling.capture.records import LeakRow
from batuta.profiling.files.reader import join_tiles, read_final_tables, read_profile
from batuta.profiling.files.run_info import RunState
from batuta.profiling.files.schemas import PROFILE_SCHEMA, place_table
from tests.profiling.profile_builder import (
    BEGIN_S,
    ProfileBuilder,
    TaskSpec,
    make_run,
    simulate_run,
)

CHAINS = [
    TaskSpec(name="read"),
    TaskSpec(name="match", after=[0], tile=("disparity", 0, 0)),
    TaskSpec(name="read"),
    TaskSpec(name="match", after=[2], tile=("disparity", 0, 1)),
]


def tiles_of(joined: pa.Table) -> list[tuple[str, int, int] | None]:
    return [
        None if row["dataset"] is None else (row["dataset"], row["row"], row["col"])
        for row in joined.to_pylist()
    ]


@pytest.mark.parametrize("inside", ["", PROFILE_FOLDER])
def test_a_profile_is_read_from_the_output_folder_or_from_its_own(
    tmp_path: Path, inside: str
) -> None:
    simulate_run(CHAINS, workers=1).write(tmp_path)
    profile = read_profile(tmp_path / inside)
    assert profile.folder == tmp_path
    assert profile.run.state is RunState.DONE
    assert profile.tasks.schema.equals(PROFILE_SCHEMA)
    assert profile.tasks["name"].to_pylist() == ["read", "match", "read", "match"]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_of_a_killed_run_give_the_same_table_as_its_end_would(
    tmp_path: Path, parts: int
) -> None:
    builder = simulate_run(CHAINS, workers=1)
    ended = read_profile(builder.write(tmp_path / "ended"))
    killed = read_profile(builder.write(tmp_path / "killed", parts=parts))
    assert killed.tasks.equals(ended.tasks)


def test_a_run_killed_before_its_first_task_ended_has_an_empty_profile(tmp_path: Path) -> None:
    ProfileBuilder(make_run(state="running", ended_s=None)).write(tmp_path, parts=1)
    profile = read_profile(tmp_path)
    assert profile.tasks.num_rows == 0
    assert profile.loops.num_rows == 0


def test_a_task_gets_the_tile_that_it_leads_to() -> None:
    builder = simulate_run(CHAINS, workers=1)
    joined = join_tiles(builder.task_table(), builder.place_table())
    assert tiles_of(joined) == [("disparity", 0, 0)] * 2 + [("disparity", 0, 1)] * 2


def test_every_task_of_a_chain_gets_the_tile_at_its_end() -> None:
    works = [
        TaskSpec(),
        TaskSpec(after=[0]),
        TaskSpec(after=[1]),
        TaskSpec(after=[2], tile=("dsm", 4, 2)),
    ]
    builder = simulate_run(works)
    joined = join_tiles(builder.task_table(), builder.place_table())
    assert tiles_of(joined) == [("dsm", 4, 2)] * 4


def test_a_shared_task_gets_the_first_tile_in_the_order_of_places() -> None:
    shared = [
        TaskSpec(name="model"),
        TaskSpec(after=[0], tile=("dsm", 0, 0)),
        TaskSpec(after=[0], tile=("dsm", 0, 1)),
    ]
    builder = simulate_run(shared)
    builder.places.reverse()
    joined = join_tiles(builder.task_table(), builder.place_table())
    assert tiles_of(joined)[0] == ("dsm", 0, 1)


def test_a_task_that_leads_to_a_tile_through_another_counts_where_it_is_nearest() -> None:
    works = [
        TaskSpec(),
        TaskSpec(after=[0], tile=("matches", 0, 0)),
        TaskSpec(after=[1], tile=("dsm", 0, 0)),
    ]
    builder = simulate_run(works, workers=1)
    builder.places.reverse()
    joined = join_tiles(builder.task_table(), builder.place_table())
    assert tiles_of(joined) == [("matches", 0, 0), ("matches", 0, 0), ("dsm", 0, 0)]


def test_every_attempt_at_a_task_has_its_tile_and_rows_keep_their_order() -> None:
    works = [
        TaskSpec(outcomes=["failed", "done"], tile=("dsm", 2, 3)),
        TaskSpec(tile=("dsm", 0, 0)),
    ]
    builder = simulate_run(works, workers=1)
    joined = join_tiles(builder.task_table(), builder.place_table())
    assert tiles_of(joined) == [("dsm", 2, 3), ("dsm", 2, 3), ("dsm", 0, 0)]
    assert joined["attempt"].to_pylist() == [1, 2, 1]


def test_a_task_whose_tile_is_not_known_yet_has_none() -> None:
    builder = simulate_run([TaskSpec(), TaskSpec(after=[0])])
    places = place_table([(7, "dsm", 0, 0)])
    assert tiles_of(join_tiles(builder.task_table(), places)) == [None, None]


def test_dependencies_on_tasks_that_did_not_run_are_ignored() -> None:
    builder = ProfileBuilder()
    builder.add(TaskSpec(after=[3, 40], tile=("dsm", 0, 0)), task=7)
    builder.add(TaskSpec(), task=3)
    assert tiles_of(join_tiles(builder.task_table(), builder.place_table())) == [("dsm", 0, 0)] * 2


def test_a_slice_of_a_table_is_joined_as_any_other() -> None:
    builder = simulate_run(CHAINS, workers=1)
    joined = join_tiles(builder.task_table().slice(2), builder.place_table())
    assert tiles_of(joined) == [("disparity", 0, 1)] * 2


def test_memory_of_workers_is_read_within_the_run_and_up_to_a_broken_last_row(
    tmp_path: Path,
) -> None:
    simulate_run(CHAINS, ended_s=BEGIN_S + 10).write(tmp_path)
    header = (
        "time,worker,host,pid,tasks_running,tasks_waiting,results_held,"
        "results_bytes,spilled_bytes,process_bytes"
    )
    lines = [
        "2027-01-15T07:59:00.000+00:00,w,north,7,1,0,0,0,0,11",  # of an earlier run
        "2027-01-15T08:00:01.500+00:00,w,north,7,1,0,0,0,0,22",
        "2027-01-15T08:00:02",
    ]
    (tmp_path / "workers_memory.csv").write_text("\n".join([header, *lines]))
    memory = read_profile(tmp_path).memory
    assert memory["process_bytes"].tolist() == [22]
    assert memory["time_s"].tolist() == [BEGIN_S + 1.5]


@pytest.mark.parametrize("content", ["", "time,worker,host,pid,process_bytes\n"])
def test_a_memory_file_without_rows_gives_an_empty_table(tmp_path: Path, content: str) -> None:
    simulate_run(CHAINS, workers=1).write(tmp_path)
    (tmp_path / "workers_memory.csv").write_text(content)
    assert len(read_profile(tmp_path).memory) == 0


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere: no such folder"):
        read_profile(tmp_path / "nowhere")


def test_a_folder_without_a_profile_is_named_with_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no profile found .*`profiling`"):
        read_profile(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("run.json", "{"),
        ("run.json", '{"state": "done"}'),
        ("tasks.parquet", "PAR1 but no table"),
        ("tasks.parquet", ""),
    ],
)
def test_a_garbled_file_is_one_line_that_names_it(tmp_path: Path, file: str, content: str) -> None:
    path = simulate_run(CHAINS, workers=1).write(tmp_path) / PROFILE_FOLDER / file
    path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        read_profile(tmp_path)
    (line,) = str(caught.value).splitlines()
    assert str(path) in line


def test_a_truncated_table_is_named(tmp_path: Path) -> None:
    path = simulate_run(CHAINS * 50).write(tmp_path) / PROFILE_FOLDER / "tasks.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + whole[-8:])
    with pytest.raises(ConfigurationError, match=r"tasks\.parquet: not a valid table of a profile"):
        read_profile(tmp_path)


def test_a_table_without_a_column_is_named(tmp_path: Path) -> None:
    path = simulate_run(CHAINS, workers=1).write(tmp_path) / PROFILE_FOLDER / "tasks.parquet"
    pq.write_table(pq.read_table(path).drop(["wall_s"]), path)
    with pytest.raises(ConfigurationError, match=r"tasks\.parquet: not a valid table of a profile"):
        read_profile(tmp_path)


def test_a_tile_outside_every_possible_grid_is_refused(tmp_path: Path) -> None:
    simulate_run([TaskSpec(tile=("dsm", -1, 0))]).write(tmp_path)
    with pytest.raises(ConfigurationError, match="garbled"):
        read_profile(tmp_path)


def test_a_garbled_memory_file_is_named(tmp_path: Path) -> None:
    simulate_run(CHAINS, workers=1).write(tmp_path)
    (tmp_path / "workers_memory.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigurationError, match=r"workers_memory\.csv"):
        read_profile(tmp_path)


def test_parts_replaced_by_the_final_table_while_they_are_read_are_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = simulate_run(CHAINS, workers=1)
    builder.write(tmp_path / "ended")
    builder.write(tmp_path, parts=2)
    opened = pq.ParquetFile

    def ended_meanwhile(path: Path) -> pq.ParquetFile:
        if path.name == "tasks-000002.parquet":
            shutil.copy(tmp_path / "ended" / PROFILE_FOLDER / "tasks.parquet", path.parent)
            path.unlink()
        return opened(path)

    monkeypatch.setattr(pq, "ParquetFile", ended_meanwhile)
    assert read_profile(tmp_path).tasks.num_rows == len(CHAINS)


def test_the_parts_of_each_table_are_joined(tmp_path: Path) -> None:
    builder = simulate_run(CHAINS, workers=1)
    builder.write(tmp_path, parts=3)
    tables = read_final_tables(tmp_path / PROFILE_FOLDER)
    assert list(tables) == ["tasks", "places"]
    assert tables["tasks"].equals(join_tiles(builder.task_table(), builder.place_table()))
    assert tables["places"].equals(builder.place_table())


def test_repetitions_and_leaking_lines_are_read_where_there_are_some(tmp_path: Path) -> None:
    builder = simulate_run(CHAINS, workers=1)
    builder.add_loops("match", [1, 2, 3])
    builder.leaks.append(LeakRow(0, "match", "process 1", "match.py", 7, "cost", 1000))
    profile = builder.read(tmp_path)
    assert profile.loops["held_bytes"].to_pylist() == [1, 2, 3]
    assert profile.leaks["file"].to_pylist() == ["match.py"]
