"""Reports the tiles of an orchestrator as the progress of a processing."""

from collections.abc import Callable

from batuta.orchestrator.events import Event, Progress


class TileProgress:
    """An observer of an `Orchestrator` that reports how many of its tiles are done.

    Parameters
    ----------
    on_progress : callable
        Called with the number of tiles done, and their total.
    """

    def __init__(self, on_progress: Callable[[int, int], None]) -> None:
        self._on_progress = on_progress
        self._progress = Progress()

    def on_event(self, event: Event) -> None:
        """Update the progress, and report it if it has changed."""
        progress = self._progress.after(event)
        if progress != self._progress:
            self._progress = progress
            self._on_progress(progress.done, progress.total)
