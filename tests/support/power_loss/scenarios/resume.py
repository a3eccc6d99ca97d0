"""A run that resumes: tiles that its journal holds are right, and what it has finished is there."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rasterio.errors import NotGeoreferencedWarning

from tests.orchestrator.resumable_program import OUTPUTS, run_program
from tests.orchestrator.resume_runs import Contents, contents, manifest
from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.scenarios.surroundings import Surroundings

CONF: Final[dict[str, Any]] = {"mode": "sequential", "resume": True}
COMPLETE: Final = b"the run is complete"
_PROGRAM: Final = (
    "import sys; from pathlib import Path;"
    " from tests.orchestrator.resumable_program import run_program;"
    " run_program(Path(sys.argv[1]), {config}, {how});"
    " print({complete!r}, flush=True)"
)


@contextmanager
def resume(around: Surroundings) -> Iterator[Recorded]:
    """A run that is killed half-way, and another that resumes it to its end."""
    whole = around.folder / "whole"
    whole.mkdir()
    _run(whole, {"mode": "sequential"})
    recorder, before = around.record()
    out_dir = recorder.root / "new/out"
    for how in ("kill_after=30", ""):
        _run_apart(out_dir, recorder.environment, how)
    yield Recorded(recorder, before, _Promises(contents(whole)))


class _Promises:
    def __init__(self, whole: Contents) -> None:
        self._whole = whole

    def check(self, left: Path, said: Said) -> None:
        """Assert that what is said to be complete is there, and that a resumed run completes it."""
        out_dir = left / "new/out"
        if any(COMPLETE in each for each in said):
            assert contents(out_dir) == self._whole, "the run had ended, and files are not there"
            assert manifest(out_dir, "plain.tif")["complete"]
        _run(out_dir, CONF)
        found = contents(out_dir)
        wrong = [name for name in OUTPUTS if found[name] != self._whole[name]]
        assert not wrong, f"resumed, the run makes others: {', '.join(wrong)}"

    def recover(self, left: Path, _said: Said, environment: Mapping[str, str]) -> "_Promises":
        """Resume it."""
        _run_apart(left / "new/out", environment)
        return self

    def check_restart(self, left: Path, _said: Said) -> None:
        """Assert that without resume all is made as well."""
        out_dir = left / "new/out"
        _run(out_dir, {"mode": "sequential"})
        assert contents(out_dir) == self._whole


def _run_apart(out_dir: Path, environment: Mapping[str, str], how: str = "") -> None:
    """Run it in a process of its own, to its end unless it is killed."""
    program = _PROGRAM.format(config=CONF, how=how, complete=COMPLETE.decode())
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(out_dir)],
        env={**os.environ, **environment},
        check=not how,
        stdout=subprocess.PIPE,
    )


def _run(out_dir: Path, conf: Mapping[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        run_program(out_dir, dict(conf))
