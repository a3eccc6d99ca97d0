"""The documents of a program about its products are merged, and written in files."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from batuta.orchestrator import Orchestrator

SEQUENTIAL = {"mode": "sequential"}


def test_the_index_of_each_product_is_written_in_its_folder(tmp_path: Path) -> None:
    with Orchestrator(SEQUENTIAL, tmp_path) as orchestrator:
        orchestrator.update_index({"dsm": {"dsm": "dsm.tif"}, "cloud": {"pair": {"x": "X.tif"}}})
        orchestrator.update_index(
            {"dsm": {"image": "image.tif"}, "cloud": {"pair": {"y": "Y.tif"}}}
        )
    assert yaml.safe_load((tmp_path / "dsm" / "index.yaml").read_text()) == {
        "dsm": "dsm.tif",
        "image": "image.tif",
    }
    assert yaml.safe_load((tmp_path / "cloud" / "index.yaml").read_text()) == {
        "pair": {"x": "X.tif", "y": "Y.tif"}
    }


def test_the_index_is_written_at_each_breakpoint(tmp_path: Path) -> None:
    with Orchestrator(SEQUENTIAL, tmp_path) as orchestrator:
        orchestrator.update_index({"dsm": {"dsm": "dsm.tif"}})
        orchestrator.breakpoint()
        assert (tmp_path / "dsm" / "index.yaml").exists()


def test_without_workers_or_without_a_folder_no_index_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Orchestrator(SEQUENTIAL, tmp_path / "out", launch_worker=False) as orchestrator:
        orchestrator.update_index({"dsm": {"dsm": "dsm.tif"}})
    with Orchestrator(SEQUENTIAL) as orchestrator:
        orchestrator.update_index({"dsm": {"dsm": "dsm.tif"}})
    assert not list(tmp_path.rglob("index.yaml"))


@pytest.mark.parametrize("name", ["info.json", "info.yaml", "info.yml"])
def test_a_document_is_written_in_the_format_of_its_suffix(tmp_path: Path, name: str) -> None:
    with Orchestrator(SEQUENTIAL, tmp_path, out_json_path=tmp_path / "new" / name) as orchestrator:
        orchestrator.update_out_info({"left": {"pixels": np.int64(3)}, "site": "Réunion"})
        orchestrator.update_out_info({"left": {"mean": np.float32(0.5)}})
    text = (tmp_path / "new" / name).read_text(encoding="utf-8")
    told = json.loads(text) if name.endswith("json") else yaml.safe_load(text)
    assert told == {"left": {"pixels": 3, "mean": 0.5}, "site": "Réunion"}


def test_the_bar_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_bar() -> None:
        raise AssertionError("a bar was made")

    monkeypatch.setattr("batuta.orchestrator.orchestrator.ProgressBar", no_bar)
    Orchestrator(SEQUENTIAL, tmp_path, progress_bar=False).cleanup()
    with pytest.raises(AssertionError, match="a bar was made"):
        Orchestrator(SEQUENTIAL, tmp_path)
