"""A run of chaos: everything is started, faults come, all settles, and is verified."""

import asyncio
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.support.chaos import verify
from tests.support.chaos.faults import FaultInjector
from tests.support.chaos.orchestra import Orchestra, Servers, open_orchestra
from tests.support.chaos.plan import SDB, SENDER, Plan
from tests.support.chaos.records import UNAVAILABLE, Counts, Records
from tests.support.chaos.report import Report
from tests.support.chaos.sender import Sender

POLL_S: Final = 0.3
MAX_WHY: Final = 3
CLEANED: Final = ("disks", "sent", "runs")


class _Progress:
    """How far it is, as the databases tell it now and then."""

    def __init__(self, records: Records, plan: Plan) -> None:
        self._records = records
        self._size = plan.size
        self.counts = Counts(0, ("nothing yet",))
        self.changed_s = time.monotonic()

    @property
    def share(self) -> float:
        """The share of all products that are made."""
        return self.counts.made / self._size.to_make

    @property
    def complete(self) -> float:
        """How many observations are complete, about."""
        return self.counts.made / self._size.products

    @property
    def is_settled(self) -> bool:
        """Whether all is made, and nothing under way."""
        return self.counts.made >= self._size.to_make and not self.counts.under_way

    async def read(self) -> None:
        """Look again."""
        try:
            counts = await asyncio.to_thread(self._records.counts)
        except UNAVAILABLE:
            return  # a disk is full, or a service has just been killed: later
        # Attempts that fail again and again are no progress.
        is_made = counts.made >= self._size.to_make
        if counts.made != self.counts.made or (is_made and counts != self.counts):
            self.changed_s = time.monotonic()
        self.counts = counts


async def run_chaos(
    plan: Plan,
    folder: Path,
    servers: Servers | None,
    *,
    patience_s: float,
    told: Callable[[str], None],
) -> Report:
    """Run a plan in an empty folder.

    Parameters
    ----------
    servers : Servers or None
        PostgreSQL and S3, where records and files are there.
    patience_s : float
        It is taken to be stuck when nothing has changed for so long.
    told : callable
        Is called with a line now and then.

    Returns
    -------
    Report
        What has happened, and what does not hold; also written to ``report.json`` in `folder`.
        The data are removed if everything holds.
    """
    began_s = time.monotonic()
    async with open_orchestra(plan, folder, servers) as orchestra:
        records = Records(orchestra)
        progress = _Progress(records, plan)
        told(f"started after {time.monotonic() - began_s:.0f} s; logs: {orchestra.logs}")
        injector = FaultInjector(orchestra)
        sender = Sender(
            orchestra.url(SENDER, SDB),
            plan.size.observations,
            lambda: progress.complete,
            folder / "sent",
        )
        sender.start()
        try:
            found = await _until_settled(orchestra, progress, injector, patience_s, told)
        finally:
            await asyncio.to_thread(sender.stop)
        lasted_s = time.monotonic() - began_s
        content = await asyncio.to_thread(verify.read, orchestra, records)
        found += await _verified(orchestra, records, content)
        explained = await _explained(orchestra, found)
        codes = await orchestra.stop()
        found += verify.of_processes(orchestra, codes)
        found += verify.of_logs(orchestra)
        made = progress.counts.made
        records.close()
        if found and servers is None:
            # The disks are unmounted: what they hold is to be looked at.
            shutil.copytree(folder / "disks", folder / "data", symlinks=True)
    report = Report(
        plan=plan,
        lasted_s=round(lasted_s, 1),
        made=made,
        executions=sum(each.stat().st_size for each in orchestra.runs.iterdir()),
        attempts=sum(row["attempt"] for row in content.claims.values()),
        repeated_imports=sender.repeated,
        faults=dict(injector.done),
        left_out=orchestra.left_out,
        ended=orchestra.ended,
        violations=found,
        explained=explained,
    )
    report.write(folder / "report.json")
    if not found:
        for name in CLEANED:
            shutil.rmtree(folder / name)
    return report


async def _until_settled(
    orchestra: Orchestra,
    progress: _Progress,
    injector: FaultInjector,
    patience_s: float,
    told: Callable[[str], None],
) -> list[str]:
    """Let faults begin as products are made; return what is stuck, if it is."""
    waiting = list(orchestra.plan.faults)
    under_way: set[asyncio.Task[None]] = set()
    next_told = 0.1
    while waiting or not progress.is_settled or not all(task.done() for task in under_way):
        await progress.read()
        while waiting and waiting[0].at <= progress.share:
            fault = waiting.pop(0)
            told(str(fault))
            under_way.add(asyncio.create_task(injector.apply(fault)))
        if progress.share >= next_told:
            told(f"{progress.counts.made} of {orchestra.plan.size.to_make} products")
            next_told += 0.1
        for task in under_way:
            if task.done():
                task.result()
        if time.monotonic() > progress.changed_s + patience_s:
            stuck = (
                f"stuck at {progress.counts.made} of {orchestra.plan.size.to_make} products: "
                f"nothing has changed for {patience_s:.0f} s"
            )
            return [stuck, *(f"under way: {each}" for each in progress.counts.under_way)]
        await asyncio.sleep(POLL_S)
    return []


async def _verified(orchestra: Orchestra, records: Records, content: verify.Made) -> list[str]:
    found = await asyncio.to_thread(verify.violations, records, content)
    found += await verify.of_nats(orchestra)
    found += await asyncio.to_thread(verify.of_store, orchestra, orchestra.database_urls[SDB])
    if len(found) > verify.MAX_TOLD:
        left = len(found) - verify.MAX_TOLD
        found = [*found[: verify.MAX_TOLD], f"and {left} more"]
    return found


async def _explained(orchestra: Orchestra, found: list[str]) -> list[str]:
    """Return what `batuta why` says of the first that violate."""
    lines: list[str] = []
    for each in [line for line in found if line.startswith("P") and " of obs-" in line][:MAX_WHY]:
        product, _, rest = each.partition(" of ")
        observation = rest.split(":")[0].split(" ")[0]
        lines.append(f"batuta why {product} {observation}")
        lines += (await asyncio.to_thread(verify.why, orchestra, product, observation)).splitlines()
    return lines
