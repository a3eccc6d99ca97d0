"""A clock that a test sets."""


class FakeClock:
    """Stands still until it is told to advance; called, it returns its time.

    Parameters
    ----------
    now : float
        Its time, in seconds since 1970.
    """

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return its time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
