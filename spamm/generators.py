"""Matrices to try SpAMM on: those of its literature, and blocks that were pruned.

Matrices with decay are the inputs of the cuSpAMM paper (arXiv 2103.13042), as is the product of a
convolution unrolled by im2col. All are made in memory from their formula and a seed, so equal
arguments give equal matrices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


def algebraic_decay(
    n: int,
    columns: int | None = None,
    *,
    scale: float = 1.0,
    exponent: float = 1.0,
    dtype: DTypeLike = "float32",
    seed: int | None = None,
    floor: float | None = None,
) -> Array:
    """A matrix whose entries decay with a power: ``scale / (|i - j|**exponent + 1)``.

    Parameters
    ----------
    n, columns
        Rows and columns; as many columns as rows by default.
    exponent
        How fast it decays, positive.
    dtype
        Of the result: any float type, ml_dtypes' bfloat16 (or its name) included.
    seed
        Multiplies each entry by a number drawn evenly from [-1, 1). None leaves the formula's
        own entries, all of them positive.
    floor
        Entries below it in size are zero. By default so large that products of two entries are
        normal numbers of the type that they are added up in (1.1e-19 for float32): processors
        take many times longer over subnormal ones, and a dense product, which meets them
        everywhere, would be slow for that reason alone.

    Returns
    -------
    array of shape (n, columns)

    Raises
    ------
    ValueError
        A size is negative, or a parameter is out of its range.
    """
    _check_positive("exponent", exponent)
    rows, width = _sizes(n, columns)
    distance = np.arange(max(rows, width, 1), dtype=np.float64)
    return _by_distance(rows, width, 1.0 / (distance**exponent + 1.0), scale, dtype, seed, floor)


def exponential_decay(
    n: int,
    columns: int | None = None,
    *,
    scale: float = 1.0,
    base: float = 0.99,
    dtype: DTypeLike = "float32",
    seed: int | None = None,
    floor: float | None = None,
) -> Array:
    """A matrix whose entries decay exponentially: ``scale * base**|i - j|``.

    Parameters
    ----------
    base
        How fast it decays: more than 0, less than 1.
    n, columns, dtype, seed, floor
        As for `algebraic_decay`.

    Returns
    -------
    array of shape (n, columns)

    Raises
    ------
    ValueError
        A size is negative, or a parameter is out of its range.
    """
    if not 0.0 < base < 1.0:
        raise ValueError(f"base: expected more than 0 and less than 1, got {base}")
    rows, width = _sizes(n, columns)
    distance = np.arange(max(rows, width, 1), dtype=np.float64)
    return _by_distance(rows, width, base**distance, scale, dtype, seed, floor)


def block_sparse(
    n: int,
    columns: int | None = None,
    *,
    block: int = 32,
    density: float = 0.1,
    background: float = 0.0,
    dtype: DTypeLike = "float32",
    seed: int = 0,
) -> Array:
    """A matrix of normal numbers of which only some blocks are whole, as after pruning by blocks.

    Parameters
    ----------
    n, columns
        Rows and columns; as many columns as rows by default.
    block
        Rows and columns of a block; those at the edges are smaller where sizes do not divide.
    density
        Share of the blocks that are whole, from 0 to 1; rounded to whole blocks, exactly that many.
    background
        What all other blocks are multiplied by; 0 for blocks of zeros.

    Returns
    -------
    array of shape (n, columns)

    Raises
    ------
    ValueError
        A size is negative, `block` is less than 1, or `density` is no share.
    """
    rows, width = _sizes(n, columns)
    if block < 1:
        raise ValueError(f"block: expected at least 1, got {block}")
    _check_share("density", density)
    if not np.isfinite(background):
        raise ValueError(f"background: expected a finite number, got {background}")
    rng = np.random.default_rng(seed)
    grid = (-(-rows // block), -(-width // block))
    factors = np.full(grid[0] * grid[1], background, dtype=np.float32)
    whole = rng.permutation(factors.size)[: round(density * factors.size)]
    factors[whole] = 1.0
    made = rng.standard_normal((rows, width), dtype=np.float32)
    for i, row in enumerate(factors.reshape(grid)):
        made[i * block : (i + 1) * block] *= np.repeat(row, block)[:width]
    made += np.float32(0.0)  # what was negative and is zero now has lost its sign
    return made.astype(_float_type(dtype), copy=False)


def im2col_case(
    *,
    images: int = 100,
    image_size: int = 32,
    channels: int = 64,
    filters: int = 64,
    kernel: int = 3,
    sparsity: float = 0.7,
    channel_spread: float = 1.5,
    dtype: DTypeLike = "float32",
    seed: int = 0,
) -> tuple[Array, Array]:
    """A convolution of a CNN as one product: filters times the patches of what a ReLU let through.

    By default the case of the cuSpAMM paper (arXiv 2103.13042): 64 x 576 times 576 x 102,400.
    Activations are drawn: smooth over an image, each channel awake in some images more than in
    others, and cut off by a ReLU. Sizes of filters and of channels are log-normal; channels come in
    the order of their size, as a compiler may permute them at no cost. It is far less near-sparse
    than matrices with decay: a tenth of the products is not nearly the result.

    Parameters
    ----------
    images, image_size
        Images of a batch, and rows and columns of pixels of each.
    channels, filters
        Channels that the convolution reads, and that it writes.
    kernel
        Rows and columns of a filter, odd; stride 1, padded by zeros to the size of the image.
    sparsity
        Share of the activations that are zero, from 0 to 1.
    channel_spread
        Standard deviation of the logarithm of the channels' sizes, 0 or more.

    Returns
    -------
    weights
        Shape (filters, channels * kernel**2).
    patches
        Shape (channels * kernel**2, images * image_size**2): a column is what a filter sees of a
        pixel's surroundings.

    Raises
    ------
    ValueError
        A size is less than 1, `kernel` is even, or `sparsity` is no share.
    """
    sizes = {
        "images": images,
        "image_size": image_size,
        "channels": channels,
        "filters": filters,
        "kernel": kernel,
    }
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")
    if kernel % 2 == 0:
        raise ValueError(f"kernel: expected an odd size, got {kernel}")
    _check_share("sparsity", sparsity)
    if not 0.0 <= channel_spread < np.inf:
        raise ValueError(f"channel_spread: expected 0 or more, got {channel_spread}")
    kind = _float_type(dtype)
    rng = np.random.default_rng(seed)
    depth = channels * kernel**2
    spread = rng.lognormal(sigma=1.0, size=(filters, channels, 1)) * np.sqrt(2.0 / depth)
    weights = rng.standard_normal((filters, channels, kernel**2)) * spread
    activations = _activations(rng, (channels, images, image_size, image_size), sparsity)
    scales = np.sort(rng.lognormal(sigma=channel_spread, size=channels))[::-1]
    activations *= scales.astype(np.float32)[:, None, None, None]
    return (
        weights.reshape(filters, depth).astype(kind),
        _im2col(activations.astype(kind, copy=False), kernel),
    )


def _activations(rng: np.random.Generator, shape: tuple[int, ...], sparsity: float) -> Array:
    """Smooth noise less its quantile, channel by image at its own level, without the negative."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    for axis in (2, 3):
        noise = sum(np.roll(noise, step, axis) for step in range(-2, 3)) / np.float32(5**0.5)
    noise += rng.standard_normal((*shape[:2], 1, 1), dtype=np.float32)
    noise -= np.quantile(noise, sparsity)
    return np.maximum(noise, np.float32(0.0), out=noise)


