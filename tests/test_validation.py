"""Mistakes in settings and documents: one line each, in our words, whatever their kind."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

from batuta.errors import ConfigurationError
from batuta.validation import validated


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def _even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is not even")
    return value


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: float = Field(1.0, gt=0, le=100)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    graph: Path = Field(Path(), description="The product graph.")
    port: int = Field(0, ge=0, le=65_535)
    even: Annotated[int, AfterValidator(_even)] = 0
    flag: bool = False
    name: str = Field("x", min_length=1, max_length=3)
    root: str = Field("/a", pattern="^/", description="What its paths start with: /pipeline.")
    mode: Literal["fast", "safe"] = "fast"
    colour: Colour = Colour.RED
    words: list[str] = Field(["x"], min_length=1)
    table: dict[str, int] = {}
    part: Part = Part()
    parts: list[Part] = []
    api_token: SecretStr | None = Field(None, min_length=3)
    needed: int = Field(0, description="A number that is needed.")


class Needy(BaseModel):
    model_config = ConfigDict(extra="forbid")

    graph: Path = Field(description="The product graph.")


def problems(values: object, model: type[BaseModel] = Settings, **where: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        validated(model, values, **where)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"graph": 3}, "graph: 3 given, a path expected"),
        ({"port": "many"}, "port: 'many' given, a whole number expected"),
        ({"port": 1.5}, "port: 1.5 given, a whole number expected"),
        ({"port": None}, "port: nothing given, a whole number expected"),
        ({"port": [1]}, "port: a list given, a whole number expected"),
        ({"port": -1}, "port: -1 given, at least 0 expected"),
        ({"port": 70_000}, "port: 70000 given, at most 65535 expected"),
        ({"even": 3}, "even: 3 is not even"),
        ({"flag": "perhaps"}, "flag: 'perhaps' given, true or false expected"),
        ({"flag": []}, "flag: an empty list given, true or false expected"),
        ({"name": 5}, "name: 5 given, a text expected"),
        ({"name": ""}, "name: '' given, at least 1 character expected"),
        ({"name": "long"}, "name: 'long' given, at most 3 characters expected"),
        (
            {"root": "a"},
            "root: 'a' is refused (What its paths start with: /pipeline)",
        ),
        ({"mode": "quick"}, "mode: 'quick' given, 'fast' or 'safe' expected"),
        ({"colour": "green"}, "colour: 'green' given, 'red' or 'blue' expected"),
        ({"words": "a b"}, "words: 'a b' given, a list expected"),
        ({"words": []}, "words: an empty list given, at least 1 item expected"),
        ({"words": ["a", 2]}, "words[1]: 2 given, a text expected"),
        ({"table": ["a"]}, "table: a list given, a mapping of keys expected"),
        ({"table": {"a": "b"}}, "table.a: 'b' given, a whole number expected"),
        ({"part": 1}, "part: 1 given, a mapping of keys expected"),
        ({"part": {"size": 0}}, "part.size: 0 given, more than 0 expected"),
        ({"parts": [{"siz": 1}]}, "parts[0]: the key 'siz' is unknown (did you mean 'size'?)"),
        ({"part": {"x": 1}}, "part: the key 'x' is unknown (accepted: size)"),
        ({"graf": "a"}, "the key 'graf' is unknown (did you mean 'graph'?)"),
        ({"api_token": 5}, "api_token: a text that is not shown given, a text expected"),
        ([], "an empty list given, a mapping of keys expected"),
    ],
)
def test_a_mistake_of_each_kind_is_told_in_our_words(values: object, line: str) -> None:
    assert problems(values) == [line]


def test_all_mistakes_are_told_each_with_its_file_and_its_key() -> None:
    assert problems({"port": "x", "prt": 1}, source="b.yaml", within="sdb") == [
        "b.yaml: sdb.port: 'x' given, a whole number expected",
        "b.yaml: sdb: the key 'prt' is unknown (did you mean 'port'?)",
    ]


def test_a_key_that_is_missing_because_it_is_misspelt_is_one_mistake() -> None:
    assert problems({"graf": "a"}, Needy, source="b.yaml", within="conductor") == [
        "b.yaml: conductor: the key 'graf' is unknown (did you mean 'graph'?)"
    ]
    assert problems({}, Needy) == ["the key 'graph' is missing (The product graph)"]


def test_an_option_or_a_variable_is_named_as_it_was_given() -> None:
    names = {"port": "BATUTA_PORT", "graph": "--graph"}
    assert problems({"port": "x"}, key_names=names) == [
        "BATUTA_PORT: 'x' given, a whole number expected"
    ]
    assert problems({}, Needy, key_names=names) == ["--graph is missing (The product graph)"]
