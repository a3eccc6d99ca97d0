"""Which graph is in force, when a conductor starts and when another one is put in force."""

from enum import Enum

from batuta.graph import Graph


class AtStart(Enum):
    """Which graph is in force from the start of a conductor."""

    FIRST = "the first version"
    KEPT = "the version that was in force"
    REPLACED = "the file, as a new version"


def graph_at_start(file: Graph, last_file: Graph | None, in_force: Graph | None) -> AtStart:
    """Return which graph is in force when a conductor starts with a `file`.

    What was put in force last stays so whatever the file says, unless the file was changed since
    the last start: then that is meant.

    Parameters
    ----------
    last_file : Graph or None
        What the file said at the last start; None if that can no longer be read as a graph.
    in_force : Graph or None
        The version that was in force last; None for a database that has none yet.
    """
    if in_force is None:
        return AtStart.FIRST
    # Digests of what both mean now: a later Batuta may know keys that an earlier one did not.
    unchanged = last_file is not None and last_file.digest == file.digest
    if unchanged or in_force.digest == file.digest:
        return AtStart.KEPT
    return AtStart.REPLACED
