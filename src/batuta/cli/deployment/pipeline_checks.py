"""Whether the pipelines of an orchestra make what its graph expects of them."""

import json
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batuta.cli.deployment.supervisor import python_program
from batuta.graph import DeclaredPipeline, DeclaredProduct, Graph, Product
from batuta.spelling import NameSuggester

_SERVICES: Final = frozenset({"nats", "sdb", "conductor", "simulate"})

LOAD_TIMEOUT_S: Final = 120.0
"""How long loading a pipeline may take, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is wrong, and what only may be."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def load_declarations(
    uses: Sequence[str], folder: Path
) -> tuple[list[DeclaredPipeline], list[str]]:
    """Load pipelines, each in a process of its own, and return what they declare.

    Parameters
    ----------
    uses : sequence of str
        ``MODULE:NAME``, or a file, for each.
    folder : Path
        Where modules and files are looked for first.

    Returns
    -------
    tuple of list of DeclaredPipeline and list of str
        Those that could be loaded, and one line for each mistake of the others.
    """
    # All at once: each takes as long as the libraries that its module imports.
    started = [(use, _start(use, folder)) for use in uses]
    declared: list[DeclaredPipeline] = []
    problems: list[str] = []
    for use, process in started:
        answer = _answer(process, use)
        if isinstance(answer, DeclaredPipeline):
            declared.append(answer)
        else:
            problems += answer
    return declared, problems


def _start(use: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        python_program("-m", "batuta.pipeline.describe", use),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _answer(process: subprocess.Popen[bytes], use: str) -> DeclaredPipeline | list[str]:
    with process:
        try:
            output, _ = process.communicate(timeout=LOAD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return [f"pipeline {use!r}: its module is not imported after {LOAD_TIMEOUT_S:g} s"]
        except BaseException:
            process.kill()
            raise
    try:
        document = json.loads(output)
    except ValueError:
        return [f"pipeline {use!r}: importing its module ended the process that imported it"]
    if "problems" in document:
        return [str(line) for line in document["problems"]]
    products = {
        name: DeclaredProduct(
            inputs=tuple(product["inputs"]),
            optional=tuple(product["optional"]),
            also_makes=tuple(product["also_makes"]),
            keys=product["keys"],
        )
        for name, product in document["products"].items()
    }
    return DeclaredPipeline(use=use, name=document["name"], products=products)


def compare(
    graph: Graph,
    pipelines: Sequence[DeclaredPipeline],
    *,
    elsewhere: Collection[str] = (),
    simulated: bool = False,
) -> Findings:
    """Compare a graph with the pipelines that are to make its products.

    What would certainly fail is a problem. What may be intended is a warning: a provider that runs
    elsewhere, at its `url`; a product that a pipeline offers and the graph does not use; an input
    that is waited for, but not read.

    Parameters
    ----------
    graph : Graph
        The product graph.
    pipelines : sequence of DeclaredPipeline
        Those that are started with it.
    elsewhere : collection of str
        Providers whose address the configuration gives: they run elsewhere.
    simulated : bool
        Whether providers without a pipeline are simulated.
    """
    by_name = {each.name: each for each in pipelines}
    problems = [*_repeated(pipelines)]
    warnings: list[str] = []
    for pipeline in by_name.values():
        problems += _wrong_products(graph, pipeline)
        warnings += _unused(graph, pipeline)
    if not simulated:
        absent = graph.providers.keys() - by_name.keys() - set(elsewhere)
        for provider in sorted(absent):
            found = _absent_provider(graph, provider, pipelines)
            problems += found.problems
            warnings += found.warnings
    return Findings(problems=tuple(problems), warnings=tuple(warnings))


def _repeated(pipelines: Sequence[DeclaredPipeline]) -> Iterator[str]:
    first: dict[str, str] = {}
    for each in pipelines:
        if each.name in _SERVICES:
            yield f"pipeline {each.name!r} ({each.use}): that is the name of another service here"
        if each.name in first:
            yield (
                f"pipelines {first[each.name]} and {each.use}: both are named {each.name!r} "
                "(accepted: each name once)"
            )
        first.setdefault(each.name, each.use)


def _wrong_products(graph: Graph, pipeline: DeclaredPipeline) -> Iterator[str]:
    """Yield what the graph expects of a pipeline and it does not do, or not so."""
    where = f"pipeline {pipeline.name!r} ({pipeline.use})"
    for product in graph.products.values():
        if product.provider != pipeline.name:
            continue
        declared = pipeline.products.get(product.name)
        if declared is None:
            hint = NameSuggester(list(pipeline.products)).hint(product.name)
            made = ", ".join(pipeline.products) or "nothing"
            yield f"{product.name}: {where} does not make it{hint} (it makes {made})"
        else:
            yield from _wrong_inputs(product, declared, where)


def _wrong_inputs(product: Product, declared: DeclaredProduct, where: str) -> Iterator[str]:
    for name in declared.inputs:
        if name in product.m_input:
            continue
        say = "an o_input" if name in product.o_input else "no input"
        yield (
            f"{product.name}: {where} needs {name}, which is {say} of it in the graph "
            "(accepted: the inputs of the function are among its m_input)"
        )


def _unused(graph: Graph, pipeline: DeclaredPipeline) -> Iterator[str]:
    where = f"pipeline {pipeline.name!r} ({pipeline.use})"
    for name, declared in pipeline.products.items():
        product = graph.products.get(name)
        if product is None:
            hint = NameSuggester(list(graph.products)).hint(name)
            yield f"{name}: {where} makes it, but the graph does not have it{hint}"
        elif product.provider == pipeline.name:
            yield from _other_inputs(product, declared, where)


def _other_inputs(product: Product, declared: DeclaredProduct, where: str) -> Iterator[str]:
    """Yield inputs that only one of graph and pipeline has: harmless, but rarely meant."""
    graphs, pipelines = (*product.m_input, *product.o_input), (*declared.inputs, *declared.optional)
    for name in graphs:
        if name not in pipelines:
            hint = NameSuggester(pipelines).hint(name)
            yield f"{product.name}: waits for {name}, which {where} does not declare as input{hint}"
    for name in declared.optional:
        if name not in graphs:
            yield (
                f"{product.name}: {where} may read {name}, which is no input of it in the graph: "
                "nothing waits for it"
            )


def _absent_provider(
    graph: Graph, provider: str, pipelines: Sequence[DeclaredPipeline]
) -> Findings:
    made = [each.name for each in graph.products.values() if each.provider == provider]
    for each in pipelines:
        here = [name for name in made if name in each.products]
        if here:
            problem = (
                f"{', '.join(here)}: the provider in the graph is {provider!r}, but {each.use} "
                f"is named {each.name!r} (accepted: the same name)"
            )
            return Findings(problems=(problem,))
    hint = NameSuggester([each.name for each in pipelines]).hint(provider)
    url = ", ".join(graph.providers[provider].urls)
    warning = (
        f"{', '.join(made)}: no pipeline here is the provider {provider!r}{hint}; expected at {url}"
    )
    return Findings(warnings=(warning,))
