"""What is read from the TIR of a subgraph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.families import VECTOR_FIELDS, Reach, structural_features


def _distance(a: Any, b: Any) -> float:
    difference = structural_features(a).vector() - structural_features(b).vector()
    return float(np.linalg.norm(difference))


def test_a_convolution_is_read_with_its_window_stride_and_channels(tir: Any) -> None:
    features = structural_features(tir.conv(32, 64, 28, 3, 2))
    assert features.operation == "conv2d"
    assert features.window == (3, 3)
    assert features.stride == (2, 2)
    assert features.depth == 32
    assert features.spatial == 64 * 14 * 14
    assert features.padded
    assert features.sequence == ("pad", "conv2d", "add", "relu")
    assert features.epilogue == ("add", "relu")


def test_operations_are_told_apart_by_their_tir(tir: Any) -> None:
    found = {
        "pointwise": tir.conv(kernel=1),
        "depthwise": tir.conv(64, 64, groups=64),
        "grouped": tir.conv(64, 64, groups=4),
        "matmul": tir.matmul(),
        "row": tir.matmul(m=1),
        "batched": tir.matmul(batch=8),
        "max": tir.pool(),
        "avg": tir.pool(kind="avg"),
        "softmax": tir.softmax(),
        "mean": tir.mean(),
        "transpose": tir.transpose(),
        "lookup": tir.lookup(),
    }
    assert {name: structural_features(mod).operation for name, mod in found.items()} == {
        "pointwise": "conv2d",
        "depthwise": "depthwise_conv2d",
        "grouped": "grouped_conv2d",
        "matmul": "matmul",
        "row": "matvec",
        "batched": "batch_matmul",
        "max": "max_pool2d",
        "avg": "avg_pool2d",
        "softmax": "softmax",
        "mean": "reduction",
        "transpose": "copy",
        "lookup": "gather",
    }


def test_layer_normalization_is_no_matrix_product(tir: Any) -> None:
    data = tir.te.placeholder((16, 64), name="data")
    scale, shift = (tir.te.placeholder((64,), name=name) for name in ("scale", "shift"))
    mod = tir.tir(data, scale, shift, tir.topi.nn.layer_norm(data, scale, shift, [1], 1e-5))
    assert structural_features(mod).operation == "normalization"


def test_access_patterns_of_a_matrix_product(tir: Any) -> None:
    features = structural_features(tir.matmul(64, 128, 256))
    # along j: a stays, b moves to the next element; along k: a to the next element, b by a row
    assert features.along_output == Reach(still=0.5, contiguous=0.5, strided=0.0)
    assert features.along_reduction == Reach(still=0.0, contiguous=0.5, strided=0.5)
    assert features.reuse == (128.0, 64.0)
    assert features.factors == features.reused_factors == 2
    assert not features.shared_axes
    moved = 4 * (64 * 256 + 256 * 128 + 64 * 128)
    assert features.intensity == pytest.approx(2 * 64 * 128 * 256 / moved)


def test_batches_share_an_axis_and_single_rows_reuse_one_factor_less(tir: Any) -> None:
    assert structural_features(tir.matmul(batch=8)).shared_axes
    assert structural_features(tir.matmul(m=1)).reused_factors == 1


def test_a_residual_is_told_from_a_bias(tir: Any) -> None:
    assert not structural_features(tir.conv(epilogue="add")).residual
    assert structural_features(tir.conv(epilogue="add residual")).residual


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
def test_the_element_type_is_that_of_the_operands(tir: Any, dtype: str) -> None:
    features = structural_features(tir.matmul(dtype=dtype, epilogue=""))
    assert features.dtype == dtype


def test_the_vector_has_a_number_for_every_field(tir: Any) -> None:
    features = structural_features(tir.conv())
    assert features.vector().shape == (len(VECTOR_FIELDS),)
    assert tuple(features.named()) == VECTOR_FIELDS
    assert np.isfinite(features.vector()).all()


def test_sixteen_times_the_size_is_nearer_than_another_operation(tir: Any) -> None:
    small, large = tir.conv(16, 16, 14), tir.conv(256, 256, 56)
    assert _distance(small, large) < 0.75
    assert _distance(small, tir.conv(16, 16, 14, 1)) > 0.75
    assert _distance(small, tir.conv(16, 16, 14, groups=16)) > 1.0
    assert _distance(tir.matmul(), tir.matmul(m=1)) > 0.75
    assert _distance(tir.matmul(), tir.matmul(dtype="int8", epilogue="")) > 1.0


def test_plain_loops_without_blocks_are_read(tir: Any) -> None:
    from tvm.script import tirx as T  # noqa: N812

    @T.prim_func(s_tir=True)
    def product(
        a: T.Buffer((16, 32), "float32"),  # type: ignore[valid-type]
        b: T.Buffer((32, 8), "float32"),  # type: ignore[valid-type]
        c: T.Buffer((16, 8), "float32"),  # type: ignore[valid-type]
    ) -> None:
        for i, j in T.grid(16, 8):
            c[i, j] = T.float32(0)
            for k in range(32):
                c[i, j] = c[i, j] + a[i, k] * b[k, j]

    features = structural_features(product)
    assert features.operation == "matmul"
    assert features.depth == 32


def test_a_call_of_an_external_kernel_is_a_subgraph_too(tir: Any) -> None:
    from tvm.script import tirx as T  # noqa: N812

    @T.prim_func(s_tir=True)
    def kernel(a: T.Buffer((16,), "float32")) -> None:  # type: ignore[valid-type]
        with T.sblock("kernel"):
            T.reads()
            T.writes(a[0:16])
            T.evaluate(T.call_extern("my_kernel", a.data, dtype="int32"))

    features = structural_features(kernel)
    assert features.operation == "extern"
    assert np.isfinite(features.vector()).all()


def test_a_scheduled_subgraph_is_still_read(tir: Any) -> None:
    schedule = tir.tvm.s_tir.Schedule(tir.matmul(epilogue=""))
    block = schedule.get_sblock("compute")
    i, j, k = schedule.get_loops(block)
    outer, inner = schedule.split(k, [None, 8])
    schedule.reorder(outer, i, j, inner)
    features = structural_features(schedule.mod)
    assert features.operation == "matmul"
    assert features.depth == 256


def test_a_symbolic_batch_is_read(tir: Any) -> None:
    n = tir.tvm.tirx.Var("n", "int64")
    data = tir.te.placeholder((n, 64), name="data")
    features = structural_features(tir.tir(data, tir.topi.nn.relu(data)))
    assert features.operation == "elementwise"
    assert features.sequence == ("relu",)
    assert features.spatial == 64


def test_a_module_without_tir_is_refused_by_name(tir: Any) -> None:
    with pytest.raises(UserError, match="my_task: no TIR function found"):
        structural_features(tir.tvm.IRModule({}), "my_task")
