"""Inputs to run a model with when nobody has given any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from familyseer.models.specs import InputSpec


def example_inputs(inputs: Sequence[InputSpec], seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Random arrays by input name, fit to run a model with and compare two builds of it.

    Floats are N(0, 1); integers that index something are spread over the axis that they index;
    other integers and booleans are 0 or 1, and all 1 in a mask: a row masked out altogether makes
    its softmax NaN. Every input has a generator of its own, so that its values do not depend on
    which inputs come before it.

    Args:
        inputs: shapes in elements.
        seed: 0 or more.
    """
    import numpy as np

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for position, spec in enumerate(inputs):
        rng = np.random.default_rng((seed, position))
        dtype = _numpy_dtype(spec.dtype)
        if dtype.kind in "iub":
            is_mask = spec.index_bound is None and "mask" in spec.name.lower()
            low, high = (1, 2) if is_mask else (0, _upper(spec, dtype))
            arrays[spec.name] = rng.integers(low, high, spec.shape).astype(dtype)
        else:
            arrays[spec.name] = rng.standard_normal(spec.shape).astype(dtype)
    return arrays


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
