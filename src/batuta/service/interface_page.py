"""The page ``/docs``: the interface of a service, drawn from its OpenAPI; nothing is loaded or run.

FastAPI's own loads its scripts from the network: it shows nothing without, and runs what a third
party serves in the origin of the service.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 60rem; padding: 0 1rem }
h2 { border-bottom: 1px solid; margin-top: 3rem }
h3 { font: bold 1rem/1.5 ui-monospace, monospace; margin: 2rem 0 0; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
td, th { border-top: 1px solid #8888; padding: .3rem .6rem .3rem 0; text-align: left;
  vertical-align: top; overflow-wrap: anywhere }
th { white-space: nowrap; font-weight: normal; font-family: ui-monospace, monospace }
pre { overflow-x: auto; white-space: pre-wrap }
"""
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; sandbox"
)
"""It runs and loads nothing: only its own style is applied."""
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_REFERENCE: Final = "#/components/schemas/"

Document = Mapping[str, Any]


def interface_page(interface: Document) -> str:
    """Return an OpenAPI document as an HTML page."""
    info = interface["info"]
    title = escape(str(info["title"]))
    schemas = interface.get("components", {}).get("schemas", {})
    return "".join(
        (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>',
            '<meta name="viewport" content="width=device-width">',
            f"<style>{_STYLE}</style><h1>{title} {escape(str(info['version']))}</h1>",
            f"<p>{escape(str(info.get('description', '')))}</p>",
            '<p>For programs: <a href="openapi.json">openapi.json</a></p>',
            *_operations(interface["paths"]),
            "<h2>Schemas</h2>" if schemas else "",
            *(_schema(name, schemas[name]) for name in sorted(schemas)),
            "</html>",
        )
    )


def _operations(paths: Document) -> Iterator[str]:
    by_tag: dict[str, list[str]] = defaultdict(list)
    for path, operations in paths.items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = str(next(iter(operation.get("tags", ())), "other"))
                by_tag[tag].append(_operation(method, path, operation))
    for tag, found in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        yield from found


def _operation(method: str, path: str, operation: Document) -> str:
    told = operation.get("description") or operation.get("summary", "")
    paragraphs = "".join(f"<p>{escape(each)}</p>" for each in str(told).split("\n\n"))
    rows = [_parameter(each) for each in operation.get("parameters", ())]
    body = operation.get("requestBody")
    if body is not None:
        rows += _contents("body", "", body.get("content", {}))
    for status, answer in operation.get("responses", {}).items():
        # Problems that any route may answer with would hide what each is for.
        if str(status).startswith(("1", "2", "3")):
            told = str(answer.get("description", ""))
            rows += _contents(f"answer {status}", told, answer.get("content", {})) or [
                _row(f"answer {status}", escape(told))
            ]
    return f"<h3>{method.upper()} {escape(path)}</h3>{paragraphs}{_table(rows)}"


def _parameter(parameter: Document) -> str:
    need = "required" if parameter.get("required") else "optional"
    what = ", ".join(filter(None, (parameter["in"], need)))
    kind = _kind(parameter.get("schema", {}))
    told = escape(str(parameter.get("description", "")))
    return _row(str(parameter["name"]), f"{what}: {kind}<br>{told}" if told else f"{what}: {kind}")


def _contents(label: str, told: str, content: Document) -> list[str]:
    return [
        _row(label, f"{escape(media_type)}: {_kind(each.get('schema', {}))} {escape(told)}")
        for media_type, each in content.items()
    ]


def _kind(schema: Document) -> str:
    """Return the type that a schema describes, with links to those that have names."""
    if "$ref" in schema:
        name = escape(str(schema["$ref"]).removeprefix(_REFERENCE))
        return f'<a href="#{name}">{name}</a>'
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(_kind(each) for each in schema[key])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    told = {name: value for name, value in schema.items() if name in _CONSTRAINTS}
    limits = "".join(f", {escape(name)} {escape(json.dumps(told[name]))}" for name in told)
    return escape(str(schema.get("type", "any"))) + limits


_CONSTRAINTS: Final = frozenset(
    {
        "default",
        "enum",
        "const",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
    }
)


def _schema(name: str, schema: Document) -> str:
    required = set(schema.get("required", ()))
    rows = [
        _row(
            field if field in required else f"{field} (optional)",
            f"{_kind(each)}<br>{escape(str(each.get('description', '')))}",
        )
        for field, each in schema.get("properties", {}).items()
    ]
    told = escape(str(schema.get("description", "")))
    text = f"<p>{told}</p>{_table(rows)}" if rows else f"<p>{told} {_kind(schema)}</p>"
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>{text}'


def _row(name: str, text: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{text}</td></tr>"


def _table(rows: Iterable[str]) -> str:
    return f"<table>{''.join(rows)}</table>"
