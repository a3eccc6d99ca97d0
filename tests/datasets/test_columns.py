"""Columns of points whose tiles differ in type: one exact type, or a failure of the tile."""

import datetime as dt
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import geopandas
import laspy
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batuta.datasets import CarsDataset, TileError

ID = 4295806720038654545
"""A whole number that no float64 holds."""
NAN = float("nan")

TEXT = pa.Table.from_pandas(pd.DataFrame({"q": ["a"]})).schema.field("q").type
"""The type of texts, which depends on the version of pandas."""

POINTS_FORMATS = [".csv", ".parquet", ".geoparquet", ".las", ".laz"]
TEXT_FORMATS = [".csv", ".parquet", ".geoparquet"]


def tile(values: Any, dtype: Any = None) -> pd.DataFrame:
    """Make points with a column ``q``; without it, if `values` is an int: that many points."""
    count = values if isinstance(values, int) else len(values)
    frame = pd.DataFrame({axis: np.arange(count) + 0.5 for axis in "xyz"})
    if not isinstance(values, int):
        frame["q"] = pd.Series(values, dtype=dtype)
    return frame


def save(path: Path, tiles: list[pd.DataFrame], order: Any = None, stop_at: int = -1) -> None:
    """Save a row of tiles in some order; suspended and resumed before the one at `stop_at`."""
    dataset = CarsDataset("points")
    dataset.create_grid(len(tiles), 1, 1, 1)
    descriptor = dataset.generate_descriptor(None, path)
    try:
        for rank, col in enumerate(range(len(tiles)) if order is None else order):
            if rank == stop_at:
                descriptor.suspend()
                descriptor = dataset.generate_descriptor(None, path, resume=True)
            dataset.run_save(tiles[col], path, descriptor=descriptor, position=(0, col))
        descriptor.close()
    finally:
        descriptor.abandon()


def read(path: Path) -> list[Any]:
    """Read column ``q``, None where it has no value."""
    if path.suffix == ".csv":
        found = pd.read_csv(path, dtype={"q": object}, keep_default_na=False)["q"]
        return [value or None for value in found]
    if path.suffix in {".las", ".laz"}:
        las = laspy.read(path)["q"]
        return [None if value != value else value for value in np.asarray(las).tolist()]  # noqa: PLR0124 - NaN
    column: list[Any] = pq.read_table(path)["q"].to_pylist()
    return column


IDS = tile([ID, ID + 1])
NO_TYPE = {
    "no points, floats": tile([], "float64"),
    "no points, objects": tile([], object),
    "no points, texts": tile([], "str"),
    "no column, no points": pd.DataFrame(),
}
NO_VALUE = {
    "NaT, of durations": tile([pd.NaT, pd.NaT], "timedelta64[ns]"),
    "NaN": tile([NAN, NAN]),
    "None": tile([None, None], object),
    "NA": tile([pd.NA, pd.NA], "Int64"),
    "NaT": tile([pd.NaT, pd.NaT], "datetime64[ns]"),
    "no column": tile(2),
}


@pytest.mark.parametrize("suffix", POINTS_FORMATS)
@pytest.mark.parametrize("other", NO_TYPE.values(), ids=NO_TYPE)
def test_a_column_without_points_has_no_type(
    other: pd.DataFrame, suffix: str, tmp_path: Path
) -> None:
    for tiles in ([IDS, other], [other, IDS]):
        save(tmp_path / f"a{suffix}", tiles)
        found = read(tmp_path / f"a{suffix}")
        assert found == ([str(ID), str(ID + 1)] if suffix == ".csv" else [ID, ID + 1])


