"""Names of families, and the reasons why their members belong together, in words."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from familyseer.families._features import StructuralFeatures
from familyseer.families._op import core_name

_LONGEST = 48
_POOLS = ("max_pool", "min_pool", "avg_pool")
_SPREADING = {"softmax", "normalization"}
_MOVING = {"elementwise", "copy", "gather"}
_PHRASES = {
    "matmul": "matrix products",
    "batch_matmul": "batched matrix products",
    "matvec": "matrix-vector products",
    "softmax": "softmaxes",
    "normalization": "normalizations",
    "reduction": "reductions",
    "elementwise": "elementwise computations",
    "gather": "lookups",
    "copy": "rearranging copies",
    "extern": "calls of external kernels",
}


def structure_name(members: Sequence[StructuralFeatures]) -> str:
    """A name from what the members (heaviest first) have in common, such as ``conv2d-1x1``."""
    operations = {f.operation for f in members}
    first = members[0].operation
    if first.startswith("depthwise"):
        return "depthwise"
    if first.startswith(_POOLS):
        return "pool"
    if "conv" in first:
        sizes = {_window(f) for f in members if f.window}
        many = "x".join("k" * len(members[0].window))
        return f"{first.replace('_', '-')}-{sizes.pop() if len(sizes) == 1 else many}"
    if len(operations) > 1 and operations <= _SPREADING:
        return "normalization"
    if "elementwise" in operations and operations <= _MOVING:
        return "elementwise"
    return first.replace("_", "-")


def operation_name(members: Sequence[StructuralFeatures]) -> str:
    """The core operation's name."""
    return core_name(members[0]).replace("_", "-")


def sequence_name(members: Sequence[StructuralFeatures]) -> str:
    """The operations joined by ``+``; a long sequence is cut and told apart by a hash."""
    name = "+".join(members[0].sequence)
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: _LONGEST - 7].rstrip('+_')}-{digest}"


def unique_names(
    names: Sequence[str], members: Sequence[Sequence[StructuralFeatures]]
) -> list[str]:
    """Adds the element type where it tells equal names apart, then a number."""
    dtypes = ["-".join(_distinct(f.dtype for f in group)) for group in members]
    clashing = {name for name in names if names.count(name) > 1}
    typed = []
    for name, dtype in zip(names, dtypes, strict=True):
        others = {d for n, d in zip(names, dtypes, strict=True) if n == name}
        typed.append(f"{name}-{dtype}" if name in clashing and len(others) > 1 else name)
    taken: set[str] = set()
    unique = []
    for name in typed:
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate)
        unique.append(candidate)
    return unique


def shared_structure(members: Sequence[StructuralFeatures]) -> str:
    """What the members have in common, in words.

    Example: ``3x3 sliding-window 2d convolutions, float32, multiply-add over window x 16 to 64
    channels, zero-padded input, fused add+relu``.
    """
    facts = [_operations(members), "/".join(_distinct(f.dtype for f in members))]
    body = _body(members)
    if body:
        facts.append(body)
    strides = {max((1, *f.stride)) for f in members}
    if len(strides) == 1 and max(strides) > 1:
        facts.append(f"stride {max(strides)}")
    if all(f.padded for f in members):
        facts.append("padded input")
    fused = _fused(members)
    if fused:
        facts.append(fused)
    return ", ".join(facts)


def _operations(members: Sequence[StructuralFeatures]) -> str:
    phrases = _distinct(_phrase(f.operation) for f in members)
    sizes = _distinct(_window(f) for f in members if f.window)
    phrase = " and ".join(phrases)
    return f"{'/'.join(sizes)} {phrase}" if sizes else phrase


def _phrase(operation: str) -> str:
    if operation in _PHRASES:
        return _PHRASES[operation]
    dims = operation[-2:]
    if "pool" in operation:
        return f"{dims} {operation.split('_')[0]} poolings"
    kind = {"depthwise": "depthwise ", "grouped": "grouped "}.get(operation.partition("_")[0], "")
    return f"{kind}{dims} convolutions"


def _body(members: Sequence[StructuralFeatures]) -> str:
    first = members[0]
    if not all(f.factors == first.factors and f.maximum == first.maximum for f in members):
        return ""
    over = []
    if all(_taps(f) > 1 for f in members):
        over.append("a sliding window")
    low, high = min(f.depth for f in members), max(f.depth for f in members)
    if high > 1:
        inner = "channels" if "conv" in first.operation else "elements"
        over.append(f"{low} to {high} {inner}" if low < high else f"{high} {inner}")
    if not over or not first.reductions:
        return ""
    combine = "multiply-add" if first.factors else "maximum" if first.maximum else "sum"
    return f"{combine} over {' x '.join(over)}"


def _fused(members: Sequence[StructuralFeatures]) -> str:
    epilogues = [f.epilogue for f in members]
    if any(f.operation in _SPREADING for f in members):
        return ""  # what follows their reduction is the operation itself
    common = [op for op in _distinct(epilogues[0]) if all(op in e for e in epilogues)]
    if not common:
        return ""
    same = all(e == epilogues[0] for e in epilogues)
    return f"fused {'+'.join(common)}" + ("" if same else ", more in some")


def _window(features: StructuralFeatures) -> str:
    return "x".join(map(str, features.window))


def _taps(features: StructuralFeatures) -> int:
    return max((1, *features.window))


def _distinct(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))
