"""`batuta import`, `export` and `ls`: products by hand."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from batuta.cli.clients import sdb_at
from batuta.cli.output import (
    CONDUCTOR_URL,
    SDB_URL,
    AsJson,
    ConductorUrl,
    SdbUrl,
    echo,
    print_json,
    print_table,
)
from batuta.cli.requests.filter_options import read_stage
from batuta.cli.requests.graph_names import unknown_product
from batuta.cli.requests.waiting import WAIT_TIMEOUT_S, follow
from batuta.errors import ConfigurationError
from batuta.formatting import format_bytes, format_count
from batuta.work_classes import WorkClass

if TYPE_CHECKING:
    from batuta.sdb.client import SdbClient
    from batuta.sdb.records import StoredProduct

PANEL: Final = "Products"
FILE_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")
"""The only part of an imported file's name that is reused: ``.fits``, ``.tar.gz``."""
SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")
PICTURE_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
RETRY_FOR_S: Final = 5.0
"""How long to retry while the sdb cannot be reached: a person is waiting."""

Product = Annotated[str, typer.Argument(help="Name of the product.")]
ObsId = Annotated[str, typer.Argument(help="The observation.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("import", rich_help_panel=PANEL)(import_product)
    app.command("export", rich_help_panel=PANEL)(export)
    app.command("ls", rich_help_panel=PANEL)(ls)


def import_product(  # noqa: PLR0913  each is an option
    file: Annotated[Path, typer.Argument(help="The file.")],
    product: Annotated[str, typer.Option(help="Name of the product.")],
    obs_id: Annotated[str, typer.Option(help="The observation.")],
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
    """Import a file into the sdb, as a new version of a product."""
    if not file.is_file():
        raise ConfigurationError(f"{file}: not a file")
    if quicklook is not None and not quicklook.is_file():
        raise ConfigurationError(f"--quicklook {quicklook}: not a file")
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ConfigurationError(f"--sha256 {sha256!r}: not 64 hexadecimal digits")
    about = _json_object("--metadata", metadata)
    told = read_stage(stage)
    warning = unknown_product(product, conductor_url, strict=strict)
    if warning is not None:
        typer.echo(f"warning: {warning}", err=True)
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        stored = sdb.import_file(
            file,
            product,
            obs_id,
            metadata=about,
            sha256=sha256,
            stage=told,
            work_class=work_class,
            quicklook=quicklook,
        )
    if as_json:
        print_json(stored.model_dump(mode="json"))
    else:
        echo(f"{_name(stored)} imported: {format_bytes(stored.size)}, sha256 {stored.sha256}")
    if wait:
        follow(conductor_url, stored.product, stored.obs_id, stored.version, timeout_s)


def export(
    product: Product,
    obs_id: ObsId,
    version: Annotated[int | None, typer.Option(help="Version; by default the newest.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder to write to; by default a file PRODUCT-OBS_ID-vN.",
        ),
    ] = None,
    sdb_url: SdbUrl = SDB_URL,
    *,
    quicklook: Annotated[
        bool, typer.Option("--quicklook", help="Export a picture of it instead.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Export a product's file from the sdb, verified by its digest; or a picture of it."""
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        known = sdb.get(product, obs_id, version)
        if quicklook:
            _export_quicklook(sdb, known, output, as_json=as_json)
            return
        to = _file_for(known, output)
        stored = sdb.export(product, obs_id, version=known.version, to=to)
    if as_json:
        print_json({**stored.model_dump(mode="json"), "file": str(to)})
    else:
        echo(f"{_name(stored)} exported to {to}: {format_bytes(stored.size)}")


def _export_quicklook(
    sdb: "SdbClient", known: "StoredProduct", output: Path | None, *, as_json: bool
) -> None:
    is_named = output is not None and not output.is_dir()
    name = f"{known.product}-{known.obs_id}-v{known.version}-quicklook"
    to = output if output is not None and is_named else (output or Path()) / name
    picture = sdb.quicklook(known.product, known.obs_id, known.version, to=to)
    if not is_named:
        to = to.rename(to.with_name(name + PICTURE_SUFFIXES.get(picture.media_type or "", "")))
    if as_json:
        print_json({**picture.model_dump(mode="json"), "file": str(to)})
    else:
        size = format_bytes(picture.size or 0)
        echo(f"{_name(known)} its quicklook exported to {to}: {size}, {picture.origin}")


def ls(
    product: Annotated[str | None, typer.Option(help="Only of this product.")] = None,
    obs_id: Annotated[str | None, typer.Option(help="Only of this observation.")] = None,
    sdb_url: SdbUrl = SDB_URL,
    *,
    as_json: AsJson = False,
) -> None:
    """List the product versions in the sdb."""
    with sdb_at(sdb_url, RETRY_FOR_S) as sdb:
        found = list(sdb.list(product=product, obs_id=obs_id))
    if as_json:
        print_json([stored.model_dump(mode="json") for stored in found])
        return
    print_table(
        format_count(len(found), "product version"),
        ["observation", "product", "version", "stage", "provider", "size", "created"],
        [
            (
                stored.obs_id,
                stored.product,
                stored.version,
                stored.stage,
                stored.provider,
                format_bytes(stored.size),
                f"{stored.created:%Y-%m-%d %H:%M:%S}",
            )
            for stored in found
        ],
    )


def _name(stored: "StoredProduct") -> str:
    stage = "" if stored.stage is None else f" ({stored.stage})"
    return f"{stored.product} of {stored.obs_id}, version {stored.version}{stage},"


def _file_for(stored: "StoredProduct", output: Path | None) -> Path:
    """Return the file to write: `output`, or a generated name in the folder `output`."""
    if output is not None and not output.is_dir():
        return output
    return (output or Path()) / _file_name(stored)


def _file_name(stored: "StoredProduct") -> str:
    """Return a file name for a product, with the suffix of the imported file."""
    ending = FILE_SUFFIX.search(stored.filename or "")
    suffix = ending.group() if ending else ""
    return f"{stored.product}-{stored.obs_id}-v{stored.version}{suffix}"


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
