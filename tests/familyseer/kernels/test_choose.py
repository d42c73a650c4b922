"""What is taken from a run's folder into a kernel library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.export._kernels._choose import choose
from familyseer.export._kernels._names import c_names
from familyseer.export.kernels import export_kernels
from familyseer.kernels import load
from familyseer.subgraphs import Subgraph
from familyseer.tvm_env import load_tvm
from tests.familyseer.kernels.finished_run import doubled, finished_run, parallel


def weights_rewritten(subgraph: Subgraph, target: Any) -> tuple[Subgraph, Any]:
    """The subgraph with weights of free layout, and MetaSchedule's own change of that layout."""
    tvm = load_tvm(intrinsics=True)
    ms = tvm.s_tir.meta_schedule
    function = subgraph.mod["main"].with_attr("layout_free_buffers", [1])
    mod = tvm.IRModule({"main": function})
    context = ms.TuneContext(
        mod=mod,
        target=target,
        space_generator=ms.space_generator.PostOrderApply(
            sch_rules=[], postprocs=[ms.postproc.RewriteLayout()], mutator_probs={}
        ),
    )
    schedule = tvm.s_tir.Schedule(mod, seed=1)
    i, j, k = schedule.get_loops(schedule.get_sblock("matmul"))
    outer, inner = schedule.split(j, [None, 16])
    schedule.reorder(i, outer, k, inner)
    schedule.enter_postproc()
    assert context.space_generator.postprocs[0].apply(schedule)
    return Subgraph(0, subgraph.key, subgraph.name, mod, 1, 1.0), schedule


def test_weights_are_taken_as_the_subgraph_has_them(
    cpu: Any, make_dense: Any, tmp_path: Path
) -> None:
    subgraph, rewritten = weights_rewritten(make_dense(8, 32, 24), cpu)

    def again(schedule: Any) -> None:
        rewritten.trace.apply_to_schedule(schedule, remove_postproc=False)

    out = finished_run(tmp_path / "out", cpu, [(subgraph, [(again, 1e-6)])])
    described = export_kernels(out, tmp_path / "library")["kernels"][0]
    assert described["rewritten_inside"] == ["B"]
    assert [one["shape"] for one in described["arguments"]] == [[8, 24], [24, 32], [8, 32]]
    rng = np.random.default_rng(0)
    a = rng.standard_normal((8, 24)).astype("float32")
    b = rng.standard_normal((24, 32)).astype("float32")
    result = load(tmp_path / "library")[described["name"]](a, b)
    np.testing.assert_allclose(result, np.maximum(a @ b, 0), rtol=1e-4, atol=1e-5)


def test_a_subgraph_that_cannot_be_lowered_is_left_out(
    cpu: Any, make_dense: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def for_a_gpu(schedule: Any) -> None:
        schedule.bind(schedule.get_loops(schedule.get_sblock("Y"))[0], "threadIdx.x")

    good, bad = make_dense(8, 16, 8), doubled("float32", "bound")
    records = [(good, [(parallel, 1e-6)]), (bad, [(for_a_gpu, 1e-6)])]
    out = finished_run(tmp_path / "out", cpu, records)
    described = export_kernels(out, tmp_path / "library")["kernels"]
    assert [one["subgraph"] for one in described] == [good.name]
    assert "bound: is left out: NotPlainError: it calls" in caplog.text


def test_a_run_of_nothing_that_can_be_lowered_is_refused(cpu: Any, tmp_path: Path) -> None:
    def for_a_gpu(schedule: Any) -> None:
        schedule.bind(schedule.get_loops(schedule.get_sblock("Y"))[0], "threadIdx.x")

    records = [(doubled("float32", "bound"), [(for_a_gpu, 1e-6)])]
    out = finished_run(tmp_path / "out", cpu, records)
    with pytest.raises(UserError, match="no subgraph of the run can be a kernel by itself"):
        export_kernels(out, tmp_path / "library")
    assert not (tmp_path / "library").exists()


def test_the_most_time_in_the_model_comes_first(cpu_out: Path) -> None:
    names = [one.name for one in choose(cpu_out)]
    assert names == ["fused_matmul_softmax", "cast", "half", "tanh"]


def test_a_subgraph_without_a_name_is_called_by_its_key(cpu: Any, tmp_path: Path) -> None:
    subgraph = doubled("float32", "double")
    out = finished_run(tmp_path / "out", cpu, [(subgraph, [(parallel, 1e-6)])])
    text = (out / "families.json").read_text().replace(subgraph.key, "0" * 16)
    (out / "families.json").write_text(text)
    assert [one.name for one in choose(out)] == [f"subgraph_{subgraph.key}"]


def test_names_become_those_of_c() -> None:
    given = ["fused_conv2d", "fused_conv2d", "conv.1/x", "_x", "2nd", "restrict", "", "é"]
    names = c_names(given)
    assert names[:3] == ["fused_conv2d", "fused_conv2d_2", "conv_1_x"]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in names)
    assert "restrict" not in names
