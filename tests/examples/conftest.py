"""Fixtures: the demonstration's real observations, and all products made from them."""

import fcntl
import json
import os
import pickle
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import examples.demo
from batuta.pipeline import Pipeline
from examples.demo.disparity import read_raster
from examples.demo.events import Events, read_events
from examples.demo.observations import Observation, observations
from tests.examples.products import Made, Pair, make

PIPELINES = ("timing", "qpo", "spectral", "stereo", "report")

GRAPH = Path(examples.demo.__file__).with_name("graph.json")


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Observation]:
    """Return the observations by obs_id."""
    found = observations(tmp_path_factory.mktemp("observations"))
    return {each.obs_id: each for each in found}


@pytest.fixture(scope="session")
def chandra(observed: dict[str, Observation]) -> Events:
    return read_events(observed["CHANDRA-10027"].files["EVENTS"])


@pytest.fixture(scope="session")
def rxte(observed: dict[str, Observation]) -> Events:
    return read_events(observed["RXTE-M82-2009-12-18"].files["EVENTS"])


@pytest.fixture(scope="session")
def pair(observed: dict[str, Observation]) -> Pair:
    files = observed["MIDDLEBURY-MOTORCYCLE"].files
    names = ("STEREO_LEFT", "STEREO_RIGHT", "TRUE_DISPARITY")
    return Pair(*(read_raster(files[name]) for name in names))


@pytest.fixture(scope="session")
def graph() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(GRAPH.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="session")
def pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by provider."""
    found = [import_module(f"examples.demo.{name}").pipeline for name in PIPELINES]
    return {each.name: each for each in found}


@pytest.fixture(scope="session")
def made(
    observed: dict[str, Observation],
    graph: dict[str, Any],
    pipelines: dict[str, Pipeline],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], Made]:
    """Make every product that the graph says can be made, once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = shared / "made.pickle"
    with (shared / "made.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cache.exists():
            folder = tmp_path_factory.mktemp("made")
            cache.write_bytes(pickle.dumps(make_all(observed, graph, pipelines, folder)))
        results: dict[tuple[str, str], Made] = pickle.loads(cache.read_bytes())  # noqa: S301  our own
    return results


def make_all(
    observed: dict[str, Observation],
    graph: dict[str, Any],
    pipelines: dict[str, Pipeline],
    folder: Path,
) -> dict[tuple[str, str], Made]:
    """Make the products in the order of the graph."""
    results = {}
    for obs_id, observation in observed.items():
        (folder / obs_id).mkdir()
        files = dict(observation.files)
        for name, entry in graph["products"].items():
            if not set(entry["m_input"]) <= set(files):
                continue
            spec = pipelines[entry["provider"]].products[name]
            result = make(spec, observation, files, folder / obs_id / name)
            results[obs_id, name] = result
            files[name] = result.path
    return results
