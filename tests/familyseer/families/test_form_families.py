"""Which subgraphs end up together, under each method."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from familyseer.errors import UserError
from familyseer.families import METHODS, form_families
from familyseer.subgraphs import Subgraph


def _together(subgraphs: list[Subgraph], method: str) -> set[frozenset[int]]:
    return {frozenset(family.members) for family in form_families(subgraphs, method)}


@pytest.mark.parametrize("method", METHODS)
def test_every_subgraph_is_in_exactly_one_family(model: list[Subgraph], method: str) -> None:
    families = form_families(model, method)
    members = [index for family in families for index in family.members]
    assert sorted(members) == [s.index for s in model]
    assert len({family.name for family in families}) == len(families)
    assert all(family.reason.endswith(".") for family in families)


@pytest.mark.parametrize("method", METHODS)
def test_neither_order_nor_names_change_the_families(
    model: list[Subgraph],
    method: str,
    renamed: Callable[[list[Subgraph]], list[Subgraph]],
) -> None:
    expected = form_families(model, method)
    shuffled = renamed(model)
    random.Random(1).shuffle(shuffled)
    assert form_families(shuffled, method) == expected
    assert form_families(model, method) == expected


@pytest.mark.parametrize("method", METHODS)
def test_the_heaviest_family_comes_first(model: list[Subgraph], method: str) -> None:
    load = {s.index: s.flops * s.weight for s in model}
    loads = [sum(load[i] for i in f.members) for f in form_families(model, method)]
    assert loads == sorted(loads, reverse=True)


def test_graph_puts_like_schedules_together_whatever_their_size(model: list[Subgraph]) -> None:
    families = {family.name: family.members for family in form_families(model, "graph")}
    assert families == {
        "conv2d-3x3": (0, 1),
        "conv2d-1x1": (2, 3),
        "depthwise": (4, 5),
        "matmul": (6,),
        "pool": (7,),
        "softmax": (8,),
        "copy": (9,),
    }


def test_graph_separates_element_types(tir: Any) -> None:
    subgraphs = tir.subgraphs(tir.matmul(), tir.matmul(dtype="int8", epilogue="add"))
    names = {family.name for family in form_families(subgraphs, "graph")}
    assert names == {"matmul-float32", "matmul-int8"}


def test_graph_lets_what_only_streams_its_tensors_share_a_family(tir: Any) -> None:
    data = tir.te.placeholder((64, 128), name="data")
    other = tir.te.placeholder((64, 128), name="other")
    total = tir.tir(data, other, tir.topi.add(data, other))
    (family,) = form_families(tir.subgraphs(total, tir.transpose()), "graph")
    assert family.name == "elementwise"


def test_graph_names_a_family_of_several_windows_for_none_of_them(tir: Any) -> None:
    subgraphs = tir.subgraphs(tir.conv(kernel=3), tir.conv(kernel=5))
    assert [family.name for family in form_families(subgraphs, "graph")] == ["conv2d-kxk"]


def test_what_else_is_in_the_model_does_not_change_a_family(tir: Any) -> None:
    convs = [tir.conv(c, 2 * c, s) for c, s in ((16, 56), (32, 28), (64, 14), (128, 7))]
    alone = form_families(tir.subgraphs(*convs), "graph")
    products = [tir.matmul(m, n) for m in (16, 64, 256) for n in (64, 512)]
    beside = form_families(tir.subgraphs(*convs, *products), "graph")
    assert [f.members for f in alone] == [(0, 1, 2, 3)]
    assert (0, 1, 2, 3) in [f.members for f in beside]


def test_a_higher_threshold_makes_more_families(model: list[Subgraph]) -> None:
    assert len(form_families(model, "graph", link_above=0.999)) > len(form_families(model, "graph"))


def test_op_puts_all_convolutions_together(model: list[Subgraph]) -> None:
    assert {0, 1, 2, 3} in _together(model, "op")
    names = [family.name for family in form_families(model, "op")]
    assert "conv2d" in names
    assert "depthwise-conv2d" in names


def test_sequence_separates_epilogues(tir: Any) -> None:
    subgraphs = tir.subgraphs(
        tir.matmul(epilogue="add"), tir.matmul(32, epilogue="add"), tir.matmul(epilogue="add tanh")
    )
    assert _together(subgraphs, "sequence") == {frozenset({0, 1}), frozenset({2})}
    names = {family.name for family in form_families(subgraphs, "sequence")}
    assert names == {"matmul+add", "matmul+add+tanh"}


def test_none_leaves_each_alone_under_a_name_of_its_own_structure(tir: Any) -> None:
    one, two = tir.conv(), tir.conv(size=14)
    first = {f.members: f.name for f in form_families(tir.subgraphs(one, two), "none")}
    second = {f.members: f.name for f in form_families(tir.subgraphs(two, one), "none")}
    assert first[(0,)] == second[(1,)]
    assert first[(1,)] == second[(0,)]
    assert first[(0,)].startswith("conv2d-3x3-")


def test_equal_subgraphs_get_names_of_their_own(tir: Any) -> None:
    families = form_families(tir.subgraphs(tir.conv(), tir.conv()), "none")
    assert len({family.name for family in families}) == 2


def test_the_reason_tells_the_shared_features(tir: Any) -> None:
    subgraphs = tir.subgraphs(tir.conv(16, 32), tir.conv(64, 32))
    (family,) = form_families(subgraphs, "graph")
    assert family.reason == (
        "3x3 2d convolutions, float32, multiply-add over a sliding window x 16 to 64 channels, "
        "padded input, fused add+relu."
    )


def test_no_subgraphs_make_no_families() -> None:
    assert all(form_families([], method) == [] for method in METHODS)


def test_an_unknown_method_is_refused(model: list[Subgraph]) -> None:
    with pytest.raises(UserError, match="'hash' is unknown, expected one of op, sequence, graph"):
        form_families(model, "hash")


def test_a_similarity_out_of_range_is_refused(model: list[Subgraph]) -> None:
    with pytest.raises(UserError, match=r"link_above is 1.5, expected more than 0 and at most 1"):
        form_families(model, link_above=1.5)


def test_an_index_used_twice_is_refused(model: list[Subgraph]) -> None:
    with pytest.raises(UserError, match="same index"):
        form_families([model[0], model[0]])
