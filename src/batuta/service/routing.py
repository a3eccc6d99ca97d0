"""Routers of a service, and their place in its application."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from batuta.service.problems import ANY_PROBLEM
from batuta.service.query_keys import refuse_unknown_keys


class ServiceRouter(APIRouter):
    """A router whose routes refuse unknown keys of a query, and declare every problem.

    Parameters
    ----------
    responses : dict, optional
        Answers that its routes declare besides.
    **options
        Of `fastapi.APIRouter`, such as ``prefix`` and ``tags``.
    """

    def __init__(
        self, *, responses: dict[int | str, dict[str, Any]] | None = None, **options: Any
    ) -> None:
        super().__init__(
            dependencies=[Depends(refuse_unknown_keys)],
            responses={**ANY_PROBLEM, **(responses or {})},
            **options,
        )


def add_routers(app: FastAPI, *routers: ServiceRouter, first: bool = False) -> None:
    """Add the routes of routers to `app`, as they are.

    With `first`, before those that are there: each route that does not fit costs a request 10 µs.

    ``include_router`` would build each of them a second time, at the first request, and look for
    the route of each request router by router: 340 µs for the last of 70 routes where it takes 210.
    """
    routes = [route for router in routers for route in router.routes]
    at = 0 if first else len(app.router.routes)
    app.router.routes[at:at] = routes
