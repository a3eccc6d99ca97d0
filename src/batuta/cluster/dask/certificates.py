"""The temporary certificates of a run, which only this user can read."""

import tempfile
import warnings
from pathlib import Path
from typing import Final

from distributed import Security

from batuta.cluster.dask.jobs.reaper import Guard

PREFIX: Final = ".batuta-tls-"
_WORKER_FILES: Final = ("tls_ca_file", "tls_worker_cert", "tls_worker_key")


def temporary_security(folder: Path, guard: Guard) -> Security:
    """Make certificates: those of workers in files, the others in memory alone.

    Parameters
    ----------
    folder : Path
        Workers can read it; the files go in a folder of their own in there.
    guard : Guard
        Removes them in the end.
    """
    temporary = Security.temporary()
    private = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))  # mode 0700
    guard.keep_folder(private)
    files: dict[str, str] = {}
    for role in _WORKER_FILES:
        path = private / f"{role}.pem"
        path.touch(mode=0o600)
        path.write_text(getattr(temporary, role), encoding="ascii")
        files[role] = str(path)
    return Security(
        require_encryption=True,
        tls_client_cert=temporary.tls_client_cert,
        tls_client_key=temporary.tls_client_key,
        tls_scheduler_cert=temporary.tls_scheduler_cert,
        tls_scheduler_key=temporary.tls_scheduler_key,
        **files,
    )


def warn_of_no_security() -> None:
    """Say what plain TCP means."""
    warnings.warn(
        "tls: false: whoever reaches the network of the workers can read the data, and have"
        " them run any program",
        stacklevel=2,
    )
