"""Imported by each worker, and by the process that workers are forked from, before all else.

CARS is made to import our modules, its heavy ones are imported once, and what its tasks log goes
where the logs of the worker go.
"""

import importlib
import logging
from typing import Final

from batuta.compat.cars.hook import install

HEAVY: Final = "cars.pipelines.pipeline"
"""Imports all the tasks of CARS, through the package that it is in."""


def prepare() -> None:
    """Make this process ready for the tasks of CARS."""
    install()
    importlib.import_module(HEAVY)
    # Forked from the main process, a worker has its handlers too.
    importlib.import_module("cars.core.cars_logging").logger.handlers.clear()
    logging.getLogger("CARS").propagate = True


prepare()
