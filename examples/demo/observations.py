"""Real observations that install with the packages that the demonstration computes with."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Final

import numpy as np
from astropy.io import fits
from skimage import data

from examples.demo.disparity import Calibration, write_raster

MOTORCYCLE: Final = Calibration(
    focal_px=994.978,
    centre_x_px=311.193,
    centre_y_px=254.877,
    offset_px=31.086,
    baseline_m=0.193001,
)
"""Published with the Middlebury 2014 pair, at the quarter scale that scikit-image has it in."""


@dataclass(frozen=True)
class Observation:
    """Files to import for one observation.

    Attributes
    ----------
    obs_id, title : str
        What it is called.
    files : mapping of str to Path
        Each input product, and its file.
    preliminary : mapping of str to Path
        Those of them that arrive earlier in a preliminary version, and its file.
    alert : bool
        Whether it is announced as an alert.
    """

    obs_id: str
    title: str
    files: Mapping[str, Path]
    preliminary: Mapping[str, Path] = field(default_factory=dict)
    alert: bool = False


_X_RAY: Final = (
    ("CHANDRA-10027", "M82 with Chandra ACIS, 2008-10-04", "EVENTS", "chandra_test.fits"),
    (
        "RXTE-93087-01-02-11",
        "4U 1636-53 with RXTE PCA, 2008-01-13",
        "EVENTS",
        "xte_test.evt.gz",
    ),
    ("RXTE-M82-2009-12-18", "M82 with RXTE PCA, 2009-12-18", "EVENTS", "xte_gx_test.evt.gz"),
)
_EROSITA: Final = (
    "EROSITA-300007",
    "A source of the eFEDS field with eROSITA, 2019-11-03",
    "EROSITA_LIGHT_CURVE",
    "LightCurve_bexvar.fits",
)
_ALERT: Final = "RXTE-M82-2009-12-18"
"""The observation that is announced as an alert."""


def observations(folder: Path) -> list[Observation]:
    """Put the inputs of every observation in `folder`, and list them.

    Nothing is downloaded: event lists come with stingray, the stereo pair with scikit-image.

    Raises
    ------
    FileNotFoundError
        Naming the observations that the installed packages do not hold.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shipped = _event_lists()
    missing = [name for *_, name in (*_X_RAY, _EROSITA) if not (shipped / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{shipped} lacks {', '.join(missing)}")
    return [*_x_ray(shipped, folder), _erosita(shipped, folder), _motorcycle(folder)]


def _event_lists() -> Path:
    # Found without being imported: nobody computes here.
    spec = find_spec("stingray")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("stingray, which brings the event lists, is not installed")
    return Path(spec.origin).parent / "tests" / "data"


def _x_ray(shipped: Path, folder: Path) -> Iterator[Observation]:
    for obs_id, title, product, name in _X_RAY:
        path = folder / f"{obs_id}-{name}"
        copyfile(shipped / name, path)
        yield Observation(obs_id, title, {product: path}, alert=obs_id == _ALERT)


def _erosita(shipped: Path, folder: Path) -> Observation:
    obs_id, title, product, name = _EROSITA
    path = folder / f"{obs_id}-{name}"
    copyfile(shipped / name, path)
    first_half = folder / f"{obs_id}-preliminary.fits"
    _write_first_half(path, first_half)
    return Observation(obs_id, title, {product: path}, preliminary={product: first_half})


def _write_first_half(light_curve: Path, target: Path) -> None:
    """Write a light curve as far as half of its bins that hold the source."""
    with fits.open(light_curve, memmap=False) as file:
        rates = file["RATE"]
        in_view = np.flatnonzero(rates.data["FRACEXP"][:, 0] > 0)
        rates.data = rates.data[: in_view[len(in_view) // 2]]
        file.writeto(target)


def _motorcycle(folder: Path) -> Observation:
    left, right, truth = data.stereo_motorcycle()  # type: ignore[no-untyped-call]  # it has no types
    known = np.where(np.isfinite(truth), truth, np.nan).astype(np.float32)
    return Observation(
        "MIDDLEBURY-MOTORCYCLE",
        "Motorcycle, Middlebury stereo 2014, quarter scale",
        {
            "STEREO_LEFT": write_raster(folder / "motorcycle_left.png", left),
            "STEREO_RIGHT": write_raster(folder / "motorcycle_right.png", right),
            "CALIBRATION": MOTORCYCLE.write(folder / "motorcycle_calibration.json"),
            "TRUE_DISPARITY": write_raster(folder / "motorcycle_truth.tif", known, np.nan),
        },
    )
