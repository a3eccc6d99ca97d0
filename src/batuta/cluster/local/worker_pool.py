"""The workers of a cluster: who is there, who is free, who must go.

All of it is used in the thread of the scheduler alone.
"""

import contextlib
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from typing import Any, Final, Protocol

from batuta.cluster.errors import ClusterError
from batuta.cluster.graph import Job
from batuta.cluster.local.limits import Limits, Watch
from batuta.cluster.local.worker_handle import Assignment, Personnel, PoolSettings, Worker
from batuta.cluster.local.worker_main import JobDone, JobFailed, JobOrder, Ready
from batuta.cluster.store import Stored
from batuta.errors import one_line

MAX_STARTS: Final = 3
"""Workers that fail to start in a row: then it is an error."""
MAX_KILLED: Final = 30
"""The same for workers that someone killed while they started."""

AHEAD_S: Final = 0.02
"""Work that a busy worker is given ahead, so that it never waits for the next job."""
AHEAD_MAX_JOBS: Final = 64
AHEAD_MAX_BYTES: Final = 32_000
AHEAD_MAX_STEPS: Final = 7
"""Together less than what a socket holds: sending to a busy worker never waits. The call of a step
takes `store.INLINE_MAX_BYTES` at most."""

START_S: Final = {"fork": 10.0, "forkserver": 120.0, "spawn": 300.0}
"""How long a worker may take to start, by how it is started. Forked from a process with threads, it
may find a lock that is held for ever: another one is then forked."""

ROLL_CALL_S: Final = 0.5
"""How often workers are looked for that died without a sound: what they started holds their link
open."""

LEAVE_S: Final = 1.0
"""How long a worker that said its last word may take to end."""

WRITE_S: Final = 5.0
"""How long those that rest may take, when all end, to write what their profiler holds."""


class Superior(Protocol):
    """Whom the crew reports to."""

    def on_outcome(self, worker: Worker, job: Job, outcome: JobDone | JobFailed) -> None:
        """Take what a job gave."""

    def on_sign_of_life(self) -> None:
        """Record that a task ended, inside a job."""

    def on_loss(self, worker: Worker, assigned: Sequence[Assignment]) -> None:
        """Take what was assigned to a worker that is dead and buried."""

    def on_crew_broken(self, error: ClusterError) -> None:
        """Record that no worker can start."""

    def post(self, action: Callable[[], None]) -> None:
        """Run `action` in the thread of the scheduler; called from any thread."""


