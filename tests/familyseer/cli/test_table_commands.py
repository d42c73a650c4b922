"""``families``, ``models``, ``doctor`` and ``compare``: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from familyseer.cli import _output
from familyseer.cli.main import main
from familyseer.doctor import Check, Report
from familyseer.options import CompareOptions


def run(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def test_families_shows_every_subgraph_its_share_and_why(tmp_path: Path) -> None:
    result = run("families", "mlp", "--plot", str(tmp_path / "mlp.svg"))
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["family", "subgraph", "weight", "share", "of", "flops"]
    assert any("matmul" in line and line.rstrip().endswith("%") for line in lines)
    assert "why" in result.stdout
    assert lines[-2] == "3 subgraphs in 1 family"
    assert (tmp_path / "mlp.svg").read_text().lstrip().startswith("<?xml")


def test_families_json_holds_every_subgraph_once() -> None:
    result = run("families", "mlp", "--families", "none", "--json")
    document = json.loads(result.stdout)
    assert (document["model"], document["method"]) == ("mlp", "none")
    indices = [s["index"] for family in document["families"] for s in family["subgraphs"]]
    assert sorted(indices) == [0, 1, 2]


def test_families_for_a_target_of_another_machine() -> None:
    result = run("families", "mlp", "--target", "nvidia/nvidia-h100", "--json")
    assert json.loads(result.stdout)["target"] == "cuda sm_90a"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["families", "mpl"], "mpl"),
        (["families", "mlp", "--target", "bogus"], "bogus"),
        (["families", "mlp", "--input-shape", "y=1,784"], "y"),
        (["families", "mlp", "--plot", "mlp.txt"], "mlp.txt"),
        (["families", "nowhere.onnx"], "nowhere.onnx"),
    ],
)
def test_families_refuses_what_it_cannot_read(args: list[str], named: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert named in result.stderr
    assert result.stderr.count("\n") == 1


def test_models_lists_every_network() -> None:
    from familyseer.models import zoo

    lines = run("models").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == zoo.names()
    models = json.loads(run("models", "--json").stdout)["models"]
    assert [model["name"] for model in models] == zoo.names()
    assert models[0]["inputs"] == [{"name": "x", "shape": [1, 784], "dtype": "float32"}]


def test_models_saves_one_that_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mlp.onnx"
    result = run("models", "--save", "mlp", str(path), "--json")
    assert json.loads(result.stdout) == {"model": "mlp", "file": str(path), "seed": 0}
    assert run("families", str(path)).exit_code == 0


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("missing", 1)])
def test_doctor_exits_by_the_state_of_what_is_required(
    monkeypatch: pytest.MonkeyPatch, status: Any, code: int
) -> None:
    report = Report((Check("Compiler", "C++ compiler", status, "g++", True, "no libraries"),))
    monkeypatch.setattr("familyseer.doctor.diagnose", lambda: report)
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.splitlines() == report.lines()
    result = run("doctor", "--json")
    assert (result.exit_code, json.loads(result.stdout)["healthy"]) == (code, code == 0)


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[CompareOptions]:
    asked: list[CompareOptions] = []

    def compare(options: CompareOptions) -> dict[str, Any]:
        asked.append(options)
        run_of = {"seed": 0, "untuned_us": 282e3, "trials": 40, "elapsed_s": 60.0, "subgraphs": 3}
        done = {"first_pass_finished": True, "covered": 3}
        cut_short = {"first_pass_finished": False, "covered": 2}
        return {
            "runs": [
                {"tuner": "familyseer", "tuned_us": 141e3, "speedup": 2.0, **done, **run_of},
                {"tuner": "random", "tuned_us": None, "speedup": None, **cut_short, **run_of},
            ],
            "reach": [
                {
                    "tuner": "familyseer",
                    "reaches": "random",
                    "rounds": 1,
                    "reached": 1,
                    "time_s": 20.0,
                    "time_ratio": 3.0,
                    "trial_ratio": 2.0,
                },
                {
                    "tuner": "random",
                    "reaches": "familyseer",
                    "rounds": 1,
                    "reached": 0,
                    "time_s": None,
                    "time_ratio": None,
                    "trial_ratio": None,
                },
            ],
        }

    module = types.ModuleType("familyseer.compare")
    module.compare = compare  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "familyseer.compare", module)
    return asked


def test_compare_hands_over_every_option(compared: list[CompareOptions], tmp_path: Path) -> None:
    result = run(
        *("compare", "mlp", "--budget", "2m", "--tuners", "random, familyseer", "--rounds", "3"),
        *("--seed", "5", "--target", "llvm", "--input-shape", "x=1,784", "-o", str(tmp_path)),
    )
    assert result.exit_code == 0, result.stderr
    assert compared == [
        CompareOptions(
            model="mlp",
            out=tmp_path,
            budget_s=120.0,
            tuners=("random", "familyseer"),
            target="llvm",
            rounds=3,
            seed=5,
            input_shapes={"x": (1, 784)},
        )
    ]


def test_compare_shows_a_row_a_run_and_who_was_as_good_sooner(
    compared: list[CompareOptions],
) -> None:
    lines = run("compare", "nets/mlp.v2.onnx", "--budget", "1m").stdout.splitlines()
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "familyseer 0 282 ms 141 ms 2.00x 40 done 1m",
        "random 0 282 ms - - 40 2 of 3 1m",
        "",
        "tuner reaches the end of rounds after sooner fewer trials",
        "familyseer random 1 of 1 20s 3.00x 2.00x",
        "",
        "runs and curves are in out/compare-mlp.v2",
    ]
    assert compared[0].out == Path("out/compare-mlp.v2")


def test_compare_json_is_what_was_found(compared: list[CompareOptions]) -> None:
    result = run("compare", "mobilenetv2_0.5", "--budget", "1m", "--json")
    assert len(json.loads(result.stdout)["runs"]) == 2
    assert compared[0].out == Path("out/compare-mobilenetv2_0.5")


def test_a_plain_table_is_aligned_and_has_no_blanks_at_line_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _output.print_table(("name", "n"), [("a", "1"), ("longer", "100")], align=("left", "right"))
    assert capsys.readouterr().out == "name      n\na         1\nlonger  100\n"


def test_json_holds_what_python_cannot_write_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    _output.print_json({"a": np.float32(0.5), "b": np.arange(2), "c": (1, Path("x")), "d": np.inf})
    assert json.loads(capsys.readouterr().out) == {"a": 0.5, "b": [0, 1], "c": [1, "x"], "d": None}
