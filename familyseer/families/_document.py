"""``families.json``: which subgraphs a run put together, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from familyseer.families._base import Family
from familyseer.families._table import families_table
from familyseer.safe_json import load_json
from familyseer.subgraphs import Subgraph

FORMAT = "familyseer-families"
VERSION = 1
_FAMILY = {"name": str, "reason": str, "share": (int, float), "subgraphs": list}
_SUBGRAPH = {
    "index": int,
    "key": str,
    "name": str,
    "weight": int,
    "flops": (int, float),
    "share": (int, float),
    "operations": list,
    "shapes": list,
    "dtypes": list,
}


def families_json(
    families: Sequence[Family], subgraphs: Sequence[Subgraph], method: str
) -> dict[str, Any]:
    """The content of ``families.json``.

    Returns
    -------
    dict
        ``format``, ``version``, ``method`` and ``families``: each with ``name``, ``reason``,
        ``share`` (of the model's flops x weight) and ``subgraphs``, whose fields are those of
        `MemberRow`.

    Raises
    ------
    ValueError
        A family names a subgraph that is not among `subgraphs`.
    """
    rows = families_table(families, subgraphs)
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": method,
        "families": [
            {
                "name": row.family.name,
                "reason": row.family.reason,
                "share": row.share,
                "subgraphs": [_plain(asdict(member)) for member in row.members],
            }
            for row in rows
        ],
    }


def validate_families(document: object) -> dict[str, Any]:
    """Checks the content of a ``families.json`` and gives it back.

    Raises
    ------
    ValueError
        A part is missing or of another type, a subgraph is in two families, or two families have
        one name; the message names the part.
    """
    if not isinstance(document, dict):
        raise ValueError(f"families.json: found {_kind(document)}, expected an object")
    if document.get("format") != FORMAT:
        raise ValueError(
            f"families.json: format is {document.get('format')!r}, expected {FORMAT!r}"
        )
    if document.get("version") != VERSION:
        raise ValueError(
            f"families.json: version is {document.get('version')!r}, expected {VERSION}"
        )
    _check(document, {"method": str, "families": list}, "families.json")
    names: set[str] = set()
    seen: set[int] = set()
    for i, family in enumerate(document["families"]):
        _check(family, _FAMILY, f"families[{i}]")
        if family["name"] in names:
            raise ValueError(f"families[{i}].name: {family['name']!r} is used twice")
        names.add(family["name"])
        for j, subgraph in enumerate(family["subgraphs"]):
            where = f"families[{i}].subgraphs[{j}]"
            _check(subgraph, _SUBGRAPH, where)
            if subgraph["index"] in seen:
                raise ValueError(f"{where}.index: subgraph {subgraph['index']} is in two families")
            seen.add(subgraph["index"])
    return document


def load_families(path: str | Path) -> tuple[str, list[Family]]:
    """Reads a ``families.json``: the method, and the families in their order.

    Raises
    ------
    ValueError
        The file cannot be read, is no JSON, or is not valid (see `validate_families`).
    """
    document = load_json(Path(path), what="the families of a tuning run", error=ValueError)
    try:
        valid = validate_families(document)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    families = [
        Family(f["name"], tuple(sorted(s["index"] for s in f["subgraphs"])), f["reason"])
        for f in valid["families"]
    ]
    return valid["method"], families


def _check(value: object, fields: dict[str, Any], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: found {_kind(value)}, expected an object")
    for name, expected in fields.items():
        if name not in value:
            raise ValueError(f"{where}.{name} is missing")
        # bool is an int to Python, never a count here
        if not isinstance(value[name], expected) or isinstance(value[name], bool):
            words = "a number" if expected == (int, float) else _WORDS[expected]
            raise ValueError(f"{where}.{name}: found {_kind(value[name])}, expected {words}")


_WORDS = {str: "a string", int: "an integer", list: "an array"}


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


def _plain(value: Any) -> Any:
    """Tuples as lists, as JSON will have them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
