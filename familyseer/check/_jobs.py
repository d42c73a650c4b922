"""What a worker does: make a subgraph's reference, check a schedule against it.

They run in a worker process because a wrong kernel may crash whoever runs it.

How far a right result may be from the reference's is measured on the reference itself. By backward
error analysis a sum in another order is the sum in the first order of inputs that are slightly
moved; so the inputs are moved, each up or down at random by the relative error that rounding may
cause (`familyseer.check._rounding`), and what this does to the result, in whatever follows the sum,
is what rounding may do to it. Likewise the reference on inputs whose denormal numbers were flushed
tells where flushing may show, and the reference on poison replaced by large numbers tells which
elements depend on it, for subgraphs in which a maximum may lose or keep a NaN.

A reference is a folder of plain arrays: ``<kind>-<output>.npy`` with the results,
``<kind>-<output>-ignored.npy`` where elements may hold anything, and ``reference.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from familyseer.check._compare import FLIPPED_SHARE, Allowed, compare, tolerances
from familyseer.check._inputs import Argument, Recipe, large_exponents, make_inputs
from familyseer.check._rounding import (
    Rounding,
    finfo,
    is_float,
    rounding_of,
    unit_roundoff,
)
from familyseer.tvm_env import load_tvm

REFERENCE = "reference.json"
# a reference with fewer finite elements would let anything pass
_LEAST_FINITE = 0.5


class NoReferenceError(Exception):
    """The unscheduled subgraph gives nothing to compare with."""


class _Kernel:
    """A built subgraph that can be run on NumPy arrays."""

    def __init__(self, library: Any, device_type: str, arguments: Sequence[Argument]) -> None:
        self.tvm = load_tvm()
        self.device = self.tvm.runtime.device(device_type, 0)
        self.entry = library["main"]
        self.arguments = arguments

    def __call__(self, recipe: Recipe, seed: int) -> list[Any]:
        arrays = make_inputs(self.arguments, recipe, seed)
        tensors = []
        for array in arrays:
            tensor = self.tvm.runtime.empty(array.shape, str(array.dtype), self.device)
            tensor.copyfrom(array)
            tensors.append(tensor)
        self.entry(*tensors)
        self.device.sync()
        pairs = zip(tensors, self.arguments, strict=True)
        return [tensor.numpy() for tensor, one in pairs if one.output]


def arguments_of(mod: Any) -> list[Argument]:
    """The parameters of a subgraph, in order; those that a block writes are its outputs."""
    import tvm_ffi

    tvm = load_tvm()
    function = mod["main"]
    written: list[Any] = []

    def on_block(block: Any) -> None:
        written.extend(region.source for region in block.writes)

    def on_store(store: Any) -> None:
        written.append(store.buffer)

    tvm_ffi.structural_walk(
        function.body, [(tvm.s_tir.SBlock, on_block), (tvm.tirx.BufferStore, on_store)]
    )
    infos = tvm.s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func(mod, False)
    return [
        Argument(
            tuple(int(d) for d in info.shape),
            str(info.dtype),
            any(param.same_as(buffer) for buffer in written),
        )
        for param, info in zip(function.params, infos, strict=True)
    ]


def reference_bytes(arguments: Sequence[Argument]) -> int:
    """Bytes of a subgraph's parameters."""
    import math

    from familyseer.check._rounding import numpy_dtype

    return sum(math.prod(one.shape) * numpy_dtype(one.dtype).itemsize for one in arguments)


def make_reference(mod: Any, target: Any, device_type: str, folder: str, seed: int) -> int:
    """Runs an unscheduled subgraph on each kind of input and keeps the results in a folder.

    On a processor it is given a plain schedule first, which computes the same numbers sooner.

    Returns the bytes written.

    Raises
    ------
    NoReferenceError
        It writes none of its parameters, or most of its results are not finite numbers.
    """
    from familyseer.export._compile import schedule_the_rest

    tvm = load_tvm(intrinsics=True)
    arguments = arguments_of(mod)
    if not any(one.output for one in arguments):
        raise NoReferenceError("it writes none of its parameters")
    built = tvm.driver.build(schedule_the_rest(mod, target, plainly=True), target=target)
    kernel = _Kernel(built, device_type, arguments)
    making = _Making(kernel, rounding_of(mod), Path(folder), seed)
    making.make(strict=not any("fast-math" in str(name) for name in target.attrs))
    return making.written


