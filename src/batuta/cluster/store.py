"""Stores results between the task that returns them and those that use them.

A result is one file: its pickle (protocol 5) and its out-of-band buffers, so that the reader maps
the arrays instead of copying them. Small results are sent in the message instead. Only this user
can read or write the folder.
"""

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import pickle
import shutil
import stat
import struct
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from batuta.cluster.by_value import dumps
from batuta.cluster.errors import ClusterError, NoSpaceError
from batuta.cluster.main_script import MainNames

MAX_INLINE_BYTES: Final = 8192
"""Results up to this size are in the message instead of a file."""

_ALIGNMENT: Final = 64
_HEADER: Final = struct.Struct("<Q")
LOCK_FILE: Final = "owner.lock"
_PREFIX: Final = "batuta-"
_DRAFT_PREFIX: Final = ".batuta-draft-"
_DRAFT_S: Final = 60
"""A folder that is not complete after this time was left by a run that was killed."""
_TRIES: Final = 1000
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""Of `OSError`: the disk, or a quota, is full."""


MAX_HANDOVER_BYTES: Final = 16 << 20
"""Results up to this size are in memory, when the main process alone reads them."""


class StoredResult(NamedTuple):
    """Where a result is: in the file `path`, or here in `inline`."""

    path: str | None
    inline: bytes | None = None

    def load(self) -> Any:
        """Return the value; its arrays are a private map, which may be changed."""
        return fetch(self)

    def discard(self) -> None:
        """Delete the file, if there is one; processes that have mapped it can still read it."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)  # noqa: PTH108 - on the path of every task


