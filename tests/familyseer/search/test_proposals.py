"""Candidates come from TVM's own design space; none is proposed twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from familyseer.search._proposals import Look, Proposals, new_context
from familyseer.search._siblings import Refits
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm


@pytest.fixture
def model() -> Any:
    from costmodels import FamilyCostModel

    return FamilyCostModel()


def proposals_for(subgraph: Subgraph, cpu: Any, model: Any) -> Proposals:
    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    context = new_context(subgraph, cpu, seed=0, threads=1)
    return Proposals(context, ms.database.MemoryDatabase(), model, None)


def scripts(schedules: list[Any]) -> list[str]:
    return [sch.mod.script() for sch in schedules]


def test_no_candidate_is_proposed_twice(cpu: Any, make_dense: Any, model: Any) -> None:
    proposals = proposals_for(make_dense(), cpu, model)
    seen: list[str] = []
    for evolve in (False, True, True):
        schedules, scores = proposals.propose(6, elite=[], evolve=evolve, time_for_search_s=0.2)
        assert 0 < len(schedules) <= 6
        assert len(scores) == len(schedules)
        seen += scripts(schedules)
    assert len(set(seen)) == len(seen)
    proposals.close()


def test_a_sample_comes_best_predicted_first(cpu: Any, make_dense: Any, model: Any) -> None:
    proposals = proposals_for(make_dense(), cpu, model)
    _, scores = proposals.propose(6, elite=[], evolve=False, time_for_search_s=0.2)
    assert np.all(np.diff(scores) <= 0)
    assert scores[0] > scores[-1]


def test_what_was_not_measured_may_be_proposed_again(cpu: Any, make_dense: Any, model: Any) -> None:
    proposals = proposals_for(make_dense(), cpu, model)
    options: dict[str, Any] = {"elite": [], "evolve": False, "time_for_search_s": 0.2}
    best, _ = proposals.propose(4, **options)
    others, _ = proposals.propose(4, look=Look.BACK, **options)
    assert len(others) == 4
    assert not set(scripts(others)) & set(scripts(best))
    proposals.forget([*best, *others])
    again, _ = proposals.propose(4, look=Look.BACK, **options)
    assert set(scripts(again)) == set(scripts(best))


def test_a_tiny_space_is_known_to_be_used_up(cpu: Any, model: Any) -> None:
    tvm = load_tvm(intrinsics=True)
    a = tvm.te.placeholder((8,), name="A")
    b = tvm.te.compute((8,), lambda i: a[i] + 1.0, name="B")
    func = tvm.te.create_prim_func([a, b]).with_attr("global_symbol", "main")
    mod = tvm.IRModule({"main": func})
    proposals = proposals_for(Subgraph(0, subgraph_key(mod), "add", mod, 1, 8.0), cpu, model)
    first, _ = proposals.propose(8, elite=[], evolve=False, time_for_search_s=0.2)
    assert 0 < len(first) < 8
    assert proposals.used_up
    assert proposals.propose(8, elite=[], evolve=False, time_for_search_s=0.2)[0] == []


def test_a_strategy_of_the_users_own_is_asked_as_it_is(
    cpu: Any, make_dense: Any, model: Any
) -> None:
    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    subgraph = make_dense()
    context = ms.TuneContext(
        mod=subgraph.mod,
        target=cpu,
        space_generator="post-order-apply",
        search_strategy="replay-trace",
        rand_state=1,
        num_threads=1,
    )
    proposals = Proposals(context, ms.database.MemoryDatabase(), model, 16)
    schedules, scores = proposals.propose(4, elite=[], evolve=True, time_for_search_s=0.2)
    assert len(schedules) == len(scores) == 4
    proposals.close()


def test_a_siblings_best_is_refitted_once_and_proposed_first(
    cpu: Any, make_dense: Any, model: Any
) -> None:
    tuned = proposals_for(make_dense(128, 128, 128), cpu, model)
    young = proposals_for(make_dense(64, 96, 128), cpu, model)
    best = tuned.propose(4, elite=[], evolve=False, time_for_search_s=0.2)[0][0]
    source = tuned.source(best)
    assert source is not None
    assert young.distance(tuned) == pytest.approx(1 + np.log2(128 / 96))
    refits = Refits(young.evolution)
    seeds = refits.seeds([source], 4)
    assert seeds
    assert refits.seeds([source], 4) == []
    schedules, _ = young.propose(4, elite=[], evolve=False, time_for_search_s=0.2, seeds=seeds)
    proposed = [young.evolution.genes_of(sch) for sch in schedules]
    wanted = [(index, vector.tobytes()) for index, vector in seeds]
    assert any(genes and (genes[0], genes[1].tobytes()) in wanted for genes in proposed)


class Against:
    """A model that holds some candidates to be slow."""

    def __init__(self) -> None:
        self.slow: set[str] = set()

    def predict(self, _context: Any, candidates: list[Any]) -> np.ndarray:
        return np.asarray([float(c.sch.mod.script() not in self.slow) for c in candidates])


def test_what_a_sibling_found_is_proposed_once_though_the_model_holds_it_to_be_slow(
    cpu: Any, make_dense: Any, model: Any
) -> None:
    against = Against()
    tuned = proposals_for(make_dense(128, 128, 128), cpu, model)
    young = proposals_for(make_dense(64, 96, 128), cpu, against)
    source = tuned.source(tuned.propose(4, elite=[], evolve=False, time_for_search_s=0.2)[0][0])
    assert source is not None
    refits = Refits(young.evolution)
    news = refits.news([source])
    assert news
    assert refits.news([source]) == []
    # applied before, and left
    against.slow = set(scripts([a.schedule for a in young.evolution.apply(news)]))
    options: dict[str, Any] = {"elite": [], "evolve": True, "time_for_search_s": 0.2}
    assert not against.slow & set(scripts(young.propose(6, **options)[0]))
    assert len(against.slow & set(scripts(young.propose(6, news=news, **options)[0]))) == 1
    assert not against.slow & set(scripts(young.propose(6, news=news[:1], **options)[0]))


def test_what_a_sibling_found_is_no_news_where_its_like_was_measured(
    cpu: Any, make_dense: Any, model: Any
) -> None:
    tuned, again = (proposals_for(make_dense(128, 128, 128), cpu, model) for _ in range(2))
    best = tuned.propose(4, elite=[], evolve=False, time_for_search_s=0.2)[0][0]
    source = tuned.source(best)
    assert source is not None
    again.tell([(1e-3, best)])
    again.recount()
    refits = Refits(again.evolution)
    assert refits.news([source]) == []
    assert refits.seeds([source], 1)


def test_a_look_back_searches_no_further(cpu: Any, make_dense: Any, model: Any) -> None:
    proposals = proposals_for(make_dense(), cpu, model)
    options: dict[str, Any] = {"elite": [], "evolve": True, "time_for_search_s": 0.2}
    assert proposals.propose(2, look=Look.BACK, **options)[0] == []
    assert not proposals.used_up
    proposals.propose(4, **options)
    known = proposals.evolution.applications
    schedules, scores = proposals.propose(2, look=Look.BACK, **options)
    assert len(schedules) == 2
    assert scores[0] >= scores[1]
    assert proposals.evolution.applications - known <= 8


class Views:
    """A model with two opinions of a candidate, and a note of which one was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def predict(self, _context: Any, candidates: list[Any]) -> np.ndarray:
        self.asked.append(("predict", len(candidates)))
        return np.linspace(1.0, 2.0, len(candidates))

    def outlook(self, _context: Any, candidates: list[Any]) -> np.ndarray:
        self.asked.append(("outlook", len(candidates)))
        return np.linspace(2.0, 1.0, len(candidates))


