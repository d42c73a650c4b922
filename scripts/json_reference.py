"""Writes docs/json.md, the reference of what ``--json`` prints, from the commands' JSON Schemas.

    .venv/bin/python scripts/json_reference.py

A test compares the page with what this makes, so run it after each change of a schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from familyseer.cli.schema import load, names

PAGE = Path(__file__).resolve().parents[1] / "docs" / "json.md"
_OPENING = """\
# JSON

With `--json` every command prints one JSON object on standard output, and nothing else there.
Errors are one line on standard error all the same, with exit code 2 (wrong use, unreadable input)
or 1 (anything else).
Numbers that JSON cannot hold, NaN and infinity, are null.

`familyseer schema COMMAND` prints the JSON Schema (2020-12) of a command; this page is made from
them by `scripts/json_reference.py`. Properties may be added to an object by a later version, so a
reader should not refuse those that it does not know.

In the tables `a.b` is the property `b` of `a`, `a[].b` that of each element of the array `a`, and
`a.*.b` that of each value of an object whose keys are names.
"""


def render() -> str:
    """The page."""
    return "\n".join([_OPENING, *(section for name in names() for section in _section(name))])


def _section(name: str) -> Iterator[str]:
    schema = load(name)
    yield f"## {schema['title']} --json\n"
    yield f"{schema['description']} Schema: `familyseer schema {name}`.\n"
    yield "| property | type | what it is |"
    yield "| --- | --- | --- |"
    for path, one in _properties(schema, ""):
        text = " ".join([one.get("description", ""), *_values(one)]).strip()
        yield f"| `{path}` | {_type(one)} | {text.replace('|', '&#124;')} |"
    yield ""


def _properties(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every property at any depth, with where it is."""
    for name, one in schema.get("properties", {}).items():
        inner = f"{path}{name}"
        yield inner, one
        yield from _properties(one, f"{inner}.")
        for below, mark in (("items", "[]."), ("additionalProperties", ".*.")):
            if isinstance(one.get(below), dict):
                yield from _properties(one[below], f"{inner}{mark}")


def _type(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "any value")
    listed = [kinds] if isinstance(kinds, str) else list(kinds)
    if "array" in listed and "type" in schema["items"]:
        listed[listed.index("array")] = f"array of {_type(schema['items'])}"
    return " or ".join(listed)


def _values(schema: Mapping[str, Any]) -> list[str]:
    if "enum" not in schema:
        return []
    return ["One of " + ", ".join(f"`{value}`" for value in schema["enum"]) + "."]


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
