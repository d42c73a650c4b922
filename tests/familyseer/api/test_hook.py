"""The TVM hook starts from what a run of this project left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import familyseer
from familyseer.models import load_given
from familyseer.subgraphs import fuse


def traces(tuning: Path) -> set[str]:
    """The schedules of a database in which something was decided, each as JSON."""
    lines = (tuning / "database_tuning_record.json").read_text().splitlines()
    found = [json.loads(line)[1][0] for line in lines]
    return {json.dumps(trace) for trace in found if trace[1]}


@pytest.fixture
def fused(torch: Any, network: Any, arguments: dict[str, Any], cpu: Any) -> Any:
    from familyseer.api._torch import export_module

    return fuse(load_given(export_module(network, arguments), "m").mod, cpu)


def test_an_earlier_run_is_tried_first(
    result: familyseer.Result, fused: Any, cpu: Any, tmp_path: Path
) -> None:
    familyseer.tune_relax(fused, {}, cpu, str(tmp_path), 12, seed=99, warm_start=[result.folder])
    earlier = traces(result.folder / "tuning")
    assert earlier
    # by chance, two runs of other seeds do not decide alike
    assert traces(tmp_path) & earlier


def test_another_scheduler_has_no_warm_start(fused: Any, cpu: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected task_scheduler and cost_model 'family'"):
        familyseer.tune_relax(
            fused, {}, cpu, str(tmp_path), 1, warm_start=[tmp_path], task_scheduler="gradient"
        )


def test_the_scheduler_is_given_what_python_has(
    fused: Any, cpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it nothing is built ahead, and the cost model never hears of families."""
    import familyseer.search._scheduler as scheduler
    from familyseer.search import Rounds

    seen: list[dict[str, Any]] = []

    def note(*args: Any, **parts: Any) -> Any:
        seen.append(parts)
        return Rounds(*args, **parts)

    monkeypatch.setattr(scheduler, "Rounds", note)
    familyseer.tune_relax(fused, {}, cpu, str(tmp_path), 4)
    (parts,) = seen
    assert hasattr(parts["builder"], "start")
    assert hasattr(parts["runner"], "start")
    assert parts["cost_model"].families()
    assert parts["checker"] is not None
