"""How fast a candidate should be, before anything was measured: a roofline over its buffer stores.

The estimate follows the roofline model (Williams, Waterman and Patterson, CACM 52(4), 2009): a
store costs the larger of its arithmetic and its register traffic, plus its misses in each cache
level, told from the reuse distances in TVM's features, plus its loops, divided by the parallelism
that the machine can use. It ranks candidates; its cycles are not to be believed.

The cycle counts below were fitted, within physical bounds, to the order of measured random
candidates of convolutions, dense products and pools on an AVX-512 machine, then rounded. Fitted
without one of those subgraphs, they ranked it nearly as well. The figures for GPUs are textbook
ones, not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TERMS = ("compute", "access", "cache", "memory", "loops", "total")

_DEPENDENT = 2.4  # cycles an operation of a serial reduction into one scalar waits
_RAGGED = 0.37  # an element of a vector that LLVM splits into scalars
_ODD = 1.3  # a vector whose length is no power of two
_AUTO = 7.0  # elements LLVM packs by itself in a contiguous innermost loop
_GATHER = 5.0  # a vector load or store with a stride
_LOAD = 1.8  # a load or store of one register
_L2_LINE, _L3_LINE, _COLD_LINE = 1.5, 2.2, 55.0
_LOOP, _UNROLLED = 0.8, 0.15  # a step of the innermost loop; its share left by unrolling
_LAUNCH = 15_000.0  # waking the thread pool
_L1_BYTES, _L2_BYTES = 32e3, 1e6
_REGISTERS = 16.5

_SM_LANES = 128.0
_SM_THREADS_TO_HIDE_LATENCY = 512.0
_GPU_BYTES_A_CYCLE = 12.0  # of one multiprocessor, through the second-level cache
_GPU_DRAM_BYTES_A_CYCLE = 8.0
_SHARED_ACCESS = 0.5  # an access to shared memory, in operations
_GPU_LAUNCH = 3_000.0


@dataclass(frozen=True)
class Hardware:
    """What the estimate needs to know of a target.

    Attributes
    ----------
    cores
        CPU cores, or streaming multiprocessors of a GPU.
    vector_bytes
        Bytes of a CPU's vector register.
    is_gpu
        Whether stores are bound to the blocks and threads of a GPU.
    """

    cores: int = 1
    vector_bytes: int = 32
    is_gpu: bool = False


def estimate_stores(flat: Array, starts: npt.NDArray[np.int64], hardware: Hardware) -> Array:
    """Estimates candidates from the features of all their stores.

    Parameters
    ----------
    flat
        Shape (stores of all candidates, 164), TVM's layout (see `costmodels.features`).
    starts
        Shape (n,), increasing: where in ``flat`` each candidate's stores begin.
    hardware
        What the candidates are to run on.

    Returns
    -------
    array
        Shape (n, len(`TERMS`)), in log2 of cycles; less is better in the last column.
    """
    store = _Stores(flat)
    terms = (_gpu if hardware.is_gpu else _cpu)(store, hardware)
    return np.asarray(np.log2(np.add.reduceat(terms, starts, axis=0) + 1.0))


def peak_cycles(flops: float, hardware: Hardware) -> float:
    """Log2 of the cycles that a subgraph's operations take at the machine's peak."""
    lanes = _SM_LANES if hardware.is_gpu else hardware.vector_bytes / 4.0
    return float(np.log2(max(flops, 1.0) / (2.0 * lanes * max(hardware.cores, 1))))


def _linear(logs: Array) -> Array:
    return np.asarray(np.exp2(np.minimum(logs, 60.0)) - 1.0)


class _Stores:
    """The columns of TVM's rows that the estimate uses, out of their logarithms."""

    def __init__(self, flat: Array) -> None:
        self.iterations = np.maximum(_linear(flat[:, 161]), 1.0)
        self.vector = np.maximum(_linear(flat[:, 18]), 1.0)
        self.parallel = _linear(flat[:, 39])
        self.unroll = _linear(flat[:, 163])
        self.blocks = np.maximum(_linear(flat[:, 50:53]), 1.0).prod(axis=1)
        self.threads = np.maximum(_linear(flat[:, 53:56]), 1.0).prod(axis=1)
        once = _linear(flat[:, :16]) / self.iterations[:, None]
        fused = np.maximum(once[:, 1], once[:, 2])
        self.float_ops = fused + 6.0 * once[:, 3] + once[:, 4] + 15.0 * (once[:, 5] + once[:, 6])
        self.ops = np.maximum(self.float_ops + once[:, 14] + once[:, 15], 0.5)
        buffers = flat[:, 57:147].reshape(len(flat), 5, 18)
        self.present = buffers[:, :, :3].sum(axis=2) > 0
        self.written = (buffers[:, :, 1] + buffers[:, :, 2]) > 0
        self.bytes, self.unique_bytes, self.lines, self.unique_lines = np.moveaxis(
            _linear(buffers[:, :, 3:7]), 2, 0
        )
        self.reused = buffers[:, :, 7] > 0
        self.reuse_iterations = _linear(buffers[:, :, 10])
        self.reuse_bytes = _linear(buffers[:, :, 11])
        self.reuse_count = np.maximum(_linear(buffers[:, :, 12]), 1.0)
        self.stride = _linear(buffers[:, :, 17])
        size = (self.bytes * self.written).sum(axis=1) / self.iterations
        self.element_bytes = np.clip(size, 1.0, 8.0)

    def in_registers(self) -> npt.NDArray[np.bool_]:
        """Buffers that an unrolled inner tile keeps in registers over the reuse."""
        tile = self.reuse_iterations / self.vector[:, None]
        body = tile * self.reuse_count
        small = (tile <= _REGISTERS) & (body <= np.maximum(self.unroll, 1.0)[:, None])
        return np.asarray(self.reused & ((self.reuse_iterations < 1.5) | small))


