"""What this process holds, and the most that it held: in microseconds, where the system tells."""

import contextlib
import os
from typing import Final, NamedTuple, Protocol

_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_PEAK: Final = b"5"
"""Sets the peak of the process to what it holds now (proc(5), Linux 4.0 and later)."""
_STATUS_BYTES: Final = 4096
_KB: Final = 1024


class Held(NamedTuple):
    """Memory of a process, in bytes."""

    now: int
    peak: int
    """Since it was last reset; at least `now`."""


class Memory(Protocol):
    """Looks at the memory of this process."""

    def look(self) -> Held:
        """Tell what it holds, and the most that it held."""

    def reset(self) -> None:
        """Begin a new peak."""


class LinuxMemory:
    """Reads ``/proc/self/status``: the kernel itself keeps the peak, nothing is sampled.

    Parameters
    ----------
    private : bool
        Whether what is mapped from files and what is shared do not count.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._status = _OwnFile(_STATUS, os.O_RDONLY)
        self._clear_refs: _OwnFile | None = None
        with contextlib.suppress(OSError):  # some containers have it read-only: peaks only grow
            self._clear_refs = _OwnFile(_CLEAR_REFS, os.O_WRONLY)

    def look(self) -> Held:
        """Tell what it holds, and the most that it held."""
        text = os.pread(self._status.descriptor(), _STATUS_BYTES, 0)
        shared = _kb(text, b"RssFile:") + _kb(text, b"RssShmem:") if self._private else 0
        now = _kb(text, b"VmRSS:") - shared
        return Held(now * _KB, max(now, _kb(text, b"VmHWM:") - shared) * _KB)

    def reset(self) -> None:
        """Begin a new peak."""
        if self._clear_refs is None:
            return
        try:
            os.write(self._clear_refs.descriptor(), _RESET_PEAK)
        except OSError:
            self._clear_refs = None  # older kernels refuse: peaks only grow


class _OwnFile:
    """A file about this process that is held open: opening it each time costs more than reading.

    Tasks may close what is not theirs, and fork: before each use it is made sure that the
    descriptor is still that of the file, and the file that of this process. What took its place
    is neither read nor written to.
    """

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._flags = flags
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._descriptor = os.open(self._path, self._flags | os.O_CLOEXEC)
        self._identity = self._found()

    def _found(self) -> tuple[int, int]:
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino

    def descriptor(self) -> int:
        """Return its descriptor."""
        try:
            ours = self._found() == self._identity and os.getpid() == self._pid
        except OSError:  # closed
            ours = False
        if not ours:
            self._open()
        return self._descriptor


def _kb(text: bytes, name: bytes) -> int:
    at = text.find(name)
    return 0 if at < 0 else int(text[at + len(name) : text.index(b" kB", at)])


class AnyMemory:
    """For systems that do not tell the peak: the most of what was seen.

    Parameters
    ----------
    private : bool
        Whether what is shared does not count, where the system tells it apart.
    """

    def __init__(self, *, private: bool) -> None:
        import psutil  # noqa: PLC0415 - not needed where the system tells by itself

        self._process = psutil.Process()
        self._private = private
        self._peak = 0

    def look(self) -> Held:
        """Tell what it holds, and the most that it was seen to hold."""
        info = self._process.memory_info()
        now = int(info.rss - (getattr(info, "shared", 0) if self._private else 0))
        self._peak = max(self._peak, now)
        return Held(now, self._peak)

    def reset(self) -> None:
        """Begin a new peak."""
        self._peak = 0


def memory_of_this_process(*, private: bool) -> Memory:
    """Return what looks best at the memory of this process."""
    try:
        memory = LinuxMemory(private=private)
        memory.look()
    except (OSError, ValueError):
        return AnyMemory(private=private)
    return memory
