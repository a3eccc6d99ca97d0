"""The type of a piece of advice."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to change, or to leave as it is, and why."""

    subject: str
    """What it is about: a key of the configuration, or the tile size."""
    current: str | None
    """The value in this run; None where there was none."""
    proposed: str | None
    """None where no change is proposed."""
    values: tuple[float, ...] = ()
    """The proposed value in numbers: workers, MB, or rows and columns in px."""
    reason: str
    """Full sentences, with figures."""

    @property
    def verdict(self) -> str:
        """The proposal in a few words."""
        if self.proposed is None:
            return f"no change ({self.current})" if self.current else "no change"
        return f"{self.proposed} instead of {self.current}" if self.current else self.proposed
