"""Streams get the bounds that operators set, those that exist already included."""

import pytest

from batuta.messaging import MessagingError, NatsConfig, connect
from batuta.messaging.stream_bounds import apply_bounds
from batuta.service.retention import DAY_S, StreamRules
from tests.support.servers import NatsServer


async def test_bounds_replace_those_of_a_stream_that_exists_and_leave_the_others(
    own_nats: NatsServer,
) -> None:
    rules = StreamRules.model_validate(
        {"data_days": 400, "data_messages": 1000, "activity_days": "never", "dead_mb": 1}
    )
    async with connect(NatsConfig(url=own_nats.url), "test") as bus:
        await apply_bounds(bus, rules.bounds())
        # A service that connects later does not widen them again.
        await bus.ensure_streams()
        found = {
            each.config.name: (
                each.config.max_age or 0,
                each.config.max_msgs,
                each.config.max_bytes,
            )
            for each in await bus.jetstream.streams_info()
        }
        assert found == {
            "DATA": (400 * DAY_S, 1000, -1),
            "ACTIVITY": (0, -1, 512 * 2**20),
            "DEAD": (0, -1, 2**20),
        }
        with pytest.raises(MessagingError, match="the stream DEAD cannot be bounded by max_bytes"):
            await apply_bounds(bus, {"DEAD": {"max_bytes": 2**62}})


def test_without_rules_streams_are_left_as_they_are() -> None:
    assert StreamRules().bounds() == {}
