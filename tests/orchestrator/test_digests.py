"""Digests, definitions and fingerprints: which values, functions and graphs are the same."""

import enum
import functools
import importlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import attrs
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from affine import Affine

from batuta.cluster.tasks import Delayed, declare
from batuta.datasets import CarsDataset, CarsDict
from batuta.orchestrator.resume.digests import Digester
from batuta.orchestrator.resume.fingerprints import Fingerprinter
from tests.cluster import functions
from tests.support.checkout import PYTHON_PATH


def nothing_to_come(delayed: Delayed) -> bytes:
    raise AssertionError(delayed)


def digest(value: Any) -> bytes:
    return Digester(nothing_to_come).digest(value)


class Parameters:
    def __init__(self, gain: float) -> None:
        self.gain = gain
        self.me = self

    def apply(self, value: float) -> float:
        return self.gain * value


def place(x: float) -> Affine:
    return Affine.translation(x, 0)


@attrs.frozen
class TileKey:
    x: float = 1.0


class Side(enum.Enum):
    LEFT = "left"
    RIGHT = "right"


TABLE: dict[Any, Any] = {TileKey: {"a", "b", "c"}, Side.LEFT: np.mean, "lock": threading.Lock()}


@functools.singledispatch
def any_side(_: object) -> tuple[Any, ...]:
    return TABLE[Side.LEFT], TileKey(2.0)


def values() -> dict[str, Any]:
    """Return a new value of each kind."""
    dataset = CarsDataset("dict", name="dataset")
    dataset.create_grid(2, 1, 1, 1)
    dataset[0, 1] = CarsDict({"a": np.arange(3)}, {"by": "me"})
    return {
        "set": {"".join(letters) for letters in zip("abcdefgh", "ijklmnop", strict=True)},
        "frozenset": frozenset(map(str, range(50))),
        "dict": {"".join(["a"] * 3): {1: 2.5, "b": None}, "c": (1, [2, {3}])},
        "array": np.arange(12.0).reshape(3, 4),
        "strided array": np.arange(24.0).reshape(3, 8)[:, ::2],
        "dates": np.array(["2024-02-29"], dtype="datetime64[ns]"),
        "objects": np.array(["a", None, 3], dtype=object),
        "empty": np.zeros((0, 3), dtype=np.uint8),
        "scalar": np.float32(0.1),
        "dataset": xr.Dataset(
            {"z": (("row", "col"), np.eye(3))}, coords={"row": [1, 2, 3]}, attrs={"p": {"a": 1}}
        ),
        "data array": xr.DataArray(np.eye(2), dims=("y", "x"), name="z"),
        "frame": pd.DataFrame(
            {"a": [1.0, 2.0], "b": ["u", None], "c": pd.Categorical(["x", "y"])}, index=[3, 4]
        ),
        "grid": dataset,
        "object": Parameters(2.0),
        "method": Parameters(2.0).apply,
        "partial": functools.partial(functions.add, 3, {"x", "y"}),
        "function": functions.count_call,
        "function that names a class of attrs": place,
        "generic function": any_side,
        "object of attrs": TileKey(3.0),
        "enum": Side.RIGHT,
        "path": Path("a/b"),
    }


KINDS = list(values())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_have_the_same_digest(kind: str) -> None:
    value = values()[kind]
    assert digest(value) == digest(values()[kind])
    assert digest(value) == digest(pickle.loads(pickle.dumps(value)))  # noqa: S301 - pickled here
    assert digest([value, value]) == digest([value, values()[kind]])


def test_different_values_have_different_digests() -> None:
    digests = {digest(value) for value in values().values()}
    assert len(digests) == len(KINDS)


NEIGHBOURS: dict[str, tuple[Any, Any]] = {
    "a value": (np.arange(3.0), np.array([0.0, 1.0, 3.0])),
    "a data type": (np.arange(3), np.arange(3.0)),
    "a shape": (np.zeros((2, 3)), np.zeros((3, 2))),
    "an attribute": (CarsDict({}, {"a": 1}), CarsDict({}, {"a": 2})),
    "a key": ({"a": 1}, {"b": 1}),
    "nesting": ([[1], 2], [[1, 2]]),
    "a kind": ((1, 2), [1, 2]),
    "a column's name": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "a coordinate": (xr.Dataset(coords={"x": [1]}), xr.Dataset(coords={"x": [2]})),
    "a bound object": (Parameters(1.0).apply, Parameters(2.0).apply),
    "a partial's argument": (functools.partial(max, 1), functools.partial(max, 2)),
}


