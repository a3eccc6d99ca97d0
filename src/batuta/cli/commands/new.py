"""`batuta new`: a project with a pipeline that runs, to be changed into one's own."""

import importlib.util
import keyword
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from batuta.cli.commands.demo import examples_folder
from batuta.errors import ConfigurationError
from batuta.names import service_problem

STARTER: Final = "starter"
"""The example that is copied, and the name in it that is replaced."""
FILES: Final = {
    "starter.py": "{name}.py",
    "batuta.yaml": "batuta.yaml",
    "test_starter.py": "test_{name}.py",
    "README.md": "README.md",
    "gitignore": ".gitignore",
}
"""The files of the example, and their names in a project."""
SAMPLE: Final = "image.tif"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("new")(new)


def new(
    name: Annotated[str, typer.Argument(help="Of the pipeline, its module and its folder.")],
    folder: Annotated[
        Path | None, typer.Option(help="Where to make it; by default a folder of that name.")
    ] = None,
) -> None:
    """Make a project with a pipeline of two products, one of them tiled, that runs at once."""
    target = Path(name) if folder is None else folder
    problems = [*_name_problems(name), *_folder_problems(target)]
    if problems:
        raise ConfigurationError(problems)
    target.mkdir(parents=True, exist_ok=True)
    write_project(target, name)
    typer.echo(f"{target}: made, with {', '.join(sorted(each.name for each in target.iterdir()))}")
    typer.echo("Next:")
    typer.echo(f"  cd {target}")
    typer.echo(f"  batuta run {name}:pipeline SOURCES --all --input IMAGE={SAMPLE} -o out")
    typer.echo("README.md has the rest.")


def write_project(folder: Path, name: str) -> None:
    """Write the files of the project `name` in `folder`, which exists."""
    starter = examples_folder() / STARTER
    for source, target in FILES.items():
        text = (starter / source).read_text(encoding="utf-8")
        text = text.replace(f"examples.{STARTER}.{STARTER}", name).replace(STARTER, name)
        (folder / target.format(name=name)).write_text(text, encoding="utf-8")
    _write_sample(folder / SAMPLE)


def _write_sample(path: Path) -> None:
    """Write an image of 128 x 128 pixels: a sky that brightens to the right, and three sources."""
    import numpy as np  # noqa: PLC0415  other commands start without it
    import rasterio  # noqa: PLC0415

    random = np.random.default_rng(seed=1)
    image = random.normal(1000.0, 10.0, (128, 128)) + np.where(np.arange(128) < 64, 0, 200)
    for (row, col), excess in {(40, 30): 900, (96, 100): 500, (20, 90): 300}.items():
        image[row, col] += excess
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=128,
        width=128,
        count=1,
        dtype="float32",
        transform=rasterio.Affine(1.0, 0.0, 0.0, 0.0, -1.0, 128.0),
        compress="deflate",
    ) as written:
        written.write(image.astype(np.float32), 1)


def _name_problems(name: str) -> Iterator[str]:
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        yield f"{name!r}: not the name of a module (accepted: letters, digits and _, as in weather)"
        return
    problem = service_problem("NAME", name)
    if problem is not None:
        yield problem
        return
    # A folder without modules is found as a namespace: it hides nothing.
    found = importlib.util.find_spec(name)
    if name in sys.stdlib_module_names or (found is not None and found.origin is not None):
        yield f"{name!r}: the name of a module that is installed (accepted: any other)"


def _folder_problems(folder: Path) -> Iterator[str]:
    if folder.is_file():
        yield f"{folder}: a file (accepted: a new or empty folder)"
    elif folder.is_dir() and any(folder.iterdir()):
        yield f"{folder}: not empty (accepted: a new or empty folder)"
