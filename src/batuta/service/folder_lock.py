"""Locks folders that only one process may use at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batuta.durable_folders import create_folder
from batuta.errors import ConfigurationError
from batuta.private_files import PRIVATE_FOLDER


@contextmanager
def lock_folder(folder: Path, refusal: str) -> Iterator[None]:
    """Lock `folder` for this process, creating it if it is missing.

    The lock goes with the process, however that ends: there is no stale lock to clean up.

    Parameters
    ----------
    refusal : str
        The message if another process holds it.

    Raises
    ------
    ConfigurationError
        With `refusal`.
    """
    create_folder(folder, PRIVATE_FOLDER)
    with (folder / "in-use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigurationError(refusal) from exc
        yield
