"""What the tasks of the tests call: workers import it by its name."""

import multiprocessing
import os
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt
import psutil

from batuta.cluster import check_configuration, create_cluster
from batuta.datasets import CarsDataset, CarsDict


def add(*values: Any) -> Any:
    return sum(values)


@dataclass
class Offset:
    """Called as a function; compared by value, so that it has no hash."""

    by: int

    def __call__(self, value: int) -> int:
        return value + self.by


def total(values: Any) -> Any:
    """Add what is in lists, tuples, dictionaries and CarsDatasets, at any depth."""
    if isinstance(values, CarsDataset):
        return total(values.tiles)
    if isinstance(values, dict):
        return total(list(values.values()))
    if isinstance(values, (list, tuple)):
        return sum(map(total, values))
    return values


def halves(value: int) -> tuple[int, int]:
    return value // 2, value - value // 2


def count_call(folder: str, name: str, *values: Any) -> Any:
    """Add, and leave a trace of having been called."""
    with (Path(folder) / name).open("a") as stream:
        stream.write("x")
    return sum(values)


def zeros(size: int) -> npt.NDArray[np.float32]:
    return np.zeros(size, dtype=np.float32)


def fill(values: npt.NDArray[np.float32], value: float) -> npt.NDArray[np.float32]:
    """Change the argument in place, as programs do."""
    values[:] = value
    return values


def sum_of_arrays(*arrays: npt.NDArray[np.float32]) -> float:
    return float(sum(each.sum() for each in arrays))


def hold_until(marker: str, size_mb: int) -> int:
    """Hold memory until a file is there."""
    held = np.ones(size_mb * 1_000_000, dtype=np.uint8)
    while not Path(marker).exists():
        time.sleep(0.01)
    return len(held) // 1_000_000


def sum_of_list(values: list[Any]) -> float:
    return float(sum(np.sum(each) for each in values))


def spoil_first(marker: str, values: npt.NDArray[np.float32]) -> float:
    """Change the argument, and fail the first time."""
    values += 1
    if not Path(marker).exists():
        Path(marker).touch()
        raise ValueError("the first time")
    return float(values.sum())


_KEPT: Final = np.zeros(50_000, dtype=np.float32)


def kept_array(_: int) -> npt.NDArray[np.float32]:
    """Return the state that this module keeps between calls."""
    return _KEPT


def sizes(first: CarsDict, data: CarsDict) -> int:
    return len(first["offsets"]) + len(data["offsets"])


def length(content: bytes, *_: Any) -> int:
    return len(content)


def pid(_: Any = None) -> int:
    return os.getpid()


def fail(message: str, *_: Any) -> NoReturn:
    raise ValueError(message)


class StubbornError(Exception):
    """Cannot be pickled: it holds a lock."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} {why}")
        self.lock = threading.Lock()


def fail_stubbornly() -> NoReturn:
    raise StubbornError("never", "pickled")


class DisguisedError(Exception):
    """Comes back from its pickle as something else."""

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (3,)


def fail_in_disguise() -> NoReturn:
    raise DisguisedError("who")


def interrupt() -> NoReturn:
    raise KeyboardInterrupt("in a task")


class Unwilling:
    """Refuses to be pickled in its own way, as ctypes and locks of multiprocessing do."""

    def __reduce__(self) -> NoReturn:
        raise ValueError("not me")


def leave(code: int) -> NoReturn:
    os._exit(code)


def leave_politely() -> NoReturn:
    raise SystemExit("enough")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(*_: Any) -> None:
    threading.Event().wait()


def hang_once(marker: str) -> None:
    """Hang, but not where `marker` tells that it did."""
    if not Path(marker).exists():
        Path(marker).touch()
        hang()


def unpicklable() -> Any:
    return threading.Lock()


def nothing(*_: Any) -> None:
    return None


def fail_first(marker: str, value: int) -> int:
    """Die the first time, answer the second."""
    path = Path(marker)
    if not path.exists():
        path.touch()
        os._exit(3)
    return value


def warn() -> None:
    warnings.warn("look at this", stacklevel=1)


def allocate(mb: int) -> int:
    """Hold memory, then give it back."""
    held = bytearray(mb * 1_000_000)
    return len(held)


def keep_allocated(mb: int) -> int:
    """Leak memory in the worker."""
    _LEAKED.append(np.ones(mb * 125_000))
    return os.getpid()


def hold(folder: str, mb: int) -> int:
    """Fill memory bit by bit, and hold it until the next look at this worker is over."""
    count_call(folder, "held")
    held = []
    for _ in range(mb // 10):
        held.append(np.ones(1_250_000))
        time.sleep(0.01)
    return 10 * len(held)


_LEAKED: list[Any] = []


def sum_of(values: Iterable[int]) -> int:
    return sum(values)


def start_programs(path: str, how: str) -> None:
    """Start programs that nothing waits for, and append their process ids to a file.

    They are a child, one in a session of its own, and one whose parent has ended, as daemons do.
    Then end as `how` says: by returning, or with the worker.
    """
    daemon = subprocess.run(
        ["sh", "-c", "sleep 1000 >/dev/null & echo $!"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    started = [subprocess.Popen(["sleep", "1000"], start_new_session=new) for new in (False, True)]
    for each in started:
        each.returncode = 0  # nobody waits for it: say nothing of it
    with Path(path).open("a") as stream:
        stream.write(f"{daemon.stdout}{started[0].pid}\n{started[1].pid}\n")
    if how == "exit":
        leave(3)
    if how == "kill":
        die()
    if how == "kill supervisor":
        os.kill(os.getppid(), signal.SIGKILL)
        hang()
    if how == "hang":
        hang()


def started_programs(path: Path) -> list[int]:
    """Return the process ids of the programs of `start_programs` that run."""
    return [pid for pid in map(int, path.read_text().split()) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def sum_in_pool(*values: int) -> int:
    """Add values in a process of this task."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return sum(pool.map(abs, values))


def sum_in_cluster(folder: str, *values: int) -> Any:
    """Add values in a worker of this task."""
    conf = {"mode": "multiprocessing", "nb_workers": 1}
    cluster = create_cluster(check_configuration(conf), Path(folder))
    try:
        added = cluster.create_task(add)(*values)
        (value,) = cluster.future_iterator(cluster.start_tasks([added]))
        return value
    finally:
        cluster.cleanup()
