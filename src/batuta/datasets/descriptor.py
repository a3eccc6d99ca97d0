"""What the life of an output file is, whatever its format.

::

    opened --write--> written --checkpoint--> kept whatever happens
       |                 |
       |                 +-- close() ----------> final          close(keep=True): final, and
       |                 +-- suspend() --------> kept           what it was made of is kept
       +---- resume=True <-------+
                         +-- abandon() --------> what is not final is thrown away

What was written before the last `checkpoint` outlives a killed process and a power loss. What a
run keeps (by `suspend`, by `close(keep=True)`, or by being killed) is found again with
``CarsDataset.generate_descriptor(..., resume=True)``, and dropped with `abandon`.
"""

from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Descriptor(Protocol):
    """A file that tiles are written in, one at a time, by one thread.

    Each format adds its own ``write``: see `ArrayFile` and `GatheredFile`.
    """

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The final files; known for sure once closed."""

    def checkpoint(self) -> None:
        """Have all that was written so far outlive a killed process and a power loss."""

    def close(self, *, keep: bool = False) -> None:
        """Make the final file, complete and on disk before it takes its name; once is enough.

        Parameters
        ----------
        keep : bool
            Whether what it was made of stays, so that a later run may resume and add to it.
        """

    def suspend(self) -> None:
        """Stop without making the final file, and keep what was written for a later run."""

    def abandon(self) -> None:
        """Throw away all that is not final."""
