"""A package that stands for CARS, importable in this process or in another."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

FAKE: Final = Path(__file__).parent / "fake"


def _forget_cars() -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == "cars" or name.startswith("batuta.compat.cars"):
            del sys.modules[name]


@pytest.fixture
def fake_cars(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Import `cars` from the folder of the tests, and forget it afterwards."""
    _forget_cars()
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    handlers = logging.getLogger("batuta").handlers
    before = handlers.copy()
    yield
    handlers[:] = before
    _forget_cars()
