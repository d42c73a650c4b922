"""SpAMM as an operator: dense at tau = 0, the blockwise product otherwise, for any shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.tvm_env import load_tvm

tvm = load_tvm()

from ops.spamm_operator import (  # noqa: E402
    BLOCKS,
    Convolution,
    Operator,
    PackedWeight,
    Problem,
    pack_weight,
)

RIGHT = [(1, 200, 130), (7, 64, 64), (100, 150, 70), (33, 31, 5)]
LEFT = [(1, 40, 70, 100), (3, 64, 33, 17), (2, 5, 64, 3)]
CONVOLUTIONS = [
    # channels, height, width, filters, kernel, stride, padding, dilation
    (8, 9, 11, 20, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    (6, 14, 9, 16, (3, 2), (2, 1), (0, 1, 2, 0), (1, 2)),
    (70, 15, 15, 7, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    (3, 12, 12, 9, (7, 7), (2, 3), (3, 3, 3, 3), (1, 1)),
    (4, 3, 3, 6, (3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
]


def right(m: int, k: int, n: int, dtype: str = "float32") -> Problem:
    return Problem(False, 1, m, k, n, (m, k), (m, n), dtype)


def left(batch: int, m: int, k: int, n: int) -> Problem:
    return Problem(True, batch, m, k, n, (batch, k, n), (batch, m, n), "float32")


def run(operator: Operator, x: Any, cpu: Any) -> Any:
    """The operator's result."""
    return _compiled(operator, cpu, False)(x)[0]


def probe(operator: Operator, cpu: Any) -> Callable[[Any, float], list[Any]]:
    """The operator as a function of the activations and tau: its result, and their norms."""
    function = _compiled(operator, cpu, True)
    return lambda x, tau: function(x, np.asarray([tau], np.float32))


def _compiled(operator: Operator, cpu: Any, with_tau: bool) -> Callable[..., list[Any]]:
    relax, problem = tvm.relax, operator.problem
    builder = relax.BlockBuilder()
    parameters = [relax.Var("x", relax.TensorType(problem.x, problem.dtype))]
    if with_tau:
        parameters.append(relax.Var("tau", relax.TensorType((1,), "float32")))
    with builder.function("main", parameters):
        with builder.dataflow():
            results = [v for v in operator.emit(builder, *parameters) if v is not None]
            results = [builder.emit_output(v) for v in results]
        builder.emit_func_output(results)
    fused = fuse(builder.get(), cpu)
    assert not [s for s in extract_subgraphs(fused, cpu) if s.name == operator.name]
    machine = relax.VirtualMachine(tvm.compile(fused, cpu), tvm.cpu())

    def call(*arguments: Any) -> list[Any]:
        return [r.numpy() for r in machine["main"](*map(tvm.runtime.tensor, arguments))]

    return call


