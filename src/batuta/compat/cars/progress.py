"""Updates the progress bars of CARS from the events of a run."""

from cars.core.progress.progress import ProgressTree

from batuta.orchestrator import Event, RunEnded, RunStarted, TileDone, TileFailed, TileRetried


class CarsProgress:
    """An observer that advances the progress bars of CARS.

    Attributes
    ----------
    task_id : int or None
        The bar to advance, by its id in CARS; None advances none.
    """

    def __init__(self) -> None:
        self.task_id: int | None = None
        self._retried = 0

    def on_event(self, event: Event) -> None:
        """Notify CARS of an event."""
        if self.task_id is None:
            return
        if isinstance(event, RunStarted):
            self._retried = 0
            if event.total:
                self._notify("started", total=event.total)
        elif isinstance(event, TileRetried):
            # CARS counts a failed tile as progress, then as a retry, which takes it back.
            self._retried += 1
            self._notify("progressed")
            self._notify("retries")
        elif isinstance(event, TileDone | TileFailed):
            self._advance(failed=isinstance(event, TileFailed))
        elif isinstance(event, RunEnded) and event.total:
            self._notify("completed")

    def _advance(self, *, failed: bool) -> None:
        if self._retried:
            self._notify("started", total=self._retried)
            self._retried = 0
        self._notify("progressed")
        if failed:
            self._notify("failed")

    def _notify(self, what: str, **details: int) -> None:
        ProgressTree().notify(self.task_id, what, **details)
