"""Whether the graph of a running orchestra knows a product."""

from batuta.cli.clients import conductor_at
from batuta.errors import ConfigurationError
from batuta.spelling import NameSuggester


def unknown_product(product: str, conductor_url: str, *, strict: bool) -> str | None:
    """Return a warning if the conductor's graph does not know `product`, else None.

    Parameters
    ----------
    product : str
        The name of a product that is to be imported.
    conductor_url : str
        The conductor that is asked. Importing takes the sdb alone: without `strict`, a conductor
        that does not answer says nothing.
    strict : bool
        Whether an unknown product, or a conductor that does not answer, is an error.

    Raises
    ------
    ConfigurationError
        With `strict`, if the graph does not know it.
    ServiceError
        With `strict`, if the conductor does not answer.
    """
    from batuta.graph import Graph  # noqa: PLC0415  for --help to be fast
    from batuta.service.client import ServiceError  # noqa: PLC0415

    try:
        with conductor_at(conductor_url) as conductor:
            graph = Graph.parse(conductor.graph())
    except ServiceError:
        if strict:
            raise
        return None
    if graph.knows(product):
        return None
    names = [*graph.inputs, *graph.products]
    hint = NameSuggester(names).hint(product)
    line = f"product {product!r}: the graph of the conductor at {conductor_url} has no such{hint}"
    if strict:
        raise ConfigurationError(f"{line}; not imported (--strict)")
    return f"{line}: nothing will be made of it"
