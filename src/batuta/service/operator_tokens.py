"""The file of the operators' own tokens, ``NAME: TOKEN``: each proves who gives a command."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from batuta.errors import ConfigurationError
from batuta.service.operators import OPERATOR_RULE, is_operator_name
from batuta.service.settings import TOKEN_RULE, is_token
from batuta.yaml_text import BoundedLoader, read_text, yaml_problem


def read_operator_tokens(path: Path | None) -> dict[str, str]:
    """Read tokens by the names of their operators; none without a file.

    Raises
    ------
    ConfigurationError
        One line per mistake; no token is quoted in it.
    """
    if path is None:
        return {}
    text = read_text(path)
    try:
        document = yaml.load(text, BoundedLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {yaml_problem(exc)}") from exc
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path}: not a mapping (accepted: NAME: TOKEN, a line each)")
    problems = [f"{path}: {line}" for line in _problems(document)]
    if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        problems.append(f"{path}: others can read it (accepted: chmod 600)")
    if problems:
        raise ConfigurationError(problems)
    return {str(name): token for name, token in document.items()}


def _problems(document: Mapping[object, object]) -> Iterator[str]:
    owners: dict[object, object] = {}
    for name, token in document.items():
        if not (isinstance(name, str) and is_operator_name(name)):
            yield f"{name!r:.80} is no operator's name (accepted: {OPERATOR_RULE})"
        elif not (isinstance(token, str) and is_token(token)):
            yield f"the token of {name} is refused (accepted: {TOKEN_RULE})"
        elif owners.setdefault(token, name) != name:
            yield f"{name} has the token of {owners[token]} (accepted: one for each)"
