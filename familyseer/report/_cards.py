"""Families, schedules and failures as parts of a page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element

from familyseer.report import _facts as facts
from familyseer.report._html import folded, table, tag
from familyseer.report._plot import Table
from familyseer.report._read import RunData
from familyseer.units import format_count, format_latency, format_percent

# of a page that is to open at once on a phone
_MOST_FAMILIES = 200
_MOST_TRACES = 1_000_000
_MOST_NAMES = 12
_MOST_REASONS = 40
_NUMBER = re.compile(r"\d+(\.\d+)?")


def best_us(data: RunData) -> dict[str, float]:
    """Each subgraph's best measured time in microseconds, by name."""
    # the history's is there too where the records cannot be read
    found = {row.subgraph: row.best_us for row in data.rounds if row.best_us is not None}
    for family in data.families:
        for member in family["subgraphs"]:
            if member["key"] in data.schedules:
                name = facts.shown(member["name"], facts.SHORT)
                found[name] = data.schedules[member["key"]].run_us
    return found


def families(data: RunData) -> Iterator[Element]:
    """A card a family, those with the largest share of the model first."""
    if not data.families:
        yield tag("p", "The families are not known.", class_="soft")
        return
    times = best_us(data)
    weighted = {
        facts.shown(member["name"], facts.SHORT): member["weight"]
        * times.get(facts.shown(member["name"], facts.SHORT), 0.0)
        for family in data.families
        for member in family["subgraphs"]
    }
    # a share of a sum that lacks some of its parts says nothing
    total = sum(weighted.values()) if set(weighted) <= set(times) else 0.0
    cards = sorted(data.families, key=lambda family: -float(family["share"]))
    for family in cards[:_MOST_FAMILIES]:
        yield _family(data, family, times, weighted, total)
    if len(cards) > _MOST_FAMILIES:
        left_out = format_count(len(cards) - _MOST_FAMILIES, "family", "families")
        yield tag("p", f"{left_out} with smaller shares are in families.json.", class_="soft")


def _family(
    data: RunData,
    family: Mapping[str, Any],
    times: Mapping[str, float],
    weighted: Mapping[str, float],
    total: float,
) -> Element:
    name = facts.shown(family["name"], facts.SHORT)
    members = [(facts.shown(m["name"], facts.SHORT), m) for m in family["subgraphs"]]
    said = [
        format_count(len(members), "subgraph"),
        f"{format_percent(float(family['share']))} of the model's operations",
    ]
    if total:
        share = sum(weighted[n] for n, _ in members) / total
        said.append(f"{format_percent(share)} of its estimated latency now")
    ranked = [row.accuracy for row in data.accuracy if row.family == name]
    if ranked:
        said.append(f"its model orders {format_percent(ranked[-1])} of pairs right")
    rows = tuple(
        (
            n,
            format_latency(times.get(n)),
            format_percent(float(member["share"])),
            str(member["weight"]),
            _trials(data, n, member["key"]),
            origin(data, n, member["key"]),
        )
        for n, member in members
    )
    # what fits a phone without moving the table comes first
    headings = ("subgraph", "best", "of operations", "runs", "trials", "schedule")
    return tag(
        "article",
        tag("h3", name),
        tag("p", facts.shown(family["reason"])),
        tag("p", "; ".join(said) + ".", class_="soft"),
        table(
            Table(headings, rows, frozenset({1, 2, 3, 4})),
            f"Subgraphs of {name}",
            where_else="families.json",
        ),
    )


def _trials(data: RunData, name: str, key: str) -> str:
    schedule = data.schedules.get(key)
    failed = schedule.failed if schedule else sum(one.subgraph == name for one in data.failures)
    trials = schedule.trials if schedule else failed
    return f"{trials} ({failed} failed)" if failed else str(trials)


def origin(data: RunData, name: str, key: str) -> str:
    """Where a subgraph's schedule in the library comes from, in words."""
    reason = facts.text(facts.mapping(data.summary, "fell_back"), name)
    schedule = data.schedules.get(key)
    if schedule is None:
        return f"TVM's default: {reason}" if reason else "TVM's default"
    words = f"candidate {schedule.position} of {schedule.trials}"
    if schedule.run > 1:
        words += f", in run {schedule.run} here"
    words += f": {schedule.words}"
    return f"{words}; not used as it is: {reason}" if reason else words


