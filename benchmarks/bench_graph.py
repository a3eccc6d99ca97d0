"""What a very large product graph costs: reading, checking, asking what can be made.

Run it as ``python benchmarks/bench_graph.py [PRODUCTS]``; 100,000 products by default. Times are
CPU times per product, the best of five runs, for a quarter, a half and all of the products: a
linear step shows the same figure in each column, but for the memory caches that a larger graph
leaves, which ``json.loads`` shows as well. Like timeit, they leave the garbage collector out, but
for the last row: it walks all that lives in the process, so that its share depends on that.
"""

import json
import random
import sys
import time
import timeit
from collections.abc import Callable

from batuta.graph import Graph

_SEED = 20251121
_REPEATS = 5


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
    return min(timeit.repeat(work, setup, time.process_time, repeat=_REPEATS, number=1))


def measure(products: int) -> dict[str, float]:
    """Return the seconds that each step takes."""
    text = json.dumps(document(products))
    graph = Graph.parse(text)
    graph.reachable(graph.inputs)  # builds the index of who feeds whom, as a service does once
    return {
        "json.loads": best_s(lambda: json.loads(text)),
        "read and check": best_s(lambda: Graph.parse(text)),
        "reachable": best_s(lambda: graph.reachable(graph.inputs)),
        "read, check, reachable": best_s(lambda: Graph.parse(text).reachable(graph.inputs)),
        "fed_by, every name": best_s(
            lambda: [graph.fed_by(name) for name in (*graph.inputs, *graph.products)]
        ),
        "read, check, collector on": best_s(lambda: Graph.parse(text), "import gc; gc.enable()"),
    }


def main() -> None:
    """Print the table."""
    products = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    sizes = (products // 4, products // 2, products)
    measured = [measure(size) for size in sizes]
    print(f"{'us per product':28}", *(f"{size:>10,}" for size in sizes), f"{'x json.loads':>14}")
    for step, total_s in measured[-1].items():
        costs = (1e6 * each[step] / size for each, size in zip(measured, sizes, strict=True))
        ratio = total_s / measured[-1]["json.loads"]
        print(f"{step:28}", *(f"{cost:>10.2f}" for cost in costs), f"{ratio:>14.2f}")


if __name__ == "__main__":
    main()
