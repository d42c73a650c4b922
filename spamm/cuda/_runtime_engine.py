"""What one GPU does for a product: norms, tau, lists, the product itself.

Arrays stay on the device. Each function puts launches on its stream and returns what will be
there once they have run, without waiting where it does not say so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from spamm._guarantee import PROBES
from spamm._plan import Plan, Sizes, grid
from spamm.cuda._config import MultiplyConfig, alignment_of
from spamm.cuda._device import Device, Span, fetch_array, upload_array
from spamm.cuda._interop import ITEM_BYTES, View
from spamm.cuda._launch import Buffer, Launch, Program
from spamm.cuda._multiply import KERNEL_NAME, multiply_program, multiply_source
from spamm.cuda._norms import NormsConfig, joined, norms_launch, norms_source
from spamm.cuda._order import Tiling
from spamm.cuda._planning import lists_launch, planning_program
from spamm.cuda._runtime_kernels import (
    copy_launch,
    copy_source,
    probe_launch,
    probe_source,
)
from spamm.cuda._sweep import float32_below
from spamm.cuda._tau import bound_program

Array = npt.NDArray[Any]
Spans = dict[str, Span]

_LINE = 256  # buffers begin at multiples of so many bytes
# Lists up to this length are allocated before it is known how long they are: 128 MiB
_MOST_UNKNOWN = 1 << 25
_PROGRAMS = 256

norms_text = functools.lru_cache(_PROGRAMS)(norms_source)
planning = functools.lru_cache(_PROGRAMS)(planning_program)
for_bound = functools.lru_cache(_PROGRAMS)(bound_program)
product = functools.lru_cache(_PROGRAMS)(multiply_program)
product_text = functools.lru_cache(_PROGRAMS)(multiply_source)


@dataclass(frozen=True, eq=False)
class Lists:
    """A plan's kept products on a device.

    Attributes
    ----------
    offsets, ks
        As `Plan` has them.
    order
        C's tiles of `tiling`, heaviest first.
    error_bound
        Float64, where the lists were made there.
    """

    offsets: Span
    ks: Span
    order: Span
    tiling: Tiling
    error_bound: Span | None = None


def run(device: Device, program: Program, given: Mapping[str, Span]) -> Spans:
    """Put a program on the stream, with memory for its buffers; all its arrays by name."""
    found = {**given, **_buffers(device, program.buffers)}
    for launch in program.launches:
        start(device, program.source, launch, found)
    return found


def start(device: Device, source: str, launch: Launch, spans: Mapping[str, Span]) -> None:
    """Put one launch on the stream."""
    device.launch(source, launch, [spans[a] if isinstance(a, str) else a for a in launch.args])


def _buffers(device: Device, buffers: tuple[Buffer, ...]) -> Spans:
    """One allocation for all; those that must be zero lie together, and are set by one command."""
    if not buffers:
        return {}
    total, zeroed, places = _layout(buffers)
    memory = device.allocate(total)
    if zeroed:
        device.zero(memory.address, zeroed)
    return {
        name: Span(memory.address + begin, nbytes, itemsize, memory)
        for name, begin, nbytes, itemsize in places
    }


@functools.lru_cache(_PROGRAMS)
def _layout(
    buffers: tuple[Buffer, ...],
) -> tuple[int, int, tuple[tuple[str, int, int, int], ...]]:
    """Bytes of all, and of those that must be zero; name, place, bytes and element of each."""
    begin = zeroed = 0
    places = []
    for each in sorted(buffers, key=lambda each: not each.zeroed):
        nbytes = each.size * each.dtype.itemsize
        places.append((each.name, begin, nbytes, each.dtype.itemsize))
        begin += -(-max(1, nbytes) // _LINE) * _LINE
        zeroed = begin if each.zeroed else zeroed
    return begin, zeroed, tuple(places)


def new_matrix(device: Device, shape: tuple[int, ...], dtype: str, *, padded: bool = False) -> View:
    """A row-major matrix in new memory; padded: rows begin at multiples of 16 bytes."""
    (rows, cols), size = shape, ITEM_BYTES[dtype]
    leading = -(-cols * size // 16) * 16 // size if padded else cols
    memory = device.allocate(max(1, rows * leading * size))
    return View(device, memory.address, (rows, cols), (leading, 1), dtype, memory)


def copy(source: View, target: View) -> None:
    """Copy a matrix to another of the same shape on the same device, converting its elements."""
    if 0 not in source.shape:
        text, launch = copy_source(source.dtype, target.dtype), copy_launch(source, target)
        start(source.device, text, launch, {"from": source.span, "to": target.span})


def row_major(matrix: View) -> View:
    """The matrix, or a copy of it, with contiguous rows."""
    if matrix.is_row_major:
        return matrix
    packed = new_matrix(matrix.device, matrix.shape, matrix.dtype, padded=True)
    copy(matrix, packed)
    return packed


class _NormsPart(NamedTuple):
    """What one matrix adds to a launch of the norm kernel."""

    config: NormsConfig
    launch: Launch
    spans: Spans
    found: Span


def norms(matrix: View, rows: int, cols: int) -> Span:
    """Float32 Frobenius norms of a matrix's blocks, rounded up; +inf for NaN and infinities.

    The matrix has at least one element; a column-major one is read as it lies.
    """
    part = _norms_part(matrix, rows, cols, "")
    start(matrix.device, norms_text(part.config), part.launch, part.spans)
    return part.found


def norms_of_both(a: View, b: View, block: Sizes) -> tuple[Span, Span]:
    """`norms` of A and of B, of one type, in one launch."""
    bm, bk, bn = block
    of_a, of_b = _norms_part(a, bm, bk, "_a"), _norms_part(b, bk, bn, "_b")
    text = norms_text(of_a.config, of_b.config)
    start(a.device, text, joined(of_a.launch, of_b.launch), {**of_a.spans, **of_b.spans})
    return of_a.found, of_b.found


def _norms_part(matrix: View, rows: int, cols: int, suffix: str) -> _NormsPart:
    transposed = not matrix.is_row_major and matrix.transposed.is_row_major
    seen = matrix.transposed if transposed else row_major(matrix)
    if transposed:
        rows, cols = cols, rows
    config = NormsConfig.for_matrix(seen.dtype, rows, cols, seen.address, seen.leading)
    m, n = seen.shape
    count = -(-m // rows) * -(-n // cols)
    memory = matrix.device.allocate(4 * count)
    found = Span(memory.address, 4 * count, 4, memory)
    names = f"matrix{suffix}", f"norms{suffix}"
    launch = norms_launch(config, (m, n), seen.leading, *names, transposed=transposed)
    return _NormsPart(config, launch, dict(zip(names, (seen.span, found), strict=True)), found)


def tau_span(device: Device, tau: float) -> Span:
    """A float32 tau on a device, not above the given one."""
    return upload_array(device, np.array([float32_below(tau)], np.float32))


def tau_for_bound(device: Device, sizes: Sizes, bound: float, norms_a: Span, norms_b: Span) -> Span:
    """The largest tau whose plan's error bound is at most `bound`."""
    found = run(device, for_bound(sizes, bound), {"norms_a": norms_a, "norms_b": norms_b})
    return found["tau"]


