"""How much an sdb may keep, and what is refused beyond that, before it is received where possible.

The records decide, in the transaction that would commit an import, so that no number of senders or
services passes a quota. What is known sooner is refused sooner: by the announced length of a body,
or while it is received.
"""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from batuta.formatting import format_bytes, format_percent
from batuta.sdb.new_product import NewProduct
from batuta.sdb.settings import SdbSettings, store_folder
from batuta.sdb.usage import bytes_by_product, total_bytes
from batuta.service.database import UNAVAILABLE, reading
from batuta.service.problems import ProblemError

NEARLY_FULL: Final = 0.95
"""The share of a quota from which on the sdb is degraded."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many bytes of versions and quicklooks an sdb may keep, and what its disk keeps free.

    Attributes
    ----------
    total_bytes : int or None
        Of all products together.
    product_bytes : mapping of str to int
        Of single products.
    free_bytes : int
        What is left free on the disk.
    """

    total_bytes: int | None = None
    product_bytes: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int = 0

    def refusals(
        self, connection: sa.Connection, news: Sequence[NewProduct]
    ) -> list[ProblemError | None]:
        """Return what refuses each of `news`, one after another, in the transaction of all."""
        if self.total_bytes is None and not self.product_bytes:
            return [None] * len(news)
        used = read_usage(connection, self)
        refused: list[ProblemError | None] = []
        for new in news:
            problem = self.problem_of(used, new.product, new.recorded_bytes)
            if problem is None:
                used = used.plus(new.product, new.recorded_bytes)
            refused.append(None if problem is None else _refusal(problem))
        return refused

    def problem_of(self, used: "Usage", product: str | None, size: int) -> str | None:
        """Return in one line which quota `size` more bytes of a product pass, if any."""
        if self.total_bytes is not None and used.total_bytes + size > self.total_bytes:
            return _beyond("quota_bytes", self.total_bytes, used.total_bytes, size)
        quota = self.product_bytes.get(product or "")
        if quota is not None and used.product_bytes[product or ""] + size > quota:
            of_product = used.product_bytes[product or ""]
            return _beyond(f"product_quotas: {product}", quota, of_product, size)
        return None


@dataclass(frozen=True)
class Usage:
    """The bytes that are kept: of all products, and of those that have a quota."""

    total_bytes: int
    product_bytes: Mapping[str, int]

    def plus(self, product: str | None, size: int) -> "Usage":
        """Return the usage with `size` more bytes of a product."""
        of_products = dict(self.product_bytes)
        if product in of_products:
            of_products[product] += size
        return Usage(self.total_bytes + size, of_products)


def read_usage(connection: sa.Connection, limits: Limits) -> Usage:
    """Read what is kept of that which `limits` bound."""
    of_products = bytes_by_product(connection, list(limits.product_bytes))
    return Usage(total_bytes(connection), of_products)


ReadOthers = Callable[[sa.Connection], int]


def nothing_received(_: sa.Connection) -> int:
    """Return that no bytes of other uploads are waited for."""
    return 0


