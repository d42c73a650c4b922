"""``scripts/spamm_sweep.py``: measured cases are kept, sparse products are as wrong as SpAMM."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_a_sweep_goes_on_from_what_is_measured(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sweep, results = script("spamm_sweep"), script("_results")
    monkeypatch.setattr(sweep, "RESULTS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    options = ["--sizes", "96", "--decays", "exponential", "--block", "16", "--repeats", "1"]

    def run(*more: str) -> Any:
        return CliRunner().invoke(sweep.main, [*options, *more, "--name", "small"])

    first = run("--valid-ratios", "0.3")
    assert first.exit_code == 0, first.stderr
    document = json.loads((tmp_path / "small.json").read_text())
    assert document["machine"]["cpu"]
    (case,) = document["cases"].values()
    assert case["valid_ratio"] == pytest.approx(0.3, abs=0.01)
    assert case["rel_error"] <= case["rel_error_bound"] + 1e-5
    for name in ("dense_ms", "plan_ms", "plan_by_ratio_ms", "multiply_ms", "speedup"):
        assert case[name] > 0

    second = run("--valid-ratios", "0.3,0.5")
    assert second.stderr.split() == ["exponential", "96", "float32", "0.5"]
    assert len(second.stdout.splitlines()) == 3
    kept = json.loads((tmp_path / "small.json").read_text())["cases"]
    assert kept["exponential 96 float32 0.3"] == case
    assert len(kept) == 2

    other = CliRunner().invoke(sweep.main, ["--repeats", "2", "--name", "small"])
    assert other.exit_code == 2
    assert "other settings" in other.stderr


def test_the_sparse_product_is_about_as_wrong_as_asked(script: Any) -> None:
    cases = script("_spamm_cases")
    a, b = cases.matrices("exponential", 256, "float32")
    whole = a @ b
    for wanted in (1e-1, 1e-3):
        left, right = cases.as_wrong(a, b, wanted)
        error = np.linalg.norm((left @ right).toarray() - whole) / np.linalg.norm(whole)
        assert 0.3 * wanted < error < 1.7 * wanted
        dense = np.count_nonzero(left.toarray(), axis=0) @ np.count_nonzero(right.toarray(), axis=1)
        assert cases.multiplications(left, right) == dense
    ones = np.ones((4, 4), "float32")
    left, _ = cases.as_wrong(ones, ones, 1e-6)
    assert left.nnz == 16
