"""Graphs that the tests of this package are made with."""

from typing import Any

from hypothesis import strategies as st

URL = "http://pipeline:5000/pipeline"


def product(*m_input: str, **keys: object) -> dict[str, Any]:
    """Make the entry of a product of one and the same provider."""
    return {"m_input": list(m_input), "provider": "pipeline", "url": URL, **keys}


def document(inputs: list[str], **products: dict[str, Any]) -> dict[str, Any]:
    return {"inputs": inputs, "products": products}


def small() -> dict[str, Any]:
    """A right graph: two inputs, three products, two levels."""
    return document(
        ["EclTmVhfAlert", "EclTmVhfHPLcurve"],
        QPO_ECL=product("EclTmVhfAlert"),
        QLC_ECL=product("EclTmVhfHPLcurve", o_input=["EclTmVhfAlert"]),
        QSP_ECL=product("QLC_ECL", o_input=["QPO_ECL"]),
    )


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Any graph without a mistake, its products in any order."""
    inputs = [f"I{rank}" for rank in range(draw(st.integers(1, 5)))]
    names = list(inputs)
    products = {}
    for rank in range(draw(st.integers(0, 12))):
        chosen = draw(st.lists(st.sampled_from(names), min_size=1, max_size=5, unique=True))
        mandatory = draw(st.integers(1, len(chosen)))
        products[f"P{rank}"] = product(
            *chosen[:mandatory],
            o_input=chosen[mandatory:],
            timeout=draw(st.floats(0.001, 1e6)),
            max_attempts=draw(st.integers(1, 50)),
            priority=draw(st.integers(-9, 9)),
            o_wait=draw(st.floats(0, 1e6)),
            on_update=draw(st.sampled_from(["reprocess", "ignore"])),
            o_wait_from=draw(st.sampled_from(["complete", "first_input", "last_input"])),
            o_min=draw(st.integers(0, len(chosen) - mandatory)),
            due=draw(st.none() | st.floats(1, 10)),
            expires=draw(st.none() | st.floats(10, 1e6)),
            due_from=draw(st.sampled_from(["first_input", "event_time"])),
            on_late=draw(st.sampled_from(["improve", "ignore"])),
            stages=draw(st.sampled_from(["each", "final", "first_and_final", "first"])),
        )
        names.append(f"P{rank}")
    shuffled = draw(st.permutations(list(products)))
    providers = {"pipeline": {"max_concurrent": draw(st.none() | st.integers(1, 9))}}
    return {
        "inputs": inputs,
        "expected": draw(st.lists(st.sampled_from(inputs), unique=True)),
        "products": {name: products[name] for name in shuffled},
        "providers": providers if products else {},
    }
