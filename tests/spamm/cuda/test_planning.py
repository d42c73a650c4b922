"""Planning kernels: the lists, bounds and searches are those of the host, product by product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spamm._plan import Plan, build_plan
from spamm.cuda._compile import compile_cubin, resources
from spamm.cuda._launch import Buffer, Program
from spamm.cuda._order import Tiling
from spamm.cuda._planning import lists_launch, planning_program
from spamm.cuda._sweep import float32_below, rows_per_thread
from spamm.cuda._tau import bound_program
from tests.spamm.cuda.emulator import needs_compiler, run_program
from tests.spamm.cuda.test_norms import device_norms

Norms = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]
_BLOCK = (16, 16, 16)
_SMALLEST = float(np.finfo(np.float32).smallest_subnormal)


def decaying(mb: int, kb: int, nb: int, seed: int = 0) -> tuple[Norms, Norms]:
    """Norms that fall off the diagonal over twelve orders of magnitude."""
    rng = np.random.default_rng(seed)

    def make(rows: int, cols: int) -> Norms:
        away = np.abs(np.arange(rows)[:, None] / rows - np.arange(cols) / cols)
        return (10.0 ** (-12 * away) * rng.uniform(0.5, 2, (rows, cols))).astype(np.float32)

    return make(mb, kb), make(kb, nb)


def host_plan(norms_a: Norms, norms_b: Norms, tau: float) -> Plan:
    (mb, kb), nb = norms_a.shape, norms_b.shape[1]
    shape = (mb * _BLOCK[0], kb * _BLOCK[1], nb * _BLOCK[2])
    return build_plan(norms_a, norms_b, shape, _BLOCK, tau)


def device_plan(norms_a: Norms, norms_b: Norms, tau: np.float32, **options: Any) -> Arrays:
    grid = (*norms_a.shape, norms_b.shape[1])
    seed = options.pop("seed", None)
    tiling = options.pop("tiling", Tiling())
    program = planning_program(grid, tiling, options.pop("capacity", int(np.prod(grid))))
    assert not options
    inputs = {"norms_a": norms_a, "norms_b": norms_b, "tau": np.array([tau], np.float32)}
    return run_program(program, inputs, seed=seed)


def products(norms_a: Norms, norms_b: Norms) -> npt.NDArray[np.float64]:
    """All products, (mb, nb, kb), exactly."""
    with np.errstate(invalid="ignore"):
        return norms_a.astype(np.float64)[:, None, :] * norms_b.T.astype(np.float64)


def skipped_error(norms_a: Norms, norms_b: Norms, tau: float) -> float:
    every = products(norms_a, norms_b)
    return float(np.linalg.norm(np.where(every < tau, every, 0).sum(axis=2)))


def check_plan(arrays: Arrays, norms_a: Norms, norms_b: Norms, tau: float) -> None:
    plan = host_plan(norms_a, norms_b, tau)
    np.testing.assert_array_equal(arrays["offsets"], plan.offsets)
    np.testing.assert_array_equal(arrays["ks"][: plan.blocks_valid], plan.ks)
    np.testing.assert_array_equal(arrays["counts"], np.diff(plan.offsets))
    np.testing.assert_array_equal(arrays["row_work"], plan.work_per_row())
    exact = skipped_error(norms_a, norms_b, tau)
    bound = float(arrays["error_bound"][0])
    assert bound >= exact * (1 - 1e-13)
    assert bound <= exact * (1 + 2**-17) + norms_a.size * norms_b.shape[1] * _SMALLEST


@needs_compiler
@pytest.mark.parametrize("grid", [(1, 1, 1), (3, 70, 33), (40, 31, 300), (65, 32, 5)])
@pytest.mark.parametrize("seed", [None, 3])
def test_plans_are_those_of_the_host(grid: tuple[int, int, int], seed: int | None) -> None:
    norms_a, norms_b = decaying(*grid)
    for tau in (np.float32(0), np.float32(1e-6), np.float32(1e30)):
        check_plan(device_plan(norms_a, norms_b, tau, seed=seed), norms_a, norms_b, float(tau))


@needs_compiler
def test_a_thread_walks_several_rows_of_a_large_grid() -> None:
    norms_a, norms_b = decaying(183, 34, 180)
    assert rows_per_thread(183, 180) > 1
    check_plan(device_plan(norms_a, norms_b, np.float32(1e-4)), norms_a, norms_b, np.float32(1e-4))


@needs_compiler
def test_infinite_norms_are_kept_and_ties_and_zeros_fall_as_on_the_host() -> None:
    norms_a = np.array([[np.inf, 1, 0, 2], [0, 3, 0, 1]], np.float32)
    norms_b = np.array([[0, 1], [6, 3], [np.inf, 0], [3, 6]], np.float32)
    for tau in (0.0, 3.0, 6.0, float(np.nextafter(np.float32(6), np.float32(7)))):
        check_plan(device_plan(norms_a, norms_b, np.float32(tau)), norms_a, norms_b, tau)


@needs_compiler
@pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e19, 1e30])
def test_products_that_float32_cannot_hold_are_decided_exactly(scale: float) -> None:
    norms_a, norms_b = decaying(9, 40, 35)
    norms_a, norms_b = norms_a * np.float32(scale), norms_b * np.float32(scale)
    for tau in (_SMALLEST, 1e-44, 1e38, float(np.finfo(np.float32).max)):
        tau = float(np.float32(tau))
        arrays = device_plan(norms_a, norms_b, np.float32(tau))
        plan = host_plan(norms_a, norms_b, tau)
        np.testing.assert_array_equal(arrays["offsets"], plan.offsets)
        np.testing.assert_array_equal(arrays["ks"][: plan.blocks_valid], plan.ks)
        assert arrays["error_bound"][0] >= skipped_error(norms_a, norms_b, tau) * (1 - 1e-13)


@needs_compiler
def test_a_list_that_is_too_short_is_not_overrun_and_shows_it() -> None:
    norms_a, norms_b = decaying(6, 40, 37)
    plan = host_plan(norms_a, norms_b, 1e-6)
    arrays = device_plan(norms_a, norms_b, np.float32(1e-6), capacity=100)
    assert plan.blocks_valid > 100
    assert arrays["offsets"][-1] == plan.blocks_valid
    np.testing.assert_array_equal(arrays["ks"], plan.ks[:100])
    # and the lists come from a second launch, once there is room
    again = {name: array for name, array in arrays.items() if name != "ks"}
    program = planning_program((6, 40, 37), Tiling(), 100)
    launch = lists_launch((6, 40, 37), Tiling(), plan.blocks_valid)
    ks = Buffer("ks", np.dtype(np.int32), plan.blocks_valid)
    second = Program(program.source, tuple(again), (ks,), (launch,))
    np.testing.assert_array_equal(run_program(second, again)["ks"], plan.ks)


@needs_compiler
@pytest.mark.parametrize(
    ("block", "tile"), [((64, 64), (64, 64)), ((32, 32), (128, 64)), ((128, 128), (64, 128))]
)
def test_tiles_come_heaviest_first_and_each_once(
    block: tuple[int, int], tile: tuple[int, int]
) -> None:
    m, n = 1500, 1410
    mb, nb = -(-m // block[0]), -(-n // block[1])
    norms_a, norms_b = decaying(mb, 50, nb)
    norms_a[3:5] = 0
    tiling = Tiling.of(block, tile, (m, n))
    arrays = device_plan(norms_a, norms_b, np.float32(1e-5), tiling=tiling)
    order, counts = arrays["order"], arrays["counts"].reshape(mb, nb)
    down, across = -(-m // tile[0]), -(-n // tile[1])
    work = np.zeros((down, across), np.int64)
    for i in range(down):
        for j in range(across):
            rows = slice(i * tile[0] // block[0], -(-min(m, (i + 1) * tile[0]) // block[0]))
            cols = slice(j * tile[1] // block[1], -(-min(n, (j + 1) * tile[1]) // block[1]))
            work[i, j] = counts[rows, cols].sum()
    np.testing.assert_array_equal(np.sort(order), np.arange(down * across))
    sorted_work = np.maximum(work.ravel()[order], 1)
    # a bucket is half a power of two wide
    assert (sorted_work[1:] <= sorted_work[:-1] * 1.5).all()
    assert np.maximum.accumulate(sorted_work[::-1]).max() == sorted_work.max()


def ratio_program(grid: tuple[int, int, int], ratio: float) -> Program:
    return planning_program(grid, Tiling(), int(np.prod(grid)), ratio)


def found_tau(program: Any, norms_a: Norms, norms_b: Norms) -> Arrays:
    return run_program(program, {"norms_a": norms_a, "norms_b": norms_b})


@needs_compiler
@pytest.mark.parametrize(
    ("ratio", "grid"),
    [
        *((ratio, (33, 37, 70)) for ratio in (1e-9, 0.05, 0.3, 0.999, 1.0)),
        (0.1, (1, 1, 1)),
        # more rows than thread blocks
        (0.2, (300, 5, 3)),
    ],
)
def test_the_ratio_is_met_to_the_product(ratio: float, grid: tuple[int, int, int]) -> None:
    norms_a, norms_b = decaying(*grid)
    arrays = found_tau(ratio_program(grid, ratio), norms_a, norms_b)
    every = np.sort(products(norms_a, norms_b).ravel())[::-1]
    kept = int((every >= float(arrays["tau"][0])).sum())
    # float32 may hold two neighbours as one
    assert abs(kept - ratio * every.size) <= 2
    more, fewer = arrays["kept"]
    assert fewer <= ratio * every.size <= more + 1e-9 * every.size
    assert kept in (more, fewer)


@needs_compiler
def test_of_equal_products_the_nearer_side_is_taken() -> None:
    norms_a, norms_b = np.ones((4, 10), np.float32), np.ones((10, 8), np.float32)
    norms_a[:, 7:], norms_b[:, 4:] = 0.5, 0.25
    every = products(norms_a, norms_b)
    steps = sorted({float(value) for value in every.ravel()})
    shares = {tau: (every >= tau).mean() for tau in steps}
    for ratio in (0.01, 0.34, 0.36, 0.41, 0.45, 0.6, 0.8, 0.97):
        arrays = found_tau(ratio_program((4, 10, 8), ratio), norms_a, norms_b)
        got = (every >= float(arrays["tau"][0])).mean()
        nearest = min(abs(share - ratio) for share in [0.0, *shares.values()])
        assert abs(got - ratio) == pytest.approx(nearest)


@needs_compiler
def test_zero_and_infinite_products_bound_what_a_ratio_can_be() -> None:
    norms_a = np.array([[0, 0, 1, np.inf]], np.float32)
    norms_b = np.array([[1], [1], [2], [1]], np.float32)
    sparse = found_tau(ratio_program((1, 4, 1), 0.9), norms_a, norms_b)
    assert sparse["tau"][0] == 0
    assert sparse["kept"].tolist() == [4, 2]
    half = found_tau(ratio_program((1, 4, 1), 0.5), norms_a, norms_b)
    assert half["tau"][0] == 2
    few = found_tau(ratio_program((1, 4, 1), 0.1), norms_a, norms_b)
    assert np.isfinite(few["tau"][0])
    assert few["kept"].tolist() == [1, 0]


@needs_compiler
@pytest.mark.parametrize(
    ("share", "grid"),
    [
        *((share, (17, 41, 35)) for share in (0.0, 1e-9, 0.3, np.inf)),
        (0.3, (1, 3, 1)),
        # more rows than thread blocks
        (1e-3, (300, 5, 3)),
    ],
)
def test_the_largest_tau_within_a_bound_is_found(share: float, grid: tuple[int, int, int]) -> None:
    norms_a, norms_b = decaying(*grid)
    norms_a[0, 0] = 0
    everything = skipped_error(norms_a, norms_b, np.inf)
    bound = everything * share
    tau = found_tau(bound_program(grid, bound), norms_a, norms_b)["tau"][0]
    arrays = device_plan(norms_a, norms_b, tau)
    assert arrays["error_bound"][0] <= bound
    if share < 1:
        # a larger tau skips one product more, and goes beyond the bound or what it gives away
        following = float(np.nextafter(tau, np.float32(np.inf)))
        assert skipped_error(norms_a, norms_b, following) > bound * (1 - 2**-16)
    else:
        assert tau == np.finfo(np.float32).max


@needs_compiler
def test_infinite_blocks_do_not_count_against_a_bound() -> None:
    norms_a, norms_b = decaying(5, 20, 7)
    norms_a[2, 3] = np.inf
    tau = found_tau(bound_program((5, 20, 7), 1e-3), norms_a, norms_b)["tau"][0]
    assert tau > 0
    assert device_plan(norms_a, norms_b, tau)["error_bound"][0] <= 1e-3


@pytest.mark.parametrize("tau", [0.0, 0.1, 1e-50, 1.5, 1e39, 3e-45, 1e300])
def test_the_device_takes_the_next_float32_below_tau(tau: float) -> None:
    below = float32_below(tau)
    assert float(below) <= tau
    assert np.isfinite(below)
    assert below == np.finfo(np.float32).max or float(np.nextafter(below, np.float32(np.inf))) > tau


@pytest.mark.parametrize("grid", [(0, 1, 1), (1 << 16, 1, 1 << 15), (1 << 14, 1 << 14, 1 << 12)])
def test_grids_that_no_kernel_counts_are_refused(grid: tuple[int, int, int]) -> None:
    refused = pytest.raises(ValueError, match="grid: expected at least one block")
    with refused:
        planning_program(grid, Tiling(), 1)
    with refused:
        ratio_program(grid, 0.5)
    with refused:
        bound_program(grid, 0.5)


@needs_compiler
def test_from_matrices_to_a_plan_that_keeps_its_promise() -> None:
    rng = np.random.default_rng(5)
    away = np.abs(np.subtract.outer(np.arange(200), np.arange(200)))
    a, b = (rng.standard_normal((200, 200)) * 0.8**away for _ in range(2))
    a, b = a.astype(np.float16), b.astype(np.float16)
    norms_a, norms_b = device_norms(a, 16, 16), device_norms(b, 16, 16)
    grid = (13, 13, 13)
    tau = found_tau(ratio_program(grid, 0.3), norms_a, norms_b)["tau"][0]
    arrays = device_plan(norms_a, norms_b, tau)
    assert arrays["offsets"][-1] / 13**3 == pytest.approx(0.3, abs=0.01)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    got = np.zeros((208, 208))
    wide_a, wide_b = np.zeros((2, 208, 208))
    wide_a[:200, :200], wide_b[:200, :200] = a, b
    for c, (i, j) in enumerate(np.ndindex(13, 13)):
        for k in arrays["ks"][arrays["offsets"][c] : arrays["offsets"][c + 1]]:
            at = [slice(16 * x, 16 * x + 16) for x in (i, k, j)]
            got[at[0], at[2]] += wide_a[at[0], at[1]] @ wide_b[at[1], at[2]]
    error = np.linalg.norm(exact - got[:200, :200])
    assert 0 < error <= arrays["error_bound"][0]


def test_tiles_that_cut_across_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide one another"):
        Tiling.of((48, 64), (64, 64), (100, 100))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("large", [False, True])
def test_planning_kernels_compile_without_spills(arch: str, large: bool, tmp_path: Path) -> None:
    grid = (256, 256, 256) if large else (8, 8, 8)
    programs = [planning_program(grid, Tiling((2, 2)), 1)]
    if large:
        programs += [ratio_program(grid, 0.1), bound_program(grid, 1.0)]
    for program in programs:
        used = resources(compile_cubin(program.source, arch, cache=tmp_path))
        assert {launch.kernel for launch in program.launches} <= set(used)
        for each in used.values():
            assert not each.spills
