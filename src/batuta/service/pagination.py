"""Pagination of long lists."""

from typing import Generic, TypeVar

from pydantic import BaseModel

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list; `next` is the cursor of the following one, None on the last.

    A page before the last may have fewer items than asked for, even none: of what filters leave
    out, a bounded number is examined for one page.
    """

    items: list[T]
    next: str | None = None
