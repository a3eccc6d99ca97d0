"""The health of what a service depends on: checked in the background, told at once."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool

from batuta.errors import describe_error

LOG: Final = logging.getLogger(__name__)

INTERVAL_S: Final = 5.0
"""Between two checks of the same thing."""
TIMEOUT_S: Final = 10.0
"""How long a check may take before what it checks is unhealthy."""

STOP_TIMEOUT_S: Final = 2.0
"""How long a service that stops waits for a check that is under way."""

Check = Callable[[], str | None]
"""Returns what is wrong, in one line, or None. It may block: it is called in a thread."""


class HealthMonitor:
    """Checks what a service depends on, again and again; `states` is what was found last.

    Each change is logged, in one line.

    Parameters
    ----------
    checks : mapping
        A check per name.
    """

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = dict(checks)
        self._problems: dict[str, str | None] = dict.fromkeys(checks, "not checked yet")

    @property
    def states(self) -> Mapping[str, bool | str]:
        """True per healthy name; what is wrong per unhealthy one."""
        return {name: problem or True for name, problem in self._problems.items()}

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, check in self._checks.items():
                group.create_task(self._repeat(name, check))

    async def _repeat(self, name: str, check: Check) -> None:
        while True:
            await self._run(name, check)
            await asyncio.sleep(INTERVAL_S)

    async def _run(self, name: str, check: Check) -> None:
        checking = asyncio.ensure_future(run_in_threadpool(_problem, check))
        try:
            done, _ = await asyncio.wait({checking}, timeout=TIMEOUT_S)
        except asyncio.CancelledError:
            # What it uses is closed next: a connection to the database, for example.
            await asyncio.wait({checking}, timeout=STOP_TIMEOUT_S)
            raise
        if not done:
            # A thread cannot be cancelled: no second one is started while it hangs.
            self._record(name, f"no answer within {TIMEOUT_S:g} s")
        self._record(name, await checking)

    def _record(self, name: str, problem: str | None) -> None:
        before, self._problems[name] = self._problems[name], problem
        if problem is not None and problem != before:
            LOG.warning("health: %s: %s", name, problem)
        elif problem is None and before not in {None, "not checked yet"}:
            LOG.info("health: %s: healthy again", name)


def _problem(check: Check) -> str | None:
    try:
        return check()
    except Exception as exc:  # noqa: BLE001  what cannot be checked is unhealthy, whatever the reason
        return describe_error(exc)
