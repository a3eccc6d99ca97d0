"""The life of an output file, the same for every format."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batuta.datasets import ArrayFile, AssembledFile, Descriptor, TileError, Window, is_resumable
from tests.datasets import cases
from tests.datasets.cases import ALL, Case, contents

every_format = pytest.mark.parametrize("case", ALL, ids=[case.label for case in ALL])
arrays_only = pytest.mark.parametrize(
    "case",
    [case for case in ALL if case.dataset_type == "arrays"],
    ids=[case.label for case in ALL if case.dataset_type == "arrays"],
)


def shuffled(case: Case, seed: int) -> list[tuple[int, int]]:
    positions = case.positions()
    return [positions[index] for index in np.random.default_rng(seed).permutation(len(positions))]


@every_format
def test_it_keeps_to_the_protocol_of_descriptors(case: Case, tmp_path: Path) -> None:
    descriptor = case.open(tmp_path)
    assert isinstance(descriptor, Descriptor)
    descriptor.abandon()


@every_format
def test_the_order_of_the_tiles_changes_no_byte(case: Case, tmp_path: Path) -> None:
    expected = case.whole()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        descriptor = case.open(folder, first=shuffled(case, seed)[0])
        case.write(descriptor, shuffled(case, seed))
        descriptor.close()
        assert contents(folder) == expected


@every_format
def test_a_suspended_file_is_resumed_to_the_same_bytes(case: Case, tmp_path: Path) -> None:
    expected, folder = case.whole(), tmp_path
    positions = shuffled(case, 3)
    descriptor = case.open(folder)
    for start in range(0, len(positions), 3):
        case.write(descriptor, positions[start : start + 3])
        descriptor.suspend()
        assert is_resumable(folder / case.file_name, case.options)
        descriptor = case.open(folder, resume=True)
    descriptor.close()
    assert contents(folder) == expected


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    run = subprocess.run(
        [sys.executable, "-m", cases.__name__, str(folder)],
        check=False,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.returncode == 9, run.stderr
    return folder


@every_format
def test_what_was_checkpointed_survives_a_killed_process(case: Case, killed: Path) -> None:
    folder = killed / str(ALL.index(case))
    descriptor = case.open(folder, resume=True, first=None)
    case.write(descriptor, case.positions()[5:][::-1])
    descriptor.close()
    assert contents(folder) == case.whole()


@every_format
def test_a_checkpoint_syncs_every_file_and_folder(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    fsync: Callable[[int], None] = os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_mtime_ns

    monkeypatch.setattr(os, "fsync", noting)
    descriptor = case.open(tmp_path)
    for start in (0, 4):
        case.write(descriptor, case.positions()[start : start + 4])
        descriptor.checkpoint()
        for path in (tmp_path, *tmp_path.rglob("*")):
            status = path.stat()
            assert status.st_ino in synced, path
            assert path.is_dir() or synced[status.st_ino] == status.st_mtime_ns, path
    descriptor.abandon()


@every_format
def test_abandoning_leaves_the_earlier_file_as_it_was(case: Case, tmp_path: Path) -> None:
    case.write_whole(tmp_path)
    before = contents(tmp_path)
    descriptor = case.open(tmp_path)
    case.write(descriptor, case.positions()[:3])
    descriptor.checkpoint()
    descriptor.abandon()
    if case.file_name in {"plain.tif", "tagged.tif"}:  # written in place
        assert set(contents(tmp_path)) == set(before)
    else:
        assert contents(tmp_path) == before


@every_format
def test_a_new_file_replaces_the_earlier_one(case: Case, tmp_path: Path) -> None:
    for _ in range(2):
        case.write_whole(tmp_path)
        assert contents(tmp_path) == case.whole()


@every_format
def test_closing_twice_is_closing_once(case: Case, tmp_path: Path) -> None:
    descriptor = case.write_whole(tmp_path)
    before = contents(tmp_path)
    descriptor.close()
    assert contents(tmp_path) == before


@every_format
def test_its_outputs_are_all_that_a_closed_file_leaves(case: Case, tmp_path: Path) -> None:
    descriptor = case.write_whole(tmp_path)
    assert sorted(descriptor.outputs) == sorted(tmp_path.iterdir())


@every_format
def test_a_file_that_is_kept_open_can_be_made_and_added_to(case: Case, tmp_path: Path) -> None:
    expected, folder = case.whole(), tmp_path
    descriptor = case.open(folder)
    case.write(descriptor, case.positions()[:-2])
    descriptor.close(keep=True)
    assert all(each.exists() for each in descriptor.outputs)
    assert descriptor.outputs
    again = case.open(folder, resume=True)
    case.write(again, case.positions()[-2:])
    again.close(keep=True)
    again.abandon()
    assert contents(folder) == expected


@every_format
def test_a_tile_written_twice_is_the_later_one(case: Case, tmp_path: Path) -> None:
    expected, folder = case.whole(), tmp_path
    first, *others = case.positions()
    descriptor = case.open(folder)
    wrong = case.tile(*first)
    if case.dataset_type == "arrays":
        wrong["z"][:] = 1
    elif case.dataset_type == "dict":
        wrong["mean"] = 1
    else:
        wrong = case.tile(1, 2)
    case.dataset().run_save(wrong, "", tag="z", descriptor=descriptor, position=first)
    descriptor.checkpoint()
    case.write(descriptor, [first, *others])
    descriptor.close()
    assert contents(folder) == expected


@every_format
def test_resuming_without_an_earlier_run_is_refused(case: Case, tmp_path: Path) -> None:
    assert not is_resumable(tmp_path / case.file_name, case.options)
    with pytest.raises(TileError, match=f"{case.file_name}: nothing to resume from an earlier run"):
        case.open(tmp_path, resume=True)
    assert contents(tmp_path) == {}


@arrays_only
def test_another_raster_is_not_resumed(case: Case, tmp_path: Path) -> None:
    case.open(tmp_path).suspend()
    dataset, tile = case.dataset(), case.tile(0, 0)
    tile.attrs["profile"] = dict(tile.attrs["profile"], height=cases.HEIGHT - 1)

    def reopen(**changes: Any) -> None:
        given: dict[str, Any] = {
            "tag": "z",
            "dtype": case.dtype,
            "nodata": -9999,
            "options": case.options,
        }
        if case.options.nbits:
            given["nodata"] = 99
        dataset.generate_descriptor(tile, tmp_path / case.file_name, **given | changes, resume=True)

    with pytest.raises(TileError, match=r"another raster, with height 300 instead of 299$"):
        reopen()
    with pytest.raises(TileError, match=r"300 instead of 299, nodata .* instead of 7(\.0)?$"):
        reopen(nodata=7)


@arrays_only
def test_pixels_are_read_back_while_the_file_is_written(case: Case, tmp_path: Path) -> None:
    descriptor = case.open(tmp_path)
    assert isinstance(descriptor, ArrayFile)
    case.write(descriptor, [(0, 0)])
    tile = np.nan_to_num(case.tile(0, 0)["z"].values, nan=99)
    for _ in range(2):
        found = np.nan_to_num(descriptor.read(Window(5, 20, 3, 30)), nan=99)
        if case.dtype == "float32":
            np.testing.assert_array_equal(found, tile[5:20, 3:30])
        else:
            np.testing.assert_array_equal(found, np.rint(tile[5:20, 3:30]))
        descriptor.checkpoint()
    descriptor.abandon()


@every_format
def test_a_tile_of_another_type_is_refused_and_leaves_no_trace(case: Case, tmp_path: Path) -> None:
    expected, folder = case.whole(), tmp_path
    descriptor = case.open(folder)
    with pytest.raises(TileError, match="expected"):
        case.dataset().run_save([], "", tag="z", descriptor=descriptor, position=(0, 0))
    case.write(descriptor, case.positions())
    descriptor.close()
    assert contents(folder) == expected


def test_an_assembled_file_without_any_tile_is_not_created(tmp_path: Path) -> None:
    for case in ALL:
        if case.dataset_type != "arrays":
            descriptor = case.open(tmp_path)
            assert isinstance(descriptor, AssembledFile)
            descriptor.close()
            assert descriptor.outputs == ()
    assert contents(tmp_path) == {}
