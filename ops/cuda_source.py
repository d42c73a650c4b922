"""CUDA text that TVM generates, mended before it is compiled.

TVM keeps more than four lanes of a type in CUDA's wider vectors (eight float16 in a ``uint4``,
eight int32 in a ``longlong4``) and reads and writes single lanes rightly, but constructs such a
vector as if CUDA had constructors of so many lanes. It has none; here they are. Without them one in
six tensor-core candidates of ResNet-18 in float16 does not compile.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import tvm

_KERNEL = 'extern "C" __global__'
_CALLS = re.compile(r"\bmake_(longlong|ulonglong|uint|int)[34]\(")
# what holds the lanes -> the lanes' types, the vector of two of them, and the header it needs
_LANES = {
    "longlong": (("int", "int2", ""),),
    "ulonglong": (("float", "float2", ""), ("unsigned int", "uint2", "")),
    "int": (("short", "short2", ""),),
    "uint": (
        ("half", "half2", "cuda_fp16.h"),
        ("nv_bfloat16", "nv_bfloat162", "cuda_bf16.h"),
        ("unsigned short", "ushort2", ""),
    ),
}
_PARTS = "xyzw"
_CALLBACK = "tvm_callback_cuda_postproc"


def mended(code: str) -> str:
    """The text with the constructors that it calls and CUDA lacks."""
    start = code.find(_KERNEL)
    wanted = sorted({match.group(1) for match in _CALLS.finditer(code)})
    if start < 0 or not wanted:
        return code
    made = [
        _constructor(holder, parts, lane, pair)
        for holder in wanted
        for lane, pair, header in _LANES[holder]
        if not header or header in code[:start]
        for parts in (3, 4)
    ]
    return code[:start] + "\n".join(made) + "\n" + code[start:]


def _constructor(holder: str, parts: int, lane: str, pair: str) -> str:
    """A constructor of `parts` pairs of lanes."""
    name = f"{holder}{parts}"
    taken = ", ".join(f"{lane} v{i}" for i in range(2 * parts))
    kept = " ".join(
        f"(({pair}*)&v.{_PARTS[i]})->x = v{2 * i}; (({pair}*)&v.{_PARTS[i]})->y = v{2 * i + 1};"
        for i in range(parts)
    )
    head = f"static __forceinline__ __device__ {name} make_{name}({taken})"
    return f"{head} {{ {name} v; {kept} return v; }}"


@lru_cache(maxsize=1)
def mend_cuda_sources() -> None:
    """Has TVM mend all CUDA text of this process; a callback that is already there goes first."""
    before = tvm.get_global_func(_CALLBACK, allow_missing=True)

    def mend(code: str, target: Any) -> str:
        return mended(str(before(code, target)) if before is not None else str(code))

    tvm.register_global_func(_CALLBACK, mend, override=True)
