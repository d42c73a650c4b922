"""The generated matrices follow their formulas, repeat with a seed, and keep to their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from spamm.generators import algebraic_decay, block_sparse, exponential_decay, im2col_case

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def distances(rows: int, columns: int) -> Any:
    return np.abs(np.arange(rows)[:, None] - np.arange(columns))


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (5, 11), (11, 5), (1, 4), (4, 1), (0, 3)])
def test_entries_are_those_of_the_formula(rows: int, columns: int) -> None:
    apart = distances(rows, columns)
    power = algebraic_decay(rows, columns, scale=3.0, exponent=1.5, dtype="float64")
    np.testing.assert_allclose(power, 3.0 / (apart**1.5 + 1.0), rtol=1e-14)
    exponential = exponential_decay(rows, columns, scale=-2.0, base=0.5, dtype="float64")
    np.testing.assert_allclose(exponential, -2.0 * 0.5**apart, rtol=1e-14)


@pytest.mark.parametrize("make", [algebraic_decay, exponential_decay])
def test_a_seed_draws_signs_and_sizes_within_the_formula(make: Callable[..., Any]) -> None:
    drawn, formula = make(64, 48, seed=5, dtype="float64"), make(64, 48, dtype="float64")
    assert np.all(np.abs(drawn) <= formula)
    assert 0.4 < np.mean(drawn > 0) < 0.6
    assert np.array_equal(drawn, make(64, 48, seed=5, dtype="float64"))
    assert not np.array_equal(drawn, make(64, 48, seed=6, dtype="float64"))


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize(
    ("dtype", "least"),
    [("float16", 2.0**-14), ("bfloat16", 2.0**-63), ("float32", 2.0**-63), ("float64", 2.0**-511)],
)
def test_neither_entries_nor_their_products_are_subnormal(
    dtype: str, least: float, seed: int | None
) -> None:
    made = np.abs(exponential_decay(1024, dtype=dtype, base=0.4, seed=seed).astype("float64"))
    assert least <= made[made > 0].min() < 100 * least
    assert made[0, -1] == 0


def test_a_floor_drops_what_lies_below_it() -> None:
    made = exponential_decay(64, base=0.5, floor=0.1)
    assert np.count_nonzero(made[32]) == 7


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_float_type_is_made(dtype: str) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    weights, patches = im2col_case(images=1, image_size=4, channels=2, filters=3, dtype=dtype)
    made = [algebraic_decay(4, dtype=dtype), exponential_decay(4, dtype=kind), weights, patches]
    assert {array.dtype for array in [*made, block_sparse(4, dtype=dtype)]} == {kind}


def test_so_many_blocks_are_whole_and_the_others_faint() -> None:
    made = block_sparse(70, 50, block=16, density=0.3, background=1e-3, seed=2)
    norms = [
        np.abs(made[i : i + 16, j : j + 16]).mean()
        for i in range(0, 70, 16)
        for j in range(0, 50, 16)
    ]
    assert sum(norm > 0.1 for norm in norms) == 6
    assert all(0 < norm < 0.01 or norm > 0.1 for norm in norms)
    assert np.count_nonzero(block_sparse(8, block=4, density=0.0)) == 0


def test_the_papers_convolution_has_its_shape_by_default() -> None:
    from inspect import signature

    size = {name: p.default for name, p in signature(im2col_case).parameters.items()}
    depth = size["channels"] * size["kernel"] ** 2
    assert (size["filters"], depth) == (64, 576)
    assert size["images"] * size["image_size"] ** 2 == 102_400


def test_the_product_of_the_unrolled_case_is_the_convolution() -> None:
    weights, patches = im2col_case(
        images=2, image_size=5, channels=3, filters=4, sparsity=0.5, dtype="float64"
    )
    channels, images, size, kernel = 3, 2, 5, 3
    # the middle of every patch is the pixel itself
    pixels = patches.reshape(channels, 9, images, size, size)[:, 4]
    padded = np.pad(pixels, ((0, 0), (0, 0), (1, 1), (1, 1)))
    filters = weights.reshape(4, channels, kernel, kernel)
    convolved = np.zeros((4, images, size, size))
    for y in range(size):
        for x in range(size):
            seen = padded[:, :, y : y + kernel, x : x + kernel]
            convolved[:, :, y, x] = np.einsum("fcyx,cnyx->fn", filters, seen)
    np.testing.assert_allclose((weights @ patches).reshape(convolved.shape), convolved)


@pytest.mark.parametrize("sparsity", [0.0, 0.6, 1.0])
def test_the_share_of_zero_activations_is_as_asked(sparsity: float) -> None:
    _, patches = im2col_case(images=4, image_size=16, channels=8, kernel=1, sparsity=sparsity)
    assert patches.min() >= 0
    assert np.mean(patches == 0) == pytest.approx(sparsity, abs=1e-3)


def test_channels_come_in_the_order_of_their_size() -> None:
    made = [
        im2col_case(images=8, image_size=8, channels=16, sparsity=0.2, kernel=1, channel_spread=s)[
            1
        ]
        for s in (0.0, 2.0)
    ]
    zero = made[0] == 0
    assert np.array_equal(zero, made[1] == 0)
    sizes = made[1].max(axis=1) / made[0].max(axis=1)
    assert np.all(np.diff(sizes) < 0)
    assert sizes[0] / sizes[-1] > 10


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: algebraic_decay(-1), "n: "),
        (lambda: algebraic_decay(4, -2), "columns: "),
        (lambda: algebraic_decay(4, exponent=0.0), "exponent: "),
        (lambda: algebraic_decay(4, scale=float("nan")), "scale: "),
        (lambda: algebraic_decay(4, dtype="int32"), "dtype: "),
        (lambda: exponential_decay(4, base=1.0), "base: "),
        (lambda: exponential_decay(4, floor=-1.0), "floor: "),
        (lambda: block_sparse(4, block=0), "block: "),
        (lambda: block_sparse(4, density=1.5), "density: "),
        (lambda: im2col_case(kernel=2), "kernel: "),
        (lambda: im2col_case(images=0), "images: "),
        (lambda: im2col_case(sparsity=-0.1), "sparsity: "),
        (lambda: im2col_case(channel_spread=-1.0), "channel_spread: "),
    ],
)
def test_bad_parameters_are_named(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}expected"):
        make()
