"""The page: what it says, that anybody can read it, and that it asks for nothing from elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from familyseer.report import write_report
from tests.familyseer.report import made_run
from tests.familyseer.report.parsed import Node, parse


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return made_run.make_run(tmp_path / "out")


def page(out: Path) -> Node:
    write_report(out)
    return parse((out / "report.html").read_text(encoding="utf-8"))


def change(out: Path, **changes: Any) -> None:
    made_run.write(out / "summary.json", {**made_run.summary(), **changes})


def cells(node: Node) -> list[list[str]]:
    return [[cell.text for cell in row.all("th", "td")] for row in node.all("tr")]


def test_the_headline_has_the_speedup_and_both_measured_latencies(out: Path) -> None:
    header = next(page(out).all("header")).text
    assert "tiny" in header
    assert "llvm skylake, 2 cores, 2m budget" in header
    assert "3.00x faster" in header
    assert "30.0 ms untuned, 10.0 ms tuned" in header


def test_a_slower_library_is_called_slower(out: Path) -> None:
    change(out, tuned_us=60000.0)
    assert "2.00x slower" in next(page(out).all("header")).text


def test_a_plot_is_told_in_words_and_in_a_table(out: Path) -> None:
    found = page(out)
    figures = list(found.all("figure"))
    assert len(figures) == 4
    for figure in figures:
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img"
        title, description = map(found.find, svg.attributes["aria-labelledby"].split())
        assert (title.name, description.name) == ("title", "desc")
        assert title.text
        assert len(description.text) > 20
        (table,) = next(figure.all("details")).all("table")
        assert len(cells(table)) > 2


def test_the_latency_plot_holds_the_curve_and_the_measured_latencies(out: Path) -> None:
    svg = next(page(out).all("svg"))
    assert "50.0 ms after 30s to 9.00 ms after 1m" in svg.text
    assert "untuned, measured: 30.0 ms" in svg.text
    paths = {node.attributes["class"].split()[0] for node in svg.all("path")}
    assert paths == {"curve", "level"}


def test_a_compared_run_shows_the_other_tuners_of_its_round(out: Path) -> None:
    for name, last in (("stock-0", 21000.0), ("stock-1", 22000.0), ("elsewhere", 23000.0)):
        (out.parent / name).mkdir()
        (out.parent / name / "history.csv").write_text(made_run.history(last))
    runs = [
        {"tuner": "familyseer", "round": 0, "folder": "/gone/out", "tuned_us": 9500.0},
        {"tuner": "metaschedule", "round": 0, "folder": "/gone/stock-0", "tuned_us": 21500.0},
        {"tuner": "random", "round": 1, "folder": "/gone/stock-1", "tuned_us": 22500.0},
    ]
    made_run.write(out.parent / "compare.json", {"runs": runs})
    found = page(out)
    latency = next(found.all("figure")).text
    assert "metaschedule: from 50.0 ms after 30s to 21.0 ms" in latency
    assert "22.0 ms" not in latency
    assert "23.0 ms" not in latency
    assert "9.50 ms" in next(found.all("header")).text


def test_time_is_told_by_phase_with_what_is_left_as_idle(out: Path) -> None:
    figure = list(page(out).all("figure"))[1]
    assert ["build", "40s", "40%"] in cells(figure)
    assert ["idle and other", "25s", "25%"] in cells(figure)


def test_accuracy_is_told_over_time_with_guessing_to_compare(out: Path) -> None:
    figure = list(page(out).all("figure"))[2]
    assert ["conv2d", "1m", "82%"] in cells(figure)
    assert "guessing: 50%" in figure.text


def test_the_roofline_divides_by_what_the_measured_peaks_allow(out: Path) -> None:
    figure = list(page(out).all("figure"))[3]
    rows = {row[0]: row[1:] for row in cells(figure)}
    # 4e8 operations in 4 ms; 4 (2 x 200704 + 36864) bytes; peaks 2e11 op/s and 2e10 B/s
    assert rows["fused_conv2d_add_relu"] == ["4.00 ms", "228", "100 Gop/s", "438 MB/s", "50%"]
    assert "reshape" not in rows
    assert "measured in a fraction of a second" in figure.text


@pytest.mark.parametrize(("peak", "words"), [(None, "are not known"), (1e9, "was busy by then")])
def test_peaks_that_are_unknown_or_cannot_be_are_no_roof(
    out: Path, peak: float | None, words: str
) -> None:
    made_run.write(out / "tuning" / "machine.json", made_run.machine(peak))
    figure = list(page(out).all("figure"))[3]
    assert words in figure.text
    assert cells(figure)[1][-1] == "-"
    assert not [path for path in figure.all("path") if "level" in path.attributes["class"]]


def test_a_family_has_a_card_with_its_subgraphs(out: Path) -> None:
    first, second = page(out).all("article")
    assert "100% of the model's operations" in first.text
    assert "orders 82% of pairs right" in first.text
    rows = {row[0]: row[1:] for row in cells(first)}
    assert rows["fused_conv2d_add_relu"] == [
        "4.00 ms", "80%", "2", "3 (1 failed)",
        "candidate 3 of 3, in run 2 here: 1 loop tiled, parallel",
    ]  # fmt: skip
    assert "TVM's default: no candidate was measured in time" in second.text


def test_the_best_schedule_is_readable_with_its_decisions(out: Path) -> None:
    section = next(s for s in page(out).all("section") if "Best" in s.text)
    # what takes most of the model's time comes first
    _, first = section.all("details")
    assert "fused_conv2d_add_relu4.00 ms" in first.text
    assert "b0 = GetSBlock(conv2d_nchw, main)" in first.text
    assert "v3, v4 = SamplePerfectTile(l1, 2, 64)  # decided: [8, 4]" in first.text


def test_failures_are_counted_by_reason_and_doubts_are_named(out: Path) -> None:
    section = next(s for s in page(out).all("section") if "Failures" in s.text)
    table = cells(section)
    name = "fused_conv2d_add_relu"
    assert ["took longer than its time limit of # s", "build", "2", name] in table
    assert ["exit code 1", "build", "1", name] in table
    assert ["reshape", "wrong result: off", "r.py"] in table
    assert "1 subgraph: fused_conv2d1_add1_relu1." in section.text
    assert "Compared with ONNX Runtimenot installed." in section.text


def test_shares_of_the_latency_are_told_once_every_subgraph_has_a_time(out: Path) -> None:
    assert "of its estimated latency" not in page(out).text
    rows = (out / "history.csv").read_text()
    (out / "history.csv").write_text(rows + "90,5,reshape,copy,1000.0,10000.0\n")
    shares = [card.text.partition("operations; ")[2][:4] for card in page(out).all("article")]
    assert shares == ["90% ", "10% "]


def test_a_curve_of_one_point_is_seen(out: Path) -> None:
    (out / "tuning" / "accuracy.csv").write_text(
        "elapsed_s,trials,family,accuracy\n60.0,4,conv2d,0.82\n"
    )
    figure = list(page(out).all("figure"))[2]
    assert len(list(figure.all("circle"))) == 1


def test_nothing_is_asked_for_from_elsewhere(out: Path) -> None:
    found = page(out)
    for node in found.all():
        assert node.name not in {"script", "img", "iframe", "object", "base", "form"}
        for name in ("src", "href", "data", "action", "srcset", "style"):
            assert node.attributes.get(name, "#").startswith(("#", "data:,"))
    style = next(found.all("style")).text
    assert not re.search(r"url\(|@import|expression", style)
    policy = [n.attributes for n in found.all("meta") if "http-equiv" in n.attributes]
    assert "default-src 'none'" in policy[0]["content"]


def test_a_reader_of_the_structure_finds_his_way(out: Path) -> None:
    found = page(out)
    ids = [node.attributes["id"] for node in found.all() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in found.all():
        for name in ("aria-labelledby", "href"):
            for target in node.attributes.get(name, "").split():
                assert target.removeprefix("#") in ids or target == "data:,"
    levels = [int(node.name[1]) for node in found.all("h1", "h2", "h3", "h4")]
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip([0, *levels], levels, strict=False))
    for table in found.all("table"):
        assert next(table.all("caption")).text
        assert all(head.attributes["scope"] in ("col", "row") for head in table.all("th"))
        rows = cells(table)
        assert {len(row) for row in rows} == {len(rows[0])}
    assert next(found.all("html")).attributes["lang"] == "en"


_NASTY = "</title><script>alert(1)</script>\"' onload=x \u202e\u0000\ud800 &amp; " + "long" * 500


def _poison(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: one if name in ("format", "key", "dtypes", "folder") else _poison(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_poison(one) for one in value]
    return value + _NASTY if isinstance(value, str) else value


def test_hostile_text_stays_text(out: Path) -> None:
    clean = _NASTY.replace("\ud800", "")
    for path in (out / "summary.json", out / "families.json", out / "tuning" / "machine.json"):
        poisoned = json.dumps(_poison(json.loads(path.read_text()))).replace("\\ud800", "")
        path.write_text(poisoned)
    failed = [{**one, "reason": clean} for one in made_run.failures()]
    made_run.lines(out / "tuning" / "failures.jsonl", failed)
    found = page(out)
    assert "alert(1)" in found.text
    assert not list(found.all("script"))
    for node in found.all():
        assert not any(name.startswith("on") for name in node.attributes)
    raw = (out / "report.html").read_text(encoding="utf-8")
    assert "\u202e" not in raw
    assert "\x00" not in raw
    assert len(raw) < 200_000


def test_the_same_folder_gives_the_same_page_wherever_it_is(out: Path, tmp_path: Path) -> None:
    write_report(out)
    first = (out / "report.html").read_bytes()
    moved = tmp_path / "deeper" / "out"
    shutil.copytree(out, moved)
    write_report(moved)
    assert (moved / "report.html").read_bytes() == first
    assert str(tmp_path) not in first.decode()


def test_a_large_run_still_makes_a_page_that_opens(out: Path) -> None:
    document = made_run.families()
    (member, *_) = document["families"][0]["subgraphs"]
    document["families"] = [
        {
            "name": f"family{f}",
            "reason": "Alike.",
            "share": 0.001,
            "subgraphs": [
                {**member, "index": 20 * f + i, "key": f"{20 * f + i:016x}", "name": f"s{f}_{i}"}
                for i in range(20)
            ],
        }
        for f in range(300)
    ]
    made_run.write(out / "families.json", document)
    rows = [f"{20 + i},{i},s0_0,family0,{1e6 - i},{1e6 - i}" for i in range(20_000)]
    with (out / "history.csv").open("a", newline="") as file:
        file.write("\r\n".join(rows) + "\r\n")
    found = page(out)
    assert (out / "report.html").stat().st_size < 4_000_000
    assert "100 families with smaller shares are in families.json" in found.text
    assert "history.csv has all" in found.text
