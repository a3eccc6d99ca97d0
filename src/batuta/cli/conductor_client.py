"""The client of the conductor's REST interface."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import quote

import httpx

from batuta.service.client import (
    TIMEOUT,
    ServiceError,
    answered_json,
    auth_headers,
    check_response,
    operator_headers,
    tls_verification,
    translate_errors,
)

MAX_ITEMS: Final = 1000
"""In one page, as the conductor has them."""
MAX_ORDERS: Final = 1000
"""In one request, as the conductor accepts them."""


class ConductorClient:
    """A connection to a conductor, to be used in a ``with`` block.

    Every method raises `ServiceError` if the conductor cannot be reached, or refuses.

    Parameters
    ----------
    url : str
        Its URL.
    token : str, optional
        The bearer token; ``BATUTA_TOKEN`` by default.
    service : str
        Its name in messages.
    operator : str, optional
        Who gives the commands; ``BATUTA_OPERATOR`` by default, else the user of this machine.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        service: str = "conductor",
        operator: str | None = None,
    ) -> None:
        self._service = service
        self._url = url.rstrip("/")
        self._client = httpx.Client(
            timeout=TIMEOUT,
            headers={**auth_headers(token), **operator_headers(operator)},
            trust_env=False,
            verify=tls_verification(url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def make(self, product: str, obs_id: str) -> dict[str, Any]:
        """Request a product, and return its processing."""
        return self._call("POST", "/processings", json={"product": product, "obs_id": obs_id})

    def retry(self, processing_id: str) -> dict[str, Any]:
        """Retry a failed or cancelled processing, and return it."""
        return self._call("POST", f"/processings/{quote(processing_id, safe='')}/retry")

    def make_many(
        self, orders: Sequence[tuple[str, str]], work_class: str | None = None
    ) -> list[dict[str, Any]]:
        """Request products, each (product, obs_id), in a class; return an answer for each."""
        of_class = {} if work_class is None else {"class": work_class}
        items = [{"product": product, "obs_id": obs_id, **of_class} for product, obs_id in orders]
        return self._many("make", "items", items)

    def retry_many(self, ids: Sequence[str], reason: str | None = None) -> list[dict[str, Any]]:
        """Retry processings; return an answer for each."""
        return self._many("retry", "ids", ids, reason)

    def cancel_many(self, ids: Sequence[str], reason: str | None = None) -> list[dict[str, Any]]:
        """Cancel processings; return an answer for each."""
        return self._many("cancel", "ids", ids, reason)

    def reprioritize_many(
        self, ids: Sequence[str], urgency: Mapping[str, Any], reason: str | None = None
    ) -> list[dict[str, Any]]:
        """Change the class or the priority of processings; return an answer for each."""
        return self._many("reprioritize", "ids", ids, reason, urgency)

    def _many(
        self,
        what: str,
        key: str,
        items: Sequence[Any],
        reason: str | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for start in range(0, len(items), MAX_ORDERS):
            body: dict[str, Any] = {key: items[start : start + MAX_ORDERS], **more}
            body |= {} if reason is None else {"reason": reason}
            answers += self._call("POST", f"/processings/{what}", json=body, timeout=None)["items"]
        return answers

    def processing(self, processing_id: str) -> dict[str, Any]:
        """Return one processing."""
        return self._call("GET", f"/processings/{quote(processing_id, safe='')}")

    def following(self, product: str, obs_id: str, version: int) -> dict[str, Any]:
        """Return what follows from a version of a product: open, made and failed."""
        where = f"/observations/{quote(obs_id, safe='')}/following/{quote(product, safe='')}"
        return self._call("GET", where, params={"version": version})

    def forget(self, product: str, obs_id: str) -> dict[str, Any]:
        """Make it stop believing in a version that the sdb does not hold."""
        return self._call(
            "DELETE", f"/observations/{quote(obs_id, safe='')}/products/{quote(product, safe='')}"
        )

    def reconciliation(self, *, mend: bool) -> dict[str, Any]:
        """Return how its records differ from the sdb, mended or not; takes as long as it takes."""
        return self._call("POST" if mend else "GET", "/reconciliation", timeout=None)

    def retention(self, *, apply: bool) -> dict[str, Any]:
        """Return what its rules of retention drop, dropped or not; takes as long as it takes."""
        return self._call("POST" if apply else "GET", "/retention", timeout=None)

    def summary(self) -> dict[str, Any]:
        """Return all that it has recorded, counted."""
        return self._call("GET", "/summary")

    def observations(self) -> Iterator[dict[str, Any]]:
        """Yield a summary of each observation."""
        return self._pages("/observations")

    def latest_observations(self, count: int, **filters: str) -> list[dict[str, Any]]:
        """Return so many observations at most, those first that were heard of last."""
        return self._first("/observations", count, order="newest", **filters)

    def first_processings(self, count: int, **filters: str) -> list[dict[str, Any]]:
        """Return so many processings at most, the newest."""
        return self._first("/processings", count, **filters)

    def observation(self, obs_id: str) -> dict[str, Any]:
        """Return one observation, with its products."""
        return self._call("GET", f"/observations/{quote(obs_id, safe='')}")

    def processings(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield processings, the newest first."""
        return self._pages("/processings", **filters)

    def events(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield what was received, and what became of it, the newest first."""
        return self._pages("/events", **filters)

    def orders(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield what operators have ordered, the newest first."""
        return self._pages("/orders", **filters)

    def event(self, event_id: str) -> dict[str, Any]:
        """Return one event by its id, with what it has caused."""
        return self._call("GET", f"/events/{quote(event_id)}")

    def preview(
        self, command: str, filters: dict[str, Any], urgency: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return what a command would be carried out for, counted."""
        body = {"command": command, "filters": filters, **urgency}
        return self._call("POST", "/orders/preview", json=body, timeout=None)

    def order(
        self,
        command: str,
        filters: dict[str, Any],
        reason: str | None,
        urgency: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Order a command for every processing that the filters select; return the order."""
        body: dict[str, Any] = {"command": command, "filters": filters, **urgency}
        body |= {} if reason is None else {"reason": reason}
        return self._call("POST", "/orders", json=body, timeout=None)

    def find_order(self, number: int) -> dict[str, Any]:
        """Return an order by its number: how far it has come."""
        return self._call("GET", f"/orders/{number}")

    def approvals(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield what waits for a person's approval."""
        return self._pages("/approvals", **filters)

    def answer(
        self, verdict: str, items: Sequence[dict[str, Any]], reason: str | None
    ) -> list[dict[str, Any]]:
        """Approve or refuse (`verdict`) items; return an answer for each."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(items), MAX_ORDERS):
            body: dict[str, Any] = {"items": items[start : start + MAX_ORDERS]}
            body |= {} if reason is None else {"reason": reason}
            answers += self._call("POST", f"/approvals/{verdict}", json=body, timeout=None)["items"]
        return answers

    def report(self, **span: str) -> dict[str, Any]:
        """Return what happened in a span of time, its ends by ``from`` and ``to``."""
        return self._call("GET", "/report", params=span, timeout=None)

    def late_products(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield the products that were due and are not available, the one due first at first."""
        return self._pages("/late", **filters)

    def late_count(self) -> int:
        """Return how many there are."""
        return int(self._call("GET", "/late", params={"limit": "1"})["total"])

    def stops(self) -> list[dict[str, Any]]:
        """Return what was stopped, and whose provider could not be told yet."""
        return cast("list[dict[str, Any]]", self._call("GET", "/stops")["items"])

    def providers(self) -> list[dict[str, Any]]:
        """Return the providers, with how each of their addresses answers."""
        return cast("list[dict[str, Any]]", self._call("GET", "/providers")["items"])

    def close_circuits(self, provider: str) -> dict[str, Any]:
        """Close the open circuits of a provider, so that it is requested from again at once."""
        return self._call("DELETE", f"/providers/{quote(provider, safe='')}/circuit")

    def dead_letters(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield the messages that were put aside, the oldest first."""
        return self._pages("/dead", **filters)

    def dead_letter(self, number: int) -> dict[str, Any]:
        """Return one of them, as it was published."""
        return self._call("GET", f"/dead/{number}")

    def dead_letter_count(self) -> int:
        """Return how many there are."""
        return int(self._call("GET", "/dead", params={"limit": "1"})["total"])

    def resend(self, numbers: Sequence[int], confirmation: str) -> list[dict[str, Any]]:
        """Send dead letters again; return what became of each."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(numbers), MAX_ORDERS):
            body = {
                "sequences": list(numbers[start : start + MAX_ORDERS]),
                "confirmation": confirmation,
            }
            answers += self._call("POST", "/dead/resend", json=body, timeout=None)["items"]
        return answers

    def holds(self) -> list[dict[str, Any]]:
        """Return the holds that have not ended."""
        return cast("list[dict[str, Any]]", self._call("GET", "/holds")["items"])

    def place_hold(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Hold what `order` says, and return the hold."""
        return self._call("POST", "/holds", json=order)

    def release_hold(self, number: int, order: Mapping[str, Any]) -> dict[str, Any]:
        """Release a hold, and return it."""
        return self._call("POST", f"/holds/{number}/release", json=order)

    def preview_release(self, number: int) -> dict[str, Any]:
        """Return what the release of a hold would start."""
        return self._call("GET", f"/holds/{number}/preview")

    def plan_campaign(self, order: dict[str, Any]) -> dict[str, Any]:
        """Plan a campaign, and return it; takes as long as it takes."""
        return self._call("POST", "/campaigns", json=order, timeout=None)

    def order_campaign(self, number: int, order: str, reason: str | None = None) -> dict[str, Any]:
        """Start, pause, resume or cancel a campaign, and return it."""
        body = {} if reason is None else {"reason": reason}
        return self._call("POST", f"/campaigns/{number}/{order}", json=body)

    def campaigns(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Yield campaigns, the newest first."""
        return self._pages("/campaigns", **filters)

    def campaign(self, number: int) -> dict[str, Any]:
        """Return one campaign."""
        return self._call("GET", f"/campaigns/{number}")

    def campaign_items(self, number: int, state: str) -> Iterator[dict[str, Any]]:
        """Yield what a campaign has begun and not made, of a state."""
        return self._pages(f"/campaigns/{number}/items", state=state)

    def campaign_report(self, number: int) -> dict[str, Any]:
        """Return the report of an ended campaign."""
        return self._call("GET", f"/campaigns/{number}/report")

    def services(self) -> list[dict[str, Any]]:
        """Return the services that reported recently."""
        return cast("list[dict[str, Any]]", self._call("GET", "/services")["items"])

    def health(self) -> dict[str, Any]:
        """Return its health, and that of its dependencies."""
        return self._call("GET", "/health")

    def graph(self) -> dict[str, Any]:
        """Return the product graph."""
        return self._call("GET", "/graph")

    def graph_versions(self) -> Iterator[dict[str, Any]]:
        """Yield the graphs that were put in force, the newest first."""
        return self._pages("/graph/versions")

    def graph_version(self, number: int) -> dict[str, Any]:
        """Return one of them, with its document."""
        return self._call("GET", f"/graph/versions/{number}")

    def graph_version_in_force(self) -> dict[str, Any]:
        """Return the version in force, with its document."""
        (newest,) = self._first("/graph/versions", 1)
        return self.graph_version(newest["number"])

    def preview_graph(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a graph would change; takes as long as it takes."""
        return self._call("POST", "/graph/preview", json=order, timeout=None)

    def apply_graph(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Put a graph in force, and return the version that it is."""
        return self._call("POST", "/graph/versions", json=order)

    def why(self, product: str, obs_id: str) -> dict[str, Any]:
        """Return why a product was, or was not, made."""
        return self._call("GET", f"/why/{quote(product, safe='')}/{quote(obs_id, safe='')}")

    def _first(self, path: str, count: int, **filters: str) -> list[dict[str, Any]]:
        pages = self._pages(path, limit=str(min(count, MAX_ITEMS)), **filters)
        return list(islice(pages, count))

    def _pages(self, path: str, **filters: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            params = {"limit": str(MAX_ITEMS), **filters, **({"cursor": cursor} if cursor else {})}
            page = self._call("GET", path, params=params)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        with translate_errors(self._service, self._url):
            response = self._client.request(method, f"{self._url}{path}", **arguments)
        try:
            return cast("dict[str, Any]", answered_json(check_response(self._service, response)))
        except ValueError as exc:
            raise ServiceError(
                f"{self._service}: the answer of {self._url}{path} is not JSON"
            ) from exc
