"""The conductor's settings."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from batuta.service.retention import Days, RetentionRules, StreamRules
from batuta.service.settings import ServiceSettings


class EventRules(BaseModel):
    """How many records of received events are kept, the oldest going first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: Days = Field(90.0, description="Days after which they are dropped, or never.")
    number: int = Field(1_000_000, ge=1, lt=2**63, description="Events at most, about.")


class ConductorSettings(ServiceSettings):
    """Settings of a conductor; see the descriptions of the fields."""

    port: int = Field(8002, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    graph: Path = Field(description="The product graph, JSON or YAML.")
    database_url: str = Field(
        "sqlite:///batuta-data/conductor.db",
        description="Where it records what is available and every processing: sqlite:///file, or "
        "postgresql://... for several conductors that share the work.",
    )
    sdb_url: str = Field(
        "http://127.0.0.1:8001",
        description="The product database, asked for what it holds when the conductor's own "
        "database is new.",
    )
    public_url: str | None = Field(
        None,
        description="The address that pipelines reach this service by, where it is not the one it "
        "listens on; addresses of callbacks start with it.",
    )
    provider_urls: dict[str, str] = Field(
        default_factory=dict,
        description="Address that replaces the graph's, as PROVIDER=URL; may be repeated.",
    )
    retry_wait_s: float = Field(
        1.0,
        gt=0,
        description="Wait before a second attempt, in seconds; doubled for each one after it.",
    )
    retry_wait_max_s: float = Field(
        300.0, gt=0, description="Longest wait between two attempts, in seconds."
    )
    circuit_unanswered: int = Field(
        5,
        ge=1,
        le=1_000,
        description="Requests in a row that a provider does not answer, or by 5xx, before it is "
        "left alone and only tried now and then; those about one observation count once.",
    )
    circuit_failed: int = Field(
        10,
        ge=1,
        le=1_000,
        description="Observations in a row of which a provider's processings fail before it is "
        "left alone and only tried now and then.",
    )
    retention: RetentionRules = Field(
        default_factory=RetentionRules,
        description="How long the records of an observation stay after its last news, and where "
        "they go, as KEY=VALUE; may be repeated: finished_days, failed_days, archive.",
    )
    streams: StreamRules = Field(
        default_factory=StreamRules,
        description="How much the streams of NATS hold, as KEY=VALUE; may be repeated: data_days, "
        "data_messages, activity_days, activity_mb, dead_days, dead_mb.",
    )
    events: EventRules = Field(
        default_factory=EventRules,
        description="How long what became of each event is kept, as KEY=VALUE; may be repeated: "
        "days (90), number (1000000).",
    )
    ask_after_s: float = Field(
        2.0,
        gt=0,
        description="Seconds without a report of a processing before its pipeline is polled.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_plain_tokens(cls, values: Any) -> Any:
        if isinstance(values, dict) and "operator_tokens" in values:
            raise ValueError(
                "operator_tokens: a file of tokens in plain text is not accepted any more "
                "(accepted: tokens, a file that batuta token new NAME --scope ... writes)"
            )
        return values
