"""The form of the log of a processing."""

import logging
import time


def log_formatter() -> logging.Formatter:
    """Return the form of the lines in the log of a processing; times are in UTC."""
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    return formatter
