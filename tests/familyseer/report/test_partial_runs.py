"""Folders of runs that were killed, damaged or never were: a report that says so, or one line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from familyseer.errors import UserError
from familyseer.report import report_run, write_report
from tests.familyseer.report import made_run
from tests.familyseer.report.parsed import parse

FILES = [
    "summary.json",
    "families.json",
    "history.csv",
    "tuning/run.json",
    "tuning/machine.json",
    "tuning/accuracy.csv",
    "tuning/failures.jsonl",
    "tuning/decisions.jsonl",
    "tuning/database_workload.json",
    "tuning/database_tuning_record.json",
]


def wrong_types(content: bytes) -> bytes:
    """Every value of another type than it was."""

    def turn(value: object) -> object:
        if isinstance(value, dict):
            return {name: turn(one) for name, one in value.items()}
        return {str: 7, list: "text", float: [], int: {}}.get(type(value), 3.5)

    turned = []
    for line in content.decode().splitlines():
        try:
            turned.append(json.dumps(turn(json.loads(line))))
        except json.JSONDecodeError:
            turned.append(line.replace(",", ";"))
    return "\n".join(turned).encode()


def with_numbers(number: str) -> Callable[[bytes], bytes]:
    """Every number that has a fraction is another one."""
    return lambda content: re.sub(rb"(?<![\w.])\d+\.\d+(e-?\d+)?", number.encode(), content)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut": lambda content: content[: len(content) * 2 // 3],
    "binary": lambda content: content[:40] + bytes(range(256)) + content[40:],
    "null": lambda _: b"null\n",
    "wrong types": wrong_types,
    "huge numbers": with_numbers("1e300"),
    "tiny numbers": with_numbers("5e-324"),
    "negative numbers": with_numbers("-1.5"),
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return made_run.make_run(tmp_path / "out")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_costs_what_it_told_and_no_more(out: Path, name: str, damage: str) -> None:
    (out / name).write_bytes(DAMAGE[damage]((out / name).read_bytes()))
    write_report(out)
    text = parse((out / "report.html").read_text(encoding="utf-8")).text
    assert ("3.00x faster" in text) == (name != "summary.json")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_where_the_page_lacks_it(out: Path, name: str) -> None:
    (out / name).unlink()
    missing = " ".join(write_report(out).missing)
    optional = {"tuning/accuracy.csv", "tuning/failures.jsonl", "tuning/decisions.jsonl"}
    if name in optional:
        assert missing == ""
    elif "database" in name:
        assert "records" in missing
    else:
        assert missing == f"{name}: not there"


def test_a_killed_run_is_told_by_what_it_wrote_on_the_way(out: Path) -> None:
    (out / "summary.json").unlink()
    write_report(out)
    text = parse((out / "report.html").read_text(encoding="utf-8")).text
    assert "No measured latencies of the whole model." in text
    assert "50.0 ms after 30s to 9.00 ms" in text
    assert "fused_conv2d_add_relu" in text


def test_torn_last_lines_are_not_called_damage(out: Path) -> None:
    for name in ("history.csv", "tuning/accuracy.csv"):
        with (out / name).open("a") as file:
            file.write("61.0,5,fus")
    assert write_report(out).missing == []


def test_damaged_rounds_are_counted(out: Path) -> None:
    with (out / "history.csv").open("a") as file:
        file.write('nan,5,x,y,1,2\r\n62.0,"5\r\n63.0,6,x,y,1.0,8000.0\r\n')
    data = write_report(out)
    assert data.missing == ["history.csv: 2 of 6 lines are damaged"]
    assert data.rounds[-1].estimated_us == 8000.0


def test_a_comparison_leads_to_no_folder_but_those_beside_the_run(tmp_path: Path) -> None:
    out = made_run.make_run(tmp_path / "compared" / "out")
    (tmp_path / "history.csv").write_text(made_run.history(1234.0))
    runs = [{"tuner": "a", "round": 0, "folder": "out"}]
    runs += [{"tuner": "b", "round": 0, "folder": f} for f in ("..", "x/..", "/", "", "\0")]
    made_run.write(out.parent / "compare.json", {"runs": runs})
    assert all(not rival.rounds for rival in write_report(out).rivals)


@pytest.mark.parametrize("kind", ["nothing", "file", "empty folder"])
def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "there"
    if kind == "file":
        path.write_text("x")
    elif kind == "empty folder":
        path.mkdir()
    with pytest.raises(UserError, match=r"there: no (such folder|tuning run)[^\n]*expected"):
        write_report(path)


def test_a_run_does_not_fail_for_want_of_a_report(
    out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (out / "report.html").mkdir()
    report_run(out, "cuda", 0.0)
    assert "no report is written" in caplog.text
    assert not list(out.glob(".draft-*"))
