"""What is made: a graph of up to 25 products, and what each of them consists of."""

import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

INPUTS: Final = ("RAW", "AUX")
MAX_PRODUCTS: Final = 25
ATTEMPTS: Final = 1000
"""Nothing may fail for good, however many services are down."""
FAILING: Final = 1 / 5
HANGING: Final = 1 / 50
HANG_LIMIT_S: Final = 6.0
"""After so long a run that hangs is ended, by its pipeline or by the conductor."""
PATIENT_LIMIT_S: Final = 120.0
"""The limit of the other of the two."""
LOST_AFTER_S: Final = 12.0
SMALL_BYTES: Final = 400
LARGE_BYTES: Final = 80_000
"""More than the sdb keeps in its database."""

Fate = Literal["made", "raises", "exits", "killed", "hangs", "hangs_on"]
"""`hangs_on`: it does not end when it is asked to."""


@dataclass(frozen=True)
class Made:
    """What a product is made from, and by whom."""

    mandatory: tuple[str, ...]
    optional: tuple[str, ...]
    provider: str


def products(number: int, providers: tuple[str, ...]) -> dict[str, Made]:
    """Return the first `number` products of the graph: chains, joins and optional inputs."""
    names = [f"P{each:02}" for each in range(1, number + 1)]
    return {name: _made(at, names, providers) for at, name in enumerate(names)}


def _made(at: int, names: list[str], providers: tuple[str, ...]) -> Made:
    provider = providers[at % len(providers)]
    match at:
        case 0 | 1:
            return Made((INPUTS[at],), (), provider)
        case 2:
            return Made(INPUTS, (), provider)
    mandatory = [names[at // 2]]
    if at % 3 == 0:
        mandatory.append(names[at - 3])
    optional = (names[at - 2],) if at % 5 == 0 and names[at - 2] not in mandatory else ()
    return Made(tuple(dict.fromkeys(mandatory)), optional, provider)


def function_timeout_s(product: str) -> float:
    """Return after how long the pipeline ends a run."""
    return HANG_LIMIT_S if _is_ended_by_pipeline(product) else PATIENT_LIMIT_S


def document(made: Mapping[str, Made], urls: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the graph, as the conductor reads it; `urls` are the addresses of providers."""
    return {
        "inputs": list(INPUTS),
        "products": {
            name: {
                "m_input": list(each.mandatory),
                "o_input": list(each.optional),
                "o_wait": 20 if each.optional else 0,
                "provider": each.provider,
                "url": urls[each.provider],
                "max_attempts": ATTEMPTS,
                "timeout": PATIENT_LIMIT_S if _is_ended_by_pipeline(name) else HANG_LIMIT_S,
            }
            for name, each in made.items()
        },
        "providers": {name: {"lost_after": LOST_AFTER_S} for name in urls},
    }


def content_of(product: str, obs_id: str, inputs: Mapping[str, str]) -> bytes:
    """Return the bytes of a product; `inputs` are the digests of what it is made from."""
    head = json.dumps([product, obs_id, sorted(inputs.items())]).encode()
    size = LARGE_BYTES if product[-1] in "05" else SMALL_BYTES
    return head + b"\n" + hashlib.shake_256(head).digest(size)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a product, as the sdb writes it."""
    return hashlib.sha256(content).hexdigest()


def fate(seed: int, product: str, obs_id: str, run: int) -> Fate:
    """Return how a run of a processing ends; the same for a seed, whenever it runs."""
    chance = random.Random(f"{seed} {product} {obs_id} {run}")  # noqa: S311  a test, no secrets
    drawn = chance.random()
    if drawn < FAILING:
        return chance.choice(("raises", "raises", "exits", "killed"))
    if drawn < FAILING + HANGING:
        return chance.choice(("hangs", "hangs_on"))
    return "made"


def _is_ended_by_pipeline(product: str) -> bool:
    return int(product[1:]) % 2 == 0
