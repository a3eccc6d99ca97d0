"""What events say to people: a line each, as `batuta watch`, `batuta up` and the dashboard show."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from batuta.messaging.events import (
    Activity,
    ApprovalNews,
    CampaignStatus,
    CircuitChange,
    DataEvent,
    DataWithdrawn,
    GraphInForce,
    HoldChange,
)
from batuta.messaging.processings import Processing, ProcessingState

AVAILABLE: Final = "available"
WITHDRAWN: Final = "withdrawn"
NOTICE: Final = "notice"


@dataclass(frozen=True, slots=True)
class NewsLine:
    """A line of text, and the state that it is about, by which it may be coloured."""

    text: str
    state: str


def line_of_data(news: DataEvent) -> NewsLine:
    """Return the line of an event on ``data.*``."""
    if isinstance(news, DataWithdrawn):
        text = f"{news.obs_id}: {news.product} v{news.version} withdrawn{_after(news.reason)}"
        return NewsLine(text, WITHDRAWN)
    version = f" v{news.version}" if news.version else ""
    maker = f" by {news.provider}" if news.provider else ""
    return NewsLine(f"{news.obs_id}: {news.product}{version} archived{maker}", AVAILABLE)


def lines_of_activity(activity: Activity) -> Iterator[NewsLine]:
    """Yield the lines of an event on ``activity.*``, but for the status of the service."""
    if activity.hold is not None:
        yield _of_hold(activity.hold)
    if (stale := activity.stale) is not None:
        yield NewsLine(f"{stale.obs_id}: {stale.product} is stale: {stale.because}", "stale")
    if (late := activity.late) is not None:
        yield NewsLine(f"{late.obs_id}: {late.product} is late", "late")
    if activity.graph is not None:
        yield _of_graph(activity.graph)
    if activity.approval is not None:
        yield _of_approval(activity.approval)
    if activity.campaign is not None:
        yield _of_campaign(activity.campaign)
    if activity.circuit is not None:
        yield _of_circuit(activity.circuit)
    processing = activity.processing
    # Only the conductor knows whether it was the last attempt.
    if processing is not None and activity.service.kind == "conductor" and processing.error:
        yield _of_failure(processing, processing.error)


def _of_hold(hold: HoldChange) -> NewsLine:
    rate = f" at {hold.rate}" if hold.state == "releasing" and hold.rate else ""
    text = f"hold {hold.number} of {hold.what} {hold.state}{rate}, by {hold.by}"
    return NewsLine(text + _after(hold.reason), ProcessingState.HELD.value)


def _of_graph(graph: GraphInForce) -> NewsLine:
    text = f"version {graph.number} of the graph is in force, by {graph.by}{_after(graph.note)}"
    return NewsLine(text, NOTICE)


def _of_approval(asked: ApprovalNews) -> NewsLine:
    # What is not made yet has no version of its own, but those of its inputs, which are many.
    version = f" v{asked.version}" if asked.version.isdecimal() else ""
    what = f"{asked.obs_id}: {asked.product}{version}"
    if asked.state == "pending":
        return NewsLine(f"{what} waits for approval", ProcessingState.UNAPPROVED.value)
    by = f" by {asked.by}" if asked.by else ""
    return NewsLine(f"{what} {asked.state}{by}{_after(asked.reason)}", NOTICE)


def _of_campaign(campaign: CampaignStatus) -> NewsLine:
    name = f" {campaign.name}" if campaign.name else ""
    done = campaign.made + campaign.failed + campaign.skipped + campaign.cancelled
    text = f"campaign {campaign.number}{name} {campaign.state}: {done} of {campaign.total}"
    return NewsLine(text, NOTICE)


def _of_circuit(circuit: CircuitChange) -> NewsLine:
    where = f"{circuit.provider} at {circuit.instance}"
    if circuit.state == "closed":
        return NewsLine(f"{where} answers again", AVAILABLE)
    lost = ", and is taken for lost" if circuit.lost else ""
    return NewsLine(
        f"{where} is left alone{lost}{_after(circuit.reason)}", ProcessingState.FAILED.value
    )


def _of_failure(processing: Processing, error: str) -> NewsLine:
    what = f"{processing.obs_id}: {processing.product}"
    state = processing.state.value
    if processing.state is ProcessingState.CANCELLED:
        return NewsLine(f"{what} cancelled: {error}", state)
    retrying = processing.state is ProcessingState.RETRYING
    attempt = f"attempt {processing.attempt}, {'to be retried' if retrying else 'the last'}"
    return NewsLine(f"{what} failed ({attempt}): {error}", state)


def _after(reason: str | None) -> str:
    return f": {reason}" if reason else ""
