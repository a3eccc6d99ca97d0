"""Graph and pipelines compared before anything starts; pipelines loaded, but not served."""

from pathlib import Path

import pytest

from batuta.cli.deployment.pipeline_checks import compare, load_declarations
from batuta.graph import DeclaredPipeline, DeclaredProduct
from tests.conductor.graphs import URL, graph_of

GRAPH = graph_of(["A", "C"], {"B": {"m_input": ["A"], "o_input": ["C"]}})


def pipeline(name: str = "maker", **products: DeclaredProduct) -> DeclaredPipeline:
    return DeclaredPipeline(use=f"{name}.py", name=name, products=products)


GOOD = DeclaredProduct(inputs=("A",), optional=("C",))
WHERE = "pipeline 'maker' (maker.py)"


def test_what_agrees_is_told_nothing_of() -> None:
    found = compare(GRAPH, [pipeline(B=GOOD)])
    assert (found.problems, found.warnings) == ((), ())


@pytest.mark.parametrize(
    ("pipelines", "problem"),
    [
        (
            [pipeline(BB=GOOD, D=GOOD)],
            f"B: {WHERE} does not make it (did you mean 'BB'?) (it makes BB, D)",
        ),
        (
            [pipeline(B=DeclaredProduct(inputs=("A", "Z"), optional=("C",)))],
            f"B: {WHERE} needs Z, which is no input of it in the graph",
        ),
        (
            [pipeline(B=DeclaredProduct(inputs=("A", "C")))],
            f"B: {WHERE} needs C, which is an o_input of it in the graph",
        ),
        ([pipeline("mker", B=GOOD)], "B: the provider in the graph is 'maker', but mker.py is"),
        (
            [pipeline(B=GOOD), pipeline("sdb")],
            "pipeline 'sdb' (sdb.py): that is the name of another",
        ),
        ([pipeline(B=GOOD), pipeline(B=GOOD)], "both are named 'maker'"),
    ],
)
def test_what_would_certainly_fail_is_a_problem(
    pipelines: list[DeclaredPipeline], problem: str
) -> None:
    (told,) = compare(GRAPH, pipelines).problems
    assert problem in told


@pytest.mark.parametrize(
    ("pipelines", "warning"),
    [
        ([], f"B: no pipeline here is the provider 'maker'; expected at {URL}"),
        (
            [pipeline(B=GOOD, X=GOOD)],
            f"X: {WHERE} makes it, but the graph does not have it",
        ),
        (
            [pipeline(B=DeclaredProduct(inputs=("A",)))],
            f"B: waits for C, which {WHERE} does not declare as input",
        ),
        (
            [pipeline(B=DeclaredProduct(inputs=("A",), optional=("C", "X")))],
            f"B: {WHERE} may read X, which is no input of it in the graph: nothing waits for it",
        ),
    ],
)
def test_what_may_be_intended_is_a_warning(pipelines: list[DeclaredPipeline], warning: str) -> None:
    found = compare(GRAPH, pipelines)
    assert (found.problems, found.warnings) == ((), (warning,))


def test_a_provider_that_is_simulated_or_whose_address_is_given_needs_no_pipeline() -> None:
    assert compare(GRAPH, [], simulated=True).warnings == ()
    assert compare(GRAPH, [], elsewhere=["maker"]).warnings == ()


def test_pipelines_are_loaded_in_processes_of_their_own_whatever_their_modules_do(
    tmp_path: Path,
) -> None:
    head = "from batuta.pipeline import Pipeline\npipeline = Pipeline('maker')\n"
    declare = "@pipeline.product('B', inputs=['A'], optional=['C'])\ndef b(context): return 'b'\n"
    modules = {
        "good_one": f"{head}{declare}print('noise')\n",
        "exits": "raise SystemExit('no licence')\n",
        "dies": "import os\nos._exit(3)\n",
        "broken": "def b(:\n",
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    declared, problems = load_declarations([f"{name}:pipeline" for name in modules], tmp_path)
    assert [(each.name, dict(each.products)) for each in declared] == [("maker", {"B": GOOD})]
    assert len(problems) == 3
    for line, said in zip(
        problems, ["no licence", "ended the process", "SyntaxError"], strict=True
    ):
        assert said in line
