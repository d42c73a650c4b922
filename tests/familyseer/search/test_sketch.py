"""Sketches of TVM's own design spaces: decisions written into traces, applied, and read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from familyseer.search._decisions import CHOICE, OPEN, OTHER, TILE
from familyseer.search._proposals import new_context
from familyseer.search._sketch import Sketch, sketch_of, sketches_of
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm

Space = tuple[Any, list[Sketch]]


def space_of(subgraph: Subgraph, target: Any) -> Space:
    context = new_context(subgraph, target, seed=0, threads=1)
    return context, sketches_of(context.generate_design_space())


@pytest.fixture(scope="module")
def dense(cpu: Any, make_dense: Any) -> Space:
    return space_of(make_dense(), cpu)


@pytest.fixture(scope="module")
def padded(cpu: Any) -> Space:
    """A 3x3 convolution: where its padding is computed is a decision too."""
    tvm = load_tvm(intrinsics=True)
    te = tvm.te
    x, w = te.placeholder((1, 8, 14, 14), name="X"), te.placeholder((16, 8, 3, 3), name="W")
    zero = tvm.tirx.const(0.0, "float32")

    def at(n: Any, c: Any, i: Any, j: Any) -> Any:
        inside = tvm.tirx.all(i >= 1, i < 15, j >= 1, j < 15)
        return tvm.tirx.if_then_else(inside, x[n, c, i - 1, j - 1], zero)

    pad = te.compute((1, 8, 16, 16), at, name="pad")
    c, i, j = (te.reduce_axis((0, e), name=n) for e, n in ((8, "c"), (3, "i"), (3, "j")))
    conv = te.compute(
        (1, 16, 14, 14),
        lambda n, f, y, z: te.sum(pad[n, c, y + i, z + j] * w[f, c, i, j], axis=[c, i, j]),
        name="conv",
    )
    func = te.create_prim_func([x, w, conv]).with_attr("global_symbol", "main")
    mod = tvm.IRModule({"main": func})
    return space_of(Subgraph(0, subgraph_key(mod), "conv", mod, 1, 4e5), cpu)


def applied_vectors(space: Space, each: int = 4) -> list[tuple[Sketch, np.ndarray, Any]]:
    from familyseer.search._apply import apply_decisions

    context, sketches = space
    rng = np.random.default_rng(3)
    found = []
    for sketch in sketches:
        for _ in range(each):
            vector = sketch.sample(rng)
            schedule = apply_decisions(context, sketch, vector, seed=int(rng.integers(1, 1 << 30)))
            if schedule is not None:
                found.append((sketch, vector, schedule))
    return found


def test_the_slots_are_the_subgraphs_loops(dense: Space) -> None:
    _, sketches = dense
    assert len(sketches) > 1
    for sketch in sketches:
        tilings = [s for s in sketch.slots if s.kind == TILE]
        assert [s.extent for s in tilings] == [64, 64, 64]
        assert [s.width for s in tilings] == [4, 4, 2]
        assert all(s.limit > 0 for s in tilings)
        choices = [s for s in sketch.slots if s.kind == CHOICE]
        assert choices
        assert all(len(set(s.values)) == s.extent > 1 for s in choices)
        assert sketch.length == sum(s.width for s in sketch.slots)


@pytest.mark.parametrize("name", ["dense", "padded"])
def test_decisions_come_back_from_the_schedule_they_made(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = applied_vectors(request.getfixturevalue(name))
    assert len(found) >= 4
    for sketch, vector, schedule in found:
        read = sketch.read(schedule.trace)
        decided = vector != OPEN
        np.testing.assert_array_equal(read[decided], vector[decided])
        assert OPEN not in read


def test_open_slots_are_sampled_and_then_known(padded: Space) -> None:
    context, sketches = padded
    from familyseer.search._apply import apply_decisions

    sketch = next(s for s in sketches if any(slot.kind == OTHER for slot in s.slots))
    locations = [slot.start for slot in sketch.slots if slot.kind == OTHER]
    vector = sketch.sample(np.random.default_rng(0))
    assert all(vector[at] == OPEN for at in locations)
    seen = set()
    # TVM's generator is linear: from small seeds alike its first number is always small
    for seed in np.random.default_rng(1).integers(1, 1 << 30, 12):
        schedule = apply_decisions(context, sketch, vector, int(seed))
        assert schedule is not None
        read = sketch.read(schedule.trace)
        seen.add(tuple(int(read[at]) for at in locations))
    assert len(seen) > 1


def test_decisions_read_back_make_the_same_program_whatever_the_seed(padded: Space) -> None:
    from familyseer.search._apply import apply_decisions

    for sketch, _, schedule in applied_vectors(padded):
        read = sketch.read(schedule.trace)
        again = apply_decisions(padded[0], sketch, read, seed=99)
        assert again is not None
        assert again.mod.script() == schedule.mod.script()


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_apply_what_one_applies(padded: Space, cpu: Any, threads: int) -> None:
    from familyseer.search._apply import Applier

    alone, sketches = padded
    together = new_context(Subgraph(0, "0" * 16, "conv", alone.mod, 1, 4e5), cpu, 0, threads)
    together.generate_design_space()
    rng = np.random.default_rng(3)
    jobs = [(s, s.sample(rng), int(rng.integers(1, 1 << 30))) for s in sketches for _ in range(4)]
    # one that cannot be applied keeps its place
    impossible = jobs[1][1].copy()
    impossible[next(slot.start for slot in jobs[1][0].slots if slot.kind == CHOICE)] = 1 << 20
    jobs[1] = (jobs[1][0], impossible, 1)
    one, many = Applier(alone), Applier(together)
    # the second time with modules made of what the first has kept
    found = [[s and s.mod.script() for s in a.apply(jobs)] for a in (one, many, many)]
    assert found[0] == found[1] == found[2]
    assert [script is None for script in found[0]] == [i == 1 for i in range(len(jobs))]


def test_other_decisions_make_another_program(dense: Space) -> None:
    scripts = {schedule.mod.script() for _, _, schedule in applied_vectors(dense)}
    assert len(scripts) > 6


def test_a_trace_is_known_to_be_of_its_sketch_though_others_differ_in_a_loop_only(
    dense: Space, padded: Space
) -> None:
    sketches = dense[1]
    assert len({sketch.signature for sketch in sketches}) == len(sketches) > 1
    for sketch, _, schedule in applied_vectors(dense):
        found = sketch_of(schedule.trace, sketches)
        assert found is not None
        assert sketches[found] is sketch
        assert sketch_of(schedule.trace, padded[1]) is None


def test_a_trace_that_does_not_fit_the_subgraph_gives_none(dense: Space, padded: Space) -> None:
    from familyseer.search._apply import apply_decisions

    sketch = padded[1][0]
    vector = sketch.sample(np.random.default_rng(0))
    assert apply_decisions(padded[0], sketch, vector, seed=1) is not None
    assert apply_decisions(dense[0], sketch, vector, seed=1) is None


def test_what_a_targets_postprocessors_refuse_gives_none(make_dense: Any) -> None:
    from familyseer.search._apply import apply_decisions

    gpu = load_tvm().target.Target(
        {
            "kind": "cuda",
            "arch": "sm_80",
            "max_threads_per_block": 1024,
            "max_shared_memory_per_block": 49152,
            "thread_warp_size": 32,
            "host": {"kind": "llvm"},
        }
    )
    context, sketches = space_of(make_dense(128, 128, 64), gpu)
    sketch = sketches[0]
    vector = sketch.sample(np.random.default_rng(0))
    tilings = [s for s in sketch.slots if s.kind == TILE and s.width == 5]
    for slot in tilings:  # block, virtual thread, thread, and two levels of registers
        vector[slot.start : slot.stop] = [4, 1, 16, 1, 2]
    assert apply_decisions(context, sketch, vector, seed=1) is not None
    for slot in tilings:
        vector[slot.start : slot.stop] = [1, 1, 128, 1, 1]
    assert apply_decisions(context, sketch, vector, seed=1) is None
