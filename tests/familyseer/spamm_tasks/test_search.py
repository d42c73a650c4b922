"""What is proposed: the default first, nothing twice, everything in the end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from familyseer.search._loop import ROUND_TRIALS
from familyseer.spamm_tasks import Problem
from familyseer.spamm_tasks._cpu import CpuKind
from familyseer.spamm_tasks._kinds import block_of, own_numbers, text_of
from familyseer.spamm_tasks._model import SpammCostModel
from familyseer.spamm_tasks._search import ConfigSearch, context_of
from familyseer.spamm_tasks._task import SpammTask
from familyseer.spamm_tasks._workload import FAMILY, config_of
from familyseer.tvm_env import load_tvm

ms = load_tvm(intrinsics=True).s_tir.meta_schedule


@pytest.fixture(scope="module")
def given(problem: Problem, cpu: Any, matrices: tuple[Any, Any]) -> SpammTask:
    """The problem with given blocks, so that the space is small."""
    fixed = replace(problem, block=(32, 32, 32))
    return SpammTask(fixed, CpuKind(fixed, cpu), *matrices)


def _ask(search: Any) -> list[Any]:
    return list(search.generate_measure_candidates() or [])


def _configs(candidates: list[Any]) -> list[Any]:
    return [config_of(candidate.sch.mod) for candidate in candidates]


def _seconds(config: Any) -> float:
    return 1e-3 * (1 + abs(config["rows"] - 8) + abs(config["vectors"] - 2))


def _answer(config: Any) -> Any:
    return ms.runner.RunnerResult([_seconds(config)], None)


def test_the_default_comes_first_and_nothing_comes_twice(task: SpammTask) -> None:
    search = ConfigSearch(task, SpammCostModel([task]), 0)
    rounds = [_configs(_ask(search)) for _ in range(4)]
    assert rounds[0][0] == task.default
    assert all(len(each) == ROUND_TRIALS for each in rounds)
    texts = [text_of(config) for each in rounds for config in each]
    assert len(set(texts)) == len(texts)


def test_what_was_not_measured_may_come_again(task: SpammTask) -> None:
    search = ConfigSearch(task, SpammCostModel([task]), 0)
    first = _ask(search)
    measured, left = first[:3], _configs(first[3:])
    results = [_answer(config) for config in _configs(measured)]
    search.notify_runner_results(measured, results)
    later = [config for _ in range(3) for config in _configs(_ask(search))]
    assert any(config in later for config in left)
    assert not any(config in later for config in _configs(measured))


def test_the_space_is_used_up_and_then_nothing_is_proposed(given: SpammTask) -> None:
    search = ConfigSearch(given, SpammCostModel([given]), 0)
    seen = []
    while candidates := _ask(search):
        seen += _configs(candidates)
    assert sorted(map(text_of, seen)) == sorted(map(text_of, given.kind.configs))


def test_a_resumed_search_does_not_repeat_itself(given: SpammTask) -> None:
    done = given.kind.configs[:40]
    search = ConfigSearch(given, SpammCostModel([given]), 0, [(c, math.inf) for c in done])
    assert not any(config in done for _ in range(5) for config in _configs(_ask(search)))


def test_the_model_learns_to_propose_what_is_fast(given: SpammTask, cpu: Any) -> None:
    model = SpammCostModel([given], seed=0)
    search = ConfigSearch(given, model, 0)
    context = context_of(given, search, cpu)
    assert model.experience(FAMILY) == 0
    for _ in range(6):
        candidates = _ask(search)
        results = [_answer(config) for config in _configs(candidates)]
        model.update(context, candidates, results)
        search.notify_runner_results(candidates, results)
    seconds = np.array([_seconds(config) for config in given.kind.configs])
    scores = model.scores(given, given.kind.configs)
    ranks = np.argsort(np.argsort(-scores)), np.argsort(np.argsort(seconds))
    assert np.corrcoef(*ranks)[0, 1] > 0.4
    accuracy = model.accuracy(FAMILY)
    assert accuracy is not None
    assert accuracy > 0.5


def test_a_model_is_saved_and_continued(given: SpammTask, cpu: Any, tmp_path: Any) -> None:
    model = SpammCostModel([given])
    context = context_of(given, ConfigSearch(given, model, 0), cpu)
    configs = given.kind.configs[:20]
    candidates = [ms.MeasureCandidate(given.schedule(config), []) for config in configs]
    model.update(context, candidates, [_answer(config) for config in configs])
    model.save(str(tmp_path / "model"))
    again = SpammCostModel([given])
    again.load(str(tmp_path / "model"))
    assert again.experience(FAMILY) == 20
    np.testing.assert_allclose(
        again.predict(context, candidates), model.predict(context, candidates)
    )


def test_blocks_are_compared_at_one_bound_on_the_error(task: SpammTask) -> None:
    import spamm

    a, b = task.survey._a, task.survey._b
    default = block_of(task.default)
    assert task.survey.statistics(default).valid_ratio == pytest.approx(0.25, abs=0.01)
    for block in ((16, 16, 16), (32, 64, 32), (128, 32, 96)):
        found = task.survey.statistics(block)
        plan = spamm.plan(a, b, tau=found.tau, block=block, backend="cpu")
        assert isinstance(plan, spamm.Plan)
        assert plan.error_bound <= task.survey.error_bound * (1 + 1e-9)
        assert (plan.blocks_valid, plan.flops) == (found.blocks_valid, found.flops)
        counts = np.diff(plan.offsets)
        assert (found.mean, found.longest) == (counts.mean(), counts.max())


def test_features_tell_every_configuration_from_the_others(given: SpammTask) -> None:
    rows = given.features(given.kind.configs).rows
    assert np.isfinite(rows).all()
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_numbers_of_a_configuration_leave_words_out() -> None:
    assert own_numbers({"a": 3, "b": [1, 7], "c": True, "d": "cores"}) == [2.0, 1.0, 3.0, 1.0]