@pytest.mark.parametrize(("look", "bred_under"), [(Look.NEAR, "predict"), (Look.WIDE, "outlook")])
def test_a_wide_search_breeds_under_the_outlook_and_tells_the_best_estimate(
    cpu: Any, make_dense: Any, look: Look, bred_under: str
) -> None:
    views = Views()
    proposals = proposals_for(make_dense(), cpu, views)
    _, scores = proposals.propose(6, elite=[], evolve=True, time_for_search_s=0.2, look=look)
    assert {name for name, _ in views.asked[:-1]} == {bred_under}
    assert views.asked[-1] == ("predict", 6)
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_a_search_elsewhere_does_not_breed_around_the_elite(
    cpu: Any, make_dense: Any, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposals = proposals_for(make_dense(), cpu, model)
    options: dict[str, Any] = {"evolve": True, "time_for_search_s": 0.2}
    first, _ = proposals.propose(6, elite=[], **options)
    with monkeypatch.context() as patched:
        patched.setattr(proposals.evolution, "evolve", lambda *_: pytest.fail("bred from elite"))
        elsewhere, _ = proposals.propose(6, elite=first, look=Look.ELSEWHERE, **options)
    assert len(elsewhere) == 6
    assert not set(scripts(elsewhere)) & set(scripts(first))
