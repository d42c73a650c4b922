"""Norm kernels: never below the exact norm, hardly above it, and at home in every layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from spamm._norms import NORM_ERROR, block_norms
from spamm.cuda._compile import compile_cubin, resources, sass
from spamm.cuda._launch import Program
from spamm.cuda._norms import KERNEL_NAME, NormsConfig, norms_launch, norms_source
from tests.spamm.cuda.emulator import needs_compiler, run_program

DTYPES: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}


def device_norms(
    matrix: npt.NDArray[Any], rows: int, cols: int, *, transposed: bool = False
) -> npt.NDArray[np.float32]:
    """Norms of a row-major matrix, whose rows may be apart, from the emulated kernel."""
    leading = matrix.strides[0] // matrix.itemsize
    config = NormsConfig.for_matrix(
        matrix.dtype.name, rows, cols, matrix.ctypes.data, max(leading, 1)
    )
    m, n = matrix.shape
    grid = (-(-m // rows), -(-n // cols))
    norms = np.full(grid[::-1] if transposed else grid, -1, np.float32)
    bits = matrix.view(np.uint16) if matrix.dtype.itemsize == 2 else matrix
    launch = norms_launch(config, (m, n), leading, "matrix", "norms", transposed=transposed)
    program = Program(norms_source(config), ("matrix", "norms"), (), (launch,))
    run_program(program, {"matrix": bits, "norms": norms})
    return norms


def aligned(shape: tuple[int, int], dtype: Any, offset: int = 0) -> npt.NDArray[Any]:
    """An array whose first element lies `offset` elements past a multiple of 16 bytes."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 16 + offset * dtype.itemsize
    return raw[start : start + size].view(dtype).reshape(shape)


def check(norms: npt.NDArray[np.float32], exact: npt.NDArray[np.float64]) -> None:
    smallest = np.finfo(np.float32).smallest_subnormal
    assert (norms >= exact * (1 - 1e-15)).all()
    with np.errstate(invalid="ignore", over="ignore"):
        most = np.where(exact <= np.finfo(np.float32).max, exact * (1 + 2**-20) + smallest, np.inf)
    assert (norms <= most).all()


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "block", "offset"),
    [
        ((150, 200), (64, 32), 0),
        ((130, 264), (128, 128), 0),
        ((16, 48), (16, 16), 1),
        ((3, 1), (32, 64), 1),
    ],
)
def test_norms_are_those_of_the_host_rounded_up(
    dtype: str, shape: tuple[int, int], block: tuple[int, int], offset: int
) -> None:
    matrix = aligned(shape, DTYPES[dtype], offset)
    matrix[:] = np.random.default_rng(0).standard_normal(shape)
    check(device_norms(matrix, *block), block_norms(matrix, *block))


@needs_compiler
def test_rows_that_lie_apart_and_blocks_of_any_width() -> None:
    whole = np.random.default_rng(1).random((70, 120), np.float32)
    matrix = whole[3:, 7:90]
    check(device_norms(matrix, 20, 33), block_norms(matrix, 20, 33))


@needs_compiler
def test_a_column_major_matrix_is_seen_transposed() -> None:
    matrix = aligned((96, 64), np.float32)
    matrix[:] = np.random.default_rng(2).random(matrix.shape)
    norms = device_norms(matrix, 32, 16, transposed=True)
    check(norms, block_norms(matrix.T, 16, 32))


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_nan_and_infinity_make_a_block_infinite_and_no_other(dtype: str) -> None:
    matrix = aligned((64, 96), DTYPES[dtype])
    matrix[:] = 1
    matrix[5, 40], matrix[40, 95], matrix[63, 31] = np.nan, np.inf, -np.inf
    norms = device_norms(matrix, 32, 32)
    np.testing.assert_array_equal(norms, [[32, np.inf, 32], [np.inf, 32, np.inf]])


@needs_compiler
@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", 3e38),
        ("float32", 1e-45),
        ("float32", 1e-23),
        ("bfloat16", 1e30),
        ("bfloat16", 1e-40),
        ("float16", 65504),
        ("float16", 6e-8),
        ("float64", 1e200),
        ("float64", 1e-200),
        ("float64", 5e-324),
    ],
)
def test_squares_that_overflow_or_vanish_do_not_make_a_norm_wrong(dtype: str, value: float) -> None:
    matrix = aligned((32, 32), DTYPES[dtype])
    matrix[:1] = value
    check(device_norms(matrix, 16, 16), block_norms(matrix, 16, 16))


@needs_compiler
def test_norms_that_float32_holds_are_exact_and_zero_is_zero() -> None:
    matrix = aligned((128, 128), np.float32)
    matrix[:64] = 1
    norms = device_norms(matrix, 64, 64)
    np.testing.assert_array_equal(norms, [[64, 64], [0, 0]])


def test_device_norms_are_as_accurate_as_bounds_assume() -> None:
    assert NORM_ERROR[np.dtype(np.float32)] >= 2**-20


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (NormsConfig("int32", 32, 32, True), "int32 is none of float16"),
        (NormsConfig("float32", 0, 32, False), "0 x 32 is not between"),
        (NormsConfig("float32", 32, 33, True), "33 float32 are no multiple of 16"),
    ],
)
def test_impossible_configurations_are_refused(config: NormsConfig, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        norms_source(config)


@pytest.mark.parametrize(
    ("dtype", "arch"), [*((dtype, "sm_90") for dtype in DTYPES), ("float16", "sm_80")]
)
def test_norm_kernels_compile_without_spills(dtype: str, arch: str, tmp_path: Path) -> None:
    cubin = compile_cubin(norms_source(NormsConfig(dtype, 64, 64, True)), arch, cache=tmp_path)
    used = resources(cubin)[KERNEL_NAME]
    assert not used.spills
    # four thread blocks of 256 fit a multiprocessor: enough loads on their way
    assert used.registers <= 64
    assert "LDG.E.128" in sass(cubin)