class Crew:
    """Workers, from their start to their end.

    Parameters
    ----------
    superior : Superior
        Who is told what happens.
    selector : selectors.BaseSelector
        Where their links are waited for; the data of each key is what to call.
    nb_workers : int
        How many work at the same time.
    limits : Limits
        What a worker may take.
    """

    def __init__(
        self,
        superior: Superior,
        selector: selectors.BaseSelector,
        nb_workers: int,
        limits: Limits,
    ) -> None:
        self.nb_workers = nb_workers
        self.idle: list[Worker] = []
        self.busy: dict[Worker, None] = {}
        self._superior = superior
        self._selector = selector
        self._limits = limits
        self._watch = Watch(limits)
        self._personnel = Personnel()
        self._settings: PoolSettings | None = None
        self._starting: dict[Worker, float] = {}
        """Those that are not ready, and since when."""
        self._listening: set[Worker] = set()
        """Those that may still say something."""
        self._leaving: dict[Worker, float] = {}
        """Those that said their last word, and when."""
        self._hired = 0
        self._false_starts: Counter[int] = Counter()
        """In a row, by how many are too many."""
        self._start_error = ""
        """What kept workers from starting, once we have stopped trying."""
        self._average_s = AHEAD_S
        self._next_roll_call = 0.0
        self._to_flush: dict[Worker, None] = {}

    @property
    def hired(self) -> bool:
        """Whether workers were hired."""
        return self._settings is not None

    @property
    def restless(self) -> bool:
        """Whether there is someone to look at from time to time."""
        return bool(self.busy or self._starting or self._leaving)

    # Hiring

    def hire_all(self, settings: PoolSettings) -> None:
        """Start the workers."""
        self._settings = settings
        for _ in range(self.nb_workers):
            self._hire()

    def _hire(self) -> None:
        worker = Worker(self._made_with(), str(self._hired))
        self._hired += 1
        self._starting[worker] = time.monotonic()
        self._personnel.hire(worker, lambda made: self._superior.post(lambda: self._on_made(made)))

    def _made_with(self) -> PoolSettings:
        if self._settings is None:
            raise ClusterError("no worker was hired yet")
        return self._settings

    def _on_made(self, worker: Worker) -> None:
        if worker.problem is not None:
            self._personnel.bury(worker, nothing)
            self._on_false_start(worker, worker.problem)
            return
        self._listening.add(worker)
        self._selector.register(worker.socket(), selectors.EVENT_READ, lambda: self._listen(worker))

    def _on_ready(self, worker: Worker, ready: Ready) -> None:
        worker.base_ram_bytes = ready.ram_bytes
        if ready.problem is not None:
            worker.problem = ClusterError(ready.problem)
            return  # it ends now
        self._starting.pop(worker, None)
        self._false_starts.clear()
        self._start_error = ""
        self.idle.append(worker)

    def _on_false_start(self, worker: Worker, error: BaseException) -> None:
        self._starting.pop(worker, None)
        limit = MAX_KILLED if worker.exit_code == -signal.SIGKILL else MAX_STARTS
        self._false_starts[limit] += 1
        if self._false_starts[limit] < limit:
            self._hire()
        else:
            self._start_error = one_line(error)
            self._check_anyone_left()

    def _check_anyone_left(self) -> None:
        """Say when nobody is there any more, and nobody will come."""
        if self.idle or self.busy or self._starting or self._leaving or not self._start_error:
            return
        self._superior.on_crew_broken(ClusterError(f"workers cannot start: {self._start_error}"))

    # Working

    def free_worker(self, *, ahead: bool = True) -> Worker | None:
        """Return a worker to send a job to: an idle one, or one that will soon be.

        Parameters
        ----------
        ahead : bool
            Whether a job may wait at a worker that is busy.
        """
        if self.idle and len(self.busy) < self.nb_workers:
            return self.idle.pop()
        if not ahead:
            return None
        depth = min(AHEAD_MAX_JOBS, int(AHEAD_S / max(self._average_s, 1e-9)))
        open_to_more = [
            worker
            for worker in self.busy
            if not worker.leaving
            and len(worker.assigned) <= depth
            and worker.waiting_bytes < AHEAD_MAX_BYTES
        ]
        return min(open_to_more, key=lambda worker: len(worker.assigned), default=None)

    def is_last(self, worker: Worker) -> bool:
        """Whether the next job is the last that a worker is given before it is renewed."""
        return worker.given + 1 >= self._limits.max_jobs

    def assign(self, worker: Worker, job: Job, order: JobOrder, calls: list[Stored]) -> None:
        """Return a job to a worker; `flush` sends it."""
        self.busy[worker] = None
        worker.assign(job, order, calls)
        self._to_flush[worker] = None
        if order.last:
            self._hire()  # its successor starts while it works

    def give_back(self, worker: Worker) -> None:
        """Take back a worker that was given nothing after all."""
        if worker not in self.busy:
            self.idle.append(worker)

    def flush(self) -> None:
        """Send what was assigned."""
        for worker in self._to_flush:
            worker.flush()
        self._to_flush.clear()

    def take_back(self) -> list[Job]:
        """Take back the jobs that wait at busy workers."""
        jobs: list[Job] = []
        for worker in self.busy:
            for assignment in worker.take_back():
                discard(assignment.calls)
                jobs.append(assignment.job)
        return jobs

    def _listen(self, worker: Worker) -> None:
        try:
            messages = worker.messages()
        except EOFError:
            self._on_silence(worker)
            return
        for message in messages:
            if isinstance(message, Ready):
                self._on_ready(worker, message)
            else:
                self._on_answer(worker, message)

    def _on_answer(self, worker: Worker, outcome: JobDone | JobFailed) -> None:
        if worker.verdict is not None and worker.condemned == outcome.number:
            return  # what it started was killed before it, and it took that for an end
        assignment = worker.answered(outcome.number)
        if assignment is None:
            return
        self._average_s += 0.1 * (outcome.account.took_s - self._average_s)
        if not worker.assigned:
            del self.busy[worker]
            self._keep_or_renew(worker, outcome.account.ram_bytes)
        discard(assignment.calls)
        self._superior.on_outcome(worker, assignment.job, outcome)
        worker.peak_ram_bytes = 0

    def _keep_or_renew(self, worker: Worker, ram_bytes: int) -> None:
        if worker.leaving:
            return  # it ends by itself
        if self._limits.bloated(ram_bytes):
            worker.leaving = True
            worker.socket().shutdown(socket.SHUT_RDWR)
            self._hire()
        else:
            self.idle.append(worker)

    # Ending

    def _hear_last_words(self, worker: Worker) -> None:
        """Take what a dead worker had said; what its task started may hold its link open."""
        try:
            while worker in self._listening:
                self._listen(worker)
        except BlockingIOError:
            self._on_silence(worker)

    def _on_silence(self, worker: Worker) -> None:
        """Note that a worker will say nothing more; its process ends, or has ended."""
        self._selector.unregister(worker.socket())
        self._listening.discard(worker)
        self.busy.pop(worker, None)
        if worker in self.idle:
            self.idle.remove(worker)
        self._leaving[worker] = time.monotonic()
        self._selector.register(worker.sentinel, selectors.EVENT_READ, lambda: self._bury(worker))

    def _bury(self, worker: Worker) -> None:
        self._selector.unregister(worker.sentinel)
        del self._leaving[worker]
        self._personnel.bury(
            worker, lambda dead: self._superior.post(lambda: self._on_buried(dead))
        )

    def _on_buried(self, worker: Worker) -> None:
        if worker in self._starting:
            self._on_false_start(worker, worker.problem or ClusterError(_ended_early(worker)))
            return
        if not worker.leaving:
            self._hire()
        assigned = tuple(worker.assigned)
        worker.assigned.clear()
        self._superior.on_loss(worker, assigned)
        self._check_anyone_left()

    def look(self, *, alone: bool) -> None:
        """Look at everyone: time, memory, life.

        Parameters
        ----------
        alone : bool
            Whether the job that runs has the machine for itself, and the memory of all.
        """
        now = time.monotonic()
        if now >= self._next_roll_call:
            self._next_roll_call = now + ROLL_CALL_S
            self._call_the_roll(now)
        for worker, since in list(self._leaving.items()):
            if worker.gone():
                self._bury(worker)
            elif now - since > LEAVE_S:
                worker.kill()
        for worker in self.busy:
            if worker.moved_on():
                self._superior.on_sign_of_life()
            if worker.verdict is None:
                number = worker.doing().number
                verdict = self._watch.verdict(worker, alone=alone)
                if verdict is not None:
                    worker.condemn(verdict, number)

    def _call_the_roll(self, now: float) -> None:
        """Look for the silent dead, and for those who do not manage to start."""
        for worker in [each for each in self._listening if each.gone()]:
            self._hear_last_words(worker)
        if not self._starting:
            return
        patience_s = START_S[self._made_with().start_method]
        for worker, since in self._starting.items():
            if now - since > patience_s and worker in self._listening:
                worker.kill()

    def dismiss_all(self) -> Iterator[Assignment]:
        """End every worker at once; return what they had been assigned.

        Those that rest and are profiled write first what their profiler holds.
        """
        self._personnel.close()
        profile = self._settings.profile if self._settings is not None else None
        if profile is not None and profile.needs_flush:
            self._have_profiles_written()
        everyone = dict.fromkeys((*self._starting, *self._listening, *self._leaving))
        for worker in everyone:
            worker.kill()
        for worker in everyone:
            worker.bury()
            yield from worker.assigned

    def _have_profiles_written(self) -> None:
        """Let those go who have nothing to do; they write, then end by themselves."""
        resting = self._listening - self.busy.keys() - self._starting.keys()
        for worker in resting:
            with contextlib.suppress(OSError):  # it ends already
                worker.socket().shutdown(socket.SHUT_RDWR)
        going = {worker.sentinel for worker in (*resting, *self._leaving)}
        until = time.monotonic() + WRITE_S
        while going and (left_s := until - time.monotonic()) > 0:
            going.difference_update(wait(going, left_s))


def _ended_early(worker: Worker) -> str:
    return (
        f"their process ended with code {worker.exit_code} before it was ready. A script that"
        ' computes needs `if __name__ == "__main__":` around what it does, and cannot come from'
        " standard input"
    )


def discard(calls: list[Stored]) -> None:
    """Delete the calls of a job that ended, or goes to another worker."""
    for call in calls:
        call.discard()


def nothing(_: Any) -> None:
    """Take the news and do nothing."""
