"""The command of CARS, on Batuta."""

import importlib
import sys
from importlib.util import find_spec

from batuta.cluster import preload
from batuta.compat.cars.hook import install


def main() -> None:
    """Run the installed CARS with the arguments of this command."""
    if find_spec("cars") is None:
        sys.exit("CARS is not installed: pip install cars==1.3.0, in this environment")
    install()
    preload.add_module("batuta.compat.cars.worker")
    sys.argv[0] = "cars"
    importlib.import_module("cars.cars").main()


if __name__ == "__main__":
    main()
