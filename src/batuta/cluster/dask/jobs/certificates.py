"""Temporary TLS certificates of one run, which only this user can read."""

import tempfile
import warnings
from pathlib import Path
from typing import Final

from distributed import Security

from batuta.cluster.dask.jobs.reaper import JobReaper

PREFIX: Final = ".batuta-tls-"
_WORKER_FILES: Final = ("tls_ca_file", "tls_worker_cert", "tls_worker_key")


def temporary_security(folder: Path, reaper: JobReaper) -> Security:
    """Create certificates: those of workers in files, the others in memory only.

    Parameters
    ----------
    folder : Path
        Where the private folder of the files is created; workers must be able to read it.
    reaper : JobReaper
        Removes the private folder in the end.
    """
    temporary = Security.temporary()
    private = Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))  # mode 0700
    reaper.register_folder(private)
    files: dict[str, str] = {}
    for role in _WORKER_FILES:
        path = private / f"{role}.pem"
        path.touch(mode=0o600)  # before there is anything to read in it
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


def warn_unencrypted() -> None:
    """Warn of what plain TCP means."""
    warnings.warn(
        "tls: false: anyone who reaches the network of the workers can read the data, and run any"
        " program on them",
        stacklevel=2,
    )
