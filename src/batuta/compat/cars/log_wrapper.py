"""Stands for `cars.orchestrator.cluster.log_wrapper`: the profiler of CARS, switched off.

It is imported by the lowest modules of CARS, and so imports nothing of it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["cars_profile", "generate_pdf_profiling", "generate_summary"]

Function = TypeVar("Function", bound=Callable[..., Any])


def cars_profile(
    name: str | None = None,  # noqa: ARG001 - what CARS calls it with
    interval: float = 0.1,  # noqa: ARG001
) -> Callable[[Function], Function]:
    """Return a decorator that leaves functions as they are."""
    return lambda function: function


def generate_summary(
    out_dir: str, used_conf: dict[str, Any], pipeline_name: str, clean_worker_logs: bool = False
) -> None:
    """Do nothing: no profile was taken, and the logs of the workers are few and kept."""


def generate_pdf_profiling(log_dir: str) -> None:
    """Do nothing: no profile was taken."""
