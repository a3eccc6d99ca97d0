"""Sending requests to pipelines, and polling those that do not report."""

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Container, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, TypeVar

from batuta.conductor.database.claiming.withdrawals import Stopped
from batuta.conductor.database.ledger import Ledger, Report
from batuta.conductor.database.requests.due_requests import DueRequest
from batuta.conductor.database.requests.slots import Capacity
from batuta.conductor.decisions.circuits import Signal
from batuta.conductor.decisions.events import (
    Archived,
    DeadlinePassed,
    Event,
    NoStateTold,
    PipelineUnreachable,
    Refused,
    StatusUpdate,
)
from batuta.conductor.decisions.outcomes import HeardEvent
from batuta.conductor.decisions.processing_record import ProcessingRecord
from batuta.conductor.decisions.requests import Poll, PollAction
from batuta.conductor.decisions.rules import Arrival
from batuta.conductor.decisions.staleness import RefusedVersion
from batuta.conductor.dispatch.archive import Archive, arrival_of, success_of
from batuta.conductor.dispatch.providers import Providers
from batuta.errors import one_line
from batuta.messaging import ProcessingState as State
from batuta.service.client import ServiceError
from batuta.service.database import UNAVAILABLE

LOG: Final = logging.getLogger(__name__)

MAX_REQUESTS: Final = 256
"""Requests sent and not answered yet."""
MAX_REQUESTS_PER_PROVIDER: Final = 32
"""Of them, at one provider, or at each of its addresses: one that hangs must not keep the others
from being requested."""
MAX_POLLS: Final = 64
"""Polls sent and not answered yet."""
MAX_POLLS_PER_PROVIDER: Final = 16
"""Of them, at one provider, or at each of its addresses: one that answers slowly must not keep the
others from being asked."""
DATABASE_RETRY_S: Final = 1.0
ARCHIVE_RETRY_S: Final = 10.0
"""For so long after the sdb did not answer, reports of success are not confirmed in it."""
IDLE_S: Final = 5.0
"""With nothing to wait for, the database is read this often: other conductors may share it."""
ROUND_WAIT_S: Final = 0.05
"""How long what is no hurry waits, so that requests leave first, and one commit records much."""
MIN_SLEEP_S: Final = 0.005
"""Clocks that differ a little must not make the loop spin until a due time has come."""

T = TypeVar("T")


