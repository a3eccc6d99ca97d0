"""What happened in a demonstration, according to its record: a line per situation, or None."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from batuta.cli.conductor_client import ConductorClient
from batuta.formatting import format_count
from batuta.stages import PRELIMINARY
from batuta.work_classes import WorkClass

KILLED: Final = "killed by signal 9"


@dataclass(frozen=True)
class Record:
    """What the conductor has recorded.

    Attributes
    ----------
    processings : sequence of dict
        As ``GET /processings`` returns them.
    report : mapping
        As ``GET /report`` does.
    products : mapping of str to mapping
        The products of the graph.
    failures : mapping of (str, str) to sequence of str
        What happened to the processings that needed another attempt, by product and observation.
    """

    processings: Sequence[dict[str, Any]]
    report: Mapping[str, Any]
    products: Mapping[str, Mapping[str, Any]]
    failures: Mapping[tuple[str, str], Sequence[str]]

    @property
    def made(self) -> Iterator[dict[str, Any]]:
        """The processings whose product is archived."""
        return (one for one in self.processings if one["state"] == "succeeded")


def read_record(conductor: ConductorClient) -> Record:
    """Return all that shows whether the situations happened."""
    processings = list(conductor.processings())
    retried = {(one["product"], one["obs_id"]) for one in processings if one["attempt"] > 1}
    return Record(
        processings=processings,
        report=conductor.report(),
        products=conductor.graph()["products"],
        failures={
            each: [moment["what"] for moment in conductor.why(*each)["history"]] for each in retried
        },
    )


def overtaking(record: Record) -> str | None:
    """Return how many processings of a campaign an alert has overtaken at their provider."""
    alerts = [one for one in record.processings if one["class"] == WorkClass.ALERT]
    overtaken = {one["id"]: _overtaken_by(one, record) for one in alerts}
    best = max(alerts, key=lambda one: len(overtaken[one["id"]]), default=None)
    if best is None or not overtaken[best["id"]]:
        return None
    behind = overtaken[best["id"]]
    return (
        f"{best['product']} of {best['obs_id']} (alert) went before "
        f"{format_count(len(behind), 'processing')} of campaign {behind[0]['campaign']} "
        "that had waited for longer"
    )


def _overtaken_by(alert: Mapping[str, Any], record: Record) -> list[dict[str, Any]]:
    if alert["requested"] is None:
        return []
    return [
        one
        for one in record.processings
        if one["campaign"] is not None
        and one["provider"] == alert["provider"]
        and one["requested"] is not None
        and _time(one, "created") < _time(alert, "created")
        and _time(one, "requested") > _time(alert, "requested")
    ]


def remaking(record: Record) -> str | None:
    """Return which processing was killed, and which attempt made its product."""
    for one in record.made:
        told = record.failures.get((one["product"], one["obs_id"]), ())
        if one["attempt"] > 1 and any(KILLED in what for what in told):
            return (
                f"{one['product']} of {one['obs_id']} was {KILLED} in attempt "
                f"{one['attempt'] - 1}, and made in attempt {one['attempt']}"
            )
    return None


def improvement(record: Record) -> str | None:
    """Return which product was made from preliminary inputs, and then from final ones."""
    for first in record.made:
        if first["stage"] != PRELIMINARY:
            continue
        for second in record.made:
            if (
                (second["product"], second["obs_id"]) == (first["product"], first["obs_id"])
                and second["stage"] != PRELIMINARY
                and _time(second, "created") > _time(first, "created")
            ):
                inputs = ", ".join(second["inputs"])
                return (
                    f"{first['product']} of {first['obs_id']} was made from preliminary {inputs}, "
                    f"and again once the final one was there"
                )
    return None


def approval(record: Record) -> str | None:
    """Return which product waited for an approval, who gave it and why."""
    made = {(one["product"], one["obs_id"]) for one in record.made}
    for answer in record.report["answers"]["items"]:
        if answer["verdict"] == "approved" and (answer["product"], answer["obs_id"]) in made:
            return (
                f"{answer['product']} of {answer['obs_id']} waited until {answer['by']} "
                f"approved it: {answer['reason']}"
            )
    return None


def lateness(record: Record) -> str | None:
    """Return which product was not available when it was due."""
    for line in record.report["products"]:
        if line["late"] > 0:
            due_s = record.products[line["product"]]["due"]
            count = format_count(line["late"], "observation")
            return f"{line['product']} was late for {count}: due {due_s:g} s after the first input"
    return None


def filling(record: Record) -> str | None:
    """Return which product was made of the most tiles."""
    most = max(record.made, key=lambda one: one["progress"]["total"], default=None)
    if most is None or most["progress"]["total"] < 2:
        return None
    count = format_count(most["progress"]["done"], "tile")
    return f"{most['product']} of {most['obs_id']} was made of {count}"


SITUATIONS: Final[Mapping[str, Callable[[Record], str | None]]] = {
    "an alert overtakes a campaign": overtaking,
    "a killed processing is made again": remaking,
    "a preliminary product is improved": improvement,
    "a product waits for an approval": approval,
    "a product is late": lateness,
    "tiles fill": filling,
}
"""What a demonstration shows, and the function that looks for it in the record."""
KILL: Final = "a killed processing is made again"


def _time(processing: Mapping[str, Any], key: str) -> datetime:
    return datetime.fromisoformat(processing[key])
