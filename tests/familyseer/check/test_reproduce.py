"""A wrong schedule leaves a file from which it is wrong again, wherever that file is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.check import Checker
from familyseer.check.reproduce import main
from familyseer.measure import WorkerPool
from tests.familyseer.check import planted


@pytest.fixture(scope="module")
def folder(cpu: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarantine folder with two reproducers of one subgraph."""
    made = tmp_path_factory.mktemp("out") / "quarantine"
    subgraph = planted.subgraph_of(planted.matmul(16, 16, 64), "fused/matmul")
    with WorkerPool(1) as pool, Checker(cpu, "cpu", pool, seed=5, quarantine=made) as checker:
        for dtypes in (("float16", "int8"), ("float16",)):
            verdict = checker.check(subgraph, planted.keeps_sums_in(subgraph.mod, *dtypes))
            assert verdict.file is not None
        assert [one["file"] for one in checker.quarantined] == [
            str(made / "fused_matmul-1.json"),
            str(made / "fused_matmul-2.json"),
        ]
    return made


def test_it_says_what_was_wrong_and_with_what(folder: Path) -> None:
    told = json.loads((folder / "fused_matmul-1.json").read_text())
    assert told["subgraph"] == "fused/matmul"
    assert told["kind"] == "normal"
    assert told["seed"] == 5
    assert told["error"] > 1e-3
    assert "off on normal inputs" in told["reason"]
    assert told["versions"]["apache-tvm"].startswith("0.")
    assert any("unsafe_set_dtype" in line for line in told["trace_script"])


def test_inputs_and_both_results_are_beside_it(folder: Path) -> None:
    told = json.loads((folder / "fused_matmul-1.json").read_text())
    with np.load(folder / told["inputs"], allow_pickle=False) as arrays:
        product = arrays["input0"] @ arrays["input1"]
        np.testing.assert_allclose(product, arrays["expected0"], rtol=1e-4, atol=1e-4)
        assert np.abs(product - arrays["got0"]).max() > 1e-2


def test_it_is_wrong_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "fused_matmul-2.json")]) == 1
    assert "fused/matmul: wrong" in capsys.readouterr().out


def test_what_was_mended_is_told_as_right(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((folder / "fused_matmul-1.json").read_text())
    told["trace"] = [[], []]
    mended = tmp_path / "mended.json"
    mended.write_text(json.dumps(told))
    assert main([str(mended)]) == 0
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "format"),
        ('{"format": 99}', "format"),
        ('{"format": 1}', "'subgraph' is missing"),
        (
            '{"format": 1, "subgraph": "a", "tir": "{}", "trace": [], "target": "{}",'
            ' "kind": "normal", "seed": 0}',
            "TVM cannot read",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, expected: str
) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    assert main([str(path)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert str(path) in told
    assert expected in told


def test_a_missing_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
