"""The whole product of one shape as one function of TIR, for libraries that need no TVM.

What `spamm.cpu.multiply` does in several calls from Python, with the same packing and the same
micro-kernel: mark the blocks that the plan uses, pack them, multiply. Sizes are constants here.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx
from tvm.tirx.script import builder as T  # noqa: N812

from spamm._plan import Sizes, grid
from spamm.cpu._config import ACCUMULATORS, ROWS_TOGETHER, CpuConfig
from spamm.cpu._emit import function, quotient, widen
from spamm.cpu._kernel import BlocksOfC
from spamm.cpu._pack import Packing


def product_function(config: CpuConfig, dtype: str, shape: Sizes) -> Any:
    """``main(a, b, offsets, ks, c)``: C (m x n) overwritten with a plan's products of A and B.

    All arrays are row-major without gaps: A (m, k) and B (k, n) of `dtype`, bfloat16 as its bits;
    ``offsets`` int64 (mb * nb + 1) and ``ks`` int32 of at most mb * kb * nb, as `spamm.Plan` has
    them for blocks of ``config.block``; C of the type of the sums, float64 for float64 and float32
    for all others.

    Parameters
    ----------
    config
        Blocks, register tile, unrolling and depth.
    dtype
        Type of the operands: "float16", "bfloat16", "float32" or "float64".
    shape
        (m, k, n), each at least 1.
    """
    with function("main") as made:
        emit = _Whole(config, dtype, shape)
        emit.mark()
        emit.pack_a()
        emit.pack_b()
        emit.multiply()
    return made.result


class _Whole:
    """The parts of the function; made where its parameters are declared."""

    def __init__(self, config: CpuConfig, dtype: str, shape: Sizes) -> None:
        self._config, self._shape = config, shape
        self._grid = mb, kb, nb = grid(shape, config.block)
        (m, k, n), (bm, bk, bn) = shape, config.block
        self._sums = sums = ACCUMULATORS[dtype]
        self._convert = widen(dtype, sums)
        stored = "uint16" if dtype == "bfloat16" else dtype
        self._a, self._b, self._offsets, self._ks, self._c = (
            T.arg(name, T.Buffer((size,), kind))
            for name, size, kind in (
                ("a", m * k, stored),
                ("b", k * n, stored),
                ("offsets", mb * nb + 1, "int64"),
                ("ks", mb * kb * nb, "int32"),
                ("c", m * n, sums),
            )
        )
        self._panels_a, self._panels_b = -(-bm // config.rows), -(-bn // config.columns)
        # what is not used is never touched, and takes no memory
        self._packed_a = T.alloc_buffer((mb * kb * self._panels_a * config.rows * bk,), sums)
        self._packed_b = T.alloc_buffer((kb * nb * self._panels_b * config.columns * bk,), sums)
        self._used_a = T.alloc_buffer((mb * kb,), "int8")
        self._used_b = T.alloc_buffer((kb * nb,), "int8")

    def mark(self) -> None:
        """Which blocks of A and of B take part in a kept product."""
        mb, kb, nb = self._grid
        yes, no = (tirx.IntImm("int8", value) for value in (1, 0))
        for used, size in ((self._used_a, mb * kb), (self._used_b, kb * nb)):
            with T.serial(0, _index(size)) as place:
                T.buffer_store(used, no, [place])
        with T.serial(0, _index(mb)) as i, T.serial(0, _index(nb)) as j:
            cell = T.Bind(i * nb + j)
            begin = T.Bind(self._offsets[cell])
            with T.serial(0, self._offsets[cell + 1] - begin) as entry:
                kk = T.Bind(T.Cast("int64", self._ks[begin + entry]))
                T.buffer_store(self._used_a, yes, [i * kb + kk])
                T.buffer_store(self._used_b, yes, [kk * nb + j])

    def pack_a(self) -> None:
        """A's used blocks, each at the place of its number i kb + k."""
        (m, k, _), (bm, bk, _), (mb, kb, _) = self._shape, self._config.block, self._grid
        pack = Packing(self._a, self._packed_a, self._config.rows, 1, self._convert, self._sums)
        with T.parallel(0, _index(mb)) as i, T.serial(0, _index(kb)) as kk:
            place = T.Bind(i * kb + kk)
            with T.If(self._used_a[place] != 0), T.Then():
                first = T.Bind(i * bm), T.Bind(kk * bk)
                extent = T.Bind(T.min(bm, m - first[0])), T.Bind(T.min(bk, k - first[1]))
                pack.block((place * self._panels_a, bk), first, extent, k, along=False)

    def pack_b(self) -> None:
        """B's used blocks, each at the place of its number k nb + j."""
        (_, k, n), (_, bk, bn), (_, kb, nb) = self._shape, self._config.block, self._grid
        config = self._config
        pack = Packing(
            self._b, self._packed_b, config.columns, config.lanes, self._convert, self._sums
        )
        with T.parallel(0, _index(kb)) as kk, T.serial(0, _index(nb)) as j:
            place = T.Bind(kk * nb + j)
            with T.If(self._used_b[place] != 0), T.Then():
                first = T.Bind(j * bn), T.Bind(kk * bk)
                extent = T.Bind(T.min(bn, n - first[0])), T.Bind(T.min(bk, k - first[1]))
                pack.block((place * self._panels_b, bk), first, extent, n, along=True)

    def multiply(self) -> None:
        """All of C's blocks, down a few rows of blocks and then to the right."""
        config, (mb, kb, nb) = self._config, self._grid
        strip_size = ROWS_TOGETHER * nb
        with T.parallel(0, _index(mb * nb)) as position:
            strip = T.Bind(quotient(position, _index(strip_size)))
            within = T.Bind(position - strip * strip_size)
            height = T.Bind(T.min(_index(ROWS_TOGETHER), mb - strip * ROWS_TOGETHER))
            j = T.Bind(quotient(within, height))
            i = T.Bind(strip * ROWS_TOGETHER + within - j * height)
            # a thread's own
            tiles = self._panels_a * self._panels_b
            saved = T.alloc_buffer((tiles * config.rows * config.columns,), self._sums)
            arrays = self._packed_a, self._packed_b, self._c, self._offsets, self._ks, saved
            blocks = BlocksOfC(config, self._sums, arrays)
            blocks.enter(
                tuple(map(_index, self._shape)),
                tuple(map(_index, config.block)),
                _index(self._shape[2]),
                _index(max(1, config.depth // config.block[1])),
            )
            blocks.compute(
                (T.Bind(i * nb + j), i, j), lambda kk: i * kb + kk, lambda kk: kk * nb + j
            )


def _index(value: int) -> Any:
    return tirx.IntImm("int64", value)
