"""The comparison: every tuner in a fresh process, one after the other, in rounds."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from familyseer.compare._curves import Point, final_us, plot_curves, reach, read_curve
from familyseer.errors import RunError, UserError
from familyseer.options import CompareOptions
from familyseer.tuners import OURS, STOCK, WITHOUT, is_ours

TIMING_REPEATS = 50
TIMING_S = 20.0


def compare(options: CompareOptions) -> dict[str, Any]:
    """Runs the tuners and compares what they found.

    Returns
    -------
    dict
        Also written to ``OUT/compare.json``: ``runs`` (a run's tuner, round, seed, trials,
        elapsed_s, covered and subgraphs, estimated_us, gpus, and tuned_us, untuned_us and speedup
        of its library, all libraries of a round measured end to end in turns), ``reach`` (see
        `familyseer.compare._curves.reach`) and ``plot``. ``gpus`` is how many measured candidates,
        None for other targets.

    Raises
    ------
    UserError
        The model or the target cannot be used, or OUT holds a comparison already.
    RunError
        A tuner failed.
    """
    if (options.out / "compare.json").exists():
        raise UserError(f"{options.out}: holds a comparison already; expected an empty folder")
    options.out.mkdir(parents=True, exist_ok=True)
    untuned = untuned_library(options)
    runs: list[dict[str, Any]] = []
    for number in range(options.rounds):
        # the order turns with the rounds: a machine that slows down meets all alike
        turn = number % len(options.tuners)
        order = options.tuners[turn:] + options.tuners[:turn]
        made = [run_tuner(options, tuner, number) for tuner in order]
        time_libraries_of(made, untuned)
        runs += made
    curves = {run["folder"]: read_curve(Path(run["folder"]) / "history.csv") for run in runs}
    for run in runs:
        run["estimated_us"] = final_us(curves[run["folder"]])
    plot = options.out / "latency.png"
    by_tuner: dict[str, list[tuple[str, list[Point]]]] = {name: [] for name in options.tuners}
    for run in runs:
        by_tuner[run["tuner"]].append((run["folder"], curves[run["folder"]]))
    plot_curves(by_tuner, f"{options.model}, {options.budget_s:g} s each", plot)
    result = {
        "model": options.model,
        "budget_s": options.budget_s,
        "runs": runs,
        "reach": reach(runs, curves),
        "plot": str(plot),
    }
    (options.out / "compare.json").write_text(json.dumps(result, indent=2) + "\n")
    return result


def untuned_library(options: CompareOptions) -> dict[str, Any]:
    """The untuned library and the inputs that all libraries are timed on."""
    from familyseer.export._compile import build_library
    from familyseer.measure._measure import device_type
    from familyseer.models import example_inputs, load_asked
    from familyseer.subgraphs import fuse
    from familyseer.target import resolve_target

    target = resolve_target(options.target)
    model = load_asked(options)
    path = options.out / "untuned.so"
    build_library(fuse(model.mod, target), target, path)
    made = example_inputs(model.inputs, seed=options.seed)
    return {
        "path": str(path),
        "device": device_type(target),
        "inputs": [made[spec.name] for spec in model.inputs],
    }


def run_tuner(options: CompareOptions, tuner: str, number: int) -> dict[str, Any]:
    """One run of a tuner in a fresh process, in a folder of its own below ``options.out``.

    Raises
    ------
    RunError
        The process failed; its output is in a log beside the folder.
    """
    folder = (options.out / f"{tuner}-{number}").resolve()
    seed = options.seed + number
    command = [sys.executable, "-m"]
    if is_ours(tuner):
        command += ["familyseer.cli", "tune", options.model, "-o", str(folder), "--json"]
        command += ["--budget", f"{options.budget_s}s", "--seed", str(seed)]
        command += ["--target", options.target] if options.target else []
        command += ["--precision", options.precision]
        command += ["--without", tuner.removeprefix(WITHOUT)] if tuner != OURS else []
        for name, shape in options.input_shapes.items():
            command += ["--input-shape", f"{name}={','.join(map(str, shape))}"]
    else:
        spec = {
            "tuner": tuner,
            "model": options.model,
            "precision": options.precision,
            "out": str(folder),
            "budget_s": options.budget_s,
            "seed": seed,
            "model_seed": seed,
            "target": options.target,
            "input_shapes": options.input_shapes,
        }
        command += ["familyseer.compare._one", json.dumps(spec)]
    print(f"{tuner}, round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    with open(options.out / f"{tuner}-{number}.log", "w") as log:
        ended = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, check=False, env=environment(options)
        )
    if ended.returncode:
        log_file = options.out / f"{tuner}-{number}.log"
        raise RunError(f"tuner {tuner}: failed with exit code {ended.returncode}; see {log_file}")
    name = "summary.json" if is_ours(tuner) else "result.json"
    found = json.loads((folder / name).read_text())
    kept = {key: found[key] for key in ("trials", "elapsed_s", "covered", "subgraphs")}
    first_pass = found["covered"] == found["subgraphs"]
    return {
        "tuner": tuner,
        "round": number,
        "seed": seed,
        "folder": str(folder),
        "first_pass_finished": first_pass,
        "gpus": _gpus(found),
        **kept,
    }


def environment(options: CompareOptions) -> dict[str, str]:
    """The environment of every run: this one, with no more GPUs shown than each may use."""
    from familyseer.measure._gpus import VISIBLE, visible_names

    most = 1 if options.gpus is None and STOCK in options.tuners else options.gpus
    if most is None:
        return dict(os.environ)
    return {**os.environ, VISIBLE: ",".join(visible_names(os.environ)[:most])}


def _gpus(found: dict[str, Any]) -> int | None:
    """How many GPUs measured in a run, by its summary or its result; None where none could."""
    from familyseer.measure._gpus import count_used

    gpus = found.get("gpus")
    return count_used(gpus) if isinstance(gpus, list) else gpus


def time_libraries_of(runs: list[dict[str, Any]], untuned: dict[str, Any]) -> None:
    """Times libraries end to end in turns, in a process of their own, and books it in `runs`."""
    from familyseer.export._jobs import time_libraries
    from familyseer.measure import WorkerPool

    paths = {run["folder"]: str(Path(run["folder"]) / "model.so") for run in runs}
    with WorkerPool(1) as pool:
        times = pool.submit(
            time_libraries,
            {**paths, "untuned": untuned["path"]},
            untuned["device"],
            untuned["inputs"],
            TIMING_REPEATS,
            TIMING_S,
        ).result()
    untuned_us = statistics.median(times["untuned"]) * 1e6
    for run in runs:
        run["tuned_us"] = statistics.median(times[run["folder"]]) * 1e6
        run["untuned_us"] = untuned_us
        run["speedup"] = untuned_us / run["tuned_us"]
