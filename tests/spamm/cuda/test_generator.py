"""Generated multiply kernels, run in the emulator on integers, so that sums are exact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from spamm.cuda._config import MultiplyConfig, alignment_of
from spamm.cuda._multiply import SIZE_LIMIT, multiply_program
from spamm.cuda._space import DEFAULT_BLOCK, default, space
from tests.spamm.cuda.emulator import compile_kernels, needs_compiler

Array = np.ndarray[Any, Any]
DTYPES: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
}
UNTOUCHED = 77

# each has what no other has; tiles are small because the emulator is slow
CONFIGS = [
    # four blocks of C in a tile, a stage that is a k-block
    MultiplyConfig("float16", "float32", "tensor", (32, 32, 32), (64, 64, 32), (2, 2), 3),
    # a stage of four k-blocks, shared among thread blocks, rows padded
    MultiplyConfig(
        "bfloat16", "float32", "tensor", (64, 16, 64), (64, 64, 64), (1, 2), 2, False, 16, 3, False
    ),
    # a tile that is a part of a block, a k-block of two stages, rounded sums
    MultiplyConfig(
        "float16", "float16", "tensor", (128, 64, 128), (64, 64, 32), (2, 1), 4, True, 16, 1, False
    ),
    # warps of several blocks, element by element
    MultiplyConfig(
        "bfloat16", "bfloat16", "tensor", (32, 16, 32), (64, 128, 64), (1, 2), 3, True, 2
    ),
    # TF32, two blocks side by side and shared
    MultiplyConfig(
        "float32", "float32", "tensor", (64, 32, 32), (64, 64, 16), (2, 2), 3, True, 16, 2
    ),
    MultiplyConfig("float32", "float32", "tensor", (64, 16, 64), (64, 64, 32), (2, 1), 2, False, 8),
    # CUDA cores, several blocks of C and several k-blocks
    MultiplyConfig("float32", "float32", "cores", (32, 16, 32), (64, 64, 32), (2, 1), 3),
    MultiplyConfig(
        "float32", "float32", "cores", (64, 64, 64), (64, 64, 16), (2, 2), 4, False, 4, 2, False
    ),
]


@dataclass(frozen=True)
class Lists:
    """What is kept, chosen at random rather than by norms, so that any mistake shows."""

    keep: Array  # (mb, nb, kb) of bool

    @property
    def offsets(self) -> Array:
        counts = self.keep.sum(axis=-1).ravel()
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @property
    def ks(self) -> Array:
        return np.nonzero(self.keep)[2].astype(np.int32)


def random_lists(config: MultiplyConfig, shape: tuple[int, int, int], seed: int) -> Lists:
    rng = np.random.default_rng(seed)
    mb, kb, nb = (-(-size // block) for size, block in zip(shape, config.block, strict=True))
    keep = rng.random((mb, nb, kb)) < 0.4
    keep[0, 0] = False  # a block of C without products
    return Lists(keep)


def integers(rows: int, columns: int, padding: int, dtype: Any, seed: int) -> Array:
    """Small integers in a wider array whose other columns are NaN."""
    rng = np.random.default_rng(seed)
    wide = np.full((rows, columns + padding), np.nan, dtype)
    wide[:, :columns] = rng.integers(-4, 5, (rows, columns))
    return wide[:, :columns]


def expected(config: MultiplyConfig, a: Array, b: Array, lists: Lists) -> Array:
    (bm, bk, bn), a64, b64 = config.block, a.astype(np.float64), b.astype(np.float64)
    c = np.zeros((a.shape[0], b.shape[1]))
    with np.errstate(invalid="ignore", over="ignore"):
        for i, j, k in np.argwhere(lists.keep):
            rows, columns = slice(i * bm, (i + 1) * bm), slice(j * bn, (j + 1) * bn)
            depth = slice(k * bk, (k + 1) * bk)
            c[rows, columns] += a64[rows, depth] @ b64[depth, columns]
        return c.astype(DTYPES[config.out])


def run(
    config: MultiplyConfig,
    a: Array,
    b: Array,
    lists: Lists,
    *,
    seed: int = 1,
    ordered: bool = True,
    padding: int = 0,
) -> Array:
    """C as the kernel leaves it, with its padding columns."""
    (m, k), n = a.shape, b.shape[1]
    assert config.validate("sm_90") is None
    start = 0 if config.split_k > 1 else UNTOUCHED
    c = np.full((m, n + padding), start, DTYPES[config.out])
    c[:, n:] = UNTOUCHED
    tiles = int(np.prod(config.grid_tiles(m, n)))
    order = np.random.default_rng(seed).permutation(tiles).astype(np.int32) if ordered else None
    a_row, b_row, c_row = (max(x.strides[0] // x.itemsize, x.shape[1]) for x in (a, b, c))
    program = multiply_program(config, (m, k, n), (a_row, b_row, c_row), 3, ordered=ordered)
    arrays = {"a": a, "b": b, "c": c, "offsets": lists.offsets, "ks": lists.ks, "order": order}
    for buffer in program.buffers:
        assert buffer.zeroed
        arrays[buffer.name] = np.zeros(buffer.size, buffer.dtype)
    for launch in program.launches:
        args = [arrays[arg] if isinstance(arg, str) else arg for arg in launch.args]
        compile_kernels(program.source).launch(
            launch.kernel,
            launch.grid,
            launch.block,
            args,
            shared_bytes=launch.shared_bytes,
            seed=seed,
        )
    return c


SHIPPED = [
    default("bfloat16", "sm_90"),
    default("float32", "sm_90", unit="tensor"),
    default("float32", "sm_90"),
]


@needs_compiler
@pytest.mark.parametrize("config", CONFIGS + SHIPPED, ids=lambda config: config.name)
def test_exactly_the_kept_products_are_added(config: MultiplyConfig) -> None:
    step = config.vector // np.dtype(DTYPES[config.dtype]).itemsize
    m, k, n, padding = 137, 17 * step + 80, 9 * step + 96, 2 * step
    a = integers(m, k, padding, DTYPES[config.dtype], 1)
    b = integers(k, n, padding, DTYPES[config.dtype], 2)
    lists = random_lists(config, (m, k, n), 3)
    # rows of C that are aligned, where tiles inside C are stored at once, and such that are not
    aligned = 16 // np.dtype(DTYPES[config.out]).itemsize
    c = run(config, a, b, lists, padding=aligned if config.swizzle else 1)
    np.testing.assert_array_equal(c[:, :n], expected(config, a, b, lists))
    assert (c[:, n:] == UNTOUCHED).all()


@needs_compiler
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[6]], ids=lambda config: config.unit)
def test_nan_and_infinity_reach_only_blocks_that_keep_them(config: MultiplyConfig) -> None:
    m, k, n = 64, 96, 128
    a = integers(m, k, 0, DTYPES[config.dtype], 4)
    b = integers(k, n, 0, DTYPES[config.dtype], 5)
    a[40, 50] = np.nan
    b[10, 70] = np.inf
    lists = random_lists(config, (m, k, n), 6)
    c = run(config, a, b, lists)
    wanted = expected(config, a, b, lists)
    assert 0 < np.isnan(wanted).sum() < wanted.size // 2
    np.testing.assert_array_equal(c, wanted)


@needs_compiler
@pytest.mark.parametrize("config", [CONFIGS[4], CONFIGS[1]], ids=["union", "one block"])
def test_lists_longer_than_the_window_in_shared_memory(config: MultiplyConfig) -> None:
    blocks = 600 * config.split_k
    m, k, n = 64, blocks * config.block[1], 64
    a = integers(m, k, 0, DTYPES[config.dtype], 7)
    b = integers(k, n, 0, DTYPES[config.dtype], 8)
    grid = m // config.block[0], n // config.block[2], blocks
    keep = np.random.default_rng(9).random(grid) < 0.95
    # of a union nothing at all is kept in the second window
    if config.blocks_in_tile > 1:
        keep[:, :, 512:1024] = False
    c = run(config, a, b, Lists(keep))
    np.testing.assert_array_equal(c, expected(config, a, b, Lists(keep)))


@needs_compiler
def test_tiles_without_products_are_zero_and_do_not_disturb_the_next() -> None:
    config = CONFIGS[5]
    m, k, n = 256, 32, 128
    a, b = integers(m, k, 0, np.float32, 14), integers(k, n, 0, np.float32, 15)
    keep = np.zeros((4, 2, 2), bool)
    keep[1, 1] = keep[3, 0] = True
    c = run(config, a, b, Lists(keep), ordered=False)
    np.testing.assert_array_equal(c, expected(config, a, b, Lists(keep)))


@needs_compiler
def test_tiles_are_taken_by_number_without_an_order() -> None:
    config = CONFIGS[0]
    a, b = (integers(100, 100, 4, np.float16, seed) for seed in (10, 11))
    lists = random_lists(config, (100, 100, 100), 12)
    # 100 columns of float16 are a multiple of 8 bytes
    narrow = config.for_alignment(alignment_of(a.strides[0], b.strides[0], 200))
    assert narrow.vector == 8
    c = run(narrow, a, b, lists, ordered=False)
    np.testing.assert_array_equal(c, expected(config, a, b, lists))


@needs_compiler
def test_tf32_rounds_its_inputs_to_ten_bits_of_mantissa() -> None:
    config = CONFIGS[4]
    a = np.random.default_rng(13).standard_normal((64, 64)).astype(np.float32)
    everything = Lists(np.ones((1, 2, 2), bool))
    one = np.eye(64, dtype=np.float32)
    mantissa, exponent = np.frexp(a.astype(np.float64))
    ties_away = np.copysign(np.floor(np.abs(mantissa) * 2**11 + 0.5), mantissa)
    rounded = np.ldexp(ties_away, exponent - 11)
    np.testing.assert_array_equal(run(config, a, one, everything), rounded)
    np.testing.assert_array_equal(run(config, one, a, everything), rounded)


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90", "sm_120"])
@pytest.mark.parametrize(
    ("dtype", "unit"),
    [("float16", None), ("bfloat16", None), ("float32", None), ("float32", "tensor")],
)
@pytest.mark.parametrize("block", [DEFAULT_BLOCK, (32, 16, 32), (64, 64, 64), (128, 64, 256)])
def test_every_block_has_a_default(arch: str, dtype: str, unit: str | None, block: Any) -> None:
    config = default(dtype, arch, block, unit=unit)
    assert config.validate(arch) is None
    assert config.block == block


def test_the_space_holds_valid_configurations_of_different_names() -> None:
    configs = space("float16", "sm_90")
    assert len({config.name for config in configs}) == len(configs) > 1000
    assert all(config.validate("sm_90") is None for config in configs)
    assert {config.tile[:2] for config in configs} >= {(64, 64), (128, 128), (128, 256)}
    assert {config.stages for config in configs} == {2, 3, 4}


def test_a_space_for_one_block_is_that_part_of_the_whole() -> None:
    whole = space("float32", "sm_80", unit="tensor")
    part = space("float32", "sm_80", unit="tensor", block=(64, 32, 64))
    assert part == [config for config in whole if config.block == (64, 32, 64)]
    assert part


def test_less_shared_memory_leaves_a_smaller_space() -> None:
    assert set(space("float16", "sm_89")) < set(space("float16", "sm_90"))


def test_configurations_survive_json() -> None:
    for config in CONFIGS:
        assert MultiplyConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": "3"}, "stages is '3'"),
        ({"tile": [64, 64]}, "tile is .* expected 3 integers"),
        ({"swizzle": 1}, "swizzle is 1"),
        ({"speed": 1}, "unknown fields: speed"),
    ],
)
def test_a_damaged_configuration_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiplyConfig.from_dict({**CONFIGS[0].to_dict(), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float64"}, "dtype float64"),
        ({"out": "bfloat16"}, "out bfloat16"),
        ({"unit": "cores"}, "multiplies float32"),
        ({"block": (32, 24, 32)}, "powers of two"),
        ({"block": (16, 16, 16)}, "below"),
        ({"tile": (256, 256, 32)}, "64 blocks"),
        ({"stages": 1}, "stages"),
        ({"out": "float16", "split_k": 2}, "split_k 2"),
        ({"warps": (4, 8)}, "warps"),
        ({"warps": (2, 8)}, "a warp has"),
        ({"tile": (128, 256, 32), "warps": (1, 2)}, "registers"),
        ({"vector": 1}, "vector"),
        ({"tile": (64, 64, 16)}, "two are needed"),
        ({"tile": (128, 128, 128), "stages": 4}, "shared memory"),
    ],
)
def test_impossible_configurations_say_why(change: dict[str, Any], message: str) -> None:
    reason = replace(CONFIGS[0], **change).validate("sm_80")
    assert reason is not None
    assert message in reason


def test_an_unknown_architecture_or_dtype_is_named() -> None:
    assert "sm_70" in str(CONFIGS[0].validate("sm_70"))
    with pytest.raises(ValueError, match=r"arch: .* got 'sm_70'"):
        space("float16", "sm_70")
    with pytest.raises(ValueError, match=r"dtype: .* got 'int8'"):
        default("int8", "sm_90")
    with pytest.raises(ValueError, match=r"unit: .* got 'wgmma'"):
        default("float16", "sm_90", unit="wgmma")
    with pytest.raises(ValueError, match="block: no kernel for"):
        default("float16", "sm_90", (48, 32, 48))


@needs_compiler
def test_a_product_without_depth_is_zero_and_one_without_elements_launches_nothing() -> None:
    config = CONFIGS[5]
    nothing = Lists(np.zeros((1, 1, 0), bool))
    c = run(config, np.zeros((3, 0), np.float32), np.zeros((0, 5), np.float32), nothing)
    np.testing.assert_array_equal(c, np.zeros((3, 5)))
    for shape in [(0, 4, 5), (3, 4, 0)]:
        assert multiply_program(config, shape, (8, 8, 8), 3).launches == ()


def test_a_persistent_grid_is_no_larger_than_the_gpu_or_the_work() -> None:
    persistent, plain = CONFIGS[4], replace(CONFIGS[4], persistent=False)
    sizes = (640, 64, 640), (64, 640, 640)
    assert multiply_program(persistent, *sizes, 132).launches[0].grid == (132, 1, 1)
    assert multiply_program(persistent, *sizes, 999).launches[0].grid == (200, 1, 1)
    assert multiply_program(plain, *sizes, 132).launches[0].grid == (200, 1, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (1, SIZE_LIMIT, 1)}, "shape: expected sizes"),
        ({"shape": (-1, 4, 4)}, "shape: expected sizes"),
        ({"leading": (4, 3, 4)}, "leading: expected at least"),
        ({"thread_blocks": 0}, "thread_blocks"),
        ({"shape": (2**29, 4, 2**29), "leading": (2**30,) * 3}, "tiles of C"),
    ],
)
def test_impossible_launches_are_refused(change: dict[str, Any], message: str) -> None:
    given = {"shape": (4, 4, 4), "leading": (4, 4, 4), "thread_blocks": 1, **change}
    with pytest.raises(ValueError, match=message):
        multiply_program(CONFIGS[0], **given)


def test_alignment_is_the_widest_load_that_divides_everything() -> None:
    assert alignment_of(256, 4096, 48) == 16
    assert alignment_of(256, 4096, 40) == 8
    assert alignment_of(4096, 6) == 2
    with pytest.raises(ValueError, match="alignment"):
        replace(CONFIGS[4]).for_alignment(2)
