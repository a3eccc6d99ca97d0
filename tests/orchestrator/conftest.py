from pathlib import Path

import pytest

from tests.cluster.conftest import warm_forkserver
from tests.orchestrator.map_program import run_program

__all__ = ["warm_forkserver"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sequential mode makes."""
    folder = tmp_path_factory.mktemp("reference")
    run_program({"mode": "sequential"}, folder)
    return folder
