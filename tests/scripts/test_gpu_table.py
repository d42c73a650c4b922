"""The table of a GPU host's results."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_the_table_shows_what_is_known_and_no_more(script: Any) -> None:
    """Figures are made up; the forms are those of the steps."""
    table = script("_gpu_table").table
    assert table({"gpu": "NVIDIA H200", "steps": {}}).startswith("# NVIDIA H200")
    case = {
        "size": 8192,
        "dtype": "float16",
        "kept": 0.05,
        "dense_ms": 1.4,
        "plan_ms": 0.1,
        "multiply_ms": 0.2,
        "speedup": 4.67,
        "speedup_multiply": 7.0,
        "rel_error": 1e-3,
        "rel_error_bound": 2e-3,
        "right": False,
    }
    product = {
        "types": ["float16", "float16", "float32"],
        "ours_us": 300.0,
        "cublas_us": 200.0,
        "share_of_cublas": 2 / 3,
        "teraflops": 458.1,
        "rel_error": 3e-4,
    }
    ours = {"alone_us": 1000.0, "untuned_us": 9000.0, "gpu_share": 0.42, "trials": 900}
    compared = {
        "untuned_us": 9000.0,
        "tuned_us": {"familyseer": 1000.0, "metaschedule": 1500.0},
        "reach": [{"tuner": "familyseer", "rounds": 1, "time_s": 30.0, "time_ratio": 4.0}],
    }
    steps = {
        "tests": {"status": "done", "found": {"tests": {"a::b": "passed", "a::c": "skipped: x|y"}}},
        "spamm": {"status": "failed", "found": {"compared_with": "cuBLAS", "case": case}},
        "matmul": {"status": "done", "found": {"4096": product}},
        "resnet50-float16": {"status": "stopped", "found": {"ours": ours}},
        "bert-float16": {"status": "done", "found": {"ours": ours, "comparison": compared}},
    }
    text = table({"gpu": "NVIDIA H200", "date": "2026-03-01", "budget_s": 120, "steps": steps})
    assert "1 of 2 tests passed." in text
    assert "| a::c | skipped: x/y |" in text
    assert "| 8192 | float16 | 0.05 | 1.4 | 0.1 | 0.2 | 4.67 | 7 | 1.0e-03 | 2.0e-03 | NO |" in text
    assert "| 300 | 200 | 67% | 458 |" in text
    assert "| resnet50-float16 | 9 | 1 |  |  |  |  | 42% | 900 |  |" in text
    assert "| bert-float16 | 9 | 1 | 1.5 |  | 30 | 4 | 42% | 900 |  |" in text
    # every row of a table has as many cells as its head
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1
