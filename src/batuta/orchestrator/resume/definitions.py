"""Digests of functions and classes, together with everything that they refer to."""

from collections.abc import Callable
from hashlib import blake2b
from types import FunctionType
from typing import Any

from batuta.orchestrator.resume.code import (
    Definition,
    class_members,
    closure_values,
    code_parts,
    is_attrs_generated,
    is_user_code,
    referenced_globals,
)


class DefinitionDigester:
    """Digests functions and classes, each once, however they refer to each other.

    References may be circular. So a definition that is met inside another is only identified
    there, and queued; its own part is digested in its turn, and the digest of the whole is that
    of all the parts.

    Parameters
    ----------
    digest_value : callable
        Digests any value, and calls `digest` for the functions and classes in it.
    """

    def __init__(self, digest_value: Callable[[Any], bytes]) -> None:
        self._digest_value = digest_value
        self._digests: dict[Definition, bytes] = {}
        self._own_parts: dict[Definition, tuple[bytes, list[Definition]]] = {}
        self._references: list[Definition] | None = None
        """Where to add definitions that are met; None while no definition is being digested."""
        self._in_progress: set[Definition] = set()

    @property
    def is_active(self) -> bool:
        """Whether the value being digested at this moment is a part of a definition."""
        return self._references is not None

    def digest(self, definition: Definition) -> bytes:
        """Digest a function or a class."""
        if not is_user_code(definition.__module__) or is_attrs_generated(definition):
            return self._digest_value(_name(definition))
        if self._references is not None:
            self._references.append(definition)
            return self._identity(definition)
        if definition not in self._digests:
            self._digests[definition] = self._digest_with_references(definition)
        return self._digests[definition]

    def _digest_with_references(self, definition: Definition) -> bytes:
        visited, queue, parts = {definition}, [definition], []
        while queue:
            part, references = self._own_part(queue.pop())
            parts.append(part)
            unvisited = set(references) - visited
            visited |= unvisited
            queue += unvisited
        # Sorted: the order in which a set is walked differs from process to process.
        return blake2b(b"".join([parts[0], *sorted(parts[1:])]), digest_size=16).digest()

    def _own_part(self, definition: Definition) -> tuple[bytes, list[Definition]]:
        if definition not in self._own_parts:
            references: list[Definition] = []
            self._references = references
            try:
                if isinstance(definition, type):
                    members = class_members(definition)
                    own = self._digest_value(
                        (_name(definition), type(definition), definition.__bases__)
                    )
                else:
                    members = referenced_globals(definition)
                    own = self._identity(definition)
                part = self._digest_value((own, self._digest_all(members)))
                self._own_parts[definition] = part, references
            finally:
                self._references = None
        return self._own_parts[definition]

    def _identity(self, definition: Definition) -> bytes:
        """Digest what distinguishes a definition from others of its name, such as closures."""
        if not isinstance(definition, FunctionType) or definition in self._in_progress:
            return self._digest_value(_name(definition))
        self._in_progress.add(definition)
        try:
            values = [
                *closure_values(definition),
                ("()", definition.__defaults__),
                *sorted((definition.__kwdefaults__ or {}).items()),
                *sorted(vars(definition).items()),
            ]
            parts = code_parts(definition.__code__)
            return self._digest_value((_name(definition), parts, self._digest_all(values)))
        finally:
            self._in_progress.discard(definition)

    def _digest_all(self, values: list[tuple[str, Any]]) -> list[tuple[str, bytes]]:
        return [(name, self._digest_value(value)) for name, value in values]


def _name(definition: Definition) -> tuple[str, str, str]:
    # Journals on disk depend on this: a class or function of Batuta that a task refers to counts
    # by its module and name, so that moving one makes the datasets of its users start again.
    kind = "class" if isinstance(definition, type) else "function"
    return kind, definition.__module__ or "", definition.__qualname__
