"""Imports by reference into an sdb that kills itself at a point of them; run as a program.

A point is each call of the system that may change a file, and before and after each commit, in any
thread: they are counted while the import is under way, so that new ones are found by themselves.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Self

import httpx

from batuta.sdb import SdbSettings
from batuta.sdb.service import open_sdb

HARMLESS: Final = frozenset(
    {
        "_path_normpath",
        "close",
        "fspath",
        "fstat",
        "getcwd",
        "getpid",
        "kill",
        "listdir",
        "lseek",
        "lstat",
        "pread",
        "preadv",
        "putenv",
        "read",
        "scandir",
        "stat",
        "urandom",
    }
)
"""Functions of the module of the system that change no file."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an import ended.

    `status` and `stored` are its answer, None if it was killed at its point, which is then the
    last of `points`.
    """

    points: int
    at: str | None = None
    status: int | None = None
    stored: Mapping[str, Any] | None = None


class KilledImports:
    """A process that forks one for each import.

    Parameters
    ----------
    settings : SdbSettings
        Those of the sdb.
    """

    def __init__(self, settings: SdbSettings) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, settings.model_dump_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, said: Mapping[str, Any], kill_at: int = 0) -> Ended:
        """Import by reference what is said, and kill at a point; 0 for at none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"said": said, "kill_at": kill_at}) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


class _Points:
    """Counts points, and kills this process at one."""

    def __init__(self, kill_at: int, told: int) -> None:
        self._kill_at = kill_at
        self._told = told
        self._lock = threading.Lock()
        self.count = 0
        self.armed = False
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, called: Any) -> None:
        if not self.armed:
            return
        if event == "c_call" and called.__module__ == "posix" and called.__name__ not in HARMLESS:
            self._pass(called.__name__)
        elif event in {"call", "return"} and frame.f_code.co_name == "do_commit":
            self._pass("before a commit" if event == "call" else "after a commit")

    def _pass(self, at: str) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._kill_at:
                _tell(self._told, Ended(self.count, at))
                os.kill(os.getpid(), signal.SIGKILL)


def _tell(told: int, ended: Ended) -> None:
    os.write(told, json.dumps({name: getattr(ended, name) for name in Ended.__slots__}).encode())


async def _import(
    settings: SdbSettings, said: Mapping[str, Any], points: _Points, told: int
) -> None:
    async with open_sdb(settings, "http://sdb") as sdb:
        transport = httpx.ASGITransport(sdb.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            points.armed = True
            answer = await client.post("/products/reference", json=dict(said))
            points.armed = False
            _tell(told, Ended(points.count, None, answer.status_code, answer.json()))
            os._exit(0)  # as if it was killed, too: what was answered is there


def _in_a_fork(settings: SdbSettings, order: Mapping[str, Any]) -> str:
    read, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        points = _Points(order["kill_at"], told)
        asyncio.run(_import(settings, order["said"], points, told))
    os.close(told)
    with os.fdopen(read, encoding="utf-8") as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    expected = -signal.SIGKILL if json.loads(text)["status"] is None else 0
    assert os.waitstatus_to_exitcode(status) == expected
    return text


def main() -> None:
    """Import what each line of the standard input says."""
    settings = SdbSettings.model_validate_json(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(_in_a_fork(settings, json.loads(line)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
