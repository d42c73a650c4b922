"""The TVM hook starts from what a run of this project left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import familyseer
from familyseer.models import load_given
from familyseer.subgraphs import fuse


@pytest.fixture
def rounds_given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the scheduler gives to the rounds of each run."""
    import familyseer.search._scheduler as scheduler
    from familyseer.search import Rounds

    seen: list[dict[str, Any]] = []

    def note(*args: Any, **parts: Any) -> Any:
        seen.append(parts)
        return Rounds(*args, **parts)

    monkeypatch.setattr(scheduler, "Rounds", note)
    return seen


@pytest.fixture
def fused(torch: Any, network: Any, arguments: dict[str, Any], cpu: Any) -> Any:
    from familyseer.api._torch import export_module

    return fuse(load_given(export_module(network, arguments), "m").mod, cpu)


def test_it_starts_from_an_earlier_run_and_with_what_python_has(
    result: familyseer.Result,
    fused: Any,
    cpu: Any,
    tmp_path: Path,
    rounds_given: list[dict[str, Any]],
) -> None:
    familyseer.tune_relax(fused, {}, cpu, str(tmp_path), 4, warm_start=[result.folder])
    (parts,) = rounds_given
    known = {one["key"] for family in result.families for one in family["subgraphs"]}
    assert set(parts["starters"]) == known
    assert all(starters.traces for starters in parts["starters"].values())
    # TVM hands on its own side alone, which builds nothing ahead and knows no families
    assert hasattr(parts["builder"], "start")
    assert hasattr(parts["runner"], "start")
    assert parts["cost_model"].families()
    assert parts["checker"] is not None


def test_another_scheduler_has_no_warm_start(cpu: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected task_scheduler and cost_model 'family'"):
        familyseer.tune_relax(
            None, {}, cpu, str(tmp_path), 1, warm_start=[tmp_path], task_scheduler="gradient"
        )


def test_a_warm_start_from_nowhere_is_refused(cpu: Any, tmp_path: Path) -> None:
    with pytest.raises(familyseer.UserError, match=r"^warm_start .*nowhere: no such folder"):
        familyseer.tune_relax(None, {}, cpu, str(tmp_path), 1, warm_start=[tmp_path / "nowhere"])
