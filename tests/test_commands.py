"""Commands that are run to their end, in a given time."""

import asyncio
import sys
from functools import partial
from pathlib import Path

import psutil
import pytest

from batuta.commands import CommandEnd, run_command
from tests.support.waiting import eventually


async def test_how_a_command_has_ended_and_what_it_printed_are_returned() -> None:
    code = "import sys; sys.stdout.buffer.write(b'a\\xff'); sys.stderr.write('b'); sys.exit(3)"
    done = await run_command([sys.executable, "-c", code], 60)
    assert done == CommandEnd(3, "a\N{REPLACEMENT CHARACTER}", "b")


async def test_a_command_that_cannot_be_started_is_told() -> None:
    with pytest.raises(FileNotFoundError):
        await run_command(["/nonexistent/squeue"], 60)


async def test_what_a_command_leaves_in_a_session_of_its_own_is_not_waited_for(
    tmp_path: Path,
) -> None:
    left = f"setsid sleep 1000 & echo $! > {tmp_path}/child; echo done"
    done = await asyncio.wait_for(run_command(["sh", "-c", left], 60), 30)
    assert done == CommandEnd(0, "done\n", "")
    psutil.Process(int((tmp_path / "child").read_text())).kill()


async def test_of_a_command_that_takes_too_long_all_that_it_started_is_killed(
    tmp_path: Path,
) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run_command(wrapper(tmp_path), 3), 60)
    await eventually(partial(has_ended, tmp_path))


async def test_of_a_command_that_is_waited_for_no_longer_all_that_it_started_is_killed(
    tmp_path: Path,
) -> None:
    begun = asyncio.create_task(run_command(wrapper(tmp_path), 600))
    await eventually(partial(has_begun, tmp_path))
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(begun, 60)
    await eventually(partial(has_ended, tmp_path))


def wrapper(folder: Path) -> list[str]:
    """Return a command that starts another one, which holds its output open."""
    return ["sh", "-c", f"sleep 1000 & echo $! > {folder}/child; wait"]


async def has_begun(folder: Path) -> bool:
    """Return whether the wrapper has started the other one."""
    written = folder / "child"
    return written.exists() and written.read_text().endswith("\n")


async def has_ended(folder: Path) -> bool:
    """Return whether what the wrapper has started runs no more."""
    pid = int((folder / "child").read_text())
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
