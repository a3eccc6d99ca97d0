"""Imported by each worker, and by the forkserver that workers are forked from, before any other.

It makes CARS import our modules, imports the heavy ones of CARS once, and sends the logs of its
tasks to the log of the worker.
"""

import importlib
import logging
from typing import Final

from batuta.compat.cars.hook import install

HEAVY: Final = "cars.pipelines.pipeline"
"""A module whose package imports all the tasks of CARS."""


def prepare() -> None:
    """Prepare this process for the tasks of CARS."""
    install()
    importlib.import_module(HEAVY)
    # A worker that is forked from the main process inherits its handlers.
    importlib.import_module("cars.core.cars_logging").logger.handlers.clear()
    logging.getLogger("CARS").propagate = True


prepare()
