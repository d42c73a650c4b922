"""Tuners side by side: the same model, target, seed and wall-clock budget for each."""

from familyseer.compare._compare import compare

__all__ = ["compare"]
