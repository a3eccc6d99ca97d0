"""Which scope each route needs: the tables of all services, and how a request finds its line.

A route that only reads (GET, HEAD) needs `READ`, unless a table says otherwise. Every other route
is in a table; one that is in none is for those who administer, so that what was forgotten is
refused. `tests/service/test_route_scopes.py` compares the tables with the routes of the services.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from starlette.routing import compile_path

from batuta.service.scopes import Scope

Needed = frozenset[Scope]
"""One of these is needed; nothing, not even a token, if there is none."""

RouteTable = Mapping[str, Needed]
"""What is needed, by method and path template: ``POST /holds/{number}/release``."""

OPEN: Final[Needed] = frozenset()
READ: Final[Needed] = frozenset({Scope.READ})
IMPORT: Final[Needed] = frozenset({Scope.IMPORT})
READ_OR_IMPORT: Final[Needed] = frozenset({Scope.READ, Scope.IMPORT})
"""What somebody who imports has to ask."""
OPERATE: Final[Needed] = frozenset({Scope.OPERATE})
ADMINISTER: Final[Needed] = frozenset({Scope.ADMINISTER})

EVERY_SERVICE: Final[RouteTable] = {
    "GET /health": OPEN,  # for supervisors
}

SDB: Final[RouteTable] = {
    "POST /products": IMPORT,
    "POST /products/bulk": IMPORT,
    "POST /products/reference": IMPORT,
    "POST /products/{product}/{obs_id}": IMPORT,
    # Each is of the token that has created it.
    "OPTIONS /uploads": IMPORT,
    "POST /uploads": IMPORT,
    "GET /uploads": IMPORT,
    "GET /uploads/{upload_id}": IMPORT,
    "PATCH /uploads/{upload_id}": IMPORT,
    "PUT /uploads/{upload_id}/quicklook": IMPORT,
    "DELETE /uploads/{upload_id}": IMPORT,
    "GET /products": READ_OR_IMPORT,
    "GET /products/{product}/{obs_id}": READ_OR_IMPORT,
    "GET /products/{product}/{obs_id}/versions/{version}": READ_OR_IMPORT,
    "POST /products/lookup": READ_OR_IMPORT,
    # It cannot be undone.
    "DELETE /products/{product}/{obs_id}/versions/{version}": ADMINISTER,
}

CONDUCTOR: Final[RouteTable] = {
    # Its address has a token of its own, for one attempt.
    "POST /callbacks/{processing_id}/{attempt}/{token}/{what}": OPEN,
    "GET /graph": READ_OR_IMPORT,
    "GET /observations/{obs_id}/following/{product}": READ_OR_IMPORT,
    # These tell what would be done, and do nothing.
    "POST /graph/preview": READ,
    "POST /orders/preview": READ,
    "POST /approvals/approve": OPERATE,
    "POST /approvals/refuse": OPERATE,
    "POST /campaigns": OPERATE,
    "POST /campaigns/{number}/start": OPERATE,
    "POST /campaigns/{number}/pause": OPERATE,
    "POST /campaigns/{number}/resume": OPERATE,
    "POST /campaigns/{number}/cancel": OPERATE,
    "POST /dead/resend": OPERATE,
    "POST /hold": OPERATE,
    "DELETE /hold": OPERATE,
    "POST /holds": OPERATE,
    "POST /holds/{number}/release": OPERATE,
    "POST /orders": OPERATE,
    "POST /processings": OPERATE,
    "POST /processings/make": OPERATE,
    "POST /processings/retry": OPERATE,
    "POST /processings/cancel": OPERATE,
    "POST /processings/reprioritize": OPERATE,
    "DELETE /processings/{processing_id}": OPERATE,
    "POST /processings/{processing_id}/retry": OPERATE,
    "POST /processings/{processing_id}/reprioritize": OPERATE,
    "DELETE /providers/{provider}/circuit": OPERATE,
    "POST /providers/{provider}/hold": OPERATE,
    "DELETE /providers/{provider}/hold": OPERATE,
    # What changes the graph, or the record itself.
    "POST /graph/versions": ADMINISTER,
    "POST /reconciliation": ADMINISTER,
    "DELETE /observations/{obs_id}/products/{product}": ADMINISTER,
    "POST /retention": ADMINISTER,
}

PIPELINE: Final[RouteTable] = {
    # The conductor's requests have the token of the orchestra.
    "POST /processing": OPERATE,
    "DELETE /processing/{processing_id}": OPERATE,
    "POST /retention": ADMINISTER,
}

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def under(prefix: str, table: RouteTable) -> dict[str, Needed]:
    """Return a table for the same routes under a prefix."""
    moved = (key.split(" ") for key in table)
    return {
        f"{method} {prefix}{path}": needed
        for (method, path), needed in zip(moved, table.values(), strict=True)
    }


def passed_on(prefix: str, table: RouteTable) -> dict[str, Needed]:
    """Return a table for requests that are passed on to a service: none is open."""
    return {key: needed for key, needed in under(prefix, table).items() if needed}


DASHBOARD: Final[RouteTable] = {
    "GET /session": OPEN,
    "POST /session": OPEN,
    "DELETE /session": OPEN,
    "GET /stream": READ,
    "POST /documents/graph": READ,
    "GET /metrics": READ,
    "GET /docs": READ,
    "GET /openapi.json": READ,
    # What they need at the service itself: it may be one that requires no token.
    **passed_on("/api/conductor", CONDUCTOR),
    **passed_on("/api/sdb", SDB),
    "GET /api/{service}/{path:path}": READ,
    # The page, which shows nothing before somebody has signed in.
    "GET /{path:path}": OPEN,
}


class RouteScopes:
    """Finds what requests need.

    Parameters
    ----------
    table : mapping
        That of the service; of several lines that a path fits, the most specific one counts.
    """

    def __init__(self, table: RouteTable) -> None:
        self._table = dict(table)
        self._patterns: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for method in _METHODS:
            keys = [key for key in table if key.startswith(f"{method} ")]
            self._patterns[method] = list(_compiled(sorted(keys, key=_generality)))

    def needed(self, method: str, path: str) -> Needed:
        """Return what a request needs."""
        key = self.line(method, path)
        if key is not None:
            return self._table[key]
        return READ if method in _READING else ADMINISTER

    def line(self, method: str, path: str) -> str | None:
        """Return the line of the table that a request finds; None if there is none."""
        method = "GET" if method == "HEAD" else method
        exact = f"{method} {path}"
        if exact in self._table:
            return exact
        for pattern, key in self._patterns.get(method, ()):
            if pattern.match(path):
                return key
        return None


def _compiled(keys: list[str]) -> Iterator[tuple[re.Pattern[str], str]]:
    for key in keys:
        pattern, _, parameters = compile_path(key.partition(" ")[2])
        if parameters:
            yield pattern, key


def _generality(key: str) -> tuple[bool, int]:
    return ":path}" in key, -len(re.sub(r"{[^}]*}", "", key))
