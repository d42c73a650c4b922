"""The CPU backend against the NumPy reference: results, layouts, norms, caches, threads."""

from __future__ import annotations

import multiprocessing
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from spamm import _reference, cpu
from spamm._norms import block_norms
from spamm._plan import Plan, build_plan
from spamm.cpu import _build, _config, _threads

Array = npt.NDArray[Any]

DTYPES = [np.dtype(t) for t in ("float32", "float64", "float16", ml_dtypes.bfloat16)]
SINGLE = DTYPES[0]
# few, as each size may compile a kernel of its own; the first is wider than any matrix below
BLOCKS = [(128, 128, 128), (16, 16, 16), (5, 7, 3)]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kernels of these tests are cached for them alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def random_pair(m: int, k: int, n: int, dtype: np.dtype[Any], seed: int = 0) -> tuple[Array, Array]:
    """Operands whose blocks differ in size by orders of magnitude, so that tau parts them."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((m, k)) * 10.0 ** rng.integers(-2, 2, (m, k))
    b = rng.standard_normal((k, n)) * 10.0 ** rng.integers(-2, 2, (k, n))
    return a.astype(dtype), b.astype(dtype)


def make_plan(a: Array, b: Array, block: tuple[int, int, int], tau: float = 0.0) -> Plan:
    bm, bk, bn = block
    norms_a, norms_b = block_norms(a, bm, bk), block_norms(b, bk, bn)
    return build_plan(norms_a, norms_b, (*a.shape, b.shape[1]), block, tau)


def product(a: Array, b: Array, plan: Plan, out_dtype: Any = None) -> Array:
    m, _, n = plan.shape
    out = np.full((m, n), 7, dtype=out_dtype or ("float64" if a.dtype == "float64" else "float32"))
    cpu.multiply(a, b, plan, out)
    return out


def assert_is_product(out: Array, a: Array, b: Array, plan: Plan) -> None:
    """Within what rounding the sums, and then the result, can do."""
    exact = np.empty(out.shape)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    _reference.multiply(wide_a, wide_b, plan, exact)
    unit = 2.0**-52 if a.dtype == np.float64 else 2.0**-23
    result_unit = float(ml_dtypes.finfo(out.dtype).eps)
    room = (a.shape[1] + 2) * unit * (np.abs(wide_a) @ np.abs(wide_b))
    assert (np.abs(out.astype(np.float64) - exact) <= room + result_unit * np.abs(exact)).all()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 90)] * 3),
    block=st.sampled_from(BLOCKS),
    dtype=st.sampled_from(DTYPES),
    quantile=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_equals_the_blockwise_reference(
    sizes: tuple[int, int, int],
    block: tuple[int, int, int],
    dtype: np.dtype[Any],
    quantile: float,
    seed: int,
) -> None:
    a, b = random_pair(*sizes, dtype, seed)
    dense = make_plan(a, b, block)
    products = dense.norms_a[:, :, None] * dense.norms_b[None]
    plan = make_plan(a, b, block, float(np.quantile(products, quantile)))
    assert_is_product(product(a, b, plan), a, b, plan)


def test_default_blocks_of_a_matrix_larger_than_one_chunk() -> None:
    a, b = random_pair(300, 500, 400, SINGLE)
    block = cpu.default_block(300, 500, 400, SINGLE)
    dense = make_plan(a, b, block)
    plan = make_plan(a, b, block, float(np.median(dense.norms_a) * np.median(dense.norms_b)))
    assert 0.1 < plan.valid_ratio < 0.9
    assert len(cpu._balanced(plan, cpu._order(plan))) > 2
    assert_is_product(product(a, b, plan), a, b, plan)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_may_have_the_type_of_the_operands(dtype: np.dtype[Any]) -> None:
    a, b = random_pair(40, 30, 20, dtype)
    plan = make_plan(a, b, BLOCKS[1])
    out = product(a / dtype.type(16), b, plan, out_dtype=dtype)
    assert_is_product(out, a / dtype.type(16), b, plan)


def test_sizes_of_zero() -> None:
    for m, k, n in ((0, 3, 4), (3, 0, 4), (3, 4, 0)):
        a, b = np.ones((m, k), SINGLE), np.ones((k, n), SINGLE)
        assert not product(a, b, make_plan(a, b, BLOCKS[1])).any()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_and_infinity_reach_the_same_elements_as_in_the_reference(dtype: Any) -> None:
    a, b = random_pair(40, 40, 40, dtype)
    a[3, 17], a[20, 5], b[39, 39], b[5, 8] = np.nan, np.inf, -np.inf, 0
    plan = make_plan(a, b, BLOCKS[1], 1e4)
    out, reference = product(a, b, plan), np.empty((40, 40))
    _reference.multiply(a.astype(np.float64), b.astype(np.float64), plan, reference)
    assert np.isnan(reference).any()
    assert (np.isnan(out) == np.isnan(reference)).all()
    assert (np.isinf(out) == np.isinf(reference)).all()
    assert (np.sign(out[np.isinf(out)]) == np.sign(reference[np.isinf(out)])).all()


def test_blocks_that_are_skipped_are_not_read() -> None:
    a, b = random_pair(64, 64, 64, SINGLE)
    a[:16, 16:32] *= 1e-6
    plan = make_plan(a, b, BLOCKS[1], 1.0)
    expected = product(a, b, plan)
    a[:16, 16:32] = np.nan
    assert (product(a, b, plan) == expected).all()
    assert plan.blocks_valid == plan.blocks_total - 4


LAYOUTS = {
    "column-major": np.asfortranarray,
    "every other row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "upside down": lambda x: x[::-1].copy()[::-1],
    "right to left": lambda x: x[:, ::-1].copy()[:, ::-1],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"." + x.tobytes(), x.dtype, x.size, 1).reshape(x.shape),
    "part of a larger matrix": lambda x: np.pad(x, 3)[3:-3, 3:-3],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_of_any_layout_give_the_same_result(layout: str) -> None:
    a, b = random_pair(50, 70, 60, SINGLE)
    plan = make_plan(a, b, BLOCKS[1], 100.0)
    expected, (bm, bk, _) = product(a, b, plan), plan.block
    laid_a, laid_b = LAYOUTS[layout](a), LAYOUTS[layout](b)
    assert (product(laid_a, laid_b, plan) == expected).all()
    np.testing.assert_allclose(cpu.norms(laid_a, bm, bk), cpu.norms(a, bm, bk), rtol=2.0**-40)


@pytest.mark.parametrize("layout", ["column-major", "every other column", "upside down"])
def test_results_of_any_layout_are_overwritten(layout: str) -> None:
    a, b = random_pair(50, 70, 60, SINGLE)
    plan = make_plan(a, b, BLOCKS[1], 100.0)
    out = LAYOUTS[layout](np.full((50, 60), np.nan, SINGLE))
    cpu.multiply(a, b, plan, out)
    assert (out == product(a, b, plan)).all()


def test_result_may_lie_in_an_operand() -> None:
    a, b = random_pair(48, 48, 48, SINGLE)
    plan = make_plan(a, b, BLOCKS[1])
    expected = product(a, b, plan)
    cpu.multiply(a, b, plan, a)
    assert (a == expected).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [(16, 16), (5, 37), (200, 200)])
def test_norms_are_those_of_the_reference(dtype: np.dtype[Any], block: tuple[int, int]) -> None:
    a, _ = random_pair(90, 130, 1, dtype)
    a[:10], a[20, 70], a[60, 120] = 0, np.nan, -np.inf
    norms, expected = cpu.norms(a, *block), block_norms(a, *block)
    assert (np.isinf(norms) == np.isinf(expected)).all()
    np.testing.assert_allclose(norms, expected, rtol=2.0**-40, atol=0)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shape=st.tuples(st.integers(1, 20), st.integers(1, 300)),
    block=st.tuples(st.integers(1, 9), st.integers(1, 70)),
)
def test_norms_of_blocks_of_very_different_magnitudes_are_those_of_the_reference(
    seed: int, shape: tuple[int, int], block: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    special = [0.0, 1e300, -1e200, 1e-200, 3e-308, 5e-324, np.nan, np.inf]
    share = [0.9, *[0.1 / (len(special) - 1)] * (len(special) - 1)]
    a = rng.standard_normal(shape) * 10.0 ** rng.integers(-3, 4, shape)
    a = np.where(rng.random(shape) < 0.1, rng.choice(special, shape, p=share), a)
    norms, expected = cpu.norms(a, *block), block_norms(a, *block)
    assert (np.isinf(norms) == np.isinf(expected)).all()
    finite = np.isfinite(expected)
    np.testing.assert_allclose(norms[finite], expected[finite], rtol=2.0**-40, atol=3e-323)


@pytest.mark.parametrize("value", [5e-324, 1e-310, 1e-200, 1e-120, 1e120, 1e200, 1e307])
def test_norms_of_values_whose_squares_leave_the_range(value: float) -> None:
    a = np.zeros((32, 48))
    a[16:] = value
    a[3, 5] = -value
    norms = cpu.norms(a, 16, 16)
    assert np.isfinite(norms).all()
    assert (norms[0] == 0).tolist() == [False, True, True]
    exact = value * 16.0
    assert (norms[1] >= exact * (1 - 2.0**-40)).all()
    assert (norms[1] <= exact * (1 + 2.0**-40) + 2e-323).all()


def test_types_that_are_not_supported_are_named() -> None:
    assert cpu.supports(BLOCKS[0], SINGLE) is None
    reason = cpu.supports(BLOCKS[0], np.dtype("int8"))
    assert reason is not None
    assert "int8" in reason


def test_several_threads_may_call_at_once() -> None:
    a, b = random_pair(150, 150, 150, np.dtype("float64"))
    plan = make_plan(a, b, (32, 32, 32), 1.0)
    _build._kernel.cache_clear()
    start = threading.Barrier(4)

    def call(_: int) -> Array:
        start.wait()
        return product(a, b, plan)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(4)))
    assert_is_product(results[0], a, b, plan)
    assert all((result == results[0]).all() for result in results)


def _product_in_child(queue: Any, a: Array, b: Array, plan: Plan) -> None:
    queue.put(product(a, b, plan))


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system cannot fork")
def test_forked_process_multiplies_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    a, b = random_pair(200, 200, 200, SINGLE)
    plan = make_plan(a, b, BLOCKS[1])
    expected = product(a, b, plan)
    assert _threads._pool.cache_info().currsize == 1  # threads that the child will lack
    context = multiprocessing.get_context("fork")
    queue: Any = context.Queue()
    child = context.Process(target=_product_in_child, args=(queue, a, b, plan))
    child.start()
    try:
        assert (queue.get(timeout=60) == expected).all()
    finally:
        child.kill()
        child.join()


def test_number_of_threads_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert _threads.count() == 3
    for text in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert _threads.count() >= 1


def test_nothing_runs_on_after_a_call_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    running, finished, together = [], [], threading.Barrier(2)

    def work(first: int, last: int) -> None:
        running.append(first)
        if first < 2:
            together.wait(10)
        if first == 0:
            raise ValueError("no")
        finished.append(first)

    with pytest.raises(ValueError, match="no"):
        _threads.run(work, range(9))
    assert len(running) == len(finished) + 1


def test_chunks_of_work_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    n, block = 2048, (32, 32, 32)
    at = np.arange(n)
    decay = (0.98 ** np.abs(at[:, None] - at)).astype(SINGLE)
    plan = make_plan(decay, decay, block, 1e-3)
    cells = cpu._order(plan)
    assert sorted(cells) == list(range(plan.offsets.size - 1))
    bounds = np.array(cpu._balanced(plan, cells))
    assert bounds[0] == 0
    assert bounds[-1] == plan.offsets.size - 1
    work = np.add.reduceat(np.diff(plan.offsets)[cells], bounds[:-1])
    assert len(work) == 4 * _threads.CHUNKS
    assert work.max() <= 1.2 * work.mean()


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cache folder of one test, and nothing compiled in the process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_build, "_norms", _build._norms.__wrapped__)
    return tmp_path / "spamm"


def norm_of_ones() -> float:
    return float(cpu.norms(np.ones((4, 4), SINGLE), 4, 4)[0, 0])


def test_second_process_finds_what_the_first_compiled(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert norm_of_ones() == 4.0
    assert [file.suffix for file in empty_cache.iterdir()] == [".ll"]
    monkeypatch.delattr(tvm.tirx, "build")
    assert norm_of_ones() == 4.0


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: b""])
def test_damaged_file_of_the_cache_is_replaced(empty_cache: Path, damage: Any) -> None:
    norm_of_ones()
    (file,) = empty_cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert _build._load(file) is None
    assert norm_of_ones() == 4.0
    assert _build._load(file) is not None


def test_works_without_a_cache_folder_that_can_be_written(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_cache.write_text("a file where the folder would be")
    assert norm_of_ones() == 4.0
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    assert norm_of_ones() == 4.0


TARGETS = {
    "AVX-512": ({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512"}, "zmm"),
    "AVX2": ({"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"}, "ymm"),
    "NEON": ({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "neoverse-n1"}, "v"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_default_tile_stays_in_registers(name: str) -> None:
    """The inner loop has its multiply-adds on vectors of full width and touches no stack."""
    target = tvm.target.Target(TARGETS[name][0])
    config = _config.default_config("float32", target)
    assert config in cpu.space("float32", target)
    library = tvm.tirx.build(cpu.cpu_kernel(config, "float32"), target=target)
    lines = library.inspect_source("asm").splitlines()
    adds = [n for n, line in enumerate(lines) if re.search(r"\tv?fm(add\d*ps|la\.4s|la\t)", line)]
    assert len(adds) == config.rows * config.vectors
    loop = lines[adds[0] : adds[-1] + 1]
    assert not [line for line in loop if "rsp" in line or "[sp" in line]
    assert all(TARGETS[name][1] in lines[n] for n in adds)


def test_configurations_of_the_space_compute_the_same() -> None:
    a, b = random_pair(40, 50, 45, SINGLE)
    plan = make_plan(a, b, (20, 16, 24))
    configs = cpu.space("float32", _config.host_target())
    assert len(set(configs)) == len(configs)
    for config in np.random.default_rng(5).choice(np.array(configs, dtype=object), 2):
        out = np.empty((40, 45), SINGLE)
        cpu.multiply(a, b, plan, out, config)
        assert_is_product(out, a, b, plan)


def test_sizes_of_a_configuration_are_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        cpu.CpuConfig((64, 64, 64), 0, 2, 16)