@pytest.mark.parametrize("what", NEIGHBOURS)
def test_a_different_value_has_a_different_digest(what: str) -> None:
    left, right = NEIGHBOURS[what]
    assert digest(left) != digest(right)


def test_the_order_of_a_dictionary_does_not_count() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({(1, 2): 1, 3: 2}) == digest({3: 2, (1, 2): 1})


def test_the_layout_of_an_array_in_memory_does_not_count() -> None:
    array = np.arange(12.0).reshape(3, 4)
    assert digest(array) == digest(np.asfortranarray(array)) == digest(array.T.copy().T)


def test_a_value_that_contains_itself_can_be_digested() -> None:
    itself: list[Any] = [1]
    itself.append(itself)
    knot: dict[str, Any] = {}
    knot["knot"] = knot
    assert len({digest(itself), digest(knot), digest([1]), digest({})}) == 4


SOURCE = """
import os
SCALE = 2
def helper(x):
    return x + SCALE
class Tool:
    def use(self, x):
        return helper(x)
def task(x, factor=3):
    '''It scales.'''
    return [Tool().use(each) * factor for each in x]
"""


def function_of(source: str, name: str = "task") -> FunctionType:
    scope: dict[str, Any] = {"__name__": "program"}
    exec(compile(source, "program.py", "exec"), scope)  # noqa: S102 - a program, as a file would be
    found: FunctionType = scope[name]
    return found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("* factor", "+ factor"),
        ("factor=3", "factor=4"),
        ("SCALE = 2", "SCALE = 3"),
        ("x + SCALE", "x - SCALE"),
        ("return helper(x)", "return helper(x) + 1"),
    ],
    ids=["body", "default", "constant", "helper", "class"],
)
def test_a_change_of_code_changes_the_digest(old: str, new: str) -> None:
    assert digest(function_of(SOURCE)) != digest(function_of(SOURCE.replace(old, new)))