def schedules(data: RunData) -> Iterator[Element]:
    """Each subgraph's best schedule, folded, those that take most of the model's time first."""
    members = [
        (facts.shown(member["name"], facts.SHORT), member, data.schedules[member["key"]])
        for family in data.families
        for member in family["subgraphs"]
        if member["key"] in data.schedules
    ]
    if not members:
        yield tag("p", "No schedule was measured, or the records cannot be read.", class_="soft")
        return
    members.sort(key=lambda one: (-one[1]["weight"] * one[2].run_us, one[0]))
    room = _MOST_TRACES
    for name, _, schedule in members:
        room -= len(schedule.trace)
        if room < 0:
            yield tag("p", "Further schedules are in tuning/.", class_="soft")
            return
        drawn = folded("", tag("p", schedule.words + "."), tag("pre", tag("code", schedule.trace)))
        drawn[0].text = name
        drawn[0].append(tag("span", format_latency(schedule.run_us), class_="soft"))
        yield drawn


def failures(data: RunData) -> Iterator[Element]:
    """Candidates that failed, by reason, and subgraphs that are not as fast or sure as could be."""
    groups: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for one in data.failures:
        reason = one.reason.strip().splitlines()[:1]
        line = facts.shown(reason[0] if reason else "no reason given")
        # times and addresses differ from one to the next
        groups.setdefault((one.phase, _NUMBER.sub("#", line)), []).append((one.subgraph, line))
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    if ordered:
        rows = tuple(
            (
                found[0][1] if len({line for _, line in found}) == 1 else reason,
                phase,
                str(len(found)),
                names(sorted({facts.shown(name, facts.SHORT) for name, _ in found})),
            )
            for (phase, reason), found in ordered[:_MOST_REASONS]
        )
        headings = ("reason", "while", "candidates", "subgraphs")
        yield table(
            Table(headings, rows, frozenset({1, 2})),
            "Failed candidates by reason; # stands for numbers that differ",
            where_else="tuning/failures.jsonl",
        )
    else:
        yield tag("p", "No candidate is known to have failed.")
    yield from _not_the_best(data)


def _not_the_best(data: RunData) -> Iterator[Element]:
    fell_back = facts.mapping(data.summary, "fell_back")
    if fell_back:
        by_reason: dict[str, list[str]] = {}
        for name in fell_back:
            by_reason.setdefault(facts.text(fell_back, name), []).append(
                facts.shown(name, facts.SHORT)
            )
        rows = tuple((reason, names(alike)) for reason, alike in by_reason.items())
        yield tag("h3", "Subgraphs without their best schedule")
        yield table(Table(("reason", "subgraphs"), rows), "Why the library has another schedule")
    wrong = [one for one in facts.items(data.summary, "quarantined") if isinstance(one, dict)]
    if wrong:
        found = tuple(
            (
                facts.text(one, "subgraph", facts.SHORT),
                facts.text(one, "reason"),
                facts.text(one, "file").rpartition("/")[2] or "-",
            )
            for one in wrong
        )
        yield tag("h3", "Schedules found wrong")
        yield table(
            Table(("subgraph", "reason", "reproducer in quarantine/"), found),
            "Schedules that are never used",
            where_else="summary.json",
        )
    unchecked = [str(name) for name in facts.items(data.summary, "unchecked")]
    if unchecked:
        shown = names([facts.shown(name, facts.SHORT) for name in unchecked])
        yield tag("h3", "Subgraphs checked only as parts of the whole library")
        yield tag("p", f"{format_count(len(unchecked), 'subgraph')}: {shown}.")
    onnxruntime = facts.text(data.summary, "onnxruntime")
    if onnxruntime:
        yield tag("h3", "Compared with ONNX Runtime")
        yield tag("p", f"{onnxruntime.rstrip('.')}.")


def names(found: list[str]) -> str:
    """A list of names that is not too long."""
    more = len(found) - _MOST_NAMES
    return ", ".join(found[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
