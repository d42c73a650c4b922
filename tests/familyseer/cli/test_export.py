"""``familyseer export``: kernels of a finished run, in a folder that holds nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from familyseer.cli.main import main
from familyseer.kernels import load
from familyseer.subgraphs import subgraph_key
from familyseer.tvm_env import load_tvm
from tests.familyseer.cli.schemas import conforms
from tests.familyseer.kernels.finished_run import doubled, finished_run, parallel


def export(out: Path, folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["export", str(out), "--kernels", str(folder), *options])


def refused(result: Result, said: str) -> None:
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr.splitlines()[-1]


def in_halves(schedule: Any) -> None:
    loop = schedule.get_loops(schedule.get_sblock("Y"))[0]
    schedule.vectorize(schedule.split(loop, [None, 16])[1])


@pytest.fixture
def out(cpu: Any, tmp_path: Path) -> Path:
    """OUT of a run that tuned one subgraph, two schedules of which were measured."""
    records = [(doubled("float32", "double"), [(in_halves, 1e-6), (parallel, 2e-6)])]
    return finished_run(tmp_path / "out", cpu, records)


def test_export_writes_a_library_and_lists_it(out: Path, tmp_path: Path) -> None:
    result = export(out, tmp_path / "new" / "kernels")
    assert result.exit_code == 0, result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[:2]] == ["kernel", "x_double"]
    library = load(tmp_path / "new" / "kernels")
    np.testing.assert_array_equal(library["x_double"](np.ones(32, "float32")), np.full(32, 2))
    left = {path.name for path in (tmp_path / "new").iterdir()}
    assert left == {"kernels"}, "nothing half-made is left"


def test_export_describes_the_library_as_json(out: Path, tmp_path: Path) -> None:
    described = json.loads(export(out, tmp_path / "kernels", "--json").stdout)
    conforms(described, "export")
    assert described["folder"] == str(tmp_path / "kernels")
    kernel = described["kernels"][0]
    assert (kernel["subgraph"], kernel["tuned_us"], kernel["checked"]) == ("double", 1.0, False)
    assert {"kernels.h", "example.c", "libkernels.so"} == set(described["files"])


def test_an_earlier_library_is_replaced(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    assert export(out, folder).exit_code == 0
    before = (folder / "manifest.json").stat().st_ino
    assert export(out, folder).exit_code == 0
    assert (folder / "manifest.json").stat().st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels", "out"]


def test_a_folder_with_other_files_is_left_alone(out: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    refused(export(out, folder), f"{folder}: holds other files; expected a new folder")
    (folder / "thesis.tex").rename(tmp_path / "thesis.tex")
    assert export(out, folder).exit_code == 0
    (tmp_path / "thesis.tex").rename(folder / "thesis.tex")
    refused(export(out, folder), f"{folder}: holds thesis.tex, which no library has")
    assert (folder / "thesis.tex").read_text() == "years of work"
    refused(export(out, folder / "thesis.tex"), "thesis.tex: is no folder")


def test_a_failed_export_leaves_the_earlier_library(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kernels"
    export(out, folder)
    before = (folder / "manifest.json").read_bytes()
    monkeypatch.setenv("CC", "/no/such/compiler")
    refused(export(out, folder), "C compiler /no/such/compiler: cannot be run")
    monkeypatch.setenv("CC", "false")
    refused(export(out, folder), "C compiler false: cannot link the kernels")
    assert (folder / "manifest.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels", "out"]


def test_a_schedule_that_was_found_right_goes_before_a_faster_one(
    out: Path, tmp_path: Path
) -> None:
    subgraph = doubled("float32", "double")
    schedule = load_tvm(intrinsics=True).s_tir.Schedule(subgraph.mod)
    parallel(schedule)
    pairs = [[subgraph.key, subgraph_key(schedule.mod)]]
    (out / "tuning" / "checked.json").write_text(json.dumps(pairs))
    kernel = json.loads(export(out, tmp_path / "kernels", "--json").stdout)["kernels"][0]
    assert (kernel["tuned_us"], kernel["checked"]) == (2.0, True)


def test_a_schedule_in_quarantine_is_not_exported(out: Path, tmp_path: Path) -> None:
    fastest = (out / "tuning" / "database_tuning_record.json").read_text().splitlines()[0]
    reproducer = {"key": doubled("float32", "double").key, "trace": json.loads(fastest)[1][0]}
    (out / "quarantine").mkdir()
    (out / "quarantine" / "double-1.json").write_text(json.dumps(reproducer))
    kernel = json.loads(export(out, tmp_path / "kernels", "--json").stdout)["kernels"][0]
    assert kernel["tuned_us"] == 2.0


def test_damaged_lines_of_the_database_are_left_out(out: Path, tmp_path: Path) -> None:
    path = out / "tuning" / "database_tuning_record.json"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["{", lines[1], lines[0][:50]]))
    kernel = json.loads(export(out, tmp_path / "kernels", "--json").stdout)["kernels"][0]
    assert kernel["tuned_us"] == 2.0
    path.write_text("")
    refused(export(out, tmp_path / "kernels"), "holds no usable record of any subgraph")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("summary.json", None, "no finished tuning run here"),
        ("summary.json", "{", "summary.json: not JSON"),
        ("summary.json", '{"device": "cpu", "inputs": [], "outputs": []}', "names no target"),
        ("families.json", "{}", "families.json: format is None"),
        ("families.json", None, "families.json: cannot be read"),
        ("tuning/database_workload.json", None, "database_workload.json: is not there"),
        ("tuning/checked.json", "[1]", "checked.json: expected pairs of hashes"),
    ],
)
def test_an_out_that_is_damaged_is_refused_in_one_line(
    out: Path, tmp_path: Path, file: str, content: str | None, said: str
) -> None:
    if content is None:
        (out / file).unlink()
    else:
        (out / file).write_text(content)
    refused(export(out, tmp_path / "kernels"), said)
    assert not (tmp_path / "kernels").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ('{"kind": "llvm", "mtriple": "riscv64-linux-gnu"}', "kernels for riscv64-linux-gnu"),
        ('{"kind": "opencl"}', "tuned for opencl; kernel libraries are for llvm and cuda"),
        ("fast", "target fast"),
    ],
)
def test_a_target_that_no_library_can_be_made_for_is_named(
    out: Path, tmp_path: Path, target: str, said: str
) -> None:
    summary = json.loads((out / "summary.json").read_text())
    (out / "summary.json").write_text(json.dumps({**summary, "target": target}))
    refused(export(out, tmp_path / "kernels"), said)


def test_export_needs_to_be_told_where(out: Path) -> None:
    result = CliRunner().invoke(main, ["export", str(out)])
    assert result.exit_code == 2
    assert "--kernels" in result.stderr
