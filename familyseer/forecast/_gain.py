"""What tuning can bring at most, and what it is likely to bring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from familyseer.report._roofline import Roof, bytes_of_arguments

# Of the speed that the roofline allows, tuned libraries of SqueezeNet, perceptrons and pruned
# networks reached 0.31 to 0.65 on an idle machine with two cores and a few minutes.
_REACHED = (0.2, 0.7)


@dataclass(frozen=True)
class Gain:
    """Latencies of the model in microseconds.

    Attributes
    ----------
    roofline_us
        The sum over its subgraphs of the least time that the machine's peaks allow; data that
        stays in caches may beat it. None where the peaks or a subgraph's shapes are not known.
    low_us, high_us
        Between these the tuned library is likely to be, no slower than the untuned one; None
        where the roofline is not known.
    """

    roofline_us: float | None = None
    low_us: float | None = None
    high_us: float | None = None


def roofline_us(members: Sequence[Mapping[str, Any]], roof: Roof | None) -> float | None:
    """The time of subgraphs one after the other at a machine's peaks (see `Gain`).

    Parameters
    ----------
    members
        As ``families.json`` describes them.
    """
    if roof is None:
        return None
    total_s = 0.0
    for member in members:
        moved = bytes_of_arguments(member)
        if moved is None:
            return None
        least_s = max(member["flops"] / roof.flops_s, moved / roof.bytes_s)
        total_s += member["weight"] * least_s
    return total_s * 1e6


def likely_gain(bound_us: float | None, *reached_us: float | None) -> Gain:
    """The likely latency after tuning.

    Parameters
    ----------
    bound_us
        The model's `roofline_us`.
    reached_us
        Latencies that the model has had on this machine, untuned or tuned; None where unknown.

    Returns
    -------
    Gain
        No slower than what was reached. Without any figure where the bound is not known, or where
        something was faster than it: then the machine was busy when its peaks were measured.
    """
    best_us = min((one for one in reached_us if one is not None), default=math.inf)
    if not bound_us or best_us < bound_us:
        return Gain()
    least, most = _REACHED
    return Gain(bound_us, min(bound_us / most, best_us), min(bound_us / least, best_us))