@dataclass
class _Making:
    """A reference while it is made."""

    kernel: _Kernel
    rounding: Rounding
    folder: Path
    seed: int
    written: int = 0

    def make(self, *, strict: bool) -> None:
        """Writes the reference; `strict` unless the compiler may assume that there is no NaN."""
        normal = Recipe("normal")
        results = self.kernel(normal, self.seed)
        if _finite_share(results) < _LEAST_FINITE:
            normal = Recipe("normal", positive=True)
            results = self.kernel(normal, self.seed)
        if _finite_share(results) < _LEAST_FINITE:
            raise NoReferenceError("most of its results are not finite numbers")
        allowed = self._allowed(normal, results)
        kinds = [self._keep(normal, results, allowed)]
        zeros = replace(normal, kind="zeros")
        still = [replace(one, moved=0.0) for one in allowed]
        kinds.append(self._keep(zeros, self.kernel(zeros, self.seed), still))
        if self.rounding.floats:
            kinds += self._large(normal)
            kinds += [self._denormal(normal, allowed)] if strict else []
            kinds += [self._poisoned(normal, results, allowed)] if strict else []
        content = {
            "seed": self.seed,
            "arguments": [asdict(one) for one in self.kernel.arguments],
            "kinds": kinds,
        }
        (self.folder / REFERENCE).write_text(json.dumps(content))

    def _large(self, normal: Recipe) -> list[dict[str, Any]]:
        dtypes = [one.dtype for one in self.kernel.arguments]
        for exponent in large_exponents(self.rounding.length, dtypes):
            recipe = replace(normal, kind="large", exponent=exponent)
            results = self.kernel(recipe, self.seed)
            if _finite_share(results) == 1.0:
                return [self._keep(recipe, results, self._allowed(recipe, results))]
        return []

    def _denormal(self, normal: Recipe, allowed: list[Allowed]) -> dict[str, Any]:
        import numpy as np

        recipe = replace(normal, kind="denormals")
        results = self.kernel(recipe, self.seed)
        flushed = self.kernel(replace(recipe, variant="flushed"), self.seed)
        ignored = []
        for result, other, one in zip(results, flushed, allowed, strict=True):
            a, b = result.astype(np.float64), other.astype(np.float64)
            with np.errstate(invalid="ignore"):
                # also true where either is not a number
                ignored.append(~(np.abs(a - b) <= tolerances(result, one)))
        return self._keep(recipe, results, allowed, ignored)

    def _poisoned(
        self, normal: Recipe, healthy: list[Any], allowed: list[Allowed]
    ) -> dict[str, Any]:
        recipe = replace(normal, kind="poisoned")
        results = self.kernel(recipe, self.seed)
        if not self.rounding.choosing:
            return self._keep(recipe, results, allowed)
        others = [self.kernel(replace(recipe, variant=v), self.seed) for v in ("raised", "lowered")]
        ignored = [
            (result != well) | (raised != well) | (lowered != well)
            for result, well, raised, lowered in zip(results, healthy, *others, strict=True)
        ]
        return self._keep(recipe, results, allowed, ignored)

    def _allowed(self, recipe: Recipe, results: list[Any]) -> list[Allowed]:
        """What rounding may change in each output, as moved inputs show."""
        import numpy as np

        error = self.rounding.error
        # a number must move by more than its own type's rounding to move at all
        inputs = [unit_roundoff(one.dtype) for one in self.kernel.arguments if not one.output]
        step = max([error, *(2 * u for u in inputs)])
        if not step:
            return [Allowed() for _ in results]
        moved = self.kernel(replace(recipe, variant="moved", step=step), self.seed)
        found = []
        for result, other in zip(results, moved, strict=True):
            if not is_float(str(result.dtype)):
                flips = 4 * int((result != other).sum()) + int(FLIPPED_SHARE * result.size)
                found.append(Allowed(flips=flips if error else 0))
                continue
            with np.errstate(invalid="ignore"):
                off = np.abs(result.astype(np.float64) - other.astype(np.float64))
            most = float(np.max(off, where=np.isfinite(off), initial=0.0))
            floor = 2 * float(finfo(str(result.dtype)).smallest_normal)
            found.append(Allowed(error, most * error / step, floor))
        return found

    def _keep(
        self,
        recipe: Recipe,
        results: list[Any],
        allowed: list[Allowed],
        ignored: list[Any] | None = None,
    ) -> dict[str, Any]:
        import numpy as np

        for i, result in enumerate(results):
            # as bytes: NumPy's format has no name for the small floats
            self._write(
                f"{recipe.kind}-{i}", np.ascontiguousarray(result).reshape(-1).view(np.uint8)
            )
            if ignored is not None and ignored[i].any():
                self._write(f"{recipe.kind}-{i}-ignored", ignored[i])
        return {"recipe": asdict(recipe), "allowed": [asdict(one) for one in allowed]}

    def _write(self, name: str, array: Any) -> None:
        import numpy as np

        path = self.folder / f"{name}.npy"
        np.save(path, array, allow_pickle=False)
        self.written += path.stat().st_size


