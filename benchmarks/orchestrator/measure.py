"""Running what is measured: each time in a process of its own, taking turns.

What is compared runs turn by turn, so that a machine that slows down slows both sides; the best
of several turns is kept, which is what the machine can do when nobody disturbs it.
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
FOLDER: Final = "{folder}"
"""Stands, in the arguments of a subject, for an empty folder of its own."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A program that measures itself and prints what it found, in JSON, on its last line.

    Parameters
    ----------
    module : str
        Of this package, run as a script.
    arguments : sequence of str
        Given to it.
    python : path
        What runs it.
    turns : int, optional
        How often it runs; None is as often as asked of `take_turns`.
    """

    module: str
    arguments: Sequence[str] = ()
    python: Path = field(default=Path(sys.executable))
    turns: int | None = None

    def run(self) -> Result:
        """Run it once.

        Raises
        ------
        RuntimeError
            With what it wrote, if it failed.
        """
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            arguments = [folder if each == FOLDER else each for each in self.arguments]
            command = [str(self.python), "-m", f"{__package__}.{self.module}", *arguments]
            done = subprocess.run(
                command, cwd=ROOT, env=_environment(), capture_output=True, text=True, check=False
            )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        return result


def _environment() -> dict[str, str]:
    """Give the environment of subjects: like an installed library, Batuta is compiled once."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}


def take_turns(subjects: Mapping[str, Subject], turns: int) -> dict[str, list[Result]]:
    """Run each subject `turns` times, one after the other; give their results by name."""
    results: dict[str, list[Result]] = {name: [] for name in subjects}
    for turn in range(turns):
        for name, subject in subjects.items():
            if subject.turns is None or turn < subject.turns:
                print(f"  {name} ({turn + 1})", file=sys.stderr, flush=True)
                results[name].append(subject.run())
    return results


def best(results: Sequence[Result], key: str = "time_s") -> float:
    """Give the smallest value of `key`."""
    return min(float(result[key]) for result in results)


def tell(**result: Any) -> None:
    """Print the result of a subject, as `Subject.run` reads it."""
    print(json.dumps(result), flush=True)
