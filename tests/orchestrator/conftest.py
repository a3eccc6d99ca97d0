from pathlib import Path

import pytest

from tests.cluster.conftest import warm_forkserver
from tests.orchestrator.program import play

__all__ = ["warm_forkserver"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sequential mode makes."""
    folder = tmp_path_factory.mktemp("reference")
    play({"mode": "sequential"}, folder)
    return folder
