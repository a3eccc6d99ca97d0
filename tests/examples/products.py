"""Makes products without a service, from inputs that are files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from batuta.pipeline import Context, Output, ProductSpec
from batuta.pipeline.context import WorkFolder
from examples.demo.disparity import Disparities, Image
from examples.demo.observations import Observation

if TYPE_CHECKING:
    from batuta.pipeline.inputs import InputFetcher


@dataclass(frozen=True)
class Pair:
    """The Middlebury pair and its truth."""

    left: Image
    right: Image
    truth: Disparities


class _FileInputs:
    """Inputs that are local files, in place of an sdb."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def fetch(self, name: str) -> Path | None:
        return self._files.get(name)


@dataclass(frozen=True)
class Made:
    """A product, its file and its metadata."""

    obs_id: str
    product: str
    path: Path
    metadata: Mapping[str, Any]


def make(spec: ProductSpec, observation: Observation, files: dict[str, Path], into: Path) -> Made:
    into.mkdir()
    work_folder = WorkFolder(
        processing_id=f"{observation.obs_id}-{spec.name}",
        obs_id=observation.obs_id,
        provider="tested_pipeline",
        work_dir=into,
    )
    inputs = cast("InputFetcher", _FileInputs(files))
    output = spec.function(Context(spec, work_folder, inputs, lambda _done, _total: None))
    assert isinstance(output, Output)
    return Made(observation.obs_id, spec.name, Path(output.path), output.metadata)
