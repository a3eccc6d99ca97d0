"""What an operator orders of a campaign, read against the graph: products, observations, times."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from batuta.conductor.database.campaigns.campaign_planning import Target
from batuta.conductor.database.views.campaign_views import Selection
from batuta.conductor.decisions.campaigns import CampaignScope, NamePatterns, is_pattern
from batuta.errors import ConfigurationError
from batuta.graph import Graph, GraphError, compare
from batuta.names import NAME_RULE
from batuta.service.instants import Instant
from batuta.spelling import NameSuggester
from batuta.work_classes import WorkClass

MAX_NAMES: Final = 100_000
"""Observations that may be given by name."""
MAX_CONCURRENT: Final = 10_000
DEFAULT_CONCURRENT: Final = 1000
_NAME_OR_PATTERN: Final = re.compile(r"[A-Za-z0-9*?][A-Za-z0-9_.:+*?-]{0,127}")


def _check_pattern(value: str) -> str:
    if _NAME_OR_PATTERN.fullmatch(value) is None:
        raise ValueError(f"{value!r:.200} is not a name or a pattern ({NAME_RULE}; * and ?)")
    return value


NameOrPattern = Annotated[str, AfterValidator(_check_pattern)]
"""A name; ``*`` stands for any text, ``?`` for any letter."""


class PlanOrder(BaseModel):
    """A campaign that is to be planned.

    `products` and `obs_ids` are names or patterns; no observations: all. `graph` is the document of
    a new graph: then what it starts and makes stale is planned, and the campaign can be started
    once it is in force. Without `class` it is a backfill if its scope is ``missing``, else it
    reprocesses.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: Annotated[
        str | None, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
    ] = None
    products: Annotated[list[NameOrPattern], Field(max_length=1000)] = []
    scope: CampaignScope = CampaignScope.ALL
    downstream: bool = False
    obs_ids: Annotated[list[NameOrPattern], Field(max_length=MAX_NAMES)] = []
    since: Instant | None = None
    until: Instant | None = None
    graph: dict[str, Any] | None = None
    work_class: WorkClass | None = Field(None, alias="class")
    priority: Annotated[int | None, Field(ge=-1_000_000, le=1_000_000)] = None
    max_concurrent: Annotated[int, Field(ge=1, le=MAX_CONCURRENT)] = DEFAULT_CONCURRENT


@dataclass(frozen=True, kw_only=True)
class ReadOrder:
    """An order as it is understood: with which graph, what it is about, and its record."""

    graph: Graph
    target: Target
    values: Mapping[str, Any]


def read_order(order: PlanOrder, graph: Graph) -> ReadOrder:
    """Return what an order means.

    Raises
    ------
    ConfigurationError
        With every mistake, one line each.
    """
    problems: list[str] = []
    planned_with = graph
    if order.graph is not None:
        try:
            planned_with = Graph.parse(dict(order.graph), "graph")
        except GraphError as exc:
            raise ConfigurationError(exc.problems) from exc
    products = _products(order, graph, planned_with, problems)
    if order.since is not None and order.until is not None and order.since >= order.until:
        problems.append(
            f"until: {order.until.isoformat()} is not after since, {order.since.isoformat()}"
        )
    if problems:
        raise ConfigurationError(problems)
    by_pattern = any(is_pattern(each) for each in order.obs_ids)
    names = None if by_pattern or not order.obs_ids else order.obs_ids
    patterns = order.obs_ids if by_pattern else []
    selection = Selection(
        products=products,
        scope=order.scope,
        downstream=order.downstream,
        new_graph=order.graph is not None,
        patterns=patterns[:1000],
        names=None if names is None else len(set(names)),
        since=order.since,
        until=order.until,
    )
    default = WorkClass.BACKFILL if order.scope is CampaignScope.MISSING else WorkClass.REPROCESS
    return ReadOrder(
        graph=planned_with,
        target=Target(
            products=products,
            scope=order.scope,
            names=names,
            patterns=NamePatterns(patterns),
            since=None if order.since is None else order.since.timestamp(),
            until=None if order.until is None else order.until.timestamp(),
        ),
        values={
            "name": order.name,
            "selection": selection.model_dump(mode="json"),
            "graph": planned_with.digest,
            "work_class": order.work_class or default,
            "priority": order.priority,
            "max_concurrent": order.max_concurrent,
        },
    )


def _products(
    order: PlanOrder, graph: Graph, planned_with: Graph, problems: list[str]
) -> list[str]:
    """Return the products that an order names, in the order of the graph; note what is wrong."""
    known = planned_with.products
    if order.graph is not None:
        comparison = compare(graph, planned_with)
        found = {*comparison.startable, *comparison.stale}
        if not found:
            problems.append("graph: it makes nothing that the graph in force does not make alike")
        if order.products:
            found &= _named(order.products, planned_with, problems)
            if not found and not problems:
                problems.append("products: the new graph makes none of them otherwise")
    elif order.products:
        found = _named(order.products, planned_with, problems)
    elif order.scope in (CampaignScope.STALE, CampaignScope.FAILED):
        found = set(known)
    else:
        problems.append(
            f"products: none given, with scope {order.scope} (accepted: names or patterns of "
            "products; none with scope stale or failed, or with a new graph)"
        )
        found = set()
    if order.downstream:
        found |= {after for name in found for after in planned_with.after(name)}
    return [name for level in planned_with.levels() for name in level if name in found]


def _named(given: list[str], graph: Graph, problems: list[str]) -> set[str]:
    found: set[str] = set()
    for each in given:
        matching = NamePatterns([each]).matching(graph.products)
        found |= matching
        if matching:
            continue
        if each in graph.inputs:
            problems.append(f"products: {each} is an input: no pipeline makes it")
        else:
            hint = NameSuggester([*graph.products]).hint(each)
            known = ", ".join(sorted(graph.products))
            problems.append(f"products: {each!r}: not in the graph{hint} (known: {known})")
    return found
