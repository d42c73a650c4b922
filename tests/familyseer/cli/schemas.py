"""What commands print, held against their JSON Schemas; more strictly than a reader should be."""

from __future__ import annotations

from typing import Any

import jsonschema

from familyseer.cli.schema import load


def strict(schema: Any) -> Any:
    """A schema that takes no property which it does not describe."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def conforms(document: Any, name: str) -> None:
    """Fails where a document is not what the schema of that name says, or holds more."""
    jsonschema.validate(document, strict(load(name)), jsonschema.Draft202012Validator)