def blocky(rng: np.random.Generator, shape: tuple[int, int], dtype: str = "float32") -> Any:
    """Values whose blocks of 16 differ in size, a quarter of them zero."""
    rows, cols = (-(-extent // 16) for extent in shape)
    scale = np.exp(2 * rng.standard_normal((rows, cols))) * (rng.random((rows, cols)) > 0.25)
    values = rng.standard_normal(shape) * np.kron(scale, np.ones((16, 16)))[: shape[0], : shape[1]]
    return values.astype(dtype)


def blockwise(weight: Any, x: Any, packed: PackedWeight, norms: Any, tau: float) -> Any:
    """The kept products, block by block, in float64: weight (own x k) times each x (k x other)."""
    kernel = packed.kernel
    result = np.zeros((len(x), weight.shape[0], x.shape[2]))
    for image, matrix in enumerate(x.astype(np.float64)):
        for strip in range(kernel.strips):
            stop = None if strip == kernel.strips - 1 else (strip + 1) * kernel.strip
            columns = slice(strip * kernel.strip, stop)
            row = norms[image * kernel.strips + strip]
            for q, kk in np.ndindex(packed.norms.shape):
                # as the kernel compares, in single precision
                product = np.float32(packed.norms[q, kk]) * np.float32(row[kk])
                if product < np.float32(tau):
                    continue
                own = slice(q * kernel.block, (q + 1) * kernel.block)
                ks = slice(kk * kernel.depth, (kk + 1) * kernel.depth)
                result[image, own, columns] += weight[own, ks] @ matrix[ks, columns]
    return result


def middle_tau(packed: PackedWeight, norms: Any) -> float:
    """A tau between two products of norms, that keeps about half."""
    products = np.unique(norms[:, None, :].astype(np.float64) * packed.norms)
    at = len(products) // 2
    # of a single product, below it
    return float((products[at - 1] + products[at]) / 2 if at else products[0] / 2)


@pytest.mark.parametrize("sizes", RIGHT, ids=str)
def test_a_product_with_the_weight_on_the_right(sizes: Any, cpu: Any) -> None:
    rng = np.random.default_rng(1)
    problem = right(*sizes)
    weight = blocky(rng, (problem.k, problem.n))
    x = blocky(rng, (problem.m, problem.k))
    packed = pack_weight(problem, weight, cpu, BLOCKS[sizes[0] % 3])
    operator = Operator("spamm", problem, packed, 0.0)
    exact = x.astype(np.float64) @ weight
    at_tau = probe(operator, cpu)
    got, norms = at_tau(x, 0.0)
    np.testing.assert_allclose(got, exact, atol=1e-5 * np.abs(exact).max())
    tau = middle_tau(packed, norms)
    kept = blockwise(weight.T.astype(np.float64), x.T[None], packed, norms, tau)[0].T
    np.testing.assert_allclose(at_tau(x, tau)[0], kept, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("sizes", LEFT, ids=str)
def test_a_product_with_the_weight_on_the_left(sizes: Any, cpu: Any) -> None:
    rng = np.random.default_rng(2)
    problem = left(*sizes)
    weight = blocky(rng, (problem.m, problem.k))
    x = np.stack([blocky(rng, (problem.k, problem.n)) for _ in range(problem.batch)])
    packed = pack_weight(problem, weight, cpu, (32, 32))
    operator = Operator("spamm", problem, packed, 0.0)
    exact = weight.astype(np.float64) @ x
    at_tau = probe(operator, cpu)
    got, norms = at_tau(x, 0.0)
    np.testing.assert_allclose(got, exact, atol=1e-5 * np.abs(exact).max())
    tau = middle_tau(packed, norms)
    kept = blockwise(weight.astype(np.float64), x, packed, norms, tau)
    np.testing.assert_allclose(at_tau(x, tau)[0], kept, atol=1e-5 * np.abs(exact).max())


@pytest.mark.parametrize("problem", [right(100, 150, 70), left(2, 40, 70, 100)], ids=str)
def test_a_tau_that_is_fixed_is_that_of_a_probe(problem: Problem, cpu: Any) -> None:
    rng = np.random.default_rng(7)
    sides = (problem.m, problem.k) if problem.left else (problem.k, problem.n)
    packed = pack_weight(problem, blocky(rng, sides), cpu, (32, 32))
    x = rng.standard_normal(problem.x).astype(np.float32)
    operator = Operator("spamm", problem, packed, 0.0)
    at_tau = probe(operator, cpu)
    dense, norms = at_tau(x, 0.0)
    # without a tau no norms are computed
    np.testing.assert_array_equal(run(operator, x, cpu), dense)
    tau = middle_tau(packed, norms)
    fixed = run(operator.with_tau("fixed", tau), x, cpu)
    np.testing.assert_array_equal(fixed, at_tau(x, tau)[0])
    assert not np.array_equal(fixed, dense)


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_a_convolution(case: Any, cpu: Any) -> None:
    channels, height, width, filters, kernel, stride, padding, dilation = case
    rng = np.random.default_rng(3)
    convolution = Convolution((channels, height, width), kernel, stride, padding, dilation)
    k = channels * kernel[0] * kernel[1]
    out = (2, filters, *convolution.out)
    images = (2, channels, height, width)
    positions = out[2] * out[3]
    problem = Problem(True, 2, filters, k, positions, images, out, "float32", convolution)
    weight = blocky(rng, (filters, k))
    x = rng.standard_normal(problem.x).astype(np.float32)
    packed = pack_weight(problem, weight, cpu, (32, 32))
    columns = im2col(x, convolution)
    exact = (weight.astype(np.float64) @ columns).reshape(out)
    operator = Operator("spamm", problem, packed, 0.0)
    at_tau = probe(operator, cpu)
    got, norms = at_tau(x, 0.0)
    np.testing.assert_allclose(got, exact, atol=1e-5 * np.abs(exact).max())
    # what is skipped is at most the sum of its products of norms
    tau = middle_tau(packed, norms)
    products = norms[:, None, :].astype(np.float64) * packed.norms
    error = at_tau(x, tau)[0] - exact
    skipped = np.where(products < tau, products, 0.0).sum(axis=2)
    assert 0 < np.linalg.norm(error) <= np.linalg.norm(skipped) * (1 + 1e-5)
    assert 0 < packed.valid_ratio(norms, tau) < packed.valid_ratio(norms, 0.0)


def im2col(x: Any, convolution: Convolution) -> Any:
    top, beside, bottom, right_side = convolution.padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (beside, right_side))).astype(np.float64)
    (oh, ow), (sy, sx), (dy, dx) = convolution.out, convolution.stride, convolution.dilation
    rows = [
        padded[:, c, i * dy : i * dy + oh * sy : sy, j * dx : j * dx + ow * sx : sx][:, :oh, :ow]
        for c in range(x.shape[1])
        for i in range(convolution.kernel[0])
        for j in range(convolution.kernel[1])
    ]
    return np.stack([row.reshape(len(x), -1) for row in rows], axis=1)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_sums_are_in_the_type_of_the_backend(dtype: str, cpu: Any) -> None:
    rng = np.random.default_rng(4)
    problem = right(9, 70, 40, dtype)
    weight = rng.standard_normal((70, 40)).astype(dtype)
    x = rng.standard_normal((9, 70)).astype(dtype)
    operator = Operator("spamm", problem, pack_weight(problem, weight, cpu), 1e-6)
    got = run(operator, x, cpu)
    assert got.dtype == ("float32" if dtype == "float16" else "float64")
    limit = 1e-5 if dtype == "float16" else 1e-13
    exact = x.astype(np.float64) @ weight.astype(np.float64)
    np.testing.assert_allclose(got, exact, atol=limit * np.abs(exact).max())


def test_blocks_of_zeros_are_not_stored(cpu: Any) -> None:
    problem = right(4, 128, 128)
    weight = np.zeros((128, 128), dtype=np.float32)
    weight[:64, 64:] = 1
    packed = pack_weight(problem, weight, cpu, (64, 64))
    assert packed.stored == 1
    assert packed.arrays[0].size == 64 * 64
    assert packed.valid_ratio(np.ones((1, 2)), 0.0) == 0.25


def test_a_weight_of_zeros_gives_zeros(cpu: Any) -> None:
    problem = right(4, 40, 40)
    packed = pack_weight(problem, np.zeros((40, 40), dtype=np.float32), cpu)
    got = run(Operator("spamm", problem, packed, 1.0), np.ones((4, 40), np.float32), cpu)
    np.testing.assert_array_equal(got, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_never_skipped(bad: float, cpu: Any) -> None:
    problem = right(3, 128, 32)
    weight = np.full((128, 32), 1e-6, dtype=np.float32)
    x = np.zeros((3, 128), dtype=np.float32)
    x[1, 100] = bad
    got = run(Operator("spamm", problem, pack_weight(problem, weight, cpu), 1e30), x, cpu)
    assert not np.isfinite(got[1]).any()


def test_the_valid_ratio_counts_what_the_kernel_keeps(cpu: Any) -> None:
    rng = np.random.default_rng(5)
    problem = right(64, 256, 128)
    packed = pack_weight(problem, blocky(rng, (256, 128)), cpu, (32, 32))
    norms = np.abs(rng.standard_normal((packed.kernel.strips, packed.kernel.k_blocks)))
    tau = middle_tau(packed, norms)
    kept = (norms[:, None, :] * packed.norms >= tau).mean()
    assert packed.valid_ratio(norms, tau) == pytest.approx(kept)


def test_work_is_dealt_out_evenly(cpu: Any) -> None:
    problem = right(8, 1024, 2048)
    rng = np.random.default_rng(6)
    weight = np.zeros((1024, 2048), dtype=np.float32)
    # the first columns hold nearly all
    for j in range(0, 2048, 64):
        weight[: 1024 - j // 2, j : j + 64] = rng.standard_normal((1024 - j // 2, 64))
    packed = pack_weight(problem, weight, cpu, (64, 64))
    offsets, bounds = packed.arrays[3], packed.arrays[5]
    work = np.diff(offsets[bounds])
    assert len(work) == packed.kernel.groups > 1
    assert work.max() <= 1.15 * work.mean()
