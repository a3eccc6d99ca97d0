"""What `max_ram_per_worker` the measures call for."""

import math
from typing import Final

from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.advice.workers import ON_ONE_MACHINE
from batuta.profiling.analysis.formatting import MB, bytes_text, counted, share_text
from batuta.profiling.files.run_info import RunInfo

MARGIN: Final = 1.25
"""Over the highest peak measured."""
DASK_MARGIN: Final = 1 / 0.6
"""On dask, which begins to write results to disk at 60 % of the limit."""
TOO_TIGHT: Final = 1.05
"""A peak times this over the limit calls for a larger one."""
TOO_LARGE: Final = 2.0
"""A limit over so many times what is proposed calls for a smaller one."""
_ROUND_MB: Final = 100
_LEAST_MB: Final = 200
"""What a worker may need to import a library at any time."""


def advise_memory(run: RunInfo, peak_bytes: int, workers: int) -> Advice | None:
    """Propose the highest peak measured and a margin; None where no limit was set.

    Parameters
    ----------
    run : RunInfo
        The run.
    peak_bytes : int
        The most that a worker held.
    workers : int
        How many there were.
    """
    limit = run.worker_limit_bytes
    if limit is None:
        return None
    margin = DASK_MARGIN if run.mode.endswith("dask") else MARGIN
    proposed_mb = max(_LEAST_MB, math.ceil(peak_bytes * margin / MB / _ROUND_MB) * _ROUND_MB)
    fact = f"The most that a worker held is {bytes_text(peak_bytes)}"
    if peak_bytes * TOO_TIGHT > limit:
        return _told(
            limit, proposed_mb, f"{fact}; {_with_margin(margin)}.{_room(run, proposed_mb, workers)}"
        )
    if limit > TOO_LARGE * proposed_mb * MB:
        return _told(
            limit,
            proposed_mb,
            f"{fact}; {_with_margin(margin)}. A machine can hold more workers so,"
            " and a job asks for less.",
        )
    return _told(limit, None, f"{fact}, {share_text(peak_bytes / limit)} of the limit.")


def _with_margin(margin: float) -> str:
    return (
        f"proposed is that and {share_text(margin - 1)}, rounded up to {_ROUND_MB} MB, at least"
        f" {_LEAST_MB} MB"
    )


def _room(run: RunInfo, proposed_mb: int, workers: int) -> str:
    fit = run.ram_bytes // (proposed_mb * MB)
    if run.mode not in ON_ONE_MACHINE or fit >= workers:
        return ""
    room = f" {bytes_text(run.ram_bytes)} of memory then hold {counted(fit, 'worker')}"
    return f"{room}, not {workers}: smaller tiles are the other way."


def _told(limit: int, proposed_mb: int | None, reason: str) -> Advice:
    return Advice(
        subject="max_ram_per_worker",
        current=f"{limit / MB:.0f} MB",
        proposed=None if proposed_mb is None else f"{proposed_mb} MB",
        values=() if proposed_mb is None else (proposed_mb,),
        reason=reason,
    )
