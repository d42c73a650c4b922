"""What a run came to: the tuned model to call, and all that was learnt on the way."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError
from familyseer.export.use import read_summary
from familyseer.units import format_count, format_latency, format_ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from familyseer.api._library import Library

# not the files of a run, but what the system made of them
_NOT_SAVED = shutil.ignore_patterns(".*", "__pycache__")


class Result:
    """A finished run; `familyseer.tune` and `familyseer.load` give one.

    It may be used from several threads; the model runs for one of them at a time. The library is
    loaded at first use and stays in memory as long as the result.

    Attributes
    ----------
    folder
        OUT, the run's folder: the library, the records, the report. Without ``out=`` it is a
        temporary one that goes with the result; `save` copies it.
    summary
        What ``summary.json`` holds.
    """

    def __init__(self, folder: Path, *, temporary: bool = False) -> None:
        self.folder = folder
        self.summary: dict[str, Any] = read_summary(folder)
        self._loading = threading.Lock()
        self._loaded: Library | None = None
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def __repr__(self) -> str:
        words = [format_latency(self.summary.get("tuned_us"))]
        if self.speedup is not None:
            words.append(f"{format_ratio(self.speedup)} as fast as untuned")
        words.append(format_count(int(self.summary.get("trials") or 0), "trial"))
        return f"<familyseer.Result {self.summary.get('model')}: {', '.join(words)}>"

    @property
    def _library(self) -> Library:
        with self._loading:
            if self._loaded is None:
                from familyseer.api._library import Library

                self._loaded = Library(self.folder, self.summary)
            return self._loaded

    @property
    def module(self) -> Any:
        """The tuned library, a `tvm.runtime.Module` for `tvm.relax.VirtualMachine`.

        Raises
        ------
        UserError
            The library is not the one that the run wrote, or is for a device that is not here.
        """
        return self._library.module

    def run(self, /, *arrays: Any, **named: Any) -> dict[str, NDArray[Any]]:
        """Runs the model on NumPy arrays.

        Parameters
        ----------
        arrays
            In the order of the model's inputs (``summary["inputs"]``), or one mapping from names to
            arrays.
        named
            The rest by name. Weights that the model takes as inputs, as the huge networks of
            `familyseer models` do, may be left out.

        Returns
        -------
        dict
            An array an output, by its name, in the model's order.

        Raises
        ------
        UserError
            An input is missing, unknown, or of another shape or element type; or as `module`.
        """
        library = self._library
        first = arrays[0] if len(arrays) == 1 else None
        if isinstance(first, Mapping):
            given = library.named((), {**first, **named})
        else:
            given = library.named(arrays, named)
        ordered = library.order(given)
        outputs = library.run([library.from_numpy(one) for one in ordered])
        names = library.output_names(len(outputs))
        return {name: one.numpy() for name, one in zip(names, outputs, strict=True)}

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Runs the model on PyTorch's tensors, without copying them where that can be helped.

        A model that came as a `torch.nn.Module` or a `torch.export.ExportedProgram` is called as
        the module is and gives what it gives, nested alike. Another model takes tensors in the
        order of its inputs or by name, and gives a tensor, or a tuple of several. Results carry no
        gradients.

        A tensor is copied if it is not contiguous, does not begin at a multiple of 64 bytes, or is
        on another device than the library; results are not copied.

        Raises
        ------
        UserError
            PyTorch is missing, an argument is missing, unknown, no tensor, or of another shape or
            element type; or as `module`.
        """
        if importlib.util.find_spec("torch") is None:
            raise UserError(
                "calling a result takes PyTorch: expected the extra familyseer[torch], or NumPy "
                "arrays and run"
            )
        from familyseer.api._torch import plain, run_torch

        library, call = self._library, self._call
        if call is None:
            return plain(run_torch(library, library.named(args, kwargs)))
        return call.results(run_torch(library, library.named(call.tensors(args, kwargs), {})))

    @cached_property
    def _call(self) -> Any:
        from familyseer.api._torch import Call

        return Call.load(self.folder)

    @property
    def latency(self) -> float | None:
        """Seconds of one run of the tuned model, measured end to end; None if it was not."""
        return _seconds(self.summary.get("tuned_us"))

    @property
    def untuned_latency(self) -> float | None:
        """Seconds of one run of the model as TVM compiles it untuned; None if not measured."""
        return _seconds(self.summary.get("untuned_us"))

    @property
    def speedup(self) -> float | None:
        """`untuned_latency` over `latency`, both measured in turns; None if one was not."""
        value = self.summary.get("speedup")
        return value if isinstance(value, float) else None

    @cached_property
    def families(self) -> list[dict[str, Any]]:
        """The families as ``families.json`` has them: name, reason, share, subgraphs.

        Raises
        ------
        UserError
            The file is missing or damaged.
        """
        from familyseer.families import validate_families
        from familyseer.safe_json import load_json

        path = self.folder / "families.json"
        try:
            document = load_json(path, what="the families of a tuning run")
            return list(validate_families(document)["families"])
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None

    @property
    def history(self) -> Any:
        """The measured rounds: a `pandas.DataFrame` if pandas is installed, else a list of dicts.

        Columns: ``elapsed_s``, ``trials``, ``subgraph``, ``family``, ``best_us`` (of the subgraph),
        ``estimated_model_us`` (of the whole model); the last two are None or NaN while unknown.
        """
        from familyseer.report._rounds import read_rounds
        from familyseer.run import HISTORY_COLUMNS

        rows = [
            dict(zip(HISTORY_COLUMNS, vars(row).values(), strict=True))
            for row in read_rounds(self.folder / "history.csv")[0]
        ]
        if importlib.util.find_spec("pandas") is None:
            return rows
        pandas = importlib.import_module("pandas")
        return pandas.DataFrame(rows, columns=list(HISTORY_COLUMNS))

    def plot_latency(self) -> Figure:
        """Estimated latency over time, against the untuned model, as a matplotlib figure.

        Raises
        ------
        UserError
            The run has no data for the plot; so for every other plot.
        """
        return self._plot("latency")

    def plot_time(self) -> Figure:
        """Where the time of the run went, by phase."""
        return self._plot("time")

    def plot_accuracy(self) -> Figure:
        """How well each family's cost model ranked candidates, over time."""
        return self._plot("accuracy")

    def plot_roofline(self) -> Figure:
        """Each subgraph's best schedule below the machine's measured peaks."""
        return self._plot("roofline")

    def plot_families(self) -> Figure:
        """The families and their subgraphs by their share of the model's operations."""
        from familyseer.api._plots import draw_families

        return draw_families(self.families)

    def _plot(self, key: str) -> Figure:
        from familyseer.api._plots import draw_run

        return draw_run(self.folder, key)

    def export(self, path: str | os.PathLike[str]) -> Path:
        """Writes the tuned library as one file, which plain TVM loads without familyseer.

        Parameters
        ----------
        path
            A file name that ends in ``.so``; a file of that name is replaced.

        Raises
        ------
        UserError
            The name ends otherwise, or the file cannot be written; or as `module`.
        """
        from familyseer.atomic import replacing
        from familyseer.export._manifest import LIBRARY, check_manifest

        target = Path(path)
        if target.suffix != ".so":
            raise UserError(f"{target}: expected a file name that ends in .so")
        check_manifest(self.folder)
        try:
            with replacing(target, mode=0o755) as draft:
                shutil.copyfile(self.folder / LIBRARY, draft)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error.strerror})") from None
        return target

    def export_kernels(self, folder: str | os.PathLike[str]) -> dict[str, Any]:
        """Writes the tuned kernels as a library that needs no TVM, as ``familyseer export`` does.

        Returns
        -------
        dict
            What its ``manifest.json`` holds.

        Raises
        ------
        UserError
            `folder` holds something else or cannot be written, or a compiler is missing.
        """
        from familyseer.export.kernels import export_kernels

        return export_kernels(self.folder, Path(folder))

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Copies the run's folder, for `familyseer.load` and every command that takes OUT.

        Parameters
        ----------
        folder
            New, or empty.

        Raises
        ------
        UserError
            It holds something, or cannot be written.
        """
        target = Path(folder)
        try:
            if target.exists() and (not target.is_dir() or any(target.iterdir())):
                raise UserError(f"{target}: is there already; expected a new or an empty folder")
            shutil.copytree(self.folder, target, ignore=_NOT_SAVED, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            reason = getattr(error, "strerror", None) or "some files could not be copied"
            raise UserError(f"{target}: cannot be written ({reason}); expected a folder") from None
        return target


def load(folder: str | os.PathLike[str]) -> Result:
    """A run that `familyseer.tune`, ``familyseer tune`` or `Result.save` left in a folder.

    Raises
    ------
    UserError
        There is no finished run in it.
    """
    return Result(Path(folder))


def _seconds(microseconds: Any) -> float | None:
    return None if microseconds is None else float(microseconds) * 1e-6
