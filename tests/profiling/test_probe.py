"""What one task takes, measured in the process that runs it."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from batuta.profiling.capture import memory, probe
from batuta.profiling.capture.memory import (
    LinuxMemoryReader,
    MemoryUsage,
    PsutilMemoryReader,
    memory_reader,
)
from batuta.profiling.capture.probe import Probe

MB = 1_000_000


def spend(cpu_s: float) -> None:
    """Compute for so much processor time."""
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        sum(range(1000))


def touch(megabytes: int) -> int:
    """Hold memory for a moment."""
    return int(np.ones(megabytes * MB, dtype=np.uint8)[-1])


def test_what_sleeps_takes_time_and_no_processor() -> None:
    measured = Probe(private=True)
    begun = measured.begin()
    time.sleep(0.05)
    found = measured.end("sleep", begun)
    assert found.wall_s >= 0.05
    assert found.cpu_s < 0.05
    assert abs(found.start_s + found.wall_s - time.time()) < 5


def test_the_processor_time_of_all_threads_counts() -> None:
    measured = Probe(private=True)
    begun = measured.begin()
    other = threading.Thread(target=spend, args=(0.1,))
    other.start()
    other.join()
    assert measured.end("thread", begun).cpu_s >= 0.1


def test_where_tasks_run_together_only_their_own_thread_counts() -> None:
    measured = Probe(private=True, alone=False)
    begun = measured.begin()
    other = threading.Thread(target=spend, args=(0.2,))
    other.start()
    other.join()
    assert measured.end("thread", begun).cpu_s < 0.1


def test_the_processor_time_of_programs_that_ended_counts() -> None:
    measured = Probe(private=True)
    begun = measured.begin()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert measured.end("program", begun).cpu_s >= 0.2


def test_memory_that_was_freed_before_the_end_is_in_the_peak() -> None:
    measured = Probe(private=True)
    begun = measured.begin()
    touch(120)
    found = measured.end("peak", begun)
    assert found.peak_bytes > 120 * MB
    assert found.growth_bytes < 60 * MB


def test_the_peak_of_a_task_is_not_that_of_the_task_before() -> None:
    measured = Probe(private=True)
    measured.end("large", _touching(measured, 200))
    small = measured.end("small", _touching(measured, 1))
    assert small.peak_bytes < measured.end("large", _touching(measured, 200)).peak_bytes - 100 * MB


def _touching(measured: Probe, megabytes: int) -> probe.ProbeStart:
    begun = measured.begin()
    touch(megabytes)
    time.sleep(2 * probe.READ_AFTER_S)  # long enough to be looked at
    return begun


def test_what_a_task_keeps_is_its_growth() -> None:
    measured = Probe(private=True)
    begun = measured.begin()
    kept = np.ones(80 * MB, dtype=np.uint8)
    found = measured.end("growth", begun)
    assert 70 * MB < found.growth_bytes < 120 * MB
    assert kept[-1]


def test_what_the_process_held_before_does_not_count() -> None:
    held = memory_reader(private=True).read().current_bytes
    measured = Probe(private=True, base_bytes=held)
    begun = measured.begin()
    time.sleep(2 * probe.READ_AFTER_S)
    assert measured.end("nothing", begun).peak_bytes < held / 2


class CountedMemory:
    """Counts how often it is looked at."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> MemoryUsage:
        self.reads += 1
        return MemoryUsage(1, 2)

    def reset_peak(self) -> None:
        """Nothing to begin again."""


def test_memory_is_not_looked_at_after_each_short_task(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = CountedMemory()
    monkeypatch.setattr(probe, "memory_reader", lambda *, private: counted)  # noqa: ARG005
    monkeypatch.setattr(probe, "READ_AFTER_S", 1e9)
    monkeypatch.setattr(probe, "READ_EVERY_S", 1e9)
    measured = Probe(private=True)
    for _ in range(100):
        measured.end("short", measured.begin())
    assert counted.reads == 1
    monkeypatch.setattr(probe, "READ_AFTER_S", 0.0)
    assert measured.end("long", measured.begin()).peak_bytes == 2
    assert counted.reads == 2


def test_memory_that_cannot_be_looked_at_fails_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(CountedMemory):
        def __init__(self, *, private: bool) -> None:  # noqa: ARG002 - as it is called
            super().__init__()

        def reset_peak(self) -> None:
            if self.reads > 1:
                raise OSError(24, "Too many open files")

    monkeypatch.setattr(probe, "memory_reader", Blind)
    measured = Probe(private=True)
    begun = measured.begin()
    time.sleep(2 * probe.READ_AFTER_S)
    assert measured.end("blind", begun).peak_bytes == 1


def test_bytes_are_those_that_are_told() -> None:
    measured = Probe(private=True)
    found = measured.end("bytes", measured.begin(), 10, 20)
    assert (found.bytes_in, found.bytes_out) == (10, 20)


@pytest.mark.parametrize("private", [True, False])
def test_systems_that_do_not_tell_the_peak_tell_the_most_of_what_was_seen(private: bool) -> None:
    seen = PsutilMemoryReader(private=private)
    before = seen.read().current_bytes
    held = np.ones(100 * MB, dtype=np.uint8)
    assert seen.read().current_bytes > before + 90 * MB
    assert held[-1]
    del held
    after = seen.read()
    assert after.peak_bytes > after.current_bytes + 50 * MB
    seen.reset_peak()
    assert seen.read().peak_bytes < after.peak_bytes


def test_without_the_files_of_linux_memory_is_looked_at_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "_STATUS", "/proc/self/no-such-file")
    assert isinstance(memory_reader(private=True), PsutilMemoryReader)


def test_where_peaks_cannot_be_reset_they_only_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CLEAR_REFS", "/proc/self/no-such-file")
    looked = LinuxMemoryReader(private=True)
    touch(100)
    peak = looked.read().peak_bytes
    looked.reset_peak()
    assert looked.read().peak_bytes >= peak - 10 * MB


def test_a_task_that_closes_all_files_is_measured_and_its_own_files_are_left_alone(
    tmp_path: Path,
) -> None:
    program = tmp_path / "closing.py"
    program.write_text(CLOSING)
    found = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert found.stdout == "measured\n"
    assert [path.read_text() for path in sorted(tmp_path.glob("own-*"))] == ["mine"] * 40


CLOSING = """
import os, sys, time
from batuta.profiling.capture.probe import READ_AFTER_S, Probe
probe = Probe(private=True)
begun = probe.begin()
os.closerange(3, 100)
own = [os.open(f"{sys.argv[1]}/own-{n}", os.O_RDWR | os.O_CREAT) for n in range(40)]
for each in own:
    os.write(each, b"mine")
time.sleep(2 * READ_AFTER_S)
measure = probe.end("closing", begun)
assert measure.peak_bytes > 1_000_000, measure
os.write(1, b"measured\\n")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_after_a_fork_memory_is_that_of_the_child() -> None:
    looked = LinuxMemoryReader(private=True)
    held = np.ones(150 * MB, dtype=np.uint8)
    read, write = os.pipe()
    if os.fork() == 0:
        del held
        os.write(write, str(looked.read().current_bytes).encode())
        os._exit(0)
    os.wait()
    assert int(os.read(read, 100)) < looked.read().current_bytes - 100 * MB
    assert held[-1]
