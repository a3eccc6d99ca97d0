"""Stages: what is one, how it is written, and which is higher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from batuta.messaging import DataAvailable, MalformedEventError, decode_data
from batuta.stages import (
    FINAL_RANK,
    MAX_NUMBER,
    Stage,
    checked_stage,
    lowest,
    rank_of,
    stage_from_text,
    stage_of,
)

STAGES = st.one_of(
    st.sampled_from(["preliminary", "final"]), st.integers(min_value=1, max_value=MAX_NUMBER)
)
ADAPTER: TypeAdapter[Stage] = TypeAdapter(Stage)


@given(STAGES)
def test_a_stage_is_the_same_as_text_as_json_and_as_a_rank(stage: Stage) -> None:
    assert stage_from_text(str(stage)) == stage
    assert ADAPTER.validate_json(ADAPTER.dump_json(stage)) == stage
    assert stage_of(rank_of(stage)) == stage


def test_preliminary_is_below_every_number_and_final_above() -> None:
    ranks = [rank_of(each) for each in ("preliminary", 1, 2, MAX_NUMBER, "final")]
    assert ranks == sorted(set(ranks))
    assert rank_of(None) == rank_of("final") == FINAL_RANK
    assert lowest([None, 3, 1, None]) == 1
    assert lowest([None]) is None


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1.0", "1e3", "1_0", " 1", "٣", "Final", "prelim", "1000000", "9" * 99]
)
def test_what_is_no_stage_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="accepted: preliminary, final, or a whole number from 1"):
        stage_from_text(text)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, 2.5, "0", "1", "", [], {}, MAX_NUMBER + 1])
def test_an_event_with_another_stage_is_not_read(value: object) -> None:
    with pytest.raises(ValueError, match="is no stage"):
        checked_stage(value)
    with pytest.raises(ValidationError, match="accepted: preliminary, final"):
        DataAvailable.model_validate({"product": "A", "obs_id": "o", "stage": value})
    with pytest.raises(MalformedEventError, match="stage: "):
        decode_data(b'{"product": "A", "obs_id": "o", "stage": "soon"}')


@pytest.mark.parametrize("stage", ["preliminary", 3, "final", None])
def test_an_announcement_carries_its_stage(stage: Stage | None) -> None:
    told = DataAvailable(product="A", obs_id="o", stage=stage)
    sent = told.model_dump_json(exclude_none=True, by_alias=True)
    assert decode_data(sent.encode()) == told
    assert ("stage" in sent) == (stage is not None)
