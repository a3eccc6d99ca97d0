"""Every mistake is told in one line: the place, what was given, what is accepted."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batuta.errors import ConfigurationError
from batuta.graph import Graph, GraphError, read_graph
from tests.graph.documents import URL, document, documents, product, small


def problems_of(given_graph: str | dict[str, Any], source: str = "graph.json") -> tuple[str, ...]:
    with pytest.raises(GraphError) as caught:
        Graph.parse(given_graph, source)
    assert all("\n" not in problem for problem in caught.value.problems)
    assert all(problem.startswith(f"{source}: ") for problem in caught.value.problems)
    return tuple(problem.removeprefix(f"{source}: ") for problem in caught.value.problems)


def only_problem_of(given_graph: str | dict[str, Any], source: str = "graph.json") -> str:
    (problem,) = problems_of(given_graph, source)
    return problem


def changed(*place: str, to: object) -> dict[str, Any]:
    """Return the small graph with one value changed, deep in it."""
    whole = small()
    part = whole
    for key in place[:-1]:
        part = part.setdefault(key, {})
    part[place[-1]] = to
    return whole


def without(*place: str) -> dict[str, Any]:
    whole = changed(*place, to=None)
    part = whole
    for key in place[:-1]:
        part = part[key]
    del part[place[-1]]
    return whole


def test_a_graph_error_is_a_configuration_error() -> None:
    assert issubclass(GraphError, ConfigurationError)


@pytest.mark.parametrize(
    ("place", "value", "accepted"),
    [
        (("inputs",), "EclTmVhfAlert", "a list of names"),
        (("products",), [], "a product per name"),
        (("providers",), [], "a provider per name"),
        (("classes",), [], "a whole number from 1 to 1000000 for any of alert, live"),
        (("classes", "alert"), 0, "a whole number from 1 to 1000000 for any of alert, live"),
        (("providers", "pipeline", "max_concurrent_by_class", "live"), "4", "any of alert, live"),
        (("products", "QPO_ECL", "class"), "urgent", "one of alert, live, reprocess, backfill"),
        (("products", "QPO_ECL"), 3, "an object with the keys m_input"),
        (("products", "QPO_ECL", "m_input"), "EclTmVhfAlert", "a list of at least one name"),
        (("products", "QPO_ECL", "m_input"), [], "without any, nothing triggers it"),
        (("products", "QPO_ECL", "m_input"), None, "a list of at least one name"),
        (("products", "QPO_ECL", "o_input"), {}, "a list of names"),
        (("products", "QPO_ECL", "provider"), "a.b", "a service's name"),
        (("products", "QPO_ECL", "provider"), 3, "a service's name"),
        (("products", "QPO_ECL", "timeout"), "60", "seconds, above 0"),
        (("products", "QPO_ECL", "timeout"), 0, "seconds, above 0"),
        (("products", "QPO_ECL", "timeout"), True, "seconds, above 0"),
        (("products", "QPO_ECL", "timeout"), float("inf"), "seconds, above 0"),
        (("products", "QPO_ECL", "timeout"), float("nan"), "seconds, above 0"),
        (("products", "QPO_ECL", "max_attempts"), 0, "a whole number from 1"),
        (("products", "QPO_ECL", "max_attempts"), 2.0, "a whole number from 1"),
        (("products", "QPO_ECL", "max_attempts"), True, "a whole number from 1"),
        (("products", "QPO_ECL", "priority"), 10**9, "a whole number within"),
        (("products", "QPO_ECL", "priority"), "high", "a whole number within"),
        (("products", "QPO_ECL", "o_wait"), -1, "seconds, from 0"),
        (("products", "QPO_ECL", "due"), 0, "seconds, above 0"),
        (("products", "QPO_ECL", "expires"), "60", "seconds, above 0"),
        (("products", "QPO_ECL", "due_from"), "now", "'first_input' or 'event_time'"),
        (("products", "QPO_ECL", "o_min"), -1, "a whole number"),
        (("products", "QPO_ECL", "o_min"), "1", "a whole number"),
        (("products", "QPO_ECL", "o_wait_from"), "now", "'complete', 'first_input' or"),
        (("products", "QPO_ECL", "on_late"), "reprocess", "'improve' or 'ignore'"),
        (("products", "QPO_ECL", "stages"), "last", "'each', 'final', 'first_and_final' or"),
        (("expected",), "A", "a list of names that are among the inputs"),
        (("products", "QPO_ECL", "on_update"), "always", "'reprocess' or 'ignore'"),
        (("products", "QPO_ECL", "on_update"), False, "'reprocess' or 'ignore'"),
        (("providers", "pipeline"), 4, "an object with the keys max_concurrent"),
        (("providers", "pipeline", "max_concurrent"), 0, "a whole number from 1"),
        (("providers", "pipeline", "max_concurrent"), "4", "a whole number from 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_what_is_accepted(
    place: tuple[str, ...], value: object, accepted: str
) -> None:
    problem = problems_of(changed(*place, to=value))[0]
    assert problem.startswith(f"{'.'.join(place)}: {value!r} is refused (accepted: ")
    assert accepted in problem


@pytest.mark.parametrize(
    "place", [("classes",), ("providers", "pipeline", "max_concurrent_by_class")]
)
def test_an_unknown_class_is_named_with_the_classes(place: tuple[str, ...]) -> None:
    problem = problems_of(changed(*place, "urgent", to=1))[0]
    assert problem.startswith(f"{'.'.join(place)}: 'urgent' is refused (accepted: ")
    assert problem.endswith("any of alert, live, reprocess, backfill)")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pipeline:5000",
        "ftp://pipeline/pipeline",
        "http://",
        "http:///pipeline",
        "http://pipeline:port/",
        "http://pipeline:99999/",
        "http://user:secret@pipeline/",
        "http://pipeline/?a=b",
        "http://pipeline/#top",
        "http://pipe line/",
        "http://pipeline/\n",
        "http://pipeline/é",
        "http://[::1/pipeline",
        5000,
    ],
)
def test_what_is_not_the_address_of_a_service_is_refused(url: object) -> None:
    problem = problems_of(document(["A"], P=product("A", url=url)))[0]
    assert problem.startswith(f"products.P.url: {url!r} is refused (accepted: http://")


@pytest.mark.parametrize("url", ["http://[::1]:5000", "https://host/a/b", "http://127.0.0.1:1/p"])
def test_any_address_of_a_service_is_accepted(url: str) -> None:
    assert Graph.parse(document(["A"], P=product("A", url=url))).products["P"].url == url


@pytest.mark.parametrize("key", ["m_input", "provider", "url"])
def test_a_missing_key_of_a_product_is_named(key: str) -> None:
    problem = problems_of(without("products", "QPO_ECL", key))[0]
    assert problem.startswith(f"products.QPO_ECL: the key {key!r} is missing (accepted: ")


@pytest.mark.parametrize("key", ["inputs", "products"])
def test_a_missing_key_of_the_document_is_named(key: str) -> None:
    problem = problems_of(without(key))[0]
    assert problem.startswith(f"the document: the key {key!r} is missing (accepted: ")


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        (("input",), "inputs"),
        (("products", "QPO_ECL", "o_inputs"), "o_input"),
        (("products", "QPO_ECL", "max_attempt"), "max_attempts"),
        (("providers", "pipeline", "max_concurent"), "max_concurrent"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_that_was_meant(
    place: tuple[str, ...], meant: str
) -> None:
    problem = only_problem_of(changed(*place, to=[]))
    holder = ".".join(place[:-1]) or "the document"
    assert problem.startswith(
        f"{holder}: the key {place[-1]!r} is unknown (did you mean {meant!r}?) (accepted: "
    )


@pytest.mark.parametrize("name", ["", "bad name", "../etc", "-dash", "x" * 129, "line\nbreak"])
def test_a_bad_name_of_a_product_or_an_input_is_refused(name: str) -> None:
    as_product, as_input = small(), small()
    as_product["products"][name] = product("EclTmVhfAlert")
    as_input["inputs"].append(name)
    assert "is not a name (accepted: 1 to 128 letters" in only_problem_of(as_product)
    assert "is refused (accepted: a list of names: 1 to 128" in only_problem_of(as_input)


def test_an_input_that_is_no_string_is_refused() -> None:
    assert only_problem_of(document(["A", 3], P=product("A"))).startswith(  # type: ignore[list-item]
        "inputs: 3 is refused"
    )


def test_a_number_in_a_list_of_sources_is_refused() -> None:
    problem = only_problem_of(changed("products", "QPO_ECL", "o_input", to=[3]))
    assert problem == "products.QPO_ECL.o_input: 3 is refused (accepted: a list of names)"


@pytest.mark.parametrize("key", ["m_input", "o_input"])
def test_an_unknown_source_is_named_with_the_one_that_was_meant(key: str) -> None:
    wrong = document(["EclTmVhfAlert", "B"], P=product("B") | {key: ["EclTmVhfAlrt"]})
    assert only_problem_of(wrong) == (
        f"products.P.{key}: 'EclTmVhfAlrt' is unknown (did you mean 'EclTmVhfAlert'?) "
        "(accepted: an input or a product)"
    )


def test_an_unknown_source_like_nothing_known_gets_no_suggestion() -> None:
    assert only_problem_of(document(["A"], P=product("A", "zzzzzz"))) == (
        "products.P.m_input: 'zzzzzz' is unknown (accepted: an input or a product)"
    )


def test_the_same_source_twice_is_named() -> None:
    assert only_problem_of(document(["A"], P=product("A", "A"))).startswith(
        "products.P.m_input: 'A' is given more than once"
    )
    assert only_problem_of(document(["A", "B"], P=product("A", o_input=["B", "B"]))).startswith(
        "products.P.o_input: 'B' is given more than once"
    )
    assert only_problem_of(document(["A"], P=product("A", o_input=["A"]))) == (
        "products.P.o_input: 'A' is in m_input too (accepted: mandatory or optional)"
    )


def test_the_same_input_twice_is_named() -> None:
    assert only_problem_of(document(["A", "A"], P=product("A"))) == (
        "inputs: 'A' is given more than once (accepted: once)"
    )


def test_a_product_that_is_also_an_input_is_named() -> None:
    assert only_problem_of(document(["A", "P"], P=product("A"))).startswith(
        "products.P: is also among the inputs"
    )


def test_a_product_made_twice_is_named() -> None:
    entry = json.dumps(product("A"))
    text = f'{{"inputs": ["A"], "products": {{"P": {entry}, "Q": {entry}, "P": {entry}}}}}'
    assert only_problem_of(text) == (
        "products: the key 'P' is given more than once (accepted: once)"
    )


def test_a_key_given_twice_in_json_is_named_with_its_product() -> None:
    text = json.dumps(small()).replace('"QPO_ECL": {', '"QPO_ECL": {"url": "http://x", ')
    assert only_problem_of(text).startswith("products.QPO_ECL: the key 'url' is given more than")


def test_a_key_given_twice_in_yaml_is_named_with_its_product() -> None:
    text = (
        "inputs: [A]\nproducts:\n"
        f"  P: {{m_input: [A], provider: p, url: '{URL}', provider: q}}\n"
        f"  P: {{m_input: [A], provider: p, url: '{URL}', url: '{URL}'}}\n"
    )
    assert problems_of(text, "graph.yaml") == (
        "products: the key 'P' is given more than once (accepted: once)",
        "products.P: the key 'url' is given more than once (accepted: once)",
    )


def test_a_provider_at_two_addresses_is_named_with_both() -> None:
    wrong = document(["A"], P=product("A"), Q=product("A", url="http://other:1"))
    assert only_problem_of(wrong) == (
        f"products.Q.url: 'http://other:1' for the provider 'pipeline', which 'P' puts at '{URL}' "
        "(accepted: one url per provider)"
    )


def test_two_providers_may_share_an_address() -> None:
    graph = Graph.parse(document(["A"], P=product("A"), Q=product("A", provider="other")))
    assert {each.url for each in graph.providers.values()} == {URL}


def test_a_limit_for_a_provider_that_makes_nothing_is_named() -> None:
    assert only_problem_of(changed("providers", "pipelin", to={"max_concurrent": 2})) == (
        "providers.pipelin: no product names it (did you mean 'pipeline'?) "
        "(accepted: a provider in use)"
    )


def test_a_cycle_is_named_in_full_in_the_direction_of_the_data() -> None:
    wrong = document(["I"], C=product("B"), A=product("I", "C"), B=product("I", o_input=["A"]))
    assert only_problem_of(wrong) == (
        "products.C: in a cycle, so that none of it could be made first: C -> A -> B -> C"
    )


def test_a_product_made_from_itself_is_a_cycle() -> None:
    assert only_problem_of(document(["I"], A=product("I", "A"))).endswith(": A -> A")


def test_every_independent_cycle_is_named() -> None:
    wrong = document(
        ["I"],
        A=product("I", "B", "C"),
        B=product("A"),
        C=product("A"),
        X=product("Y"),
        Y=product("X", "B"),
        Downstream=product("Y"),
    )
    circles = sorted(problem.rsplit(": ", 1)[1] for problem in problems_of(wrong))
    assert circles == ["A -> B -> A", "A -> C -> A", "X -> Y -> X"]


def test_all_mistakes_are_told_at_once() -> None:
    wrong = small()
    wrong["products"]["QPO_ECL"]["timeout"] = "long"
    wrong["products"]["QLC_ECL"]["m_input"] = ["EclTmVhfHPLcurv", "QSP_ECL"]
    wrong["products"]["QSP_ECL"]["url"] = "http://elsewhere"
    wrong["provider"] = {}
    told = "\n".join(problems_of(wrong))
    assert len(problems_of(wrong)) == 5
    for place in ("QPO_ECL.timeout", "QLC_ECL.m_input", "QSP_ECL.url", "'provider'", "QLC_ECL ->"):
        assert place in told


def test_text_that_is_not_json_is_told_with_line_and_column() -> None:
    assert only_problem_of('{"inputs": [],\n "products": }') == (
        "line 2, column 14: not JSON: Expecting value"
    )


def test_text_that_is_not_yaml_is_told_with_line_and_column() -> None:
    assert only_problem_of("inputs: [A\nproducts: {}", "g.yml").startswith(
        "line 2, column 9: not YAML"
    )


@pytest.mark.parametrize(
    ("text", "source", "reason"),
    [
        ("[" * 100_000, "graph.json", "too deeply nested"),
        ("[" * 100_000, "graph.yaml", "too deeply nested"),
        ("9" * 10_000, "graph.json", "not JSON: Exceeds the limit"),
        ("x: &a [*a]", "graph.yaml", "an alias contains itself"),
        ("? [1]\n: 2", "graph.yaml", "not YAML: found unhashable key"),
        ("- 2025-02-31", "graph.yaml", "not YAML: day is out of range"),
        ("a: \x00", "graph.yaml", "not YAML: unacceptable character"),
        ("a: !!python/object:os.system {}", "graph.yaml", "not YAML: could not determine"),
        ("", "graph.yaml", "the document: None is refused"),
        ("[]", "graph.json", "the document: [] is refused (accepted: an object with the keys"),
    ],
)
def test_any_other_text_is_refused_in_one_line(text: str, source: str, reason: str) -> None:
    assert reason in only_problem_of(text, source)


def test_a_name_that_yaml_takes_for_something_else_is_refused() -> None:
    text = f"inputs: [A]\nproducts:\n  2025: {{m_input: [A], provider: p, url: '{URL}'}}\n"
    assert only_problem_of(text, "g.yaml").startswith("products: 2025 is a number in YAML ")


def test_a_long_value_is_cut_in_the_message() -> None:
    assert len(only_problem_of(changed("products", "QPO_ECL", "timeout", to="x" * 10_000))) < 300


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"nothing\.json: not found"):
        read_graph(tmp_path / "nothing.json")


def test_a_folder_is_no_graph(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match="cannot be read: is a directory"):
        read_graph(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "graph.json"
    path.write_bytes(b'{"inputs": ["\xff"]}')
    with pytest.raises(GraphError, match="not a text in UTF-8: byte 13"):
        read_graph(path)


def test_many_unknown_names_in_a_large_graph_are_all_told() -> None:
    products = {f"P{rank}": product("A", f"Unknown{rank}") for rank in range(3000)}
    assert len(problems_of(document(["A"], **products))) == 3000


@given(st.data())
def test_an_injected_cycle_is_always_found_and_is_one(data: st.DataObject) -> None:
    wrong = data.draw(documents().filter(lambda each: bool(each["products"])))
    products = wrong["products"]
    circle = data.draw(st.lists(st.sampled_from(sorted(products)), min_size=1, unique=True))
    for source, target in zip(circle, [*circle[1:], circle[0]], strict=True):
        entry = products[target]
        if source not in entry["m_input"] + entry["o_input"]:
            entry[data.draw(st.sampled_from(["m_input", "o_input"]))].append(source)
    told = problems_of(wrong)
    assert told
    for problem in told:
        named = problem.split("made first: ")[1].split(" -> ")
        assert named[0] == named[-1]
        assert len(set(named)) == len(named) - 1
        for source, target in pairwise(named):
            assert source in products[target]["m_input"] + products[target]["o_input"]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.text() | st.sampled_from(["inputs", "products", "providers", "m_input", "url"]), inner
    ),
))  # fmt: skip
def test_whatever_else_json_holds_is_refused_with_its_problems(value: Any) -> None:
    # No JSON made of these keys alone is a graph, but for one of nothing.
    if value != {"inputs": [], "products": {}}:
        problems_of(json.dumps(value))


@pytest.mark.parametrize(
    "name", ["NO", "yes", "ON", "off", "true", "1.10", "12", "~", "2026-11-28"]
)
def test_a_name_that_yaml_takes_for_another_value_is_to_be_quoted(name: str) -> None:
    text = "inputs: [I, {0}]\nproducts:\n  {0}: {{m_input: [{0}], provider: {0}, url: 'http://h:1/'}}\n"
    problems = problems_of(text.format(name), "graph.yaml")
    places = ["inputs", "products", "products.{0}.m_input", "products.{0}.provider"]
    kind = "(true or false|a number|null|a date)"
    for place in places:
        expected = rf"{re.escape(place.format(name))}: {re.escape(name)} is {kind} in YAML "
        assert [line for line in problems if re.match(expected, line)], (place, problems)
    assert all(f'in quotes: "{name}")' in line for line in problems if " in YAML " in line)
    quoted = problems_of(text.format(f'"{name}"').replace("[I, ", "[J, "), "graph.yaml")
    assert not [line for line in quoted if "in YAML" in line]


@pytest.mark.parametrize("merge", [False, True])
def test_aliases_that_expand_without_a_bound_are_refused(merge: bool) -> None:
    lines = ["a0: &a0 {k: [x]}" if merge else "a0: &a0 [x]"]
    for level in range(1, 30):
        below = ", ".join([f"*a{level - 1}"] * 9)
        made = f"{{<<: [{below}]}}" if merge else f"[{below}]"
        lines.append(f"a{level}: &a{level} {made}")
    text = "\n".join([*lines, "inputs: *a29", "products: {}"])
    problem = only_problem_of(text, "graph.yaml")
    assert problem.startswith("its aliases make more than a million million values of ")


def test_an_alias_that_contains_itself_is_refused() -> None:
    problem = only_problem_of("inputs: &a [*a]\nproducts: {}", "graph.yaml")
    assert problem == "line 1, column 9: an alias contains itself"


def test_aliases_and_merges_of_a_large_graph_are_read() -> None:
    lines = ["inputs: [I]", "products:"]
    lines.append("  P0: &defaults {m_input: [I], provider: p, url: 'http://h:1/', timeout: 5}")
    lines += [f"  P{rank}: {{<<: *defaults, o_input: [P{rank - 1}]}}" for rank in range(1, 3000)]
    assert len(Graph.parse("\n".join(lines), "graph.yaml").products) == 3000


def test_what_is_expected_is_an_input_and_named_once() -> None:
    problems = problems_of(changed("expected", to=["EclTmVhfAlrt", "QPO_ECL", "QPO_ECL"]))
    assert problems[0] == "expected: 'QPO_ECL' is given more than once (accepted: once)"
    assert "'EclTmVhfAlrt' is not among the inputs (did you mean 'EclTmVhfAlert'?)" in problems[1]
    assert problems[2].startswith("expected: 'QPO_ECL' is not among the inputs")


def test_no_more_optional_inputs_are_needed_than_there_are() -> None:
    problems = problems_of(changed("products", "QPO_ECL", "o_min", to=3))
    assert list(problems) == [
        "products.QPO_ECL.o_min: 3 of 0 optional inputs (accepted: at most 0)"
    ]


def test_nothing_expires_before_it_is_due() -> None:
    assert list(problems_of(document(["A"], P=product("A", due=60, expires=30.5)))) == [
        "products.P.expires: 30.5 s, before it is due (accepted: at least 60 s)"
    ]
    Graph.parse(document(["A"], P=product("A", due=60, expires=60)))


def test_a_provider_may_have_several_addresses() -> None:
    graph = Graph.parse(document(["A"], P=product("A", url=["http://a/", "http://b"])))
    assert graph.providers["pipeline"].urls == ("http://a", "http://b")
    assert Graph.parse(graph.as_document()) == graph


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        (["http://a", "htp://b"], "products.P.url: 'htp://b' is refused"),
        ([], "products.P.url: [] is refused"),
        (["http://a", 5], "products.P.url: 5 is refused"),
        (5, "products.P.url: 5 is refused"),
        (["http://a", "http://a/"], "products.P.url: 'http://a' is given more than once"),
    ],
)
def test_what_is_wrong_with_several_addresses_is_one_line(urls: object, told: str) -> None:
    with pytest.raises(GraphError) as caught:
        Graph.parse(document(["A"], P=product("A", url=urls)))
    (problem,) = caught.value.problems
    assert told in problem