PROGRAMS = {
    "a dictionary": "P = {'k': VALUE}\ndef task(): return P['k']",
    "a list": "P = [VALUE]\ndef task(): return P[0]",
    "an array": "import numpy as np\nP = np.array([VALUE])\ndef task(): return P[0]",
    "a class attribute": "class C:\n  K = VALUE\ndef task(): return C.K",
    "an enum member": "import enum\nclass C(enum.Enum):\n  K = VALUE\ndef task(): return C.K",
    "an inherited method": """
class A:
  def run(self): return VALUE
class B(A): pass
def task(): return B().run()""",
    "another method of a bound one's class": """
class A:
  def run(self): return self.other()
  def other(self): return VALUE
task = A().run""",
    "the class of a callable": """
class A:
  def __call__(self): return VALUE
task = A()""",
    "a property": """
class A:
  @property
  def p(self): return VALUE
def task(): return A().p""",
    "a field's default": """
import dataclasses
@dataclasses.dataclass
class A:
  k: int = VALUE
def task(): return A()""",
    "a field's default in attrs": """
import attrs
@attrs.frozen
class A:
  k: int = VALUE
def task(): return A()""",
    "a global partial": """
import functools
def h(x): return VALUE
P = functools.partial(h, 1)
def task(): return P()""",
    "a dispatch table": "def h(): return VALUE\nT = {'h': h}\ndef task(): return T['h']()",
    "which closure is where in a table": """
def made(x): return lambda: x
T = {'a': made(VALUE), 'b': made(3 - VALUE)}
def task(): return T['a']()""",
    "a generic function": """
import functools
@functools.singledispatch
def h(x): return 0
@h.register
def _(x: int): return VALUE
def task(): return h(1)""",
    "a cached function": """
import functools
@functools.lru_cache
def h(): return VALUE
def task(): return h()""",
    "an attribute of what cannot be pickled": """
import threading
class Client:
  def __init__(self): self.lock, self.k = threading.Lock(), VALUE
CLIENT = Client()
def task(): return CLIENT.k""",
    "functions that name each other": """
def even(n): return n == 0 or odd(n - VALUE)
def odd(n): return n != 0 and even(n - 1)
def task(): return even(4)""",
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_a_change_of_what_a_task_refers_to_counts_and_nothing_else(what: str) -> None:
    one, two, again = (
        digest(function_of(PROGRAMS[what].replace("VALUE", value))) for value in ("1", "2", "2")
    )
    assert one != two == again


@pytest.mark.parametrize(
    ("task", "changed"),
    [
        ("def task():\n  from imported import g\n  return g()", "imported/__init__.py"),
        ("import imported.sub\ndef task(): return imported.sub.g()", "imported/sub.py"),
        ("def task():\n  import imported.sub as m\n  return m.g()", "imported/sub.py"),
        ("def task():\n  from imported import sub\n  return sub.g()", "imported/sub.py"),
    ],
)
def test_a_change_in_a_module_that_a_task_imports_counts(
    task: str, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "imported").mkdir()
    digests = []
    for value in (0, 1):
        for file in ("imported/__init__.py", "imported/sub.py"):
            found = value if file == changed else 0
            (tmp_path / file).write_text(f"def g(): return {found}\n")
        for loaded in ("imported", "imported.sub"):
            sys.modules.pop(loaded, None)
        importlib.invalidate_caches()
        digests.append(digest(function_of(task)))
    assert digests[0] != digests[1]


def test_state_that_a_task_keeps_in_a_global_does_not_count() -> None:
    source = """
model = None
def task():
  global model
  if model is None: model = 3
  return model
"""
    function = function_of(source)
    before = digest(function)
    function()
    assert digest(function) == before


def test_a_task_of_an_installed_package_is_digested_by_the_files_of_that_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "installed_program"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .steps import work\n")
    (package / "steps.py").write_text("def work(): return 1\n")
    monkeypatch.syspath_prepend(package.parent)
    work = importlib.import_module("installed_program").work

    def functions() -> dict[str, str]:
        dataset = CarsDataset("points")
        dataset.create_grid(1, 1, 1, 1)
        dataset[0, 0] = declare(work, (), {}, 1)
        return Fingerprinter().of_dataset(dataset).functions

    before = functions()
    assert functions() == before
    (package / "data.py").write_text("TABLE = {}\n")
    assert functions() != before


def test_a_function_that_only_moved_is_the_same() -> None:
    moved = "# a comment\n\n" + SOURCE.replace("def task", "def other():\n    pass\ndef task")
    assert digest(function_of(SOURCE)) == digest(function_of(moved))


def closing_over(factor: float) -> Callable[[float], float]:
    return lambda value: value * factor


def test_the_values_of_a_closure_count() -> None:
    assert digest(closing_over(2)) == digest(closing_over(2))
    assert digest(closing_over(2)) != digest(closing_over(3))


def graph(last: float, *, shared: bool = True) -> CarsDataset:
    """Two tiles that take the same result, or one each."""
    made = CarsDataset("dict")
    made.create_grid(2, 1, 1, 1)
    source: Any = declare(functions.halves, (8,), {}, 2)
    for col in range(2):
        taken = source[0] if shared else source[col]
        made[0, col] = declare(functions.add, ([taken], last), {}, 1)
    return made


def test_a_graph_is_digested_by_its_tasks_arguments_and_dependencies() -> None:
    def tiles(dataset: CarsDataset) -> str:
        return Fingerprinter().of_dataset(dataset).tiles

    assert tiles(graph(1)) == tiles(graph(1))
    assert tiles(graph(1)) != tiles(graph(2))
    assert tiles(graph(1)) != tiles(graph(1, shared=False))


def test_a_partial_is_the_same_in_every_run_and_its_arguments_count() -> None:
    def fingerprint(*held: int) -> Any:
        dataset = CarsDataset("points")
        dataset.create_grid(2, 1, 1, 1)
        dataset[0, 0], dataset[0, 1] = (
            declare(functools.partial(functions.add, each), (1,), {}, 1) for each in held
        )
        return Fingerprinter().of_dataset(dataset)

    assert list(fingerprint(2, 3).functions) == ["functools.partial"]  # no address in memory
    assert fingerprint(2, 3) == fingerprint(2, 3)
    assert fingerprint(2, 3) != fingerprint(2, 4)


def test_a_delayed_object_added_to_an_argument_after_its_task_was_created_is_refused() -> None:
    late: list[Any] = []
    made = graph(1)
    made[0, 0] = declare(functions.add, (late,), {}, 1)
    late.append(declare(functions.add, (1,), {}, 1))
    with pytest.raises(ValueError, match="resume: the arguments of task add cannot be pickled"):
        Fingerprinter().of_dataset(made)


def test_digests_are_the_same_in_every_process() -> None:
    script = """
from tests.orchestrator.test_digests import digest, graph, values
from batuta.orchestrator.resume.fingerprints import Fingerprinter
print(Fingerprinter().of_dataset(graph(1)))
for kind, value in values().items():
    print(kind, digest(value).hex())
"""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": PYTHON_PATH},
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(outputs[0].splitlines()) == len(KINDS) + 1
    assert outputs[0] == outputs[1]
