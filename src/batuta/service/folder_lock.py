"""Folders that belong to one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batuta.errors import ConfigurationError


@contextmanager
def lock_folder(folder: Path, refusal: str) -> Iterator[None]:
    """Hold `folder`, created where it is not there, for this process alone.

    The system lets it go when the process ends, however it ends.

    Parameters
    ----------
    refusal : str
        What to say where another process holds it.

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
