"""Advice on `max_ram_per_worker`."""

import math
from typing import Final

from batuta.formatting import format_bytes, format_count, format_percent
from batuta.profiling.analysis.advice.model import Advice
from batuta.profiling.analysis.advice.workers import ON_ONE_MACHINE
from batuta.profiling.files.run_info import RunInfo

MB: Final = 1_000_000
"""What `max_ram_per_worker` counts in."""
MARGIN: Final = 1.25
"""Proposed limit over the highest measured peak."""
DASK_MARGIN: Final = 1 / 0.6
"""On dask, which starts to spill results to disk at 60 % of the limit."""
TOO_TIGHT: Final = 1.05
"""A larger limit is proposed where the peak times this exceeds it."""
TOO_LARGE: Final = 2.0
"""A smaller limit is proposed where it exceeds the proposed one times this."""
_ROUND_MB: Final = 100
_MIN_MB: Final = 200
"""A worker may import a large library at any time."""


def advise_memory(run: RunInfo, peak_bytes: int, workers: int) -> Advice | None:
    """Propose the highest measured peak plus a margin; None where no limit was set.

    Parameters
    ----------
    run : RunInfo
        The run.
    peak_bytes : int
        The highest memory of a worker.
    workers : int
        The number of workers.
    """
    limit = run.worker_limit_bytes
    if limit is None:
        return None
    margin = DASK_MARGIN if run.mode.endswith("dask") else MARGIN
    proposed_mb = max(_MIN_MB, math.ceil(peak_bytes * margin / MB / _ROUND_MB) * _ROUND_MB)
    fact = f"The highest memory of a worker was {format_bytes(peak_bytes)}"
    if peak_bytes * TOO_TIGHT > limit:
        return _memory_advice(
            limit, proposed_mb, f"{fact}; {_with_margin(margin)}.{_room(run, proposed_mb, workers)}"
        )
    if limit > TOO_LARGE * proposed_mb * MB:
        return _memory_advice(
            limit,
            proposed_mb,
            f"{fact}; {_with_margin(margin)}. More workers fit on a machine,"
            " and a batch job requests less.",
        )
    return _memory_advice(
        limit, None, f"{fact}, {format_percent(peak_bytes / limit)} of the limit."
    )


def _with_margin(margin: float) -> str:
    return (
        f"proposed is {format_percent(margin - 1)} more, rounded up to {_ROUND_MB} MB, at least"
        f" {_MIN_MB} MB"
    )


def _room(run: RunInfo, proposed_mb: int, workers: int) -> str:
    fit = run.ram_bytes // (proposed_mb * MB)
    if run.mode not in ON_ONE_MACHINE or fit >= workers:
        return ""
    return (
        f" {format_bytes(run.ram_bytes)} of memory are then enough for"
        f" {format_count(fit, 'worker')}, not {workers}: the alternative is smaller tiles."
    )


def _memory_advice(limit: int, proposed_mb: int | None, reason: str) -> Advice:
    return Advice(
        subject="max_ram_per_worker",
        current=f"{limit / MB:.0f} MB",
        proposed=None if proposed_mb is None else f"{proposed_mb} MB",
        values=() if proposed_mb is None else (proposed_mb,),
        reason=reason,
    )
