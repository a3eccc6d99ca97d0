"""Sending requests to pipelines, and asking those that are silent."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy.exc import OperationalError

from batuta.conductor.ledger import Ledger, News, Request, Row
from batuta.conductor.providers import Providers, news_of
from batuta.conductor.rules import Arrival
from batuta.errors import one_line
from batuta.messaging import ProcessingState as State
from batuta.service.client import ServiceError

LOG: Final = logging.getLogger(__name__)

MAX_REQUESTS: Final = 256
"""Requests sent and not answered yet, at most."""
MAX_AT_ONE_PROVIDER: Final = 32
"""Of them, at one provider: one that hangs must not keep the others from being asked."""
MAX_QUESTIONS: Final = 64
"""Questions asked and not answered yet, at most."""
DATABASE_WAIT_S: Final = 1.0
IDLE_S: Final = 5.0
"""With nothing to wait for, the database is looked at this often: others may share it."""
NOT_FOUND: Final = 404

T = TypeVar("T")


class Dispatcher:
    """Moves every processing forward; all that it knows is in the ledger.

    Writes go through one thread, so that they never wait for each other in the database.

    Parameters
    ----------
    ledger : Ledger
        The database.
    providers : Providers
        The pipelines.
    on_turn : callable
        Told each processing that now retries, or has ended.
    """

    def __init__(
        self, ledger: Ledger, providers: Providers, on_turn: Callable[[Row], None]
    ) -> None:
        self.ledger = ledger
        self._providers = providers
        self._on_turn = on_turn
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._sending: set[asyncio.Task[None]] = set()
        self._asking: set[asyncio.Task[None]] = set()
        self._unanswered: Counter[str] = Counter()
        self._answers: list[News] = []
        self._awake = asyncio.Event()
        self._full_until: dict[str, float] = {}
        self._defect: BaseException | None = None
        self.requests_sent = 0

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Run a method of the ledger in its thread; again, while the database is away.

        Each is one transaction: what failed has changed nothing.
        """
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)
            except OperationalError as exc:
                reason = one_line(exc.orig)
                LOG.warning("database: %s; tried again in %g s", reason, DATABASE_WAIT_S)
            await asyncio.sleep(DATABASE_WAIT_S)

    async def hear(self, arrivals: Sequence[Arrival]) -> None:
        """Record what has come and what is claimed from it; requests leave by themselves."""
        requests = await self.write(
            self.ledger.hear, arrivals, self._room, self._full(), self._spare
        )
        self._send(requests)
        # What found no room, or waits, is looked at by `run`.
        self._awake.set()

    async def settle(self, news: Sequence[News]) -> None:
        """Record what was learnt of processings."""
        for row in await self.write(self.ledger.settle, news):
            self._on_turn(row)
        self._awake.set()

    def wake(self) -> None:
        """Have the ledger looked at now."""
        self._awake.set()

    async def run(self) -> None:
        """Send what is due and ask the silent, until cancelled."""
        try:
            while True:
                self._awake.clear()
                if self._defect is not None:
                    raise self._defect
                await self._settle_answers()
                since = time.time()
                self._send(
                    await self.write(self.ledger.take_due, self._room, self._full(), self._spare)
                )
                for row in await self.write(self.ledger.silent, self._questions_left):
                    self._start(self._question(row), self._asking)
                await self._sleep(since)
        finally:
            under_way = self._sending | self._asking
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            self._writer.shutdown()

    @property
    def _room(self) -> int:
        return MAX_REQUESTS - len(self._sending)

    @property
    def _questions_left(self) -> int:
        return MAX_QUESTIONS - len(self._asking)

    def _spare(self, provider: str) -> int:
        return MAX_AT_ONE_PROVIDER - self._unanswered[provider]

    def _full(self) -> list[str]:
        now = time.monotonic()
        self._full_until = {name: end for name, end in self._full_until.items() if end > now}
        return list(self._full_until)

    async def _sleep(self, since: float) -> None:
        if self._answers:
            return
        times = [IDLE_S]
        next_time = await self.write(self.ledger.next_time, since, self._full())
        if next_time is not None:
            times.append(next_time - time.time())
        if self._full_until:
            times.append(min(self._full_until.values()) - time.monotonic())
        try:
            # A minimum, so that clocks that differ a little do not make it spin.
            async with asyncio.timeout(max(0.005, min(times))):
                await self._awake.wait()
        except TimeoutError:
            return

    async def _settle_answers(self) -> None:
        answers, self._answers = self._answers, []
        if answers:
            for row in await self.write(self.ledger.settle, answers):
                self._on_turn(row)

    def _send(self, requests: Sequence[Request]) -> None:
        self.requests_sent += len(requests)
        for request in requests:
            self._unanswered[request.provider] += 1
            self._start(self._request(request), self._sending)

    def _start(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._asking.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defect = defect
        self._awake.set()

    async def _request(self, request: Request) -> None:
        try:
            news = await self._providers.request(request)
        finally:
            self._unanswered[request.provider] -= 1
        if news.state is State.WAITING:
            self._full_until[request.provider] = time.monotonic() + news.wait_s
        elif news.state is State.FAILED:
            LOG.warning(
                "%s of %s, attempt %d: %s",
                request.product,
                request.obs_id,
                request.attempt,
                news.error,
            )
        self._answers.append(replace(news, asked_attempt=request.attempt))

    async def _question(self, row: Row) -> None:
        news = await self._learn(row)
        self._answers.append(replace(news, asked_attempt=row.attempt))

    async def _learn(self, row: Row) -> News:
        overdue = row.started is not None and time.time() >= row.started + row.timeout_s
        try:
            if overdue:
                return _past_deadline(row, news_of(await self._stop(row), row.id))
            return news_of(await self._providers.ask(row.provider, row.id), row.id)
        except ServiceError as exc:
            return _news_of_silence(row, exc, overdue=overdue)

    async def _stop(self, row: Row) -> Any:
        LOG.warning("%s of %s: no end after %g s, stopped", row.product, row.obs_id, row.timeout_s)
        return await self._providers.cancel(row.provider, row.id)


def _past_deadline(row: Row, news: News) -> News:
    """It may have ended while it was being stopped: then its end stands."""
    if news.state in (State.SUCCEEDED, State.FAILED):
        return news
    error = f"no end after {row.timeout_s:g} s (timeout), stopped at {row.provider}"
    return replace(_failed(row, error), profiled=news.profiled)


def _news_of_silence(row: Row, exc: ServiceError, *, overdue: bool) -> News:
    if exc.status != NOT_FOUND:
        error = f"{exc} (no end after {row.timeout_s:g} s)" if overdue else str(exc)
        return _failed(row, error)
    if row.state == State.REQUESTED:
        # The request never got there: it is sent again, as the same attempt.
        return News(processing_id=row.id, state=State.WAITING)
    return _failed(row, f"lost: {row.provider} does not know it any more")


def _failed(row: Row, error: str) -> News:
    return News(processing_id=row.id, state=State.FAILED, error=error)
