"""What functions and classes are, with all that they name, and what that names in its turn."""

from collections.abc import Callable
from hashlib import blake2b
from types import FunctionType
from typing import Any

from batuta.orchestrator.resume.code import (
    Definition,
    closed_over,
    code_parts,
    is_generated,
    is_ours,
    members_of,
    named_by,
)


class Definitions:
    """Digests functions and classes, each once, however they name each other.

    What is met on the way is named at its place and read in its turn, so that it may name what
    led to it.

    Parameters
    ----------
    read : callable
        Digests any value, and asks `of` about the functions and classes in it.
    """

    def __init__(self, read: Callable[[Any], bytes]) -> None:
        self._read = read
        self._whole: dict[Definition, bytes] = {}
        self._own: dict[Definition, tuple[bytes, list[Definition]]] = {}
        self._met: list[Definition] | None = None
        self._open: set[Definition] = set()

    @property
    def is_reading(self) -> bool:
        """Whether what is digested at this moment is a part of a definition."""
        return self._met is not None

    def of(self, definition: Definition) -> bytes:
        """Digest a function or a class."""
        if not is_ours(definition.__module__) or is_generated(definition):
            return self._read(_name(definition))
        if self._met is not None:
            self._met.append(definition)
            return self._identity(definition)
        if definition not in self._whole:
            self._whole[definition] = self._with_all_it_names(definition)
        return self._whole[definition]

    def _with_all_it_names(self, definition: Definition) -> bytes:
        seen, waiting, parts = {definition}, [definition], []
        while waiting:
            part, met = self._own_part(waiting.pop())
            parts.append(part)
            fresh = set(met) - seen
            seen |= fresh
            waiting += fresh
        return blake2b(b"".join([parts[0], *sorted(parts[1:])]), digest_size=16).digest()

    def _own_part(self, definition: Definition) -> tuple[bytes, list[Definition]]:
        if definition not in self._own:
            met: list[Definition] = []
            self._met = met
            try:
                if isinstance(definition, type):
                    held = members_of(definition)
                    own = self._read((_name(definition), type(definition), definition.__bases__))
                else:
                    held = named_by(definition)
                    own = self._identity(definition)
                self._own[definition] = self._read((own, self._all(held))), met
            finally:
                self._met = None
        return self._own[definition]

    def _identity(self, definition: Definition) -> bytes:
        """Tell a definition from others of its name: two closures of one function."""
        if not isinstance(definition, FunctionType) or definition in self._open:
            return self._read(_name(definition))
        self._open.add(definition)
        try:
            made_with = [
                *closed_over(definition),
                ("()", definition.__defaults__),
                *sorted((definition.__kwdefaults__ or {}).items()),
                *sorted(vars(definition).items()),
            ]
            parts = code_parts(definition.__code__)
            return self._read((_name(definition), parts, self._all(made_with)))
        finally:
            self._open.discard(definition)

    def _all(self, held: list[tuple[str, Any]]) -> list[tuple[str, bytes]]:
        return [(name, self._read(value)) for name, value in held]


def _name(definition: Definition) -> tuple[str, str, str]:
    kind = "class" if isinstance(definition, type) else "function"
    return kind, definition.__module__ or "", definition.__qualname__
