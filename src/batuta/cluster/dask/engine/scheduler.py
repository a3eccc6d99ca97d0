"""Hands jobs to dask, as many as its workers need, and takes what becomes of them.

All of its state belongs to the thread of dask's event loop: other threads only post actions.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from distributed import Future, as_completed
from distributed.scheduler import KilledWorker

from batuta.cluster.contract import WorkerCount
from batuta.cluster.dask.engine.remote import JobFailedError
from batuta.cluster.dask.engine.submission import Held, Packer, Request, submitted
from batuta.cluster.dask.engine.worker_loss import Loss, Losses, Verdict
from batuta.cluster.errors import ClusterError
from batuta.cluster.execution_state import Book
from batuta.cluster.futures import Run
from batuta.cluster.graph import Job, Plan
from batuta.cluster.remote_error import failed_task
from batuta.cluster.task_metrics import TaskMetrics
from batuta.cluster.tasks import Delayed, Scattered
from batuta.errors import describe_error
from batuta.profiling.capture.labels import LostAttempt
from batuta.profiling.capture.records import WorkerId

LOG: Final = logging.getLogger(__name__)

AHEAD_S: Final = 0.5
"""Work that each worker is given ahead, so that it never waits for this process."""
AHEAD_MIN_JOBS: Final = 2
AHEAD_MAX_JOBS: Final = 64
_FIRST_GUESS_S: Final = 0.1
UNTAKEN_PER_SLOT: Final = 4
"""Results that may wait to be taken before computing pauses, so that memory stays flat."""
HERE_BYTES: Final = 256 << 20
"""What results may hold in this process, about, while they wait to be taken; others wait where
they are."""
HERE_MIN: Final = 2
"""Results that may wait here whatever they hold."""
MAX_GATHERS: Final = 2
"""Requests for results at a time; what is computed meanwhile comes with the next."""


@dataclass(eq=False)
class _Sent:
    """A job that dask computes."""

    job: Job
    key: str
    waiting: set[str]
    """Results that are not there yet."""
    futures: list[Any] = field(default_factory=list)


_Coming: TypeAlias = tuple[_Sent, list[Held | None]]


class Director:
    """Computes plans on a dask cluster.

    Parameters
    ----------
    client : Client
        Of the cluster; it is closed by who made it.
    task_metrics : TaskMetrics
        Where what workers measure goes.
    ram_mb : float or None
        What a worker may hold, for messages.
    """

    def __init__(self, client: Any, task_metrics: TaskMetrics, *, ram_mb: float | None) -> None:
        self.last_end = time.monotonic()
        """When a task last ended, or could first have."""
        self.there: WorkerCount | None = None
        """None until they were counted."""
        self._slots = 1
        """How many jobs the workers run at a time; as if there were one until they come."""
        self._client = client
        self._packer = Packer(client, task_metrics)
        self._task_metrics = task_metrics
        self._book = Book(fuse=True, on_start=self._on_start)
        self._inbox: deque[Callable[[], None]] = deque()
        self._called = False
        self._closed = False
        self._sent: dict[str, _Sent] = {}
        """By the key of the job."""
        self._by_result: dict[str, _Sent] = {}
        self._coming: list[_Coming] = []
        """Jobs whose results are to come to this process, when those before have."""
        self._gathering = 0
        """Jobs whose results come now."""
        self._gathers: set[asyncio.Task[None]] = set()
        self._suspects: deque[Job] = deque()
        """Jobs whose workers ended, perhaps by the fault of others that they had: each runs again
        alone, when all else is done."""
        self._losses = Losses(ram_mb)
        self._average_s = _FIRST_GUESS_S
        self._average_bytes = 1.0
        """Of a result that comes to this process."""
        self._completed = as_completed(loop=client.loop)
        self._something_sent = asyncio.Event()
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), client.loop.asyncio_loop)

    # What other threads call

    @property
    def silence_s(self) -> float:
        """For how long no task has ended, though there are workers."""
        return time.monotonic() - self.last_end

    def submit(self, run: Run) -> None:
        """Have what `run` asks for computed."""
        self.post(partial(self._take, run))

    def taken(self, run: Run) -> None:
        """Record that an iterator took a finished future."""
        self.post(partial(self._book.taken, run))

    def read(self, delayed: Delayed) -> None:
        """Record that a finished result was read."""
        self.post(partial(self._book.used, delayed))

    def taken_and_read(self, run: Run, delayed: Delayed) -> None:
        """Take both at once."""
        self.post(partial(self._book.taken_and_read, run, delayed))

    def scatter(self, value: Any) -> Scattered:
        """Put a value where every worker can take it from."""
        return self._packer.scatter(value)

    def close(self) -> None:
        """Compute nothing more, and let go of every result."""
        self._client.sync(self._end)

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the event loop, soon."""
        self._inbox.append(action)
        if not self._called:  # at worst it is called once too often
            self._called = True
            self._client.loop.add_callback(self._act)

    # The event loop

    def _act(self) -> None:
        self._called = False
        with self._breaking():
            while self._inbox and not self._closed:
                self._inbox.popleft()()
            self._gather_next()
            self._dispatch()

    @contextlib.contextmanager
    def _breaking(self) -> Any:
        """End all that is asked for, rather than leave it waiting, when this code fails."""
        try:
            yield
        except Exception as exc:
            LOG.exception("handing jobs to dask failed")
            self.break_down(ClusterError(f"handing jobs to dask failed: {describe_error(exc)}"))

    def _why_broken(self) -> Exception | None:
        return self._book.broken

    def break_down(self, error: ClusterError) -> None:
        """Fail all that is asked for, now and from now on."""
        self._suspects.clear()
        self._forget_sent()
        self._book.break_down(error)

    def _forget_sent(self) -> None:
        for sent in self._sent.values():
            for future in sent.futures:
                future.release()
        self._coming.clear()
        self._sent.clear()
        self._by_result.clear()
        self._completed.clear()

    async def _end(self) -> None:
        self._closed = True
        self._listener.cancel()
        for gather in self._gathers:
            gather.cancel()
        self._forget_sent()
        self._book.free_all()

    def _take(self, run: Run) -> None:
        if self.there is not None:
            run.finished.put(self.there)
        self._book.take(run)

    def _on_start(self, plan: Plan) -> None:
        self.last_end = time.monotonic()
        self._task_metrics.begin(plan)
        self._losses.begin()
        self._packer.begin()

    # Workers

    def on_workers(self, there: WorkerCount, slots: int) -> None:
        """Take how many workers there are, and how many tasks they run at a time.

        Without any, no task can end.
        """
        if not there.present or self.there is None or not self.there.present:
            self.last_end = time.monotonic()
        self._slots = max(1, slots)
        if there == self.there:
            return
        self.there = there
        if not self._book.idle:
            self._book.run.finished.put(there)
        self._dispatch()

    def on_memory(self, address: str, held_bytes: float) -> None:
        """Record that a worker outgrew its memory, and was ended for that."""
        self._losses.on_memory(address, held_bytes)

    def on_lost(self, address: str, keys: Iterable[str], *, expected: bool) -> None:
        """Record that a worker is gone; dask runs again what it had been given."""
        with self._breaking():
            self._on_lost(address, keys, expected=expected)

    def _on_lost(self, address: str, keys: Iterable[str], *, expected: bool) -> None:
        loss = self._losses.of_worker(address)
        given = set(keys)
        sent = [self._sent[key] for key in self._sent if key in given]
        if sent or loss.held_bytes is not None:
            jobs = [each.job for each in sent]
            LOG.warning("%s", self._losses.told(loss, jobs, expected=expected))
        if sent:
            # A worker takes jobs in the order in which they were sent: it ran the first.
            verdict, error = self._losses.judge(sent[0].job, loss, expected=expected)
            self._tell_lost(sent[0], loss, describe_error(error))
            if verdict is Verdict.AGAIN:
                self._task_metrics.on_rerun(sent[0].job)
            else:
                self._let_go(sent[0])
                self._carry_out(sent[0].job, verdict, error)

    def _tell_lost(self, sent: _Sent, loss: Loss, error: str) -> None:
        """Tell that a worker was lost with the first step of a job; how far it was nobody knows."""
        worker = WorkerId(loss.address, urlsplit(loss.address).hostname or "", 0)
        held_bytes = int(loss.held_bytes or 0)
        lost = LostAttempt(sent.job.first.name, worker, error, peak_bytes=held_bytes)
        self._task_metrics.lost(self._task_metrics.relabel(sent.job), lost)

    def _carry_out(self, job: Job, verdict: Verdict, error: ClusterError) -> None:
        """Do what was judged of a job that dask has no more."""
        if verdict is Verdict.FAILED:
            self._book.fail(job, failed_task(job.last.name, describe_error(error), error))
        elif verdict is Verdict.ALONE:
            job.alone = True
            self._suspects.append(job)
        else:
            self._book.ready.push(job)
        self._dispatch()

    # Jobs

    def _room(self) -> int:
        """Say how many jobs more the workers can be given."""
        waiting = self._gathering + len(self._coming)
        if self._book.paused(UNTAKEN_PER_SLOT * self._slots - waiting):
            return 0
        ahead = min(AHEAD_MAX_JOBS, max(AHEAD_MIN_JOBS, int(AHEAD_S / self._average_s)))
        whole = self._slots * ahead
        room = whole - len(self._sent)
        # A few at a time: each request costs as much as several jobs.
        return room if not self._sent or room >= whole // 4 else 0

    def _dispatch(self) -> None:
        if self._closed or self._book.broken is not None:
            return
        request = Request()
        jobs: list[_Sent] = []
        room = self._room() if self._book.ready else 0
        while self._book.ready and len(jobs) < room:
            self._add(self._book.ready.pop(), request, jobs)
        if self._suspects and not (jobs or self._sent or self._book.ready):
            self._add(self._suspects.popleft(), request, jobs)
        if jobs:
            self._send(request, jobs)

    def _add(self, job: Job, request: Request, jobs: list[_Sent]) -> None:
        try:
            key = self._packer.add(job, request)
        except Exception as exc:  # noqa: BLE001 - pickling an object of the user's may raise anything
            reason = f"its call cannot be sent to a worker: {describe_error(exc)}"
            self._book.fail(job, failed_task(job.first.name, reason, exc))
            return
        jobs.append(_Sent(job, key, set(request.wanted[key])))

    def _send(self, request: Request, jobs: list[_Sent]) -> None:
        if not self._sent:
            self.last_end = time.monotonic()  # there was nothing to end meanwhile
        keys = [key for each in jobs for key in request.wanted[each.key]]
        futures = dict(zip(keys, submitted(self._client, request.graph, keys), strict=True))
        for each in jobs:
            each.futures = [futures[key] for key in request.wanted[each.key]]
            self._sent[each.key] = each
            self._by_result.update(dict.fromkeys(each.waiting, each))
        self._completed.update(futures.values())
        self._something_sent.set()

    async def _listen(self) -> None:
        while not self._closed:
            await self._something_sent.wait()
            self._something_sent.clear()
            async for first in self._completed:
                ended = [first, *self._completed.next_batch(block=False)]
                with self._breaking():
                    await self._on_ended(ended)
                del ended, first

    async def _on_ended(self, futures: list["Future[Any]"]) -> None:
        complete: list[_Sent] = []
        for future in futures:
            sent = self._by_result.pop(str(future.key), None)
            if sent is None or sent.key not in self._sent:
                continue
            if future.status == "finished":
                sent.waiting.discard(str(future.key))
                if not sent.waiting:
                    complete.append(sent)
            else:
                self._measure(1)
                self._let_go(sent)
                await self._on_error(sent.job, future)
        if complete:
            self._measure(len(complete))
            self._on_complete(complete)
        self._act()

    def _measure(self, count: int) -> None:
        """Follow how long a job takes a worker."""
        now = time.monotonic()
        took_s = (now - self.last_end) * self._slots / count
        self._average_s += min(1.0, 0.05 * count) * (took_s - self._average_s)
        self.last_end = now

    def _let_go(self, sent: _Sent) -> None:
        self._sent.pop(sent.key, None)
        for key in [key for key in sent.waiting if key in self._by_result]:
            del self._by_result[key]
        for future in sent.futures:
            future.release()

    def _on_complete(self, complete: list[_Sent]) -> None:
        """Hand over what was computed; what only the main process needs comes to it first."""
        run = self._book.run
        coming: list[_Coming] = []
        for sent in complete:
            del self._sent[sent.key]
            held = iter(sent.futures)
            outputs = [
                Held(next(held), self._why_broken) if each.uses else None
                for each in sent.job.last.outputs
            ]
            if run.iterated and any(each in run.futures for each in sent.job.last.outputs):
                coming.append((sent, outputs))
            else:
                self._book.done(sent.job, outputs)
        self._coming += coming
        self._gather_next()

    def _gather_next(self) -> None:
        """Have results come that wait for it: each request costs as much as several results."""
        if not self._coming or len(self._gathers) >= MAX_GATHERS or self._book.idle:
            return
        here = max(HERE_MIN, int(HERE_BYTES / self._average_bytes))
        room = here - self._gathering - self._book.run.untaken
        if room > 0:
            coming, self._coming = self._coming[:room], self._coming[room:]
            self._start_gathering(coming)

    def _start_gathering(self, coming: list[_Coming]) -> None:
        self._gathering += len(coming)
        gather = asyncio.ensure_future(self._gather(coming))
        self._gathers.add(gather)
        gather.add_done_callback(self._on_gathered)

    def _on_gathered(self, gather: "asyncio.Task[None]") -> None:
        self._gathers.discard(gather)
        if not self._closed:
            self._gather_next()

    async def _gather(self, coming: list[_Coming]) -> None:
        """Have results come from the workers that hold them, then hand them over.

        Those that are lost on the way dask computes again, if it can.
        """
        futures = [each.future for _, outputs in coming for each in outputs if each is not None]
        with self._breaking():
            try:
                packs = iter(await self._client.gather(futures))
            except Exception:  # noqa: BLE001 - one of them is lost for good: each tells
                self._gathering -= len(coming)
                await self._gather_apart(coming)
            else:
                self._gathering -= len(coming)
                for sent, outputs in self._still(coming):
                    for each in outputs:
                        if each is not None:
                            each.pack = next(packs)
                            self._follow_bytes(each.pack.nbytes)
                    self._book.done(sent.job, outputs)
            self._dispatch()

    async def _gather_apart(self, coming: list[_Coming]) -> None:
        """Tell of the jobs whose results are lost, and have the others come."""
        whole: list[_Coming] = []
        for sent, outputs in self._still(coming):
            lost = [each for each in sent.futures if each.status not in {"finished", "pending"}]
            if lost:
                await self._on_error(sent.job, lost[0])
                self._let_go(sent)
            elif len(coming) > 1 or any(each.status == "pending" for each in sent.futures):
                whole.append((sent, outputs))
            else:  # it is there, and cannot be read
                error = ClusterError("its result cannot be brought from the worker that holds it")
                self._book.fail(sent.job, failed_task(sent.job.last.name, str(error), error))
        for each in whole:
            self._start_gathering([each])

    def _follow_bytes(self, count: int) -> None:
        """Follow how large results are: quickly when they grow."""
        self._average_bytes = max(float(count), 0.9 * self._average_bytes + 0.1 * count)

    def _still(self, coming: list[_Coming]) -> list[_Coming]:
        """Return what still matters: nothing, once all has failed."""
        return coming if self._book.broken is None else []

    # What goes wrong

    async def _on_error(self, job: Job, future: "Future[Any]") -> None:
        if future.status in {"cancelled", "lost"}:
            if self._client.status == "running":
                self._carry_out(job, *self._losses.judge_cancelled(job))
            else:
                self.break_down(ClusterError("the connection to the scheduler of dask is lost"))
            return
        error = await future.exception()
        if isinstance(error, JobFailedError):
            self._book.fail(job, error.raised.as_error())
        elif isinstance(error, KilledWorker):
            self._carry_out(job, *self._losses.judge_killed(job, error))
        else:
            reason = error or ClusterError("dask gave no reason")
            self._book.fail(job, failed_task(job.last.name, describe_error(reason), reason))
