"""From what became of a worker to the exception that says so."""

from batuta.cluster.errors import ClusterError, WorkerLostError
from batuta.cluster.local.worker_handle import Worker
from batuta.cluster.resources import MB


def loss(worker: Worker, number: int) -> ClusterError:
    """Say why an order of a dead worker has no result: our reason before the system's."""
    if worker.verdict is not None and worker.condemned == number:
        return worker.verdict
    code = worker.exit_code
    if code is not None and code < 0:
        held = f", holding {worker.peak_ram_bytes / MB:.0f} MB" if worker.peak_ram_bytes else ""
        return WorkerLostError(f"its worker was ended by signal {-code} while it ran{held}")
    return WorkerLostError(f"its worker ended with code {code} while it ran")
