"""`batuta run`: make a product in this process, without services."""

import logging
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from batuta.cli.signals import interrupted_by_sigterm
from batuta.errors import BatutaError, ConfigurationError, printable
from batuta.formatting import format_bytes, format_seconds

if TYPE_CHECKING:
    from batuta.pipeline.declaration import Pipeline, ProductSpec
    from batuta.pipeline.local_run import LocalRun, MadeFile

FAILED: Final = 1


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("run")(run)


def run(  # noqa: PLR0913  options of a command
    pipeline: Annotated[str, typer.Argument(metavar="MODULE:NAME", help="The pipeline.")],
    product: Annotated[str, typer.Argument(help="The product to make.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="NAME=FILE", help="An input; repeat for others."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for what is made.")] = Path(
        "out"
    ),
    obs_id: Annotated[str, typer.Option(help="The observation.")] = "local-1",
    *,
    make_all: Annotated[
        bool, typer.Option("--all", help="Make what it needs, too, from this pipeline.")
    ] = False,
    pdb: Annotated[
        bool, typer.Option("--pdb", help="Open a debugger where a function fails.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the work folders, and print where they are.")
    ] = False,
) -> None:
    """Make a product here and now, without services: to try a pipeline that is being written."""
    from batuta.pipeline.loading import load  # noqa: PLC0415  other commands start without it
    from batuta.pipeline.local_run import input_problems, obs_id_problem  # noqa: PLC0415

    given, problems = _parsed_inputs(inputs or [])
    loaded = load(pipeline)
    specs = _specs(loaded, product, given, make_all=make_all)
    problems += input_problems(specs, [name for spec in specs[:-1] for name in spec.makes], given)
    problems += filter(None, [obs_id_problem(obs_id), _output_problem(output)])
    problems += _replaced_inputs(specs, given, output)
    if problems:
        raise ConfigurationError(problems)
    _log_to_standard_error()
    with interrupted_by_sigterm(), _work_folder(keep=keep) as folder:
        for spec in specs:
            made = _run_one(loaded, spec, given, folder / spec.name, obs_id, pdb=pdb)
            delivered = {each.product: _delivered(each, output) for each in made.files}
            _report(made, delivered)
            given = {**delivered, **given}  # what is given is not replaced by a by-product


def _specs(
    pipeline: "Pipeline", product: str, given: Mapping[str, Path], *, make_all: bool
) -> Sequence["ProductSpec"]:
    from batuta.pipeline.local_run import find_product, needed_products  # noqa: PLC0415

    return (
        needed_products(pipeline, product, given) if make_all else [find_product(pipeline, product)]
    )


def _parsed_inputs(texts: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, Path] = {}
    problems = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            problems.append(f"--input {text!r} (accepted: NAME=FILE, as in READINGS=readings.csv)")
        elif name in found:
            problems.append(f"--input {name}: given twice (accepted: each input once)")
        else:
            found[name] = Path(path).absolute()
    return found, problems


def _output_problem(output: Path) -> str | None:
    there = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not there.is_dir():
        return f"--output {output}: {there} is a file (accepted: a folder)"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"--output {output}: {there} cannot be written to"
    return None


def _replaced_inputs(
    specs: Sequence["ProductSpec"], given: Mapping[str, Path], output: Path
) -> Iterator[str]:
    """Yield a line for each input in the place of a file that would be made."""
    made = [name for spec in specs for name in spec.makes]
    for name, path in given.items():
        if path.parent.resolve() == output.resolve():
            for product in made:
                # The suffix is known only once the function has returned.
                if path.name == product or path.name.startswith(f"{product}."):
                    yield (
                        f"input {name}: {path.name} in --output {output} would be replaced by "
                        f"{product} (accepted: another folder)"
                    )


@contextmanager
def _work_folder(*, keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="batuta-run-"))
    try:
        yield folder
    finally:
        if keep:
            typer.echo(f"work folder: {folder}", err=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _run_one(
    pipeline: "Pipeline",
    spec: "ProductSpec",
    inputs: Mapping[str, Path],
    work_dir: Path,
    obs_id: str,
    *,
    pdb: bool,
) -> "LocalRun":
    from batuta.pipeline.local_run import run_product  # noqa: PLC0415
    from batuta.tracebacks import without_callers  # noqa: PLC0415

    work_dir.mkdir()
    used = {name: inputs[name] for name in (*spec.inputs, *spec.optional) if name in inputs}
    try:
        with _debugged_tasks(spec) if pdb else nullcontext():
            return run_product(pipeline, spec, used, work_dir, obs_id=obs_id)
    except (KeyboardInterrupt, typer.Exit):
        raise
    except BaseException as exc:
        exc.__traceback__ = without_callers(exc, _module(spec))
        _report_failure(spec, exc)
        if pdb:
            _debug(exc, _module(spec))
        raise typer.Exit(FAILED) from exc


@contextmanager
def _debugged_tasks(spec: "ProductSpec") -> Iterator[None]:
    """Run the tasks of tiles in this process; open a debugger where one fails."""
    from batuta.cluster.debugging import task_errors_to  # noqa: PLC0415
    from batuta.tracebacks import without_callers  # noqa: PLC0415

    def debug(exc: BaseException) -> None:
        exc.__traceback__ = without_callers(exc, _module(spec))
        _report_failure(spec, exc)
        _debug(exc, _module(spec))
        raise typer.Exit(FAILED)

    with task_errors_to(debug):
        yield


def _report_failure(spec: "ProductSpec", exc: BaseException) -> None:
    from batuta.tracebacks import author_line, describe_failure  # noqa: PLC0415

    # What was returned and is refused has no line of the author's: frames of ours say nothing.
    if not isinstance(exc, BatutaError) or author_line(exc, _module(spec)) is not None:
        traceback.print_exception(exc, file=sys.stderr)
    line = f"batuta: {spec.name} failed: {describe_failure(exc, _module(spec))}"
    typer.echo(printable(line), err=True)


def _module(spec: "ProductSpec") -> str | None:
    return getattr(spec.function, "__module__", None)


def _debug(exc: BaseException, module: str | None) -> None:
    """Open a debugger at the author's last line, from which `down` leads to libraries."""
    from pdb import Pdb  # noqa: PLC0415

    from batuta.tracebacks import frames_after_author  # noqa: PLC0415

    debugger = Pdb()
    debugger.rcLines.extend(["up"] * frames_after_author(exc, module))
    debugger.reset()
    debugger.interaction(None, exc.__traceback__)


def _delivered(made: "MadeFile", output: Path) -> Path:
    """Copy a file to the output folder, whole or not at all."""
    from batuta.pipeline.inputs import extension  # noqa: PLC0415

    output.mkdir(parents=True, exist_ok=True)
    path = output / f"{made.product}{extension(made.path.name, made.media_type)}"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(made.path, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path.absolute()


def _report(made: "LocalRun", where: Mapping[str, Path]) -> None:
    for each in made.files:
        path = where[each.product]
        shown = os.path.relpath(path)
        size = format_bytes(path.stat().st_size)
        seconds = format_seconds(made.duration_s)
        typer.echo(f"{each.product}: {shown}, {size}, {each.media_type}, {seconds}")
        for name, value in each.metadata.items():
            typer.echo(printable(f"  {name}: {value!r:.200}"))


def _log_to_standard_error() -> None:
    from batuta.pipeline.log_format import log_formatter  # noqa: PLC0415

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(log_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
