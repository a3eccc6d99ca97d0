"""CARS imports our modules, and none of its own orchestrator."""

import importlib
import sys

import pytest


@pytest.mark.usefixtures("fake_cars")
def test_modules_of_the_orchestrator_are_ours() -> None:
    hook = importlib.import_module("batuta.compat.cars.hook")
    hook.install()
    ours = importlib.import_module("batuta.compat.cars.orchestrator")
    theirs = importlib.import_module("cars.orchestrator.orchestrator")
    assert theirs.Orchestrator is ours.Orchestrator
    assert theirs.update_saving_infos is ours.update_saving_infos
    profile = importlib.import_module("cars.orchestrator.cluster.log_wrapper").cars_profile
    assert profile(name="x", interval=0.2)(len) is len


@pytest.mark.usefixtures("fake_cars")
def test_the_rest_of_cars_is_its_own() -> None:
    importlib.import_module("batuta.compat.cars.hook").install()
    constants = importlib.import_module("cars.core.constants")
    assert constants.CROPPED_DISPARITY_RANGE == "cropped"


@pytest.mark.usefixtures("fake_cars")
def test_a_module_that_has_no_equivalent_is_refused_by_its_name() -> None:
    importlib.import_module("batuta.compat.cars.hook").install()
    with pytest.raises(ModuleNotFoundError, match=r"cars\.orchestrator\.registry: Batuta replaces"):
        importlib.import_module("cars.orchestrator.registry")


@pytest.mark.usefixtures("fake_cars")
def test_installing_twice_is_installing_once() -> None:
    hook = importlib.import_module("batuta.compat.cars.hook")
    before = len(sys.meta_path)
    hook.install()
    hook.install()
    assert len(sys.meta_path) == before + 1


@pytest.mark.usefixtures("fake_cars")
def test_installing_too_late_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = importlib.import_module("batuta.compat.cars.hook")
    monkeypatch.setitem(sys.modules, "cars.orchestrator", sys)
    with pytest.raises(ImportError, match="already imported: call install"):
        hook.install()