class Quota:
    """Refuses imports beyond limits, with those that are being received.

    Its methods read the database and the disk, and block.

    Parameters
    ----------
    engine : sqlalchemy.Engine
        The database.
    limits : Limits
        What is kept at most.
    folder : Path
        On the disk that files are received on.
    """

    def __init__(self, engine: sa.Engine, limits: Limits, folder: Path) -> None:
        self.limits = limits
        self._engine = engine
        self._folder = folder
        self._lock = threading.Lock()
        self._receptions: list[Reception] = []

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit."""
        limits = self.limits
        return bool(limits.total_bytes is not None or limits.product_bytes or limits.free_bytes)

    @contextmanager
    def receiving(self, product: str | None, at_least: int) -> Iterator["Reception"]:
        """Count a file while it is received: of `product`, where that is known by now.

        Of its size, nothing is known but that it is `at_least` so many bytes.
        """
        reception = Reception(self, product, at_least)
        with self._lock:
            self._receptions.append(reception)
        try:
            yield reception
        finally:
            with self._lock:
                self._receptions.remove(reception)

    def used_bytes(self) -> int:
        """Return the bytes of all versions and quicklooks."""
        with reading(self._engine) as connection:
            return total_bytes(connection)

    def free_bytes(self) -> int:
        """Return the bytes that are free on the disk."""
        return shutil.disk_usage(self._folder).free

    def problem(self) -> str | None:
        """Return in one line which limit is near, if any."""
        try:
            with reading(self._engine) as connection:
                used = read_usage(connection, self.limits)
        except UNAVAILABLE:
            return None  # that is said of the database
        limits = self.limits
        kept = [("quota_bytes", limits.total_bytes, used.total_bytes)]
        kept += [
            (f"product_quotas: {product}", quota, used.product_bytes[product])
            for product, quota in limits.product_bytes.items()
        ]
        disk = shutil.disk_usage(self._folder)
        if limits.free_bytes:
            kept.append(("keep_free_bytes", disk.total - limits.free_bytes, disk.total - disk.free))
        near = [
            f"{name}: {format_percent(used_bytes / quota) if quota > 0 else 'all'} of "
            f"{format_bytes(quota)} is used"
            for name, quota, used_bytes in kept
            if quota is not None and used_bytes >= NEARLY_FULL * quota
        ]
        return "; ".join(near) or None

    def check(self, reception: "Reception", *, usage_known: bool) -> None:
        """Refuse what is received if it passes a limit, with all others that are.

        Raises
        ------
        ProblemError
            507.
        """
        if not self.is_limited:
            return
        if not usage_known:
            # In one moment: an upload that is imported meanwhile is there, or among the others.
            with reading(self._engine) as connection:
                reception.used = read_usage(connection, self.limits)
                reception.others_bytes = reception.read_others(connection)
        free = self.free_bytes() if self.limits.free_bytes else None
        with self._lock:
            # Two that come together are looked at one after the other, with what was accepted.
            problem = self._problem_of(reception, free)
            reception.is_accepted = problem is None
        if problem is not None:
            raise _refusal(problem)

    def _problem_of(self, reception: "Reception", free: int | None) -> str | None:
        others = [each for each in self._receptions if each.is_accepted and each is not reception]
        problem = None
        if not reception.may_repeat:
            used = reception.used.plus(None, reception.others_bytes)
            for each in others:
                if not each.may_repeat:
                    used = used.plus(each.product, each.size)
            problem = self.limits.problem_of(used, reception.product, reception.size)
        unwritten = sum(each.size - each.written_bytes for each in (*others, reception))
        if problem is None and free is not None and free - unwritten < self.limits.free_bytes:
            return (
                f"keep_free_bytes: {self.limits.free_bytes} bytes are to be kept free, {free} are, "
                f"and {unwritten} are still to be received"
            )
        return problem


class Reception:
    """A file that is being received.

    Attributes
    ----------
    product : str or None
        Whose version it is, where that is known.
    size, written_bytes : int
        How large it is at least, and how much of it is on the disk.
    read_others : callable
        Reads what was received of uploads that are in no record yet, in bytes.
    used, others_bytes : Usage, int
        What was kept, and received of these, when it was looked at last.
    is_accepted : bool
        Whether it is to be received: it counts for others.
    may_repeat : bool
        Whether it may have been imported before: then it needs room on the disk alone, until it
        is known that it was not.
    """

    def __init__(self, quota: Quota, product: str | None, at_least: int) -> None:
        self._quota = quota
        self.product = product
        self.size = at_least
        self.written_bytes = 0
        self.read_others: ReadOthers = nothing_received
        self.others_bytes = 0
        self.used = Usage(0, {})
        self.is_accepted = False
        self.may_repeat = False

    def check(self) -> None:
        """Refuse it before it is received, by what is known of it; raises as `Quota.check`."""
        self._quota.check(self, usage_known=False)

    def write(self, size: int) -> None:
        """Count `size` bytes that are written next; raises as `Quota.check`."""
        self.size = max(self.size, self.written_bytes + size)
        self._quota.check(self, usage_known=True)
        self.written_bytes += size

    def complete(self, product: str, size: int) -> None:
        """Record its product and its size once they are known, before it is stored.

        Raises as `Quota.check`.
        """
        self.product, self.size, self.may_repeat = product, size, False
        self._quota.check(self, usage_known=False)


def open_quota(engine: sa.Engine, settings: SdbSettings) -> Quota:
    """Return the quota that `settings` tell, of the database and of the disk of the store."""
    limits = Limits(
        total_bytes=settings.quota_bytes,
        product_bytes=settings.product_quotas,
        free_bytes=settings.keep_free_bytes,
    )
    folder = store_folder(settings.store_url)
    return Quota(engine, limits, settings.scratch_folder if folder is None else folder)


def _beyond(name: str, quota: int, used: int, size: int) -> str:
    return (
        f"{name}: {quota} bytes may be kept, {used} are (or are being received), "
        f"and this import has {size} or more"
    )


def _refusal(problem: str) -> ProblemError:
    return ProblemError(HTTPStatus.INSUFFICIENT_STORAGE, f"store: {problem}; nothing was recorded")
