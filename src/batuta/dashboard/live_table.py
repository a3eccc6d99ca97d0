"""Values by key that change, and the frames in which they did: what viewers are sent.

A viewer is sent a snapshot and then frames, each with its number. One that was away for a moment
continues from the number that it has seen last, as long as the frames since then are kept.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

MAX_KEPT_BYTES: Final = 4 * 2**20
"""Of frames: minutes of a busy orchestra. Whoever was away for longer is sent a snapshot."""

JsonValue = Any
"""Whatever `json` can encode."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What changed since the frame before it, encoded once for all viewers.

    Attributes
    ----------
    number : int
        Counts the frames of a table, from 1.
    body : bytes
        A JSON object: the new value of each key that changed, null for those that are gone.
    """

    number: int
    body: bytes


class LiveTable:
    """Values by key, whose changes are collected into frames.

    All methods must be called in one thread. Values must not be changed once they are set.
    """

    def __init__(self) -> None:
        self.number = 0
        """That of the last frame."""
        self._values: dict[str, JsonValue] = {}
        self._changed: dict[str, None] = {}
        self._frames: deque[Frame] = deque()
        self._kept_bytes = 0
        self._snapshot: Frame | None = None
        self._any_change = asyncio.Event()

    def __getitem__(self, key: str) -> JsonValue:
        return self._values[key]

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def get(self, key: str) -> JsonValue | None:
        """Return the value of a key, or None."""
        return self._values.get(key)

    def set(self, key: str, value: JsonValue) -> None:
        """Set the value of a key; the next frame has it if it is another one."""
        if key not in self._values or self._values[key] != value:
            self._values[key] = value
            self._mark(key)

    def remove(self, key: str) -> None:
        """Remove a key, if it is there."""
        if key in self._values:
            del self._values[key]
            self._mark(key)

    def _mark(self, key: str) -> None:
        self._changed[key] = None
        self._any_change.set()

    async def wait_for_change(self) -> None:
        """Return as soon as something has changed since the last frame."""
        await self._any_change.wait()

    def end_frame(self) -> Frame | None:
        """Return what has changed since the last frame as a new one; None if nothing has."""
        self._any_change.clear()
        if not self._changed:
            return None
        self.number += 1
        changes = {key: self._values.get(key) for key in self._changed}
        self._changed.clear()
        frame = Frame(self.number, _encoded(changes))
        self._frames.append(frame)
        self._kept_bytes += len(frame.body)
        while self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._frames.popleft().body)
        return frame

    def since(self, number: int) -> list[Frame] | None:
        """Return the frames after `number`; None if some of them are not kept, or never were."""
        missing = self.number - number
        if missing < 0 or missing > len(self._frames):
            return None
        return [
            self._frames[index] for index in range(len(self._frames) - missing, len(self._frames))
        ]

    def snapshot(self) -> Frame:
        """Return all values, as they are with the last frame."""
        if self._snapshot is None or self._snapshot.number != self.number:
            # What has changed since then is sent again by the next frame, which does no harm.
            self._snapshot = Frame(self.number, _encoded(self._values))
        return self._snapshot


def _encoded(values: Mapping[str, JsonValue]) -> bytes:
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
