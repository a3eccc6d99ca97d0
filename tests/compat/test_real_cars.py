"""CARS itself, from a pair of Pléiades images to a DSM, on Batuta and on its own orchestrator.

Each run takes a minute or more: ``make compat-cars`` has what they need.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

import psutil
import pytest
import rasterio
import yaml

from benchmarks.cars.real import (
    BATUTA,
    GROUND_M,
    PAIR,
    SEQUENTIAL,
    STOCK,
    TWO_WORKERS,
    cars,
    make_inputs,
)

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(find_spec("cars") is None, reason="CARS is not installed here"),
    pytest.mark.skipif(not PAIR.is_dir(), reason=f"the pair of images is not there: {PAIR}"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pair, and flat ground under it."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def lines_of(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def play(program: Sequence[str], inputs: Path, out: Path, conf: dict[str, Any]) -> Path:
    with cars(program, inputs, out, conf) as process:
        said = lines_of(process).read()
        assert process.wait() == 0, said
    return out


@pytest.fixture(scope="module")
def stock(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What CARS makes on its own orchestrator, one task after the other."""
    return play(STOCK, inputs, tmp_path_factory.mktemp("stock") / "out", SEQUENTIAL)


def assert_same_rasters(made: Path, reference: Path) -> None:
    names = sorted(path.name for path in (reference / "dsm").glob("*.tif"))
    assert "dsm.tif" in names
    differing = [
        name
        for name in names
        if (made / "dsm" / name).read_bytes() != (reference / "dsm" / name).read_bytes()
    ]
    assert not differing
    with rasterio.open(made / "dsm" / "dsm.tif") as raster:
        heights = raster.read(1, masked=True)
    assert heights.count() > 400_000
    assert abs(float(heights.mean()) - GROUND_M) < 50


@pytest.mark.parametrize("conf", [SEQUENTIAL, TWO_WORKERS], ids=["sequential", "two workers"])
def test_every_raster_is_that_of_stock_cars_byte_for_byte(
    conf: dict[str, Any], inputs: Path, stock: Path, tmp_path: Path
) -> None:
    made = play(BATUTA, inputs, tmp_path / "out", conf)
    assert_same_rasters(made, stock)
    index = yaml.safe_load((made / "dsm" / "index.yaml").read_text())
    assert index == yaml.safe_load((stock / "dsm" / "index.yaml").read_text())


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """List the processes that compute: those that the forkserver made."""
    return [
        each
        for child in psutil.Process(process.pid).children()
        for each in child.children()
        if each.status() != psutil.STATUS_ZOMBIE
    ]


def wait_for(process: subprocess.Popen[str], what: str) -> list[str]:
    """Read what CARS says until it says that."""
    said: list[str] = []
    for line in lines_of(process):
        said.append(line)
        if what in line:
            return said
    pytest.fail(f"never said {what!r}:\n{''.join(said)}")


IN_THE_MIDDLE: Final = "20% complete (2/9 tiles)"
"""Said once the second resolution is being matched."""


def test_a_worker_killed_in_the_middle_changes_nothing(
    inputs: Path, stock: Path, tmp_path: Path
) -> None:
    with cars(BATUTA, inputs, tmp_path / "out", TWO_WORKERS) as process:
        wait_for(process, IN_THE_MIDDLE)
        busiest = max(workers_of(process), key=lambda each: sum(each.cpu_times()[:2]))
        busiest.kill()
        said = lines_of(process).read()
        assert process.wait() == 0, said
    assert "is retried: " in said
    assert_same_rasters(tmp_path / "out", stock)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let subprocesses receive Ctrl-C, even if these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_no_process_and_no_temporary_file(inputs: Path, tmp_path: Path) -> None:
    with cars(BATUTA, inputs, tmp_path / "out", TWO_WORKERS) as process:
        wait_for(process, IN_THE_MIDDLE)
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) >= 2
        os.killpg(process.pid, signal.SIGINT)
        said = lines_of(process).read()
        assert process.wait(timeout=60) == 1, said
    assert not psutil.wait_procs(family, timeout=10)[1]
    assert not list((tmp_path / "out").rglob("tmp_save_disk"))
