"""A process that cancels batch jobs when the process that submitted them ends, however it ends.

It reads batch jobs and folders from its standard input. When the input or its parent ends, so has
its owner. It is run by its path and imports only the standard library: it starts in milliseconds,
and does not depend on an environment that may be what made its owner fail.

    python reaper_main.py OWNER CANCEL... then CANCEL-BY-NAME... < "job ID" and "folder PATH" lines
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

SEPARATOR = "then"
"""Argument between the two commands."""
RETRY_DELAYS_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0)
"""Delays before each attempt to cancel."""
SUBMISSION_S = 2.0
"""How long a submission may take to complete after the process that started it was killed."""
MAX_JOBS_PER_COMMAND = 100
_COMMAND_TIMEOUT_S = 60.0
_PARENT_CHECK_S = 2.0
_STDIN = 0


def main(arguments: Sequence[str]) -> int:
    """Wait for the owner to end, then cancel its batch jobs and remove its folders."""
    # The owner decides what Ctrl-C and a lost terminal mean; this process must outlive both.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    owner, *commands = arguments
    separator = commands.index(SEPARATOR)
    cancel, cancel_by_name = commands[:separator], commands[separator + 1 :]
    job_ids: dict[str, None] = {}
    folders: list[str] = []
    closed = False
    for line in _read_lines(int(owner)):
        kind, _, name = line.partition(" ")
        if kind == "job":
            job_ids[name] = None
        elif kind == "ended":
            job_ids.pop(name, None)
        elif kind == "folder":
            folders.append(name)
        elif kind == "close":
            closed = True
            break
    problem = cancel_jobs(cancel, list(job_ids))
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if cancel_by_name:
        # An owner that was killed may have left an sbatch behind whose job has no id yet, so that
        # only its name can cancel it. One that closes in order has waited for its submissions.
        time.sleep(0.0 if closed else SUBMISSION_S)
        problem = problem or _run(cancel_by_name)
    if closed:  # otherwise nobody is left to read it
        sys.stderr.write(problem)
    return 1 if problem else 0


def _read_lines(owner: int) -> Iterator[str]:
    """Yield the lines of the input until it ends or the owner does.

    End of file alone does not do: a process that the owner forked inherits the other end of the
    pipe, and may hold it open for longer than the owner lives. But when the owner ends, this
    process gets another parent.
    """
    incomplete = b""
    while True:
        if not select.select([_STDIN], [], [], _PARENT_CHECK_S)[0]:
            if os.getppid() != owner:
                return
            continue
        chunk = os.read(_STDIN, 65536)
        if not chunk:
            return
        *complete, incomplete = (incomplete + chunk).split(b"\n")
        yield from (line.decode() for line in complete)


def cancel_jobs(command: Sequence[str], job_ids: list[str]) -> str:
    """Cancel batch jobs; return which may remain and why, or an empty string."""
    problem = ""
    for delay_s in RETRY_DELAYS_S:
        if not job_ids:
            return ""
        time.sleep(delay_s)
        remaining: list[str] = []
        for begin in range(0, len(job_ids), MAX_JOBS_PER_COMMAND):
            chunk = job_ids[begin : begin + MAX_JOBS_PER_COMMAND]
            error = _run([*command, *chunk])
            if error:
                problem = error
                remaining += chunk
        job_ids = remaining
    if not job_ids:
        return ""
    return f"batch jobs {' '.join(job_ids)} could not be cancelled: {problem}\n"


def _run(command: Sequence[str]) -> str:
    """Run a command that cancels; return its error, unless the batch jobs had ended already."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_COMMAND_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    errors = [line for line in done.stderr.splitlines() if line.strip() and not _has_ended(line)]
    return " ".join(errors) if done.returncode else ""


def _has_ended(line: str) -> bool:
    reasons = ("invalid job id", "already completed", "unknown job", "has finished", "completing")
    return any(each in line.lower() for each in reasons)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
