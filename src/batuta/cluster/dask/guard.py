"""A process that cancels batch jobs when the one that submitted them ends, however it ends.

It hears on its standard input of each job and folder, and that its owner is there: when the input
ends, so has the owner. It is run by its path, and imports the standard library alone.

    python guard.py COMMAND... < "job ID" and "folder PATH" lines
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

TRIES_EVERY_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0)
AT_ONCE = 100
"""Jobs that one command cancels."""


def main(command: Sequence[str], lines: Sequence[str] | None = None) -> int:
    """Wait for the end of the input, then cancel and remove what it named."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    jobs: dict[str, None] = {}
    folders: list[str] = []
    for line in lines if lines is not None else sys.stdin:
        kind, _, name = line.rstrip("\n").partition(" ")
        if kind == "job":
            jobs[name] = None
        elif kind == "ended":
            jobs.pop(name, None)
        elif kind == "folder":
            folders.append(name)
    problem = _cancel(command, list(jobs))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    sys.stderr.write(problem)
    return 1 if problem else 0


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
            problem = _run([*command, *some])
            if problem:
                left += some
        jobs = left
    return f"jobs {' '.join(jobs)} may be left in the queue: {problem}\n" if jobs else ""


def _run(command: Sequence[str]) -> str:
    """Run a command that cancels; a job that has ended is no problem."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    said = [line for line in done.stderr.splitlines() if line.strip() and not _is_over(line)]
    return " ".join(said) if done.returncode else ""


def _is_over(line: str) -> bool:
    ended = ("invalid job id", "already completed", "unknown job", "has finished", "completing")
    return any(each in line.lower() for each in ended)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
