"""The command line of CARS, run on Batuta."""

import importlib
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final

from batuta.compat.cars.hook import install_everywhere

CARS_VERSION: Final = "1.3.0"
"""The version whose orchestrator is replaced."""


def main() -> None:
    """Run the installed CARS with the arguments of this command."""
    if find_spec("cars") is None:
        sys.exit(f"CARS is not installed: pip install cars=={CARS_VERSION}, in this environment")
    if (installed := _installed_version()) != CARS_VERSION:
        warnings.warn(
            f"this adapter supports CARS {CARS_VERSION}, and is not tested with {installed}",
            stacklevel=1,
        )
    install_everywhere()
    sys.argv[0] = "cars"
    importlib.import_module("cars.cars").main()


def _installed_version() -> str:
    try:
        return version("cars")
    except PackageNotFoundError:
        return "a CARS without package metadata"


if __name__ == "__main__":
    main()
