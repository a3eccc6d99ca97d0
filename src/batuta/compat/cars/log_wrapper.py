"""Replaces `cars.orchestrator.cluster.log_wrapper`, the profiler of CARS, by one that does nothing.

The lowest modules of CARS import it, and so it imports none of them.
"""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["cars_profile", "generate_pdf_profiling", "generate_summary"]

Function = TypeVar("Function", bound=Callable[..., Any])


def cars_profile(
    name: str | None = None,  # noqa: ARG001 - the signature of CARS
    interval: float = 0.1,  # noqa: ARG001
) -> Callable[[Function], Function]:
    """Return a decorator that returns functions unchanged."""
    return lambda function: function


def generate_summary(
    out_dir: str, used_conf: dict[str, Any], pipeline_name: str, clean_worker_logs: bool = False
) -> None:
    """Do nothing: there is no profile, and the logs of the workers stay."""


def generate_pdf_profiling(log_dir: str) -> None:
    """Do nothing: there is no profile."""
