"""What a pipeline's function returned, checked before any of it is archived."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from batuta.errors import describe_value, one_line
from batuta.json_values import carriable, json_problems, plain, text_problem
from batuta.pipeline.context import OUTPUTS_FOLDER, Context, PipelineError
from batuta.pipeline.declaration import FunctionResult, Output
from batuta.pipeline.inputs import media_type_of
from batuta.quicklook import MAX_GIVEN_BYTES, CannotDrawError, check_image
from batuta.sdb.records import MEDIA_TYPE

MAX_METADATA_BYTES: Final = 900_000
"""Of one output, as JSON: the sdb takes a megabyte of fields in all."""


def collect_outputs(
    made: FunctionResult, context: Context, declared: tuple[str, ...]
) -> list[Output]:
    """Validate all that a function returned, running a generator to its end.

    Nothing is archived before all of it is there and valid: a processing that fails archives
    nothing. A mistake in metadata costs no product: see `checked_metadata`. Neither does one in a
    quicklook, which is left out.

    Raises
    ------
    PipelineError
        If an output is not a file in the work folder, is undeclared, repeated or missing.
    """
    outputs: dict[str, Output] = {}
    for item in _iterate(made, context.product):
        output = _validate(item, context, declared)
        if output.product in outputs:
            raise PipelineError(f"{output.product}: returned twice (a product is one file)")
        outputs[output.product or context.product] = output
    if context.product not in outputs:
        raise PipelineError(f"{context.product}: the function returned without making it")
    return list(outputs.values())


def _iterate(made: FunctionResult, product: str) -> Iterable[Output | str | Path]:
    if isinstance(made, Output | str | Path):
        return [made]
    if isinstance(made, Iterable):
        return made
    raise PipelineError(
        f"{product}: the function returned {type(made).__name__} "
        "(accepted: an Output, a path, or an iterable of them)"
    )


def _validate(item: Output | str | Path, context: Context, declared: tuple[str, ...]) -> Output:
    if not isinstance(item, Output | str | Path):
        raise PipelineError(
            f"{context.product}: {type(item).__name__} returned (accepted: an Output or a path)"
        )
    output = item if isinstance(item, Output) else Output(item)
    product = output.product or context.product
    if product not in declared:
        raise PipelineError(
            f"output {product!r}: not declared by {context.product} "
            f"(declared: {', '.join(declared)}; see also_makes)"
        )
    path = context.work_dir / output.path
    if (problem := _file_problem(output.path, path, context.work_dir)) is not None:
        raise PipelineError(f"output {product}: {problem}")
    metadata, problems = checked_metadata(output.metadata)
    media_type = output.media_type or media_type_of(path)
    if not MEDIA_TYPE.fullmatch(media_type):
        problems.append(f"media_type: {media_type!r:.80} is not one (accepted: type/subtype)")
        media_type = media_type_of(path)
    quicklook = None
    if output.quicklook is not None:
        quicklook = context.work_dir / output.quicklook
        if (problem := _quicklook_problem(output.quicklook, quicklook, context)) is not None:
            problems.append(f"quicklook: {problem}; left out")
            quicklook = None
    for problem in problems:
        context.log.warning("output %s: %s", product, problem)
    return replace(
        output,
        path=path,
        product=product,
        media_type=media_type,
        metadata=metadata,
        quicklook=quicklook,
    )


def _quicklook_problem(given: str | Path, path: Path, context: Context) -> str | None:
    """Return why a picture cannot be archived with its product, or None if it can."""
    if (problem := _file_problem(given, path, context.work_dir)) is not None:
        return problem
    try:
        with path.open("rb") as file:
            check_image(file.read(MAX_GIVEN_BYTES + 1))
    except (CannotDrawError, OSError) as exc:
        return f"{_shown(path, context.work_dir)}: {one_line(exc)}"
    return None


def _file_problem(given: str | Path, path: Path, work_dir: Path) -> str | None:
    """Return why a file cannot be archived, or None if it can."""
    if not path.resolve().is_relative_to(work_dir.resolve()):
        return f"{given} is outside the work folder (context.output_path names a file inside)"
    if path.is_dir():
        return f"{given} is a folder (accepted: a file)"
    if not path.is_file():
        return f"the function returned {_shown(path, work_dir)}, but did not write it"
    if (problem := text_problem(path.name)) is not None:
        return f"the name of its file {problem}"
    return None


def _shown(path: Path, work_dir: Path) -> Path:
    """Return a path as the function gave it to `Context.output_path`."""
    for folder in (work_dir / OUTPUTS_FOLDER, work_dir):
        if path.is_relative_to(folder):
            return path.relative_to(folder)
    return path


def checked_metadata(given: object) -> tuple[dict[str, Any], list[str]]:
    """Convert metadata to what can be stored, whatever it is.

    Parameters
    ----------
    given : object
        A mapping; values of NumPy, dates and paths are converted.

    Returns
    -------
    metadata : dict
        Of JSON values. Numbers that are not finite are None; what JSON has no form for is text.
    problems : list of str
        What was replaced so, by key; one line each.
    """
    problems: list[str] = []
    if not isinstance(given, Mapping):
        problems.append(f"metadata: {describe_value(given)} given, a mapping expected")
        given = {"metadata": given}
    metadata = plain(given)
    problems += json_problems(metadata, "metadata")
    if problems:
        metadata = carriable(metadata)
    sizes = {key: len(json.dumps(value)) for key, value in metadata.items()}
    while sum(sizes.values()) > MAX_METADATA_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        problems.append(
            f"metadata.{largest:.80}: {sizes.pop(largest)} bytes as JSON, left out "
            f"(accepted: {MAX_METADATA_BYTES} in all)"
        )
        del metadata[largest]
    return metadata, problems
