"""What notebooks display of datasets and of orchestrators."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr
from tqdm import tqdm

from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator import Orchestrator
from batuta.orchestrator.screen import bar_class
from tests.cluster.functions import fail

HOSTILE = "<script>alert('&')</script>"


class Cells(HTMLParser):
    """Reads the texts of a display, and its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002 - as HTMLParser calls it
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_dataset_shows_its_sizes_overlaps_and_what_its_tiles_are() -> None:
    dataset = CarsDataset("arrays", name=HOSTILE)
    dataset.create_grid(10, 6, 4, 4, 1, 2)
    dataset[0, 0] = xr.Dataset()
    dataset.attributes["title"] = HOSTILE
    shown = Cells(dataset._repr_html_())
    assert "script" not in shown.tags
    assert shown.tags.count("rect") == 6
    assert f"CarsDataset {HOSTILE!r}: arrays, 2 x 3 tiles" in shown.texts
    told = dict(zip(shown.texts[1::2], shown.texts[2::2], strict=True))
    assert told == {
        "size": "6 x 10 pixels",
        "tiles": "2 x 3",
        "size of a tile": "2 to 4 x 2 to 4 pixels",
        "overlaps": "up 1, down 1, left 2, right 2",
        "content": "1 Dataset, 5 none",
        "attributes['title']": HOSTILE,
    }


@pytest.mark.parametrize("side", [0, 100], ids=["no grid", "a large grid"])
def test_what_cannot_be_drawn_is_told(side: int) -> None:
    dataset = CarsDataset("dict")
    if side:
        dataset.create_grid(side, side, 1, 1)
    shown = Cells(dataset._repr_html_())
    assert "svg" not in shown.tags
    assert f"CarsDataset: dict, {side} x {side} tiles" in shown.texts


def test_an_orchestrator_shows_its_files_and_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    conf = {"mode": "sequential", "resume": True, "on_tile_failure": "continue"}
    with Orchestrator(conf, "out") as orchestrator:
        numbers = CarsDataset("dict", name=HOSTILE)
        numbers.create_grid(20, 1, 1, 1)
        numbers[0, 0] = CarsDict({"value": 1})
        for col in range(1, 20):
            numbers[0, col] = orchestrator.cluster.create_task(fail)(HOSTILE)
        orchestrator.add_to_save_lists("out/numbers.json", "", numbers)
        before = Cells(orchestrator._repr_html_())
        assert before.texts[-8:] == [
            "out/numbers.json",
            HOSTILE,
            *("20", "0", "0", "0", "0"),
            "to be computed",
        ]
    shown = Cells(orchestrator._repr_html_())
    assert "script" not in shown.tags
    assert shown.texts[0] == "Orchestrator: sequential, in out"
    assert shown.texts[11:16] == ["20", "1", "0", "0", "19"]
    assert "19 tiles failed" in shown.texts
    assert orchestrator.failures[0].reason in shown.texts
    assert "and 9 more" in shown.texts
    assert repr(orchestrator) == "<Orchestrator: sequential, out_dir='out'>"


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel of Jupyter, as far as a program sees one."""
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_a_bar_is_drawn_in_a_notebook_and_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr("batuta.orchestrator.screen.is_terminal", lambda _: False)
    assert bar_class() is None
    request.getfixturevalue("kernel")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert bar_class() is tqdm  # as text: there is no ipywidgets
    bar = SimpleNamespace(tqdm=object())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    monkeypatch.setattr("importlib.import_module", lambda _: bar)
    assert bar_class() is bar.tqdm
