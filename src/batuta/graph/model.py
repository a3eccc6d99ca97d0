"""What a product graph is made of, once checked: products and the providers that make them."""

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum


class OnUpdate(StrEnum):
    """What to do with a product already made when a newer version of an input arrives."""

    REPROCESS = "reprocess"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Provider:
    """The pipeline service that makes some of the graph's products.

    Attributes
    ----------
    name : str
        Also the token of its NATS subject, ``activity.<name>``.
    url : str
        Where it answers, without a trailing slash: requests go to ``<url>/processing``.
    max_concurrent : int or None
        Processings that it may be asked for at the same time, over all observations; None: as
        many as there are to ask.
    callback : bool
        Whether it calls back: requests carry a ``subscriber``, and it is polled later.
    """

    name: str
    url: str
    max_concurrent: int | None = None
    callback: bool = False


@dataclass(frozen=True, slots=True)
class Product:
    """A named kind of scientific result, and what it takes to make it.

    Attributes
    ----------
    name : str
        Unique in the graph, among products and inputs.
    m_input : tuple of str
        Mandatory inputs, at least one: the product is made as soon as all of them are there.
    o_input : tuple of str
        Optional inputs: used when they are there, not waited for longer than `o_wait_s`.
    provider : str
        The service that makes it.
    url : str
        The provider's address, without a trailing slash.
    timeout_s : float
        A processing that lasts longer has failed (key ``timeout``).
    max_attempts : int
        Processings started for one instance before it is shown as failed.
    priority : int
        Among the processings that wait, the highest goes first.
    o_wait_s : float
        How long optional inputs on their way are waited for (key ``o_wait``).
    on_update : OnUpdate
        Whether a newer version of an input makes the product anew.
    """

    name: str
    m_input: tuple[str, ...]
    o_input: tuple[str, ...]
    provider: str
    url: str
    timeout_s: float = 3600.0
    max_attempts: int = 10
    priority: int = 0
    o_wait_s: float = 0.0
    on_update: OnUpdate = OnUpdate.IGNORE

    @property
    def sources(self) -> tuple[str, ...]:
        """All that it is made from: mandatory inputs, then optional ones."""
        return self.m_input + self.o_input

    def ready(self, available: Container[str]) -> bool:
        """Return whether every mandatory input is among the `available` names."""
        return all(name in available for name in self.m_input)
