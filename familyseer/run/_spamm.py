"""SpAMM in a model: layers whose products skip blocks, as far as the model's error allows."""

from __future__ import annotations

import filecmp
import logging
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from familyseer.export import _jobs
from familyseer.export._compile import build_library
from familyseer.export._verify import compare_outputs
from familyseer.measure import WorkerPool
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.models import LoadedModel, example_inputs
from familyseer.options import TuneOptions
from familyseer.run import _spamm_jobs
from familyseer.run._finish import time_for_end
from familyseer.run._reference import Reference
from familyseer.run._spamm_file import Chosen, operators_of, read_choice, write_choice
from familyseer.search import Clock
from familyseer.subgraphs import fuse

log = logging.getLogger(__name__)

# the most of a budget that finding and measuring layers may take
SHARE = 0.25
_LONG_S = 600.0
# of that, what is kept for the model with the layers that were measured by then
_SETTLING = 0.3
# what other inputs than those measured may add to the error
_MARGIN = 0.8
# a layer must be faster than every dense one by more than times are noisy
_FASTER = 0.9
_REPEATS = 15
_MODEL_REPEATS = 9
_LAYER_S = 2.0
# tries at finer taus where inputs that had no part in the choice are off by too much
_RETRIES = 3
# seeds of further inputs, after those of the reference: for the choice, and to test it
_SEEDS, _HELD_OUT = (2,), (3, 4)


@dataclass
class Outcome:
    """What came of it.

    Attributes
    ----------
    mod
        The model with its layers replaced; None where nothing changes.
    report
        For ``summary.json``: ``layers`` (those replaced), ``products`` and ``near_sparse`` (how
        many were looked at), ``max_rel_error`` (of the model against the dense one), ``allowed``,
        ``note`` (why nothing changed, empty where something did).
    """

    mod: Any
    report: dict[str, Any]
    _dense: list[tuple[list[Any], list[Any]]] = field(default_factory=list)

    def judge(self, end: Any, library: Path, reference: Reference, pool: Any, clock: Clock) -> None:
        """Measures the finished library against the dense model; `end` gets the errors.

        A library that is off by more than allowed gives way to the untuned dense one.
        """
        if self.mod is None:
            return
        if not filecmp.cmp(library, reference.path, shallow=False):
            try:
                off, relative = self._errors(library, pool, clock)
            except OutOfTimeError:
                return
            if relative <= self.report["allowed"]:
                end.max_abs_error, end.max_rel_error = off, relative
                self.report["max_rel_error"] = relative
                return
            log.warning("the tuned library with SpAMM is off by %.3g of the dense one", relative)
            shutil.copy(reference.path, library)
        end.tuned_s, end.max_abs_error, end.max_rel_error = end.untuned_s, 0.0, 0.0
        self.report.update(layers=[], max_rel_error=0.0, note="the untuned dense library is used")

    def _errors(self, library: Path, pool: Any, clock: Clock) -> tuple[float, float]:
        worst = 0.0, 0.0
        time_left = time_for_end(clock)
        for inputs, outputs in self._dense:
            running = pool.submit(_jobs.run_library, str(library), "cpu", inputs)
            got = await_future(running, time_left)
            off, relative, _ = compare_outputs(got, outputs)
            worst = max(worst[0], off), max(worst[1], relative)
        return worst


