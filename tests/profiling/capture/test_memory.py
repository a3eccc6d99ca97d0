"""The memory of this process, and its peak."""

import os

import numpy as np
import pytest

from batuta.profiling.capture import memory
from batuta.profiling.capture.memory import (
    LinuxMemoryReader,
    PsutilMemoryReader,
    memory_reader,
)

MB = 1_000_000


def touch(megabytes: int) -> int:
    """Hold memory for a moment."""
    return int(np.ones(megabytes * MB, dtype=np.uint8)[-1])


@pytest.mark.parametrize("private", [True, False])
def test_without_a_peak_of_the_system_it_is_the_highest_memory_that_was_read(private: bool) -> None:
    reader = PsutilMemoryReader(private=private)
    before = reader.read().current_bytes
    held = np.ones(100 * MB, dtype=np.uint8)
    assert reader.read().current_bytes > before + 90 * MB
    assert held[-1]
    del held
    after = reader.read()
    assert after.peak_bytes > after.current_bytes + 50 * MB
    reader.reset_peak()
    assert reader.read().peak_bytes < after.peak_bytes


def test_without_the_files_of_linux_memory_is_read_by_psutil(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_STATUS", "/proc/self/no-such-file")
    assert isinstance(memory_reader(private=True), PsutilMemoryReader)


def test_where_peaks_cannot_be_reset_they_only_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", "/proc/self/no-such-file")
    reader = LinuxMemoryReader(private=True)
    touch(100)
    peak = reader.read().peak_bytes
    reader.reset_peak()
    assert reader.read().peak_bytes >= peak - 10 * MB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_memory_is_that_of_the_child() -> None:
    reader = LinuxMemoryReader(private=True)
    held = np.ones(150 * MB, dtype=np.uint8)
    read, write = os.pipe()
    if os.fork() == 0:
        del held
        os.write(write, str(reader.read().current_bytes).encode())
        os._exit(0)
    os.wait()
    assert int(os.read(read, 100)) < reader.read().current_bytes - 100 * MB
    assert held[-1]
