"""From MetaSchedule's objects to numbers: features of candidates, hardware of a target."""

from __future__ import annotations

import importlib
import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from costmodels.features import FEATURE_LENGTH, STORE_LENGTH, Batch, aggregate
from costmodels.prior import Hardware
from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    import tvm

Stores = npt.NDArray[np.float32]

_REMEMBERED = 8192
_MULTIPROCESSORS = {70: 80, 75: 40, 80: 108, 86: 82, 89: 128, 90: 132, 100: 148}
_MULTIPROCESSORS_ELSE = 80


def subgraph_key(mod: tvm.IRModule) -> str:
    """Structural hash of a subgraph's TIR as 16 hex digits."""
    digest = importlib.import_module("tvm_ffi").structural_hash(mod)
    return f"{digest & (2**64 - 1):016x}"


def anchor_name(mod: tvm.IRModule) -> str:
    """Name of the core operation of a subgraph's TIR, such as ``conv2d_nchw``.

    That is TVM's anchor block (the reduction that does most); without one the last block, so that
    elementwise subgraphs form families by what they compute. Relax's variable names in front and
    numbers behind, which only tell copies apart, are cut off.
    """
    tvm = load_tvm()
    anchor = tvm.s_tir.analysis.find_anchor_sblock(mod)
    name = str(anchor.name_hint) if anchor is not None else _last_block(mod)
    return re.sub(r"^[lg]v\d*_|(_\d+)+$", "", name) or "unnamed"


def _last_block(mod: tvm.IRModule) -> str:
    schedule = load_tvm().s_tir.Schedule(mod)
    names: list[str] = []
    for function in mod.functions:
        root = schedule.get_sblock("root", func_name=function.name_hint)
        names += [str(schedule.get(b).name_hint) for b in schedule.get_child_blocks(root)]
    return names[-1] if names else ""


def subgraph_flops(mod: tvm.IRModule) -> float:
    """Floating-point operations of one run of a subgraph, at least 1."""
    return max(1.0, float(load_tvm().s_tir.analysis.estimate_tir_flops(mod)))


def hardware_of(target: tvm.target.Target) -> Hardware:
    """What a target's attributes tell of the machine; guesses where they are silent."""
    tvm = load_tvm()
    attributes = target.attrs
    if "gpu" in target.keys:
        arch = re.search(r"\d+", str(attributes.get("arch", "")))
        known = _MULTIPROCESSORS.get(int(arch.group()) if arch else 0, _MULTIPROCESSORS_ELSE)
        return Hardware(cores=known, is_gpu=True)
    cores = int(attributes.get("num-cores", 0) or 0)
    width = 0
    if target.kind.name == "llvm":
        width = int(tvm.target.codegen.llvm_get_vector_width(target))
    return Hardware(
        cores=cores if cores > 0 else os.cpu_count() or 1,
        vector_bytes=width // 8 if width > 0 else 16,
    )


_Row = tuple[npt.NDArray[np.float32], float, bool]
_FORGOTTEN: _Row = np.zeros(FEATURE_LENGTH, dtype=np.float32), -np.inf, False


def _stack(rows: Sequence[_Row]) -> Batch:
    if not rows:
        nothing = np.zeros((0, FEATURE_LENGTH), dtype=np.float32)
        return Batch(nothing, np.zeros(0), np.zeros(0, dtype=np.bool_))
    return Batch(
        np.stack([row for row, _, _ in rows]),
        np.asarray([prior for _, prior, _ in rows], dtype=np.float64),
        np.asarray([valid for _, _, valid in rows], dtype=np.bool_),
    )


class CandidateFeatures:
    """Extracts features of candidates and remembers them.

    An evolutionary search scores about a fifth of its candidates more than once, and TVM's
    extraction costs milliseconds a candidate where the hash of its TIR costs a tenth of one.
    """

    def __init__(self) -> None:
        tvm = load_tvm()
        self._extractor = tvm.s_tir.meta_schedule.feature_extractor.PerStoreFeature()
        self._remembered: OrderedDict[tuple[bool, int], _Row] = OrderedDict()
        self._hash = importlib.import_module("tvm_ffi").structural_hash

    def batch(self, context: Any, candidates: Sequence[Any], flops: float) -> Batch:
        """Features of a context's candidates; one that TVM cannot read comes out invalid."""
        hardware = hardware_of(context.target)
        keys = [(hardware.is_gpu, self._identity(c)) for c in candidates]
        missing = {k: c for k, c in zip(keys, candidates, strict=True) if k not in self._remembered}
        if missing:
            found = aggregate(self._extract(context, list(missing.values())), hardware, flops)
            for i, key in enumerate(missing):
                row = found.rows[i], float(found.prior[i]), bool(found.valid[i])
                self._remembered[key] = row
        rows = []
        for key in keys:
            self._remembered.move_to_end(key)
            rows.append(self._remembered[key])
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return _stack(rows)

    def known(self, context: Any, digests: Sequence[int]) -> Batch:
        """Features of candidates met before, by structural hash; invalid where forgotten."""
        is_gpu = hardware_of(context.target).is_gpu
        return _stack([self._remembered.get((is_gpu, digest), _FORGOTTEN) for digest in digests])

    def _identity(self, candidate: Any) -> int:
        try:
            return int(self._hash(candidate.sch.mod))
        except Exception:  # a candidate without a module has no features; it is its own case
            return id(candidate)

    def _extract(self, context: Any, candidates: list[Any]) -> list[Stores]:
        if not candidates:
            return []
        try:
            found = self._extractor.extract_from(context, candidates)
            return [f.numpy().astype(np.float32) for f in found]
        except Exception:
            # TVM gives up on all of them at one odd candidate: find the one and score the others
            if len(candidates) == 1:
                return [np.zeros((0, STORE_LENGTH), dtype=np.float32)]
            return [stores for c in candidates for stores in self._extract(context, [c])]
