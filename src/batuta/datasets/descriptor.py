"""The life cycle of an output file, the same for every format.

::

    opened --write--> written --checkpoint--> durable
       |                 |
       |                 +-- close() ----------> final          close(keep=True): final, and
       |                 +-- suspend() --------> kept           its parts are kept
       +---- resume=True <-------+
                         +-- abandon() --------> all that is not final is deleted

What was written before the last `checkpoint` survives a killed process and a power loss. What a
run keeps (by `suspend`, by `close(keep=True)`, or because it was killed) is opened again by
``CarsDataset.generate_descriptor(..., resume=True)``, and deleted by `abandon`.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Descriptor(Protocol):
    """A file to which one thread writes tiles, one at a time.

    Each format adds its own ``write``: see `ArrayFile` and `AssembledFile`.
    """

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The final files; complete once closed."""

    def checkpoint(self) -> None:
        """Make everything written so far durable against a killed process and a power loss."""

    def close(self, *, keep: bool = False) -> None:
        """Finish the file: it is complete and on the disk before it takes its name. Idempotent.

        Parameters
        ----------
        keep : bool
            Whether to keep its parts, so that a later run may resume and add to it.
        """

    def suspend(self) -> None:
        """Stop without finishing the file, and keep what was written for a later run to resume."""

    def abandon(self) -> None:
        """Delete everything that is not final."""
