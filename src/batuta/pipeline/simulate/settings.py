"""Settings of the simulated pipeline."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from batuta.pipeline.settings import ProcessingSettings


class SimulateSettings(ProcessingSettings):
    """Settings of the simulated pipeline; see the fields' descriptions."""

    graph: Path = Field(
        description="The product graph whose providers are simulated, JSON or YAML."
    )
    elsewhere: list[str] = Field(
        [], description="Providers of it that are not simulated, since their own pipelines run."
    )
    wait_min_s: float = Field(1.0, ge=0, description="Shortest time of a processing, in seconds.")
    wait_max_s: float = Field(5.0, ge=0, description="Longest time of a processing, in seconds.")
    failure: float = Field(0.2, ge=0, le=1, description="Probability that a processing fails.")
    seed: int | None = Field(
        None,
        description="Makes times and failures the same each time, for the same order of requests.",
    )
    # Nothing is computed here: both are large.
    max_concurrent: int = Field(10_000, ge=1, description="Processings that run at a time.")
    max_queued: int = Field(
        1_000_000, ge=1, description="Processings that wait; further ones are refused (429)."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.wait_min_s > self.wait_max_s:
            raise ValueError(
                f"wait_min_s {self.wait_min_s:g} is more than wait_max_s {self.wait_max_s:g}"
            )
        return self
