"""The tuned library of a run, loaded into this process once and kept."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from familyseer.errors import UserError
from familyseer.export._jobs import flatten
from familyseer.export._manifest import LIBRARY, check_manifest
from familyseer.export.use import input_specs, names_of, order_inputs, seed_of
from familyseer.tvm_env import load_tvm


class Library:
    """Runs a tuned model. Calls from several threads are made one after the other.

    Parameters
    ----------
    out
        OUT of a finished run.
    summary
        Its summary, as `familyseer.export.use.read_summary` gives it.

    Attributes
    ----------
    module
        The `tvm.runtime.Module`.
    inputs
        The model's inputs in order; weights that it takes as inputs come last.

    Raises
    ------
    UserError
        The library is not what the run wrote, or is for a device that is not here.
    """

    def __init__(self, out: Path, summary: Mapping[str, Any]) -> None:
        check_manifest(out)
        self.tvm = load_tvm()
        self.inputs = input_specs(summary)
        self._summary = summary
        self.device = self.tvm.runtime.device(summary["device"], 0)
        if not self.device.exist:
            raise UserError(
                f"{out}: tuned for {summary['device']}, expected a machine that has such a device"
            )
        # a file of its own: of a path that this process has loaded before, the loader gives the
        # library of that time, and a run that goes on in `out` may write into the one loaded here
        with tempfile.TemporaryDirectory(prefix="familyseer-library-") as own:
            copy = Path(own) / LIBRARY
            shutil.copyfile(out / LIBRARY, copy)
            self.module = self.tvm.runtime.load_module(str(copy))
        self._vm = self.tvm.relax.VirtualMachine(self.module, self.device)
        self._main = self._vm["main"]
        self._lock = threading.Lock()
        self._weights: dict[str, Any] = {}

    def order(self, given: Mapping[str, Any]) -> list[Any]:
        """Tensors or arrays by name in the order of `inputs`, all of them as the model wants them.

        Weights that are missing are those that the run was measured with.

        Raises
        ------
        UserError
            An input is missing, unknown, or of another shape or type.
        """
        return order_inputs(self.inputs, given, self._draw)

    def named(self, given: Sequence[Any], also: Mapping[str, Any]) -> dict[str, Any]:
        """Positional and named arguments as inputs by name.

        Raises
        ------
        UserError
            There are more than inputs, or one is given twice.
        """
        names = [spec.name for spec in self.inputs]
        if len(given) > len(names):
            raise UserError(f"{len(given)} inputs are given: expected {', '.join(names) or 'none'}")
        found = dict(zip(names, given, strict=False))
        for name, value in also.items():
            if name in found:
                raise UserError(f"input {name!r} is given twice: expected each once")
            found[name] = value
        return found

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """Runs the model on TVM's tensors, as `order` has them, to its outputs, flattened."""
        with self._lock:
            results = self._main(*tensors)
            self.device.sync()
        return flatten(results)

    def from_numpy(self, array: Any) -> Any:
        """An array as a tensor on the library's device; one that is a tensor already stays it."""
        if isinstance(array, self.tvm.runtime.Tensor):
            return array
        return self.tvm.runtime.tensor(np.asarray(array), device=self.device)

    def output_names(self, count: int) -> list[str]:
        """Names of so many outputs."""
        return names_of(self._summary, count)

    def _draw(self, name: str) -> Any:
        if name not in self._weights:
            from familyseer.models import example_inputs

            made = example_inputs(self.inputs, seed=seed_of(self._summary))
            self._weights = {
                spec.name: self.from_numpy(made[spec.name])
                for spec in self.inputs
                if spec.weight is not None
            }
        return self._weights[name]
