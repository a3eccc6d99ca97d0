"""The worker pool and its scheduler: tasks that raise, die, hang or cannot be pickled."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from batuta.cluster import (
    ClusterError,
    ClusterStalledError,
    TaskFailedError,
    TaskTimeoutError,
    WorkerLostError,
    WorkerMemoryError,
    check_configuration,
    create_cluster,
)
from batuta.cluster.local import cluster as local_cluster
from batuta.cluster.local.cluster import MultiprocessingCluster
from batuta.cluster.local.scheduler import LocalScheduler
from tests.cluster import functions
from tests.cluster.conftest import MakeCluster, compute
from tests.support.waiting import eventually_sync

SCRIPTS: dict[str, tuple[Any, tuple[Any, ...], str, type[BaseException]]] = {
    "raises": (functions.fail, ("no sun",), "ValueError: no sun", ValueError),
    "raises-unpicklable": (
        functions.fail_stubbornly,
        (),
        "StubbornError: never pickled",
        ClusterError,
    ),
    "exits": (functions.leave, (3,), "ended with code 3", WorkerLostError),
    "exits-well": (functions.leave, (0,), "its worker ended", ClusterError),
    "raises-disguised": (functions.fail_in_disguise, (), "DisguisedError: who", ClusterError),
    "interrupts": (functions.interrupt, (), "KeyboardInterrupt: in a task", KeyboardInterrupt),
    "exits-politely": (functions.leave_politely, (), "SystemExit: enough", SystemExit),
    "is-killed": (functions.die, (), "ended by signal 9", WorkerLostError),
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("fused", [True, False])
def test_a_failure_costs_its_own_task_and_those_that_need_it(
    make_cluster: MakeCluster, script: str, fused: bool
) -> None:
    function, args, reason, cause = SCRIPTS[script]
    cluster = make_cluster(factorize_tasks=fused)
    broken = cluster.create_task(function)(*args)
    dependant = cluster.create_task(functions.add)(cluster.create_task(functions.add)(broken), 1)
    others = [
        cluster.create_task(functions.add)(cluster.create_task(functions.add)(n), 1)
        for n in range(10)
    ]
    *found, error = compute(cluster, [*others, dependant])
    assert found == list(range(1, 11))
    assert isinstance(error, TaskFailedError)
    assert reason in error.reason
    assert error.function == function.__qualname__
    assert isinstance(error.__cause__, cause)


@pytest.mark.parametrize("fused", [True, False])
def test_a_result_that_cannot_travel_fails_its_task(make_cluster: MakeCluster, fused: bool) -> None:
    cluster = make_cluster(factorize_tasks=fused)
    lock = cluster.create_task(functions.unpicklable)()
    fine = cluster.create_task(functions.add)(1)
    error, found = compute(cluster, [lock, fine])
    assert "TypeError: cannot pickle '_thread.lock'" in error.reason
    assert error.function == "unpicklable"
    assert found == 1


def test_a_hung_task_is_killed_however_much_was_sent_ahead_to_its_worker(
    make_cluster: MakeCluster,
) -> None:
    cluster = make_cluster(per_job_timeout=8, task_timeout=60, factorize_tasks=False)
    wave: Any = 0
    for _ in range(60):  # between two waves, what waits behind the hung task is taken back
        lengths = [cluster.create_task(functions.length)(bytes(7000), wave) for _ in range(14)]
        wave = cluster.create_task(functions.total)(lengths)
    error, found = compute(cluster, [cluster.create_task(functions.hang)(), wave])
    assert isinstance(error.__cause__, TaskTimeoutError)
    assert found == 14 * 7000


def test_a_task_over_its_time_is_killed_alone_within_a_second(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(per_job_timeout=2)
    compute(cluster, [cluster.create_task(functions.add)()])  # workers are there
    began = time.monotonic()
    hung = cluster.create_task(functions.hang)(cluster.create_task(functions.add)(1))
    *found, error = compute(
        cluster, [*(cluster.create_task(functions.add)(n) for n in range(5)), hung]
    )
    assert time.monotonic() - began < 3
    assert found == list(range(5))
    assert isinstance(error.__cause__, TaskTimeoutError)
    assert "hang" in str(error)
    assert "2 s (per_job_timeout)" in str(error)


def test_the_time_of_a_chain_is_counted_for_each_of_its_tasks(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(per_job_timeout=2)
    pause: Any = 0.0
    for _ in range(4):
        pause = cluster.create_task(_wait)(0.6, pause)
    assert compute(cluster, [pause]) == [2.4]


def _wait(duration_s: float, before_s: float) -> float:
    time.sleep(duration_s)
    return before_s + duration_s


def test_the_traceback_of_the_worker_comes_with_the_error(cluster: MultiprocessingCluster) -> None:
    (error,) = compute(cluster, [cluster.create_task(functions.fail)("here")])
    notes = "".join(error.__cause__.__notes__)
    assert "In its worker" in notes
    assert "functions.py" in notes


def test_a_wrong_number_of_results_says_how_many_were_expected(
    cluster: MultiprocessingCluster,
) -> None:
    pair = cluster.create_task(functions.add, nout=2)(1)
    (error, _) = compute(cluster, list(pair))
    assert "a tuple of 2 results expected (nout=2), a int returned" in str(error)


def test_arguments_that_cannot_be_sent_fail_their_task_only(
    cluster: MultiprocessingCluster,
) -> None:
    generated = cluster.create_task(functions.add)(each for each in (1, 2))
    unwilling = cluster.create_task(functions.add)(functions.Unwilling())
    fine = cluster.create_task(functions.add)(1)
    error, refusal, found = compute(cluster, [generated, unwilling, fine])
    assert "cannot be sent to a worker: its argument 'values' is a generator" in str(error)
    assert "its argument 'values' is an Unwilling (ValueError: not me)" in str(refusal)
    assert found == 1


def test_what_failed_can_be_started_again_and_uses_what_was_computed(
    cluster: MultiprocessingCluster, tmp_path: Path
) -> None:
    base = cluster.create_task(functions.count_call)(str(tmp_path), "base", 5)
    other = cluster.create_task(functions.add)(base)
    shaky = cluster.create_task(functions.fail_first)(str(tmp_path / "marker"), base)
    found, error = compute(cluster, [other, shaky])
    assert found == 5
    assert "ended with code 3" in str(error)
    assert compute(cluster, [shaky]) == [5]
    assert (tmp_path / "base").read_text() == "x"


def test_what_was_freed_is_computed_again_when_it_is_needed(
    cluster: MultiprocessingCluster, tmp_path: Path
) -> None:
    base = cluster.create_task(functions.count_call)(str(tmp_path), "base", 5)
    assert compute(cluster, [cluster.create_task(functions.add)(base, 1)]) == [6]
    assert compute(cluster, [cluster.create_task(functions.add)(base, 2)]) == [7]
    assert (tmp_path / "base").read_text() == "xx"


def test_a_worker_killed_between_tasks_costs_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nb_workers=1)
    (worker,) = compute(cluster, [cluster.create_task(functions.pid)()])
    psutil.Process(worker).kill()
    found = compute(cluster, [cluster.create_task(functions.add)(n) for n in range(5)])
    assert found == list(range(5))


def test_a_cluster_that_gives_no_sign_of_life_says_so(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(task_timeout=1)
    futures = cluster.start_tasks([cluster.create_task(functions.hang)()])
    with pytest.raises(ClusterStalledError, match=r"no task has ended for 1 s \(task_timeout\)"):
        next(cluster.future_iterator(futures))


def test_cleaning_up_ends_workers_in_the_middle_of_a_task(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster()
    cluster.start_tasks([cluster.create_task(_tell_and_hang)(str(tmp_path / "pid"))])
    eventually_sync((tmp_path / "pid").exists)
    worker = int((tmp_path / "pid").read_text())
    cluster.cleanup()
    assert not psutil.pid_exists(worker)
    assert not list((tmp_path).glob("tmp_save_disk*"))


def test_a_task_that_is_killed_takes_what_it_started_with_it(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(per_job_timeout=2)
    path = tmp_path / "pids"
    (error,) = compute(cluster, [cluster.create_task(functions.start_programs)(str(path), "hang")])
    assert isinstance(error.__cause__, TaskTimeoutError)
    assert not functions.started_programs(path)


def _tell_and_hang(path: str) -> None:
    draft = Path(f"{path}.draft")
    draft.write_text(str(os.getpid()))
    draft.rename(path)
    functions.hang()


def test_a_worker_is_renewed_after_its_tasks(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nb_workers=1, max_tasks_per_worker=3)
    pids = compute(cluster, [cluster.create_task(functions.pid)(n) for n in range(9)])
    counts = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert counts == [3, 3, 3]


@pytest.mark.parametrize(("min_life_s", "counts"), [(0.0, [10, 10, 10]), (600.0, [30])])
def test_without_a_number_a_worker_is_renewed_after_ten_tasks_once_it_has_worked_for_long_enough(
    monkeypatch: pytest.MonkeyPatch, min_life_s: float, counts: list[int]
) -> None:
    monkeypatch.setattr(local_cluster, "MIN_LIFE_S", min_life_s)
    conf = {"mode": "multiprocessing", "nb_workers": 1}
    cluster = create_cluster(check_configuration(conf), None)
    pids = compute(cluster, [cluster.create_task(functions.pid)(n) for n in range(30)])
    cluster.cleanup()
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == counts


def test_a_worker_over_its_memory_after_its_task_is_renewed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nb_workers=1, max_ram_per_worker=400)
    for _ in range(3):
        # Each stays under the limit, and leaves some behind: together they would not.
        (found,) = compute(cluster, [cluster.create_task(functions.keep_allocated)(300)])
        assert isinstance(found, int)


def test_a_task_that_outgrows_its_worker_is_tried_again_alone_with_the_memory_of_all(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(nb_workers=2, max_ram_per_worker=600)
    big = cluster.create_task(functions.hold)(str(tmp_path), 800)
    after = cluster.create_task(functions.add)(big, 1)
    others = [cluster.create_task(functions.add)(n) for n in range(20)]
    assert compute(cluster, [after, *others]) == [801, *range(20)]
    assert (tmp_path / "held").read_text() == "xx"


def test_a_task_that_outgrows_all_memory_is_reported_with_its_peak(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(nb_workers=2, max_ram_per_worker=300)
    big = cluster.create_task(functions.hold)(str(tmp_path), 2000)
    fine = cluster.create_task(functions.add)(1)
    error, found = compute(cluster, [big, fine])
    assert found == 1
    assert isinstance(error.__cause__, WorkerMemoryError)
    held = re.search(r"its worker held (\d+) MB, alone on 2 x 300 MB", str(error))
    assert held is not None
    assert int(held[1]) >= 600
    assert (tmp_path / "held").read_text() == "xx"


def test_workers_that_cannot_start_are_an_error_not_a_wait(
    make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batuta.cluster.local.worker_main._start", _refuse)
    cluster = make_cluster(mp_mode="fork")
    (error,) = compute(cluster, [cluster.create_task(functions.add)(1)])
    assert isinstance(error, ClusterError)
    assert "workers cannot start" in str(error)
    (again,) = compute(cluster, [cluster.create_task(functions.add)(1)])
    assert "workers cannot start" in str(again)


def _refuse(_: Any) -> None:
    raise OSError("no")


@pytest.mark.parametrize("function", [functions.warn, functions.fail])
def test_the_log_of_a_worker_names_the_tile_it_worked_for(
    cluster: MultiprocessingCluster, tmp_path: Path, function: Any
) -> None:
    delayed: Any = cluster.create_task(function)(
        *(["no sun"] if function is functions.fail else [])
    )
    delayed.tile = "height[3, 2]"
    compute(cluster, [cluster.create_task(functions.add)(1), delayed])
    (log,) = (tmp_path / "workers_log").iterdir()
    text = log.read_text()
    assert "height[3, 2]: " in text
    assert "look at this" in text or "ValueError: no sun" in text
    assert f"[process {log.stem.split('_')[1]}, thread " in text


def test_a_task_that_ends_inside_a_chain_is_a_sign_of_life(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(task_timeout=1, per_job_timeout=10)
    pause: Any = 0.0
    for _ in range(3):
        pause = cluster.create_task(_wait)(1.2, pause)
    (found,) = compute(cluster, [pause])
    assert found == pytest.approx(3.6)


def test_a_result_is_refused_before_an_iterator_has_yielded_its_future(
    cluster: MultiprocessingCluster,
) -> None:
    (future,) = cluster.start_tasks([cluster.create_task(functions.add)(2)])
    with pytest.raises(ClusterError, match="has no result yet: iterate over as_completed"):
        future.result()
    assert [each.result() for each in cluster.as_completed([future])] == [2]
    assert [each.result() for each in cluster.as_completed([future])] == [2]


def test_what_a_worker_shares_with_the_main_process_is_not_its_own(
    make_cluster: MakeCluster,
) -> None:
    held = np.ones(60_000_000)  # 480 MB, there when the worker is forked
    cluster = make_cluster(nb_workers=1, max_ram_per_worker=200, mp_mode="fork")
    assert compute(cluster, [cluster.create_task(_wait)(0.3, 0.0)]) == [0.3]
    del held


def test_the_memory_of_what_a_task_starts_counts(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nb_workers=1, max_ram_per_worker=300)
    (error,) = compute(cluster, [cluster.create_task(_start_a_glutton)()])
    assert isinstance(error.__cause__, WorkerMemoryError)


def _start_a_glutton() -> None:
    script = "held = bytearray(700_000_000); print(flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as glutton:
        glutton.wait()


def test_what_a_task_started_ends_when_its_worker_is_renewed(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster(nb_workers=1, max_tasks_per_worker=1)
    path = tmp_path / "pids"
    start = cluster.create_task(functions.start_programs)
    assert compute(cluster, [start(str(path), "return")]) == [None]
    assert compute(cluster, [cluster.create_task(functions.add)(1)]) == [1]
    eventually_sync(lambda: not functions.started_programs(path))


def test_a_scheduler_that_fails_ends_what_was_asked_with_the_reason(
    cluster: MultiprocessingCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compute(cluster, [cluster.create_task(functions.add)(1)]) == [1]
    monkeypatch.setattr(
        LocalScheduler, "_dispatch", lambda _: functions.fail("no idea what to run next")
    )
    asked = [cluster.create_task(functions.add)(number) for number in (1, 2)]
    for _ in range(2):
        for error in compute(cluster, asked):
            assert "the scheduler failed: ValueError: no idea what to run next" in str(error)
