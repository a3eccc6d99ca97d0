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
_SIGNAL_EXIT_CODE: Final = 128


def default_folder() -> Path:
    """Return the folder of this user's Slurm, unless an option names another."""
    named = os.environ.get(FOLDER_OPTION)
    return Path(named or Path(tempfile.gettempdir()) / f"batuta-slurm-{getpass.getuser()}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    own, command = _split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(own)
    shape = ClusterShape(options.nodes, options.cpus, options.memory_mb)
    slurm = LocalSlurm(options.folder.resolve(), shape)
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        return _run_action(options.action, slurm, command)
    except SlurmError as exc:
        sys.stderr.write("\n".join([str(exc), *getattr(exc, "__notes__", [])]) + "\n")
        return 1
    except KeyboardInterrupt:
        return _SIGNAL_EXIT_CODE + signal.SIGINT


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separate the options from the command after ``--``."""
    if "--" not in arguments:
        return arguments, []
    separator = arguments.index("--")
    return arguments[:separator], arguments[separator + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.slurm",
        usage="%(prog)s [options] start|stop|status|run [-- COMMAND...]",
        description="A real Slurm on this machine, with the qsub, qstat and qdel of PBS.",
        epilog="start prints what a shell must evaluate to use it; run runs COMMAND on it.",
    )
    parser.add_argument("action", choices=["start", "stop", "status", "run"])
    parser.add_argument(
        "--folder",
        type=Path,
        default=default_folder(),
        help=f"its folder (${FOLDER_OPTION}, %(default)s)",
    )
    default = ClusterShape()
    parser.add_argument("--nodes", type=int, default=default.nodes, help="(%(default)s)")
    parser.add_argument("--cpus", type=int, default=default.cpus, help="of a node (%(default)s)")
    parser.add_argument(
        "--memory-mb", type=int, default=default.memory_mb, help="of a node, in MiB (%(default)s)"
    )
    return parser


def _run_action(action: str, slurm: LocalSlurm, command: list[str]) -> int:
    if action == "start":
        return _start(slurm)
    if action == "stop":
        slurm.stop()
        return 0
    if action == "status":
        return _status(slurm)
    return _run_command(slurm, command)


def _start(slurm: LocalSlurm) -> int:
    slurm.start()
    for name, value in slurm.environment.items():
        sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
    sys.stderr.write(
        f"# Slurm is running: {', '.join(slurm.queue.nodes())}; logs in {slurm.layout.logs}\n"
        "# Evaluate the line above, then use sinfo, sbatch, squeue, qsub, qstat, ...\n"
        "# Stop it, and everything that runs on it: python -m tools.slurm stop\n"
    )
    return 0


def _status(slurm: LocalSlurm) -> int:
    if not slurm.is_running:
        sys.stdout.write(f"no Slurm runs in {slurm.folder}\n")
        return 1
    sys.stdout.write(slurm.queue.run("sinfo") + slurm.queue.run("squeue", "--all"))
    return 0


def _run_command(slurm: LocalSlurm, command: list[str]) -> int:
    """Run a command on the running Slurm, or on one that is started for the command."""
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


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(_SIGNAL_EXIT_CODE + number)


if __name__ == "__main__":
    sys.exit(main())
