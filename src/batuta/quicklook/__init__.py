"""Quicklooks: small pictures of products, drawn from their files.

A file is drawn in a process of its own (`python -m batuta.quicklook`), for it is untrusted: its
memory, its time and all that is read of it are bounded. What is imported here loads no library
that draws.
"""

from batuta.quicklook.image_check import QuicklookImage, check_image
from batuta.quicklook.kinds import DRAWN, Kind, find_kind
from batuta.quicklook.limits import (
    DRAWER,
    MAX_GIVEN_BYTES,
    MAX_GIVEN_PX,
    CannotDrawError,
    CannotDrawNowError,
)
from batuta.quicklook.process import Drawer

__all__ = [
    "DRAWER",
    "DRAWN",
    "MAX_GIVEN_BYTES",
    "MAX_GIVEN_PX",
    "CannotDrawError",
    "CannotDrawNowError",
    "Drawer",
    "Kind",
    "QuicklookImage",
    "check_image",
    "find_kind",
]
