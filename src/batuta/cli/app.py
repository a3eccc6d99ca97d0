"""The command tree, and the translation of failures to messages and exit codes.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

import typer

from batuta import __version__
from batuta.cli.lazy_commands import LazyGroup
from batuta.errors import BatutaError, ConfigurationError, printable

DONE: Final = 0
FAILED: Final = 1
USAGE_ERROR: Final = 2
INTERRUPTED: Final = 130

app = typer.Typer(
    name="batuta",
    cls=LazyGroup,
    help="Conducts scientific processing, from the arrival of data to the archived product.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)


@app.callback(invoke_without_command=True)
def _version(
    *, version: bool = typer.Option(False, "--version", help="Print the version.")
) -> None:
    if version:
        typer.echo(f"batuta {__version__}")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> int:
    """Run the command, and return its exit code."""
    try:
        app(args=arguments)
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else DONE
    except KeyboardInterrupt:
        return INTERRUPTED
    except (BatutaError, OSError, BaseExceptionGroup) as exc:
        return _report(exc)
    return DONE


def _report(exc: BaseException) -> int:
    errors = [_translate_os_error(error) for error in _leaves(exc)]
    if not all(isinstance(error, BatutaError) for error in errors):
        # Not an error of ours, but a defect: a developer needs its traceback.
        raise exc
    for error in errors:
        for line in printable(f"{error}{_way_out(error)}").splitlines():
            print(f"batuta: {line}", file=sys.stderr)  # noqa: T201  the command's own message
    wrong_use = all(isinstance(error, ConfigurationError) for error in errors)
    return USAGE_ERROR if wrong_use else FAILED


_ADDRESSES: Final = {
    "conductor": "--conductor-url, BATUTA_CONDUCTOR_URL",
    "sdb": "--sdb-url, BATUTA_SDB_URL",
    "NATS": "--nats-url, BATUTA_NATS_URL",
}
"""How the address of a service is given, by the first word of what is said of it."""


def _way_out(error: BaseException) -> str:
    """Return what to do about an error of a service, to be added to its line."""
    if getattr(error, "unreachable", False):
        from batuta.tls import tls_reason  # noqa: PLC0415  for --help to be fast

        if tls_reason(error) is not None:  # it runs: it was reached
            return ""
        given = _ADDRESSES.get(str(error).split(maxsplit=1)[0].rstrip(":"))
        elsewhere = f" (at another address: {given})" if given else ""
        return f': is "batuta up" running?{elsewhere}'
    if getattr(error, "status", None) == HTTPStatus.UNAUTHORIZED:
        return ": give the token of the orchestra, or your own, in BATUTA_TOKEN"
    return ""


def _translate_os_error(error: BaseException) -> BaseException:
    """Turn the error of a file that cannot be read or written into one line."""
    if isinstance(error, OSError) and error.filename is not None:
        return BatutaError(f"{error.filename}: {error.strerror}")
    return error


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    else:
        yield exc
