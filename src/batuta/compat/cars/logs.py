"""What the orchestrator says, said where CARS says things."""

import logging
from typing import Final

_CARS: Final = logging.getLogger("CARS")


class _ToCars(logging.Handler):
    """Hands records to the logger of CARS, which has its own handlers."""

    def emit(self, record: logging.LogRecord) -> None:
        _CARS.handle(record)


_FORWARDER: Final = _ToCars()


def forward_to_cars() -> None:
    """Have the logs of Batuta join those of CARS, on its screen and in its files."""
    logging.getLogger("batuta").addHandler(_FORWARDER)
