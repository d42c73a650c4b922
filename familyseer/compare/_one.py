"""One run of a tuner that is not ours, in a process of its own: `python -m` with a JSON argument.

It leaves ``model.so``, ``history.csv`` and ``result.json`` in its folder, as a run of ours leaves
the first two.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

STARTED_AT = time.monotonic()


def run_one(spec: dict[str, Any], started_at: float) -> dict[str, Any]:
    """Tunes as `spec` says and writes the folder; the result is what ``result.json`` holds.

    Parameters
    ----------
    spec
        ``tuner``, ``model``, ``out``, ``budget_s``, ``seed``, ``target``, ``input_shapes``,
        ``model_seed``, ``precision``.
    """
    from familyseer.compare._ledger import Ledger
    from familyseer.export._compile import build_library
    from familyseer.models import load_model
    from familyseer.safe_json import save_json
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target
    from familyseer.tuners import STOCK, STOCK_WARM
    from familyseer.tvm_env import load_tvm

    load_tvm(intrinsics=True)
    out = Path(spec["out"])
    out.mkdir(parents=True, exist_ok=True)
    target = resolve_target(spec["target"])
    shapes = {name: tuple(dims) for name, dims in spec["input_shapes"].items()}
    model = load_model(
        spec["model"],
        input_shapes=shapes or None,
        seed=spec["model_seed"],
        precision=spec["precision"],
    )
    fused = fuse(model.mod, target)
    subgraphs = extract_subgraphs(fused, target)
    ledger = Ledger(subgraphs, out / "history.csv", started_at, float(spec["budget_s"]))
    if spec["tuner"] in (STOCK, STOCK_WARM):
        from familyseer.compare._stock import tune_stock

        warm = spec["tuner"] == STOCK_WARM
        tune_stock(fused, target, str(out / "stock"), ledger, spec["seed"], warm=warm)
    else:
        from familyseer.compare._random import tune_random

        tune_random(target, ledger, spec["seed"])
    elapsed_s = min(ledger.elapsed_s(), ledger.budget_s)
    build_library(
        with_schedules(fused, ledger.best_mod),
        target,
        out / "model.so",
        # all that differs from ours is then the search
        vector_math=spec["tuner"] != STOCK,
    )
    estimate = ledger.estimated_s()
    result = {
        "trials": ledger.trials,
        "failed": ledger.failed,
        "covered": len(ledger.best_s),
        "subgraphs": len(subgraphs),
        "elapsed_s": round(elapsed_s, 3),
        "estimated_us": None if estimate is None else estimate * 1e6,
        "gpus": ledger.gpus,
    }
    save_json(out / "result.json", result)
    return result


def with_schedules(fused: Any, best: dict[str, Any]) -> Any:
    """The fused module with scheduled bodies in place of those subgraphs that have one.

    Parameters
    ----------
    best
        Scheduled module by subgraph key.
    """
    from familyseer.subgraphs import subgraph_key
    from familyseer.tvm_env import load_tvm

    tvm = load_tvm()
    normalise = tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")
    updated = tvm.IRModule(dict(fused.functions), attrs=fused.attrs)
    for var, func in fused.functions.items():
        if not isinstance(func, tvm.tirx.PrimFunc):
            continue
        scheduled = best.get(subgraph_key(normalise(func)))
        if scheduled is not None:
            body = scheduled["main"]
            updated[var] = tvm.tirx.PrimFunc(
                body.params, body.body, body.ret_type, func.attrs
            ).with_attr("tirx.is_scheduled", True)
    return updated


if __name__ == "__main__":
    run_one(json.loads(sys.argv[1]), STARTED_AT)
