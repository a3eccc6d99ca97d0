"""Messages say what to do, in the words of those who read them."""

import errno
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from batuta.cli.app import run
from batuta.cli.commands.watching import _print_attention
from batuta.errors import ConfigurationError, describe_error, one_line
from batuta.sdb.settings import SdbSettings
from batuta.sdb.store import open_store
from tests.support.servers import free_port


def unreachable() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    "command",
    [
        lambda: ["ls", "--sdb-url", f"http://{unreachable()}"],
        lambda: ["status", "--conductor-url", f"http://{unreachable()}"],
        lambda: ["why", "A", "o1", "--conductor-url", f"http://{unreachable()}"],
        lambda: ["make", "A", "o1", "--conductor-url", f"http://{unreachable()}"],
    ],
    ids=["sdb", "status", "why", "make"],
)
def test_a_service_that_does_not_run_is_asked_about_and_how_another_address_is_given(
    command: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batuta.cli.commands.products.RETRY_FOR_S", 0.1)
    assert run(command()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached: Connection refused" in line
    asked, given = line.split(': is "batuta up" running? ')
    service = asked.split()[1]
    options = f"--{service}-url, BATUTA_{service.upper()}_URL"
    assert given == f"(at another address: {options})"


def test_a_store_that_cannot_be_opened_is_told_without_a_number(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ConfigurationError, match="--store-url") as raised:
        open_store(SdbSettings(store_url=str(file / "products")))
    assert "Not a directory" in str(raised.value)
    assert "Errno" not in str(raised.value)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_status_has_the_cause_and_the_id_of_a_failure_in_lines_of_their_own(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=StringIO(), width=width)
    monkeypatch.setattr("batuta.cli.commands.watching.console", console)
    monkeypatch.delenv("COLUMNS", raising=False)
    failed = {
        "obs_id": "middlebury-1",
        "product": "DISPARITY_ERROR",
        "provider": "stereo_pipeline",
        "state": "failed",
        "attempt": 3,
        "error": "KeyError: [value] (stereo.py:113 in disparity_error), which is a long cause",
        "id": "9c6b0b88-2b42-4035-97f2-48bfac5ddce8",
    }
    _print_attention([failed], 1)
    assert isinstance(console.file, StringIO)
    assert console.file.getvalue().splitlines() == [
        " middlebury-1 DISPARITY_ERROR failed, attempt 3 by stereo_pipeline",
        f"   {failed['id']}",
        f"   {failed['error']}",
    ]


def test_no_message_has_the_number_of_an_error_of_the_system() -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), "readings.csv")
    assert one_line(error) == "No such file or directory: 'readings.csv'"
    assert describe_error(error) == "FileNotFoundError: No such file or directory: 'readings.csv'"
