"""How results of tiles add up, unless a function of the user's combines them."""

from typing import Any


def add_results(first: Any, second: Any) -> Any:
    """Return the sum of two results; of tuples, that of each of their elements.

    Raises
    ------
    ValueError
        If these are tuples of different lengths.
    """
    if isinstance(first, tuple) and isinstance(second, tuple):
        if len(first) != len(second):
            raise ValueError(f"tuples of {len(first)} and of {len(second)} results do not add up")
        return tuple(add_results(one, two) for one, two in zip(first, second, strict=True))
    return first + second


def adds_up(result: Any) -> bool:
    """Return whether results like this one have a sum, so far as their type tells."""
    if isinstance(result, tuple):
        return all(map(adds_up, result))
    return hasattr(type(result), "__add__")
