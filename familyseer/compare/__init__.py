"""Tuners side by side: the same model, target, seed and wall-clock budget for each."""

from familyseer.compare._compare import compare, run_tuner, time_libraries_of, untuned_library
from familyseer.compare._curves import Point, final_us, first_reaching, reach, read_curve
from familyseer.options import CompareOptions

__all__ = [
    "CompareOptions",
    "Point",
    "compare",
    "final_us",
    "first_reaching",
    "reach",
    "read_curve",
    "run_tuner",
    "time_libraries_of",
    "untuned_library",
]