class ResultStore:
    """The folder of a run's results, locked for as long as its owner lives.

    Parameters
    ----------
    parent : Path or None
        Where to create it: created too, and removed with it when nothing else is in there.
        None is shared memory (``/dev/shm``), or the temporary folder of systems that have none.

    Raises
    ------
    NoSpaceError
        If it is full.
    """

    def __init__(self, parent: Path | None) -> None:
        self._own_parent = parent
        if parent is None:
            parent = shared_memory_folder()
        try:
            self.folder, self._lock = _claim_folder(parent)
        except OSError as exc:
            if exc.errno in NO_SPACE:
                raise NoSpaceError(str(parent)) from exc
            raise

    def close(self) -> None:
        """Remove the folder and all that is in it; harmless when done before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        if self._own_parent is not None:
            with contextlib.suppress(OSError):  # another run uses it
                self._own_parent.rmdir()


def _claim_folder(parent: Path) -> tuple[Path, IO[bytes]]:
    """Create a private folder (0700) in `parent`, and lock it.

    Other runs remove folders that nobody has locked (`remove_stale`). So it is created under a name
    that they do not match, locked, and only then renamed; the lock is on the open file and goes
    with it. Another run that ends may remove `parent` at any moment, when nothing else is in there:
    then all is tried again.
    """
    for left in reversed(range(_TRIES)):
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_stale(parent)
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT_PREFIX, dir=parent))
            lock = _locked(draft / LOCK_FILE)
            return draft.rename(parent / draft.name.replace(_DRAFT_PREFIX, _PREFIX, 1)), lock
        except (FileNotFoundError, FileExistsError):
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


def private_temporary_folder(name: str) -> Path:
    """Return a folder of this user in the temporary folder, which other users write in too.

    Raises
    ------
    ClusterError
        If another user has created it.
    """
    folder = Path(tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with contextlib.suppress(
        FileNotFoundError
    ):  # another run has just removed it: the store creates it again
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise ClusterError(f"{folder} is not a folder of this user: give an out_dir")
    return folder


def shared_memory_folder() -> Path:
    """Return a folder in memory, where the system has one."""
    shared = Path("/dev/shm")  # noqa: S108 - our folder inside is made by mkdtemp, 0700
    return shared if shared.is_dir() and os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def remove_stale(parent: Path) -> None:
    """Remove the folders of runs that were killed: those whose lock nobody holds."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # being removed, or another user's
            lock = _locked(folder / LOCK_FILE, "r+b")
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()
    for draft in parent.glob(f"{_DRAFT_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_S:
                shutil.rmtree(draft, ignore_errors=True)


def _locked(path: Path, mode: str = "xb") -> IO[bytes]:
    stream: IO[bytes] = path.open(mode)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise
    return stream


_NAMES: Final = itertools.count()


class Traffic:
    """Bytes that this process has read from stores, and written to them."""

    def __init__(self) -> None:
        self.read = 0
        self.written = 0


TRAFFIC: Final = Traffic()


def put(
    value: Any,
    folder: str,
    *,
    handover_folder: str | None = None,
    main: MainNames | None = None,
) -> StoredResult:
    """Write `value` to a new file of `folder`, or in what is returned where it is small.

    Parameters
    ----------
    value
        Whatever can be pickled, by cloudpickle where `pickle` cannot.
    folder : str
        Of the store.
    handover_folder : str, optional
        A folder in memory, preferred for up to `MAX_HANDOVER_BYTES` while it has room.
    main : MainNames, optional
        What the reader finds of the main script: see `batuta.cluster.by_value.dumps`.

    Raises
    ------
    NoSpaceError
        If the folder has no room. What pickling `value` raises is raised as it is.
    """
    buffers: list[memoryview] = []
    body = dumps(value, buffers, main)
    size = len(body) + sum(buffer.nbytes for buffer in buffers)
    TRAFFIC.written += size
    if size <= MAX_INLINE_BYTES:
        return StoredResult(None, dumps(value, None, main) if buffers else body)
    if handover_folder is not None and size <= MAX_HANDOVER_BYTES:
        # Shared memory is small in some containers.
        with contextlib.suppress(NoSpaceError):
            return _put_file(handover_folder, body, buffers)
    return _put_file(folder, body, buffers)


def _put_file(folder: str, body: bytes, buffers: list[memoryview]) -> StoredResult:
    # The process id: workers write in the same folder, and each counts for itself.
    path = f"{folder}/{os.getpid()}-{next(_NAMES)}"
    try:
        with open(path, "xb") as stream:  # noqa: PTH123 - half the time of Path.open, each result
            _write(stream, body, buffers)
    except OSError as exc:
        StoredResult(path).discard()
        if exc.errno in NO_SPACE:
            raise NoSpaceError(str(Path(folder).parent)) from exc
        raise
    return StoredResult(path)


def _write(stream: IO[bytes], body: bytes, buffers: list[memoryview]) -> None:
    sizes = [len(body), *(buffer.nbytes for buffer in buffers)]
    stream.write(_HEADER.pack(len(sizes)))
    stream.write(struct.pack(f"<{len(sizes)}Q", *sizes))
    blocks: list[bytes | memoryview] = [body, *buffers]
    for block in blocks:
        stream.write(bytes(-stream.tell() % _ALIGNMENT))
        stream.write(block)


def fetch(stored: StoredResult) -> Any:
    """Return the value of a result; its arrays are a private map, which may be changed."""
    if stored.path is None:
        TRAFFIC.read += len(stored.inline or b"")
        return pickle.loads(stored.inline or b"")  # noqa: S301 - written by our own processes
    content = _content(stored.path)
    TRAFFIC.read += content.nbytes
    (count,) = _HEADER.unpack_from(content)
    sizes = struct.unpack_from(f"<{count}Q", content, _HEADER.size)
    position = _HEADER.size + 8 * count
    blocks = []
    for size in sizes:
        position += -position % _ALIGNMENT
        blocks.append(content[position : position + size])
        position += size
    return pickle.loads(blocks[0], buffers=blocks[1:])  # noqa: S301 - in a folder of ours, 0700


def _content(path: str) -> memoryview:
    with open(path, "rb") as stream:  # noqa: PTH123 - half the time of Path.open, each result
        try:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY))
        except OSError as exc:
            # Each map holds a file open. Where there are too many, this one is read instead.
            if exc.errno not in (errno.EMFILE, errno.ENOMEM):
                raise
            return memoryview(bytearray(stream.read()))
