"""Locks folders that only one process may use at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batuta.errors import ConfigurationError


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
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / "in-use").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigurationError(refusal) from exc
        yield
