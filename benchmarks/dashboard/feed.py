"""A dashboard that receives changes at a steady rate: ``OBSERVATIONS PRODUCTS CHANGES_PER_S``."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count, cycle, pairwise
from typing import Final

from fastapi import FastAPI

from batuta.dashboard.live_model import LiveModel
from batuta.dashboard.pages import Pages
from batuta.dashboard.routes import SessionRoutes, stream_router
from batuta.dashboard.sessions import Sessions
from batuta.dashboard.stream import FrameStream
from batuta.graph import Graph
from batuta.messaging import Activity, Processing, ProcessingState, ServiceStatus
from batuta.service.access_tokens import AccessTokens
from batuta.service.app import AppConfig, create_app
from batuta.service.routing import add_routers
from batuta.service.runner import run_service
from batuta.service.settings import ServiceSettings

PERIOD_S: Final = 0.05
SERVICE: Final = ServiceStatus(name="conductor", kind="conductor")
STATES: Final = (
    ProcessingState.REQUESTED,
    ProcessingState.QUEUED,
    ProcessingState.RUNNING,
    ProcessingState.SUCCEEDED,
)


def graph_of(products: int) -> Graph:
    """Return a graph of one input and a chain of products, each made from the one before."""
    names = ["INPUT", *(f"PRODUCT-{rank:02}" for rank in range(1, products))]
    made = {"o_input": [], "provider": "maker", "url": "http://127.0.0.1:1"}
    return Graph.parse(
        {
            "inputs": names[:1],
            "products": {name: {"m_input": [before], **made} for before, name in pairwise(names)},
        }
    )


class Feed:
    """The dashboard, and what feeds it with changes."""

    def __init__(self, observations: int, products: int, changes_per_s: float) -> None:
        self.app: FastAPI = create_app(AppConfig(name="dashboard", description="of a benchmark"))
        self._model = LiveModel()
        self._stream = FrameStream(self._model.table)
        graph = graph_of(products)
        self._model.replace_graph(graph, 1)
        self._observations = [f"observation-{rank:04}" for rank in range(observations)]
        self._products = list(graph.products)
        self._per_period = changes_per_s * PERIOD_S
        add_routers(self.app, SessionRoutes(Sessions(), AccessTokens()).router())
        add_routers(self.app, stream_router(self._stream, lambda: None, lambda _request: True))
        self.app.router.routes.append(Pages().route())

    async def run(self) -> None:
        """Feed the dashboard with changes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stream.run())
            group.create_task(self._change())

    async def _change(self) -> None:
        cells = cycle((o, p) for p in self._products for o in self._observations)
        numbers = count()
        for obs_id in self._observations:
            self._publish(next(numbers), obs_id, self._products[0])
        due, began = 0.0, asyncio.get_running_loop().time()
        for turn in count(1):
            due += self._per_period
            while due >= 1:
                self._publish(next(numbers), *next(cells))
                due -= 1
            late = began + turn * PERIOD_S - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, late))

    def _publish(self, number: int, obs_id: str, product: str) -> None:
        state = STATES[number % len(STATES)]
        processing = Processing(id=f"p{number}", product=product, obs_id=obs_id, state=state)
        self._model.on_activity(Activity(service=SERVICE, processing=processing))


@asynccontextmanager
async def open_feed(
    sizes: tuple[int, int, float], _settings: ServiceSettings, _url: str
) -> AsyncIterator[Feed]:
    """Open the dashboard."""
    yield Feed(*sizes)


if __name__ == "__main__":
    asked = (int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
    run_service("dashboard", ServiceSettings(port=0), partial(open_feed, asked))
