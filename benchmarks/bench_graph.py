"""What a very large product graph costs: reading, checking, asking what can be made.

Run it as ``python benchmarks/bench_graph.py [PRODUCTS]``; 100,000 products by default. Times are
the best of three runs, and told as ratios to ``json.loads`` of the same text. Like timeit, they
leave the garbage collector out, but for the last row: it walks all that lives in the process, so
that its share says more about Python than about the step.
"""

import json
import random
import sys
import timeit
from collections.abc import Callable

from batuta.graph import Graph

_SEED = 20251121
_REPEATS = 3


def document(products: int) -> dict[str, object]:
    """Make a graph of that many products, and a tenth as many inputs, each fed by nearby ones."""
    draw = random.Random(_SEED)  # noqa: S311 - nothing secret
    inputs = [f"Input_{rank}" for rank in range(max(products // 10, 10))]
    names = list(inputs)
    made: dict[str, object] = {}
    for rank in range(products):
        near = names[-2000:] if rank % 10 else inputs
        chosen = draw.sample(near, draw.randint(2, 5))
        provider = f"pipeline_{rank % 50}"
        made[f"Product_{rank}"] = {
            "m_input": chosen[:-1],
            "o_input": chosen[-1:],
            "provider": provider,
            "url": f"http://{provider}:5000/pipeline",
        }
        names.append(f"Product_{rank}")
    return {"inputs": inputs, "products": made}


def best_s(work: Callable[[], object], setup: str = "pass") -> float:
    """Return the shortest of a few runs, in seconds."""
    return min(timeit.repeat(work, setup, number=1, repeat=_REPEATS))


def measure(products: int) -> dict[str, float]:
    """Return the seconds that each step takes."""
    text = json.dumps(document(products))
    graph = Graph.parse(text)
    half = graph.inputs[::2]
    graph.reachable(half)  # once, so that the index of who feeds whom is there, as in a service
    return {
        "json.loads": best_s(lambda: json.loads(text)),
        "read and check": best_s(lambda: Graph.parse(text)),
        "reachable": best_s(lambda: graph.reachable(half)),
        "read, check, reachable": best_s(lambda: Graph.parse(text).reachable(half)),
        "fed_by, every name": best_s(
            lambda: [graph.fed_by(name) for name in (*graph.inputs, *graph.products)]
        ),
        "read, check, collector on": best_s(lambda: Graph.parse(text), "import gc; gc.enable()"),
    }


def main() -> None:
    """Print the table for a tenth of the products and for all of them."""
    products = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    small, large = measure(products // 10), measure(products)
    print(f"{'step':28}{products // 10:>12,}{products:>12,}{'growth':>9}{'x json.loads':>14}")
    for step, large_s in large.items():
        growth, ratio = large_s / small[step], large_s / large["json.loads"]
        print(f"{step:28}{small[step]:>10.3f} s{large_s:>10.3f} s{growth:>8.1f}x{ratio:>14.2f}")


if __name__ == "__main__":
    main()
