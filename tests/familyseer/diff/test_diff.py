"""``familyseer diff``: two folders of runs compared, both libraries timed in turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from familyseer.cli.main import main
from familyseer.diff import compare_runs
from tests.familyseer.cli.processes import HEAVY, top_level_modules
from tests.familyseer.report.made_run import families, make_run, summary, write


def diff(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, args)])


@pytest.fixture
def outs(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs of one model; the second is said to have had more time and another TVM."""
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    told = summary()
    told.update(tuned_us=5000.0, budget_s=240.0, seed=8)
    told["versions"]["apache-tvm"] = "0.28.0"
    write(second / "summary.json", told)
    return first, second


def faster(out: Path, position: int, seconds: float) -> None:
    """Rewrites the time of a record."""
    path = out / "tuning" / "database_tuning_record.json"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    records[position][1][1] = [seconds]
    path.write_text("".join(json.dumps(one) + "\n" for one in records))


def renamed(out: Path, key: str, other: str, **changes: Any) -> None:
    """Gives a subgraph another hash in families.json, as another precision would."""
    document = families()
    for family in document["families"]:
        for one in family["subgraphs"]:
            if one["key"] == key:
                one.update(key=other, **changes)
    write(out / "families.json", document)


def test_a_run_differs_in_nothing_from_itself(tmp_path: Path) -> None:
    out = make_run(tmp_path / "out")
    found = compare_runs(out, out)
    assert found["options"] == found["environment"] == {}
    assert found["only_first"] == found["only_second"] == []
    assert {row["ratio"] for row in found["subgraphs"]} == {1.0, None}
    assert all(row["matched_by"] == "hash" for row in found["subgraphs"])


def test_options_environment_and_latencies_that_differ_are_told(outs: tuple[Path, Path]) -> None:
    found = compare_runs(*outs)
    assert found["options"] == {
        "seed": {"first": 7, "second": 8},
        "budget_s": {"first": 120.0, "second": 240.0},
    }
    assert found["environment"] == {"apache-tvm": {"first": "0.27.0", "second": "0.28.0"}}
    assert found["latency"]["tuned_us"] == {"first": 10000.0, "second": 5000.0}


def test_subgraphs_are_compared_by_structure_the_longest_first(outs: tuple[Path, Path]) -> None:
    faster(outs[1], 2, 0.002)
    found = compare_runs(*outs)
    rows = found["subgraphs"]
    assert [row["name"] for row in rows[:2]] == [
        "fused_conv2d1_add1_relu1",
        "fused_conv2d_add_relu",
    ]
    assert rows[1]["best_us"] == {"first": pytest.approx(4000.0), "second": pytest.approx(2000.0)}
    assert rows[1]["ratio"] == pytest.approx(2.0)
    assert rows[1]["trials"] == {"first": 3, "second": 3}
    assert rows[1]["failed"] == {"first": 1, "second": 1}
    # weight 2 each; the reshape was not measured
    assert found["estimated_of"] == 2
    assert found["estimated_us"] == {
        "first": pytest.approx(18000.0),
        "second": pytest.approx(14000.0),
    }


def test_what_has_another_hash_is_matched_by_name_and_not_added_up(
    outs: tuple[Path, Path],
) -> None:
    renamed(outs[1], "00000000000000a1", "00000000000000ff")
    found = compare_runs(*outs)
    assert {row["name"]: row["matched_by"] for row in found["subgraphs"]}[
        "fused_conv2d_add_relu"
    ] == "name"
    assert found["estimated_of"] == 1
    assert found["only_first"] == []


def test_what_only_one_model_has_is_named(outs: tuple[Path, Path]) -> None:
    renamed(outs[1], "00000000000000a1", "00000000000000ff", name="dense")
    write(outs[1] / "tuning" / "run.json", {"digest": "two"})
    write(outs[0] / "tuning" / "run.json", {"digest": "one"})
    found = compare_runs(*outs)
    assert (found["only_first"], found["only_second"]) == (["fused_conv2d_add_relu"], ["dense"])
    assert found["same_model"] is False
    shown = diff(*outs).stdout
    assert "The models differ" in shown
    assert "x faster" not in shown.partition("subgraph ")[0]


def test_failures_are_counted_by_reason_whatever_its_numbers(outs: tuple[Path, Path]) -> None:
    (outs[1] / "tuning" / "failures.jsonl").unlink()
    assert compare_runs(*outs)["failures"] == [
        {
            "phase": "build",
            "reason": "took longer than its time limit of # s",
            "first": 2,
            "second": 0,
        },
        {"phase": "build", "reason": "exit code #", "first": 1, "second": 0},
    ]


def test_a_killed_run_is_compared_by_what_it_left(outs: tuple[Path, Path]) -> None:
    (outs[1] / "summary.json").unlink()
    result = diff(*outs)
    assert result.exit_code == 0, result.stderr
    assert f"{outs[1]}: the run is not finished." in " ".join(result.stdout.split())
    found = compare_runs(*outs)
    assert found["latency"]["tuned_us"]["second"] is None
    assert len(found["subgraphs"]) == 3


def test_people_see_figures_differences_and_that_they_are_not_side_by_side(
    outs: tuple[Path, Path],
) -> None:
    faster(outs[1], 2, 0.002)
    result = diff(*outs)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "tuned, each run's 10.0 ms 5.00 ms 2.00x faster" in lines
    assert "budget_s 120 240" in lines
    assert "fused_conv2d_add_relu 4.00 ms 2.00 ms 2.00x faster 3, 3" in lines
    assert "--bench times both" in " ".join(lines)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_no_library_of_tensors_is_loaded_to_compare(outs: tuple[Path, Path]) -> None:
    assert not HEAVY & top_level_modules("diff", *outs)


def test_what_is_no_run_is_refused(outs: tuple[Path, Path], tmp_path: Path) -> None:
    for args, words in (
        ((outs[0], tmp_path / "nowhere"), "nowhere: no such folder"),
        ((tmp_path, outs[0]), "no tuning run here"),
        ((*outs, "--bench"), "no finished tuning run here"),
    ):
        result = diff(*args, "--json")
        assert (result.exit_code, result.stdout) == (2, "")
        assert words in result.stderr
        assert result.stderr.count("\n") == 1


def test_libraries_of_other_inputs_are_not_timed_together(outs: tuple[Path, Path]) -> None:
    for out, extent in zip(outs, (8, 9), strict=True):
        told = summary()
        told["inputs"][0]["shape"] = [1, extent]
        write(out / "summary.json", told)
        (out / "model.so").write_bytes(b"")
    result = diff(*outs, "--bench")
    assert result.exit_code == 2
    assert "float32[1, 8]" in result.stderr
    assert "float32[1, 9]" in result.stderr
    assert "expected two libraries of the same inputs" in result.stderr


def test_two_libraries_are_timed_in_turns(outs: tuple[Path, Path], cpu: Any) -> None:
    from familyseer.export._compile import build_library
    from familyseer.models import load_model
    from familyseer.subgraphs import fuse

    model = load_model("mlp")
    for out in outs:
        told = summary()
        told["inputs"] = [{"name": "x", "shape": [1, 784], "dtype": "float32"}]
        write(out / "summary.json", told)
        build_library(fuse(model.mod, cpu), cpu, out / "model.so")
    result = diff(*outs, "--bench", "--repeat", "3", "--json")
    assert result.exit_code == 0, result.stderr
    bench = json.loads(result.stdout)["bench"]
    assert bench["repeats"] == 3
    assert bench["first_us"] > 0
    assert bench["ratio"] > 0
