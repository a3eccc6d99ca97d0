"""Describes a pipeline as JSON: ``python -m batuta.pipeline.describe MODULE:NAME``.

Loading a pipeline runs its author's module. Whoever wants to know what it declares, and not to be
touched by what the module does when it is imported, asks this program.
"""

import json
import os
import sys
from typing import Any

from batuta.errors import ConfigurationError, describe_error
from batuta.pipeline.declaration import Pipeline
from batuta.pipeline.loading import load


def main(reference: str) -> None:
    """Write the description of a pipeline, or why it cannot be loaded, to standard output."""
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what the module prints must not mix with the answer
    with open(answer_to, "w", encoding="utf-8") as answer:  # noqa: PTH123  a descriptor
        json.dump(describe(reference), answer)


def describe(reference: str) -> dict[str, Any]:
    """Return the description of a pipeline, or ``{"problems": [...]}``."""
    try:
        return _description(load(reference))
    except ConfigurationError as exc:
        return {"problems": list(exc.problems)}
    except BaseException as exc:  # noqa: BLE001  a module may exit, or raise what it likes
        reason = f"its module cannot be imported: {describe_error(exc)}"
        return {"problems": [f"pipeline {reference!r}: {reason}"]}


def _description(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "name": pipeline.name,
        "products": {
            name: {
                "inputs": spec.inputs,
                "optional": spec.optional,
                "also_makes": spec.also_makes,
                "keys": spec.graph_keys,
            }
            for name, spec in pipeline.products.items()
        },
    }


if __name__ == "__main__":
    main(sys.argv[1])
