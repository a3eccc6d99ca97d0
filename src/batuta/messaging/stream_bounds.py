"""The bounds that operators set for the streams, those that exist included."""

import logging
from collections.abc import Mapping
from typing import Final

import nats.errors

from batuta.errors import one_line
from batuta.messaging.bus import Bus, MessagingError

LOG: Final = logging.getLogger(__name__)

Bounds = Mapping[str, float | int]
"""Of one stream, by the name of NATS: ``max_age`` (s), ``max_msgs``, ``max_bytes``."""


async def apply_bounds(bus: Bus, bounds: Mapping[str, Bounds]) -> None:
    """Set the bounds of streams, by their names; those that are not given are left unchanged.

    Where there is more in a stream than its new bounds let it hold, NATS removes the oldest.

    Raises
    ------
    MessagingError
        If NATS refuses them, as it does where they are more than its disk.
    """
    for name, wanted in bounds.items():
        try:
            found = (await bus.jetstream.stream_info(name)).config
            changed = {key: each for key, each in wanted.items() if getattr(found, key) != each}
            if changed:
                await bus.jetstream.update_stream(found.evolve(**changed))
        except (nats.errors.Error, TimeoutError) as exc:
            told = ", ".join(f"{key} {each:g}" for key, each in wanted.items())
            raise MessagingError(
                f"NATS at {bus.url}: the stream {name} cannot be bounded by {told}: "
                f"{getattr(exc, 'description', None) or one_line(exc)}"
            ) from exc
        if changed:
            told = ", ".join(f"{key} {each:g}" for key, each in changed.items())
            LOG.info("NATS at %s: the stream %s is bounded by %s", bus.url, name, told)
