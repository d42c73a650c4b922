"""The multiply kernel's tuning space, and what is used before anything was tuned."""

from __future__ import annotations

import itertools

from spamm.cuda._config import ITEM_BYTES, SHARED_LIMIT, MultiplyConfig

Sizes = tuple[int, int, int]

DEFAULT_BLOCK: Sizes = (128, 32, 128)
"""A plan's blocks unless told: as wide as a warp's tile or wider, fine along k, which is cheap."""

_BLOCKS = tuple((side, depth, side) for side in (32, 64, 128) for depth in (16, 32, 64))
_TILES = ((64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
_DEPTH_BYTES = (64, 128)
_WARPS = ((1, 2), (2, 1), (2, 2), (4, 1), (2, 4), (4, 2))
_STAGES = (2, 3, 4)
_SPLITS = (1, 2, 4)
# Tile, warps, and thread blocks that a multiprocessor shall hold. Of 16 bits two tiles a
# multiprocessor: one loads lists and stores sums while the other multiplies. TF32 brings twice the
# bytes, and 128 x 128 would need more than an H200's L2 cache gives, so there one wide tile.
_LARGE = (((128, 128), (2, 2), 2), ((128, 128), (2, 2), 1))
_WIDE = (((128, 256), (2, 4), 1), ((256, 128), (4, 2), 1))
_SMALL = (
    ((128, 64), (2, 2), 2),
    ((64, 128), (2, 2), 2),
    ((64, 64), (2, 2), 3),
    ((64, 64), (2, 2), 1),
)
_PREFERRED = {
    ("float16", "tensor"): (*_LARGE, *_SMALL),
    ("bfloat16", "tensor"): (*_LARGE, *_SMALL),
    ("float32", "tensor"): (*_WIDE, *_LARGE, *_SMALL),
    ("float32", "cores"): (((128, 64), (4, 1), 2), ((64, 64), (2, 2), 3), ((64, 64), (2, 2), 1)),
}
_PREFERRED_STAGES = ((128, 4), (128, 3), (64, 4), (64, 3), (128, 2), (64, 2))
_RESERVED_BYTES = 1024  # of shared memory, for each thread block on a multiprocessor
# a tile of more blocks is mostly loaded for blocks that do not want it
_BLOCKS_IN_DEFAULT_TILE = 4


def unit_for(dtype: str) -> str:
    """The unit that keeps a dtype's precision: tensor cores for 16 bits, CUDA cores for float32."""
    return "cores" if dtype == "float32" else "tensor"


def space(
    dtype: str,
    arch: str,
    *,
    out: str = "float32",
    unit: str | None = None,
    block: Sizes | None = None,
) -> list[MultiplyConfig]:
    """Every configuration worth trying that is valid for an architecture.

    All load 16 bytes at a time; `MultiplyConfig.for_alignment` gives the variants for operands that
    do not allow it.

    Parameters
    ----------
    dtype, out
        Of A and B, and of C.
    arch
        Such as ``"sm_90"``.
    unit
        `unit_for` the dtype unless told; ``"tensor"`` with float32 multiplies in TF32.
    block
        Only this block (bm, bk, bn); all of the space's unless told.

    Raises
    ------
    ValueError
        The dtype or the architecture is unknown.
    """
    _check(dtype, arch)
    unit = unit or unit_for(dtype)
    size = ITEM_BYTES[dtype]
    made = (
        MultiplyConfig(
            dtype=dtype,
            out=out,
            unit=unit,
            block=each,
            tile=(*tile, depth // size),
            warps=warps,
            stages=stages,
            swizzle=swizzle,
            split_k=split,
            persistent=persistent,
        )
        for each, tile, depth, warps, stages, swizzle, split, persistent in itertools.product(
            _BLOCKS if block is None else (block,),
            _TILES,
            _DEPTH_BYTES,
            _WARPS,
            _STAGES,
            (True, False),
            _SPLITS,
            (True, False),
        )
    )
    return [config for config in made if config.validate(arch) is None]


def default(
    dtype: str,
    arch: str,
    block: Sizes = DEFAULT_BLOCK,
    *,
    out: str = "float32",
    unit: str | None = None,
) -> MultiplyConfig:
    """The configuration used when none was tuned.

    Raises
    ------
    ValueError
        The dtype or the architecture is unknown, or no kernel fits the block; the message says why.
    """
    _check(dtype, arch)
    chosen = unit or unit_for(dtype)
    if (dtype, chosen) not in _PREFERRED:
        raise ValueError(f"unit: expected tensor, or cores for float32, got {chosen!r}")
    size = ITEM_BYTES[dtype]
    made = [
        (MultiplyConfig(dtype, out, chosen, block, (*tile, depth // size), warps, stages), wanted)
        for tile, warps, wanted in _PREFERRED[dtype, chosen]
        for depth, stages in _PREFERRED_STAGES
    ]
    # the sort is stable: among tiles of few blocks the order of preference stays
    made.sort(key=lambda each: max(each[0].blocks_in_tile, _BLOCKS_IN_DEFAULT_TILE))
    for config, wanted in made:
        if config.validate(arch) is None and _shared_fits(config, arch, wanted):
            return config
    raise ValueError(
        f"block: no kernel for {block} of {dtype} on {arch}: {made[0][0].validate(arch)}"
    )


def _shared_fits(config: MultiplyConfig, arch: str, thread_blocks: int) -> bool:
    there = SHARED_LIMIT[arch.rstrip("af")] + _RESERVED_BYTES
    return thread_blocks * (config.shared_bytes + config.list_bytes + _RESERVED_BYTES) <= there


def _check(dtype: str, arch: str) -> None:
    if dtype not in ITEM_BYTES:
        raise ValueError(f"dtype: expected one of {', '.join(ITEM_BYTES)}, got {dtype!r}")
    if arch.rstrip("af") not in SHARED_LIMIT:
        raise ValueError(f"arch: expected one of {', '.join(SHARED_LIMIT)}, got {arch!r}")
