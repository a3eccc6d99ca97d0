"""The pipeline that a fork server has loaded, for all the processes that are forked from it.

A processing finds its function here by the name of its product, not by that of the function: so
it runs the code that its fork server has loaded, which may be newer than that of the service.
"""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batuta.errors import ConfigurationError
from batuta.pipeline.declaration import FunctionResult, Pipeline
from batuta.pipeline.loading import load

if TYPE_CHECKING:
    from batuta.pipeline.context import Context


class _Loaded:
    pipeline: Pipeline | None = None
    problems: tuple[str, ...] = ()


def load_here(reference: str) -> None:
    """Load the pipeline `reference` in this process, or record why it cannot be loaded."""
    # The cached code of a module is taken for that of a file of the same size and second: an edit
    # that follows another at once would have no effect.
    sys.dont_write_bytecode = True
    try:
        _Loaded.pipeline = load(reference)
    except ConfigurationError as exc:
        _Loaded.problems = exc.problems
    except SystemExit as exc:
        _Loaded.problems = (f"pipeline {reference!r}: SystemExit: {exc}",)


def loaded_pipeline() -> Pipeline:
    """Return the pipeline that was loaded.

    Raises
    ------
    ConfigurationError
        If it could not be loaded.
    """
    if _Loaded.pipeline is None:
        raise ConfigurationError(_Loaded.problems or "no pipeline was loaded")
    return _Loaded.pipeline


@dataclass(frozen=True)
class LoadedFunction:
    """The function of a product, in the pipeline that this process has loaded.

    Parameters
    ----------
    product : str
        The product that it makes.
    module : str or None
        Its module, for messages.
    """

    product: str
    module: str | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "__module__", self.module)

    def __call__(self, context: "Context") -> FunctionResult:
        """Make the product."""
        return loaded_pipeline().products[self.product].function(context)