def make_lists(
    device: Device, sizes: Sizes, tiling: Tiling, norms_a: Span, norms_b: Span, tau: Span
) -> Lists:
    """The kept products; waits only where the lists could be too long to allocate unseen."""
    given = {"norms_a": norms_a, "norms_b": norms_b, "tau": tau}
    return _lists(_planned(device, sizes, tiling, given, None), tiling)


def lists_for_ratio(
    device: Device, sizes: Sizes, tiling: Tiling, norms_a: Span, norms_b: Span, ratio: float
) -> tuple[Lists, Span, Callable[[], Array]]:
    """As `make_lists` for the tau nearest to a valid ratio.

    That tau comes too, and a pending pair of how many products it could keep.
    """
    found = _planned(device, sizes, tiling, {"norms_a": norms_a, "norms_b": norms_b}, ratio)
    return _lists(found, tiling), found["tau"], fetch_array(device, found["kept"], np.int64)


def _planned(
    device: Device, sizes: Sizes, tiling: Tiling, given: Spans, ratio: float | None
) -> Spans:
    mb, kb, nb = sizes
    capacity = min(mb * kb * nb, _MOST_UNKNOWN)
    program = planning(sizes, tiling, capacity, ratio)
    found = run(device, program, given)
    if capacity < mb * kb * nb:
        last = Span(found["offsets"].address + 8 * mb * nb, 8, 8, found["offsets"].owner)
        needed = int(fetch_array(device, last, np.int64)()[0])
        if needed > capacity:
            found |= _buffers(device, (Buffer("ks", np.dtype(np.int32), needed),))
            start(device, program.source, lists_launch(sizes, tiling, needed), found)
    return found


def _lists(found: Spans, tiling: Tiling) -> Lists:
    return Lists(found["offsets"], found["ks"], found["order"], tiling, found["error_bound"])


