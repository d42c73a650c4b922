"""Tuning from Python: a model in, a `Result` out that can be called, looked at and kept.

Quiet by default: what a run has to say goes to the logger ``familyseer``, and nowhere before a
program asks for it. Importing this package imports neither TVM nor NumPy nor PyTorch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from familyseer._lazy import lazily

if TYPE_CHECKING:
    from familyseer.api._callbacks import Callback, StopAt, StopTuning, StopWhenFlat
    from familyseer.api._result import Result, load
    from familyseer.api._tune import tune

__all__ = ["Callback", "Result", "StopAt", "StopTuning", "StopWhenFlat", "load", "tune"]

__getattr__ = lazily(
    __name__,
    {
        "Callback": "._callbacks",
        "Result": "._result",
        "StopAt": "._callbacks",
        "StopTuning": "._callbacks",
        "StopWhenFlat": "._callbacks",
        "load": "._result",
        "tune": "._tune",
    },
)

# without a handler of its own, Python would print a library's warnings
logging.getLogger("familyseer").addHandler(logging.NullHandler())
