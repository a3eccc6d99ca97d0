"""What a token may do: its scopes."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """What a token is given out for.

    Three are nested, each with all of the one before it: who administers also operates and reads.
    `IMPORT` is apart, so that an instrument can deliver and do nothing else; administering has it.
    """

    READ = "read"
    """Look at everything, and export products."""
    IMPORT = "import"
    """Import products, and ask whether they have arrived and what became of them."""
    OPERATE = "operate"
    """Operate during a shift: retry, cancel, make, hold, approve, run campaigns."""
    ADMINISTER = "administer"
    """Do everything: also what changes the graph or the record, and what cannot be undone."""


ALL_SCOPES: Final = frozenset(Scope)

_INCLUDED: Final = {
    Scope.READ: {Scope.READ},
    Scope.IMPORT: {Scope.IMPORT},
    Scope.OPERATE: {Scope.READ, Scope.OPERATE},
    Scope.ADMINISTER: ALL_SCOPES,
}


def included(scopes: Iterable[Scope]) -> frozenset[Scope]:
    """Return scopes with all that they include."""
    return frozenset[Scope]().union(*(_INCLUDED[each] for each in scopes))


def in_order(scopes: Iterable[Scope]) -> list[Scope]:
    """Return scopes, each once, from the least on."""
    given = set(scopes)
    return [each for each in Scope if each in given]
