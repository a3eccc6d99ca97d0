"""Running what is measured: subjects, each in a process of its own, in turns.

What is compared runs turn by turn, so that a machine that slows down slows both sides; the best
of several turns counts, which is what the machine can do when nothing else uses it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
ORCHESTRATOR: Final = "benchmarks.orchestrator"
ORCHESTRA: Final = "benchmarks.orchestra"
FOLDER: Final = "{folder}"
"""Placeholder, in the arguments of a subject, for a temporary folder of its own."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A benchmark run as a program: it measures itself, and prints JSON on its last line.

    Parameters
    ----------
    module : str
        A benchmark of `package`, run with ``python -m``.
    arguments : sequence of str
        Its command line: what to measure, on which side.
    python : path
        The interpreter that runs it.
    turns : int, optional
        How often it runs at most; None is as often as `take_turns` is asked for.
    package : str
        Where `module` is.
    """

    module: str
    arguments: Sequence[str] = ()
    python: Path = field(default=Path(sys.executable))
    turns: int | None = None
    package: str = ORCHESTRATOR

    def run(self) -> Result:
        """Run it once.

        Raises
        ------
        RuntimeError
            With what it wrote, if it failed.
        """
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            arguments = [folder if each == FOLDER else each for each in self.arguments]
            command = [str(self.python), "-m", f"{self.package}.{self.module}", *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        return result


def _environment() -> dict[str, str]:
    """Return the environment of subjects: like an installed library, Batuta is compiled once."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def take_turns(subjects: Mapping[str, Subject], turns: int) -> dict[str, list[Result]]:
    """Run each subject `turns` times, one after the other; return their results by name."""
    results: dict[str, list[Result]] = {name: [] for name in subjects}
    for turn in range(turns):
        for name, subject in subjects.items():
            if subject.turns is None or turn < subject.turns:
                print(f"  {name} ({turn + 1})", file=sys.stderr, flush=True)
                results[name].append(subject.run())
    return results


def best(results: Sequence[Result], key: str = "time_s") -> float:
    """Return the smallest value of `key`."""
    return min(float(result[key]) for result in results)


def print_result(**result: Any) -> None:
    """Print the result of a subject, for `Subject.run` to read."""
    print(json.dumps(result), flush=True)
