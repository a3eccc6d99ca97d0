"""Forwarding of Batuta's logs to those of CARS."""

import logging
from typing import Final

_CARS: Final = logging.getLogger("CARS")


class _ToCars(logging.Handler):
    """Passes records to the logger of CARS, which has its own handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        _CARS.handle(record)


_FORWARDER: Final = _ToCars()


def forward_to_cars() -> None:
    """Forward the logs of Batuta to those of CARS, on the screen and in its files."""
    logging.getLogger("batuta").addHandler(_FORWARDER)
