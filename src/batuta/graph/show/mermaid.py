"""The graph as a Mermaid flowchart, which GitHub and many wikis draw."""

from batuta.graph.graph import Graph
from batuta.graph.show.colours import provider_colours


def as_mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart, from left to right.

    Solid arrows are mandatory inputs, dotted ones optional; each provider has its colour and
    its entry in a legend.
    """
    # Names may hold what Mermaid takes for syntax, so that nodes are numbered instead.
    ids = {name: f"n{rank}" for rank, name in enumerate([*graph.inputs, *graph.products])}
    classes = {name: f"p{rank}" for rank, name in enumerate(graph.providers)}
    lines = ["flowchart LR"]
    lines += [f'  {ids[name]}(["{name}"]):::input' for name in graph.inputs]
    lines += [
        f'  {ids[name]}["{name}"]:::{classes[product.provider]}'
        for name, product in graph.products.items()
    ]
    for name, product in graph.products.items():
        lines += [f"  {ids[source]} --> {ids[name]}" for source in product.m_input]
        lines += [f"  {ids[source]} -.-> {ids[name]}" for source in product.o_input]
    lines += ["  subgraph providers"]
    lines += [f'    l{each}["{name}"]:::{each}' for name, each in classes.items()]
    lines += ["  end", "  classDef input fill:none,stroke:#888888"]
    lines += [
        f"  classDef {classes[name]} fill:{colour},stroke:{colour},color:#ffffff"
        for name, colour in provider_colours(graph).items()
    ]
    return "\n".join(lines) + "\n"
