"""The local Slurm of the project starts once, reports what is wrong, and leaves nothing."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.slurm import running_slurm, skip_without_slurm
from tests.support.waiting import eventually_sync
from tools.slurm import LocalSlurm, SlurmError, local, missing_programs
from tools.slurm.shape import Layout

ROOT = Path(__file__).parents[2]
IGNORES_SIGTERM = "trap '' TERM; setsid env -i sleep 600 & while :; do sleep 1; done"

needs_slurm = pytest.mark.usefixtures("shared_slurm")


@needs_slurm
def test_stopping_it_kills_even_batch_jobs_that_ignore_sigterm() -> None:
    with running_slurm() as slurm:
        number = slurm.queue.submit(IGNORES_SIGTERM, "--output=/dev/null")
        slurm.queue.wait_for_state(number, "RUNNING")
        slurm.queue.wait_until(lambda: _runs(slurm, "sleep 600"), "the job's own processes")
        assert {"munged", "slurmctld", "slurmd"} <= _programs(slurm)
    assert slurm.processes() == []
    assert not slurm.folder.exists()


@needs_slurm
def test_it_stops_when_a_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), running_slurm() as slurm:
        raise ZeroDivisionError
    assert slurm.processes() == []


@needs_slurm
@pytest.mark.usefixtures("_no_other_tests")
def test_a_slurm_that_killed_tests_left_is_stopped_by_the_next() -> None:
    program = (
        "import time; from tests.support.slurm import running_slurm\n"
        "with running_slurm() as slurm: print(slurm.folder, flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout is not None
        abandoned = LocalSlurm(Path(killed.stdout.readline().strip()))
        killed.kill()
    assert abandoned.is_running
    with running_slurm() as slurm:
        assert slurm.is_running
        assert abandoned.processes() == []
        assert not abandoned.folder.exists()


@needs_slurm
def test_a_second_start_reuses_the_running_slurm(folder: Path) -> None:
    started = _command(folder, "start")
    assert started.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
    slurm = LocalSlurm(folder)
    daemons = {process.pid for process in slurm.processes()}
    assert _command(folder, "start").stdout == started.stdout
    assert {process.pid for process in slurm.processes()} == daemons
    assert "normal" in _command(folder, "status").stdout
    assert _command(folder, "stop").returncode == 0
    assert _command(folder, "status").returncode == 1
    assert slurm.processes() == []


@needs_slurm
def test_run_starts_a_cluster_for_a_command_and_returns_its_exit_code(folder: Path) -> None:
    done = _command(
        folder,
        "run",
        "--nodes=3",
        "--",
        "sh",
        "-c",
        "sinfo --noheader --partition=short --format=%D; exit 7",
    )
    assert (done.stdout.split(), done.returncode) == (["3"], 7)
    assert not folder.exists()


@needs_slurm
def test_run_stops_its_cluster_when_it_is_terminated(folder: Path, tmp_path: Path) -> None:
    slurm = LocalSlurm(folder)
    running = subprocess.Popen(
        [*_tool(folder), "run", "--", "sh", "-c", f"touch {tmp_path}/started; exec sleep 600"],
        cwd=ROOT,
    )
    eventually_sync((tmp_path / "started").exists)
    running.terminate()
    assert running.wait() == 128 + signal.SIGTERM
    assert slurm.processes() == []


@needs_slurm
def test_a_failed_start_shows_the_logs_and_leaves_nothing(folder: Path) -> None:
    failed = _command(folder, "start", "--memory-mb=-5")
    assert failed.returncode == 1
    assert "slurmctld: exit code 1: " in failed.stderr
    assert "RealMemory" in failed.stderr
    assert "munged.log:" in failed.stderr
    assert LocalSlurm(folder).processes() == []
    assert not folder.exists()


@needs_slurm
def test_a_folder_open_to_others_is_refused(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    with pytest.raises(SlurmError, match="mode 0700 expected"):
        LocalSlurm(folder).start()


@needs_slurm
@pytest.mark.parametrize("action", ["start", "stop"])
def test_a_folder_that_holds_something_else_is_left_alone(folder: Path, action: str) -> None:
    folder.mkdir(mode=0o700)
    precious = folder / "precious"
    precious.touch()
    refused = _command(folder, action)
    assert refused.returncode == 1
    assert "not empty" in refused.stderr
    assert precious.exists()


@needs_slurm
def test_a_folder_too_long_for_sockets_is_refused(folder: Path) -> None:
    with pytest.raises(SlurmError, match="too long for sockets"):
        LocalSlurm(folder / ("x" * 90)).start()


@pytest.mark.usefixtures("_no_slurm")
def test_without_slurm_it_says_what_to_install(tmp_path: Path) -> None:
    assert "munged" in missing_programs()
    with pytest.raises(SlurmError, match="apt-get install slurm-wlm munge slurm-wlm-torque"):
        LocalSlurm(tmp_path / "own").start()
    assert not (tmp_path / "own").exists()


@pytest.mark.usefixtures("_no_slurm")
def test_tests_are_skipped_without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATUTA_TESTS_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="Slurm is not installed: no munged"):
        skip_without_slurm()


@pytest.mark.usefixtures("_no_slurm")
def test_tests_fail_without_slurm_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATUTA_TESTS_REQUIRE", "other,slurm")
    with pytest.raises(pytest.fail.Exception, match="Slurm is not installed: no munged"):
        skip_without_slurm()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a Slurm; the paths of pytest's own are too long for sockets."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "own"
        yield folder
        if Layout(folder).marker.exists():
            LocalSlurm(folder).stop()


@pytest.fixture
def _no_other_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tests that run at the same time neither see nor stop the Slurm of this one."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture
def _no_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local, "_SYSTEM_PATHS", ())


def _tool(folder: Path) -> list[str]:
    return [sys.executable, "-m", "tools.slurm", f"--folder={folder}"]


def _command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_tool(folder), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def _programs(slurm: LocalSlurm) -> set[str]:
    return {Path(_command_line(process.pid).split(" ")[0]).name for process in slurm.processes()}


def _runs(slurm: LocalSlurm, command: str) -> bool:
    return any(command == _command_line(process.pid) for process in slurm.processes())


def _command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
