"""What is made to call tasks, and what is imported for it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.profiling.capture.factory import check_available, make_caller
from batuta.profiling.capture.options import ProfileOptions
from batuta.profiling.capture.profiler import PlainCaller
from batuta.profiling.capture.sink import FolderSink
from tests.profiling.profiled_tasks import (
    WORKER,
    TaskRunner,
    work,
)


@pytest.mark.parametrize("options", [None, ProfileOptions()])
def test_without_a_profiler_tasks_are_called_plainly(
    tmp_path: Path, options: ProfileOptions | None
) -> None:
    runner = TaskRunner(tmp_path, options)
    assert isinstance(runner.caller, PlainCaller)
    assert runner.run(work, 10) == work(10)
    runner.caller.flush()
    assert list(tmp_path.iterdir()) == []


def test_workers_import_no_profiler_that_is_not_asked_for() -> None:
    script = (
        "import sys, batuta.profiling.capture.factory, batuta.profiling.capture.sink\n"
        "heavy = {'cProfile', 'memray', 'pyarrow', 'numpy', 'ctypes'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or None)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert ended.stderr == ""


def test_a_missing_memray_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    memray = ProfileOptions(mode="memray")
    with pytest.raises(ConfigurationError) as caught:
        check_available(memray)
    assert caught.value.problems == (
        "profiling.mode: memray is not installed: pip install 'batuta[profiling]'",
    )
    with pytest.raises(ConfigurationError):
        make_caller(memray, WORKER, FolderSink(tmp_path))
    check_available(ProfileOptions(mode="cprofile"))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="does not run on Windows"):
        check_available(memray)
