"""The checkout that the tests are in, for programs that they start."""

import os
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

PYTHON_PATH: Final = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
"""Lets a program import Batuta and the tests of this checkout, whatever is installed."""
