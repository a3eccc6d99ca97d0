"""Notebooks, executed by a kernel as Jupyter's are.

``python -m tests.support.notebooks docs/tutorial/first-tiles-notebook.ipynb`` executes that of the
documentation, and writes what it shows into it.
"""

import re
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient

_PICTURE: Final = re.compile(r"base64,[A-Za-z0-9+/=]+")


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


def read(path: Path) -> Any:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def code_of(notebook: Any) -> list[Any]:
    """List the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: Any) -> list[dict[str, Any]]:
    """Return what a code cell shows, but for what may differ: progress, logs, bytes of pictures."""
    found: list[dict[str, Any]] = []
    for output in cell.outputs:
        if output.output_type == "execute_result":
            data = {kind: _PICTURE.sub("base64,…", text) for kind, text in output.data.items()}
            found.append({"data": data})
        elif output.output_type == "stream" and output.name == "stdout":
            found.append({"text": output.text})
    return found


def refresh(path: Path) -> None:
    """Execute a notebook, and write what it shows into it."""
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        executed(notebook, Path(folder))
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "name": "python3"}}
    for rank, cell in enumerate(notebook.cells):
        cell.id = f"cell-{rank}"
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [
                each
                for each in cell.outputs
                if each.output_type == "execute_result" or each.get("name") == "stdout"
            ]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    refresh(Path(sys.argv[1]))
