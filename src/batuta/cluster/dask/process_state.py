"""What belongs to a whole process, and is changed as long as some of its users need it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

State: TypeAlias = Mapping[Any, Any]
Change: TypeAlias = Callable[[State], State]


class Lent:
    """A state of the process that users change, and that is put back after the last one.

    Users may leave in any order: what those who stay need remains in force.

    Parameters
    ----------
    read : callable
        Gives the state, all of its keys included.
    write : callable
        Takes the keys that are to change, one at least, with their values.
    """

    def __init__(self, read: Callable[[], State], write: Callable[[State], None]) -> None:
        self._read: Final = read
        self._write: Final = write
        self._lock = threading.Lock()
        self._changes: list[Change] = []
        self._before: State = {}
        self._now: State = {}

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """Have the state changed; `change` gives it from what it is without this user."""
        with self._lock:
            if not self._changes:
                self._before = self._now = self._read()
            self._changes.append(change)
            self._apply()
        try:
            yield
        finally:
            with self._lock:
                self._changes.remove(change)
                if self._changes:
                    self._apply()
                else:
                    self._write(self._before)

    def _apply(self) -> None:
        state = self._before
        for change in self._changes:
            state = change(state)
        changed = {key: state[key] for key in state if state[key] != self._now[key]}
        if changed:
            self._write(changed)
        self._now = state
