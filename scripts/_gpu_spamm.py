"""SpAMM against cuBLAS at sizes where it should pay: every result checked against its bound."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from _gpu_record import Parts
from _spamm_cases import Case, matrices
from _spamm_gpu import Device
from spamm_sweep import _ROUNDING, summary

import spamm
from spamm._timing import in_turns

_REPEATS = 7
_SHORTEST_S = 2e-2


class Shape(NamedTuple):
    """Matrices that are multiplied at several valid ratios."""

    size: int
    dtype: str
    valid_ratios: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)
    decay: str = "exponential"


# what is said to pay first comes first
CASES = [Shape(size, dtype) for size in (8192, 16384) for dtype in ("float16", "tf32")]


def sweep(shapes: list[Shape], parts: Parts, device: Device) -> None:
    """Measures every case that `parts` does not hold yet.

    Raises
    ------
    RuntimeError
        A result is further from the dense product than its bound and rounding allow; what comes
        after it is measured first.
    """
    wrong = []
    parts.keep("compared_with", device.name)
    for shape in shapes:
        cases = [
            Case(shape.decay, shape.size, shape.dtype, ratio)
            for ratio in shape.valid_ratios
            if Case(shape.decay, shape.size, shape.dtype, ratio).key not in parts.found()
        ]
        if not cases:
            continue
        a, b = (device.put(x) for x in matrices(shape.decay, shape.size, shape.dtype))
        whole, out = (device.empty((shape.size, shape.size), a) for _ in range(2))
        for case in cases:
            found = measure(case, device, a, b, whole, out)
            parts.keep(case.key, found)
            print(case.key, found, flush=True)
            if not found["right"]:
                wrong.append(case.key)
    if wrong:
        raise RuntimeError(f"further off than the bound allows: {', '.join(wrong)}")


def measure(case: Case, device: Device, a: Any, b: Any, whole: Any, out: Any) -> dict[str, Any]:
    """All figures of one case, times in milliseconds.

    Parameters
    ----------
    a, b, whole, out
        On the device; the latter two are written.
    """
    tf32 = case.dtype == "tf32"
    how: dict[str, Any] = {"backend": "cuda", **({"precision": "tf32"} if tf32 else {})}
    plan: Any = spamm.plan(a, b, valid_ratio=case.valid_ratio, **how)
    again = {"block": plan.block, **how}
    runs: dict[str, Any] = {
        "dense": lambda: device.dense(a, b, whole, tf32),
        "plan": lambda: spamm.plan(a, b, tau=plan.tau, **again),
        "plan_by_ratio": lambda: spamm.plan(a, b, valid_ratio=case.valid_ratio, **again),
        "multiply": lambda: spamm.multiply(plan, a, b, out=out, **how),
    }
    runs["dense"]()
    runs["multiply"]()
    truth, got = device.get(whole), device.get(out)
    size = float(np.linalg.norm(truth))
    error, bound = float(np.linalg.norm(got - truth)) / size, plan.error_bound / size
    times = in_turns(runs, _REPEATS, finish=device.wait, shortest_s=_SHORTEST_S)
    return {
        **case._asdict(),
        "block": plan.block,
        "tau": plan.tau,
        "kept": plan.valid_ratio,
        "rel_error": error,
        "rel_error_bound": bound,
        "right": bool(error <= bound + _ROUNDING[case.dtype]),
        **summary(times),
    }
