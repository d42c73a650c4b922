"""Using what a run left in OUT: running its library on inputs, timing it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.errors import UserError
from familyseer.export._jobs import run_library as run_in_process
from familyseer.export._jobs import time_libraries
from familyseer.export._manifest import check_manifest
from familyseer.models import InputSpec, example_inputs
from familyseer.safe_json import load_json

_WHAT = "the summary of a tuning run"
_SIZE_LIMIT = 16 << 20
# of one array; more would not fit beside the model
_MOST_ELEMENTS = 2**31
_DTYPES = {"bool", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}


def read_summary(out: Path) -> dict[str, Any]:
    """OUT/summary.json.

    Raises
    ------
    UserError
        OUT holds no finished run, or the file is not what a run writes.
    """
    path = out / "summary.json"
    if not path.is_file() or not (out / "model.so").is_file():
        raise UserError(f"{out}: no finished tuning run here (expected model.so and summary.json)")
    summary = load_json(path, what=_WHAT, limit=_SIZE_LIMIT)
    if not (isinstance(summary, dict) and isinstance(summary.get("device"), str)):
        raise UserError(f"{path}: names no device, expected {_WHAT}")
    for name, least in (("inputs", None), ("outputs", [])):
        specs = summary.get(name, least)
        if not isinstance(specs, list) or not all(map(_is_spec, specs)):
            raise UserError(f"{path}: does not describe its {name}, expected {_WHAT}")
    return dict(summary)


def _is_spec(spec: Any) -> bool:
    """Whether it has a name, a shape and an element type that an array can have."""
    if not isinstance(spec, dict) or not isinstance(spec.get("name"), str):
        return False
    shape, bound = spec.get("shape"), spec.get("index_bound")
    if not isinstance(shape, list) or len(shape) > 32:
        return False
    if not all(type(extent) is int and extent >= 0 for extent in shape):
        return False
    if bound is not None and not (type(bound) is int and bound >= 1):
        return False
    if not _is_moments(spec.get("weight")):
        return False
    return math.prod(shape) <= _MOST_ELEMENTS and _is_dtype(spec.get("dtype"))


def _is_moments(weight: Any) -> bool:
    """Whether it says what values are drawn for a weight, or that the input is none."""
    if weight is None:
        return True
    if not isinstance(weight, list) or len(weight) != 2:
        return False
    return all(type(value) in (int, float) for value in weight)


def _is_dtype(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    if name in _DTYPES:
        return True
    import ml_dtypes

    # bfloat16 and the small floats, which NumPy itself does not have
    found = getattr(ml_dtypes, name, None)
    return isinstance(found, type) and issubclass(found, np.generic)


def input_specs(summary: Mapping[str, Any]) -> tuple[InputSpec, ...]:
    """The inputs of a library, in order, as its `read_summary` tells them."""
    return tuple(
        InputSpec(
            name=str(one["name"]),
            shape=tuple(one["shape"]),
            dtype=one["dtype"],
            index_bound=one.get("index_bound"),
            weight=None if one.get("weight") is None else tuple(one["weight"]),
        )
        for one in summary["inputs"]
    )


def names_of(summary: Mapping[str, Any], outputs: int) -> list[str]:
    """Names of so many outputs: the model's, or numbers where it has none."""
    names = [str(spec["name"]) for spec in summary.get("outputs", [])]
    return names if len(names) == outputs else [f"output{i}" for i in range(outputs)]


def order_inputs(
    specs: Sequence[InputSpec],
    given: Mapping[str, Any],
    draw: Callable[[str], Any] | None = None,
) -> list[Any]:
    """Inputs by name in the order in which the library takes them.

    Parameters
    ----------
    given
        Arrays, or tensors of other libraries: what has a ``shape`` and a ``dtype``.
    draw
        Gives the weight of a name; by default weights have to be given.

    Raises
    ------
    UserError
        An input is missing, unknown, or of another shape or element type.
    """
    expected = {spec.name: spec for spec in specs}
    for name in given:
        if name not in expected:
            raise UserError(f"unknown input {name!r}: expected {', '.join(expected) or 'none'}")
    ordered = []
    for name, spec in expected.items():
        if name not in given:
            if spec.weight is None or draw is None:
                raise UserError(f"input {name!r} is missing: expected {_kind(spec)}")
            ordered.append(draw(name))
            continue
        value = given[name]
        if not hasattr(value, "shape") or not hasattr(value, "dtype"):
            raise UserError(f"input {name!r} is a {type(value).__name__}: expected {_kind(spec)}")
        # PyTorch's types have its name in front
        dtype, shape = str(value.dtype).removeprefix("torch."), [int(n) for n in value.shape]
        if shape != list(spec.shape) or dtype != spec.dtype:
            raise UserError(f"input {name!r} is {dtype}{shape}: expected {_kind(spec)}")
        ordered.append(value)
    return ordered


def run_library(out: Path, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs the tuned library once.

    Parameters
    ----------
    inputs
        One array for each input that summary.json names, of its shape and dtype. Weights that the
        library takes as inputs may be left out: they are those that the run was measured with.

    Raises
    ------
    UserError
        OUT holds no finished run or not the library that the run wrote, or an input is missing,
        unknown, or of another shape or dtype.
    """
    summary = read_summary(out)
    check_manifest(out)
    specs = input_specs(summary)
    drawn: dict[str, Any] = {}

    def draw(name: str) -> Any:
        if not drawn:
            drawn.update(example_inputs(specs, seed=seed_of(summary)))
        return drawn[name]

    ordered = order_inputs(specs, inputs, draw)
    results = run_in_process(str(out / "model.so"), summary["device"], ordered)
    return dict(zip(names_of(summary, len(results)), results, strict=True))


def seed_of(summary: Mapping[str, Any]) -> int:
    """The seed of a run, which the weights that its library takes as inputs were drawn from."""
    seed = summary.get("seed")
    return seed if type(seed) is int and seed >= 0 else 0


def _kind(spec: InputSpec) -> str:
    return f"{spec.dtype}{list(spec.shape)}"


def bench_library(out: Path, repeat: int, seed: int, by_subgraph: bool = False) -> dict[str, Any]:
    """Times the tuned library on random inputs, whole-model runs.

    Returns
    -------
    dict
        ``median_us``, ``min_us``, ``p90_us``, ``repeats``, ``untuned_us`` as the run measured it,
        and ``subgraphs``, what `time_subgraphs` gives, None unless they are asked for.

    Raises
    ------
    UserError
        OUT holds no finished run, or not the library that the run wrote.
    """
    summary = read_summary(out)
    check_manifest(out)
    specs = input_specs(summary)
    made = example_inputs(specs, seed=seed)
    arrays = [made[spec.name] for spec in specs]
    paths = {"tuned": str(out / "model.so")}
    times = time_libraries(paths, summary["device"], arrays, repeat, float("inf"))["tuned"]
    times_us = [t * 1e6 for t in times]
    subgraphs = None
    if by_subgraph:
        # reads a run's records and families, which no other use of a library needs
        from familyseer.export.profile import time_subgraphs

        subgraphs = time_subgraphs(out, summary["device"], arrays, repeat)
    return {
        "median_us": statistics.median(times_us),
        "min_us": min(times_us),
        "p90_us": float(np.percentile(times_us, 90)),
        "repeats": len(times_us),
        "untuned_us": summary.get("untuned_us"),
        "subgraphs": subgraphs,
    }
