"""Remembers what it is told."""

from typing import Any


class ProgressTree:
    """One for the whole process."""

    told: list[tuple[Any, ...]] = []  # noqa: RUF012 - shared by all, on purpose

    def notify(self, task_id: int, event: str, **details: int) -> None:
        """Remember."""
        self.told.append((task_id, event, *details.values()))
