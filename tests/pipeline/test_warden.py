"""The warden of a run, without a service: what it does where the disk fails it."""

import socket
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from batuta.pipeline.declaration import ProductSpec
from batuta.pipeline.messages import MESSAGE_ADAPTER, Outcome, WorkerExited
from batuta.pipeline.runner import ProcessingRun, ProcessingTask
from batuta.pipeline.warden import run_warden
from tests.pipeline.scripted import copy


def test_a_run_whose_log_cannot_be_written_is_cleaned_up_and_its_end_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    task = ProcessingTask(
        spec=ProductSpec(name="COPY", function=copy),
        run=ProcessingRun(
            id="p1", product="COPY", obs_id="o1", provider="p", key="p1", run_id="p1-1", attempt=1
        ),
        sdb_url="http://127.0.0.1:9",
        token=None,
        work_dir=work_dir,
        log_path=tmp_path / "missing" / "p1.log",
        profiles=tmp_path / "profiles",
    )
    service, theirs = socket.socketpair()
    warden = get_context("fork").Process(target=run_warden, args=(theirs, task))
    warden.start()
    theirs.close()
    with service, service.makefile() as lines:
        messages = [MESSAGE_ADAPTER.validate_json(line) for line in lines]
    warden.join()
    assert warden.exitcode == 0
    (failure,) = (each for each in messages if isinstance(each, Outcome))
    assert failure.error is not None
    assert "No such file or directory" in failure.error
    assert messages[-1] == WorkerExited(exit_code=1)
    assert not work_dir.exists()
    assert "p1.log cannot be written: No such file or directory" in capfd.readouterr().err


def test_a_worker_whose_service_has_died_ends_without_a_word() -> None:
    program = """
import socket
from batuta.pipeline.worker import run_worker

service, of_worker = socket.socketpair()
service.close()
run_worker(of_worker, None)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
