"""The sdb's list of products: what selects it, and in which order."""

from dataclasses import dataclass

import sqlalchemy as sa

from batuta.sdb.tables import LISTED, PRODUCTS, newer_versions
from batuta.service.listing import Listing, equals_unindexed


@dataclass(frozen=True, kw_only=True)
class ProductQuery:
    """Which products to list; `after` is the `id` of the last one of the page before.

    `withdrawn` lists versions that were withdrawn, and no others.
    """

    product: str | None = None
    obs_id: str | None = None
    latest: bool = False
    withdrawn: bool = False
    limit: int = 100
    after: int = 0


def list_products(query: ProductQuery) -> Listing:
    """List versions of products, in the order of their import."""
    table = PRODUCTS.c
    withdrawn = table.withdrawn.is_not(None)
    of_observation = [table.obs_id == query.obs_id] if query.obs_id is not None else []
    of_product = [table.product == query.product] if query.product is not None else []
    newest = [~newer_versions().exists()] if query.latest else []
    selected: list[sa.ColumnElement[bool] | sa.TextClause]
    # By the first of these that selects few, each with an index in this order.
    if query.withdrawn:
        named = [(table.product, query.product), (table.obs_id, query.obs_id)]
        selected = [withdrawn]
        checked = [equals_unindexed(name, value) for name, value in named if value is not None]
    elif of_observation:
        selected, checked = [*of_observation], [sa.not_(withdrawn), *of_product]
    elif of_product:
        selected, checked = [sa.text(LISTED), *of_product], [sa.not_(withdrawn)]
    else:
        selected, checked = [], [sa.not_(withdrawn)]
    return Listing(
        query=sa.select(PRODUCTS), key=[table.id], selected=selected, checked=[*checked, *newest]
    )
