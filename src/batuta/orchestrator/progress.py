"""The progress bar."""

import sys
from typing import Any

from tqdm import tqdm

from batuta.orchestrator.events import Event, RunEnded, RunStarted, TileDone, TileFailed


class ProgressBar:
    """An observer that draws a bar on a terminal, and nothing elsewhere."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def on_event(self, event: Event) -> None:
        """Draw what happened."""
        if isinstance(event, RunStarted) and event.total and sys.stderr.isatty():
            self._bar = tqdm(total=event.total, desc="Tiles", unit="tile")
        elif self._bar is not None and isinstance(event, TileDone | TileFailed):
            self._bar.set_postfix_str(event.dataset_name, refresh=False)
            self._bar.update()
        elif self._bar is not None and isinstance(event, RunEnded):
            self._bar.close()
            self._bar = None
