"""`batuta export` and `ls`: products by hand."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from batuta.cli.clients import sdb_at
from batuta.cli.output import (
    SDB_URL,
    AsJson,
    SdbUrl,
    echo,
    print_json,
    print_table,
)
from batuta.formatting import format_bytes, format_count

if TYPE_CHECKING:
    from batuta.sdb.client import SdbClient
    from batuta.sdb.records import StoredProduct

PANEL: Final = "Products"
FILE_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,8}){1,2}$")
"""The only part of an imported file's name that is reused: ``.fits``, ``.tar.gz``."""
PICTURE_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
RETRY_FOR_S: Final = 5.0
"""How long to retry while the sdb cannot be reached: a person is waiting."""

Product = Annotated[str, typer.Argument(help="Name of the product.")]
ObsId = Annotated[str, typer.Argument(help="The observation.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("export", rich_help_panel=PANEL)(export)
    app.command("ls", rich_help_panel=PANEL)(ls)


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
        echo(f"{version_name(stored)} exported to {to}: {format_bytes(stored.size)}")


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
        echo(f"{version_name(known)} its quicklook exported to {to}: {size}, {picture.origin}")


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
                moment(stored),
            )
            for stored in found
        ],
    )


def version_name(stored: "StoredProduct") -> str:
    """Return what lines call a version, with a comma after it."""
    stage = "" if stored.stage is None else f" ({stored.stage})"
    return f"{stored.product} of {stored.obs_id}, version {stored.version}{stage},"


def moment(stored: "StoredProduct") -> str:
    """Return when a version was recorded."""
    return f"{stored.created:%Y-%m-%d %H:%M:%S}"


def _file_for(stored: "StoredProduct", output: Path | None) -> Path:
    """Return the file to write: `output`, or a generated name in the folder `output`."""
    if output is not None and not output.is_dir():
        return output
    return (output or Path()) / _fileversion_name(stored)


def _fileversion_name(stored: "StoredProduct") -> str:
    """Return a file name for a product, with the suffix of the imported file."""
    ending = FILE_SUFFIX.search(stored.filename or "")
    suffix = ending.group() if ending else ""
    return f"{stored.product}-{stored.obs_id}-v{stored.version}{suffix}"
