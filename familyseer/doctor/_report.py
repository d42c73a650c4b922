"""A diagnosis: one check a line, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "missing", "failed"]


@dataclass(frozen=True)
class Check:
    """One line of a report.

    Attributes
    ----------
    section, name
        Where it stands and what was looked for.
    status
        ``ok``, ``missing``, or ``failed`` (there, but it does not work).
    value
        What was found, such as a version or a path, or why it failed.
    required
        FamilySeer cannot do its work without it.
    cost
        What the user cannot do without it.
    """

    section: str
    name: str
    status: Status
    value: str = ""
    required: bool = False
    cost: str = ""


@dataclass(frozen=True)
class Report:
    """All checks, in the order in which they are shown."""

    checks: tuple[Check, ...]

    @property
    def healthy(self) -> bool:
        """Everything required is there."""
        return not self._lacking()

    def lines(self) -> list[str]:
        """The report for people, a line a check, under its section."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines: list[str] = []
        section = None
        for check in self.checks:
            if check.section != section:
                lines += ["", check.section] if lines else [check.section]
                section = check.section
            lines.append(f"  {check.name:<{width}}  {_verdict(check)}")
        lacking = [check.name for check in self._lacking()]
        ending = f"Not ready: {', '.join(lacking)}." if lacking else "Everything required is here."
        return [*lines, "", ending]

    def to_json(self) -> dict[str, Any]:
        """The report for programs: ``healthy`` and a list of ``checks``."""
        return {"healthy": self.healthy, "checks": [vars(check) for check in self.checks]}

    def _lacking(self) -> list[Check]:
        return [check for check in self.checks if check.required and check.status != "ok"]


def _verdict(check: Check) -> str:
    if check.status == "ok":
        return check.value
    found = f"{check.status} ({check.value})" if check.value else check.status
    needed = "required" if check.required else "optional"
    return f"{found}, {needed} - {check.cost}"
