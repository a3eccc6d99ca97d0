"""Limits how often a log has the same line: what repeats is counted instead."""

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BURST: Final = 5
"""How often a line is written within `WINDOW_S`, in seconds, before it is only counted."""
WINDOW_S: Final = 10.0
MAX_LINES: Final = 1000
"""Different lines that are remembered."""


@dataclass
class _Line:
    since_s: float
    written: int = 0
    left_out: int = 0


class RepeatedLines:
    """Decides which records are written; the caller is the only one at a time."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[str, int, str], _Line] = OrderedDict()

    def admit(self, record: logging.LogRecord) -> str | None:
        """Return what to append to the line of `record`; None if it is only counted."""
        key = record.name, record.levelno, record.getMessage()
        line = self._lines.get(key)
        left_out = 0
        if line is None or record.created - line.since_s >= WINDOW_S:
            left_out = line.left_out if line is not None else 0
            line = self._lines[key] = _Line(record.created)
            self._lines.move_to_end(key)
            if len(self._lines) > MAX_LINES:
                self._lines.popitem(last=False)
        if line.written == BURST:
            line.left_out += 1
            return None
        line.written += 1
        if left_out:
            return f" [{left_out:,} more of these lines were left out]"
        last = " [again and again: more of these lines are counted]"
        return last if line.written == BURST else ""
