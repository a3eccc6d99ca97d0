"""From a configuration to a cluster: check it, then create the cluster of its mode."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batuta.cluster.contract import AbstractCluster
from batuta.cluster.main_script import leave_if_imported_by_worker
from batuta.cluster.modes import cluster_class
from batuta.errors import ConfigurationError, describe_value

if TYPE_CHECKING:
    from batuta.cluster.config import CommonConfig


def check_configuration(conf: Mapping[str, Any] | None) -> "CommonConfig":
    """Check a configuration and fill it in; `auto` becomes `multiprocessing`.

    Parameters
    ----------
    conf : mapping or None
        As in the tables of docs/reference/orchestrator.md; None or no mode is ``auto``.

    Raises
    ------
    ConfigurationError
        With one line per mistake.
    """
    # Imported here: workers, and programs that only declare tasks, do without it.
    from batuta.cluster.checking import check_keys  # noqa: PLC0415

    if not isinstance(conf, Mapping | None):
        raise ConfigurationError(
            f"orchestrator_conf: {describe_value(conf)} given, a mapping of keys or None expected"
        )
    return check_keys(dict(conf or {}))


def create_cluster(
    config: "CommonConfig", out_dir: Path | None, *, launch_worker: bool = True
) -> AbstractCluster:
    """Create the cluster of a checked configuration."""
    leave_if_imported_by_worker()
    return cluster_class(config.mode)(config, out_dir, launch_worker=launch_worker)
