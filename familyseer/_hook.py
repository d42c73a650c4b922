"""The TVM hook: `ms.relax_integration.tune_relax`, tuned by families under a budget."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.tvm_env import load_tvm

if TYPE_CHECKING:
    import tvm

_NO_LIMIT = 1 << 30


def tune_relax(
    mod: Any,
    params: Mapping[str, Any] | None,
    target: Any,
    work_dir: str,
    max_trials_global: int | None = None,
    max_trials_per_task: int | None = None,
    op_names: list[str] | None = None,
    *,
    budget_s: float | None = None,
    families: str = "op",
    warm_start: Sequence[str | os.PathLike[str]] = (),
    check: bool = True,
    num_trials_per_iter: int = 8,
    builder: Any = "warm",
    runner: Any = "warm",
    database: Any = "json",
    cost_model: Any = "family",
    measure_callbacks: Any = "default",
    task_scheduler: Any = "family",
    space: Any = "auto",
    strategy: Any = "evolutionary",
    seed: int | None = None,
    module_equality: str = "structural",
    vector_math: bool = False,
) -> Any:
    """Tunes a Relax module whose functions are lowered to TIR and fused.

    The arguments that `tvm.s_tir.meta_schedule.relax_integration.tune_relax` has mean what they
    mean there; anything it accepts for one of them is accepted here.

    Parameters
    ----------
    max_trials_global
        May be left out when `budget_s` is given.
    budget_s
        Wall-clock seconds for tuning.
    families
        How families are formed, one of `familyseer.families.METHODS`.
    warm_start
        Folders of runs of `familyseer.tune` or ``familyseer tune`` for the same target: what they
        know of these subgraphs, and of others like them, is tried first.
    check
        Compare each candidate that would be the best with its untuned subgraph; a wrong one counts
        as failed and is kept in ``work_dir/quarantine``. Takes the scheduler ``"family"``.
    builder, runner, cost_model, task_scheduler
        ``"warm"``, ``"warm"``, ``"family"`` and ``"family"`` are this project's; the names and
        objects that MetaSchedule knows work too.
    vector_math
        Whether ``"warm"`` builds candidates for processors with exp and the like computed in
        vectors, for those who then compile `familyseer.vectorisable` of the module.
    space
        ``"auto"`` is MetaSchedule's own, ``"post-order-apply"``, but for CUDA, where it is
        `ops.cuda_space.design_space`.

    Returns
    -------
    tvm.s_tir.meta_schedule.database.Database
        The records, also in `work_dir`, where `relax.transform.MetaScheduleApplyDatabase` reads
        them.

    Raises
    ------
    ValueError
        Neither a budget nor a number of trials is given, or `warm_start` is given to another
        scheduler than this project's.
    UserError
        A folder of `warm_start` is none of a run for this target.
    """
    if budget_s is None and max_trials_global is None:
        raise ValueError("neither budget_s nor max_trials_global is given: expected at least one")
    if warm_start and (task_scheduler, cost_model) != ("family", "family"):
        raise ValueError("warm_start is given: expected task_scheduler and cost_model 'family'")
    from familyseer.measure import GpuRunner, WarmBuilder, WarmRunner
    from familyseer.measure._measure import device_type
    from familyseer.search import Clock, FamilyTaskScheduler
    from familyseer.search._proposals import space_for

    clock = Clock(budget_s)
    tvm = load_tvm(intrinsics=True)
    with ExitStack() as stack:
        if builder == "warm":
            builder = WarmBuilder(vector_math=vector_math)
            stack.callback(builder.close)
        if runner == "warm":
            kind = device_type(tvm.target.Target(target))
            runner = GpuRunner() if kind == "cuda" else WarmRunner()
            stack.callback(runner.close)
        if cost_model == "family":
            from costmodels import FamilyCostModel

            cost_model = FamilyCostModel(seed=seed or 0)
        if task_scheduler == "family":
            task_scheduler = FamilyTaskScheduler(
                families=families,
                clock=clock,
                warm_start=_warm_start(warm_start, work_dir, tvm.target.Target(target)),
                checker=_checker(target, work_dir, runner, seed or 0, stack) if check else None,
                parts=[part for part in (builder, runner, cost_model) if hasattr(part, "same_as")],
            )
        if space == "auto":
            space = space_for(tvm.target.Target(target))
        return tvm.s_tir.meta_schedule.relax_integration.tune_relax(
            mod,
            dict(params or {}),
            target,
            work_dir,
            _NO_LIMIT if max_trials_global is None else max_trials_global,
            max_trials_per_task,
            op_names,
            num_trials_per_iter=num_trials_per_iter,
            builder=builder,
            runner=runner,
            database=database,
            cost_model=cost_model,
            measure_callbacks=measure_callbacks,
            task_scheduler=task_scheduler,
            space=space,
            strategy=strategy,
            seed=seed,
            module_equality=module_equality,
        )


def _warm_start(folders: Sequence[str | os.PathLike[str]], work_dir: str, target: Any) -> Any:
    if not folders:
        return None
    from familyseer.api._arguments import in_python
    from familyseer.errors import UserError
    from familyseer.run._warm_start import WarmStart

    try:
        return WarmStart([Path(one) for one in folders], Path(work_dir), target).prepare
    except UserError as error:
        error.args = (in_python(str(error)),)
        raise


def _checker(target: Any, work_dir: str, runner: Any, seed: int, stack: ExitStack) -> Any:
    from familyseer.check import Checker
    from familyseer.measure import WarmRunner
    from familyseer.measure._measure import device_type

    chosen = load_tvm().target.Target(target)
    if not isinstance(runner, WarmRunner):
        runner = WarmRunner()
        stack.callback(runner.close)
    checker = Checker(
        chosen,
        device_type(chosen),
        runner.pool,
        seed=seed,
        quarantine=Path(work_dir) / "quarantine",
    )
    stack.callback(checker.close)
    return checker


def tuning_pipeline(
    target: Any,
    work_dir: str = "tuning_logs",
    *,
    budget_s: float | None = None,
    total_trials: int | None = None,
    exact_math: bool = False,
    **tuning: Any,
) -> tvm.transform.Pass:
    """The Relax pipeline ``relax.get_pipeline("familyseer", target=..., budget_s=...)``.

    It legalises and fuses a static-shape module, tunes it, and applies the best schedules found.

    Parameters
    ----------
    target
        A target, or anything that names one.
    work_dir
        Where records are kept; a later run with the same folder starts from them.
    budget_s, total_trials
        Wall-clock seconds and candidates for tuning; 0 trials only applies what `work_dir` has.
    exact_math
        Leave exp, tanh, erf and the like as they are, which TVM compiles to calls of the C library
        on processors; otherwise they are made arithmetic, see `familyseer.vectorisable`.
    tuning
        Further arguments of `tune_relax`.
    """
    tvm = load_tvm(intrinsics=True)
    from familyseer.subgraphs import fuse
    from familyseer.vector_math import vectorisable

    @tvm.transform.module_pass(opt_level=0)
    def run(mod: Any, _context: Any) -> Any:
        chosen = tvm.target.Target(target)
        fused = fuse(mod, chosen)
        if total_trials != 0:
            tune_relax(
                fused,
                {},
                chosen,
                work_dir,
                total_trials,
                budget_s=budget_s,
                vector_math=not exact_math,
                **tuning,
            )
        with chosen:
            applied = tvm.relax.transform.MetaScheduleApplyDatabase(work_dir)(fused)
        return applied if exact_math else vectorisable(applied, chosen)

    return run
