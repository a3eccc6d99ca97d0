"""Values on their way between dask's processes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from batuta.cluster.dask.engine.serialization import Pack, packed

SIZES = [10, 40_000, 2_000_000]
"""Of arrays that travel in the pickle, beside it, and mapped."""


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(allow_nan=False) | st.binary(),
        lambda inside: st.lists(inside) | st.dictionaries(st.text(), inside),
    )
)
def test_whatever_can_be_pickled_comes_back_as_it_was(value: object) -> None:
    pack = packed(value)
    assert pack.open() == value
    assert pack.open_own() == value


@pytest.mark.parametrize("size", SIZES)
def test_tiles_come_back_as_they_were(size: int) -> None:
    tile = xr.Dataset({"z": ("x", np.arange(size, dtype=np.float32))}, attrs={"window": (1, 2)})
    xr.testing.assert_identical(packed(tile).open(), tile)
    points = pd.DataFrame({"z": np.arange(size)})
    pd.testing.assert_frame_equal(packed(points).open_own(), points)


@pytest.mark.parametrize("size", SIZES)
def test_changing_a_value_of_one_s_own_changes_it_for_nobody_else(size: int) -> None:
    pack = packed([np.zeros(size), {"name": "before"}])
    values, names = pack.open_own()
    values += 1
    names["name"] = "after"
    others, other_names = pack.open_own()
    assert not others.any()
    assert other_names == {"name": "before"}
    assert values.all()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("size", SIZES)
def test_a_pack_may_be_pickled_by_any_protocol(protocol: int, size: int) -> None:
    again = pickle.loads(pickle.dumps(packed(np.arange(size)), protocol))  # noqa: S301 - made here
    np.testing.assert_array_equal(again.open(), np.arange(size))


def test_large_buffers_are_not_copied_to_be_packed() -> None:
    values = np.arange(1_000_000)
    (buffer,) = packed({"values": values}).buffers
    assert np.shares_memory(np.frombuffer(buffer, dtype=values.dtype), values)


def test_functions_that_have_no_name_to_import_them_by_travel_whole() -> None:
    assert packed(lambda value: value + 1).open()(1) == 2


def test_a_pack_knows_how_much_travels() -> None:
    assert packed(np.zeros(1_000_000)).nbytes > 8_000_000
    assert Pack(b"body", (b"12345",)).nbytes == 9
