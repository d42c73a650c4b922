"""Which layers SpAMM takes over, and what each skips: from weights, norms and measured errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ops.spamm_operator import BLOCKS, PackedWeight, pack_weight
from ops.spamm_rewrite import Layer
from spamm import tau_for_bound

Norms = npt.NDArray[np.floating[Any]]

# A layer may be off by so many times what an output of the model may: most of it averages out
_AMPLIFIED, _MOST_OFF = 10.0, 0.3
# What is left of the blocks must be worth a look
NEAR_SPARSE = 0.8
# Small blocks skip more, and take so much more time an element
_SLOWER = dict(zip(BLOCKS, (1.0, 1.1, 1.25), strict=True))
# Bounds on what is skipped, relative to a layer's own size, are tried at powers of this; a bound
# is several times the error that it bounds
_BASE = math.sqrt(2.0)
_FINEST, _COARSEST = -28, 4
# A layer's own level is raised by so many powers at a time
_RAISE = 2


@dataclass(frozen=True, eq=False)
class Candidate:
    """A layer whose weight is near-sparse, packed."""

    layer: Layer
    packed: PackedWeight
    block: tuple[int, int]


def near_sparse(layers: list[Layer], target: Any, max_rel_error: float) -> list[Candidate]:
    """Layers whose weights have blocks that matter little, by their norms alone."""
    found = []
    allowed = min(_MOST_OFF, _AMPLIFIED * max_rel_error)
    packed_before: dict[Any, PackedWeight] = {}
    for layer in layers:
        best: tuple[float, Candidate] | None = None
        for block in BLOCKS:
            ratio, packed = _left_over(layer, target, block, allowed)
            cost = ratio * _SLOWER[block]
            if ratio <= NEAR_SPARSE and (best is None or cost < best[0]):
                best = cost, Candidate(layer, packed, block)
        if best is not None:
            found.append(_sharing(best[1], packed_before))
    return found


def _left_over(
    layer: Layer, target: Any, block: tuple[int, int], allowed: float
) -> tuple[float, PackedWeight]:
    packed = pack_weight(layer.problem, layer.weight, target, block)
    squares = np.sort(np.square(packed.norms), axis=None)
    total = float(squares.sum())
    if not math.isfinite(total):
        return 1.0, packed
    dropped = int(np.searchsorted(np.cumsum(squares), allowed**2 * total, side="right"))
    return 1.0 - dropped / squares.size, packed


def _sharing(candidate: Candidate, before: dict[Any, PackedWeight]) -> Candidate:
    """The candidate with the arrays of an earlier layer that has the same weight and kernel."""
    key = (candidate.layer.digest, candidate.packed.kernel)
    return replace(candidate, packed=before.setdefault(key, candidate.packed))


def tau_at(level: int | None, packed: PackedWeight, norms_x: Norms) -> float:
    """The tau whose skipped products are bounded by sqrt(2)^level of the layer's own size.

    None stands for what changes nothing but rounding: blocks of zeros. A tau that skips hardly
    more than those is 0, as the kernel needs no norms then.
    """
    if level is None:
        return 0.0
    norms_w = packed.norms.T
    scale = math.sqrt(
        float((np.square(norms_x).sum(axis=0) * np.square(norms_w).sum(axis=1)).sum())
    )
    if not math.isfinite(scale):
        return 0.0
    a, b = np.asarray(norms_x, dtype=np.float64), np.ascontiguousarray(norms_w)
    # the kernel has it in single precision
    tau = float(np.float32(tau_for_bound(a, b, _BASE**level * scale)))
    if not tau < math.inf:
        return 0.0
    static = packed.valid_ratio(norms_x, 0.0)
    return tau if packed.valid_ratio(norms_x, tau) < 0.97 * static else 0.0


def choose_taus(
    candidates: list[Candidate],
    norms: Mapping[int, Norms],
    error_of: Callable[[dict[int, float]], float],
    allowed: float,
    time_left: Callable[[], float],
) -> dict[int, float] | None:
    """tau of each candidate, by its layer's index, as large as the model's error allows.

    All layers' bounds are raised together until the measured error would be too large, those that
    skip too little are given up, which leaves more to the others, and each of these is raised by
    itself, the largest first.

    Parameters
    ----------
    norms
        Norms of the activations' blocks, by the layer's index.
    error_of
        Measures the model's error at given taus.
    allowed
        The largest error.

    Returns
    -------
    None where not even skipping zeros keeps the error, or there was no time.
    """
    taken = list(candidates)
    while True:
        if error_of({c.layer.index: 0.0 for c in candidates}) > allowed:
            return None
        level = _highest(taken, candidates, norms, error_of, allowed, time_left)
        taus = _taus(dict.fromkeys((c.layer.index for c in taken), level), candidates, norms)
        kept = [c for c in taken if _ratio(c, norms, taus) <= NEAR_SPARSE]
        if len(kept) == len(taken) or not kept or time_left() <= 0:
            break
        taken = kept
    levels: dict[int, int | None] = {c.layer.index: level for c in taken}
    for candidate in sorted(taken, key=lambda c: -c.layer.problem.flops):
        _raise(candidate, candidates, levels, norms, error_of, allowed, time_left)
    return _taus(levels, candidates, norms)


def _highest(
    taken: list[Candidate],
    candidates: list[Candidate],
    norms: Mapping[int, Norms],
    error_of: Callable[[dict[int, float]], float],
    allowed: float,
    time_left: Callable[[], float],
) -> int | None:
    """The highest common level of those taken that keeps the error; None if there is none."""
    fits, fails = _FINEST - 1, _COARSEST + 1
    while fails - fits > 1 and time_left() > 0:
        middle = (fits + fails) // 2
        taus = _taus(dict.fromkeys((c.layer.index for c in taken), middle), candidates, norms)
        if error_of(taus) <= allowed:
            fits = middle
        else:
            fails = middle
    return fits if fits >= _FINEST else None


def _raise(
    candidate: Candidate,
    candidates: list[Candidate],
    levels: dict[int, int | None],
    norms: Mapping[int, Norms],
    error_of: Callable[[dict[int, float]], float],
    allowed: float,
    time_left: Callable[[], float],
) -> None:
    index = candidate.layer.index
    before = _taus(levels, candidates, norms)
    while time_left() > 0:
        level = levels[index]
        higher = _FINEST if level is None else level + _RAISE
        if higher > _COARSEST:
            return
        after = _taus({**levels, index: higher}, candidates, norms)
        # not worth a run of the model
        if _ratio(candidate, norms, after) > 0.95 * _ratio(candidate, norms, before):
            return
        if error_of(after) > allowed:
            return
        levels[index], before = higher, after


def _taus(
    levels: Mapping[int, int | None], candidates: list[Candidate], norms: Mapping[int, Norms]
) -> dict[int, float]:
    return {
        c.layer.index: tau_at(levels.get(c.layer.index), c.packed, norms[c.layer.index])
        for c in candidates
    }


def _ratio(candidate: Candidate, norms: Mapping[int, Norms], taus: Mapping[int, float]) -> float:
    index = candidate.layer.index
    return candidate.packed.valid_ratio(norms[index], taus[index])
