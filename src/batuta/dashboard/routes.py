"""What the dashboard answers over HTTP, besides its page: signing in, and the live stream."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from batuta.dashboard.sessions import Right, Sessions, session_cookie
from batuta.dashboard.stream import FrameStream
from batuta.graph import Graph, GraphError
from batuta.service.client import ServiceError
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.routing import ServiceRouter
from batuta.service.server import STOPPING

SESSION: Final = "/session"
STREAM: Final = "/stream"
DOCUMENTS: Final = "/documents"
MAX_DOCUMENT: Final = 2**20
"""Of a document that is read, in characters."""


class SignIn(BaseModel):
    """A token that is shown."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=1, max_length=4096)


class SessionState(BaseModel):
    """Whether a token is needed, whether one was shown, and what may be done with it."""

    needed: bool
    signed_in: bool
    may: tuple[Right, ...] = ()


class GraphText(BaseModel):
    """The document of a graph, as it was written: YAML or JSON."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, max_length=MAX_DOCUMENT)


class SessionRoutes:
    """Signing in and out.

    Parameters
    ----------
    sessions : Sessions
        Who has signed in.
    needed : bool
        Whether callers must.
    is_right : callable
        Tells whether a token opens the services.
    rights_of : callable
        Returns what may be done with a token; None where none is needed.
    """

    def __init__(
        self,
        sessions: Sessions,
        *,
        needed: bool,
        is_right: Callable[[str], Awaitable[bool]],
        rights_of: Callable[[str | None], tuple[Right, ...]],
    ) -> None:
        self._sessions = sessions
        self._needed = needed
        self._is_right = is_right
        self._rights_of = rights_of

    def router(self) -> ServiceRouter:
        """Return the routes."""
        router = ServiceRouter(tags=["session"])

        @router.get(SESSION)
        def state(request: Request) -> SessionState:
            """Whether signing in is needed, and done, and what may be done."""
            found = self._sessions.find(request.headers.get("cookie", ""))
            return self._state(found.token if found is not None else None)

        @router.post(
            SESSION,
            responses=problem_responses(HTTPStatus.UNAUTHORIZED, HTTPStatus.BAD_GATEWAY),
        )
        async def sign_in(shown: SignIn, request: Request, response: Response) -> SessionState:
            """Sign in with the token of the orchestra, or of an operator."""
            if self._needed:
                try:
                    is_right = await self._is_right(shown.token)
                except ServiceError as exc:
                    raise ProblemError(HTTPStatus.BAD_GATEWAY, str(exc)) from exc
                if not is_right:
                    raise ProblemError(
                        HTTPStatus.UNAUTHORIZED,
                        "wrong token (accepted: that of the orchestra, or an operator's own)",
                    )
                key = self._sessions.open(shown.token)
                secure = request.url.scheme == "https"
                response.headers["Set-Cookie"] = session_cookie(key, secure=secure)
            return self._state(shown.token)

        @router.delete(SESSION)
        def sign_out(request: Request, response: Response) -> SessionState:
            """Sign out."""
            self._sessions.close(request.headers.get("cookie", ""))
            secure = request.url.scheme == "https"
            response.headers["Set-Cookie"] = session_cookie("", secure=secure)
            return self._state(None)

        return router

    def _state(self, token: str | None) -> SessionState:
        signed_in = token is not None or not self._needed
        may = self._rights_of(token if self._needed else None) if signed_in else ()
        return SessionState(needed=self._needed, signed_in=signed_in, may=may)


def stream_router(stream: FrameStream, on_viewer: Callable[[], None]) -> ServiceRouter:
    """Return the route of the live stream; `on_viewer` is called when somebody begins to watch."""
    router = ServiceRouter(tags=["live"])

    @router.get(STREAM)
    def live(request: Request) -> StreamingResponse:
        """What is live: a snapshot, then what changes, as server-sent events."""
        on_viewer()
        stopping: asyncio.Event = getattr(request.state, STOPPING)
        return StreamingResponse(
            stream.events(request.headers.get("last-event-id", "")[:64], stopping),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    return router


def document_router() -> ServiceRouter:
    """Return the route that reads documents: browsers read no YAML."""
    router = ServiceRouter(prefix=DOCUMENTS, tags=["documents"])

    @router.post("/graph", responses=problem_responses(HTTPStatus.UNPROCESSABLE_ENTITY))
    def read_graph(given: GraphText) -> dict[str, object]:
        """A graph as the conductor takes it, every key written out; nothing is changed."""
        is_json = given.text.lstrip().startswith("{")
        try:
            graph = Graph.parse(given.text, "document.json" if is_json else "document.yaml")
        except GraphError as exc:
            problems = list(exc.problems)
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems), problems=problems
            ) from exc
        return dict(graph.as_document())

    return router
