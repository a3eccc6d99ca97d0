"""A process whose family ends with it, and its supervisor."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from batuta import process_family
from batuta.cluster.family_process import FAMILY_PROCESSES
from batuta.process_family import FAMILY_VARIABLE, kill_marked
from tests.cluster.conftest import warm_forkserver
from tests.cluster.functions import start_programs, started_programs
from tests.support.waiting import eventually_sync

__all__ = ["warm_forkserver"]


def _started(
    path: Path, method: str, target: Callable[[str], None] | None = None
) -> tuple[Any, psutil.Process]:
    process = FAMILY_PROCESSES[method](
        target=target or _start_and_hang, args=(str(path),), daemon=True
    )
    process.start()
    marker = path.with_suffix(".started")
    eventually_sync(marker.exists, timeout_s=30)
    return process, psutil.Process(int(marker.read_text()))


def _start_and_hang(path: str) -> None:
    start_programs(path, "return")
    draft = Path(f"{path}.draft")
    draft.write_text(str(os.getpid()))
    draft.rename(Path(path).with_suffix(".started"))
    threading.Event().wait()


def _fork_and_hang(path: str) -> None:
    """Fork a member that leaves the session, closes its files, and whose parent ends."""
    if (child := os.fork()) == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        with Path(path).open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        os.closerange(0, 256)
        signal.pause()
    os.waitpid(child, 0)
    eventually_sync(lambda: Path(path).exists() and bool(Path(path).read_text()))
    _start_and_hang(path)


@pytest.mark.skipif(sys.platform != "linux", reason="forked members are found on Linux alone")
@pytest.mark.parametrize("method", FAMILY_PROCESSES)
def test_the_family_of_a_supervisor_that_is_killed_ends_too(method: str, tmp_path: Path) -> None:
    process, worker = _started(tmp_path / "pids", method, _fork_and_hang)
    assert len(started_programs(tmp_path / "pids")) == 4
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    eventually_sync(lambda: not worker.is_running())
    eventually_sync(lambda: not started_programs(tmp_path / "pids"))


@pytest.mark.parametrize("method", FAMILY_PROCESSES)
@pytest.mark.parametrize(
    ("act", "exit_code"),
    [
        (lambda process, _: process.terminate(), -signal.SIGTERM),
        (lambda process, _: process.kill(), -signal.SIGKILL),
        (lambda _, worker: worker.send_signal(signal.SIGUSR2), -signal.SIGUSR2),
    ],
    ids=["terminated", "killed", "signalled"],
)
def test_a_supervisor_ends_as_what_it_supervises_did_once_its_family_is_gone(
    method: str, act: Callable[[Any, psutil.Process], None], exit_code: int, tmp_path: Path
) -> None:
    process, worker = _started(tmp_path / "pids", method)
    assert len(started_programs(tmp_path / "pids")) == 3
    act(process, worker)
    process.join()
    assert process.exitcode == exit_code
    assert not worker.is_running()
    assert not started_programs(tmp_path / "pids")


def test_a_kill_that_comes_before_the_supervisor_is_ready_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervise = process_family._supervise

    def supervise_late(*arguments: Any) -> None:
        eventually_sync((tmp_path / "killed").exists)
        supervise(*arguments)

    monkeypatch.setattr(process_family, "_supervise", supervise_late)
    process, worker = _started(tmp_path / "pids", "fork")
    process.kill()
    (tmp_path / "killed").touch()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not worker.is_running()
    assert not started_programs(tmp_path / "pids")


def test_signals_of_a_terminal_leave_the_supervisor(tmp_path: Path) -> None:
    process, worker = _started(tmp_path / "pids", "forkserver")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        os.kill(process.pid, number)
    assert process.is_alive()
    worker.send_signal(signal.SIGUSR2)  # not one that `nohup` has all of us ignore
    process.join()
    assert process.exitcode == -signal.SIGUSR2
    assert not started_programs(tmp_path / "pids")


def test_what_is_supervised_ends_with_its_supervisor(tmp_path: Path) -> None:
    process, worker = _started(tmp_path / "pids", "forkserver")
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    eventually_sync(lambda: not worker.is_running())
    for pid in started_programs(tmp_path / "pids"):  # nobody is left who knows of them
        os.kill(pid, signal.SIGKILL)


def test_proc_of_another_pid_namespace_is_named_before_any_task(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from batuta.cluster import check_configuration, create_cluster\n"
        "from batuta.process_family import children_of, end_family\n"
        "if __name__ == '__main__':\n"
        "    assert children_of(1) == []\n"
        "    end_family()\n"
        "    conf = check_configuration({'mode': 'multiprocessing', 'nb_workers': 2})\n"
        f"    create_cluster(conf, Path({str(tmp_path)!r}))\n"
    )
    # Without --mount-proc: /proc stays that of the namespace outside.
    unshared = ["unshare", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*unshared, "true"], check=False, capture_output=True).returncode:
        pytest.skip("a PID namespace cannot be made here")
    found = subprocess.run(
        [*unshared, sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "ClusterError: /proc is that of another PID namespace" in found.stderr


def test_a_process_whose_pid_was_another_s_is_killed_all_the_same() -> None:
    """What psutil keeps of a pid from an earlier search must not protect who has it now."""
    environment = {**os.environ, FAMILY_VARIABLE: "a mark"}
    program = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
    with subprocess.Popen(program, env=environment, stdout=subprocess.PIPE) as member:
        assert member.stdout is not None
        member.stdout.readline()
        for kept in psutil.process_iter():
            if kept.pid == member.pid:
                # As of a process that had this pid before.
                vars(kept).update(_create_time=0.0, _ident=(kept.pid, 0.0))
        try:
            kill_marked("a mark")
        finally:
            ended = member.poll() is not None  # the search has reaped it
            member.kill()
        assert ended
