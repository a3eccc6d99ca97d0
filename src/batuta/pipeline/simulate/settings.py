"""What the simulated pipeline is told when it starts."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from batuta.pipeline.settings import ProcessingsSettings


class SimulateSettings(ProcessingsSettings):
    """Settings of the simulated pipeline.

    Parameters
    ----------
    graph : Path
        The product graph whose providers it plays, JSON or YAML.
    wait_min_s, wait_max_s : float
        A processing lasts a random time between them, in seconds.
    failure : float
        The probability that a processing fails.
    seed : int or None
        Makes the times and the failures the same each time, for the same order of requests.
    max_concurrent, max_queued : int
        As of any pipeline; nothing is computed here, so that both are large by default.
    """

    graph: Path
    wait_min_s: float = Field(1.0, ge=0)
    wait_max_s: float = Field(5.0, ge=0)
    failure: float = Field(0.2, ge=0, le=1)
    seed: int | None = None
    max_concurrent: int = Field(10_000, ge=1)
    max_queued: int = Field(1_000_000, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.wait_min_s > self.wait_max_s:
            raise ValueError(
                f"wait_min_s {self.wait_min_s:g} is more than wait_max_s {self.wait_max_s:g}"
            )
        return self
