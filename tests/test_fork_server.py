"""Fork servers of a service, of a program, and copies of a program."""

import pickle
import subprocess
import sys
from operator import truediv
from pathlib import Path
from typing import Any

import pytest

SERVICE = """
from batuta.fork_server import ForkServer
from batuta.pipeline.process_starter import PRELOADED

server = ForkServer([PRELOADED]).server
"""
PROGRAM = """
from multiprocessing import forkserver
from batuta.cluster.local.forkserver import start_forkserver

start_forkserver((), {})
server = forkserver._forkserver
"""
COPY = """
from batuta.cluster.local.program_copy import ProgramCopy

server = ProgramCopy(()).server
"""
ORPHAN = """
import os, sys

status, data = server.connect_to_new_process([])
os.write(data, {sent!r})
os.close(data)
print(len(os.read(status, 8)), len(os.read(status, 8)))
server._stop()
"""


def left_by(server: str, sent: bytes, folder: Path) -> tuple[str, str]:
    """Have a process forked that is sent `sent` and no more; return what the program prints."""
    done = subprocess.run(
        [sys.executable, "-c", server + ORPHAN.format(sent=sent)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize("sent", [b"", b"\x80\x04\x95\xff"], ids=["nothing", "a part"])
@pytest.mark.parametrize("server", [SERVICE, PROGRAM, COPY], ids=["service", "program", "copy"])
def test_a_process_whose_owner_died_before_it_said_what_to_run_ends_without_a_word(
    server: str, sent: bytes, tmp_path: Path
) -> None:
    # It told its process id and how it ended, to nobody.
    assert left_by(server, sent, tmp_path) == ("8 8\n", "")


class Unreadable:
    """Cannot be read where it is sent."""

    def __reduce__(self) -> tuple[Any, ...]:
        return truediv, (1, 0)


@pytest.mark.parametrize("server", [SERVICE, PROGRAM, COPY], ids=["service", "program", "copy"])
def test_another_exception_of_such_a_process_is_shown(server: str, tmp_path: Path) -> None:
    _, errors = left_by(server, pickle.dumps(Unreadable()), tmp_path)
    assert "ZeroDivisionError" in errors
