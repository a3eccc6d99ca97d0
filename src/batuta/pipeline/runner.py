"""The seam between following processings and carrying them out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from batuta.messaging import Progress
from batuta.pipeline.declaration import ProductSpec
from batuta.pipeline.messages import Outcome

RUN_VARIABLE: Final = "BATUTA_RUN"
"""Names the run in the environment of all that a worker starts."""


@dataclass(frozen=True, kw_only=True)
class ProcessingRun:
    """One run of a processing.

    Attributes
    ----------
    id, product, obs_id, provider : str
        Of the processing.
    key : str
        Names the processing's files on this machine; never made from what came from outside.
    run_id : str
        Identifies this run: unique, and starts with `key`.
    attempt : int
        The attempt asked for.
    """

    id: str
    product: str
    obs_id: str
    provider: str
    key: str
    run_id: str
    attempt: int


@dataclass(frozen=True, kw_only=True)
class ProcessingTask:
    """What a worker is to do, and where."""

    spec: ProductSpec
    run: ProcessingRun
    sdb_url: str
    token: str | None
    work_dir: Path
    log_path: Path
    profiles: Path


class Runner(Protocol):
    """Carries jobs out."""

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        """Carry `run` out to its end, telling its progress.

        Once it returns, or raises because it was cancelled, nothing of the run runs any more.
        """
