"""How much memory this process uses, and its peak: in microseconds, where the system keeps it."""

import contextlib
import os
from typing import Final, NamedTuple, Protocol

_STATUS: Final = "/proc/self/status"
_CLEAR_REFS: Final = "/proc/self/clear_refs"
_RESET_PEAK: Final = b"5"
"""Sets the peak of the process to what it uses now (proc(5), Linux 4.0 and later)."""
_STATUS_BYTES: Final = 4096
_KB: Final = 1024


class MemoryUsage(NamedTuple):
    """Memory of a process."""

    current_bytes: int
    peak_bytes: int
    """Since it was last reset; at least `current_bytes`."""


class MemoryReader(Protocol):
    """Reads the memory of this process."""

    def read(self) -> MemoryUsage:
        """Return the current memory, and the peak since it was last reset."""

    def reset_peak(self) -> None:
        """Start a new peak, where that is possible."""


class LinuxMemoryReader:
    """Reads ``/proc/self/status``: the kernel itself keeps the peak, nothing is sampled.

    Parameters
    ----------
    private : bool
        Whether memory mapped from files and shared memory do not count.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._status = _ProcFile(_STATUS, os.O_RDONLY)
        self._clear_refs: _ProcFile | None = None
        with contextlib.suppress(OSError):  # some containers mount it read-only: peaks only grow
            self._clear_refs = _ProcFile(_CLEAR_REFS, os.O_WRONLY)

    def read(self) -> MemoryUsage:
        """Return the current memory, and the peak since it was last reset."""
        text = os.pread(self._status.descriptor(), _STATUS_BYTES, 0)
        # The kernel keeps one peak of all pages together: what is shared now is taken off both.
        shared = _kb(text, b"RssFile:") + _kb(text, b"RssShmem:") if self._private else 0
        current = _kb(text, b"VmRSS:") - shared
        peak = max(current, _kb(text, b"VmHWM:") - shared)
        return MemoryUsage(current * _KB, peak * _KB)

    def reset_peak(self) -> None:
        """Start a new peak; where the kernel refuses, the old one goes on."""
        if self._clear_refs is None:
            return
        try:
            os.write(self._clear_refs.descriptor(), _RESET_PEAK)
        except OSError:
            self._clear_refs = None  # a kernel before 4.0 refuses each time


class _ProcFile:
    """A file of this process under ``/proc/self``, kept open: opening costs more than reading.

    Its descriptor may be wrong when it is used again:

    - ``/proc/self`` is resolved when the file is opened. In a child that a task forked, the
      inherited descriptor is that of the parent, whose memory would be read and whose peak reset.
    - A task may close all descriptors of the process, and the number may then belong to a file of
      its own, which would be read as a status, or even written to.

    So each use checks both, and opens the file again where one is wrong.
    """

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._flags = flags
        self._open()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._descriptor = os.open(self._path, self._flags | os.O_CLOEXEC)
        self._identity = self._read_identity()

    def _read_identity(self) -> tuple[int, int]:
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def descriptor(self) -> int:
        """Return a descriptor that is valid in this process now."""
        try:
            valid = self._read_identity() == self._identity and os.getpid() == self._pid
        except OSError:  # closed
            valid = False
        if not valid:
            self._open()
        return self._descriptor


def _kb(text: bytes, name: bytes) -> int:
    at = text.find(name)
    return 0 if at < 0 else int(text[at + len(name) : text.index(b" kB", at)])


class PsutilMemoryReader:
    """For systems that do not keep the peak: the highest memory that was read.

    Parameters
    ----------
    private : bool
        Whether shared memory does not count, where the system tells it apart.
    """

    def __init__(self, *, private: bool) -> None:
        import psutil  # noqa: PLC0415 - not needed where the system keeps the peak

        self._process = psutil.Process()
        self._private = private
        self._peak_bytes = 0

    def read(self) -> MemoryUsage:
        """Return the current memory, and the highest that was read since the last reset."""
        info = self._process.memory_info()
        current = int(info.rss - (getattr(info, "shared", 0) if self._private else 0))
        self._peak_bytes = max(self._peak_bytes, current)
        return MemoryUsage(current, self._peak_bytes)

    def reset_peak(self) -> None:
        """Start a new peak."""
        self._peak_bytes = 0


def memory_reader(*, private: bool) -> MemoryReader:
    """Return the best reader of the memory of this process that works on this system."""
    try:
        reader = LinuxMemoryReader(private=private)
        reader.read()
    except (OSError, ValueError):
        return PsutilMemoryReader(private=private)
    return reader