def use_spamm(
    options: TuneOptions,
    model: LoadedModel,
    target: Any,
    reference: Reference,
    pool: Any,
    clock: Clock,
    precision: dict[str, Any] | None,
) -> Outcome:
    """Replaces layers whose constant weight is near-sparse, where that is faster.

    What a replaced layer skips is chosen so that the model's outputs, measured against the dense
    untuned library on example inputs, are off by at most ``options.max_rel_error``, less what
    `precision` has used of it. A layer is replaced only if it is measured faster than its untuned
    dense kernel and than NumPy's BLAS, and nothing changes unless the model as a whole is faster.

    `reference` then holds what the model with its new layers gives, for tuning to be checked by;
    its library stays the dense one. The choice is kept in ``OUT/spamm.json``, which a resumed run
    takes up.
    """
    used = (precision or {}).get("max_rel_error") or 0.0
    report: dict[str, Any] = {
        "layers": [],
        "products": 0,
        "near_sparse": 0,
        "max_rel_error": None,
        "allowed": max(0.0, options.max_rel_error - used),
        "note": "",
    }
    outcome = _outcome(_Stage(options, model, target, reference, pool, clock, report))
    write_choice(options.out, report["layers"])
    return outcome


def _outcome(stage: _Stage) -> Outcome:
    try:
        if str(stage.target.kind.name) != "llvm":
            return stage.unchanged("SpAMM in models is for CPU targets so far")
        if stage.reference.outputs is None:
            return stage.unchanged("there was no time to measure errors")
        return stage.run()
    except OutOfTimeError:
        stage.report["layers"] = []
        return stage.unchanged("the time for it ran out")
    finally:
        stage.close()


