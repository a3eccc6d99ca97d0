"""The saving information that tiles carry, and the delayed objects of CarsDatasets."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from batuta.datasets.cars_dataset import CarsDataset

DATASET_KEY: Final = "cars_ds_id"
ROW_KEY: Final = "cars_ds_row"
COL_KEY: Final = "cars_ds_col"


def flatten_object(cars_ds_list: Sequence[CarsDataset], delayed_type: type) -> list[Any]:
    """List the delayed objects of CarsDatasets, dataset after dataset, row by row.

    Parameters
    ----------
    cars_ds_list : list of CarsDataset
        The datasets to search.
    delayed_type : type
        The cluster's `delayed_type`.
    """
    return [
        dataset[position]
        for dataset in cars_ds_list
        for position in dataset.positions()
        if dataset[position] is not None and isinstance(dataset[position], delayed_type)
    ]


def update_saving_infos(
    saving_info_left: Mapping[str, Any], row: int | None = None, col: int | None = None
) -> dict[str, Any]:
    """Return a copy of the saving information of a CarsDataset, for its tile at `row`, `col`."""
    position = {ROW_KEY: row, COL_KEY: col}
    return dict(saving_info_left) | {
        key: value for key, value in position.items() if value is not None
    }
