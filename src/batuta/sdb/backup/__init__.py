"""Backups of an sdb, taken while it runs, and the sdb that is made anew from one.

A backup is a folder or a bucket. It has the bytes of products as a store has them, each file once
for all snapshots, and for each snapshot the records as an SQLite database, whatever database the
sdb has::

    sha256/ab/cdef...                    the bytes
    snapshots/20261130T090000.000000Z.db      the records
    snapshots/20261130T090000.000000Z.json    what they are; written last

So a snapshot, with the bytes beside it, is an sdb: ``batuta sdb check`` verifies it as it stands.
"""

from batuta.sdb.backup.backup import BackupOptions, BackupResult, take_backup
from batuta.sdb.backup.restore import (
    RestoreOptions,
    RestoreResult,
    find_snapshot,
    has_products,
    restore_backup,
)
from batuta.sdb.backup.snapshots import SdbSnapshot, Snapshot, open_snapshots

__all__ = [
    "BackupOptions",
    "BackupResult",
    "RestoreOptions",
    "RestoreResult",
    "SdbSnapshot",
    "Snapshot",
    "find_snapshot",
    "has_products",
    "open_snapshots",
    "restore_backup",
    "take_backup",
]
