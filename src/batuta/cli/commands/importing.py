"""`batuta import`: one file, or many."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.clients import sdb_at
from batuta.cli.commands.products import PANEL, RETRY_FOR_S, moment, version_name
from batuta.cli.output import (
    CONDUCTOR_URL,
    SDB_URL,
    AsJson,
    ConductorUrl,
    SdbUrl,
    echo,
    print_json,
)
from batuta.cli.requests.filter_options import read_stage
from batuta.cli.requests.graph_names import unknown_product
from batuta.cli.requests.waiting import WAIT_TIMEOUT_S, follow
from batuta.errors import BatutaError, ConfigurationError, printable
from batuta.formatting import format_bytes, format_count
from batuta.names import name_problem
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.sdb.bulk_sender import NewFile, Outcome
    from batuta.sdb.import_sender import About, Imported

SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
STEM: Final = "{stem}"
"""In --obs-id, the name of the file without its suffix."""
COMPRESSED: Final = frozenset({".gz", ".bz2", ".xz", ".zst", ".fz", ".Z"})
"""Suffixes that follow the one of the file that was compressed."""


class NotAllImportedError(BatutaError):
    """Some of several files were not imported."""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("import", rich_help_panel=PANEL)(import_product)


def import_product(  # noqa: PLR0913  each is an option
    files: Annotated[list[Path], typer.Argument(help="The file, or several.", metavar="FILE...")],
    product: Annotated[str, typer.Option(help="Name of the product.")],
    obs_id: Annotated[
        str,
        typer.Option(
            help="The observation; {stem} in it is the name of each file without its suffix."
        ),
    ],
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of the file.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object stored with it.")] = None,
    sdb_url: SdbUrl = SDB_URL,
    conductor_url: ConductorUrl = CONDUCTOR_URL,
    *,
    quicklook: Annotated[
        Path | None, typer.Option(help="A picture of it: PNG, JPEG or WebP, at most 2 MiB.")
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(help="How definitive it is: preliminary, final or a number between."),
    ] = None,
    work_class: Annotated[
        WorkClass | None,
        typer.Option("--class", help="How urgent all is that is made from it."),
    ] = None,
    by_reference: Annotated[
        bool,
        typer.Option(
            "--by-reference",
            help="Have the sdb copy the file itself: it sees it, in a folder of reference_folders.",
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a product that the graph does not know.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return once all that follows is made, or has failed.")
    ] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="With --wait: seconds until it gives up.", min=0)
    ] = WAIT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Import a file into the sdb, as a new version of a product; or many files."""
    _check_files(files, {"--sha256": sha256, "--quicklook": quicklook, "--wait": wait or None})
    if quicklook is not None and not quicklook.is_file():
        raise ConfigurationError(f"--quicklook {quicklook}: not a file")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ConfigurationError(f"--sha256 {sha256!r}: not 64 hexadecimal digits")
    about: About = {
        "metadata": _json_object("--metadata", metadata),
        "sha256": sha256,
        "stage": read_stage(stage),
        "work_class": work_class,
        "quicklook": quicklook,
        "by_reference": by_reference,
    }
    observations = _observations(files, obs_id)
    warning = unknown_product(product, conductor_url, strict=strict)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    if len(files) > 1:
        _import_all(sdb_url, product, observations, about, as_json=as_json)
        return
    [(file, observation)] = observations.items()
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        imported = sdb.import_or_repeat(file, product, observation, **about)
    stored = imported.stored
    if as_json:
        print_json(_as_dict(imported))
    else:
        echo(_line(imported))
    if wait:
        follow(conductor_url, stored.product, stored.obs_id, stored.version, timeout_s)


def _import_all(
    sdb_url: str, product: str, observations: dict[Path, str], about: "About", *, as_json: bool
) -> None:
    """Import several files; what is refused of one is told, and does not stop the others."""
    from batuta.sdb.bulk_sender import NewFile  # noqa: PLC0415  for --help to be fast
    from batuta.service.client import ServiceError  # noqa: PLC0415

    new = [NewFile(file, product, obs_id, about) for file, obs_id in observations.items()]
    told: list[dict[str, Any]] = []
    failed = 0
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        try:
            for file, outcome in zip(new, sdb.import_files(new), strict=True):
                failed += isinstance(outcome, ServiceError)
                if as_json:
                    told.append(_told(file, outcome))
                elif isinstance(outcome, ServiceError):
                    typer.echo(printable(f"{file.path}: {outcome}"), err=True)
                else:
                    echo(_line(outcome))
        finally:  # also where the sdb cannot be reached any more: what was imported is told
            if as_json:
                print_json(told)
    if failed:
        raise NotAllImportedError(
            f"{failed} of {format_count(len(new), 'file')} not imported; the others were"
        )


def _told(file: "NewFile", outcome: "Outcome") -> dict[str, Any]:
    if isinstance(outcome, BatutaError):
        return {"file": str(file.path), "error": str(outcome)}
    return {"file": str(file.path), **_as_dict(outcome)}


def _as_dict(imported: "Imported") -> dict[str, Any]:
    return {**imported.stored.model_dump(mode="json"), "is_new": imported.is_new}


def _line(imported: "Imported") -> str:
    stored = imported.stored
    done = "imported" if imported.is_new else f"was there already, since {moment(stored)}"
    size = format_bytes(stored.size)
    return f"{version_name(stored)} {done}: {size}, sha256 {stored.sha256}"


def _check_files(files: Sequence[Path], of_one: dict[str, object]) -> None:
    problems = [f"{file}: not a file" for file in files if not file.is_file()]
    if len(files) > 1:
        problems += [
            f"{option}: {len(files)} files given (accepted with it: one)"
            for option, value in of_one.items()
            if value is not None
        ]
    if problems:
        raise ConfigurationError(problems)


def _observations(files: Sequence[Path], obs_id: str) -> dict[Path, str]:
    """Return the observation of each file; each file once."""
    found = {file: obs_id.replace(STEM, _stem(file)) for file in files}
    if STEM not in obs_id:
        return found
    problems: list[str] = []
    files_of: dict[str, Path] = {}
    for file, name in found.items():
        if (problem := name_problem("obs_id", name)) is not None:
            problems.append(f"--obs-id {obs_id}: {file}: {problem}")
        elif (other := files_of.setdefault(name, file)) is not file:
            # Unasked, one would become a version of the other.
            problems.append(f"--obs-id {obs_id}: {name!r} of both {other} and {file}")
    if problems:
        raise ConfigurationError(problems)
    return found


def _stem(file: Path) -> str:
    """Return the name of a file without its suffix, and that of its compression."""
    name = Path(file.stem) if file.suffix in COMPRESSED else file
    return name.stem


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ConfigurationError(f"{option} {text!r}: not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise ConfigurationError(f"{option} {text!r}: not a JSON object")
    return value
