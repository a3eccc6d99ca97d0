"""From the tiles of an orchestrator to the progress of a processing."""

from collections.abc import Callable

from batuta.orchestrator.events import Event, Progress


class TileProgress:
    """An observer of an `Orchestrator` that tells how many of its tiles are done.

    Parameters
    ----------
    tell : callable
        Is told the tiles done, and their total.
    """

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._progress = Progress()

    def on_event(self, event: Event) -> None:
        """Take an event."""
        progress = self._progress.after(event)
        if progress != self._progress:
            self._progress = progress
            self._tell(progress.done, progress.total)
