"""Notebooks, executed by a kernel as Jupyter's are."""

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient


def executed(notebook: Any, folder: Path) -> Any:
    """Execute a notebook in a folder; a cell that raises ends it.

    Raises
    ------
    CellExecutionError
        With the traceback of the cell.
    """
    client = NotebookClient(
        notebook,
        timeout=100,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return notebook


def of_cells(*sources: str) -> Any:
    """Return a notebook of code cells."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in sources])


def result_of(cell: Any, kind: str = "text/plain") -> str:
    """Return the value of a cell as it is displayed."""
    (shown,) = [each.data for each in cell.outputs if each.output_type == "execute_result"]
    return str(shown[kind])
