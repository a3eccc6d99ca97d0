"""A foreign program ends with the process that guards it, however that ends."""

import signal
import subprocess
import sys

import psutil
import pytest

from tests.support.waiting import eventually_sync

GUARD = [sys.executable, "-m", "batuta.service.lifeline_main"]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux kills it")
def test_a_program_whose_guard_is_killed_is_killed_too() -> None:
    with subprocess.Popen([*GUARD, "sleep", "600"]) as guard:
        watched = psutil.Process(guard.pid)
        eventually_sync(lambda: "sleep" in names_of(watched.children()), 30)
        (program,) = watched.children()
        guard.send_signal(signal.SIGKILL)
        guard.wait()
        assert psutil.wait_procs([program], timeout=30)[1] == []


def names_of(processes: list[psutil.Process]) -> set[str]:
    return {each.name() for each in processes}
