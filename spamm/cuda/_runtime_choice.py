"""Which multiply kernel a product gets: the tuned configuration where there is one."""

from __future__ import annotations

import functools

from spamm import _tuned
from spamm.cuda._config import ITEM_BYTES, MultiplyConfig
from spamm.cuda._device import Device
from spamm.cuda._multiply import SIZE_LIMIT
from spamm.cuda._norms import NormsConfig
from spamm.cuda._space import DEFAULT_BLOCK, default, unit_for

Sizes = tuple[int, int, int]

BACKEND = "cuda"
_USUAL_RATIO = 0.1
"""The valid ratio that a configuration is looked up for while the real one is not known."""


def device_name(device: Device) -> str:
    """What a tuned configuration is for."""
    return f"{device.name} ({device.arch})"


def block_for(device: Device, shape: Sizes, dtype: str) -> Sizes:
    """Block sizes for (m, k, n) = shape where the caller names none."""
    return _block_for(_known(), device_name(device), device.arch, shape, dtype)


def unit_of(dtype: str, precision: str | None) -> str:
    """The unit that multiplies: tensor cores where that loses nothing, or TF32 is asked for."""
    return "tensor" if precision == "tf32" else unit_for(dtype)


def config_for(
    device: Device,
    dtype: str,
    out: str,
    unit: str,
    shape: Sizes,
    block: Sizes,
    valid_ratio: float | None,
) -> MultiplyConfig:
    """How a product is computed; valid_ratio: None where it is not known yet.

    Raises
    ------
    ValueError
        No kernel fits the block.
    """
    ratio = max(_USUAL_RATIO if valid_ratio is None else valid_ratio, 1e-9)
    known, name = _known(), device_name(device)
    return _config_for(known, name, device.arch, dtype, out, unit, shape, block, ratio)


class _Known:
    """Stands for what is known now in the keys of caches."""

    def __init__(self, entries: tuple[_tuned.Tuned, ...]) -> None:
        self.entries = entries


_latest = _Known(())


def _known() -> _Known:
    global _latest
    entries = _tuned.entries()
    # the same object while the file stays as it is
    if entries is not _latest.entries:
        _latest = _Known(entries)
    return _latest


@functools.lru_cache(maxsize=256)
def _block_for(_now: _Known, name: str, arch: str, shape: Sizes, dtype: str) -> Sizes:
    tuned = _tuned.lookup(BACKEND, name, dtype, shape)
    if tuned is not None and refusal(tuned.block, dtype, arch) is None:
        return tuned.block
    return DEFAULT_BLOCK


@functools.lru_cache(maxsize=256)
def _config_for(
    _now: _Known,
    name: str,
    arch: str,
    dtype: str,
    out: str,
    unit: str,
    shape: Sizes,
    block: Sizes,
    ratio: float,
) -> MultiplyConfig:
    match = {"block": block, "unit": unit, "out": out}
    tuned = _tuned.lookup(BACKEND, name, dtype, shape, valid_ratio=ratio, match=match)
    if tuned is not None:
        try:
            config = MultiplyConfig.from_dict(tuned.config)
        except ValueError:
            config = None
        if config is not None and config.validate(arch) is None:
            return config
    return _default(dtype, arch, block, out, unit)


@functools.lru_cache(maxsize=256)
def _default(dtype: str, arch: str, block: Sizes, out: str, unit: str) -> MultiplyConfig:
    return default(dtype, arch, block, out=out, unit=unit)


@functools.lru_cache(maxsize=256)
def refusal(block: Sizes, dtype: str, arch: str) -> str | None:
    """Why blocks or a type cannot be multiplied on an architecture; None where they can."""
    if dtype not in ITEM_BYTES:
        known = ", ".join(ITEM_BYTES)
        return f"dtype: backend 'cuda' multiplies {known}, got {dtype}"
    (bm, bk, bn), unit = block, unit_for(dtype)
    for rows, cols in ((bm, bk), (bk, bn)):
        wrong = NormsConfig(dtype, rows, cols, aligned=False).validate()
        if wrong is not None:
            return f"block: {wrong}"
    try:
        _default(dtype, arch, block, "float32", unit)
    except ValueError as error:
        return str(error)
    return None


def check_shape(shape: Sizes) -> None:
    """ValueError unless kernels can count the sizes (m, k, n)."""
    if max(shape) >= SIZE_LIMIT:
        raise ValueError(f"a, b: expected sizes below {SIZE_LIMIT}, got (m, k, n) = {shape}")
