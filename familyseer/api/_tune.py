"""`familyseer.tune`: one call from a model to its tuned library."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.api import _arguments as arguments
from familyseer.api._arguments import PathName
from familyseer.api._result import Result
from familyseer.errors import RunError, UserError
from familyseer.models.loading import is_a
from familyseer.options import MAX_REL_ERROR, TuneOptions
from familyseer.progress import Observer

if TYPE_CHECKING:
    from familyseer.api._torch import Call
    from familyseer.models import LoadedModel


def tune(
    model: Any,
    example_inputs: Any = None,
    budget: str | float | None = None,
    *,
    target: Any = None,
    out: PathName | None = None,
    trials: int | None = None,
    families: str = "op",
    seed: int = 0,
    workers: int | None = None,
    precision: str = "float32",
    warm_start: PathName | Sequence[PathName] = (),
    callbacks: Sequence[Observer] = (),
    resume: bool = False,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    warm_start_any_target: bool = False,
    without: Sequence[str] = (),
    spamm: bool = False,
    max_rel_error: float = MAX_REL_ERROR,
    exact_math: bool = False,
    tracker: str | None = None,
    device_key: str | None = None,
) -> Result:
    """Tunes a model and gives the tuned one, with all that was learnt about it.

    Nothing is printed; the logger ``familyseer`` tells of the run at level ``INFO``. In the main
    thread Ctrl-C, as a notebook's stop button, ends the run as its budget would. A script needs no
    ``if __name__ == "__main__"``.

    Parameters
    ----------
    model
        The path of an ``.onnx`` or ``.pt2`` file, the name of a network of ``familyseer models``,
        an `onnx.ModelProto`, a `torch.nn.Module` (with `example_inputs`), a
        `torch.export.ExportedProgram`, or a Relax module whose only Relax function is ``main``.
    example_inputs
        What a `torch.nn.Module` is called with: a tensor, a tuple of its arguments, or a dict of
        its named ones. It is tuned for their shapes, in evaluation mode.
    budget
        Wall-clock time of the whole call, as ``"10m"`` or in seconds; by default ten minutes, or no
        limit if `trials` is given.
    target
        A `tvm.target.Target`, or what names one: ``"llvm"``, ``"cuda"``, a tag, JSON or a dict; by
        default this machine's CPU.
    out
        A folder for what the run leaves; by default a temporary one that goes with the result.
    trials
        The most candidates that are measured.
    families
        How families are formed: ``"op"``, ``"sequence"``, ``"graph"`` or ``"none"``.
    seed
        Makes the choices of the run repeatable, as far as measured times allow; 0 or more.
    workers
        Processes that build candidates; by default as many as suit this machine.
    precision
        ``"float32"``, or ``"float16"`` or ``"bfloat16"`` to convert a float32 model.
    warm_start
        A folder, or several, of earlier runs to start from.
    callbacks
        Told of the run; see `familyseer.Callback`. `familyseer.StopWhenFlat` is one, and
        ``familyseer.progress.PlainProgress(sys.stderr)`` shows the run.
    resume
        Go on from what an earlier run of the same model left in `out`.
    input_shapes
        Extents of inputs whose shape the model leaves open, by input name.
    warm_start_any_target
        Of a `warm_start` for another target, take the shared cost model instead of refusing it.
    without
        Parts of the search to switch off, see `familyseer.tactics.Tactics`.
    spamm
        Let layers with near-sparse weights skip blocks of their products (CPU targets).
    max_rel_error
        The most that `precision` and `spamm` together may change an output, relative to its largest
        magnitude.
    exact_math
        Compile exp, tanh, erf and the like as TVM does (CPU targets), mostly to calls of the C
        library, which are slow; otherwise to vector code that is within 8 units in the last place,
        see `familyseer.vectorisable`.
    tracker, device_key
        ``"HOST:PORT"`` of a TVM RPC tracker and the key of its devices that measure candidates.

    Returns
    -------
    Result
        The tuned model.

    Raises
    ------
    UserError
        The model, an argument or the folder cannot be used; one line that says what was expected.
    RunError
        The folder could not be written any more; what was measured is in it.
    """
    started_at = time.monotonic()
    temporary = out is None
    folder = Path(tempfile.mkdtemp(prefix="familyseer-run-") if out is None else out)
    try:
        options = TuneOptions(
            model=arguments.name_of(model, example_inputs),
            out=folder,
            target=arguments.target(target),
            budget_s=arguments.seconds(budget, trials),
            trials=arguments.whole_number("trials", trials, least=1),
            families=families,
            seed=arguments.whole_number("seed", seed, least=0) or 0,
            workers=arguments.whole_number("workers", workers, least=1),
            resume=resume,
            input_shapes=arguments.shapes(input_shapes),
            warm_start=arguments.paths(warm_start),
            warm_start_any_target=warm_start_any_target,
            tactics=arguments.tactics(without),
            precision=precision,
            spamm=spamm,
            max_rel_error=max_rel_error,
            exact_math=exact_math,
            tracker=tracker,
            device_key=device_key,
        )
        arguments.check(options)
        _run(options, model, example_inputs, callbacks, started_at)
        return Result(folder, temporary=temporary)
    except RunError as error:
        # its folder is kept, a temporary one too: what was measured can be gone on from
        raise RunError(arguments.in_python(str(error))) from error.__cause__
    except BaseException as error:
        if temporary:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, UserError):
            raise UserError(arguments.in_python(str(error))) from error.__cause__
        raise


def _run(
    options: TuneOptions,
    model: Any,
    example_inputs: Any,
    callbacks: Sequence[Observer],
    started_at: float,
) -> None:
    from familyseer.api._callbacks import Watchers
    from familyseer.api._native import register_missing_rules
    from familyseer.measure._workers import warm_up
    from familyseer.run import tune as run
    from familyseer.search import Clock

    # beside the import and the export of the model
    warm_up()
    if options.tracker is not None and options.device_key is not None:
        from familyseer.fleet import check_fleet

        # before the model is loaded, which may take long
        check_fleet(options.tracker, options.device_key)
    clock = Clock(options.budget_s, started_at)
    load, call = _loader(options, model, example_inputs)
    register_missing_rules()
    run(options, observer=Watchers(callbacks, clock), load=load, clock=clock)
    if call is not None:
        call.save(options.out)


def _loader(
    options: TuneOptions, model: Any, example_inputs: Any
) -> tuple[Callable[[], LoadedModel] | None, Call | None]:
    """What gives the model to the run, None if its name does; and how PyTorch calls it."""
    from familyseer.models import load_given

    if isinstance(model, (str, os.PathLike)):
        return None, None
    call = None
    if is_a(model, "torch.nn", "Module"):
        from familyseer.api._torch import export_module

        model = export_module(model, example_inputs)
    if is_a(model, "torch.export", "ExportedProgram"):
        from familyseer.api._torch import Call

        call = Call.of(model)

    def load() -> LoadedModel:
        return load_given(
            model,
            options.model,
            input_shapes=options.input_shapes or None,
            precision=options.precision,
        )

    return load, call