@pytest.mark.parametrize("suffix", TEXT_FORMATS)
@pytest.mark.parametrize("other", NO_VALUE.values(), ids=NO_VALUE)
def test_whole_numbers_stay_whole_where_others_have_no_value(
    other: pd.DataFrame, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"a{suffix}"
    save(path, [IDS, other])
    kept: list[Any] = [ID, ID + 1]
    assert read(path) == [*(map(str, kept) if suffix == ".csv" else kept), None, None]
    if suffix == ".csv":
        assert pd.read_csv(path, dtype={"q": "Int64"})["q"].dropna().tolist() == kept
    else:
        reader = pd.read_parquet if suffix == ".parquet" else geopandas.read_parquet
        assert reader(path)["q"].dtype == "Int64"
        assert reader(path)["q"].dropna().tolist() == kept


@pytest.mark.parametrize(
    "kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
@pytest.mark.parametrize("suffix", POINTS_FORMATS)
def test_the_limits_of_every_integer_type_are_exact(suffix: str, kind: str, tmp_path: Path) -> None:
    limits = [int(np.iinfo(kind).min), int(np.iinfo(kind).max)]
    save(tmp_path / f"a{suffix}", [tile(limits, kind), tile(0)])
    assert [int(each) for each in read(tmp_path / f"a{suffix}")] == limits


COMMON: dict[str, tuple[list[pd.DataFrame], Any]] = {
    "short and long integers": ([tile([1], "int8"), tile([2**40])], pa.int64()),
    "signed and unsigned": ([tile([-1], "int8"), tile([200], "uint8")], pa.int16()),
    "uint64 that fits": ([tile([-1]), tile([2**63 - 1], "uint64")], pa.int64()),
    "uint64 that does not": ([tile([1]), tile([2**64 - 1], "uint64")], pa.uint64()),
    "integers and floats that are whole": ([tile([ID]), tile([2.0, NAN])], pa.int64()),
    "short integers and large floats": ([tile([1], "int8"), tile([2.0**40])], pa.int64()),
    "integers and fractions": ([tile([2**53]), tile([0.5])], pa.float64()),
    "short and long floats": ([tile([0.5], "float32"), tile([0.1])], pa.float64()),
    "integers and NaN": ([tile([1], "int16"), tile([NAN])], pa.int16()),
    "truths and NaN": ([tile([True, False]), tile([NAN])], pa.bool_()),
    "truths and NaT": ([tile([True]), tile([pd.NaT], "datetime64[ns]")], pa.bool_()),
    "truths and None": ([tile([True, None], object), tile([False])], pa.bool_()),
    "floats alone without values": ([tile([NAN]), tile([], "float64")], pa.float64()),
    "no types alone": ([tile([NAN]), tile([], "datetime64[ns]")], pa.null()),
    "texts and None": ([tile(["a"]), tile([None], object)], TEXT),
    "categories": (
        [tile(pd.Categorical(["a"])), tile(pd.Categorical(["b", None]))],
        pa.dictionary(pa.int32(), pa.string()),
    ),
    "categories and texts": (
        [tile(pd.Categorical(["a"])), tile(["b"])],
        TEXT,
    ),
    "seconds and nanoseconds": (
        [
            tile(["2026-01-01"], "datetime64[s]"),
            tile(["2026-01-01T00:00:00.000000001"], "datetime64[ns]"),
        ],
        pa.timestamp("ns"),
    ),
    "durations": (
        [tile([1], "timedelta64[s]"), tile([1], "timedelta64[ns]")],
        pa.duration("ns"),
    ),
    "decimals": (
        [tile([Decimal("1.5")], object), tile([Decimal("10.25")], object)],
        pa.decimal128(4, 2),
    ),
    "lists, one of them empty": ([tile([[1, 2], []]), tile([[]])], pa.list_(pa.int64())),
    "records, one with null": (
        [tile([{"a": 1}]), tile([{"a": None}])],
        pa.struct([("a", pa.int64())]),
    ),
}


@pytest.mark.parametrize(("tiles", "kind"), COMMON.values(), ids=COMMON)
def test_tiles_that_differ_have_the_type_that_holds_both_exactly(
    tiles: list[pd.DataFrame], kind: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    save(path, tiles)
    assert pq.read_schema(path).field("q").type == kind
    # Not compared by pandas, which compares in floats.
    given = pd.concat([each["q"].astype(object) for each in tiles], ignore_index=True)
    known = given.notna() if kind != pa.list_(pa.int64()) else given.index >= 0
    found = pd.Series(pq.read_table(path)["q"].to_pandas(integer_object_nulls=True), dtype=object)
    for one, other in zip(given[known], found[known], strict=True):
        if isinstance(one, dict):
            assert {key: other.get(key) for key in one} == one
        else:
            assert list(one) == list(other) if isinstance(one, list) else one == other


CONFLICTS: dict[str, tuple[pd.DataFrame, pd.DataFrame, str, str]] = {
    "integers, texts": (tile([1]), tile(["a"]), "int64", "text"),
    "floats, texts": (tile([0.5]), tile(["a"]), "float64", "text"),
    "truths, integers": (tile([True]), tile([1]), "bool", "int64"),
    "dates, texts": (tile([dt.date(2026, 1, 1)]), tile(["a"]), "date32[day]", "text"),
    "with and without time zone": (
        tile(["2026-01-01"], "datetime64[ns, UTC]"),
        tile(["2026-01-01"], "datetime64[ns]"),
        "timestamp[ns, tz=UTC]",
        "timestamp[ns]",
    ),
    "ids, fractions": (tile([ID]), tile([0.5]), "int64", "float64"),
    "ids, floats too large to be exact": (tile([ID]), tile([1e17]), "int64", "float64"),
    "negative, beyond int64": (tile([-1]), tile([2**64 - 1], "uint64"), "int64", "uint64"),
    "far dates, nanoseconds": (
        tile(["9999-01-01"], "datetime64[s]"),
        tile(["2026-01-01T00:00:00.000000001"], "datetime64[ns]"),
        "timestamp[s]",
        "timestamp[ns]",
    ),
    "lists, numbers": (tile([[1]]), tile([1]), "list<item: int64>", "int64"),
    "records of other keys": (
        tile([{"a": 1}]), tile([{"b": 1}]), "struct<a: int64>", "struct<b: int64>",
    ),
    "lists of numbers, of texts": (
        tile([[1]]), tile([["a"]]), "list<item: int64>", "list<item: string>",
    ),
}  # fmt: skip


@pytest.mark.parametrize("resume", [False, True], ids=["", "resume"])
@pytest.mark.parametrize("by_grid", [True, False], ids=["in order", "reversed"])
@pytest.mark.parametrize(("one", "other", "kind", "kind_2"), CONFLICTS.values(), ids=CONFLICTS)
def test_a_conflict_is_a_failure_of_the_tile_that_brings_it(
    one: pd.DataFrame,
    other: pd.DataFrame,
    kind: str,
    kind_2: str,
    by_grid: bool,
    resume: bool,
    tmp_path: Path,
) -> None:
    if not by_grid:
        one, other, kind, kind_2 = other, one, kind_2, kind
    path = tmp_path / "a.parquet"
    dataset = CarsDataset("points")
    dataset.create_grid(4, 1, 1, 1)
    descriptor = dataset.generate_descriptor(None, path)
    dataset.run_save(one, path, descriptor=descriptor, position=(0, 2))
    if resume:
        descriptor.suspend()
        descriptor = dataset.generate_descriptor(None, path, resume=True)
    with pytest.raises(TileError) as caught:
        dataset.run_save(other, path, descriptor=descriptor, position=(0, 1))
    names = (kind, kind.replace("[s]", "[ms]").replace("<item", "<element"))  # as Parquet has them
    starts = tuple(f"a.parquet: q: {kind_2} given, {each} in tile [0, 2]" for each in names)
    assert str(caught.value).startswith(starts)
    dataset.run_save(one, path, descriptor=descriptor, position=(0, 0))
    # A tile that is written again is compared with the others alone.
    dataset.run_save(tile(1), path, descriptor=descriptor, position=(0, 0))
    dataset.run_save(tile(1), path, descriptor=descriptor, position=(0, 2))
    dataset.run_save(other, path, descriptor=descriptor, position=(0, 3))
    descriptor.close()
    assert pq.read_metadata(path).num_rows == 3


@pytest.mark.parametrize("suffix", POINTS_FORMATS)
def test_the_order_of_the_tiles_and_a_suspension_change_no_byte(
    suffix: str, tmp_path: Path
) -> None:
    tiles = [tile([1.0, NAN]), tile([], object), tile([2**40, 3]), tile([7], "uint8")]
    if suffix in TEXT_FORMATS:
        labels: list[Any] = [["a", None], [], ["b", "c"], ["a"]]
        for each, texts in zip(tiles, labels, strict=True):
            each["t"] = pd.Categorical(texts)
            each["u"] = pd.Series(["2026-01-01"] * len(each), dtype="datetime64[s]")
    path = tmp_path / f"a{suffix}"
    contents = set()
    for rank, order in enumerate(permutations(range(4))):
        save(path, tiles, order, stop_at=rank % 4)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_parts_without_the_facts_of_their_columns_are_read_for_them(tmp_path: Path) -> None:
    dataset = CarsDataset("points")
    dataset.create_grid(2, 1, 1, 1)
    path = tmp_path / "a.parquet"
    descriptor = dataset.generate_descriptor(None, path)
    dataset.run_save(IDS, path, descriptor=descriptor, position=(0, 0))
    descriptor.suspend()
    (part,) = (tmp_path / ".a.parquet.parts").iterdir()
    pq.write_table(pq.read_table(part).replace_schema_metadata({}), part)
    descriptor = dataset.generate_descriptor(None, path, resume=True)
    with pytest.raises(TileError, match=r"q: float64 given, int64 in tile \[0, 0\]"):
        dataset.run_save(tile([0.5]), path, descriptor=descriptor, position=(0, 1))
    dataset.run_save(tile([5.0]), path, descriptor=descriptor, position=(0, 1))
    descriptor.close()
    assert read(path) == [ID, ID + 1, 5]


def test_parts_that_do_not_go_together_are_not_resumed(tmp_path: Path) -> None:
    dataset = CarsDataset("points")
    dataset.create_grid(2, 1, 1, 1)
    path = tmp_path / "a.csv"
    descriptor = dataset.generate_descriptor(None, path)
    for col in range(2):
        dataset.run_save(tile([1]), path, descriptor=descriptor, position=(0, col))
    descriptor.suspend()
    # As earlier versions left them.
    second = sorted((tmp_path / ".a.csv.parts").iterdir())[1]
    pq.write_table(pa.table({"q": ["text"]}), second)
    with pytest.raises(TileError, match=r"^a\.csv: cannot resume: q: text given, int64 in tile"):
        dataset.generate_descriptor(None, path, resume=True)


@pytest.mark.parametrize("other", ["NaN", "None", "NA", "no column"])
def test_las_has_nan_for_missing_whole_numbers_as_far_as_floats_are_exact(
    other: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.laz"
    save(path, [tile([2**53, -(2**53)]), NO_VALUE[other]])
    assert read(path) == [2**53, -(2**53), None, None]
    for tiles in ([IDS, NO_VALUE[other]], [NO_VALUE[other], IDS]):
        with pytest.raises(TileError, match=r"^b\.laz: q: missing for some points, and a whole"):
            save(tmp_path / "b.laz", tiles)
    with pytest.raises(TileError, match=r"^b\.laz: q: missing for some points"):
        save(tmp_path / "b.laz", [tile([ID, None], "Int64")])


def test_columns_that_are_one_dimension_of_las_only_together_are_refused_with_the_tile(
    tmp_path: Path,
) -> None:
    tiles = [tile(1).assign(Intensity=1), tile(1).assign(intensity=1)]
    with pytest.raises(TileError, match=r"^a\.laz: Intensity and intensity: both are intensity"):
        save(tmp_path / "a.laz", tiles)


def test_more_columns_than_las_describes_are_refused_with_the_tile(tmp_path: Path) -> None:
    many = [
        pd.DataFrame({name: [1.5] for name in (*"xyz", *(f"{part}{n}" for n in range(171)))})
        for part in "ab"
    ]
    save(tmp_path / "a.laz", [many[0], many[1].drop(columns="b170")])
    with pytest.raises(TileError, match=r"^b\.laz: 342 columns beside .* takes 341$"):
        save(tmp_path / "b.laz", many)


def test_names_that_las_keeps_for_itself_are_refused_with_the_tile(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"^a\.laz: q, bit_fields: LAS does not take columns of"):
        save(tmp_path / "a.laz", [tile(1), tile([1]).assign(bit_fields=1)])


def test_gps_times_that_change_in_a_float_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"gps_time: values from .* holds whole numbers of at most"):
        save(tmp_path / "a.laz", [tile(1).assign(gps_time=ID)])


def test_an_infinite_value_is_not_made_finite(tmp_path: Path) -> None:
    save(tmp_path / "a.laz", [tile(1).assign(gps_time=np.inf)])
    assert laspy.read(tmp_path / "a.laz")["gps_time"].tolist() == [np.inf]
    with pytest.raises(TileError, match=r"intensity: values from inf to inf given"):
        save(tmp_path / "b.laz", [tile(1).assign(intensity=np.inf)])


@pytest.mark.parametrize("suffix", [".las", ".laz", ".geoparquet"])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_coordinates_that_are_texts_are_refused_with_the_tile(
    axis: str, suffix: str, tmp_path: Path
) -> None:
    texts = tile(2)
    texts[axis] = ["1", "2"]
    for tiles in ([tile(2), texts], [texts, tile(2)]):
        with pytest.raises(TileError, match=rf"^a\{suffix}: {axis}: a column of \w*string"):
            save(tmp_path / f"a{suffix}", tiles)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("missing", [NAN, None])
def test_points_without_a_coordinate_have_no_geometry(
    missing: float | None, axis: str, tmp_path: Path
) -> None:
    some, all_of_them = tile(2), tile(2)
    some.loc[0, axis] = NAN
    all_of_them[axis] = [missing] * 2
    path = tmp_path / "a.geoparquet"
    for tiles in ([some, all_of_them], [all_of_them, some]):
        save(path, tiles)
        found = geopandas.read_parquet(path)
        known = found[axis].notna()
        assert known.sum() == 1
        assert found.geometry.notna().tolist() == known.tolist()
        assert found.geometry[known].iloc[0].x == found.loc[known, "x"].iloc[0]


@pytest.mark.parametrize(
    "values",
    [[[1, 2]], [{"a": 1}], [b"a"], pd.Series([b"a"], dtype=pd.ArrowDtype(pa.binary(1)))],
    ids=["list", "record", "bytes", "one byte"],
)
def test_what_has_no_text_is_refused_by_csv(values: Any, tmp_path: Path) -> None:
    with pytest.raises(TileError, match=r"^a\.csv: q: a column of .* cannot be saved in CSV"):
        save(tmp_path / "a.csv", [tile(values)])


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (pd.DataFrame([[1, 2]], columns=["q", "q"]), "q: two columns of this name"),
        (pd.DataFrame([[1, 2]], columns=[0, "0"]), "0: two columns of this name"),
        (tile(1).assign(__batuta_pair__="a"), "__batuta_pair__: this name is kept"),
        (tile([1, "a"], object), "q: a column of object cannot be saved: "),
        (tile([2**70], object), "q: a column of object cannot be saved: "),
        (tile([1 + 2j]), "q: a column of complex128 cannot be saved: "),
        (tile(pd.arrays.SparseArray([0, 1])), "q: a column of Sparse.* cannot be saved: "),
        (tile(geopandas.points_from_xy([1], [2])), "q: a column of geometry cannot be saved: "),
    ],
    ids=[
        "twice",
        "twice as text",
        "kept name",
        "mixed",
        "beyond 64 bits",
        "complex",
        "sparse",
        "geometry",
    ],
)
@pytest.mark.parametrize("suffix", POINTS_FORMATS)
def test_a_frame_that_is_no_table_is_refused_in_one_line(
    suffix: str, frame: pd.DataFrame, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(TileError, match=rf"^a\{suffix}: {reason}") as caught:
        save(tmp_path / f"a{suffix}", [frame])
    assert "\n" not in str(caught.value)


def test_more_categories_than_each_tile_has_are_kept(tmp_path: Path) -> None:
    tiles = [tile(pd.Categorical([f"{n:03}" for n in range(at, at + 100)])) for at in (0, 100)]
    save(tmp_path / "a.parquet", tiles)
    assert pd.read_parquet(tmp_path / "a.parquet")["q"].tolist() == [f"{n:03}" for n in range(200)]


TIMES: dict[str, list[Any]] = {
    "midnight first": ["2026-01-01", "2026-01-02 03:04:05", "2026-01-02 03:04:05.5"],
    "with a zone": ["2026-01-01 00:00Z", "2026-01-02 03:04:05Z", "2026-01-02 03:04:05.5Z"],
}


@pytest.mark.parametrize("name", TIMES)
def test_times_have_one_format_in_all_tiles_of_a_csv(name: str, tmp_path: Path) -> None:
    times = [pd.to_datetime([each]) for each in TIMES[name]]
    path = tmp_path / "a.csv"
    save(path, [tile(each) for each in times])
    found = pd.read_csv(path, parse_dates=["q"])["q"]  # takes the format of the first
    assert [each.to_pydatetime() for each in found] == [each[0].to_pydatetime() for each in times]


def test_times_of_day_have_one_format_in_all_tiles_of_a_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    save(path, [tile([dt.time(1, 2, 3)]), tile([dt.time(1, 2, 3, 5), None])])
    assert read(path) == ["01:02:03.000000", "01:02:03.000005", None]


@pytest.mark.parametrize("suffix", POINTS_FORMATS)
def test_numbers_in_the_byte_order_of_other_machines_are_saved(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    given = tile(np.array([1, 2], ">i4")).astype(dict.fromkeys("xyz", ">f8"))
    save(path, [given, tile(np.array([3], "<i4"))])
    assert [int(each) for each in read(path)] == [1, 2, 3]
    assert given["q"].dtype == ">i4"  # the tile is left as it was
