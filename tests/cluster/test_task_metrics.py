"""From what workers measure to the rows of a profile."""

from collections.abc import Sequence

from batuta.cluster.graph import Job, make_plan
from batuta.cluster.task_metrics import TaskMetrics, task_number, with_tree_peak
from batuta.cluster.tasks import Delayed, declare
from batuta.profiling.capture.labels import Label, LostAttempt, task_rows
from batuta.profiling.capture.records import Measure, Repeats, TaskOutcome, TaskRow, WorkerId
from tests.cluster.functions import add

WORKER = WorkerId("process 7", "here", 7)


class RecordingSink:
    """Keeps the rows that it receives."""

    def __init__(self, *, detailed: bool = True) -> None:
        self.detailed = detailed
        self.rows: list[TaskRow] = []

    def record_tasks(self, rows: Sequence[TaskRow]) -> None:
        self.rows += rows

    def record_repeats(self, repeats: Repeats) -> None:
        raise AssertionError(f"nothing is repeated: {repeats}")

    def record_file(self, folder: str, name: str, content: bytes) -> None:
        raise AssertionError(f"no profiler writes: {folder}/{name}, {len(content)} bytes")


def measure(name: str = "add", wall_s: float = 1.0, peak_bytes: int = 10) -> Measure:
    return Measure(name, 100.0, wall_s, 0.5, peak_bytes, 0, 1, 1)


def chain(length: int, task_metrics: TaskMetrics) -> Job:
    """Plan a chain of tasks, each of which uses the result of the one before, as one job."""
    delayed = declare(add, (1,), {}, 1)
    for _ in range(length - 1):
        assert isinstance(delayed, Delayed)
        delayed = declare(add, (delayed,), {}, 1)
    assert isinstance(delayed, Delayed)
    plan = make_plan([delayed], fuse=True)
    task_metrics.number_tasks(plan)
    (job,) = plan.jobs
    job.ready_s = 98.0
    return job


def metrics_and_sink(*, detailed: bool = True) -> tuple[TaskMetrics, RecordingSink]:
    metrics, sink = TaskMetrics(), RecordingSink(detailed=detailed)
    metrics.sink = sink
    return metrics, sink


def test_the_first_step_of_a_job_waits_and_the_others_follow_at_once() -> None:
    metrics, sink = metrics_and_sink()
    metrics.record_job(chain(3, metrics), [measure() for _ in range(3)], WORKER)
    assert [row.waiting_s for row in sink.rows] == [2.0, 0.0, 0.0]
    numbers = [row.task for row in sink.rows]
    assert [row.after for row in sink.rows] == [(), (numbers[0],), (numbers[1],)]


def test_a_clock_that_is_late_gives_no_negative_wait() -> None:
    metrics, sink = metrics_and_sink()
    job = chain(1, metrics)
    job.ready_s = 101.0
    metrics.record_job(job, [measure()], WORKER)
    assert sink.rows[0].waiting_s == 0.0


def test_the_step_that_raised_failed_and_those_before_it_are_done() -> None:
    metrics, sink = metrics_and_sink()
    metrics.record_job(chain(3, metrics), [measure(), measure()], WORKER, "clouds")
    assert [(row.outcome, row.error) for row in sink.rows] == [
        (TaskOutcome.DONE, None),
        (TaskOutcome.FAILED, "clouds"),
    ]


def test_attempts_are_counted_over_failures_and_losses() -> None:
    metrics, sink = metrics_and_sink()
    job = chain(1, metrics)
    metrics.record_job(job, [measure()], WORKER, "clouds")
    metrics.record_loss(metrics.label(job, 0), LostAttempt("add", WORKER, "signal 9", ran_s=2.0))
    metrics.record_job(job, [measure()], WORKER)
    assert [row.attempt for row in sink.rows] == [1, 2, 3]
    assert [row.outcome for row in sink.rows] == ["failed", "lost", "done"]
    assert sink.rows[1].measure.wall_s == 2.0


def test_a_job_that_others_run_again_as_it_was_sent_has_another_attempt() -> None:
    metrics, sink = metrics_and_sink()
    job = chain(1, metrics)
    label = metrics.label(job, 0)
    metrics.record_loss(metrics.relabel(job), LostAttempt("add", WORKER, "the worker is lost"))
    metrics.on_rerun(job)
    metrics.record_rows([_row(label)])
    assert [(row.attempt, row.outcome) for row in sink.rows] == [(1, "lost"), (2, "done")]


def test_a_job_that_is_sent_anew_after_it_was_run_again_is_not_counted_twice() -> None:
    metrics, sink = metrics_and_sink()
    job = chain(1, metrics)
    metrics.label(job, 0)
    metrics.on_rerun(job)
    metrics.record_rows([_row(metrics.label(job, 0))])
    assert [row.attempt for row in sink.rows] == [3]


def _row(label: Label) -> TaskRow:
    (row,) = task_rows([label], [measure()], WORKER, None)
    return row


def test_without_details_tasks_have_no_number() -> None:
    metrics, sink = metrics_and_sink(detailed=False)
    metrics.record_job(chain(2, metrics), [measure(), measure()], WORKER)
    assert [(row.task, row.after) for row in sink.rows] == [(-1, ()), (-1, ())]


def test_without_a_sink_nothing_is_made() -> None:
    metrics = TaskMetrics()
    job = chain(1, metrics)
    metrics.record_job(job, [measure()], WORKER)
    metrics.record_rows([])
    assert job.first.attempts == 0


def test_tasks_are_numbered_after_what_they_need() -> None:
    first = declare(add, (1,), {}, 1)
    second = declare(add, (first,), {}, 1)
    third = declare(add, ([second, first],), {}, 1)
    assert isinstance(first, Delayed)
    assert isinstance(second, Delayed)
    assert isinstance(third, Delayed)
    last = task_number(third.task)
    assert task_number(first.task) < task_number(second.task) < last
    assert task_number(third.task) == last


def test_a_chain_of_a_hundred_thousand_tasks_is_numbered() -> None:
    delayed = declare(add, (1,), {}, 1)
    for _ in range(100_000):
        delayed = declare(add, (delayed,), {}, 1)
    assert isinstance(delayed, Delayed)
    assert task_number(delayed.task) >= 100_000


def test_what_tasks_started_counts_in_the_longest_of_them() -> None:
    short, long = measure(wall_s=1.0), measure(wall_s=5.0)
    assert [each.peak_bytes for each in with_tree_peak([short, long], 500)] == [10, 500]
    assert with_tree_peak([short, long], 5) == [short, long]
    assert with_tree_peak([], 5) == []
