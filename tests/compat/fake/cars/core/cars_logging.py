"""A logger that keeps itself apart, made when it is first used."""

import logging
from typing import Any


class _Proxy:
    def __getattr__(self, name: str) -> Any:
        logger = logging.getLogger("CARS")
        if not hasattr(logger, "made"):
            logger.made = True  # type: ignore[attr-defined]
            logger.propagate = False
        return getattr(logger, name)


logger = _Proxy()
