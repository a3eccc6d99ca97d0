"""What docs/how-to/compute-on-a-cluster.md tells to do works, and the reference has every key."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from batuta.cluster import check_configuration
from batuta.cluster.config import CommonConfig, MultiprocessingConfig
from batuta.cluster.config_keys import keys_of
from batuta.cluster.dask.config import (
    ExistingDaskConfig,
    LocalDaskConfig,
    PbsDaskConfig,
    SlurmDaskConfig,
)
from batuta.cluster.dask.telemetry.files import MEMORY_COLUMNS
from tests.docs.test_docs import ROOT, fences
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm
from tools.slurm.shape import PARTITIONS

PAGE = ROOT / "docs" / "how-to" / "compute-on-a-cluster.md"
OTHER_PAGE = ROOT / "docs" / "how-to" / "use-an-existing-dask.md"
REFERENCE = (ROOT / "docs" / "reference" / "orchestrator.md").read_text(encoding="utf-8")
PROGRAM, ON_PBS, LARGER = fences(PAGE, "python")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("configuration", ["", ON_PBS], ids=["slurm_dask", "pbs_dask"])
def test_the_first_run_of_the_page_works(
    configuration: str, slurm: LocalSlurm, tmp_path: Path
) -> None:
    main = 'if __name__ == "__main__":'
    ours = configuration.replace("my-queue", PARTITIONS[0])
    ours = f'{ours}\nCONFIGURATION["nb_workers"] = 1\n'  # the processors are those of others too
    (tmp_path / "first.py").write_text(PROGRAM.replace(main, f"{ours}\n{main}"))
    others = {job.job_id for job in slurm.queue.jobs()}
    subprocess.run([sys.executable, "first.py"], cwd=tmp_path, check=True, timeout=100)
    with rasterio.open(tmp_path / "out" / "heights.tif") as raster:
        found = raster.read(1)
    side = np.arange(1000)
    np.testing.assert_allclose(found, np.hypot.outer(side, side), rtol=1e-6)

    def states() -> set[str]:
        return {job.state for job in slurm.queue.jobs() if job.job_id not in others}

    eventually_sync(lambda: states() == {"CANCELLED"})


@pytest.mark.parametrize("code", [ON_PBS, LARGER, fences(OTHER_PAGE, "python")[1]])
def test_configurations_of_the_pages_are_right(code: str) -> None:
    conf: dict[str, Any] = eval(code.removeprefix("CONFIGURATION = "))  # noqa: S307 - our page
    assert check_configuration(conf).mode == conf["mode"]


@pytest.mark.parametrize(
    "model",
    [
        CommonConfig,
        MultiprocessingConfig,
        LocalDaskConfig,
        PbsDaskConfig,
        SlurmDaskConfig,
        ExistingDaskConfig,
    ],
)
def test_every_key_of_a_mode_is_in_the_reference(model: type[CommonConfig]) -> None:
    assert [key for key in keys_of(model) if f"`{key}`" not in REFERENCE] == []


def test_every_column_of_the_memory_of_workers_is_in_the_reference() -> None:
    assert [column for column in MEMORY_COLUMNS if f"`{column}`" not in REFERENCE] == []
