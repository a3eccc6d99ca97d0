"""The documents that a program writes about its products: JSON or YAML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batuta.datasets.json_codec import to_json

INDEX_FILE: Final = "index.yaml"
"""Name of the index in the folder of each product."""

_YAML: Final = frozenset({".yaml", ".yml"})


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Merge `new` into `into` recursively; values other than mappings replace old ones."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as YAML where the suffix of `path` is that of YAML, else as JSON."""
    data = to_json(content)
    text = _yaml(data) if path.suffix in _YAML else json.dumps(data, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _yaml(content: Any) -> str:
    import yaml  # noqa: PLC0415 - a tenth of our import time, needed for YAML alone

    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
