"""Commands generated from settings: each field is an option, an environment variable and a key.

An option is declared once, in the settings of its service.
"""

import inspect
import json
import logging
import stat
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from batuta.credentials import has_credentials
from batuta.errors import ConfigurationError, describe_value
from batuta.validation import validated
from batuta.yaml_text import BoundedLoader, read_text, yaml_problem

LOG: Final = logging.getLogger(__name__)

M = TypeVar("M", bound=BaseModel)

_SINGULAR: Final = {
    "provider_urls": "provider_url",
    "product_quotas": "product_quota",
    "reference_folders": "reference_folder",
}
"""Options that are repeated, once for each."""
CONFIG_HELP: Final = (
    "YAML or JSON file of these options; the command line and environment take precedence."
)


def settings_command(
    model: type[M],
    run: Callable[..., None],
    argument: inspect.Parameter | None = None,
    *,
    only: Collection[str] | None = None,
    besides: Sequence[inspect.Parameter] = (),
) -> Callable[..., None]:
    """Return a command that calls `run`, with an option for each field of `model`.

    Parameters
    ----------
    model : type
        The settings.
    run : callable
        Called with the settings, after `argument` where there is one. Its docstring is the
        command's help.
    argument : inspect.Parameter, optional
        A positional argument of the command.
    only : collection of str, optional
        The fields that are options; by default all.
    besides : sequence of inspect.Parameter
        Options that are no settings: given to `run` by their names.
    """

    def command(**given: Any) -> None:
        if given["context"].invoked_subcommand is not None:
            _refuse_options_before(given["context"])
            return
        first = [given.pop(argument.name)] if argument else []
        others = {each.name: given.pop(each.name) for each in besides}
        config: Path | None = given.pop("config")
        context: typer.Context = given.pop("context")
        run(*first, read_settings(model, given, config, _key_names(given, context)), **others)

    parameters = [argument] if argument else []
    fields = model.model_fields.items()
    parameters += [_option(name, info) for name, info in fields if only is None or name in only]
    parameters += besides
    parameters.append(_parameter("config", Path | None, typer.Option(help=CONFIG_HELP)))
    parameters.append(
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    command.__doc__ = run.__doc__
    command.__name__ = run.__name__
    return command


def _refuse_options_before(context: typer.Context) -> None:
    """Refuse the options of a service in front of a command of it, which would ignore them.

    Raises
    ------
    ConfigurationError
        One line per option.
    """
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        command = context.invoked_subcommand
        raise ConfigurationError(
            f"--{_option_name(name)}: give it after {command}, not before" for name in given
        )


def _key_names(fields: Iterable[str], context: typer.Context) -> dict[str, str]:
    """Return how each of the fields was given, or could be: its variable, or its option."""

    def name_of(field: str) -> str:
        source = context.get_parameter_source(field)
        from_variable = source is not None and source.name == "ENVIRONMENT"
        return f"BATUTA_{field.upper()}" if from_variable else f"--{_option_name(field)}"

    return {field: name_of(field) for field in fields}


def read_settings(
    model: type[M],
    given: Mapping[str, Any],
    config: Path | None = None,
    key_names: Mapping[str, str] | None = None,
) -> M:
    """Return settings from the options `given` (None: not given), which override a file.

    `key_names` tells how each was given, for messages: ``--port``, or ``BATUTA_PORT``.

    Raises
    ------
    ConfigurationError
        One line per mistake.
    """
    values = read_document(config) if config else {}
    options = {
        name: value
        if _is_list(model.model_fields[name])
        else _pairs_to_dict(value, _option_name(name), _form_of_pairs(model.model_fields[name]))
        for name, value in given.items()
        if value not in (None, [])
    }
    names = key_names or {}
    if config is not None:  # the file is where the others are looked for, and are missing
        names = {name: given_as for name, given_as in names.items() if name in options}
    return validated(
        model, {**values, **options}, source=str(config) if config else "", key_names=names
    )


def read_document(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or is not a mapping.
    """
    text = read_text(path)
    try:
        document = yaml.load(text, BoundedLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {yaml_problem(exc)}") from exc
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"{path}: {_kind_of(document)} given, a mapping of keys expected (YAML or JSON)"
        )
    if _has_secrets(document) and path.stat().st_mode & stat.S_IROTH:
        LOG.warning("%s: has secrets, and every user of this machine can read it: chmod 600", path)
    return document


def _kind_of(document: object) -> str:
    if document is None:
        return "nothing"
    return "a list" if isinstance(document, list) else describe_value(document)


def _has_secrets(value: object, key: str = "") -> bool:
    """Whether a document has a token, or a URL with credentials."""
    if isinstance(value, dict):
        return any(_has_secrets(each, str(name)) for name, each in value.items())
    if isinstance(value, list):
        return any(_has_secrets(each) for each in value)
    return isinstance(value, str) and (key.endswith("token") or _is_secret(value))


def arguments_of(settings: BaseModel) -> list[str]:
    """Return the command-line options of `settings`; secrets go by environment instead."""
    arguments: list[str] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        option = "--" + _option_name(name)
        if value is None or _is_secret(value):
            continue
        if isinstance(value, bool):
            arguments.append(option if value else f"--no-{_option_name(name)}")
        elif isinstance(value, list):
            arguments += [part for each in value for part in (option, str(each))]
        elif isinstance(value, dict | BaseModel):
            pairs = value if isinstance(value, dict) else _given_keys(value)
            arguments += [part for key in pairs for part in (option, f"{key}={pairs[key]}")]
        else:
            arguments += [option, str(value)]
    return arguments


def secrets_of(settings: BaseModel) -> dict[str, str]:
    """Return the secrets as environment variables: command lines are visible to all users."""
    found = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if _is_secret(value):
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            found[f"BATUTA_{name.upper()}"] = text
    return found


def _is_secret(value: object) -> bool:
    """Whether a value is a token, or a URL with credentials."""
    address = isinstance(value, str) and has_credentials(value)
    return address or isinstance(value, SecretStr)


def _option(name: str, info: FieldInfo) -> inspect.Parameter:
    kind = _simple_type(info.annotation)
    # A computed default depends on the machine; the description explains it.
    default = None if info.default is PydanticUndefined else info.default
    names = [f"--{_option_name(name)}/--no-{_option_name(name)}"] if kind is bool else None
    declared = typer.Option(
        *(names or _option_names(name)),
        envvar=f"BATUTA_{name.upper()}",
        help=info.description if default is None else f"{info.description} (default: {default})",
        show_default=False,
        metavar=_form_of_pairs(info) if kind == list[str] else None,
    )
    return _parameter(name, kind | None if kind != list[str] else kind, declared)


def _parameter(name: str, kind: Any, declared: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=[] if kind == list[str] else None,
        annotation=Annotated[kind, declared],
    )


def _option_names(field: str) -> list[str]:
    # --wait-min is accepted beside --wait-min-s: its help states the unit.
    long = "--" + _option_name(field)
    return [long.removesuffix("-s"), long] if long.endswith("-s") else [long]


def _option_name(field: str) -> str:
    return _SINGULAR.get(field, field).replace("_", "-")


def _simple_type(annotation: Any) -> Any:
    """Return the type that the command line parses for a field."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) in (dict, list) or _is_model(annotation):
        return list[str]
    return annotation if annotation in (int, float, bool, Path) else str


def _is_list(info: FieldInfo) -> bool:
    return get_origin(info.annotation) is list


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _given_keys(value: BaseModel) -> dict[str, Any]:
    """Return the keys of a mapping that were given, as they are written."""
    return value.model_dump(mode="json", exclude_unset=True, exclude_none=True)


def _form_of_pairs(info: FieldInfo) -> str:
    """Return how the items of an option are written that is repeated."""
    if _is_list(info):
        return "PROVIDER"
    if _is_model(info.annotation):
        return "KEY=VALUE"
    return "PRODUCT=BYTES" if get_args(info.annotation) == (str, int) else "PROVIDER=URL"


def _pairs_to_dict(value: Any, option: str, form: str) -> Any:
    if not isinstance(value, list):
        return value
    pairs = [item.partition("=") for item in value]
    wrong = [json.dumps("".join(pair)) for pair in pairs if not (pair[0] and pair[2])]
    if wrong:
        raise ConfigurationError(f"--{option} {text}: not {form}" for text in wrong)
    return {name: url for name, _, url in pairs}
