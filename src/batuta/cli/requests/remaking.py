"""`batuta make --downstream`: a product, then all that follows from it, in order."""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import typer

from batuta.cli.output import console, print_json
from batuta.errors import BatutaError, printable
from batuta.graph import Graph, OnUpdate

if TYPE_CHECKING:
    from batuta.cli.conductor_client import ConductorClient

POLL_INTERVAL_S: Final = 0.3
ENDED: Final = ("succeeded", "failed", "cancelled")


class DownstreamError(BatutaError):
    """Something that was to be remade was not."""


def remake_downstream(
    conductor: "ConductorClient",
    orders: Sequence[tuple[str, str]],
    work_class: str | None = None,
    *,
    as_json: bool,
) -> None:
    """Make products, and all that follows from each in the graph, each once, in order.

    Each is made from the new versions of what it is made from: it is requested once these are
    there. What the graph has reprocessed by itself (`on_update`) is waited for, not requested. What
    follows from one that fails is left as it is.

    Raises
    ------
    DownstreamError
        Naming what failed, and what was left for it.
    """
    graph = Graph.parse(conductor.graph())
    made: list[dict[str, Any]] = []
    problems: list[str] = []
    for obs_id in dict.fromkeys(each for _, each in orders):
        roots = [product for product, each in orders if each == obs_id]
        _remake_observation(conductor, graph, obs_id, roots, work_class, made, problems)
    if as_json:
        print_json(made)
    if problems:
        raise BaseExceptionGroup("some were not made", [DownstreamError(each) for each in problems])


def _remake_observation(
    conductor: "ConductorClient",
    graph: Graph,
    obs_id: str,
    roots: Sequence[str],
    work_class: str | None,
    made: list[dict[str, Any]],
    problems: list[str],
) -> None:
    after = {name for root in roots for name in graph.after(root)}
    order = [name for level in graph.levels() for name in level if name in after.union(roots)]
    lost: set[str] = set()
    for name in order:
        product = graph.products[name]
        failed = [each for each in product.m_input if each in lost]
        if failed:
            lost.add(name)
            problems.append(f"{name} of {obs_id}: left as it is: {', '.join(failed)} failed")
            continue
        automatic = name not in roots and product.on_update is OnUpdate.REPROCESS
        try:
            ended = _make(conductor, name, obs_id, work_class, automatic=automatic)
        except DownstreamError as exc:
            # Of what does not follow from this one, nothing is lost: the others are still made.
            lost.add(name)
            problems.append(str(exc))
            continue
        made.append(ended)
        typer.echo(printable(f"{name} of {obs_id}: {ended['state']}"), err=True)
        if ended["state"] != "succeeded":
            lost.add(name)
            problems.append(f"{name} of {obs_id}: {ended['state']}: {ended['error']}")


def _make(
    conductor: "ConductorClient",
    product: str,
    obs_id: str,
    work_class: str | None,
    *,
    automatic: bool,
) -> dict[str, Any]:
    """Request a product; return its processing once that has ended and the product is available.

    Raises
    ------
    DownstreamError
        If it cannot be requested, or the conductor did not request it by itself; says why.
    """
    if automatic:
        why = conductor.why(product, obs_id)
        if not why["processings"]:
            raise DownstreamError(f"{product} of {obs_id}: {why['answer']}")
        processing_id = why["processings"][-1]["id"]
    else:
        answer = conductor.make_many([(product, obs_id)], work_class)[0]
        if answer["problem"] is not None:
            raise DownstreamError(answer["problem"])
        processing_id = answer["processing"]["id"]
    with console.status(printable(f"{product} of {obs_id}")):
        while True:
            processing = conductor.processing(processing_id)
            if processing["state"] in ENDED and _is_announced(conductor, processing):
                return processing
            time.sleep(POLL_INTERVAL_S)


def _is_announced(conductor: "ConductorClient", processing: Mapping[str, Any]) -> bool:
    """Return whether the conductor has heard of the product of a success: others follow then."""
    if processing["state"] != "succeeded":
        return True
    found = conductor.following(processing["product"], processing["obs_id"], 0)
    since = found["since"] and datetime.fromisoformat(found["since"])
    requested = processing["requested"] or processing["created"]
    return bool(since and since >= datetime.fromisoformat(requested))