def _im2col(activations: Array, kernel: int) -> Array:
    channels, images, height, width = activations.shape
    margin = kernel // 2
    padded = np.pad(activations, ((0, 0), (0, 0), (margin, margin), (margin, margin)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
    patches = windows.transpose(0, 4, 5, 1, 2, 3)
    return patches.reshape(channels * kernel**2, images * height * width)


def _by_distance(
    rows: int,
    columns: int,
    profile: Array,
    scale: float,
    dtype: DTypeLike,
    seed: int | None,
    floor: float | None,
) -> Array:
    """The matrix whose entry i, j is ``profile[|i - j|]``, its signs and sizes drawn if asked."""
    if not np.isfinite(scale):
        raise ValueError(f"scale: expected a finite number, got {scale}")
    if floor is not None and not floor >= 0.0:
        raise ValueError(f"floor: expected 0 or more, got {floor}")
    kind = _float_type(dtype)
    values = scale * profile
    least = _default_floor(kind) if floor is None else floor
    values[np.abs(values) < least] = 0.0
    # row i of a Toeplitz matrix is a window of its diagonals' values, that of row 0 the last
    diagonals = np.concatenate([values[1:rows][::-1], values[:columns]]).astype(kind)
    if not rows or not columns:
        return np.zeros((rows, columns), kind)
    windows = np.lib.stride_tricks.sliding_window_view(diagonals, columns)[::-1]
    if seed is None:
        return windows.copy()
    rng = np.random.default_rng(seed)
    made = np.empty((rows, columns), kind)
    for i, window in enumerate(windows):
        drawn = rng.uniform(-1.0, 1.0, columns)
        made[i] = (drawn * window.astype(np.float64)).astype(kind)
    made[np.abs(made) < np.asarray(least, kind)] = 0
    return made


def _sizes(n: int, columns: int | None) -> tuple[int, int]:
    for name, size in (("n", n), ("columns", columns)):
        if size is not None and size < 0:
            raise ValueError(f"{name}: expected 0 or more, got {size}")
    return n, n if columns is None else columns


def _check_positive(name: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0.0):
        raise ValueError(f"{name}: expected a positive number, got {value}")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{name}: expected a share from 0 to 1, got {value}")


def _default_floor(kind: np.dtype[Any]) -> float:
    # narrow types are added up in float32
    added_up = kind if kind.itemsize >= 4 else np.dtype(np.float32)
    root = float(np.sqrt(np.finfo(added_up).smallest_normal))
    return max(root, float(np.finfo(np.float16).smallest_normal)) if kind == np.float16 else root


def _float_type(dtype: DTypeLike) -> np.dtype[Any]:
    if isinstance(dtype, str) and dtype == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    kind = np.dtype(dtype)
    if kind.kind != "f" and kind.name != "bfloat16":
        raise ValueError(f"dtype: expected a float type, got {kind}")
    return kind
