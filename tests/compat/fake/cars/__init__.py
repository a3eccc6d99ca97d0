"""Stands for CARS."""

from pathlib import Path

if not (Path(__file__).parent / "orchestrator" / "cluster" / "dask_config").is_dir():
    raise NotADirectoryError("the folders of the real orchestrator are there all the same")
