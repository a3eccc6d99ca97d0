"""The workflow of Temporal, its activity and the worker of both.

``python -m benchmarks.orchestra_peers.workers.temporal_worker ADDRESS QUEUE READY_FILE``
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, UnsandboxedWorkflowRunner, Worker

from benchmarks.orchestra_peers.step import LEVELS, Step

TIMEOUT = timedelta(minutes=5)


class Activities:
    """The step, as an activity."""

    def __init__(self) -> None:
        self._step = Step()

    @activity.defn(name="make")  # type: ignore[untyped-decorator]  # installed by make bench-peers alone
    async def make(self, product: str, obs_id: str) -> str:
        """Make one product."""
        return await self._step.make(product, obs_id)


@workflow.defn(name="observation")
class Observation:
    """Makes the three levels of an observation."""

    @workflow.run  # type: ignore[untyped-decorator]  # installed by make bench-peers alone
    async def run(self, obs_id: str) -> None:
        """Make them one after the other."""
        for product in LEVELS:
            await workflow.execute_activity(
                "make", args=[product, obs_id], start_to_close_timeout=TIMEOUT
            )


async def _work(address: str, queue: str, ready: Path) -> None:
    worker = Worker(
        await Client.connect(address),
        task_queue=queue,
        workflows=[Observation],
        activities=[Activities().make],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_task_poller_behavior=PollerBehaviorAutoscaling(),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(),
    )
    async with worker:
        await asyncio.to_thread(ready.touch)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_work(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
