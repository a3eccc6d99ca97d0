from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.demo.observations import Observation, observations
from examples.demo.spectral import read_erosita_curve


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> list[Observation]:
    return observations(tmp_path_factory.mktemp("observations"))


def test_one_observation_is_an_alert_and_others_make_the_same_products(
    played: list[Observation],
) -> None:
    [alert] = [one for one in played if one.alert]
    others = [one for one in played if one.files.keys() == alert.files.keys() and not one.alert]
    assert len(others) == 2


def test_what_is_preliminary_arrives_in_a_final_version_too_and_improves_a_product(
    played: list[Observation], graph: dict[str, Any]
) -> None:
    [name] = [name for one in played for name in one.preliminary]
    [final] = [one.files[name] for one in played if name in one.files]
    assert final.is_file()
    made = [entry for entry in graph["products"].values() if name in entry["m_input"]]
    assert [entry["on_update"] for entry in made] == ["reprocess"]


def test_the_preliminary_light_curve_is_the_first_half_of_the_final_one(
    played: list[Observation],
) -> None:
    def curve(files: dict[str, Path]) -> Any:
        return read_erosita_curve(files["EROSITA_LIGHT_CURVE"])[0]

    [observation] = [one for one in played if one.preliminary]
    first, whole = curve(dict(observation.preliminary)), curve(dict(observation.files))
    assert len(first.time_s) == len(whole.time_s) // 2
    np.testing.assert_array_equal(first.rate_ct_s, whole.rate_ct_s[: len(first.time_s)])
