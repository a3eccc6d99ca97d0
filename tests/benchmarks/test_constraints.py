"""What the environments of peers pin is what Batuta accepts: else they cannot be installed."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.checkout import ROOT

PINS = {
    "constraints.txt": ("services", "dask", "formats", "profiling", "quicklooks"),
    "benchmarks/peers-constraints.txt": (),
    "benchmarks/orchestra_peers/constraints.txt": ("services",),
    "benchmarks/task_peers/constraints.txt": (),
}
"""The files of pins, and the extras of Batuta that are installed with each."""


def required(extras: tuple[str, ...]) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [Requirement(line) for line in lines]


def pinned(path: Path) -> dict[str, list[str]]:
    """Return the versions of each package: several where they depend on the Python."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


@pytest.mark.parametrize("name", PINS)
def test_every_pin_is_a_version_that_batuta_accepts(name: str) -> None:
    pins = pinned(ROOT / name)
    wrong = []
    for each in required(PINS[name]):
        versions = pins.get(canonicalize_name(each.name), ["nothing"])
        if not all(_is_accepted(each, version) for version in versions):
            wrong.append(f"{each}: {', '.join(versions)} is pinned")
    assert wrong == []


def _is_accepted(requirement: Requirement, version: str) -> bool:
    return version != "nothing" and requirement.specifier.contains(version, prereleases=True)
