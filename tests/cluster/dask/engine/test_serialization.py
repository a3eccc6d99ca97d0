"""Values sent between dask's processes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from batuta.cluster.dask.engine.serialization import SerializedValue, serialize

SIZES = [10, 40_000, 2_000_000]
"""Of arrays that are in the pickle, out of band, and mapped."""


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(allow_nan=False) | st.binary(),
        lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    )
)
def test_anything_that_can_be_pickled_is_loaded_unchanged(value: object) -> None:
    serialized = serialize(value)
    assert serialized.load() == value
    assert serialized.load_copy() == value


@pytest.mark.parametrize("size", SIZES)
def test_tiles_are_loaded_unchanged(size: int) -> None:
    tile = xr.Dataset({"z": ("x", np.arange(size, dtype=np.float32))}, attrs={"window": (1, 2)})
    xr.testing.assert_identical(serialize(tile).load(), tile)
    points = pd.DataFrame({"z": np.arange(size)})
    pd.testing.assert_frame_equal(serialize(points).load_copy(), points)


@pytest.mark.parametrize("size", SIZES)
def test_changing_a_loaded_copy_does_not_change_others(size: int) -> None:
    serialized = serialize([np.zeros(size), {"name": "before"}])
    values, names = serialized.load_copy()
    values += 1
    names["name"] = "after"
    others, other_names = serialized.load_copy()
    assert not others.any()
    assert other_names == {"name": "before"}
    assert values.all()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("size", SIZES)
def test_a_serialized_value_may_be_pickled_by_any_protocol(protocol: int, size: int) -> None:
    again = pickle.loads(pickle.dumps(serialize(np.arange(size)), protocol))  # noqa: S301 - made here
    np.testing.assert_array_equal(again.load(), np.arange(size))


def test_large_buffers_are_not_copied_to_be_serialized() -> None:
    values = np.arange(1_000_000)
    (buffer,) = serialize({"values": values}).buffers
    assert np.shares_memory(np.frombuffer(buffer, dtype=values.dtype), values)


def test_functions_that_cannot_be_imported_are_serialized_whole() -> None:
    assert serialize(lambda value: value + 1).load()(1) == 2


def test_the_size_of_a_serialized_value_includes_its_buffers() -> None:
    assert serialize(np.zeros(1_000_000)).nbytes > 8_000_000
    assert SerializedValue(b"body", (b"12345",)).nbytes == 9
