"""The first pipeline of the README runs in a real orchestra, by `batuta up`."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

import examples
from batuta.sdb import SdbClient
from tests.support.orchestras import CommandProcess
from tests.support.waiting import eventually_sync

HELLO = Path(examples.__file__).parent / "hello"
START_S = 120.0
"""Five services and a fork server, beside other tests, on two cores."""

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class RunningOrchestra:
    """An orchestra that `batuta up` runs, and its addresses."""

    folder: Path
    addresses: dict[str, str]

    def batuta(self, *arguments: str) -> Any:
        """Run a command that prints JSON against it, and return what it printed."""
        return json.loads(self.run(*arguments, "--json"))

    def run(self, *arguments: str) -> str:
        """Run a command against it, and return what it printed."""
        return subprocess.run(
            [sys.executable, "-m", "batuta", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "BATUTA_SDB_URL": self.addresses["sdb"],
                "BATUTA_CONDUCTOR_URL": self.addresses["conductor"],
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    def bring(self, obs_id: str, file: str) -> None:
        """Import readings."""
        self.batuta("import", "--product", "READINGS", "--obs-id", obs_id, file)

    def stored(self, obs_id: str) -> list[tuple[str, int]]:
        """Products, and their versions, that the sdb holds of an observation."""
        return [
            (each["product"], each["version"]) for each in self.batuta("ls", "--obs-id", obs_id)
        ]

    def wait_for_products(self, obs_id: str, count: int) -> None:
        """Wait until the sdb holds so many, without a command for each look."""
        with SdbClient(self.addresses["sdb"]) as sdb:
            eventually_sync(lambda: len(list(sdb.list(obs_id=obs_id))) == count, 30)

    def wait_for_failure(self, obs_id: str) -> None:
        """Wait until a processing of an observation has failed for good."""
        url = f"{self.addresses['conductor']}/processings"

        def failed() -> bool:
            found = httpx.get(url, params={"obs_id": obs_id, "state": "failed"})
            return bool(found.raise_for_status().json()["items"])

        eventually_sync(failed, 30)


@pytest.fixture(scope="module")
def orchestra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningOrchestra]:
    """Run a copy of the example; where its ports are taken, it takes others."""
    folder = tmp_path_factory.mktemp("hello") / "hello"
    shutil.copytree(HELLO, folder, ignore=shutil.ignore_patterns("batuta-data", "__pycache__"))
    with playing(folder) as found:
        yield found


@contextmanager
def playing(folder: Path) -> Iterator[RunningOrchestra]:
    """Type `batuta up` in `folder`, then Ctrl-C."""
    process = CommandProcess(["up"], folder)
    try:
        process.wait_for_line("hello_pipeline  ", START_S)
        lines = [line.split() for line in list(process.lines)]
        yield RunningOrchestra(folder, {line[0]: line[1] for line in lines if len(line) == 2})
    finally:
        process.close()


def test_an_import_has_both_products_made_from_it_once(orchestra: RunningOrchestra) -> None:
    orchestra.bring("run-1", "readings.csv")

    orchestra.wait_for_products("run-1", 3)

    assert orchestra.stored("run-1") == [("READINGS", 1), ("STATISTICS", 1), ("OUTLIERS", 1)]
    why = orchestra.batuta("why", "OUTLIERS", "run-1")
    assert why["processings"][0]["inputs"] == {"READINGS": 1, "STATISTICS": 1}


def test_the_reading_that_stands_out_is_found(orchestra: RunningOrchestra) -> None:
    orchestra.bring("run-2", "readings.csv")
    orchestra.wait_for_products("run-2", 3)

    orchestra.batuta("export", "OUTLIERS", "run-2", "-o", "outliers.csv")

    assert (orchestra.folder / "outliers.csv").read_text() == "time_s,value\n111600,35.2\n"


def test_readings_without_values_fail_with_the_reason_and_its_log(
    orchestra: RunningOrchestra,
) -> None:
    (orchestra.folder / "bad.csv").write_text("time_s,temperature\n0,20.1\n")
    orchestra.bring("run-3", "bad.csv")

    orchestra.wait_for_failure("run-3")
    processings = orchestra.batuta("why", "STATISTICS", "run-3")["processings"]
    [processing] = [each for each in processings if each["state"] == "failed"]
    log = orchestra.run("log", "STATISTICS", "run-3", "--follow", "--tail=200")

    assert processing["error"].startswith("KeyError: 'value'")
    assert processing["attempt"] == 2
    assert "pipeline.py" in log
    assert "KeyError: 'value'" in log
    assert orchestra.stored("run-3") == [("READINGS", 1)]
