"""A pipeline service in a process of its own, for tests."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil

from batuta.pipeline import PipelineSettings
from tests.support.waiting import eventually_sync

Record = dict[str, Any]

_PROGRAM = (
    "import sys; from batuta.pipeline import PipelineSettings, load, run; "
    "run(PipelineSettings.model_validate_json(sys.argv[1]), load(sys.argv[2]), sys.argv[2])"
)


class PipelineProcess:
    """A service that a test can call, kill and restart.

    Parameters
    ----------
    reference : str
        The pipeline, as `load` takes it.
    settings : PipelineSettings
        Its settings.
    stage : Path
        A folder through which the test and functions of `scripted` meet.
    folder : Path, optional
        Where it runs, and where modules are looked for first.
    environment : mapping, optional
        Variables besides those of this process.
    program : sequence of str
        What the interpreter runs, with the settings and the reference.
    """

    def __init__(
        self,
        reference: str,
        settings: PipelineSettings,
        stage: Path,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = ("-c", _PROGRAM),
    ) -> None:
        self.settings = settings
        self._folder = folder
        self.stage = stage
        self._environment = {
            **os.environ,
            **(environment or {}),
            "BATUTA_TEST_STAGE": str(stage),
        }
        self._command = [sys.executable, *program, settings.model_dump_json(), reference]
        self._process: subprocess.Popen[str] | None = None
        self.http = httpx.Client(timeout=30)
        self.pid = 0

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=self._folder,
        )
        self.pid = self._process.pid
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert " listening on " in line, f"the service did not start: {line!r}"
        self.http.base_url = line.split()[-1] + self.settings.root_path

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._end()

    def stop(self) -> int:
        """Ask it to stop, and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._end()

    def _end(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.stdout.close()
        code = self._process.wait()
        self._process = None
        return code

    def post(self, product: str, obs_id: str = "sb1", **more: object) -> Record:
        """Ask for a product and return the record."""
        body = {"product": product, "obs_id": obs_id, **more}
        response = self.http.post("/processing", json=body)
        assert response.is_success, response.text
        return dict(response.json())

    def get(self, record: Record) -> Record:
        response = self.http.get(f"/processing/{record['id']}")
        assert response.is_success, response.text
        return dict(response.json())

    def end_of(self, record: Record) -> Record:
        """Wait until a processing has ended and return its record."""

        def ended() -> Record | None:
            now = self.get(record)
            return now if now["ended"] else None

        found = eventually_sync(ended, timeout_s=60)
        assert found is not None
        return found

    def make(self, product: str, obs_id: str = "sb1", **more: object) -> Record:
        """Ask for a product and wait until it is made, or failed."""
        return self.end_of(self.post(product, obs_id, **more))

    def records(self, **filters: str) -> list[Record]:
        """Return the newest records."""
        response = self.http.get("/processing", params=filters)
        assert response.is_success, response.text
        return [dict(record) for record in response.json()["items"]]

    def cancel_all(self) -> None:
        """Cancel what has not ended."""
        for state in ("queued", "running"):
            for record in self.records(state=state):
                self.http.delete(f"/processing/{record['id']}").raise_for_status()

    def log(self, record: Record) -> str:
        response = self.http.get(f"/processing/{record['id']}/log")
        assert response.is_success, response.text
        return response.text


def read(path: Path) -> str:
    """Return the content of a file once a function has written it."""
    eventually_sync(path.exists, timeout_s=60)
    return path.read_text()


def alive(pids: str) -> list[int]:
    """Return those of `pids` that are running."""
    return [pid for pid in map(int, pids.split()) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
