"""Pipelines made with Batuta's kit: a process for each processing, its inputs read from the sdb.

Run with ``NATS_URL SDB_URL FOLDER``, it serves the products ``L1`` to ``L3``.
"""

import sys
from pathlib import Path

from batuta.pipeline import Context, Pipeline, PipelineSettings, run
from benchmarks.orchestra.support.services import KIT

pipeline = Pipeline(KIT)


@pipeline.product("L1")
@pipeline.product("L2")
@pipeline.product("L3")
def text(context: Context) -> Path:
    """Make a few bytes."""
    path = context.work_dir / "product"
    path.write_text(f"made of {context.obs_id}")
    return path


if __name__ == "__main__":
    nats_url, sdb_url, folder = sys.argv[1:]
    run(
        PipelineSettings(
            port=0,
            nats_url=nats_url,
            sdb_url=sdb_url,
            data_dir=Path(folder) / "kit",
            max_concurrent=2,
            max_queued=10_000,
        ),
        pipeline,
        "benchmarks.orchestra.support.kit:pipeline",
    )
