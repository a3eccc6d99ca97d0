"""The contract between the scheduler of processings and what executes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from batuta.messaging import Progress
from batuta.pipeline.code_version import LoadedCode
from batuta.pipeline.declaration import ProductSpec
from batuta.pipeline.messages import Outcome
from batuta.stages import Stage

RUN_VARIABLE: Final = "BATUTA_RUN"
"""Environment variable that holds the run's id, inherited by all that a worker starts."""


@dataclass(frozen=True, kw_only=True)
class ProcessingRun:
    """One run of a processing.

    Attributes
    ----------
    id, product, obs_id, provider : str
        Those of the processing.
    key : str
        Names the processing's files on this machine; never derived from outside input.
    run_id : str
        Identifies this run: unique, and starts with `key`.
    attempt : int
        The attempt that was requested. One attempt may take several runs: a run that the service's
        death or stop has interrupted is followed by another one of the same attempt.
    given : mapping or None
        The versions of inputs that it is to be made from, by name; None: the newest ones.
    graph_version : str or None
        That of the product graph under which it was asked for.
    stage : Stage or None
        That of what it makes; None where none is told.
    """

    id: str
    product: str
    obs_id: str
    provider: str
    key: str
    run_id: str
    attempt: int
    given: Mapping[str, int] | None = None
    graph_version: str | None = None
    stage: Stage | None = None


@dataclass(frozen=True, kw_only=True)
class ProcessingTask:
    """All that a warden and its worker need to execute one run.

    `code` is the code that it must have run alone, where that may be edited meanwhile;
    `code_version` what it is archived as.
    """

    spec: ProductSpec
    run: ProcessingRun
    sdb_url: str
    token: str | None
    work_dir: Path
    log_path: Path
    profiles: Path
    code: LoadedCode | None = None
    code_version: str | None = None


class Runner(Protocol):
    """Executes runs of processings."""

    @property
    def code(self) -> str | None:
        """The version of the code that the next run is executed with, if there is one."""

    async def run(self, run: ProcessingRun, on_progress: Callable[[Progress], None]) -> Outcome:
        """Execute `run` to its end, reporting its progress.

        When it returns, or raises because it was cancelled, nothing of the run is left running.
        """
