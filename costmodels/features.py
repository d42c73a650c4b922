"""One fixed-length vector a candidate, from TVM's features of its buffer stores.

`PerStoreFeature` describes a candidate by one row of 164 numbers for each buffer it stores to, so
two candidates of one subgraph may have different numbers of rows. Offsets in a row, from TVM's
``feature_extractor/per_store_feature.cc``; ``slog(x) = log2(|x| + 1)`` unless said otherwise:

======== ======= ===============================================================================
offset   length  what
======== ======= ===============================================================================
0        7       float operations of all iterations: multiply-add (never counted), add and sub,
                 mul, div and mod, compare, pure calls, other calls
7        7       the same for integers; index arithmetic is in here
14       2       boolean operations, selects
16       11      vectorized loops: how many, product of extents, innermost extent, then 8 flags of
                 the position (only "none" and "mixed" are ever set)
27       11      unrolled loops, likewise (explicit ones; the pragma is at 163)
38       11      parallel loops, likewise
49       1       1 on a GPU (not a logarithm)
50       3       extent of blockIdx.x, .y, .z (1 if absent, 0 on a CPU's row: ``slog(1)``)
53       3       extent of threadIdx.x, .y, .z
56       1       extent of the virtual threads
57       5 x 18  the buffers touched, most cache lines first, padded with zeros; each as below
147      10      arithmetic intensity (operations a byte) at 10 % ... 100 % of the operations
157      4       bytes of the allocation; its elements times loops outside; the loops outside;
                 iterations of the store for each time of allocation
161      3       iterations of all loops, number of loops, auto_unroll_max_step
======== ======= ===============================================================================

A buffer's 18: flags read, write, read-and-write; bytes touched, unique bytes, cache lines touched,
unique cache lines; flags of reuse by a loop, by serial accesses, none; distance to the reuse in
iterations, in bytes, and its count; the four sizes divided by that count; stride of the innermost
loop.

A candidate's vector is, in this order:

- the *anchor* store's row (the store with the most float operations). Its buffers are put in an
  order that means something, the written one first, then those read by falling unique bytes: TVM
  orders by cache lines, which swaps the columns of weights and activations from one schedule to the
  next, and a tree can split on a column only if it means one thing. Flags of loop positions are
  left out, for they repeat the counts;
- sums over all stores of operations, iterations and memory traffic (summed before the logarithm),
  and largest values of what describes loops, so that epilogues and cache stages count;
- the analytic estimate of `costmodels.prior`, term by term, as logarithms of cycles, and log2 of
  the share of the machine's peak that it gives the candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodels.prior import TERMS, Hardware, estimate_stores, peak_cycles

Array = npt.NDArray[np.float64]

STORE_LENGTH = 164
OPS = slice(0, 16)
FLOAT_OPS = slice(0, 7)
VECTORIZE = 16
UNROLL = 27
PARALLEL = 38
GPU = slice(49, 57)
BUFFERS = 57
BUFFER_LENGTH = 18
BUFFERS_PER_STORE = 5
CURVE = slice(147, 157)
TAIL = slice(157, 164)
ITERATIONS = 161

# the flags of a buffer's row and its columns that add up over buffers
_WRITES = (1, 2)
_TRAFFIC = slice(3, 7)
_BUFFERS_KEPT = 4

_SCALARS = np.r_[
    0:16,
    VECTORIZE : VECTORIZE + 3,
    UNROLL : UNROLL + 3,
    PARALLEL : PARALLEL + 3,
    GPU,
    CURVE,
    TAIL,
]
_LARGEST = np.r_[VECTORIZE : VECTORIZE + 3, PARALLEL + 1, GPU, TAIL]

# column of a candidate's vector that is 1 on a GPU, 0 elsewhere
IS_GPU = _SCALARS.tolist().index(GPU.start)

FEATURE_LENGTH = (
    len(_SCALARS) + _BUFFERS_KEPT * BUFFER_LENGTH + 16 + 4 + 2 + len(_LARGEST) + len(TERMS) + 1
)


@dataclass(frozen=True)
class Batch:
    """Features of n candidates.

    Attributes
    ----------
    rows
        float32, shape (n, `FEATURE_LENGTH`); finite.
    prior
        float64, shape (n,): log2 of the estimated share of the machine's peak.
    valid
        bool, shape (n,): False for a candidate of which TVM gave no features; its row is 0.
    """

    rows: npt.NDArray[np.float32]
    prior: Array
    valid: npt.NDArray[np.bool_]


def aggregate(
    stores: Sequence[npt.NDArray[np.floating]], hardware: Hardware, flops: float
) -> Batch:
    """Turns TVM's features of each candidate's stores into one row a candidate.

    Parameters
    ----------
    stores
        For each candidate an array of shape (number of buffer stores, 164). One of any other width
        or without rows counts as a candidate without features.
    hardware
        What the candidates are to run on.
    flops
        Operations of the unscheduled subgraph: the same for all its candidates, whatever a
        schedule computes twice.
    """
    n = len(stores)
    usable = [s.ndim == 2 and s.shape[0] > 0 and s.shape[1] == STORE_LENGTH for s in stores]
    valid = np.asarray(usable, dtype=np.bool_).reshape(n)
    rows = np.zeros((n, FEATURE_LENGTH), dtype=np.float32)
    prior = np.full(n, -np.inf)
    if not valid.any():
        return Batch(rows, prior, valid)
    kept = [np.asarray(s, dtype=np.float64) for s, ok in zip(stores, usable, strict=True) if ok]
    flat = np.nan_to_num(np.concatenate(kept), nan=0.0, posinf=64.0, neginf=0.0)
    counts = np.asarray([len(s) for s in kept])
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    flat = _order_buffers(flat)
    terms = estimate_stores(flat, starts, hardware)
    efficiency = peak_cycles(flops, hardware) - terms[:, -1]
    rows[valid] = np.concatenate(
        [_anchor(flat, starts, counts), _totals(flat, starts), terms, efficiency[:, None]], axis=1
    )
    prior[valid] = efficiency
    return Batch(rows, prior, valid)


def _order_buffers(flat: Array) -> Array:
    end = BUFFERS + BUFFERS_PER_STORE * BUFFER_LENGTH
    buffers = flat[:, BUFFERS:end].reshape(len(flat), BUFFERS_PER_STORE, BUFFER_LENGTH)
    written = buffers[:, :, _WRITES[0]] + buffers[:, :, _WRITES[1]]
    order = np.argsort(-(written * 1e6 + buffers[:, :, 4]), axis=1, kind="stable")
    ordered = flat.copy()
    ordered[:, BUFFERS:end] = np.take_along_axis(buffers, order[:, :, None], axis=1).reshape(
        len(flat), -1
    )
    return ordered


def _anchor(flat: Array, starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Array:
    weight = np.exp2(flat[:, FLOAT_OPS]).sum(axis=1) + 1e-6 * np.exp2(flat[:, ITERATIONS])
    owner = np.repeat(np.arange(len(counts)), counts)
    # the last of a stable sort by (candidate, weight) is each candidate's heaviest store
    heaviest = np.lexsort((weight, owner))[starts + counts - 1]
    row = flat[heaviest]
    buffers = row[:, BUFFERS : BUFFERS + _BUFFERS_KEPT * BUFFER_LENGTH]
    return np.concatenate([row[:, _SCALARS], buffers], axis=1)


def _totals(flat: Array, starts: npt.NDArray[np.int64]) -> Array:
    end = BUFFERS + BUFFERS_PER_STORE * BUFFER_LENGTH
    buffers = flat[:, BUFFERS:end].reshape(len(flat), BUFFERS_PER_STORE, BUFFER_LENGTH)
    linear = np.concatenate(
        [
            np.exp2(flat[:, OPS]) - 1,
            (np.exp2(buffers[:, :, _TRAFFIC]) - 1).sum(axis=1),
            np.exp2(flat[:, ITERATIONS, None]),
            np.ones((len(flat), 1)),
        ],
        axis=1,
    )
    sums = np.log2(np.add.reduceat(linear, starts, axis=0) + 1)
    return np.concatenate([sums, np.maximum.reduceat(flat[:, _LARGEST], starts, axis=0)], axis=1)
