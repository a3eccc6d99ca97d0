"""Empty tasks on two processes: ``python -m benchmarks.task_peers.sides SIDE TASKS FOLDER``.

Each side starts its processes, runs some tasks to warm up, and then all of them, independent of
each other, until each is known to have ended. Prints how long these took, and all from the import
of the side's library to its end.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.support.measure import ROOT, print_result
from benchmarks.task_peers.empty_task import nothing

WORKERS: Final = 2
WARM_UP_TASKS: Final = 200

Run = Callable[[int], None]
"""Runs as many tasks to their end."""


@contextmanager
def batuta(folder: Path) -> Iterator[Run]:
    """Run them by the cluster `multiprocessing`, with its default renewal of workers."""
    from batuta.orchestrator import Orchestrator  # noqa: PLC0415 - this side alone

    conf = {"mode": "multiprocessing", "nb_workers": WORKERS}
    with Orchestrator(conf, folder) as orchestrator:
        cluster = orchestrator.cluster

        def run(count: int) -> None:
            delayed = [cluster.create_task(nothing)() for _ in range(count)]
            for _ in cluster.future_iterator(cluster.start_tasks(delayed)):
                pass

        yield run


@contextmanager
def concurrent_futures(_: Path) -> Iterator[Run]:
    """Run them by Python's own pool."""
    from concurrent.futures import ProcessPoolExecutor  # noqa: PLC0415 - this side alone

    with ProcessPoolExecutor(WORKERS) as pool:
        yield _by_executor(pool)


@contextmanager
def loky(_: Path) -> Iterator[Run]:
    """Run them by the pool of joblib."""
    from loky import ProcessPoolExecutor  # noqa: PLC0415 - this side alone

    with ProcessPoolExecutor(WORKERS) as pool:
        yield _by_executor(pool)


@contextmanager
def ray(folder: Path) -> Iterator[Run]:
    """Run them by Ray, one after the other waited for in the order of their submission."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray as library  # noqa: PLC0415 - this side alone

    library.init(
        num_cpus=WORKERS,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=str(folder),
    )
    task = library.remote(nothing)

    def run(count: int) -> None:
        library.get([task.remote() for _ in range(count)])

    yield run
    library.shutdown()


@contextmanager
def parsl(folder: Path) -> Iterator[Run]:
    """Run them by Parsl's executor for many short tasks."""
    import parsl as library  # noqa: PLC0415 - this side alone
    from parsl.config import Config  # noqa: PLC0415
    from parsl.executors import HighThroughputExecutor  # noqa: PLC0415
    from parsl.providers import LocalProvider  # noqa: PLC0415

    # Its programs are beside Python's, and its workers are elsewhere than this program.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(ROOT)
    executor = HighThroughputExecutor(
        label="peer",
        address="127.0.0.1",
        max_workers_per_node=WORKERS,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
    )
    config = Config(executors=[executor], run_dir=str(folder), usage_tracking=0)
    app = library.python_app(nothing)

    def run(count: int) -> None:
        for future in [app() for _ in range(count)]:
            future.result()

    with library.load(config):
        yield run


@contextmanager
def hyperqueue(folder: Path) -> Iterator[Run]:
    """Run them by HyperQueue, whose tasks are programs: its own empty one is ``true``."""
    from hyperqueue import Job, LocalCluster  # noqa: PLC0415 - this side alone
    from hyperqueue.cluster import WorkerConfig  # noqa: PLC0415

    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=WORKERS))
        client = cluster.client()

        def run(count: int) -> None:
            job = Job(default_workdir=folder)
            for _ in range(count):
                job.program(["true"], stdout=None, stderr=None)
            client.wait_for_jobs([client.submit(job)])

        yield run


def _by_executor(pool: Executor) -> Run:
    def run(count: int) -> None:
        futures: list[Any] = [pool.submit(nothing) for _ in range(count)]
        for future in futures:
            future.result()

    return run


SIDES: Final = {
    "batuta": batuta,
    "concurrent.futures": concurrent_futures,
    "loky": loky,
    "Ray": ray,
    "Parsl": parsl,
    "HyperQueue": hyperqueue,
}


def main(side: str, tasks: int, folder: Path) -> None:
    """Measure a side."""
    # What it says while it starts and ends is not its result.
    shown = os.dup(1)
    os.dup2(2, 1)
    begun = time.perf_counter()
    with SIDES[side](folder) as run:
        run(WARM_UP_TASKS)
        warm = time.perf_counter()
        run(tasks)
        running_s = time.perf_counter() - warm
    time_s = time.perf_counter() - begun
    sys.stdout.flush()
    os.dup2(shown, 1)
    print_result(running_s=running_s, time_s=time_s)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
