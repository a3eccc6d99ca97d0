"""A piece of advice."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to set, or to leave, and why."""

    subject: str
    """What it is about: a key of the configuration, or the tile size."""
    current: str | None
    """What it was in this run; None where there was none."""
    proposed: str | None
    """None: no change."""
    values: tuple[float, ...] = ()
    """What is proposed, in numbers: workers, MB, or rows and columns in px."""
    reason: str
    """In figures, a full sentence."""

    @property
    def verdict(self) -> str:
        """What to do, in a few words."""
        if self.proposed is None:
            return f"no change ({self.current})" if self.current else "no change"
        return f"{self.proposed} rather than {self.current}" if self.current else self.proposed
