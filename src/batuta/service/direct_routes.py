"""Routes that are asked for most often: served with as little as possible before their functions.

FastAPI opens three stacks of contexts for each request, looks for its route among all of them,
solves dependencies, and handles errors twice: about a fifth of the processor time of a small
import. A function that reads its request itself needs none of these.
"""

from collections.abc import Awaitable, Callable
from functools import cached_property

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from batuta.service.query_keys import keys_of, refuse_keys


class DirectRoute(APIRoute):
    """A route whose function takes the request, and returns the response.

    It is declared, described and found as any other.
    """

    @cached_property
    def query_keys(self) -> frozenset[str]:
        """What its query may say."""
        return keys_of(self)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # as FastAPI documents
        """Return what answers, for applications without `DirectRoutes`."""
        return self.answer

    async def answer(self, request: Request) -> Response:
        """Answer a request.

        Raises
        ------
        ProblemError
            422 if its query has keys that the route does not know; what the function raises.
        """
        refuse_keys(request, self.query_keys)
        response: Response = await self.endpoint(request)
        return response


class DirectRoutes:
    """ASGI middleware, the innermost, that serves the direct routes of an application.

    What they raise is answered as by all of its routes.

    Parameters
    ----------
    app : ASGIApp
        Serves all others.
    service : FastAPI
        Which has the routes and the handlers of exceptions. They are read when the first request
        comes, as Starlette makes its middleware then.
    """

    def __init__(self, app: ASGIApp, service: FastAPI) -> None:
        self._app = app
        self._routes = [each for each in service.router.routes if isinstance(each, DirectRoute)]
        # That of all others is asked by the outermost of all, which logs them.
        handlers = {
            kind: handler
            for kind, handler in service.exception_handlers.items()
            if kind is not Exception
        }
        self._answer = ExceptionMiddleware(_answer, handlers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a direct route, or pass it on."""
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    await self._answer({**scope, **found}, receive, send)
                    return
        await self._app(scope, receive, send)


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    route: DirectRoute = scope["route"]
    response = await route.answer(Request(scope, receive, send))
    await response(scope, receive, send)
