"""``python -m tools.slurm start|stop|status|run -- COMMAND...``."""

import argparse
import getpass
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Final

from tools.slurm.errors import SlurmError
from tools.slurm.local import LocalSlurm
from tools.slurm.shape import ClusterShape

FOLDER_OPTION: Final = "BATUTA_SLURM_DIR"
_ENDED_BY_SIGNAL: Final = 128


def default_folder() -> Path:
    """Where the Slurm of this user lives, unless told otherwise."""
    named = os.environ.get(FOLDER_OPTION)
    return Path(named or Path(tempfile.gettempdir()) / f"batuta-slurm-{getpass.getuser()}")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    own, command = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(own)
    shape = ClusterShape(options.nodes, options.cpus, options.memory_mb)
    slurm = LocalSlurm(options.folder.resolve(), shape)
    signal.signal(signal.SIGTERM, _leave)
    try:
        return _do(options.action, slurm, command)
    except SlurmError as exc:
        sys.stderr.write("\n".join([str(exc), *getattr(exc, "__notes__", [])]) + "\n")
        return 1
    except KeyboardInterrupt:
        return _ENDED_BY_SIGNAL + signal.SIGINT


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part our own arguments from the command after ``--``."""
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.slurm",
        usage="%(prog)s [options] start|stop|status|run [-- COMMAND...]",
        description="A real Slurm on this machine, with PBS's qsub, qstat and qdel in front of it.",
        epilog="start prints what a shell must evaluate to use it; run gives COMMAND a Slurm.",
    )
    parser.add_argument("action", choices=["start", "stop", "status", "run"])
    parser.add_argument(
        "--folder",
        type=Path,
        default=default_folder(),
        help=f"where it lives (${FOLDER_OPTION}, %(default)s)",
    )
    default = ClusterShape()
    parser.add_argument("--nodes", type=int, default=default.nodes, help="(%(default)s)")
    parser.add_argument("--cpus", type=int, default=default.cpus, help="of a node (%(default)s)")
    parser.add_argument(
        "--memory-mb", type=int, default=default.memory_mb, help="of a node, in MiB (%(default)s)"
    )
    return parser


def _do(action: str, slurm: LocalSlurm, command: list[str]) -> int:
    if action == "start":
        return _start(slurm)
    if action == "stop":
        slurm.stop()
        return 0
    if action == "status":
        return _status(slurm)
    return _run(slurm, command)


def _start(slurm: LocalSlurm) -> int:
    slurm.start()
    for name, value in slurm.environment.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    sys.stderr.write(
        f"# Slurm runs: {', '.join(slurm.queue.nodes())}; logs in {slurm.layout.logs}\n"
        "# Evaluate the line above, then use sinfo, sbatch, squeue, qsub, qstat, ...\n"
        "# Stop it, and all that runs there: python -m tools.slurm stop\n"
    )
    return 0


def _status(slurm: LocalSlurm) -> int:
    if not slurm.is_running:
        sys.stdout.write(f"no Slurm runs in {slurm.folder}\n")
        return 1
    sys.stdout.write(slurm.queue.run("sinfo") + slurm.queue.run("squeue", "--all"))
    return 0


def _run(slurm: LocalSlurm, command: list[str]) -> int:
    """Run a command on the Slurm that runs, or on one that lasts as long as the command."""
    if not command:
        raise SlurmError("run: a command is expected after --")
    was_running = slurm.is_running
    try:
        slurm.start()
        return subprocess.run(command, env=os.environ | slurm.environment, check=False).returncode
    except FileNotFoundError as exc:
        raise SlurmError(f"run: {exc.filename}: no such command") from exc
    finally:
        if not was_running:
            slurm.stop()


def _leave(number: int, _frame: FrameType | None) -> None:
    sys.exit(_ENDED_BY_SIGNAL + number)


if __name__ == "__main__":
    sys.exit(main())
