"""What the dashboard answers over HTTP, besides its page: signing in, and the live stream."""

import asyncio
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from batuta.dashboard.sessions import Sessions, session_cookie
from batuta.dashboard.stream import FrameStream
from batuta.graph import Graph, GraphError
from batuta.service.access import scope_problem
from batuta.service.access_tokens import UNRESTRICTED, AccessTokens, Grant
from batuta.service.problems import ProblemError, problem_responses
from batuta.service.route_scopes import READ
from batuta.service.routing import ServiceRouter
from batuta.service.scopes import Scope
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
    """Whether a token is needed, whether one was shown, and the scopes that it has."""

    needed: bool
    signed_in: bool
    may: tuple[Scope, ...] = ()


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
    tokens : AccessTokens
        What is accepted.
    """

    def __init__(self, sessions: Sessions, tokens: AccessTokens) -> None:
        self._sessions = sessions
        self._tokens = tokens

    def router(self) -> ServiceRouter:
        """Return the routes."""
        router = ServiceRouter(tags=["session"])

        @router.get(SESSION)
        def state(request: Request) -> SessionState:
            """Whether signing in is needed, and done, and what may be done."""
            found = self._sessions.find(request.headers.get("cookie", ""))
            return self._state(self._tokens.find(found.token.encode()) if found else None)

        @router.post(SESSION)
        async def sign_in(shown: SignIn, request: Request, response: Response) -> SessionState:
            """Sign in with a token."""
            if not self._tokens.required:
                return self._state(None)
            grant = self._grant_of(shown.token.encode())
            secure = request.url.scheme == "https"
            cookie = session_cookie(self._sessions.open(shown.token), secure=secure)
            response.headers["Set-Cookie"] = cookie
            return self._state(grant)

        @router.delete(SESSION)
        def sign_out(request: Request, response: Response) -> SessionState:
            """Sign out."""
            self._sessions.close(request.headers.get("cookie", ""))
            secure = request.url.scheme == "https"
            response.headers["Set-Cookie"] = session_cookie("", secure=secure)
            return self._state(None)

        return router

    def _grant_of(self, token: bytes) -> Grant:
        """Return what a token allows that opens the dashboard.

        Raises
        ------
        ProblemError
            If it is unknown, has expired, or does not let its owner look.
        """
        grant = self._tokens.find(token)
        if grant is None:
            problem = self._tokens.expiry_of(token) or "wrong token"
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED, f"{problem} (accepted: that of the orchestra, or your own)"
            )
        if not grant.allows(READ):
            raise ProblemError(HTTPStatus.FORBIDDEN, scope_problem("the dashboard", grant, READ))
        return grant

    def _state(self, grant: Grant | None) -> SessionState:
        if not self._tokens.required:
            grant = UNRESTRICTED
        may = () if grant is None else tuple(grant.allowed)
        return SessionState(needed=self._tokens.required, signed_in=grant is not None, may=may)


def stream_router(
    stream: FrameStream,
    on_viewer: Callable[[], None],
    may_look: Callable[[Request], bool],
) -> ServiceRouter:
    """Return the route of the live stream.

    `on_viewer` is called when somebody begins to watch, `may_look` again and again: a stream ends
    soon after the token of its viewer.
    """
    router = ServiceRouter(tags=["live"])

    @router.get(STREAM)
    def live(request: Request) -> StreamingResponse:
        """What is live: a snapshot, then what changes, as server-sent events."""
        on_viewer()
        stopping: asyncio.Event = getattr(request.state, STOPPING)
        return StreamingResponse(
            stream.events(
                request.headers.get("last-event-id", "")[:64], stopping, partial(may_look, request)
            ),
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