def _finite_share(results: list[Any]) -> float:
    import numpy as np

    total = sum(one.size for one in results)
    finite = sum(int(np.isfinite(one.astype(np.float64)).sum()) for one in results)
    return finite / total if total else 1.0


def check_schedule(
    folder: str, artifact: str | None, mod: Any, target: Any, device_type: str, case: str | None
) -> dict[str, Any]:
    """Runs a built or a scheduled subgraph on each kind of input of a reference.

    Parameters
    ----------
    folder
        What `make_reference` filled.
    artifact
        A library with the scheduled subgraph as ``main``, its parameters those of the subgraph.
    mod
        The scheduled subgraph, built here where `artifact` is None.
    case
        Where to write, if it is wrong, an npz with ``input<i>``, ``expected<i>`` and ``got<i>``.

    Returns
    -------
    dict
        ``error``, the largest relative error; ``kind`` and ``reason``, empty when it is right.
    """
    tvm = load_tvm(intrinsics=artifact is None)
    read = json.loads((Path(folder) / REFERENCE).read_text())
    arguments = [Argument(tuple(a["shape"]), a["dtype"], a["output"]) for a in read["arguments"]]
    if artifact is None:
        # with its weights' change of layout, if it has one: so it takes the subgraph's own weights
        library = tvm.driver.build(mod, target=target)
    else:
        library = tvm.runtime.load_module(artifact)
    kernel = _Kernel(library, device_type, arguments)
    worst = 0.0
    for entry in read["kinds"]:
        recipe = Recipe(**entry["recipe"])
        results = kernel(recipe, read["seed"])
        for i, (got, allowed) in enumerate(zip(results, entry["allowed"], strict=True)):
            expected, ignored = _read(Path(folder), recipe.kind, i, got)
            difference = compare(got, expected, Allowed(**allowed), ignored)
            worst = max(worst, difference.error)
            if difference.excess > 1:
                if case is not None:
                    inputs = make_inputs(arguments, recipe, read["seed"])
                    _write_case(case, inputs, i, expected, got)
                reason = (
                    f"{difference.elements} of {got.size} elements are off on {recipe.kind} inputs,"
                    f" relative error {difference.error:.3g}"
                )
                return {"error": difference.error, "kind": recipe.kind, "reason": reason}
    return {"error": worst, "kind": "", "reason": ""}


def _read(folder: Path, kind: str, output: int, like: Any) -> tuple[Any, Any]:
    import numpy as np

    name = f"{kind}-{output}"
    raw = np.load(folder / f"{name}.npy", allow_pickle=False)
    expected = raw.view(like.dtype).reshape(like.shape)
    path = folder / f"{name}-ignored.npy"
    return expected, np.load(path, allow_pickle=False) if path.exists() else None


def _write_case(path: str, inputs: list[Any], output: int, expected: Any, got: Any) -> None:
    import numpy as np

    arrays = {f"input{i}": array for i, array in enumerate(inputs)}
    arrays |= {f"expected{output}": expected, f"got{output}": got}
    with open(path, "wb") as file:
        # small floats in a type that NumPy's format has a name for and that holds them all
        np.savez_compressed(
            file,
            **{k: v if v.dtype.isbuiltin == 1 else v.astype(np.float32) for k, v in arrays.items()},
        )
    os.chmod(path, 0o644)