class _Stage:
    """The search for layers and taus in one run."""

    def __init__(
        self,
        options: TuneOptions,
        model: LoadedModel,
        target: Any,
        reference: Reference,
        pool: Any,
        clock: Clock,
        report: dict[str, Any],
    ) -> None:
        self.options, self.model, self.target = options, model, target
        self.reference, self.pool, self.clock = reference, pool, clock
        self.report = report
        self.allowed = float(report["allowed"])
        budget_s = min(clock.budget_s if clock.budget_s is not None else math.inf, _LONG_S / SHARE)
        self.share_s = SHARE * budget_s
        self.until = time.monotonic() + self.share_s
        self._built = 0
        self._dense_s: dict[Any, float] = {}
        self._errors: dict[tuple[float, ...], float] = {}
        self._stack = ExitStack()
        folder = tempfile.TemporaryDirectory(prefix="familyseer-spamm-")
        self.folder = Path(self._stack.enter_context(folder))

    def close(self) -> None:
        """Removes its libraries and ends its worker processes."""
        self._stack.close()

    def run(self) -> Outcome:
        from familyseer.run._spamm_choice import choose_taus, near_sparse
        from ops.spamm_rewrite import find_layers

        layers = find_layers(self.model.mod)
        self.layers = {layer.index: layer for layer in layers}
        self.report["products"] = len(layers)
        if self.options.resume and (earlier := read_choice(self.options.out)):
            return self._settle(earlier, {}, None)
        candidates = near_sparse(layers, self.target, self.allowed)
        self.report["near_sparse"] = len(candidates)
        if not candidates:
            return self.unchanged("no layer has a near-sparse weight")
        probe, norms, xs = self._probe(candidates)
        self.dense = self._dense_outputs(probe, _SEEDS)
        taus = choose_taus(
            candidates,
            norms,
            partial(self._error_at, probe),
            _MARGIN * self.allowed,
            self._left_s,
        )
        if taus is None:
            return self.unchanged("no layer can skip blocks within the error that is allowed")
        chosen, told = [], {}
        self.fresh = self._stack.enter_context(closing(WorkerPool(1)))
        # those that take longest first, as the time may not do for all
        for candidate in sorted(candidates, key=lambda c: -c.layer.problem.flops):
            if self._left_s() < _SETTLING * self.share_s:
                break
            index = candidate.layer.index
            one = Chosen(index, candidate.block, taus[index])
            ratio = candidate.packed.valid_ratio(norms[index], one.tau)
            times = self._times(one, xs[index])
            log.info("SpAMM for %s: valid ratio %.3f, %s", candidate.layer.name, ratio, times)
            if times["spamm"] <= _FASTER * min(times["dense"], times["blas"]):
                chosen.append(one)
                told[index] = {
                    "valid_ratio": round(ratio, 4),
                    "spamm_us": times["spamm"] * 1e6,
                    "dense_us": times["dense"] * 1e6,
                    "blas_us": times["blas"] * 1e6,
                }
        if not chosen:
            return self.unchanged("no layer that was measured is faster for what it may skip")
        return self._settle(sorted(chosen, key=lambda one: one.index), told, probe)

    def _left_s(self) -> float:
        return min(self.until - time.monotonic(), self.clock.tuning_left_s())

    def _submit(self, function: Any, *arguments: Any) -> Any:
        return await_future(self.pool.submit(function, *arguments), self._left_s)

    def unchanged(self, note: str) -> Outcome:
        """The model as it was, and why."""
        self.report["note"] = note
        return Outcome(None, self.report)

    def _build(self, mod: Any) -> str:
        self._built += 1
        path = self.folder / f"{self._built}.so"
        if self._left_s() <= 0:
            raise OutOfTimeError
        build_library(fuse(mod, self.target), self.target, path)
        return str(path)

    def _dense_outputs(
        self, probe: str | None, seeds: Sequence[int]
    ) -> list[tuple[list[Any], list[Any]]]:
        """Inputs and what the dense model gives: the reference's and those of further seeds.

        For further seeds a probe that skips nothing but zeros stands for the dense library, which
        may take seconds; the search begins by comparing the two.
        """
        reference = self.reference
        assert reference.outputs is not None
        found = [(reference.inputs, reference.outputs)]
        found += [(edge.inputs, edge.outputs) for edge in reference.edges]
        count = len(reference.outputs)
        for seed in seeds if probe is not None else ():
            made = example_inputs(self.model.inputs, seed=self.options.seed + seed)
            inputs = [made[spec.name] for spec in self.model.inputs]
            zeros = [0.0] * len(self.order)
            found.append((inputs, self._submit(_spamm_jobs.run_probe, probe, inputs, zeros, count)))
        return found

    def _probe(self, candidates: Sequence[Any]) -> tuple[str, dict[int, Any], dict[int, Any]]:
        """A library that takes taus; the norms of each layer's activations, and these."""
        from ops.spamm_operator import Operator
        from ops.spamm_rewrite import probe_layers

        self.order = sorted(c.layer.index for c in candidates)
        operators: dict[int, Any] = {}
        made: dict[int, Any] = {}
        for c in candidates:
            name = f"spamm{c.layer.index}_probe"
            first = made.setdefault(id(c.packed), Operator(name, c.layer.problem, c.packed, 0.0))
            operators[c.layer.index] = first.with_tau(name, 0.0)
        looking = self._build(probe_layers(self.model.mod, operators, inputs=True))
        zeros = [0.0] * len(self.order)
        results = self._submit(_spamm_jobs.run_probe, looking, self.reference.inputs, zeros)
        count = len(self.order)
        norms, xs = results[-2 * count : -count], results[-count:]
        return (
            looking,
            dict(zip(self.order, norms, strict=True)),
            dict(zip(self.order, xs, strict=True)),
        )

    def _error_at(self, probe: str, taus: dict[int, float]) -> float:
        values = tuple(taus[index] for index in self.order)
        if values not in self._errors:
            self._errors[values] = self._measured_error(probe, list(values))
        return self._errors[values]

    def _measured_error(self, probe: str, values: list[float]) -> float:
        worst = 0.0
        for inputs, outputs in self.dense:
            got = self._submit(_spamm_jobs.run_probe, probe, inputs, values, len(outputs))
            worst = max(worst, compare_outputs(got, outputs)[1])
            if worst > self.allowed:
                break
        return worst

    def _times(self, one: Chosen, x: Any) -> dict[str, float]:
        """Least seconds of one layer: dense and untuned, by SpAMM, by NumPy's BLAS."""
        from ops.spamm_rewrite import layer_module

        layer = self.layers[one.index]
        problem = layer.problem
        operator = operators_of(self.layers, [one], self.target)[one.index]
        paths = {"spamm": self._build(layer_module(layer, operator))}
        if problem not in self._dense_s:
            paths["dense"] = self._build(layer_module(layer, None))
        left, right = (problem.m, problem.k), (problem.k, problem.n)
        factors = (left, (problem.batch, *right)) if problem.left else (left, right)
        seconds = min(_LAYER_S, 0.1 * max(self._left_s(), 0.0))
        timing = self.fresh.submit(_spamm_jobs.time_product, *factors, _REPEATS, seconds)
        blas = await_future(timing, self._left_s)
        times: dict[str, float] = self._submit(_spamm_jobs.time_layer, paths, x, _REPEATS, seconds)
        times["blas"] = blas
        # layers of the same shapes have the same dense kernel
        times["dense"] = self._dense_s.setdefault(problem, times.get("dense", math.inf))
        return times

    def _settle(
        self, chosen: list[Chosen], told: dict[int, dict[str, Any]], probe: str | None
    ) -> Outcome:
        """Takes a choice if the whole model, with taus made finer if need be, keeps the error."""
        from ops.spamm_rewrite import replace_layers

        dense = self._dense_outputs(probe, (*_SEEDS, *_HELD_OUT))
        for _ in range(_RETRIES):
            operators = operators_of(self.layers, chosen, self.target)
            mod = replace_layers(self.model.mod, operators)
            path = self._build(mod)
            got = [self._submit(_jobs.run_library, path, "cpu", inputs) for inputs, _ in dense]
            errors = [compare_outputs(a, b)[1] for a, (_, b) in zip(got, dense, strict=True)]
            if max(errors) <= self.allowed:
                break
            chosen = [replace(one, tau=one.tau / 4) for one in chosen]
        else:
            return self.unchanged("other inputs than the first ones need finer taus than these")
        dense_s, spamm_s = self._time_model(path)
        self.report.update(untuned_dense_us=dense_s * 1e6, untuned_spamm_us=spamm_s * 1e6)
        if not spamm_s < dense_s:
            return self.unchanged("the model as a whole does not become faster")
        self.report["max_rel_error"] = max(errors)
        self.report["layers"] = [
            self._told(one, operators[one.index], told.get(one.index, {})) for one in chosen
        ]
        self._refer_to(got)
        return Outcome(mod, self.report, dense)

    def _time_model(self, path: str) -> tuple[float, float]:
        inputs, known = self.reference.inputs, self.reference.seconds or math.inf
        paths = {"spamm": path}
        seconds = max(0.1, 0.25 * self._left_s())
        arguments = "cpu", inputs, _MODEL_REPEATS, seconds
        found = min(self._submit(_jobs.time_libraries, paths, *arguments)["spamm"])
        if found < 0.5 * known:
            return known, found
        paths["dense"] = str(self.reference.path)
        times = self._submit(_jobs.time_libraries, paths, *arguments)
        return min(times["dense"]), min(times["spamm"])

    def _told(self, one: Chosen, operator: Any, measured: dict[str, Any]) -> dict[str, Any]:
        layer = self.layers[one.index]
        problem = layer.problem
        return {
            "index": one.index,
            "name": layer.name,
            "op": layer.op,
            "shape": [problem.batch, problem.m, problem.k, problem.n],
            "block": list(one.block),
            "tau": one.tau,
            "stored_ratio": round(operator.weight.stored / operator.weight.norms.size, 4),
            **measured,
        }

    def _refer_to(self, got: list[list[Any]]) -> None:
        """What tuning is checked by from here on."""
        reference = self.reference
        edges = len(reference.edges)
        reference.outputs = got[0]
        reference.edges = [
            replace(edge, outputs=outputs)
            for edge, outputs in zip(reference.edges, got[1 : 1 + edges], strict=True)
        ]
        reference.onnxruntime = "some layers are SpAMM's, whose error is measured by itself"
