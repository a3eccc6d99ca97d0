"""Telling what has become stale, once that is recorded."""

import asyncio
from collections.abc import Callable
from typing import Final

from batuta.conductor.database.ledger import Ledger
from batuta.conductor.pruner import Write
from batuta.messaging import StaleProduct
from batuta.messaging.processings import instant_of

CHECK_S: Final = 1.0
"""How often it looks, in seconds: what has become stale is told within this."""


class StaleWatch:
    """Looks for what has become stale and was not told.

    Parameters
    ----------
    ledger : Ledger
        The database.
    write : callable
        Runs what writes, in its turn.
    on_stale : callable
        Told each product that has become stale.
    """

    def __init__(
        self, ledger: Ledger, write: Write, on_stale: Callable[[StaleProduct], None]
    ) -> None:
        self._ledger = ledger
        self._write = write
        self._on_stale = on_stale

    async def run(self) -> None:
        """Look every `CHECK_S` until cancelled."""
        while True:
            rows = await self._write(self._ledger.take_stale)
            for row in rows:
                self._on_stale(
                    StaleProduct(
                        product=row.product,
                        obs_id=row.obs_id,
                        since=instant_of(row.stale_since),
                        because=row.stale_because,
                    )
                )
            if not rows:
                await asyncio.sleep(CHECK_S)
