"""The power fails while services work: what they had promised is on the disk."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.power_loss.points import AGAIN, Recorded
from tests.support.power_loss.running import SCENARIOS, played
from tests.support.preloading import require_preloading

SEED = 17
LOSSES = 14
"""Of each service."""


@pytest.fixture(scope="module", params=SCENARIOS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a scenario."""
    return str(request.param)


@pytest.fixture(scope="module")
def recorded(name: str) -> Iterator[Recorded]:
    """It, played once."""
    require_preloading()
    with played(name) as found:
        yield found


def test_whenever_the_power_fails_what_was_promised_is_there(recorded: Recorded) -> None:
    outcome = recorded.lose_power(LOSSES, SEED)
    assert not outcome.violations, "\n".join([str(outcome), *outcome.violations])
    # It would hold as well if nothing was done.
    assert outcome.tried == LOSSES
    assert outcome.again == AGAIN
    assert outcome.moments > 10 * LOSSES


# ---------------------------------------------------------------------- syncs left out on purpose


def is_journal_of_database(path: Path) -> bool:
    """Return whether `PRAGMA synchronous = FULL` syncs it at a commit, and `NORMAL` does not."""
    return path.name.endswith("-wal")


def is_folder_of_objects(path: Path) -> bool:
    return path.parent.name == "sha256"


def is_upload(path: Path) -> bool:
    return path.suffix == ".part"


def is_folder_of_data(path: Path) -> bool:
    """Return whether `create_folder` syncs it: the name of the folder of a database is there."""
    return path.name == "disk"


def is_archive(path: Path) -> bool:
    return "archive" in path.parts


def is_partial_upload(path: Path) -> bool:
    return path.suffix == ".upload"


def is_draft_of_output(path: Path) -> bool:
    return ".parts" in str(path)


def is_manifest(path: Path) -> bool:
    return "manifest" in path.name


def is_draft_of_cloud_raster(path: Path) -> bool:
    return ".halves.tif.parts" in path.parts


def is_draft_of_group(path: Path) -> bool:
    return ".more.zarr.parts" in path.parts


def is_folder_of_maps(path: Path) -> bool:
    return path.parent.name == "new"


def is_snapshot(path: Path) -> bool:
    return path.parent.name == "snapshots"


def is_folder_of_snapshots(path: Path) -> bool:
    return path.name == "snapshots"


def is_object_of_backup(path: Path) -> bool:
    return "backup" in path.parts and "snapshots" not in path.parts


MISSING_SYNCS: dict[str, tuple[Callable[[Path], bool], ...]] = {
    "sdb": (is_journal_of_database, is_folder_of_objects, is_upload, is_partial_upload),
    "conductor": (is_journal_of_database, is_folder_of_data, is_archive),
    "pipeline": (is_journal_of_database, is_folder_of_data),
    "resume": (is_draft_of_output, is_manifest, is_folder_of_data),
    "maps": (is_draft_of_cloud_raster, is_draft_of_group, is_folder_of_data, is_folder_of_maps),
    "backup": (is_snapshot, is_folder_of_snapshots, is_object_of_backup),
}
"""What each is taken not to have synced."""


def test_a_sync_that_is_left_out_is_found(name: str, recorded: Recorded) -> None:
    for unsynced in MISSING_SYNCS[name]:
        found = recorded.first_violation_without(unsynced, LOSSES, SEED)
        assert found is not None, unsynced.__name__
