"""A process that cancels batch jobs when the one that submitted them ends, however it ends.

It hears on its standard input of each job and folder. When the input ends, or its parent, its
owner has ended. It is run by its path, and imports the standard library alone.

    python guard.py OWNER CANCEL... then CANCEL-NAMED... < "job ID" and "folder PATH" lines
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

THEN = "then"
"""Stands between the two commands."""
TRIES_EVERY_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0)
IN_FLIGHT_S = 2.0
"""How long a submission may still take whose process was killed."""
AT_ONCE = 100
"""Jobs that one command cancels."""
_LOOK_S = 2.0
_INPUT = 0


def main(arguments: Sequence[str]) -> int:
    """Wait for the end of the owner, then cancel and remove what it named."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owner, *commands = arguments
    separator = commands.index(THEN)
    cancel, cancel_named = commands[:separator], commands[separator + 1 :]
    jobs: dict[str, None] = {}
    folders: list[str] = []
    closed = False
    for line in _told(int(owner)):
        kind, _, name = line.partition(" ")
        if kind == "job":
            jobs[name] = None
        elif kind == "ended":
            jobs.pop(name, None)
        elif kind == "folder":
            folders.append(name)
        elif kind == "close":
            closed = True
            break
    problem = _cancel(cancel, list(jobs))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if cancel_named:
        time.sleep(0.0 if closed else IN_FLIGHT_S)
        problem = problem or _run(cancel_named)
    if closed:  # else nobody reads it
        sys.stderr.write(problem)
    return 1 if problem else 0


def _told(owner: int) -> Iterator[str]:
    """Return each line of the input, until it ends or its owner does.

    A process that the owner forked may hold the input open for longer than the owner lives.
    """
    begun = b""
    while True:
        if not select.select([_INPUT], [], [], _LOOK_S)[0]:
            if os.getppid() != owner:
                return
            continue
        some = os.read(_INPUT, 65536)
        if not some:
            return
        *whole, begun = (begun + some).split(b"\n")
        yield from (line.decode() for line in whole)


def _cancel(command: Sequence[str], jobs: list[str]) -> str:
    """Cancel jobs; say which may be left, and why."""
    problem = ""
    for wait_s in TRIES_EVERY_S:
        if not jobs:
            return ""
        time.sleep(wait_s)
        left: list[str] = []
        for begin in range(0, len(jobs), AT_ONCE):
            some = jobs[begin : begin + AT_ONCE]
            said = _run([*command, *some])
            if said:
                problem = said
                left += some
        jobs = left
    return f"jobs {' '.join(jobs)} may be left in the queue: {problem}\n" if jobs else ""


def _run(command: Sequence[str]) -> str:
    """Run a command that cancels; a job that has ended is no problem."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    said = [line for line in done.stderr.splitlines() if line.strip() and not _is_over(line)]
    return " ".join(said) if done.returncode else ""


def _is_over(line: str) -> bool:
    ended = ("invalid job id", "already completed", "unknown job", "has finished", "completing")
    return any(each in line.lower() for each in ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
