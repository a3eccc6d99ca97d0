"""The text of SQL statements, compiled once in a process.

SQLAlchemy keeps what it has compiled with the engine that executed it. A service has one engine;
tests open thousands, and each would compile the same statements: a third of all that tests of the
conductor do.
"""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.util import LRUCache

CAPACITY: Final = 2000


def share_compiled_statements() -> None:
    """Make all engines of this process compile each statement once for each kind of database."""
    create = sa.create_engine
    options = {"compiled_cache": _ByKindOfDatabase(CAPACITY)}

    def create_engine(*arguments: Any, **keywords: Any) -> sa.Engine:
        return create(*arguments, execution_options=options, **keywords)

    vars(sa)["create_engine"] = create_engine


class _ByKindOfDatabase(LRUCache[Any, Any]):
    """Keyed by the class of a dialect, where SQLAlchemy has the dialect of one engine.

    All databases of a kind are of one version here, so that their statements are the same.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(_key(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_key(key), value)


def _key(key: Any) -> Any:
    dialect, *others = key
    return type(dialect), *others
