"""How much a family's own model is to be believed beside the shared one.

The shared model has seen every family and leads while a family is young; the family's own takes
over as it earns it. What it earns is judged on candidates before they are measured: for each weight
of a small grid, how many pairs the mixture would have ordered rightly. This is prediction with
expert advice (Cesa-Bianchi and Lugosi, 2006) with the experts on a line.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from costmodels.metrics import DecayingAccuracy

Array = npt.NDArray[np.float64]

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
# what is believed before anything is judged, in candidates: the shared model is a little ahead
_DOUBT = 24.0
_AHEAD = 0.03


class Fusion:
    """The weight of one family's own model, in [0, 1]; the shared model has the rest.

    Parameters
    ----------
    judged
        Accuracy of each weight of `GRID`, by default not judged yet.
    """

    def __init__(self, judged: Sequence[DecayingAccuracy] | None = None) -> None:
        self.judged = list(judged or (DecayingAccuracy() for _ in GRID))

    @property
    def weight(self) -> float:
        """The weight that has predicted best, drawn to the shared model while little is known."""
        level = max((j.value or 0.0 for j in self.judged), default=0.0) or 0.5
        values = []
        for weight, judged in zip(GRID, self.judged, strict=True):
            believed = level - _AHEAD * weight
            values.append((judged.right + _DOUBT * believed) / (judged.total + _DOUBT))
        return GRID[int(np.argmax(values))]

    def judge(self, shared: Array, own: Array, seconds: Array) -> None:
        """Books what each weight would have predicted for measured candidates of one subgraph.

        Parameters
        ----------
        shared, own
            Shape (n,), both models' predictions made before the measurement.
        seconds
            Shape (n,), infinite for a failure.
        """
        for weight, judged in zip(GRID, self.judged, strict=True):
            judged.add(mix(shared, own, weight), seconds)


def mix(shared: Array, own: Array, weight: float) -> Array:
    """The mixture of two models' predictions, both square roots of labels."""
    return (1.0 - weight) * shared + weight * own
