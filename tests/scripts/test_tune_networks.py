"""``scripts/tune_networks.py``: which networks, what is kept of a run, and no run twice."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
FIGURES = {
    "trials": 120,
    "subgraphs": 3,
    "covered": 3,
    "untuned_us": 1500.0,
    "tuned_us": 100.0,
    "speedup": 15.0,
    "max_rel_error": 2e-7,
    "elapsed_s": 58.0,
    "elapsed_before_s": 0.0,
    "stopped_by": "budget",
}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(importlib.import_module("_results"), "RESULTS", tmp_path)
    return importlib.import_module("tune_networks")


@pytest.fixture
def runs(script: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands in place of which a summary is left."""
    asked: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        asked.append(command)
        out = Path(command[command.index("-o") + 1])
        out.mkdir(parents=True, exist_ok=True)
        budget_s = float(command[command.index("--budget") + 1].removesuffix("s"))
        seed = int(command[command.index("--seed") + 1])
        summary = dict.fromkeys(script._KEPT) | FIGURES | {"budget_s": budget_s, "seed": seed}
        (out / "summary.json").write_text(json.dumps(summary))

    monkeypatch.setattr(script, "subprocess", SimpleNamespace(run=run))
    return asked


def test_the_networks_that_carry_their_weights_are_tuned_once(
    script: Any, runs: list[list[str]], tmp_path: Path
) -> None:
    options = ["--budget", "1m", "--out", str(tmp_path), "--save", "kept"]
    done = CliRunner().invoke(script.main, options)
    assert done.exit_code == 0, done.output
    small = ["resnet50_v1", "resnet152_v2", "mobilenet_0.5", "mobilenetv2_0.5"]
    assert [command[command.index("tune") + 1] for command in runs] == small
    assert all("--resume" in command for command in runs)
    kept = json.loads((tmp_path / "kept.json").read_text())["networks"]
    assert list(kept) == small
    assert kept["resnet50_v1"]["parameters"] == 25_557_032
    assert kept["resnet50_v1"]["speedup"] == 15.0
    assert "3 of 3" in done.output
    assert "58s of 1m" in done.output

    assert CliRunner().invoke(script.main, options).exit_code == 0
    assert len(runs) == 4


def test_another_budget_is_another_run(script: Any, runs: list[list[str]], tmp_path: Path) -> None:
    for budget in ("1m", "2m"):
        script.main(["mlp", "--budget", budget, "--out", str(tmp_path)], standalone_mode=False)
    assert [command[command.index("--budget") + 1] for command in runs] == ["60.0s", "120.0s"]


def test_an_interrupted_run_goes_on(script: Any, runs: list[list[str]], tmp_path: Path) -> None:
    arguments = ["mlp", "--budget", "1m", "--out", str(tmp_path)]
    script.main(arguments, standalone_mode=False)
    path = tmp_path / "mlp" / "summary.json"
    path.write_text(path.read_text().replace('"budget"', '"interrupt"'))
    script.main(arguments, standalone_mode=False)
    script.main(arguments, standalone_mode=False)
    assert len(runs) == 2
