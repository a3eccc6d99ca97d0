"""The conductor: hears that data have come, and has made what can be made (seed 003).

`rules` decides, `ledger` records, `dispatcher` acts, `api` shows; `service` puts them together.
"""

from batuta.conductor.settings import ConductorSettings

__all__ = ["ConductorSettings"]
