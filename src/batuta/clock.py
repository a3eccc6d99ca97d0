"""The time of day: the one place from which services take it where it is not read on the spot."""

import time


def now_s() -> float:
    """Return the time, in seconds since 1970.

    As the default of a parameter it is this and not `time.time`: that would be bound once, when
    the module is imported, and could not be replaced by the clock of a simulation.
    """
    return time.time()
