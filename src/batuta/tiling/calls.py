"""Calls of a user's function for a tile: what it is given, and what chains of them read."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from batuta.cluster.tasks import name_of
from batuta.datasets import Overlaps, Window
from batuta.errors import ConfigurationError, describe_value
from batuta.tiling.edges import NODATA, NOTHING, missing_overlaps, pad
from batuta.tiling.pixels import NAN, NUMPY, as_argument, as_floats, as_missing, cropped
from batuta.tiling.place import TilePlace
from batuta.tiling.raster import Pixels, Raster, grown
from batuta.tiling.sources import Source

PLACE: Final = "place"
"""The parameter by which a function asks where its tile lies."""


@dataclass(frozen=True, kw_only=True)
class TileCall:
    """A function, and how it is called for each tile.

    Parameters
    ----------
    function : callable
        Takes an array of each input, and `place` if it has a parameter of this name.
    sources : tuple of Source
        Its inputs, on one grid.
    raster : Raster
        That grid.
    overlap : int
        Pixels that it is given beyond its tile, on each side.
    edge : str
        What it is given beyond the edge of the raster: see `batuta.tiling.edges.EDGES`.
    missing : str
        How it is given pixels without a value: see `batuta.tiling.pixels.MISSING`.
    arrays : str
        What it takes: see `batuta.tiling.pixels.ARRAYS`.
    kwargs : mapping
        Passed to it each time.
    takes_place : bool
        Whether it is told where its tile lies.
    """

    function: Callable[..., Any]
    sources: tuple[Source, ...]
    raster: Raster
    overlap: int = 0
    edge: str = NOTHING
    missing: str = NAN
    arrays: str = NUMPY
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    takes_place: bool = False

    @property
    def name(self) -> str:
        """The name of the function."""
        return name_of(self.function)

    @property
    def margin_px(self) -> int:
        """How far beyond a tile the files are read, by this function and those before it."""
        before = [each.call.margin_px for each in self.sources if isinstance(each, CallSource)]
        return self.overlap + max(before, default=0)

    def place_of(self, window: Window) -> TilePlace:
        """Return where the arrays for a window lie."""
        overlaps = self._overlaps(window)
        if self.edge != NOTHING:
            overlaps = Overlaps(*[self.overlap] * 4)
        return TilePlace(window=window, overlaps=overlaps, raster=self.raster)

    def _overlaps(self, window: Window) -> Overlaps:
        """Return how far the overlaps of a window are inside the raster."""
        return self.raster.overlaps_around(window, self.overlap)

    def result(self, window: Window) -> tuple[Any, TilePlace]:
        """Return what the function returns for a window, and where it lies."""
        place = self.place_of(window)
        arguments = [self._argument(each, place) for each in self.sources]
        told = {PLACE: place} if self.takes_place else {}
        return self.function(*arguments, **self.kwargs, **told), place

    def _argument(self, source: Source, place: TilePlace) -> Any:
        there = self._overlaps(place.window)
        pixels = as_missing(source.read(grown(place.window, there)), self.missing)
        if self.edge != NOTHING:
            beyond = missing_overlaps(self.overlap, there)
            pixels = self._padded(pixels, beyond, source.raster.nodata)
        return as_argument(pixels, source.raster, place, self.arrays)

    def _padded(self, pixels: Pixels, beyond: Overlaps, nodata: float | None) -> Pixels:
        if self.edge == NODATA and self.missing == NAN:
            # In the tiles inside too: all tiles have one data type.
            return pad(as_floats(pixels), beyond, NODATA, np.nan)
        return pad(pixels, beyond, self.edge, None if np.ma.isMaskedArray(pixels) else nodata)


@dataclass(frozen=True, kw_only=True)
class CallSource:
    """The results of a function, as an input of another one: no file is between them.

    Each task computes what it needs of them, overlaps included.

    Parameters
    ----------
    call : TileCall
        The function.
    """

    call: TileCall

    @property
    def raster(self) -> Raster:
        """The grid of its inputs; its bands and data type are known once it has run."""
        of = self.call.raster
        return replace(of, name=self.call.name, dtype="", nodata=None, bands=(), tags={})

    def read(self, window: Window) -> Pixels:
        """Compute the pixels of a window: see `Source.read`."""
        result, place = self.call.result(window)
        pixels, _ = cropped(result, place, self.call.name)
        return pixels


def takes_place(function: Callable[..., Any]) -> bool:
    """Return whether a function has a parameter `place`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # written in C: nothing is known of its parameters
    return any(
        each.name == PLACE and each.kind is not inspect.Parameter.POSITIONAL_ONLY
        for each in parameters
    )


def check_function(function: object, inputs: int, kwargs: Mapping[str, Any]) -> None:
    """Refuse what cannot be called with so many arrays.

    Raises
    ------
    ConfigurationError
        With what it takes.
    """
    told = {PLACE: None} if callable(function) and takes_place(function) else {}
    arrays = "1 array" if inputs == 1 else f"{inputs} arrays"
    extra = "".join(f", {key}" for key in (*kwargs, *told))
    _check_call("func", function, f"{arrays}{extra}", inputs, {**kwargs, **told})


def check_combine(function: object) -> None:
    """Refuse what cannot be called with two results; raises as `check_function`."""
    _check_call("combine", function, "2 results", 2, {})


def _check_call(
    key: str, function: object, told: str, positional: int, kwargs: Mapping[str, Any]
) -> None:
    if not callable(function):
        raise ConfigurationError(f"{key}: {describe_value(function)} given, a function expected")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # written in C: nothing is known of its parameters
    try:
        signature.bind(*[None] * positional, **kwargs)
    except TypeError as exc:
        raise ConfigurationError(
            f"{key}: {name_of(function)}{signature} is called with {told}: {exc}"
        ) from None
