"""The dashboard as a service: it listens to the orchestra, and shows it to whoever watches."""

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI
from nats.aio.msg import Msg
from starlette.datastructures import Headers
from starlette.requests import Request

from batuta.dashboard.gateway import Gateway
from batuta.dashboard.live_model import LiveModel
from batuta.dashboard.pages import Pages
from batuta.dashboard.poller import Addresses, Poller
from batuta.dashboard.routes import (
    DOCUMENTS,
    SESSION,
    STREAM,
    SessionRoutes,
    document_router,
    stream_router,
)
from batuta.dashboard.sessions import Right, Sessions
from batuta.dashboard.settings import DashboardSettings
from batuta.dashboard.stream import FrameStream
from batuta.messaging import (
    Bus,
    MalformedEventError,
    connect,
    decode_activity,
    decode_data,
    subjects,
)
from batuta.service.app import AppConfig, create_app
from batuta.service.http_pool import ForwardedRequest, HttpPool, PoolTimeouts, open_pool
from batuta.service.problems import ProblemError
from batuta.service.routing import add_routers
from batuta.service.runner import run_service

NAME: Final = "dashboard"
TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=60.0)


class Dashboard:
    """A dashboard that is open."""

    app: FastAPI

    def __init__(self, model: LiveModel, stream: FrameStream, poller: Poller, bus: Bus) -> None:
        self._model = model
        self._stream = stream
        self._poller = poller
        self._bus = bus

    async def run(self) -> None:
        """Listen, ask, and end frames until cancelled."""
        await self._listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream.run())
            group.create_task(self._poller.run())

    async def _listen(self) -> None:
        subscribe = self._bus.client.subscribe
        await subscribe(subjects.DATA_SUBJECTS, cb=self._on_data)
        await subscribe(subjects.ACTIVITY_SUBJECTS, cb=self._on_activity)
        await self._bus.client.flush()

    async def _on_data(self, message: Msg) -> None:
        try:
            self._model.on_data(decode_data(message.data))
        except MalformedEventError as exc:
            self._model.note(f"{message.subject}: not understood: {exc}")

    async def _on_activity(self, message: Msg) -> None:
        try:
            self._model.on_activity(decode_activity(message.data))
        except MalformedEventError as exc:
            self._model.note(f"{message.subject}: not understood: {exc}")


class _Tokens:
    """Whose token is shown to the services that are called."""

    def __init__(self, settings: DashboardSettings, pool: HttpPool, sessions: Sessions) -> None:
        self._token = settings.token_text
        self._conductor_url = settings.conductor_url
        self._pool = pool
        self._sessions = sessions

    def of_request(self, request: Request, service: str) -> str | None:
        """Return the token of the session, or that which came with the request.

        Only the conductor knows the operators' own tokens: what one of them reads of the sdb is
        read with the token of the orchestra, and what changes something there is refused.

        Raises
        ------
        ProblemError
            For what its sender may not do.
        """
        session = self._sessions.find(request.headers.get("cookie", ""))
        if session is None:
            kind, _, given = request.headers.get("authorization", "").partition(" ")
            return given if kind == "Bearer" and given else self._token
        if service != "sdb" or Right.WITHDRAW in self.rights_of(session.token):
            return session.token
        if request.method not in ("GET", "HEAD"):
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                "an operator's own token changes nothing at the sdb (accepted: the orchestra's)",
            )
        return self._token

    def rights_of(self, token: str | None) -> tuple[Right, ...]:
        """Return what may be done with a token that was found right; None: where none is needed."""
        if token is None or self._is_of_orchestra(token):
            return tuple(Right)
        return (Right.ORDER,)

    def _is_of_orchestra(self, token: str) -> bool:
        own = self._token
        return own is not None and hmac.compare_digest(token.encode(), own.encode())

    def admits(self, headers: Headers) -> bool:
        """Return whether a request shows that its sender has signed in."""
        return self._sessions.find(headers.get("cookie", "")) is not None

    async def is_right(self, token: str) -> bool:
        """Return whether a token is that of the orchestra, or opens the conductor."""
        if self._is_of_orchestra(token):
            return True
        if not (token.isascii() and token.isprintable()):
            return False
        url = f"{self._conductor_url.rstrip('/')}/services"
        request = ForwardedRequest(method="GET", url=url, headers={}, token=token)
        async with self._pool.forward("conductor", request) as (status, _answer):
            return status == HTTPStatus.OK


@asynccontextmanager
async def open_dashboard(settings: DashboardSettings, _url: str) -> AsyncIterator[Dashboard]:
    """Open a dashboard."""
    async with (
        connect(settings.nats, NAME) as bus,
        open_pool(settings.token_text, TIMEOUTS) as pool,
        open_pool(None, TIMEOUTS) as visitors,
    ):
        model = LiveModel()
        stream = FrameStream(model.table)
        addresses = Addresses(settings.conductor_url.rstrip("/"), settings.sdb_url.rstrip("/"))
        poller = Poller(model, pool, addresses, bus)
        poller.is_watched = lambda: stream.viewers > 0
        sessions = Sessions()
        tokens = _Tokens(settings, visitors, sessions)
        pages = Pages()
        dashboard = Dashboard(model, stream, poller, bus)
        dashboard.app = create_app(
            AppConfig(
                name=NAME,
                description="What an orchestra does, live.",
                token=settings.token_text,
                checks=partial(_checks, bus, model, pages),
                # The script that follows the stream is a part of the page.
                open_paths=frozenset({SESSION, f"{STREAM}.js"}),
                protected_prefixes=(
                    "/api/",
                    DOCUMENTS,
                    STREAM,
                    "/metrics",
                    "/docs",
                    "/openapi.json",
                ),
                admits=tokens.admits,
            )
        )
        needed = settings.token is not None
        routes = SessionRoutes(
            sessions, needed=needed, is_right=tokens.is_right, rights_of=tokens.rights_of
        )
        add_routers(dashboard.app, routes.router())
        add_routers(dashboard.app, document_router())
        add_routers(dashboard.app, stream_router(stream, poller.wanted.set))
        services = {"conductor": addresses.conductor, "sdb": addresses.sdb}
        dashboard.app.router.routes.append(Gateway(visitors, services, tokens.of_request).route())
        dashboard.app.router.routes.append(pages.route())
        yield dashboard


def _checks(bus: Bus, model: LiveModel, pages: Pages) -> dict[str, bool | str]:
    asked = {name: model.table.get(f"asked/{name}") or {} for name in ("conductor", "sdb")}
    return {
        "nats": bus.health,
        "page": pages.built or "the page is not built: see its address",
        **{name: each.get("problem") or True for name, each in asked.items()},
    }


def run(settings: DashboardSettings) -> None:
    """Serve until SIGINT or SIGTERM."""
    run_service(NAME, settings, open_dashboard)
