"""One point of the multiply kernel's tuning space: its shape, its limits, its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}
SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32"}
WORK_LIST = 512
"""Entries of the skip list that a thread block holds in shared memory at a time."""
_KIB = 1024
SHARED_LIMIT = {
    "sm_80": 163 * _KIB,
    "sm_86": 99 * _KIB,
    "sm_87": 163 * _KIB,
    "sm_89": 99 * _KIB,
    "sm_90": 227 * _KIB,
    "sm_100": 227 * _KIB,
    "sm_103": 227 * _KIB,
    "sm_110": 227 * _KIB,
    "sm_120": 99 * _KIB,
    "sm_121": 99 * _KIB,
}
"""Bytes of shared memory a thread block can have, by architecture (CUDA programming guide)."""
_MAX_MASK_BITS = 32
_REGISTERS = 65536
_REGISTERS_A_THREAD = 255
_REGISTERS_ASIDE = 44
"""Addresses, counters and predicates, beside accumulators and fragments; seen in compiled code."""


@dataclass(frozen=True)
class MultiplyConfig:
    """A multiply kernel's parameters.

    Attributes
    ----------
    dtype
        Of A and B: ``"float16"``, ``"bfloat16"`` or ``"float32"``.
    out
        Of C: ``"float32"`` or that of A and B. Sums are float32 in any case.
    unit
        ``"tensor"``: tensor cores, which take float32 as TF32; ``"cores"``: float32 only.
    block
        The plan's blocks (bm, bk, bn).
    tile
        What a thread block computes at a time (m, n) and the depth of a stage (k), in elements.
        A tile may hold several blocks of C, or be a part of one; a stage may hold several k-blocks,
        or be a part of one.
    warps
        Warps of a thread block along m and n.
    stages
        Copies of the tiles of A and B in shared memory, all but one being filled ahead.
    swizzle
        Chunks of 16 bytes are permuted by XOR with their row, so that no two lanes meet in a bank;
        otherwise rows are padded to the same end.
    vector
        Bytes that one load from A or B takes, 16 (asynchronous) down to the size of an element:
        pointers, leading dimensions, k and n must be multiples of it. See `for_alignment`.
    split_k
        Thread blocks which share a tile: each takes every split_k-th entry of its list and adds its
        sum to C atomically. C is float32 and zeroed before; the order of sums varies.
    persistent
        The grid is as large as the GPU, and thread blocks take the next tile from a counter, so
        that uneven lists balance; otherwise the grid has a thread block for each tile.
    """

    dtype: str
    out: str
    unit: str
    block: tuple[int, int, int]
    tile: tuple[int, int, int]
    warps: tuple[int, int]
    stages: int
    swizzle: bool = True
    vector: int = 16
    split_k: int = 1
    persistent: bool = True

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MultiplyConfig:
        """The inverse of `to_dict`, as read from JSON.

        Raises
        ------
        ValueError
            A field is missing, unknown, or of another type than expected.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            wrong = ", ".join(sorted(set(values) ^ names))
            raise ValueError(f"configuration: missing or unknown fields: {wrong}")
        made: dict[str, Any] = {}
        for name, value in values.items():
            if name in _LENGTHS:
                made[name] = _integers(name, value, _LENGTHS[name])
            elif type(value) is not _TYPES[name]:
                raise ValueError(f"configuration: {name} is {value!r}, expected {_TYPES[name]}")
            else:
                made[name] = value
        return cls(**made)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; lists where fields are tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def name(self) -> str:
        """Stable, unique, and fit for a file's name."""
        by = "x"
        parts = [
            SHORT[self.dtype],
            SHORT[self.out],
            self.unit,
            "b" + by.join(map(str, self.block)),
            "t" + by.join(map(str, self.tile)),
            "w" + by.join(map(str, self.warps)),
            f"s{self.stages}",
            "swizzled" if self.swizzle else "padded",
            f"v{self.vector}",
            f"k{self.split_k}",
            "persistent" if self.persistent else "grid",
        ]
        return "_".join(parts)

    @property
    def threads(self) -> int:
        """Threads of a thread block."""
        return 32 * self.warps[0] * self.warps[1]

    @property
    def warp_tile(self) -> tuple[int, int]:
        """Rows and columns of C a warp computes."""
        return self.tile[0] // self.warps[0], self.tile[1] // self.warps[1]

    @property
    def blocks_in_tile(self) -> int:
        """Blocks of C that lie in a tile; 1 when the tile is a part of one."""
        return max(1, self.tile[0] // self.block[0]) * max(1, self.tile[1] // self.block[2])

    @property
    def row_padding(self) -> tuple[int, int]:
        """Bytes added to a row of A's and of B's tile in shared memory."""
        if self.swizzle:
            return 0, 0
        # rows of B are read down a column by TF32's fragments, two chunks for each row
        return 16, 32 if self.dtype == "float32" else 16

    @property
    def shared_bytes(self) -> int:
        """Dynamic shared memory to launch with."""
        m, n, k = self.tile
        size = ITEM_BYTES[self.dtype]
        pad_a, pad_b = self.row_padding
        return self.stages * (m * (k * size + pad_a) + k * (n * size + pad_b))

    @property
    def list_bytes(self) -> int:
        """Static shared memory: the skip list, and what makes a union of several."""
        if self.blocks_in_tile == 1:
            return 4 * WORK_LIST + 16
        return 12 * WORK_LIST + 4 * (WORK_LIST // 32) + 16 * self.blocks_in_tile + 16

    @property
    def registers(self) -> int:
        """An estimate of a thread's registers, from accumulators and fragments."""
        rows, columns = self.warp_tile
        if self.unit == "cores":
            return rows * columns // 32 + rows + columns // 8 + _REGISTERS_ASIDE
        # two sets of fragments: one is loaded while the other is multiplied
        return rows * columns // 32 + rows // 2 + columns // 2 + _REGISTERS_ASIDE

    def grid_tiles(self, m: int, n: int) -> tuple[int, int]:
        """Tiles of C along m and n; tile (i, j) has the number ``i * tiles along n + j``."""
        return -(-m // self.tile[0]), -(-n // self.tile[1])

    def for_alignment(self, alignment: int) -> MultiplyConfig:
        """The variant for what `alignment_of` says, this one if its loads already fit."""
        if alignment < ITEM_BYTES[self.dtype]:
            raise ValueError(
                f"alignment: {alignment} bytes is less than an element of {self.dtype}"
            )
        return self if alignment >= self.vector else replace(self, vector=alignment)

    def validate(self, arch: str) -> str | None:
        """Why this cannot be a kernel for ``arch`` (such as ``"sm_90"``), or None if it can."""
        return (
            self._wrong_words(arch)
            or self._wrong_shapes()
            or self._wrong_warps()
            or self._wrong_loads()
            or self._too_much_shared(arch)
        )

    def _wrong_words(self, arch: str) -> str | None:
        if arch.rstrip("af") not in SHARED_LIMIT:
            return f"{arch} is none of {', '.join(SHARED_LIMIT)}"
        if self.dtype not in ITEM_BYTES:
            return f"dtype {self.dtype} is none of {', '.join(ITEM_BYTES)}"
        if self.out not in ("float32", self.dtype):
            return f"out {self.out} is neither float32 nor {self.dtype}"
        if self.unit not in ("tensor", "cores"):
            return f"unit {self.unit} is neither tensor nor cores"
        if self.unit == "cores" and self.dtype != "float32":
            return f"unit cores multiplies float32, not {self.dtype}"
        return None

    def _wrong_shapes(self) -> str | None:
        (bm, bk, bn), (m, n, k) = self.block, self.tile
        if any(not _power_of_two(x) for x in (bm, bk, bn, m, n, k)):
            return f"block {self.block} and tile {self.tile} are not all powers of two"
        if min(bm, bn) < 32 or bk < 16:
            return f"block {self.block} is below (32, 16, 32)"
        if self.blocks_in_tile > _MAX_MASK_BITS:
            return f"{self.blocks_in_tile} blocks of C in a tile, at most {_MAX_MASK_BITS}"
        if not 2 <= self.stages <= 8:
            return f"{self.stages} stages, expected 2 to 8"
        if self.split_k < 1 or (self.split_k > 1 and self.out != "float32"):
            return f"split_k {self.split_k} with out {self.out}: partial sums are added in float32"
        return None

    def _wrong_warps(self) -> str | None:
        if any(not _power_of_two(x) for x in self.warps) or self.threads > 512:
            return f"warps {self.warps} are not powers of two, 16 in all at most"
        rows, columns = self.warp_tile
        # TF32's fragments of B and the register tile of CUDA cores are 32 columns wide
        wide = 32 if self.dtype == "float32" else 16
        if rows < 16 or columns < wide:
            return f"a warp has {rows} x {columns} of C, at least 16 x {wide}"
        limit = min(_REGISTERS_A_THREAD, _REGISTERS // self.threads)
        if self.registers > limit:
            return f"about {self.registers} registers a thread, {limit} are there"
        return None

    def _wrong_loads(self) -> str | None:
        m, n, k = self.tile
        size = ITEM_BYTES[self.dtype]
        if self.vector not in (2, 4, 8, 16) or self.vector < size:
            return f"vector {self.vector} is not 16, 8, 4 or 2 bytes, or less than an element"
        if k * size < 64:
            return f"a stage {k} deep has one step of mma, two are needed to load ahead"
        for rows, columns, matrix in ((m, k, "A"), (k, n, "B")):
            chunks = columns * size // 16
            if self.threads % chunks or rows % (self.threads // chunks):
                return f"{self.threads} threads do not share {rows} x {columns} of {matrix} evenly"
        return None

    def _too_much_shared(self, arch: str) -> str | None:
        limit, wanted = SHARED_LIMIT[arch.rstrip("af")], self.shared_bytes + self.list_bytes
        if wanted > limit:
            return f"{wanted} bytes of shared memory, {arch} has {limit} for a thread block"
        return None


_TYPES: dict[str, type] = {
    "dtype": str,
    "out": str,
    "unit": str,
    "stages": int,
    "swizzle": bool,
    "vector": int,
    "split_k": int,
    "persistent": bool,
}
_LENGTHS = {"block": 3, "tile": 3, "warps": 2}


def _integers(name: str, value: Any, length: int) -> tuple[int, ...]:
    sequence = isinstance(value, (list, tuple))
    if not sequence or len(value) != length or any(type(x) is not int for x in value):
        raise ValueError(f"configuration: {name} is {value!r}, expected {length} integers")
    return tuple(value)


def _power_of_two(x: int) -> bool:
    return x > 0 and x & (x - 1) == 0


def alignment_of(*multiples: int) -> int:
    """The widest load, 16 bytes at most, that divides everything given.

    Parameters
    ----------
    *multiples
        In bytes: the addresses of A and B, their leading dimensions, and the lengths of their rows
        (k and n times the size of an element).
    """
    widest = 16
    for value in multiples:
        while value % widest:
            widest //= 2
    return widest
