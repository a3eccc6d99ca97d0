"""What a service answers, against what its OpenAPI declares."""

import re
from collections.abc import Iterator
from typing import Any

import httpx

PROBLEM = "application/problem+json"


def require_declared(interface: dict[str, Any], response: httpx.Response) -> None:
    """Fail unless the route of `response` declares its status, with its media type."""
    method, status = response.request.method.lower(), str(response.status_code)
    operation = _operation(interface, response.request.url.path, method)
    if operation is None:
        return  # no route: 404 or 405; or one that is not of the interface
    declared = operation["responses"]
    assert status in declared, f"{method} {response.request.url.path}: {status} is not declared"
    kind = response.headers.get("content-type", "").partition(";")[0]
    if kind == PROBLEM:
        assert list(declared[status]["content"]) == [PROBLEM]
    elif content := declared[status].get("content"):
        assert {kind, "*/*"} & set(content), f"{response.request.url.path}: {kind} is not declared"


def problem_statuses(interface: dict[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield each operation, and the statuses that it declares as problems."""
    for path, operations in interface["paths"].items():
        for method, operation in operations.items():
            found = operation["responses"].items()
            yield (
                f"{method} {path}",
                {status for status, said in found if list(said.get("content", {})) == [PROBLEM]},
            )


def _operation(interface: dict[str, Any], path: str, method: str) -> dict[str, Any] | None:
    for template, operations in interface["paths"].items():
        pattern = "[^/]+".join(map(re.escape, re.split(r"{[^}]*}", template)))
        if re.fullmatch(pattern, path):
            found = operations.get(method)
            return dict(found) if found is not None else None
    return None
