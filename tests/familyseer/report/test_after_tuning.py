"""A real run writes its report by itself, and the code on the page runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from familyseer.options import TuneOptions
from familyseer.report._machine import read_machine
from familyseer.run import tune
from tests.familyseer.report.parsed import parse


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "out"
    tune(TuneOptions(model="mlp", out=out, trials=1, budget_s=3000.0))
    return out


def test_a_run_leaves_a_whole_report(out: Path) -> None:
    found = parse((out / "report.html").read_text(encoding="utf-8"))
    assert "Not all of the run is there" not in found.text
    assert "untuned" in next(found.all("header")).text
    assert "GetSBlock(" in found.text
    machine, _ = read_machine(out / "tuning")
    assert machine is not None
    assert machine.peak_flops


def test_the_code_on_the_page_runs_the_library(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = parse((out / "report.html").read_text(encoding="utf-8"))
    (code,) = (node.text for node in found.all("code") if "import tvm" in node.text)
    monkeypatch.chdir(out.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    outputs = names["outputs"]
    assert outputs.numpy().shape[0] == 1
