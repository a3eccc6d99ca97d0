"""Products are made in a test of their author's, without services."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from batuta.errors import ConfigurationError
from batuta.pipeline import Context, Output, Pipeline
from batuta.pipeline.context import PipelineError
from batuta.pipeline.testing import make_product

pipeline = Pipeline("weather")


@pipeline.product("MEAN", inputs=["READINGS"], optional=["SITE"], also_makes=["COUNT"])
def mean(context: Context) -> Iterator[Output]:
    values = [float(line) for line in context.input("READINGS").read_text().split()]
    site = context.optional_input("SITE")
    context.log.info("site: %s", site)
    context.progress(1, 2)
    for product, value in (("COUNT", len(values)), ("MEAN", sum(values) / len(values))):
        path = Path(f"{product}.txt")  # in the current folder, which is the work folder
        path.write_text(str(value))
        yield Output(path, product=product, metadata={"value": value})
    context.progress(2, 2)


@pipeline.product("UNDECLARED", inputs=["READINGS"])
def undeclared(context: Context) -> Path | None:
    return context.optional_input("SITE")


def test_a_product_is_made_as_a_service_would_make_it() -> None:
    before = Path.cwd()
    made = make_product(pipeline, "MEAN", inputs={"READINGS": b"1 3"}, obs_id="night-1")
    assert made.path.read_text() == "2.0"
    assert made.metadata == {"value": 2.0}
    assert made.media_type == "text/plain"
    assert made.by_products["COUNT"].path.read_text() == "2"
    assert made.inputs == ("READINGS",)
    assert made.progress == (2, 2)
    assert "INFO batuta.pipeline.weather: site: None" in made.log
    assert Path.cwd() == before


def test_its_files_live_as_long_as_it_does() -> None:
    made = make_product(pipeline, "MEAN", inputs={"READINGS": b"1 3"})
    path = made.path
    assert path.exists()
    del made
    assert not path.parent.exists()


def test_an_input_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "readings.txt").write_text("4")
    monkeypatch.chdir(tmp_path)
    assert (
        make_product(pipeline, "MEAN", inputs={"READINGS": "readings.txt"}).metadata["value"] == 4
    )


@pytest.mark.parametrize(
    ("product", "inputs", "error", "problem"),
    [
        ("MEAN", {}, ConfigurationError, "input READINGS: missing"),
        ("MEANS", {}, ConfigurationError, "did you mean 'MEAN'"),
        ("MEAN", {"READINGS": b"", "SIT": b""}, ConfigurationError, "did you mean 'SITE'"),
        ("UNDECLARED", {"READINGS": b"1"}, PipelineError, "optional input 'SITE': not declared"),
        ("MEAN", {"READINGS": b"x"}, ValueError, "could not convert"),
    ],
)
def test_what_is_wrong_is_raised(
    product: str, inputs: dict[str, bytes], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        make_product(pipeline, product, inputs=dict(inputs))
