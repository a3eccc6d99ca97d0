"""Where an orchestra keeps its records and its bytes, where its configuration says nothing else."""

from pathlib import Path
from typing import Any, Final

DEFAULT_CONFIG: Final = Path("batuta.yaml")


def sdb_places(data_dir: Path) -> dict[str, Any]:
    """Return the settings of the sdb that say where it keeps what."""
    return {
        "database_url": f"sqlite:///{data_dir / 'sdb.db'}",
        "store_url": (data_dir / "products").as_uri(),
        "scratch_folder": data_dir / "incoming",
    }


def conductor_places(data_dir: Path) -> dict[str, Any]:
    """Return the setting of the conductor that says where its records are."""
    return {"database_url": f"sqlite:///{data_dir / 'conductor.db'}"}
