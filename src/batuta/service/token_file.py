"""The file of named tokens: for each its digest and its scopes, and never the token itself.

A token is 256 random bits, so that its SHA-256 alone keeps it: nobody finds it by trying. Slow
hashes with a salt (Argon2, bcrypt) protect what people think of, and would cost each request
milliseconds.
"""

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from batuta.durable_folders import create_folder
from batuta.errors import ConfigurationError
from batuta.private_files import PRIVATE_FILE, PRIVATE_FOLDER, replace_private
from batuta.service.operators import OPERATOR_RULE, is_operator_name
from batuta.service.scopes import Scope, in_order
from batuta.validation import validated
from batuta.yaml_text import BoundedLoader, read_text, yaml_problem

PREFIX: Final = "batuta_"
"""How tokens begin, so that programs which look for secrets in files find them."""
TOKEN_BYTES: Final = 32
HEADER: Final = (
    "# Tokens of Batuta, by the names of their owners: written by batuta token. Services notice a\n"
    "# change within seconds. The tokens themselves are not in it.\n"
)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


def _check_digest(text: str) -> str:
    if _DIGEST.fullmatch(text) is None:
        raise ValueError("not the SHA-256 of a token (accepted: 64 hexadecimal digits)")
    return text


def _check_scopes(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    if not scopes:
        raise ValueError(f"none given (accepted: {', '.join(Scope)})")
    return scopes


def _to_moment(given: object) -> object:
    """Take a day of YAML for its beginning."""
    if isinstance(given, date) and not isinstance(given, datetime):
        return datetime.combine(given, time())
    return given


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError as exc:
        raise ValueError("not a time in UTC (accepted: years 1 to 9999)") from exc


Moment = Annotated[datetime, BeforeValidator(_to_moment), AfterValidator(_to_utc)]


class TokenEntry(BaseModel):
    """What the file holds of a token.

    Attributes
    ----------
    sha256_of_token : str
        In hexadecimal. By the end of its name no message quotes it, whatever was written there.
    scopes : tuple of Scope
        What it may do, without what these include.
    created : datetime
        When it was made.
    expires : datetime or None
        From when on it is refused.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256_of_token: Annotated[str, AfterValidator(_check_digest)]
    scopes: Annotated[tuple[Scope, ...], AfterValidator(_check_scopes)]
    created: Moment
    expires: Moment | None = None


def digest_of(token: bytes) -> bytes:
    """Return the digest by which a token is recognised."""
    return hashlib.sha256(token).digest()


def read_tokens(path: Path) -> dict[str, TokenEntry]:
    """Read tokens by the names of their owners; none if there is no such file.

    Raises
    ------
    ConfigurationError
        One line per mistake; no token is quoted in it.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise ConfigurationError(f"{path}: cannot be read: {exc.strerror}") from exc
    document = _document(path)
    problems: list[str] = []
    entries: dict[str, TokenEntry] = {}
    for name, given in document.items():
        try:
            entries[str(name)] = _entry(path, name, given)
        except ConfigurationError as exc:
            problems += exc.problems
    problems += _repeated(path, entries)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        problems.append(f"{path}: others can read or change it (accepted: chmod 600)")
    if problems:
        raise ConfigurationError(problems)
    return entries


def add_token(
    path: Path, name: str, scopes: Sequence[Scope], expires: datetime | None = None
) -> str:
    """Add a token to the file, which is created if it is missing, and return it.

    Raises
    ------
    ConfigurationError
        If the name is not accepted or has a token already, or the file is not accepted.
    """
    if not is_operator_name(name):
        raise ConfigurationError(f"{name!r:.80} is no operator's name (accepted: {OPERATOR_RULE})")
    token = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
    entry = TokenEntry(
        sha256_of_token=digest_of(token.encode()).hex(),
        scopes=tuple(in_order(scopes)),
        created=datetime.now(UTC).replace(microsecond=0),
        expires=expires,
    )
    with _locked(path):
        entries = read_tokens(path)
        if name in entries:
            raise ConfigurationError(
                f"{name}: has a token already (accepted: another name, or first: "
                f"batuta token revoke {name!r})"
            )
        _write(path, {**entries, name: entry})
    return token


def revoke_tokens(path: Path, names: Sequence[str]) -> None:
    """Remove the tokens of these owners from the file: of all, or of none.

    Raises
    ------
    ConfigurationError
        If one has none, or the file is not accepted.
    """
    with _locked(path):
        entries = read_tokens(path)
        known = ", ".join(entries) or "none"
        unknown = [name for name in names if name not in entries]
        if unknown:
            raise ConfigurationError(
                f"{name!r:.80}: has no token in {path} (known: {known})" for name in unknown
            )
        _write(path, {name: each for name, each in entries.items() if name not in names})


def _document(path: Path) -> Mapping[object, object]:
    text = read_text(path)
    try:
        document = yaml.load(text, BoundedLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {yaml_problem(exc)}") from exc
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: not a mapping (accepted: what batuta token writes)")
    return document


def _entry(path: Path, name: object, given: object) -> TokenEntry:
    if not (isinstance(name, str) and is_operator_name(name)):
        raise ConfigurationError(
            f"{path}: {name!r:.80} is no operator's name (accepted: {OPERATOR_RULE})"
        )
    if isinstance(given, str):
        raise ConfigurationError(
            f"{path}: {name}: a token in plain text, which is not accepted any more: remove the "
            f"line, and make a new one with: batuta token new {name!r} --scope administer"
        )
    return validated(TokenEntry, given, source=str(path), within=name)


def _repeated(path: Path, entries: Mapping[str, TokenEntry]) -> Iterator[str]:
    owners: dict[str, str] = {}
    for name, entry in entries.items():
        if owners.setdefault(entry.sha256_of_token, name) != name:
            owner = owners[entry.sha256_of_token]
            yield f"{path}: {name} has the token of {owner} (accepted: one for each)"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands from changing the file: what one revokes must not come back by another.

    The lock is a file of its own, as the file itself is replaced.
    """
    path = path.resolve()
    create_folder(path.parent, PRIVATE_FOLDER)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _write(path: Path, entries: Mapping[str, TokenEntry]) -> None:
    document: dict[str, Any] = {
        name: entry.model_dump(mode="json", exclude_none=True) for name, entry in entries.items()
    }
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=None, width=1000)
    replace_private(path, HEADER + text)
