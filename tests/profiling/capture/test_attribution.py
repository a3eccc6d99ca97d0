"""The line of the program that an allocation is attributed to."""

import pandas as pd

import batuta
from batuta.profiling.capture.attribution import Attribution, Line
from tests.profiling import profiled_tasks


def test_allocations_of_libraries_are_attributed_to_the_line_that_called_them() -> None:
    library = ("ones", pd.__file__, 1)
    program = ("task", profiled_tasks.__file__, 2)
    python = ("<module>", "<frozen runpy>", 3)
    ours = ("run", batuta.__file__, 4)
    attribution = Attribution()
    assert attribution.line_of([library, program, ours]) == Line(profiled_tasks.__file__, 2, "task")
    assert attribution.line_of([library, python, ours]) == Line(pd.__file__, 1, "ones")
    assert attribution.line_of([]) is None
    assert Attribution(pd.read_csv).line_of([library, program]) == Line(pd.__file__, 1, "ones")
