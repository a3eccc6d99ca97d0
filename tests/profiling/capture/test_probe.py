"""What one task takes, measured in the process that runs it."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from batuta.profiling.capture import probe
from batuta.profiling.capture.memory import (
    MemoryUsage,
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


def test_a_task_that_sleeps_takes_time_and_no_processor_time() -> None:
    meter = Probe(private=True)
    start = meter.begin()
    time.sleep(0.05)
    found = meter.end("sleep", start)
    assert found.wall_s >= 0.05
    assert found.cpu_s < 0.05
    assert abs(found.start_s + found.wall_s - time.time()) < 5


def test_the_processor_time_of_all_threads_counts() -> None:
    meter = Probe(private=True)
    start = meter.begin()
    other = threading.Thread(target=spend, args=(0.1,))
    other.start()
    other.join()
    assert meter.end("thread", start).cpu_s >= 0.1


def test_where_tasks_run_together_only_their_own_thread_counts() -> None:
    meter = Probe(private=True, alone=False)
    start = meter.begin()
    other = threading.Thread(target=spend, args=(0.2,))
    other.start()
    other.join()
    assert meter.end("thread", start).cpu_s < 0.1


def test_the_processor_time_of_child_processes_counts() -> None:
    meter = Probe(private=True)
    start = meter.begin()
    burn = "import time\nwhile time.process_time() < 0.2: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert meter.end("program", start).cpu_s >= 0.2


def test_memory_that_was_freed_before_the_end_is_in_the_peak() -> None:
    meter = Probe(private=True)
    start = meter.begin()
    touch(120)
    found = meter.end("peak", start)
    assert found.peak_bytes > 120 * MB
    assert found.growth_bytes < 60 * MB


def test_the_peak_of_a_task_is_not_that_of_the_task_before() -> None:
    meter = Probe(private=True)
    meter.end("large", _touching(meter, 200))
    small = meter.end("small", _touching(meter, 1))
    assert small.peak_bytes < meter.end("large", _touching(meter, 200)).peak_bytes - 100 * MB


def _touching(meter: Probe, megabytes: int) -> probe.ProbeStart:
    start = meter.begin()
    touch(megabytes)
    time.sleep(2 * probe.READ_AFTER_S)  # long enough to be reader at
    return start


def test_what_a_task_keeps_is_its_growth() -> None:
    meter = Probe(private=True)
    start = meter.begin()
    kept = np.ones(80 * MB, dtype=np.uint8)
    found = meter.end("growth", start)
    assert 70 * MB < found.growth_bytes < 120 * MB
    assert kept[-1]


def test_what_the_process_held_before_does_not_count() -> None:
    held = memory_reader(private=True).read().current_bytes
    meter = Probe(private=True, base_bytes=held)
    start = meter.begin()
    time.sleep(2 * probe.READ_AFTER_S)
    assert meter.end("nothing", start).peak_bytes < held / 2


class CountingReader:
    """Counts how often it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> MemoryUsage:
        self.reads += 1
        return MemoryUsage(1, 2)

    def reset_peak(self) -> None:
        """Do nothing."""


def test_memory_is_not_read_after_each_short_task(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = CountingReader()
    monkeypatch.setattr(probe, "memory_reader", lambda *, private: reader)  # noqa: ARG005
    monkeypatch.setattr(probe, "READ_AFTER_S", 1e9)
    monkeypatch.setattr(probe, "READ_EVERY_S", 1e9)
    meter = Probe(private=True)
    for _ in range(100):
        meter.end("short", meter.begin())
    assert reader.reads == 1
    monkeypatch.setattr(probe, "READ_AFTER_S", 0.0)
    assert meter.end("long", meter.begin()).peak_bytes == 2
    assert reader.reads == 2


def test_memory_that_cannot_be_read_fails_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    class FailingReader(CountingReader):
        def __init__(self, *, private: bool) -> None:  # noqa: ARG002 - as it is called
            super().__init__()

        def reset_peak(self) -> None:
            if self.reads > 1:
                raise OSError(24, "Too many open files")

    monkeypatch.setattr(probe, "memory_reader", FailingReader)
    meter = Probe(private=True)
    start = meter.begin()
    time.sleep(2 * probe.READ_AFTER_S)
    assert meter.end("blind", start).peak_bytes == 1


def test_sizes_of_arguments_and_results_are_those_of_the_caller() -> None:
    meter = Probe(private=True)
    found = meter.end("bytes", meter.begin(), 10, 20)
    assert (found.bytes_in, found.bytes_out) == (10, 20)


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
start = probe.begin()
os.closerange(3, 100)
own = [os.open(f"{sys.argv[1]}/own-{n}", os.O_RDWR | os.O_CREAT) for n in range(40)]
for each in own:
    os.write(each, b"mine")
time.sleep(2 * READ_AFTER_S)
measure = probe.end("closing", start)
assert measure.peak_bytes > 1_000_000, measure
os.write(1, b"measured\\n")
"""