class Dispatcher:
    """Moves every processing forward; all its state is in the ledger.

    It decides nothing: it sends the requests and polls that the ledger returns, which have been
    committed by then, and applies the answers as events. A conductor that is killed in between
    finds the request recorded as sent; the poll that follows finds out whether it arrived.

    Writes go through one thread, so that they never wait for each other in the database.

    Parameters
    ----------
    ledger : Ledger
        The database.
    providers : Providers
        The pipelines.
    archive : Archive
        The sdb, in which a product that a pipeline reports as made must be.
    on_report : callable
        Called with what others are told: see `Round.ended`.
    signals : list of Signal, optional
        To which `providers` appends what its requests show of the instances of providers: it is
        emptied as it is recorded.
    """

    def __init__(
        self,
        ledger: Ledger,
        providers: Providers,
        archive: Archive,
        on_report: Callable[[Report], None],
        signals: list[Signal] | None = None,
    ) -> None:
        self._signals: list[Signal] = [] if signals is None else signals
        self.ledger = ledger
        self._providers = providers
        self._archive = archive
        self._archive_asked_at = -math.inf
        self._on_report = on_report
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._requests: set[asyncio.Task[None]] = set()
        self._polls: set[asyncio.Task[None]] = set()
        self._in_flight: set[str] = set()
        self._polled: set[str] = set()
        self._unanswered: Counter[str] = Counter()
        self._unanswered_polls: Counter[str] = Counter()
        self._answers: list[Event] = []
        self._unconfirmed: dict[str, Event] = {}
        """Successes that were reported while their pipelines were asked, by processing."""
        self._wakeup = asyncio.Event()
        self._round_waits = False
        self._full = False
        self._defect: BaseException | None = None
        self.requests_sent = 0
        self.on_stopped: Callable[[], None] = lambda: None
        """Called once there is something that providers are to be told to stop."""

    async def write(self, work: Callable[..., T], *args: Any) -> T:
        """Run a method of the ledger in its thread, again and again while the database is away.

        Each is one transaction: one that failed has changed nothing, and can be repeated.
        """
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(self._writer, work, *args)
            except UNAVAILABLE as exc:
                reason = one_line(getattr(exc, "orig", exc))
                LOG.warning("database: %s; retried in %g s", reason, DATABASE_RETRY_S)
            await asyncio.sleep(DATABASE_RETRY_S)

    async def on_data(
        self,
        arrivals: Sequence[Arrival],
        made: Sequence[Archived],
        heard: Sequence[HeardEvent] = (),
    ) -> None:
        """Record arrivals, the processings that made them, and claims; send what is due.

        Returns once all is committed: the caller then acknowledges the messages. The requests
        are sent meanwhile; if this process is killed before, the rows are polled later.
        """
        answers = self._take_answers_about({each.processing_id for each in made})
        requests, ended = await self.write(
            self.ledger.on_data, arrivals, made, self._capacity(), heard, answers
        )
        self._send(requests)
        for row in ended:
            self._on_report(row)
        for refused in self.ledger.take_refused():
            self._spawn(self._withdraw(refused), self._polls)
        # `run` sends what had to wait for capacity or for a time. Its reading of the ledger would
        # fight with the requests for the interpreter: they leave first.
        self._wake_soon()

    async def apply(self, reports: Sequence[StatusUpdate]) -> None:
        """Record what reports on ``activity.*`` change, and report it."""
        events = await self._confirm_reports(reports)
        # An earlier answer says when to ask next: recorded later, it would undo what a report of
        # success asks for, to ask at once. So would the answer that is still to come.
        answers = self._take_answers_about({each.processing_id for each in events})
        self._unconfirmed.update(
            (each.processing_id, each)
            for each in events
            if _is_unconfirmed(each) and each.processing_id in self._in_flight | self._polled
        )
        for row in await self.write(self.ledger.apply, [*answers, *events]):
            self._on_report(row)
        if all(map(_is_no_hurry, events)):
            self._wake_soon()
        else:
            self._wakeup.set()

    def report(self, news: Report) -> None:
        """Report what an operator has changed."""
        self._on_report(news)

    def wake(self) -> None:
        """Make `run` read the ledger now."""
        self._wakeup.set()

    def _wake_soon(self) -> None:
        """Make `run` read the ledger in a moment, or now if requests wait for others to end."""
        if self._full:
            self._wakeup.set()
        elif not self._round_waits:
            self._round_waits = True
            asyncio.get_running_loop().call_later(ROUND_WAIT_S, self._end_round_wait)

    def _end_round_wait(self) -> None:
        self._round_waits = False
        self._wakeup.set()

    def _take_answers_about(self, processing_ids: Container[str]) -> list[Event]:
        """Take from the answers that wait for a round those about processings that have ended.

        What a pipeline has shown is recorded with the end of the processing, in one commit.
        """
        taken: list[Event] = []
        left: list[Event] = []
        for each in self._answers:
            ended = each.processing_id in processing_ids and _is_no_hurry(each)
            (taken if ended else left).append(each)
        self._answers[:] = left
        return taken

    def stop(self, stopped: Sequence[Stopped]) -> None:
        """Report processings that were stopped; what their providers are told is recorded."""
        for each in stopped:
            self._on_report(each.row)
        if stopped:
            self.on_stopped()

    async def _withdraw(self, refused: RefusedVersion) -> None:
        """Withdraw what came too late, so that nobody takes it for the newest version.

        If this process is killed before, the reconciliation finds it.
        """
        while True:
            try:
                return await self._archive.withdraw(
                    refused.product, refused.obs_id, refused.version, refused.reason
                )
            except ServiceError as exc:
                if exc.refused:
                    # A person may: until then, the reconciliation tells that it is not used.
                    return LOG.warning(
                        "version %d of %s of %s, %s, is not withdrawn: %s",
                        refused.version,
                        refused.product,
                        refused.obs_id,
                        refused.reason,
                        exc,
                    )
                LOG.warning("%s; asked again in %g s", exc, ARCHIVE_RETRY_S)
            await asyncio.sleep(ARCHIVE_RETRY_S)

    async def run(self) -> None:
        """Send requests and polls as they become due, until cancelled."""
        try:
            while True:
                # Cleared before the ledger is read: what sets it from here on, an answer or a
                # commit that this round may miss, starts another round.
                self._wakeup.clear()
                self._full = False
                if self._defect is not None:
                    raise self._defect
                # All that have come since the last round. Emptied in place, never replaced: a task
                # that awaits an answer may hold the list already.
                answers = self._answers.copy()
                self._answers.clear()
                signals = self._signals.copy()
                self._signals.clear()
                done = await self.write(
                    self.ledger.advance, answers, self._capacity(), self._poll_capacity(), signals
                )
                for row in done.ended:
                    self._on_report(row)
                self._send(done.requests)
                self._begin_polls(done.polls)
                await self._sleep(done.due_at)
        finally:
            under_way = self._requests | self._polls
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            self._writer.shutdown()

    def _capacity(self) -> Capacity:
        return Capacity(
            total=MAX_REQUESTS - len(self._requests),
            of_provider=lambda name: MAX_REQUESTS_PER_PROVIDER - self._unanswered[name],
        )

    def _poll_capacity(self) -> Capacity:
        return Capacity(
            total=MAX_POLLS - self._unanswered_polls.total(),
            of_provider=lambda name: MAX_POLLS_PER_PROVIDER - self._unanswered_polls[name],
        )

    async def _sleep(self, due_at: float | None) -> None:
        """Wait until something is due, or `_wakeup` is set."""
        times = [IDLE_S]
        if due_at is not None:
            times.append(due_at - time.time())
        try:
            async with asyncio.timeout(max(MIN_SLEEP_S, min(times))):
                await self._wakeup.wait()
        except TimeoutError:
            return

    def _send(self, requests: Sequence[DueRequest]) -> None:
        self.requests_sent += len(requests)
        for request in requests:
            self._unanswered[_place_of(request)] += 1
            self._in_flight.add(request.processing_id)
            self._spawn(self._request(request), self._requests)
            if self._unanswered[_place_of(request)] >= MAX_REQUESTS_PER_PROVIDER:
                self._full = True
        if len(self._requests) >= MAX_REQUESTS:
            self._full = True

    def _begin_polls(self, due: Sequence[Poll]) -> None:
        # A pipeline that is slow to answer a request does not know the processing yet; and one
        # that is slow to answer a poll is not polled twice at once.
        busy = self._in_flight | self._polled
        polls = [poll for poll in due if poll.record.id not in busy]
        if polls:
            self._unanswered_polls.update(_place_of(poll.record) for poll in polls)
            self._polled.update(poll.record.id for poll in polls)
            self._spawn(self._poll_unless_archived(polls), self._polls)
            places = {_place_of(poll.record) for poll in polls}
            if any(self._unanswered_polls[each] >= MAX_POLLS_PER_PROVIDER for each in places):
                self._full = True

    def _spawn(self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        among.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._requests.discard(task)
        self._polls.discard(task)
        # A pipeline's failure is an event; an exception is a defect of ours, which `run` raises.
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defect = defect
            self._wakeup.set()
        self._wake_soon()

    # Success is confirmed in the sdb. While the sdb cannot be reached, it is not known: answers
    # are asked for again later, and of reports the pipeline is asked.

    async def _confirm_reports(self, reports: Sequence[StatusUpdate]) -> list[Event]:
        successes = [report for report in reports if report.state is State.SUCCEEDED]
        if not successes or time.monotonic() < self._archive_asked_at + ARCHIVE_RETRY_S:
            return list(reports)
        try:
            confirmed = await self._confirm(successes)
        except ServiceError as exc:
            # Others report too: they must not wait for an sdb that does not answer.
            self._archive_asked_at = time.monotonic()
            LOG.warning("%s; asked again in %g s", exc, ARCHIVE_RETRY_S)
            return list(reports)
        return [replace(report, archived=confirmed.get(report.processing_id)) for report in reports]

    async def _confirm_answer(self, event: Event) -> Event:
        if not isinstance(event, StatusUpdate) or event.state is not State.SUCCEEDED:
            return event
        try:
            confirmed = await self._confirm([event])
        except ServiceError as exc:
            LOG.warning("%s of %s: cannot be confirmed: %s", event.state, event.processing_id, exc)
            return event
        return replace(event, archived=confirmed.get(event.processing_id))

    async def _confirm(self, events: Sequence[StatusUpdate]) -> dict[str, bool]:
        """Return whether the sdb holds the products of processings that reported success."""
        ids = {event.processing_id for event in events}
        records = await self.write(self.ledger.unsettled, ids)
        if not records:
            return {}
        archived = await self._archive.holds_products_of(records)
        return {record.id: held for record, held in zip(records, archived, strict=True)}

    async def _request(self, request: DueRequest) -> None:
        try:
            if request.attempt > 1 and await self._is_archived(request.processing_id):
                self._unconfirmed.pop(request.processing_id, None)
                return
            event = await self._confirm_answer(await self._providers.request(request))
        finally:
            self._unanswered[_place_of(request)] -= 1
            self._in_flight.discard(request.processing_id)
        match event:
            case (
                Refused(error=error)
                | PipelineUnreachable(error=error)
                | NoStateTold(error=str() as error)
                | StatusUpdate(state=State.FAILED, error=error)
            ):
                LOG.warning(
                    "%s of %s, attempt %d: %s",
                    request.product,
                    request.obs_id,
                    request.attempt,
                    error,
                )
        self._record_answer(event)

    def _record_answer(self, event: Event) -> None:
        """Record an answer soon, and after it what was reported while the pipeline was asked."""
        self._record_soon(event)
        if (report := self._unconfirmed.pop(event.processing_id, None)) is not None:
            self._record_soon(report)

    def _record_soon(self, answer: Event) -> None:
        """Leave an answer to the next round, which begins at once if more follows than a state."""
        self._answers.append(answer)
        if not _is_no_hurry(answer):
            self._wakeup.set()

    async def _is_archived(self, processing_id: str) -> bool:
        """Return whether the sdb holds the product that an earlier attempt was to make.

        One that was given up may have imported it since, and its announcement be on its way: most
        pipelines would make the product a second time.
        """
        records = await self.write(self.ledger.unsettled, [processing_id])
        return not records or processing_id in await self._settle(records)

    async def _poll_unless_archived(self, polls: Sequence[Poll]) -> None:
        """Ask pipelines about what the sdb does not hold: what it does hold is made.

        After a burst its announcements come in slower than products are imported, so that pipelines
        would be asked what is known; and what is overdue may have been imported a moment ago.
        """
        settled = await self._settle([poll.record for poll in polls])
        for poll in polls:
            if poll.record.id in settled:
                self._end_of_poll(poll)
                self._unconfirmed.pop(poll.record.id, None)
            else:
                self._spawn(self._poll(poll), self._polls)

    def _end_of_poll(self, poll: Poll) -> None:
        self._unanswered_polls[_place_of(poll.record)] -= 1
        self._polled.discard(poll.record.id)

    async def _settle(self, records: Sequence[ProcessingRecord]) -> set[str]:
        """Record what the sdb holds of the products that are waited for; return whose they are."""
        if time.monotonic() < self._archive_asked_at + ARCHIVE_RETRY_S:
            return set()
        try:
            found = await self._archive.made_unannounced(records)
        except ServiceError as exc:
            self._archive_asked_at = time.monotonic()
            LOG.warning("%s; asked again in %g s", exc, ARCHIVE_RETRY_S)
            return set()
        if not found:
            return set()
        await self.on_data(
            [arrival_of(each) for each in found], [success_of(each) for each in found]
        )
        ids = {record.id for record in records}
        return ids - {record.id for record in await self.write(self.ledger.unsettled, ids)}

    async def _poll(self, poll: Poll) -> None:
        if poll.action is PollAction.STOP:
            record = poll.record
            LOG.warning(
                "%s of %s: no end after %g s, stopping it",
                record.product,
                record.obs_id,
                record.timeout_s,
            )
        try:
            event = await self._confirm_answer(await self._providers.poll(poll))
        finally:
            self._end_of_poll(poll)
        self._record_answer(event)


def _is_no_hurry(event: Event) -> bool:
    """Return whether an event tells no more than that a processing is under way."""
    match event:
        case DeadlinePassed():
            return False
        case StatusUpdate(state=state):
            return state in (State.QUEUED, State.RUNNING)
        case NoStateTold(error=None, overdue=False):
            return True
        case _:
            return False


def _is_unconfirmed(event: Event) -> bool:
    return isinstance(event, StatusUpdate) and event.state is State.SUCCEEDED and not event.archived


def _place_of(work: DueRequest | ProcessingRecord) -> str:
    """Return what is counted: an address of a provider that has several, or the provider."""
    return work.instance or work.provider
