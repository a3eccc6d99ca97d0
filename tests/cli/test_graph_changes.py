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


@pytest.fixture(autouse=True)
def no_conductor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATUTA_CONDUCTOR_URL", "http://127.0.0.1:1")


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


@pytest.mark.parametrize("arguments", [[], ["graph.json", "--version", "1"]])
def test_either_a_file_or_a_version_is_put_in_force(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["graph", "apply", *arguments]) == 2
    assert "given (accepted: FILE, or --version NUMBER)" in capsys.readouterr().err


def test_more_than_two_graphs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = _write(tmp_path / "graph.json")
    assert run(["graph", "diff", graph, graph, graph]) == 2
    assert "3 graphs given; accepted are OLD NEW, or NEW alone" in capsys.readouterr().err
