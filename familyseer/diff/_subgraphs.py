"""The subgraphs of two runs matched: the same computation by its hash, a similar one by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from familyseer.report import _facts as facts
from familyseer.report._read import RunData
from familyseer.report._schedules import Schedule

_Member = Mapping[str, Any]


def match_subgraphs(first: RunData, second: RunData) -> dict[str, Any]:
    """What each run found of each subgraph.

    Returns
    -------
    dict
        ``subgraphs``, those of both runs, what takes most of the first model's time first; the
        names that ``only_first`` and ``only_second`` have; and ``estimated_us``, the sum of weight
        times best time over the subgraphs that are the same computation and were measured in both.
    """
    pairs, rest_first, rest_second = _match(_members(first), _members(second))
    rows = [_row(first, second, a, b, by) for a, b, by in pairs]
    rows.sort(key=lambda row: -(row["best_us"]["first"] or 0.0) * row["weight"]["first"])
    alike = [
        row for row in rows if row["matched_by"] == "hash" and None not in row["best_us"].values()
    ]
    return {
        "estimated_us": {
            side: sum(row["best_us"][side] * row["weight"]["first"] for row in alike) or None
            for side in ("first", "second")
        },
        "estimated_of": len(alike),
        "subgraphs": rows,
        "only_first": [facts.shown(one["name"], facts.SHORT) for _, one in rest_first],
        "only_second": [facts.shown(one["name"], facts.SHORT) for _, one in rest_second],
    }


def _members(run: RunData) -> list[tuple[str, _Member]]:
    """Family's name and description of each subgraph, in the model's order."""
    found = [(family["name"], one) for family in run.families for one in family["subgraphs"]]
    return sorted(found, key=lambda pair: pair[1]["index"])


_Found = tuple[str, _Member]


def _match(
    first: Sequence[_Found], second: Sequence[_Found]
) -> tuple[list[tuple[_Found, _Found, str]], list[_Found], list[_Found]]:
    pairs: list[tuple[_Found, _Found, str]] = []
    left, right = list(first), list(second)
    for by, key in (("hash", _hash), ("name", _name)):
        waiting = {key(one): one for one in right}
        for one in list(left):
            # each once: a name may be there twice where a file was edited by hand
            other = waiting.pop(key(one), None)
            if other is not None:
                pairs.append((one, other, by))
                left.remove(one)
                right.remove(other)
    return pairs, left, right


def _hash(found: _Found) -> Any:
    return found[1]["key"]


def _name(found: _Found) -> Any:
    return found[1]["name"], tuple(map(str, found[1]["operations"]))


def _row(first: RunData, second: RunData, a: _Found, b: _Found, by: str) -> dict[str, Any]:
    schedules = first.schedules.get(a[1]["key"]), second.schedules.get(b[1]["key"])
    best = [None if one is None else one.run_us for one in schedules]
    ratio = best[0] / best[1] if best[0] and best[1] else None
    return {
        "name": facts.shown(a[1]["name"], facts.SHORT),
        "key": a[1]["key"],
        "matched_by": by,
        "weight": {"first": a[1]["weight"], "second": b[1]["weight"]},
        "family": {"first": a[0], "second": b[0]},
        "best_us": {"first": best[0], "second": best[1]},
        "ratio": ratio,
        "trials": _each(schedules, "trials"),
        "failed": _each(schedules, "failed"),
    }


def _each(schedules: Sequence[Schedule | None], name: str) -> dict[str, int | None]:
    values = [None if one is None else int(getattr(one, name)) for one in schedules]
    return {"first": values[0], "second": values[1]}
