"""`batuta graph diff`."""

import json
from pathlib import Path

import pytest

from batuta.cli.app import run
from tests.graph.documents import product, small


def _write(path: Path, **products: object) -> str:
    document = small()
    document["products"] |= products
    path.write_text(json.dumps(document))
    return str(path)


def test_the_difference_of_two_graphs_is_told_key_by_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _write(tmp_path / "old.json")
    new = _write(tmp_path / "new.json", QLC_ECL=product("EclTmVhfHPLcurve"), NEW=product("QSP_ECL"))
    assert run(["graph", "diff", old, new]) == 0
    assert capsys.readouterr().out.splitlines() == [
        'product QLC_ECL: o_input ["EclTmVhfAlert"] -> []',
        "product NEW: added",
        "can be made from now on: NEW",
        "stale, as made by the old graph: QLC_ECL, QSP_ECL",
    ]
    assert run(["graph", "diff", old, old]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_more_than_two_graphs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = _write(tmp_path / "graph.json")
    assert run(["graph", "diff", graph, graph, graph]) == 2
    assert "3 graphs given; accepted are OLD NEW, or NEW alone" in capsys.readouterr().err
