"""What a program tells of its products, in files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from batuta.datasets.json_codec import to_json

INDEX_FILE: Final = "index.yaml"
"""In the folder of each product, what it is made of."""

_YAML: Final = frozenset({".yaml", ".yml"})


def merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Merge `new` in `into`, dictionary by dictionary; other values take the place of old ones."""
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` in JSON, or in YAML where the name of the file says so."""
    told = to_json(content)
    text = _yaml(told) if path.suffix in _YAML else json.dumps(told, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _yaml(content: Any) -> str:
    import yaml  # noqa: PLC0415 - a tenth of our import, for those who ask for YAML

    return yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
