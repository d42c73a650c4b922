"""Checks schedules against their unscheduled subgraphs, in a worker, in a share of the time."""

from __future__ import annotations

import concurrent.futures
import math
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from familyseer.check._jobs import (
    NoReferenceError,
    arguments_of,
    check_schedule,
    make_reference,
    reference_bytes,
)
from familyseer.check._quarantine import quarantine
from familyseer.check._verdict import Verdict
from familyseer.measure import WorkerPool
from familyseer.measure._failures import WorkerDiedError, WorkerError, one_line
from familyseer.measure._jobs import hashable_args_info
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.tvm_env import load_tvm

# the share of tuning that checking may take, and what it may take at once at the start
SHARE = 0.03
ADVANCE_S = 1.0
# longest time for one reference and for one check
LIMIT_S = 30.0
# references kept on disk; a subgraph whose parameters alone are this large is not checked alone
MOST_BYTES = 2**30
# a worker holds its arrays, TVM's copies of them, and what comparing needs
_COPIES = 4
# inputs of a reproducer that is larger are left out: the seed makes them again
_MOST_CASE_BYTES = 2**26


class Checker:
    """Tells whether schedules compute what their subgraphs do.

    A subgraph's reference, its unscheduled TIR run on each kind of input, is made when it is first
    needed and kept in a temporary folder, the least used ones dropped when they grow too large.

    Parameters
    ----------
    target, device
        What is built for, and TVM's name of the device that runs it.
    pool
        Where kernels run. It should be the pool that times them, so that nothing is timed while
        something is checked.
    seed
        Of the inputs.
    quarantine
        Folder for the reproducers of wrong schedules, made when there is one; None writes none.
    now
        Seconds on a clock that only goes forward.

    Attributes
    ----------
    quarantined
        Of each wrong schedule ``subgraph`` (its name), ``reason``, and ``file``, its reproducer's
        path or None.
    spent_s
        Seconds spent on checking.
    """

    def __init__(
        self,
        target: Any,
        device: str,
        pool: WorkerPool,
        *,
        seed: int = 0,
        quarantine: Path | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.device = device
        self.pool = pool
        self.seed = seed
        self.quarantine = quarantine
        self.quarantined: list[dict[str, Any]] = []
        self.spent_s = 0.0
        self._now = now
        self._began = now()
        self._folder = Path(tempfile.mkdtemp(prefix="familyseer-check-"))
        self._references: OrderedDict[str, int] = OrderedDict()
        self._hopeless: dict[str, str] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}
        self._settled: set[str] = set()
        self._costs: dict[str, float] = {}

    def close(self) -> None:
        """Removes the references."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(
        self,
        subgraph: Subgraph,
        schedule: Any,
        artifact: str | None = None,
        time_left: Callable[[], float] = lambda: math.inf,
    ) -> Verdict:
        """Checks one schedule; one that was checked before is not run again.

        Parameters
        ----------
        schedule
            A schedule of the subgraph, or a trace of one.
        artifact
            Its library, if it is built already; it is built again where it takes its weights in
            another layout than the subgraph does.
        time_left
            Seconds until checking must stop.
        """
        began = self._now()
        try:
            schedule = _applied(subgraph, schedule)
            key = (subgraph.key, subgraph_key(schedule.mod))
        except Exception as error:  # whatever TVM throws at a trace that is not this subgraph's
            key = (subgraph.key, str(schedule))
            verdict = self._wrong(subgraph, schedule, None, f"cannot be applied: {_line(error)}")
        else:
            if key in self._verdicts:
                return self._verdicts[key]
            verdict = self._check(subgraph, schedule, artifact, time_left)
        cost = self._now() - began
        self.spent_s += cost
        if verdict.wrong:
            file = str(verdict.file) if verdict.file is not None else None
            self.quarantined.append(
                {"subgraph": subgraph.name, "reason": verdict.reason, "file": file}
            )
        if verdict.outcome != "unchecked":
            self._verdicts[key] = verdict
            self._costs[subgraph.key] = cost
        if verdict.right:
            self._settled.add(subgraph.key)
        return verdict

    def check_in_passing(
        self,
        subgraph: Subgraph,
        schedule: Any,
        artifact: str | None = None,
        time_left: Callable[[], float] = lambda: math.inf,
    ) -> Verdict:
        """As `check`, for a subgraph's new best schedule, if checking has time for it now.

        What there is no time for is told as unchecked, for whoever ships it to check.
        """
        self._settled.discard(subgraph.key)
        allowance = ADVANCE_S + SHARE * (self._now() - self._began) - self.spent_s
        if self._expected_s(subgraph.key) > allowance:
            return Verdict("unchecked", reason="checking has had its share of the time")
        # a reference that takes far longer than expected must not take the run's time with it
        until = self._now() + max(ADVANCE_S, 2 * allowance)
        return self.check(
            subgraph, schedule, artifact, lambda: min(until - self._now(), time_left())
        )

    def found_right(self) -> list[tuple[str, str]]:
        """Structural hashes of subgraphs, and of schedules of them that were found right."""
        return [key for key, verdict in self._verdicts.items() if verdict.right]

    def trust(self, found: Iterable[tuple[str, str]]) -> None:
        """Takes over what an earlier run in the same folder has `found_right`."""
        for key in found:
            self._verdicts.setdefault(key, Verdict("right"))

    def settled(self, subgraph: Subgraph) -> bool:
        """Whether the subgraph's latest best schedule was found right."""
        return subgraph.key in self._settled

    def expected_s(self, subgraphs: Collection[Subgraph]) -> float | None:
        """Seconds to check the best schedules of subgraphs; None before anything was checked."""
        if not self._costs:
            return None
        return sum(self._expected_s(s.key) for s in subgraphs if not self.settled(s))

    def _expected_s(self, key: str) -> float:
        if key in self._costs:
            return self._costs[key]
        return sum(self._costs.values()) / len(self._costs) if self._costs else 0.0

    def _check(
        self,
        subgraph: Subgraph,
        schedule: Any,
        artifact: str | None,
        time_left: Callable[[], float],
    ) -> Verdict:
        reason = self._refer(subgraph, time_left)
        if reason:
            return Verdict("unchecked", reason=reason)
        case = self._case(subgraph)
        mod = None if artifact is not None and _takes_own_weights(schedule.mod) else schedule.mod
        try:
            found = self._run(
                time_left,
                check_schedule,
                str(self._folder / subgraph.key),
                artifact if mod is None else None,
                mod,
                self.target,
                self.device,
                None if case is None else str(case),
            )
        except (OutOfTimeError, concurrent.futures.TimeoutError, TimeoutError):
            return Verdict("unchecked", reason="checking it took too long")
        except Exception as error:
            if isinstance(error, MemoryError) or (
                isinstance(error, WorkerError) and not isinstance(error, WorkerDiedError)
            ):
                return Verdict("unchecked", reason=f"checking it failed: {_line(error)}")
            # it crashed, or cannot be built, as the reference did not
            reason = f"failed where the subgraph did not: {_line(error)}"
            return self._wrong(subgraph, schedule.trace, case, reason)
        if not found["reason"]:
            return Verdict("right", found["error"])
        return self._wrong(
            subgraph, schedule.trace, case, found["reason"], found["error"], found["kind"]
        )

    def _refer(self, subgraph: Subgraph, time_left: Callable[[], float]) -> str:
        """Makes a subgraph's reference where there is none; gives why it cannot be made."""
        import psutil

        if subgraph.key in self._references:
            self._references.move_to_end(subgraph.key)
            return ""
        if subgraph.key in self._hopeless:
            return self._hopeless[subgraph.key]
        size = reference_bytes(arguments_of(subgraph.mod))
        if size > min(MOST_BYTES, psutil.virtual_memory().available / _COPIES):
            return "its inputs do not fit into memory several times"
        folder = self._folder / subgraph.key
        folder.mkdir()
        try:
            written = self._run(
                time_left,
                make_reference,
                subgraph.mod,
                self.target,
                self.device,
                str(folder),
                self.seed,
            )
        except (OutOfTimeError, concurrent.futures.TimeoutError, TimeoutError):
            shutil.rmtree(folder, ignore_errors=True)
            # what it took so far is the least that it takes
            self._costs[subgraph.key] = max(self._costs.get(subgraph.key, 0.0), ADVANCE_S) * 2
            return "the unscheduled subgraph took too long"
        except Exception as error:  # it crashed, or TVM cannot build it
            shutil.rmtree(folder, ignore_errors=True)
            why = str(error) if isinstance(error, NoReferenceError) else _line(error)
            self._hopeless[subgraph.key] = f"the unscheduled subgraph is no reference: {why}"
            return self._hopeless[subgraph.key]
        self._references[subgraph.key] = int(written)
        while sum(self._references.values()) > MOST_BYTES and len(self._references) > 1:
            oldest, _ = self._references.popitem(last=False)
            shutil.rmtree(self._folder / oldest, ignore_errors=True)
        return ""

    def _run(self, time_left: Callable[[], float], job: Callable[..., Any], *args: Any) -> Any:
        limit = min(LIMIT_S, time_left())
        if limit <= 0:
            raise OutOfTimeError
        return await_future(self.pool.submit(job, *args, timeout_s=limit), time_left)

    def _case(self, subgraph: Subgraph) -> Path | None:
        small = reference_bytes(arguments_of(subgraph.mod)) <= _MOST_CASE_BYTES
        return self._folder / "case.npz" if self.quarantine is not None and small else None

    def _wrong(
        self,
        subgraph: Subgraph,
        schedule: Any,
        case: Path | None,
        reason: str,
        error: float = math.inf,
        kind: str = "",
    ) -> Verdict:
        verdict = Verdict("wrong", error, kind, f"wrong result: {reason}")
        if self.quarantine is None:
            return verdict
        try:
            file = quarantine(
                self.quarantine, subgraph, schedule, self.target, self.seed, verdict, case
            )
        except OSError:  # a full disk must not make a wrong schedule right
            file = None
        return Verdict("wrong", error, kind, verdict.reason, file)


def _applied(subgraph: Subgraph, schedule: Any) -> Any:
    if hasattr(schedule, "mod"):
        return schedule
    applied = load_tvm(intrinsics=True).s_tir.Schedule(subgraph.mod)
    schedule.apply_to_schedule(applied, remove_postproc=False)
    return applied


def _takes_own_weights(mod: Any) -> bool:
    """Whether a built candidate takes the weights as the subgraph does.

    MetaSchedule's RewriteLayout puts a change of layout before the kernel, which is taken out again
    when a candidate is built for timing: that library then takes weights of another layout, and
    not always of another shape.
    """
    import tvm_ffi

    tvm = load_tvm()
    drop = tvm.s_tir.transform.RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)
    info = tvm.s_tir.meta_schedule.arg_info.ArgInfo.from_entry_func
    if hashable_args_info(info(mod, True)) != hashable_args_info(info(mod, False)):
        return False
    return bool(tvm_ffi.structural_equal(drop(mod), mod))


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return one_line(f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__)
