"""Messages say what to do, in the words of those who read them."""

import errno
import os
from collections.abc import Callable

import pytest

from batuta.cli.app import run
from batuta.errors import describe_error, one_line
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
def test_a_service_that_does_not_run_is_asked_about(
    command: Callable[[], list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("batuta.cli.products.RETRY_FOR_S", 0.1)
    assert run(command()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached: Connection refused" in line
    assert line.endswith(': is "batuta up" running?')


def test_no_message_has_the_number_of_an_error_of_the_system() -> None:
    error = OSError(errno.ENOENT, os.strerror(errno.ENOENT), "readings.csv")
    assert one_line(error) == "No such file or directory: 'readings.csv'"
    assert describe_error(error) == "FileNotFoundError: No such file or directory: 'readings.csv'"
