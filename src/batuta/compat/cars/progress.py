"""What CARS shows of its progress, fed by the events of a run."""

from cars.core.progress.progress import ProgressTree

from batuta.orchestrator import Event, RunEnded, RunStarted, TileDone, TileFailed, TileRetried


class CarsProgress:
    """An observer that moves the bars of CARS.

    Attributes
    ----------
    task_id : int or None
        The bar to move, as CARS names it; None moves none.
    """

    def __init__(self) -> None:
        self.task_id: int | None = None
        self._retried = 0

    def on_event(self, event: Event) -> None:
        """Tell what happened."""
        if self.task_id is None:
            return
        if isinstance(event, RunStarted):
            self._retried = 0
            if event.total:
                self._tell("started", total=event.total)
        elif isinstance(event, TileRetried):
            # For CARS a tile that failed has progressed, and is then taken back.
            self._retried += 1
            self._tell("progressed")
            self._tell("retries")
        elif isinstance(event, TileDone | TileFailed):
            self._advance(failed=isinstance(event, TileFailed))
        elif isinstance(event, RunEnded) and event.total:
            self._tell("completed")

    def _advance(self, *, failed: bool) -> None:
        if self._retried:
            self._tell("started", total=self._retried)
            self._retried = 0
        self._tell("progressed")
        if failed:
            self._tell("failed")

    def _tell(self, what: str, **details: int) -> None:
        ProgressTree().notify(self.task_id, what, **details)
