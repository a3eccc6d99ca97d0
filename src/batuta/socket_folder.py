"""The folder in which `multiprocessing` makes its sockets, such as those of forkservers."""

import os
import sys
import tempfile
from multiprocessing import util
from typing import Final

from batuta.errors import ConfigurationError

MAX_SOCKET_PATH_BYTES: Final = 107 if sys.platform == "linux" else 103
"""Of the path of a socket: see unix(7)."""
_SOCKET_NAME_BYTES: Final = len("/pymp-12345678/listener-12345678")
"""Of what `multiprocessing` appends to the temporary folder."""
MAX_TEMPORARY_FOLDER_BYTES: Final = MAX_SOCKET_PATH_BYTES - _SOCKET_NAME_BYTES
_SHORT_FOLDERS: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a folder made by mkdtemp, 0700


def prepare_socket_folder() -> None:
    """Let `multiprocessing` make its sockets in a folder with a path that is short enough.

    It makes one in the temporary folder, for the whole life of this process, which batch systems
    and build systems may set to a path that no socket can have (``TMPDIR``).

    Raises
    ------
    ConfigurationError
        If there is no other.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MAX_TEMPORARY_FOLDER_BYTES:
        return
    short = next((each for each in _SHORT_FOLDERS if os.access(each, os.W_OK | os.X_OK)), folder)
    before = tempfile.tempdir
    tempfile.tempdir = short
    try:
        made: str = util.get_temp_dir()
    finally:
        tempfile.tempdir = before
    if len(os.fsencode(made)) + len("/listener-12345678") > MAX_SOCKET_PATH_BYTES:
        raise ConfigurationError(
            f"TMPDIR: {folder!r} given, a path of at most {MAX_TEMPORARY_FOLDER_BYTES} bytes"
            " expected: workers need a socket in it"
        )
