"""Inputs to run a model with when nobody has given any."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError
from familyseer.machine import memory_bytes

if TYPE_CHECKING:
    import numpy as np

    from familyseer.models.specs import InputSpec

# inputs that take less need no look at what is free
_SMALL_BYTES = 1 << 28
# a tuning run of gpt2 held this many: its own with the inputs of two more checks, what is on its
# way to the process that runs libraries, and that process's arrays and tensors
_RUN_COPIES = 6


def example_inputs(inputs: Sequence[InputSpec], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random arrays by input name, fit to run a model with and compare two builds of it.

    Floats are N(0, 1), weights normal with the moments that they name; integers that index
    something are spread over the axis that they index; other integers and booleans are 0 or 1, and
    all 1 in a mask: a row masked out altogether makes its softmax NaN. Every input has a generator
    of its own, so that its values do not depend on which inputs come before it.

    Args:
        inputs: shapes in elements.
        seed: 0 or more.

    Raises:
        UserError: they need more memory than there is.
    """
    import numpy as np

    _check_memory(inputs)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for position, spec in enumerate(inputs):
        rng = np.random.default_rng((seed, position))
        dtype = _numpy_dtype(spec.dtype)
        if dtype.kind in "iub":
            is_mask = spec.index_bound is None and "mask" in spec.name.lower()
            low, high = (1, 2) if is_mask else (0, _upper(spec, dtype))
            arrays[spec.name] = rng.integers(low, high, spec.shape).astype(dtype)
        else:
            values = rng.standard_normal(spec.shape)
            if spec.weight is not None:
                mean, deviation = spec.weight
                values *= deviation
                values += mean
            arrays[spec.name] = values.astype(dtype)
    return arrays


def _check_memory(inputs: Sequence[InputSpec]) -> None:
    import psutil

    needed = sum(math.prod(spec.shape) * _numpy_dtype(spec.dtype).itemsize for spec in inputs)
    if needed < _SMALL_BYTES:
        return
    count = sum(spec.weight is not None for spec in inputs)
    copies = _RUN_COPIES if count else 1
    available = min(int(psutil.virtual_memory().available), memory_bytes())
    if copies * needed > available:
        what = f"the model's inputs and its {count} weights" if count else "the model's inputs"
        times = f", of which a run holds about {copies} copies" if count else ""
        raise UserError(
            f"{what} take {needed / 1e9:.1f} GB of memory{times}; expected "
            f"{copies * needed / 1e9:.1f} GB to be free, found {available / 1e9:.1f} GB"
        )


def _upper(spec: InputSpec, dtype: np.dtype[Any]) -> int:
    import numpy as np

    if spec.index_bound is None or dtype.kind == "b":
        return 2
    return min(spec.index_bound, int(np.iinfo(dtype).max))


def _numpy_dtype(name: str) -> np.dtype[Any]:
    import numpy as np

    try:
        return np.dtype(name)
    except TypeError:
        # bfloat16 and the small floats, which NumPy itself does not have
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))
