"""The conductor's REST interface, as commands call it."""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import httpx

from batuta.service.client import TIMEOUT, ServiceError, answering, checked, headers, tls_for


class ConductorClient:
    """A connection to a conductor; close it, or use it in a ``with``.

    Every method raises `ServiceError` where the conductor cannot be reached, or refuses.

    Parameters
    ----------
    url : str
        Where it is.
    token : str, optional
        By default that of ``BATUTA_TOKEN``.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(
            timeout=TIMEOUT, headers=headers(token), trust_env=False, verify=tls_for(url)
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
        """Ask for a product; returns the processing."""
        return self._call("POST", "/processings", json={"product": product, "obs_id": obs_id})

    def retry(self, processing_id: str) -> dict[str, Any]:
        """Try a failed or cancelled processing again; returns it."""
        return self._call("POST", f"/processings/{quote(processing_id, safe='')}/retry")

    def observations(self) -> Iterator[dict[str, Any]]:
        """All observations, in brief."""
        return self._pages("/observations")

    def observation(self, obs_id: str) -> dict[str, Any]:
        """One observation, with its products."""
        return self._call("GET", f"/observations/{quote(obs_id, safe='')}")

    def processings(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Processings, the newest first."""
        return self._pages("/processings", **filters)

    def services(self) -> list[dict[str, Any]]:
        """The services heard lately."""
        return cast("list[dict[str, Any]]", self._call("GET", "/services")["items"])

    def health(self) -> dict[str, Any]:
        """Its health, and that of what it needs."""
        return self._call("GET", "/health")

    def graph(self) -> dict[str, Any]:
        """The product graph."""
        return self._call("GET", "/graph")

    def why(self, product: str, obs_id: str) -> dict[str, Any]:
        """Why a product was, or was not, made."""
        return self._call("GET", f"/why/{quote(product, safe='')}/{quote(obs_id, safe='')}")

    def _pages(self, path: str, **filters: str) -> Iterator[dict[str, Any]]:
        cursor: str | None = None
        while True:
            params = {**filters, "limit": "1000", **({"cursor": cursor} if cursor else {})}
            page = self._call("GET", path, params=params)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        with answering("conductor", self._url):
            response = self._client.request(method, f"{self._url}{path}", **arguments)
        try:
            return cast("dict[str, Any]", checked("conductor", response).json())
        except ValueError as exc:
            raise ServiceError(f"conductor: what {self._url}{path} answered is not JSON") from exc
