"""Maps of rasters: a GeoTIFF and a Zarr group that are said to be complete are there, and whole."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rasterio.errors import NotGeoreferencedWarning

from tests.support.power_loss.points import Recorded, Said
from tests.support.power_loss.scenarios.map_program import contents, run_map
from tests.support.power_loss.scenarios.surroundings import Surroundings, was_said

PLAIN: Final = "new/plain"
RESUMED: Final = "new/resumed"
_PROGRAM: Final = (
    "import sys; from pathlib import Path;"
    " from tests.support.power_loss.scenarios.map_program import run_map;"
    " run_map(Path(sys.argv[1]), {how});"
    " print(f'complete: {{sys.argv[2]}}', flush=True)"
)


@contextmanager
def maps(around: Surroundings) -> Iterator[Recorded]:
    """A map, one that is killed half-way, and another that resumes it to its end."""
    whole = around.folder / "whole"
    _run(whole, resume=False)
    recorder, before = around.record()
    _run_apart(recorder.root / PLAIN, recorder.environment, "resume=False")
    resumed = recorder.root / RESUMED
    _run_apart(resumed, recorder.environment, "resume=True, kill_after=9", is_killed=True)
    _run_apart(resumed, recorder.environment, "resume=True")
    yield Recorded(recorder, before, _Promises(contents(whole)))


class _Promises:
    def __init__(self, whole: dict[str, bytes]) -> None:
        self._whole = whole

    def check(self, left: Path, said: Said) -> None:
        """Assert that what is said to be complete is there, and that a resumed map completes it."""
        for name in (PLAIN, RESUMED):
            if was_said(f"complete: {Path(name).name}", said):
                self._check_whole(left / name, "the map had ended")
        _run(left / RESUMED, resume=True)
        self._check_whole(left / RESUMED, "resumed")

    def recover(self, left: Path, _said: Said, environment: Mapping[str, str]) -> "_Promises":
        """Resume it, and make the other anew."""
        _run_apart(left / RESUMED, environment, "resume=True")
        _run_apart(left / PLAIN, environment, "resume=False")
        return self

    def check_restart(self, left: Path, _said: Said) -> None:
        """Assert that without resume all is made as well, over whatever is there."""
        for name in (PLAIN, RESUMED):
            _run(left / name, resume=False)
            self._check_whole(left / name, "made anew")

    def _check_whole(self, out_dir: Path, when: str) -> None:
        found = contents(out_dir)
        names = found.keys() | self._whole.keys()
        wrong = sorted(each for each in names if found.get(each) != self._whole.get(each))
        assert not wrong, f"{when}, and these differ in {out_dir.name}: {', '.join(wrong)}"


def _run_apart(
    out_dir: Path, environment: Mapping[str, str], how: str, *, is_killed: bool = False
) -> None:
    """Run it in a process of its own."""
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", _PROGRAM.format(how=how)),
            *(str(out_dir), out_dir.name),
        ],
        env={**os.environ, **environment},
        check=not is_killed,
        stdout=subprocess.PIPE,
    )


def _run(out_dir: Path, *, resume: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        run_map(out_dir, resume=resume)
