"""From what went wrong in a worker to the exception that says so."""

import pickle

from batuta.cluster.errors import ClusterError, TaskFailedError, WorkerLostError
from batuta.cluster.pool import Worker
from batuta.cluster.resources import MB
from batuta.cluster.worker import JobFailed


def failed_task(function: str, reason: str, cause: BaseException) -> TaskFailedError:
    """Give the exception of a task that has no result, with its cause."""
    error = TaskFailedError(function, reason)
    error.__cause__ = cause
    return error


def raised_error(outcome: JobFailed) -> TaskFailedError:
    """Give the exception that a task raised, with the traceback of its worker as a note."""
    cause: BaseException
    try:
        cause = pickle.loads(outcome.error or b"")  # noqa: S301 - from a worker of ours
    except Exception:  # noqa: BLE001 - a class of the user's may raise anything here
        cause = ClusterError(outcome.reason)
    cause.add_note(f"In its worker:\n{outcome.trace}")
    return failed_task(outcome.function, outcome.reason, cause)


def loss(worker: Worker, number: int) -> ClusterError:
    """Say why an order of a dead worker has no result: our reason before the system's."""
    if worker.verdict is not None and worker.condemned == number:
        return worker.verdict
    code = worker.exit_code
    if code is not None and code < 0:
        held = f", holding {worker.peak_ram_bytes / MB:.0f} MB" if worker.peak_ram_bytes else ""
        return WorkerLostError(f"its worker was ended by signal {-code} while it ran{held}")
    return WorkerLostError(f"its worker ended with code {code} while it ran")
