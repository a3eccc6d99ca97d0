"""Event lists of X-ray telescopes, and the tables that products are kept in."""

import gc
import math
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from astropy.io import fits
from astropy.table import QTable

with warnings.catch_warnings():
    # stingray says at import that numba would make it faster; these event lists are small.
    warnings.filterwarnings("ignore", message="The recommended numba package")
    from stingray import EventList

Floats: TypeAlias = npt.NDArray[np.float64]

FINEST_BIN_S: Final = 1 / 128
"""No light curve is binned finer: these observations hold too few photons above 64 Hz."""


@dataclass(frozen=True)
class Source:
    """What was observed, with what: the heading of every product of an event list."""

    target: str
    telescope: str
    instrument: str

    def __str__(self) -> str:
        return f"{self.target}, {self.telescope} {self.instrument}"


@dataclass(frozen=True)
class Events:
    """The photons of one observation.

    Attributes
    ----------
    photons : stingray.EventList
        Times in s from the mission's reference date, energies in keV, good time intervals.
    source : Source
        What was observed, with what.
    resolution_s : float
        Time between two readings of the detector, in s.
    """

    photons: Any
    source: Source
    resolution_s: float

    @property
    def count(self) -> int:
        """Photons in the list."""
        return int(self.photons.ncounts)

    @property
    def exposure_s(self) -> float:
        """Sum of the good time intervals, in s."""
        return float(np.sum(np.diff(self.photons.gti, axis=1)))

    @property
    def rate_ct_s(self) -> float:
        """Mean rate over the good time intervals, in counts per second."""
        return self.count / self.exposure_s

    def bin_s(self, at_least_s: float) -> float:
        """Return the shortest bin of at least `at_least_s` that is a whole number of readings.

        Any other bin would hold sometimes one reading more, which looks like an oscillation.
        """
        return math.ceil(at_least_s / self.resolution_s - 1e-9) * self.resolution_s


def read_events(path: Path) -> Events:
    """Read a FITS event list (OGIP), compressed or not, calibrated as stingray knows its mission.

    Raises
    ------
    ValueError
        If the list has no photon in its good time intervals, or does not say its time resolution.
    """
    with warnings.catch_warnings():
        # stingray leaves its files to the garbage collector; have it done here and now.
        warnings.simplefilter("ignore", ResourceWarning)
        photons = EventList.read(str(path), fmt="hea")
        gc.collect()
    photons.apply_mask(_in_good_time(photons), inplace=True)
    header = fits.Header.fromstring(photons.header)
    resolution_s = float(photons.dt)
    if photons.ncounts == 0 or resolution_s <= 0:
        raise ValueError(
            f"{path.name}: {photons.ncounts} photons in good time, TIMEDEL {resolution_s} s;"
            " an event list with photons and a time resolution is expected"
        )
    return Events(photons, source_of(header), resolution_s)


def _in_good_time(photons: Any) -> npt.NDArray[np.bool_]:
    good = np.zeros(photons.ncounts, dtype=bool)
    for start, stop in photons.gti:
        good |= (photons.time >= start) & (photons.time <= stop)
    return good


_MISSIONS: Final = {"XTE": "RXTE", "CHANDRA": "Chandra"}


def source_of(header: Any) -> Source:
    """Read from a FITS header what was observed, with what."""
    telescope = str(header.get("TELESCOP", "unknown telescope")).strip()
    return Source(
        target=str(header.get("OBJECT", "unknown target")).strip().replace("_", " "),
        telescope=_MISSIONS.get(telescope, telescope),
        instrument=str(header.get("INSTRUME", "")).strip(),
    )


def write_table(path: Path, columns: dict[str, Any], source: Source, **facts: Any) -> Path:
    """Write columns, with their units, and facts about them as ECSV."""
    table = QTable(columns, meta={**asdict(source), **facts})
    table.write(path, format="ascii.ecsv", overwrite=True)
    return path


def read_table(path: Path) -> tuple[QTable, Source]:
    """Read what `write_table` wrote; the facts are in the table's ``meta``."""
    table = QTable.read(path, format="ascii.ecsv")
    return table, Source(*(table.meta[key] for key in ("target", "telescope", "instrument")))
