"""Events: what is read of an envelope, and what is put aside."""

import base64
import json
from typing import Any

import pytest

from batuta.messaging import (
    DataAvailable,
    MalformedEventError,
    Processing,
    ProcessingState,
    decode_activity,
    decode_data,
)
from batuta.messaging.events import read_notification
from batuta.messaging.processings import FIRST_INSTANT, LAST_INSTANT, MAX_ERROR_LENGTH, instant_of

DATA = {"product": "EVT", "obs_id": "sb1"}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/x", "type": "batuta.data.available"}


def activity(**processing: Any) -> bytes:
    record = {"id": "p1", "product": "EVT", "obs_id": "sb1", "state": "running", **processing}
    data = {"service": {"name": "maker", "kind": "pipeline"}, "processing": record}
    return json.dumps({**ENVELOPE, "type": "batuta.activity", "data": data}).encode()


@pytest.mark.parametrize(
    "attributes",
    [
        {"datacontenttype": "application/json; charset=utf-8"},
        {"datacontenttype": "application/vnd.mission+json"},
        {"time": "2016-12-31T23:59:60Z"},
        {"time": "yesterday"},
        {"subject": 7, "traceparent": None},
    ],
)
def test_attributes_that_are_not_read_are_not_judged(attributes: dict[str, Any]) -> None:
    event = {**ENVELOPE, **attributes, "data": DATA}
    assert decode_data(json.dumps(event).encode()) == DataAvailable(**DATA)


def test_data_may_be_in_base64() -> None:
    data = base64.b64encode(json.dumps(DATA).encode()).decode()
    event = {**ENVELOPE, "data_base64": data}
    assert decode_data(json.dumps(event).encode()) == DataAvailable(**DATA)


def test_a_bare_pair_whose_values_mention_the_envelope_is_a_bare_pair() -> None:
    event = {**DATA, "uri": 'a "specversion" in a text'}
    assert decode_data(json.dumps(event).encode()).product == "EVT"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "Invalid JSON: "),
        (b"\xff", "Invalid JSON: "),
        (b"[" * 100_000, "Invalid JSON: "),
        (b'{"product": NaN}', "Invalid JSON: "),
        (b'{"product": "\\ud800", "obs_id": "sb1"}', "Invalid JSON: "),
        (b"null", "Input should be a valid dictionary"),
        (json.dumps({**ENVELOPE, "type": "batuta.data.removed", "data": DATA}).encode(), "type "),
        (json.dumps({**ENVELOPE, "specversion": "2.0", "data": DATA}).encode(), "specversion: "),
        (json.dumps({**ENVELOPE, "data_base64": "!"}).encode(), "Invalid JSON: "),
        (json.dumps({**ENVELOPE}).encode(), "Input should be a valid dictionary"),
        (json.dumps({**DATA, "stage": "soon"}).encode(), "stage: 'soon' is no stage"),
        (json.dumps({**DATA, "version": 2**31}).encode(), "version: "),
        (json.dumps({**DATA, "size": -1}).encode(), "size: "),
        (json.dumps({**DATA, "class": "urgent"}).encode(), "class: Input should be 'alert', "),
        (json.dumps({**DATA, "uri": "x" * 10_000}).encode(), "uri: "),
    ],
)
def test_what_is_malformed_is_named_in_one_line(payload: bytes, reason: str) -> None:
    with pytest.raises(MalformedEventError) as caught:
        decode_data(payload)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["started", "ended"])
@pytest.mark.parametrize(
    "time",
    [
        "2026-11-28T12:00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-12:00",
        "1969-12-31T23:59:59Z",
        1e300,
        -1,
    ],
)
def test_a_time_without_zone_or_out_of_all_reason_is_malformed(key: str, time: object) -> None:
    with pytest.raises(MalformedEventError, match=f"processing.{key}: "):
        decode_activity(activity(**{key: time}))


def test_a_time_of_another_zone_is_that_of_utc() -> None:
    processing = decode_activity(activity(started="2026-11-28T13:00:00+01:00")).processing
    assert processing is not None
    assert processing.started is not None
    assert processing.started.isoformat() == "2026-11-28T12:00:00+00:00"


@pytest.mark.parametrize(
    ("key", "value"),
    [("id", "x" * 10_000), ("attempt", -1), ("attempt", 2**31), ("progress", {"done": 5e9})],
)
def test_what_no_database_holds_is_malformed(key: str, value: object) -> None:
    with pytest.raises(MalformedEventError, match=f"processing.{key}"):
        decode_activity(activity(**{key: value}))


def test_a_long_error_is_cut_in_the_middle_and_says_so() -> None:
    record = Processing(
        id="p1",
        product="EVT",
        obs_id="sb1",
        state=ProcessingState.FAILED,
        error="begin " + "x" * 1_000_000 + " end",
    )
    assert record.error is not None
    assert len(record.error) < MAX_ERROR_LENGTH + 100
    assert record.error.startswith("begin xxx")
    assert record.error.endswith("xxx end")
    assert "characters" in record.error


@pytest.mark.parametrize(
    "seconds", [-1e30, -1.0, 0.0, 1e9, 1e12, 1e300, float("inf"), float("nan")]
)
def test_any_number_that_was_recorded_is_shown_as_a_time(seconds: float) -> None:
    shown = instant_of(seconds)
    assert FIRST_INSTANT <= shown < LAST_INSTANT
    if seconds == 1e9:
        assert shown.timestamp() == seconds


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("2026-11-29T12:00:00Z", 1795953600.0),
        ("2026-11-29T14:00:00.5+02:00", 1795953600.5),
        ("2016-12-31T23:59:60Z", 1483228799.0),
        ("2016-12-31T23:59:60.25Z", 1483228799.25),
        ("2026-11-29T12:00:00", None),
        ("yesterday", None),
        ("2026-13-45T99:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", -62135683140.0),
        (1795953600, None),
        ({"year": 2026}, None),
    ],
)
def test_the_time_of_an_event_is_read_where_it_can_be_and_never_has_it_refused(
    time: object, seconds: float | None
) -> None:
    envelope = {
        "specversion": "1.0",
        "id": "e1",
        "source": "/vhf",
        "type": "batuta.data.available",
        "time": time,
        "data": {"product": "A", "obs_id": "o1"},
    }
    read = read_notification(json.dumps(envelope).encode())
    assert read.problem is None
    assert read.time == seconds
