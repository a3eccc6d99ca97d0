"""What follows for the jobs of lost workers."""

from batuta.cluster.dask.engine.worker_loss import MAX_DEATHS, Decision, WorkerLossTracker
from batuta.cluster.graph import ExecutionPlan, Job
from batuta.cluster.tasks import Task
from tests.cluster.functions import add


def new_job() -> Job:
    return Job([Task(add, (1,), {}, 1)], 0, 0, ExecutionPlan())


def lose_worker_of(job: Job, losses: WorkerLossTracker) -> Decision:
    """Lose the worker that ran `job`; do with it as the scheduler does."""
    loss = losses.on_lost("tcp://127.0.0.1:1", expected=False)
    decision, _ = losses.decide(job, loss, expected=False)
    if decision is not Decision.RETRY:
        losses.on_given_up()
    job.alone = job.alone or decision is Decision.RETRY_ALONE
    return decision


def test_a_job_that_kills_each_of_its_workers_fails_after_it_ran_alone() -> None:
    losses, deadly = WorkerLossTracker(None), new_job()
    decisions = [lose_worker_of(deadly, losses) for _ in range(MAX_DEATHS - 1)]
    assert decisions == [Decision.RETRY] * (MAX_DEATHS - 2) + [Decision.RETRY_ALONE]
    losses.on_lost("tcp://127.0.0.1:2", expected=False)  # where dask had moved it meanwhile
    assert lose_worker_of(deadly, losses) is Decision.FAIL


def test_a_job_that_runs_alone_is_not_blamed_for_one_that_dask_had_moved_to_its_worker() -> None:
    losses, deadly, innocent = WorkerLossTracker(None), new_job(), new_job()
    for job in (innocent, deadly):
        while lose_worker_of(job, losses) is Decision.RETRY:
            pass
    decisions = [lose_worker_of(innocent, losses) for _ in range(2)]
    assert decisions == [Decision.RETRY, Decision.FAIL]
