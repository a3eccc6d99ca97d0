"""What the cells of a notebook define runs in the modes of one machine, in a real kernel."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkout import PYTHON_PATH

notebooks = pytest.importorskip("tests.support.notebooks", reason="needs nbclient and ipykernel")

CONFIGURATIONS: list[dict[str, Any]] = [
    {"mode": "sequential"},
    {"mode": "multiprocessing", "nb_workers": 1},
    {"mode": "multiprocessing", "mp_mode": "spawn", "nb_workers": 1},
    {"mode": "multiprocessing", "mp_mode": "fork", "nb_workers": 1},
    {"mode": "auto"},
    {"mode": "local_dask", "nb_workers": 1},
]

DEFINITIONS = """
from batuta.cluster import check_configuration, create_cluster

scale = 2

class Factor:
    def __init__(self, value):
        self.value = value

class Refused(Exception):
    pass

def scaled(value, factor):
    if factor.value < 0:
        raise Refused("negative")
    return Factor(value * factor.value * scale)

def compute(cluster, factor):
    task = cluster.create_task(scaled)(5, Factor(factor))
    (future,) = cluster.as_completed(cluster.start_tasks([task]))
    return future.result()
"""

RUN = """
cluster = create_cluster(check_configuration({conf}), None)
scale = 2
before = compute(cluster, 3)
scale = 4
after = compute(cluster, 3)
caught = None
try:
    compute(cluster, -1)
except Exception as exc:
    caught = exc if isinstance(exc, Refused) else exc.__cause__
cluster.cleanup()
before.value, after.value, type(before) is Factor, type(caught) is Refused
"""


def test_what_a_cell_defines_runs_as_it_is_now_in_every_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHON_PATH, prepend=os.pathsep)
    cells = [RUN.format(conf=json.dumps(conf)) for conf in CONFIGURATIONS]
    notebook = notebooks.executed(notebooks.of_cells(DEFINITIONS, *cells), tmp_path)
    found = [notebooks.result_of(cell) for cell in notebook.cells[1:]]
    assert found == ["(30, 60, True, True)"] * len(CONFIGURATIONS)
