"""The dashboard as a service: it listens to the orchestra, and shows it to whoever watches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI
from nats.aio.msg import Msg
from starlette.requests import Request

from batuta.dashboard.gateway import Gateway
from batuta.dashboard.live_model import LiveModel
from batuta.dashboard.pages import Pages
from batuta.dashboard.poller import Addresses, Poller
from batuta.dashboard.routes import SessionRoutes, document_router, stream_router
from batuta.dashboard.sessions import Sessions
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
from batuta.service.access import AccessRules, bearer_token
from batuta.service.access_tokens import AccessTokens, Grant
from batuta.service.app import AppConfig, create_app
from batuta.service.http_pool import PoolTimeouts, open_pool
from batuta.service.route_scopes import DASHBOARD, READ
from batuta.service.routing import add_routers
from batuta.service.runner import run_service

NAME: Final = "dashboard"
TIMEOUTS: Final = PoolTimeouts(connect_s=3.0, read_s=60.0)


class Dashboard:
    """A dashboard that is open."""

    app: FastAPI

    def __init__(
        self, model: LiveModel, stream: FrameStream, poller: Poller, bus: Bus, tokens: AccessTokens
    ) -> None:
        self._model = model
        self._stream = stream
        self._poller = poller
        self._bus = bus
        self._tokens = tokens

    async def run(self) -> None:
        """Listen, ask, and end frames until cancelled."""
        await self._listen()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream.run())
            group.create_task(self._poller.run())
            group.create_task(self._tokens.watch())

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


class _Visitors:
    """Who looks: by the session of a browser, or by the token that comes with a request."""

    def __init__(self, tokens: AccessTokens, sessions: Sessions, rules: AccessRules) -> None:
        self._tokens = tokens
        self._sessions = sessions
        self._rules = rules

    def token_of(self, request: Request) -> str | None:
        """Return the token that is shown to a service in the name of a request's sender.

        It is the sender's own, so that the service knows who that is and what they may do. None
        where none is required: only who uses this machine comes here without one.
        """
        session = self._sessions.find(request.headers.get("cookie", ""))
        if session is not None:
            return session.token
        given = bearer_token(request.scope["headers"])
        return None if given is None else given.decode("latin-1")

    def may_look(self, request: Request) -> bool:
        """Return whether the sender of a request may still look: a token is revoked, or expires."""
        if not self._tokens.required:
            return True
        grant = self._rules.grant_of(request.scope["headers"])
        return grant is not None and grant.allows(READ)


def _session_of(tokens: AccessTokens, sessions: Sessions, cookie: str) -> Grant | None:
    """Return what somebody may do who has signed in: what the token allows by now."""
    session = sessions.find(cookie)
    return None if session is None else tokens.find(session.token.encode())


@asynccontextmanager
async def open_dashboard(settings: DashboardSettings, _url: str) -> AsyncIterator[Dashboard]:
    """Open a dashboard."""
    async with (
        connect(settings.nats, NAME) as bus,
        open_pool(settings.token_text, TIMEOUTS) as pool,
        open_pool(None, TIMEOUTS) as passing_on,
    ):
        model = LiveModel()
        stream = FrameStream(model.table)
        addresses = Addresses(settings.conductor_url.rstrip("/"), settings.sdb_url.rstrip("/"))
        poller = Poller(model, pool, addresses, bus)
        poller.is_watched = lambda: stream.viewers > 0
        tokens, sessions, pages = (
            AccessTokens(settings.token_text, settings.tokens),
            Sessions(),
            Pages(),
        )
        config = AppConfig(
            name=NAME,
            description="What an orchestra does, live.",
            tokens=tokens,
            routes=DASHBOARD,
            checks=partial(_checks, bus, model, pages),
            session_of=partial(_session_of, tokens, sessions),
        )
        visitors = _Visitors(tokens, sessions, config.access_rules)
        dashboard = Dashboard(model, stream, poller, bus, tokens)
        dashboard.app = create_app(config)
        add_routers(dashboard.app, SessionRoutes(sessions, tokens).router())
        add_routers(dashboard.app, document_router())
        add_routers(dashboard.app, stream_router(stream, poller.wanted.set, visitors.may_look))
        services = {"conductor": addresses.conductor, "sdb": addresses.sdb}
        gateway = Gateway(passing_on, services, visitors.token_of)
        dashboard.app.router.routes.append(gateway.route())
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
