"""SpAMM on GPUs, from the library's entry points down to the kernels, on emulated GPUs."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

import spamm
from spamm import _tuned
from spamm._arrays import rounded_to_tf32
from spamm.cuda import DeviceArray
from spamm.cuda import _runtime_engine as engine
from spamm.cuda._compile import compile_cubin, resources
from spamm.cuda._device import fetch_array
from spamm.cuda._runtime_choice import device_name
from spamm.cuda._runtime_kernels import copy_source, probe_source
from spamm.cuda._space import default
from tests.spamm.cuda.emulated_device import EmulatedDevice, Foreign
from tests.spamm.cuda.emulator import needs_compiler

pytestmark = needs_compiler

Array = npt.NDArray[Any]
Gpus = tuple[EmulatedDevice, ...]
Decaying = Callable[..., Array]

# small blocks skip some of what is small; larger ones are slow to emulate
BLOCK = (32, 16, 32)
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5}


def exact(a: Array, b: Array) -> Array:
    return np.matmul(a.astype(np.float64), b.astype(np.float64))


def close(got: Any, expected: Array, dtype: Any = np.float32) -> None:
    values = got.numpy() if isinstance(got, DeviceArray) else got
    error = np.abs(values.astype(np.float64) - expected).max()
    assert error <= TOLERANCE[np.dtype(dtype).name] * np.abs(expected).max()


def kept_only(a: Array, b: Array, plan: spamm.Plan) -> Array:
    wide = (each.astype(np.float64) for each in (a, b))
    return spamm.multiply(plan, *wide, backend="numpy")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32])
def test_every_type_is_multiplied_as_planned(gpus: Gpus, decaying: Decaying, dtype: Any) -> None:
    a, b = decaying(104, 88, dtype), decaying(88, 72, dtype, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.4, block=BLOCK, backend="cuda")
    assert isinstance(plan, spamm.Plan)
    assert plan.valid_ratio == pytest.approx(0.4, abs=0.02)
    got = spamm.multiply(plan, a, b, backend="cuda")
    assert got.dtype == dtype
    close(got, kept_only(a, b, plan), dtype)
    wide = spamm.matmul(
        a, b, valid_ratio=0.4, block=BLOCK, backend="cuda", out=np.empty((104, 72), np.float32)
    )
    close(wide, kept_only(a, b, plan))


def test_tf32_rounds_operands_and_float32_does_not(gpus: Gpus, decaying: Decaying) -> None:
    a, b = decaying(64, 64, np.float32), decaying(64, 64, np.float32, seed=1)
    coarse = spamm.matmul(a, b, tau=0.0, block=BLOCK, backend="cuda", precision="tf32")
    close(coarse, exact(rounded_to_tf32(a), rounded_to_tf32(b)))
    fine = spamm.matmul(a, b, tau=0.0, block=BLOCK, backend="cuda")
    close(fine, exact(a, b))
    assert np.abs(fine - coarse).max() > 1e-5


@pytest.mark.parametrize("tau", [0.0, 1e-2, 1e30])
def test_plans_are_the_host_s_for_the_same_norms(
    gpus: Gpus, decaying: Decaying, tau: float
) -> None:
    a, b = decaying(150, 70, np.float32), decaying(70, 90, np.float32, seed=1)
    plan = spamm.plan(a, b, tau=tau, block=BLOCK, backend="cuda")
    assert plan.tau <= tau
    host = spamm.build_plan(plan.norms_a, plan.norms_b, plan.shape, BLOCK, plan.tau)
    np.testing.assert_array_equal(plan.offsets, host.offsets)
    np.testing.assert_array_equal(plan.ks, host.ks)
    assert plan.error_bound == pytest.approx(host.error_bound, rel=1e-3)
    c = spamm.matmul(a, b, tau=tau, block=BLOCK, backend="cuda")
    assert np.linalg.norm(c - exact(a, b)) <= plan.error_bound + 1e-4


@pytest.mark.parametrize("block", [(32, 16, 32), (128, 16, 64)])
def test_plans_of_the_host_are_taken_with_tiles_of_any_size(
    gpus: Gpus, decaying: Decaying, block: tuple[int, int, int]
) -> None:
    a, b = decaying(144, 64, np.float32), decaying(64, 200, np.float32, seed=1)
    plan = spamm.plan(a, b, valid_ratio=0.5, block=block, backend="numpy")
    close(spamm.multiply(plan, a, b, backend="cuda"), kept_only(a, b, plan))
    config = default("float32", "sm_90", block)
    tiling = engine.tiling_of(config, plan.shape)
    lists = engine.upload_lists(gpus[0], plan, tiling)
    order = fetch_array(gpus[0], lists.order, np.int32)()
    down, across = config.grid_tiles(144, 200)
    np.testing.assert_array_equal(np.sort(order), np.arange(down * across))
    # the heaviest tile comes first
    counts = np.diff(plan.offsets).reshape(plan.grid[0], plan.grid[2])
    i, j = divmod(int(order[0]), across)
    rows = slice(i * config.tile[0] // block[0], -(-(i + 1) * config.tile[0] // block[0]))
    columns = slice(j * config.tile[1] // block[2], -(-(j + 1) * config.tile[1] // block[2]))
    assert counts[rows, columns].sum() >= counts.max()


def test_lists_that_could_be_long_are_allocated_when_their_length_is_known(
    gpus: Gpus, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MOST_UNKNOWN", 10)
    a = decaying(96, 96, np.float32)
    plan = spamm.plan(a, a, tau=1e-3, block=BLOCK, backend="cuda")
    assert plan.blocks_valid > 10
    close(spamm.multiply(plan, a, a, backend="cuda"), kept_only(a, a, plan))


def test_a_relative_error_is_guaranteed(gpus: Gpus, decaying: Decaying) -> None:
    a, b = decaying(128, 128, np.float32, rate=0.6), decaying(128, 96, np.float32, 0.6, 1)
    for most in (1e-1, 1e-3):
        c = spamm.matmul(a, b, max_rel_error=most, block=BLOCK, backend="cuda")
        assert np.linalg.norm(c - exact(a, b)) <= most * np.linalg.norm(exact(a, b))
    plan = spamm.plan(a, b, max_rel_error=1e-1, block=BLOCK, backend="cuda")
    assert plan.valid_ratio < 0.9
    assert 0 < plan.error_bound <= 1e-1 * np.linalg.norm(exact(a, b))


def test_a_product_that_cancels_keeps_its_relative_error(gpus: Gpus) -> None:
    rng = np.random.default_rng(0)
    half = rng.standard_normal((64, 32)).astype(np.float32)
    a = np.concatenate([half, half], axis=1)
    b = np.concatenate([half.T, -half.T])
    b[0] *= np.float32(1 + 2**-10)
    c = spamm.matmul(a, b, max_rel_error=0.3, block=BLOCK, backend="cuda")
    assert np.linalg.norm(c - exact(a, b)) <= 0.3 * np.linalg.norm(exact(a, b))


def test_what_is_not_finite_is_never_skipped(gpus: Gpus, decaying: Decaying) -> None:
    a, b = decaying(64, 64, np.float32), decaying(64, 64, np.float32)
    a[3, 60] = np.nan
    b[60, 40] = 0.0
    for criterion in ({"tau": 1e30}, {"max_rel_error": 0.1}):
        c = spamm.matmul(a, b, **criterion, block=BLOCK, backend="cuda")
        assert np.isnan(c[3, 32:]).all()


def test_a_ratio_that_equal_norms_forbid_is_refused_as_on_the_host(gpus: Gpus) -> None:
    a = np.ones((64, 64), np.float32)
    for run in (spamm.matmul, spamm.plan):
        messages = []
        for backend in ("cuda", "numpy"):
            with pytest.raises(ValueError, match=r"^valid_ratio: 0\.3 cannot be met") as refused:
                run(a, a, valid_ratio=0.3, block=BLOCK, backend=backend)
            messages.append(str(refused.value))
        assert messages[0] == messages[1]


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "row-major": lambda x: x.copy(),
    "part of a wider matrix": lambda x: np.pad(x, ((0, 0), (8, 16)))[:, 8:-16],
    "column-major": np.asfortranarray,
    "every second element": lambda x: np.repeat(np.repeat(x, 2, 0), 2, 1)[::2, ::2],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_on_a_gpu_of_every_layout(gpus: Gpus, decaying: Decaying, layout: str) -> None:
    a, b = decaying(80, 64, np.float32), decaying(64, 72, np.float32, seed=1)
    on_gpu = [Foreign(gpus[1], LAYOUTS[layout](each)) for each in (a, b)]
    plan = spamm.plan(*on_gpu, valid_ratio=0.5, block=BLOCK)
    np.testing.assert_allclose(plan.norms_a, spamm.block_norms(a, 32, 16), rtol=1e-5)
    np.testing.assert_allclose(plan.norms_b, spamm.block_norms(b, 16, 32), rtol=1e-5)
    got = spamm.multiply(plan, *on_gpu)
    assert isinstance(got, DeviceArray)
    assert got.__dlpack_device__() == (2, 1)
    close(got, kept_only(a, b, plan))
    close(spamm.matmul(*on_gpu, valid_ratio=0.5, block=BLOCK), kept_only(a, b, plan))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_on_a_gpu_go_where_they_are_wanted(
    gpus: Gpus, decaying: Decaying, layout: str, dtype: Any
) -> None:
    a = decaying(72, 64, np.float32)
    b = decaying(64, 88, np.float32, seed=1)
    untouched = LAYOUTS[layout](np.full((72, 88), 7, dtype))
    out = Foreign(gpus[0], untouched)
    on_gpu = [Foreign(gpus[0], each) for each in (a, b)]
    assert spamm.matmul(*on_gpu, tau=0.0, block=BLOCK, out=out) is out
    close(out.values, exact(a, b))
    if layout == "part of a wider matrix":
        around = out.whole.reshape(72, -1)
        assert not around[:, :8].any()
        assert not around[:, -16:].any()


def test_parts_of_one_array_may_be_operand_and_result(gpus: Gpus, decaying: Decaying) -> None:
    wide = np.zeros((64, 128), np.float32)
    wide[:, :64] = decaying(64, 64, np.float32)
    both = Foreign(gpus[0], wide)

    def columns(start: int) -> Any:
        interface = dict(both.__cuda_array_interface__)
        interface["shape"] = (64, 64)
        interface["strides"] = (512, 4)
        interface["data"] = (interface["data"][0] + 4 * start, False)
        part = object.__new__(Foreign)
        part.__cuda_array_interface__ = interface
        return part

    spamm.matmul(columns(0), columns(0), tau=0.0, block=BLOCK, out=columns(64))
    close(both.values[:, 64:], exact(wide[:, :64], wide[:, :64]))
    with pytest.raises(ValueError, match=r"^out: expected memory of its own"):
        spamm.matmul(columns(0), columns(0), tau=0.0, block=BLOCK, out=columns(32))


def test_batches_broadcast_and_norms_of_what_repeats_are_computed_once(
    gpus: Gpus, decaying: Decaying
) -> None:
    a = np.stack([decaying(40, 48, np.float32, seed=s) for s in range(3)])
    b = decaying(48, 32, np.float32, seed=9)
    plan = spamm.plan(a, b, valid_ratio=0.5, block=BLOCK, backend="cuda")
    assert isinstance(plan, spamm.BatchPlan)
    # of A and B together where neither is known yet
    assert gpus[0].launched("spamm_norms") == 3
    got = spamm.multiply(plan, a, b, backend="cuda")
    for index in range(3):
        close(got[index], kept_only(a[index], b, plan[index]))
    on_gpu = Foreign(gpus[0], a), Foreign(gpus[0], b)
    close(spamm.matmul(*on_gpu, tau=0.0, block=BLOCK), exact(a, b))
    assert plan.refresh(*on_gpu).plans[2].reused


@pytest.mark.parametrize("shape", [(0, 32, 32), (32, 0, 32), (32, 32, 0)])
def test_empty_products(gpus: Gpus, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    for criterion in ({"tau": 0.0}, {"valid_ratio": 0.5}, {"max_rel_error": 0.1}):
        got = spamm.matmul(a, b, **criterion, backend="cuda")
        np.testing.assert_array_equal(got, np.zeros((m, n)))
        got = spamm.matmul(Foreign(gpus[0], a), Foreign(gpus[0], b), **criterion)
        np.testing.assert_array_equal(got.numpy(), np.zeros((m, n)))
    assert spamm.plan(a, b, tau=1.0, backend="cuda").valid_ratio == 1.0


def test_a_plan_s_lists_are_copied_to_a_gpu_once_and_stay_through_a_refresh(
    gpus: Gpus, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = decaying(96, 96, np.float32), decaying(96, 96, np.float32, seed=1)
    on_gpu = Foreign(gpus[0], a), Foreign(gpus[0], b)
    made_there = spamm.plan(*on_gpu, tau=1e-3, block=BLOCK)
    made_here = spamm.plan(a, b, tau=1e-3, block=BLOCK, backend="numpy")
    copied = []
    upload = engine.upload_lists
    from spamm.cuda import _runtime_lists

    monkeypatch.setattr(
        _runtime_lists, "upload_lists", lambda *args: copied.append(1) or upload(*args)
    )
    close(spamm.multiply(made_there, *on_gpu), kept_only(a, b, made_there))
    assert not copied
    for _ in range(2):
        close(spamm.multiply(made_here, *on_gpu), kept_only(a, b, made_here))
    assert len(copied) == 1
    refreshed = made_here.refresh(*on_gpu)
    assert refreshed.reused
    assert refreshed.ks is made_here.ks
    assert refreshed.error_bound == pytest.approx(made_here.error_bound, rel=1e-3)
    spamm.multiply(refreshed, *on_gpu)
    assert len(copied) == 1
    # much smaller values need other lists
    other = made_here.refresh(Foreign(gpus[0], a * np.float32(1e-3)), on_gpu[1])
    assert not other.reused
    assert other.blocks_valid < made_here.blocks_valid / 1.1


def test_nothing_stays_allocated_and_old_lists_do_not_serve_new_plans(
    gpus: Gpus, decaying: Decaying
) -> None:
    a = decaying(64, 64, np.float32)
    before = gpus[0].allocations
    for tau in (0.0, 1e-2, 1e-1):
        plan = spamm.plan(a, a, tau=tau, block=BLOCK, backend="cuda")
        close(spamm.multiply(plan, a, a, backend="cuda"), kept_only(a, a, plan))
        spamm.multiply(plan, a, a, devices=[0, 1])
        del plan
        gc.collect()
        assert gpus[0].allocations == before
        assert gpus[1].allocations == 0


@pytest.mark.parametrize(
    ("criterion", "planning"),
    [({"tau": 1e-3}, []), ({"valid_ratio": 0.4}, ["spamm_tau_count"] * 3)],
)
def test_a_product_is_few_launches(
    gpus: Gpus, decaying: Decaying, criterion: dict[str, float], planning: list[str]
) -> None:
    a, b = (Foreign(gpus[0], decaying(64, 64, np.float16, seed=seed)) for seed in (0, 1))
    spamm.matmul(a, b, block=BLOCK, **criterion)
    launched = [what[1] for what in gpus[0].log if what[0] == "launch"]
    lists = ["spamm_plan_count", "spamm_plan_lists"]
    assert launched == ["spamm_norms", *planning, *lists, "spamm_multiply"]
    assert sum(what[0] == "zero" for what in gpus[0].log) == 2


def test_the_host_waits_for_nothing_while_arrays_stay_on_the_gpu(
    gpus: Gpus, decaying: Decaying
) -> None:
    a = decaying(64, 64, np.float32)
    on_gpu = Foreign(gpus[0], a)
    plan = spamm.plan(on_gpu, on_gpu, tau=1e-3, block=BLOCK)
    gpus[0].log.clear()
    spamm.matmul(on_gpu, on_gpu, tau=1e-3, block=BLOCK)
    spamm.multiply(plan, on_gpu, on_gpu)
    assert ("wait",) not in gpus[0].log
    # a ratio is checked when the product is on its way already
    spamm.matmul(on_gpu, on_gpu, valid_ratio=0.5, block=BLOCK)
    log = gpus[0].log
    assert ("launch", "spamm_multiply") not in log[log.index(("wait",)) :]
    last = max(i for i, entry in enumerate(gpus[0].log) if entry == ("launch", "spamm_multiply"))
    assert gpus[0].log.index(("wait",)) > last


def test_a_tuned_configuration_is_used_on_the_gpu_it_was_tuned_on(
    gpus: Gpus, decaying: Decaying, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = decaying(64, 64, np.float32)
    config = replace(default("float32", "sm_90", BLOCK), stages=2, split_k=2, persistent=False)
    assert config.validate("sm_90") is None

    def entry(device: str) -> _tuned.Tuned:
        return _tuned.Tuned(
            "cuda", device, "float32", (64, 64, 64), 0.5, config.to_dict(), True, 1.0, 2.0
        )

    used = []
    multiply = engine.multiply
    monkeypatch.setattr(engine, "multiply", lambda *x: used.append(x[-1]) or multiply(*x))
    _tuned.remember(entry("another"))
    spamm.matmul(a, a, valid_ratio=0.5, backend="cuda")
    assert used.pop() == default("float32", "sm_90")
    _tuned.remember(entry(device_name(gpus[0])))
    plan = spamm.plan(a, a, valid_ratio=0.5, backend="cuda")
    assert plan.block == BLOCK
    out = Foreign(gpus[0], np.full((64, 80), 7, np.float32)[:, :64])
    on_gpu = Foreign(gpus[0], a)
    spamm.matmul(on_gpu, on_gpu, valid_ratio=0.5, out=out)
    assert used.pop() == config
    close(out.values, kept_only(a, a, plan))


@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
def test_kernels_that_copy_and_probe_compile_without_spills(arch: str, tmp_path: Path) -> None:
    for source in (
        copy_source("float16", "float16"),
        copy_source("float32", "bfloat16"),
        copy_source("float32", "float64"),
        probe_source("bfloat16"),
    ):
        (used,) = resources(compile_cubin(source, arch, cache=tmp_path)).values()
        assert not used.spills