def host_plan(
    device: Device,
    lists: Lists,
    shape: Sizes,
    block: Sizes,
    norms_a: Span,
    norms_b: Span,
    tau: Span,
) -> Plan:
    """What a device has planned as the host's `Plan`; waits for it."""
    assert lists.error_bound is not None
    pending = [
        fetch_array(device, span, dtype)
        for span, dtype in (
            (lists.offsets, np.int64),
            (norms_a, np.float32),
            (norms_b, np.float32),
            (tau, np.float32),
            (lists.error_bound, np.float64),
        )
    ]
    offsets, found_a, found_b, found_tau, bound = (wait() for wait in pending)
    kept = Span(lists.ks.address, 4 * int(offsets[-1]), 4, lists.ks.owner)
    mb, kb, nb = grid(shape, block)
    return Plan(
        shape,
        block,
        float(found_tau[0]),
        offsets,
        fetch_array(device, kept, np.int32)(),
        float(bound[0]),
        found_a.reshape(mb, kb),
        found_b.reshape(kb, nb),
    )


def upload_lists(device: Device, plan: Plan, tiling: Tiling) -> Lists:
    """A plan of the host's on a device."""
    mb, _, nb = plan.grid
    counts = np.diff(plan.offsets).reshape(mb, nb)
    down, across = tiling.grid_of(mb, nb)
    work = counts
    for axis, (size, blocks, tiles) in enumerate(
        zip((down, across), tiling.blocks, tiling.tiles, strict=True)
    ):
        if blocks > 1:
            work = np.add.reduceat(work, np.arange(0, work.shape[axis], blocks), axis=axis)
        work = np.repeat(work, tiles, axis=axis).take(np.arange(size), axis=axis)
    order = np.argsort(-work, axis=None, kind="stable").astype(np.int32)
    offsets, ks, tiles_in_order = (
        upload_array(device, np.ascontiguousarray(each)) for each in (plan.offsets, plan.ks, order)
    )
    return Lists(offsets, ks, tiles_in_order, tiling)


def tiling_of(config: MultiplyConfig, shape: Sizes) -> Tiling:
    """How a kernel cuts C (m x n)."""
    (bm, _, bn), (tile_m, tile_n, _) = config.block, config.tile
    return Tiling.of((bm, bn), (tile_m, tile_n), (shape[0], shape[2]))


def multiply(a: View, b: View, c: View, lists: Lists, config: MultiplyConfig) -> None:
    """Overwrite C with a plan's products of A and B, all of at least one element.

    C may be of any layout, and of float32, float64 or the operands' type.
    """
    device = a.device
    a, b = row_major(a), row_major(b)
    direct = c.dtype == config.out and c.is_row_major
    whole = c.leading == c.shape[1]
    if config.split_k > 1:
        direct = direct and whole
    into = c if direct else new_matrix(device, c.shape, config.out)
    if config.split_k > 1:
        device.zero(into.address, into.span.nbytes)
    size = a.itemsize
    config = config.for_alignment(
        alignment_of(
            *(each.address for each in (a, b)),
            *(each.leading * size for each in (a, b)),
            *(each.shape[1] * size for each in (a, b)),
        )
    )
    resident = (
        device.resident(product_text(config), KERNEL_NAME, config.threads, config.shared_bytes)
        if config.persistent
        else 1
    )
    program = product(
        config, (*a.shape, b.shape[1]), (a.leading, b.leading, into.leading), resident
    )
    given = {
        "a": a.span,
        "b": b.span,
        "c": into.span,
        "offsets": lists.offsets,
        "ks": lists.ks,
        "order": lists.order,
    }
    run(device, program, given)
    if into is not c:
        copy(into, c)


def fill_zero(c: View) -> None:
    """Set a matrix of any layout to zero."""
    if 0 in c.shape:
        return
    if c.is_row_major and c.leading == c.shape[1]:
        c.device.zero(c.address, c.span.nbytes)
        return
    zeros = new_matrix(c.device, c.shape, c.dtype)
    c.device.zero(zeros.address, zeros.span.nbytes)
    copy(zeros, c)


def probe(matrix: View, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """A matrix times `PROBES` vectors (cols, PROBES), in float32; waits for the result."""
    device, seen = matrix.device, row_major(matrix)
    x = upload_array(device, np.ascontiguousarray(vectors, np.float32))
    y = new_matrix(device, (matrix.shape[0], PROBES), "float32")
    given = {"matrix": seen.span, "x": x, "y": y.span}
    start(device, probe_source(seen.dtype), probe_launch(seen), given)
    found: npt.NDArray[np.float32] = fetch_array(device, y.span, np.float32)()
    return found.reshape(y.shape)