def _cpu(s: _Stores, hardware: Hardware) -> Array:
    lanes = np.maximum(hardware.vector_bytes / s.element_bytes, 1.0)
    vectorized = s.vector > 1.5
    contiguous, serial = _scalar_loops(s, vectorized)
    packed = np.minimum(_AUTO, lanes)
    instructions = np.where(
        vectorized, _vector_instructions(s.vector, lanes), np.where(contiguous, 1 / packed, 1.0)
    )
    compute = s.iterations * s.ops * instructions
    waiting = s.iterations * _DEPENDENT * np.minimum(s.ops, 2.0)
    compute = np.where(serial, np.maximum(compute, waiting), compute)

    strided = (s.stride > 1.5) & vectorized[:, None]
    one_access = np.where(strided, _GATHER, _LOAD * instructions[:, None])
    one_access = np.where(s.in_registers(), one_access / s.reuse_count, one_access)
    access = s.iterations * (one_access * s.present).sum(axis=1)

    cold = np.minimum(s.unique_lines, s.lines) * s.present
    from_l2 = _misses(s, cold, _L1_BYTES)
    from_l3 = np.minimum(_misses(s, cold, _L2_BYTES), from_l2)
    cache = _L2_LINE * from_l2.sum(axis=1)
    memory = _L3_LINE * from_l3.sum(axis=1) + _COLD_LINE * cold.sum(axis=1)

    step = np.where(vectorized, s.vector, np.where(contiguous, packed, 1.0))
    loops = s.iterations / step * _LOOP * np.where(s.unroll > 0, _UNROLLED, 1.0)

    tasks = np.maximum(s.parallel, 1.0)
    speedup = tasks / np.ceil(tasks / hardware.cores)
    terms = np.stack([compute, access, cache, memory, loops], axis=1) / speedup[:, None]
    launch = np.where(s.parallel > 0, _LAUNCH, 0.0)
    return _with_total(terms, launch)


def _scalar_loops(
    s: _Stores, vectorized: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Stores LLVM can vectorize by itself, and those that reduce into one scalar."""
    stride = (s.stride * s.written).sum(axis=1)
    even = ((s.stride < 1.5) | ~s.present).all(axis=1)
    contiguous = ~vectorized & (stride > 0.5) & (stride < 1.5) & even
    return contiguous, ~vectorized & (stride < 0.5)


def _vector_instructions(vector: Array, lanes: Array) -> Array:
    """Instructions an element: a length over one register is cheap only if it fills registers."""
    ragged = (vector > lanes) & (np.mod(vector, lanes) > 0.5)
    odd = np.abs(np.log2(vector) - np.round(np.log2(vector))) > 0.01
    whole = np.ceil(vector / lanes) / vector * np.where(odd, _ODD, 1.0)
    return np.where(ragged, _RAGGED, whole)


def _misses(s: _Stores, cold: Array, size: float) -> Array:
    """Cache lines of each buffer that a cache of that many bytes does not hold."""
    held = s.reused & (s.reuse_bytes < size)
    lines = np.where(held, s.lines / s.reuse_count, s.lines) * s.present
    all_fits = (s.unique_bytes.sum(axis=1) < 0.8 * size)[:, None]
    return np.where(all_fits, cold, np.maximum(lines, cold))


def _gpu(s: _Stores, hardware: Hardware) -> Array:
    warps = np.ceil(s.threads / 32.0)
    filled = s.threads / (32.0 * warps)
    waves = np.ceil(s.blocks / hardware.cores)
    balance = s.blocks / (waves * hardware.cores)
    resident = np.minimum(np.maximum(s.blocks / hardware.cores, 1.0) * s.threads, 2048.0)
    hidden = np.minimum(resident / _SM_THREADS_TO_HIDE_LATENCY, 1.0)
    # registers are shared by the threads of a block: very large blocks cannot hold their tiles
    crowded = np.where(s.threads > 512, 1.5, 1.0)
    units = hardware.cores * balance * hidden
    lanes = np.maximum(_SM_LANES * units * filled / crowded, 1e-3)

    compute = s.iterations * s.ops / lanes
    conflicts = np.where(s.stride > 1.5, 2.0, 1.0)
    one_access = np.where(s.in_registers(), _SHARED_ACCESS / s.reuse_count, _SHARED_ACCESS)
    access = s.iterations * (one_access * conflicts * s.present).sum(axis=1) / lanes
    # a store without arithmetic is a copy between memories: its bytes cross the chip
    copies = s.float_ops < 0.5
    wide = np.where(s.vector > 1.5, 1.0, 1.5)
    crossing = np.where(copies, s.bytes.max(axis=1, initial=0.0) * wide, 0.0)
    cache = crossing / np.maximum(_GPU_BYTES_A_CYCLE * units, 1e-3)
    # what is written once is unique bytes; lines that hold few useful bytes cost their whole length
    sparse = np.clip(s.unique_lines * 32.0, s.unique_bytes, 8.0 * s.unique_bytes)
    memory = (sparse * s.present).sum(axis=1) / (_GPU_DRAM_BYTES_A_CYCLE * hardware.cores)
    loops = s.iterations / s.vector * np.where(s.unroll > 0, 0.1, 0.4) / lanes
    terms = np.stack([compute, access, cache, memory, loops], axis=1)
    launch = np.full(len(compute), _GPU_LAUNCH)
    return _with_total(terms, launch)


def _with_total(terms: Array, launch: Array) -> Array:
    compute, access, *rest = terms.T
    total = np.maximum(compute, access) + np.sum(rest, axis=0) + launch
    return np.concatenate([terms, total[:, None]], axis=1)
