"""A wrong argument is refused in one line that names it, what was given and what is accepted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray as xr

from batuta.datasets import CarsDataset
from batuta.errors import ConfigurationError
from batuta.orchestrator import Orchestrator


def grid(dataset_type: str = "arrays") -> CarsDataset:
    dataset = CarsDataset(dataset_type, name="one")
    dataset.create_grid(4, 4, 4, 4)
    return dataset


CALLS: dict[str, Callable[[Any], Any]] = {
    "cars_ds: None given, a CarsDataset expected": lambda to: to.add_to_replace_lists(None),
    "cars_ds: 3 given, a CarsDataset expected": lambda to: to.add_to_compute_lists(3),
    "cars_ds: a Dataset given, a CarsDataset expected": lambda to: to.add_to_compute_lists(
        xr.Dataset()
    ),
    "cars_ds_name: 3 given, a string or None expected": lambda to: to.add_to_compute_lists(
        grid(), 3
    ),
    "cars_ds_list[1]: 3 given, a CarsDataset expected": lambda to: to.get_saving_infos([grid(), 3]),
    "cars_ds_list: 3 given, a list of CarsDatasets expected": lambda to: to.get_saving_infos(3),
    "cars_ds_list: a CarsDataset given, a list of CarsDatasets expected": lambda to: (
        to.get_saving_infos(grid())
    ),
    "new_dict: 3 given, a mapping expected": lambda to: to.update_out_info(3),
    "new_dict: a list given, a mapping expected": lambda to: to.update_index([1]),
    "new_dict: the key 1 given, a string expected": lambda to: to.update_index({1: {}}),
    "future_object: 3 given, a tile with its attributes expected": lambda to: to.get_data("x", 3),
    "tmp_dir: None given, a path expected": lambda to: to.add_to_clean(None),
    "file_name: 3 given, a path expected": lambda to: to.add_to_save_lists(3, "z", grid()),
    "tag: 3 given, a string expected": lambda to: to.add_to_save_lists("z.tif", 3, grid()),
    "func: 3 given, a function expected": lambda to: to.cluster.create_task(3),
    "func: a Dataset given, a function expected": lambda to: to.cluster.create_task(xr.Dataset()),
    "nodata: 'x' given, a number or None expected": lambda to: to.add_to_save_lists(
        "z.tif", "z", grid(), nodata="x"
    ),
}


@pytest.mark.parametrize("mode", ["sequential", "multiprocessing"])
@pytest.mark.parametrize("line", CALLS)
def test_a_wrong_argument_of_a_method_is_named(line: str, mode: str) -> None:
    with (
        Orchestrator({"mode": mode}, launch_worker=False) as orchestrator,
        pytest.raises(ConfigurationError) as caught,
    ):
        CALLS[line](orchestrator)
    assert caught.value.problems == (line,)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex64"])
def test_all_wrong_arguments_of_an_output_are_named_at_once(dtype: str) -> None:
    with Orchestrator({"mode": "sequential"}) as orchestrator:
        wrong: Any = orchestrator.add_to_save_lists
        with pytest.raises(ConfigurationError) as caught:
            wrong(3, None, grid(), dtype=dtype, nodata=True, cars_ds_name=4)
    assert caught.value.problems == (
        "cars_ds_name: 4 given, a string or None expected",
        "tag: None given, a string expected",
        "file_name: 3 given, a path expected",
        "nodata: True given, a number or None expected",
    )


def test_a_dataset_that_cannot_be_referred_to_weakly_is_refused() -> None:
    class Slotted:
        __slots__ = ("dataset_type", "final_function", "name", "overlaps", "shape", "tiling_grid")

        def __getitem__(self, position: tuple[int, int]) -> Any: ...

        def __setitem__(self, position: tuple[int, int], tile: Any) -> None: ...

    slotted: Any = Slotted()
    with (
        Orchestrator({"mode": "sequential"}) as orchestrator,
        pytest.raises(ConfigurationError, match="cars_ds: a Slotted given, which cannot be"),
    ):
        orchestrator.add_to_compute_lists(slotted)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"out_dir": 3}, "out_dir: 3 given, the path of a folder or None expected"),
        ({"out_json_path": 3}, "out_json_path: 3 given, the path of a file or None expected"),
        ({"observers": 3}, "observers: 3 given, a list of observers expected"),
        (
            {"observers": [3]},
            "observers[0]: 3 given, an object with a method on_event expected",
        ),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_wrong_argument_of_the_orchestrator_is_named(
    arguments: dict[str, Any], line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Orchestrator({"mode": "sequential"}, **arguments)
    assert caught.value.problems == (line,)


def test_an_output_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError) as caught:
        Orchestrator({"mode": "sequential"}, file, out_json_path=tmp_path)
    assert caught.value.problems == (
        f"out_dir: '{file}' given, which exists and is not a folder",
        f"out_json_path: '{tmp_path}' given, which exists and is not a file",
    )
    with pytest.raises(ConfigurationError, match=r"out_dir: '.*below' cannot be created: Not a"):
        Orchestrator({"mode": "sequential"}, file / "below")


def test_one_file_under_two_spellings_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Orchestrator({"mode": "sequential"}, launch_worker=False) as orchestrator:
        orchestrator.add_to_save_lists("real/a.tif", "z", grid())
        for other in ("real/../real/./a.tif", tmp_path / "real" / "a.tif", "link/a.tif"):
            with pytest.raises(ConfigurationError, match="already the output of another call"):
                orchestrator.add_to_save_lists(other, "z", grid())
        orchestrator.add_to_save_lists("real/b.tif", "z", grid())
