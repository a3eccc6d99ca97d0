"""The moments at which power may be lost, and what is left of the disk at each of them."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final, Protocol

from tests.support.power_loss.disk import Disk, Loss, Tree
from tests.support.power_loss.recorder import Kind, Recorder

RESTART_EVERY: Final = 10
"""A service is started on what is left at one in so many moments: that takes seconds."""
PROMISING: Final = 0.5
"""The share of the moments right after something was said or synced: others rely on it."""
AGAIN: Final = 3
"""How often it is lost again while the service that is started there recovers."""

Said = Sequence[bytes]
"""What was said before the loss: to clients, to NATS, to other services."""


class Promises(Protocol):
    """What must hold of what is left."""

    def check(self, left: Path, said: Said) -> None:
        """Assert it of a folder."""

    def check_restart(self, left: Path, said: Said) -> None:
        """Assert that a service goes on there, and ends what it has begun."""

    def recover(self, left: Path, said: Said, environment: Mapping[str, str]) -> "Promises":
        """Start a service there, with these variables, and end it once it has recovered.

        Returns
        -------
        Promises
            What must hold of what it leaves, whenever the power is lost again.
        """


@dataclass(frozen=True)
class Moment:
    """After so many events, with this loss."""

    events: int
    loss: Loss


@dataclass(frozen=True)
class Outcome:
    """What was tried of all moments, and what did not hold."""

    moments: int
    tried: int
    violations: tuple[str, ...]
    again: int = 0
    """How many of the losses were followed by another, while the service recovered."""

    def __str__(self) -> str:
        tried = f"{self.tried} of {self.moments} losses of power"
        again = f", {self.again} more during recovery" if self.again else ""
        return f"{tried}{again}: {len(self.violations)} violations"


@dataclass
class Recorded:
    """What a service has done to its disk.

    Parameters
    ----------
    recorder : Recorder
        That has recorded it, and has nothing more to record.
    before : Disk
        The disk as it was before.
    promises : Promises
        What must hold of what is left.
    said : sequence of bytes
        What was said before all this.
    is_recovery : bool
        Whether it is what a service has done after an earlier loss: another service is then
        started on all that is left, and the power is not lost a third time.
    """

    recorder: Recorder
    before: Disk
    promises: Promises
    said: Said = ()
    is_recovery: bool = False

    def __post_init__(self) -> None:
        self.events = list(self.recorder.events())
        self.again = 0
        # What is left is written where it was: programs remember names of files.
        self._root = self.before.root
        self._recorded = self.recorder.log.with_suffix(".disk")
        self._root.rename(self._recorded)

    def moments(self) -> list[Moment]:
        """List all of them."""
        numbers = range(len(self.events) + 1)
        return [Moment(number, loss) for number in numbers for loss in Loss]

    def lose_power(self, number: int | None, seed: int) -> Outcome:
        """Lose it in so many ways, or in all, and look at what is left.

        Raises
        ------
        UnknownChangeError
            If something was done that was not recorded.
        """
        moments = self.moments()
        tried = moments if number is None else self._some_of(moments, number, seed)
        self.again = 0
        violations = tuple(self.violations(tried, seed))
        return Outcome(len(moments), len(tried), violations, self.again)

    def first_violation_without(
        self, unsynced: Callable[[Path], bool], number: int, seed: int
    ) -> str | None:
        """Return what does not hold first if some files and folders had not been synced."""
        events = self.events
        self.events = [
            event
            for event in events
            if event.kind is not Kind.SYNCED or not unsynced(Path(os.fsdecode(event.first)))
        ]
        try:
            tried = self._some_of(self.moments(), number, seed)
            return next(self.violations(tried, seed), None)
        finally:
            self.events = events

    def violations(self, moments: Sequence[Moment], seed: int) -> Iterator[str]:
        """Yield what does not hold, each with the moment at which it does not.

        Parameters
        ----------
        moments : sequence of Moment
            In the order of events.
        seed : int
            Draws what is left.

        Raises
        ------
        UnknownChangeError
            If something was done that was not recorded.
        """
        disk, done = self.before.copied(), 0
        said = list(self.said)
        for number, moment in enumerate(moments, 1):
            said += self._go_on(disk, done, moment.events)
            done = moment.events
            left = disk.after_power_loss(moment.loss, Random(f"{seed} {moment.events}"))  # noqa: S311
            restart = self.is_recovery or number % RESTART_EVERY == 0
            for problem in self._problems(left, said, seed + moment.events, restart=restart):
                yield (
                    f"power lost after {moment.events} of {len(self.events)} events"
                    f" ({self._told(moment.events - 1)}), {moment.loss}: {problem}"
                )
        self._go_on(disk, done, len(self.events))
        disk.check_complete(self._recorded)

    def _some_of(self, moments: list[Moment], number: int, seed: int) -> list[Moment]:
        """Draw some, of which half are right after something was said or synced, and the last."""
        if number >= len(moments):
            return moments
        random = Random(seed)  # noqa: S311
        # A second loss is drawn alone: that of all that was done is an end as others.
        last = [] if self.is_recovery else moments[-len(Loss) :]
        earlier = moments[: len(moments) - len(last)]
        first = [each for each in earlier if self._is_promising(each.events - 1)]
        others = [each for each in earlier if not self._is_promising(each.events - 1)]
        left = max(number - len(last), 0)
        drawn = random.sample(first, min(round(left * PROMISING), len(first)))
        drawn += random.sample(others, min(left - len(drawn), len(others)))
        return sorted(drawn, key=lambda each: each.events) + last[:number]

    def _go_on(self, disk: Disk, done: int, to: int) -> list[bytes]:
        """Go on to an event; return what was said until then."""
        events = self.events[done:to]
        for event in events:
            disk.take(event)
        return [event.first for event in events if event.kind is Kind.SAID]

    def _is_promising(self, number: int) -> bool:
        return number >= 0 and self.events[number].kind in {Kind.SAID, Kind.SYNCED}

    def _told(self, number: int) -> str:
        if number < 0:
            return "none"
        event = self.events[number]
        return f"{event.kind.name.lower()} {event.first[:80]!r}"

    def _problems(self, left: Tree, said: Said, seed: int, *, restart: bool) -> Iterator[str]:
        """Yield what does not hold of what is left, and of what a second loss leaves there."""
        problem = self._problem(left, said, restart=restart)
        if problem is not None:
            yield problem
        elif restart and not self.is_recovery:
            yield from self._problems_again(left, said, seed)

    def _problem(self, left: Tree, said: Said, *, restart: bool) -> str | None:
        left.write_to(self._root)
        try:
            self.promises.check(self._root, said)
            if restart:
                self.promises.check_restart(self._root, said)
        except Exception as exc:  # noqa: BLE001  whatever stops a service from starting again
            return _described(exc)
        finally:
            shutil.rmtree(self._root)
        return None

    def _problems_again(self, left: Tree, said: Said, seed: int) -> Iterator[str]:
        """Record what a service does on what is left, and lose the power meanwhile."""
        left.write_to(self._root)
        recorder, before = self.recorder.again(), Disk(self._root)
        try:
            promises = self.promises.recover(self._root, said, recorder.environment)
            recovery = Recorded(recorder, before, promises, said, is_recovery=True)
            outcome = recovery.lose_power(AGAIN, seed)
            recovery.forget()
        except Exception as exc:  # noqa: BLE001  as above
            shutil.rmtree(self._root, ignore_errors=True)
            yield f"recovering, {_described(exc)}"
        else:
            self.again += outcome.tried
            yield from (f"recovering, {each}" for each in outcome.violations)
        finally:
            recorder.log.unlink()

    def forget(self) -> None:
        """Remove the disk that was recorded."""
        shutil.rmtree(self._recorded)


def _described(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"
