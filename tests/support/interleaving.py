"""Changes to a database between two statements of an answer, at each place in turn."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from batuta.service.database import READ_ONLY

T = TypeVar("T")


class _Change:
    """Is made once, after a number of statements of those that only read."""

    def __init__(self, after: int, make: Callable[[], object]) -> None:
        self._left = after
        self._make = make
        self.is_made = False

    def on_statement(self, connection: sa.Connection, *_: object) -> None:
        # Its own statements, and those of others that write, are none of the answer.
        if self.is_made or not connection.get_execution_options().get(READ_ONLY):
            return
        self._left -= 1
        if self._left == 0:
            self.is_made = True
            self._make()


@contextmanager
def changed_after(
    engine: sa.Engine, number: int, make: Callable[[], object]
) -> Iterator[Callable[[], bool]]:
    """Call `make` after so many statements that read; yield what tells whether it was called."""
    change = _Change(number, make)
    sa.event.listen(engine, "after_cursor_execute", change.on_statement)
    try:
        yield lambda: change.is_made
    finally:
        sa.event.remove(engine, "after_cursor_execute", change.on_statement)


def require_one_moment(
    engine: sa.Engine,
    ask: Callable[[str], T],
    change: Callable[[str], object],
    prepare: Callable[[str], object] = lambda _: None,
) -> None:
    """Require that an answer is that of before a change, or of after it, wherever that comes.

    For each statement of the answer, in turn, there is a name of its own: what it is about is
    prepared, asked for, asked for again while it changes after that statement, and once more.
    """
    for number in itertools.count(1):
        name = f"o{number}"
        prepare(name)
        before = ask(name)
        with changed_after(engine, number, partial(change, name)) as is_made:
            answer = ask(name)
        if not is_made():
            # The answer has no more statements; a single one would need no test.
            assert number > 2
            return
        after = ask(name)
        assert before != after
        assert answer in (before, after), f"changed after statement {number}"
