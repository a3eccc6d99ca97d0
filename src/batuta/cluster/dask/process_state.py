"""State of the whole process that is changed for as long as some of its users need it."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeAlias

State: TypeAlias = Mapping[Any, Any]
Change: TypeAlias = Callable[[State], State]


class SharedProcessState:
    """A state of the process that several users change, restored when the last of them leaves.

    Users may leave in any order, so that each cannot simply restore what it found: another may
    have changed it since, and still need that. Instead, the changes of those who stay are applied
    again, in order, to the state before the first of them.

    Parameters
    ----------
    read : callable
        Returns the state with all of its keys.
    write : callable
        Sets the keys that change, at least one, to their values.
    """

    def __init__(self, read: Callable[[], State], write: Callable[[State], None]) -> None:
        self._read: Final = read
        self._write: Final = write
        self._lock = threading.Lock()
        """Clusters may open and close in any thread: one change is written at a time."""
        self._changes: list[Change] = []
        self._original: State = {}
        self._current: State = {}

    @contextmanager
    def changed(self, change: Change) -> Iterator[None]:
        """Change the state for as long as the block; `change` maps it as it is without this user.

        It may be called several times, and should not depend on anything else.
        """
        with self._lock:
            if not self._changes:
                self._original = self._current = self._read()
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
                    # All keys, whether changed here or not: dask sets some of them itself.
                    self._write(self._original)

    def _apply(self) -> None:
        state = self._original
        for change in self._changes:
            state = change(state)
        changed = {key: state[key] for key in state if state[key] != self._current[key]}
        if changed:
            self._write(changed)
        self._current = state
