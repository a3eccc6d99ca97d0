"""The code of the pages on tiles runs when it is pasted."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import rasterio

from tests.docs.test_docs import ROOT, fences
from tests.orchestrator.inspection import manifest
from tests.support.checkout import PYTHON_PATH

TUTORIAL: Final = fences(ROOT / "docs" / "tutorial" / "first-tiles.md", "python")
HOW_TO: Final = fences(ROOT / "docs" / "how-to" / "write-tiles.md", "python")

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


@pytest.mark.parametrize("rank", range(len(TUTORIAL)))
def test_each_program_of_the_tutorial_runs_as_it_is(rank: int, tmp_path: Path) -> None:
    (tmp_path / "light.py").write_text(TUTORIAL[rank])
    done = subprocess.run(
        [sys.executable, "light.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PYTHON_PATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    failing = "raise ValueError" in TUTORIAL[rank]
    (product,) = (tmp_path / "out").glob("*.tif")
    assert manifest(product)["complete"] is not failing
    if failing:
        shown = fences(ROOT / "docs" / "tutorial" / "first-tiles.md", "")[0]
        assert done.stdout.startswith(shown)
        assert 'light.py", line 9, in measured' in done.stdout
    else:
        assert not done.stderr
    with rasterio.open(product) as image:
        assert (image.crs is not None) == ("PROFILE" in TUTORIAL[rank])


def test_the_parts_of_programs_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "pasted"}
    for block in HOW_TO:
        exec(compile(block, "write-tiles.md", "exec"), names)  # noqa: S102 - of our page
    products = {path.name for path in (tmp_path / "out").glob("*.manifest.json")}
    assert len(products) == sum(block.count("add_to_save_lists(") for block in HOW_TO)
    incomplete = {name for name in products if not manifest_of(tmp_path, name)["complete"]}
    assert incomplete == {"even.tif.manifest.json"}
    with rasterio.open("out/summed.tif") as image:
        assert image.read(1)[:, :4].tolist() == [[2.0] * 4] * 4
    with rasterio.open("out/moved.tif") as image:
        assert image.read(1)[0].tolist() == [100.0] * 4 + [101.0] * 4


def manifest_of(folder: Path, name: str) -> dict[str, Any]:
    return manifest(folder / "out" / name.removesuffix(".manifest.json"))


@pytest.mark.parametrize("name", ["first-tiles-notebook", "map-rasters-notebook"])
def test_a_notebook_shows_what_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    notebooks = pytest.importorskip(
        "tests.support.notebooks", reason="needs nbclient and ipykernel"
    )
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH, prepend=os.pathsep)
    path = ROOT / "docs" / "tutorial" / f"{name}.ipynb"
    committed = [notebooks.shown(each) for each in notebooks.code_of(notebooks.read(path))]
    executed = notebooks.executed(notebooks.read(path), tmp_path)
    assert [notebooks.shown(each) for each in notebooks.code_of(executed)] == committed
    assert any(
        re.search(r"\d+/\d+ \[", each.get("text", "")) and each["name"] == "stderr"
        for cell in notebooks.code_of(executed)
        for each in cell.outputs
    )  # the progress bar
