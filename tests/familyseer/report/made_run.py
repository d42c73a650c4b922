"""The folder of a run, written by hand: every file that a report reads."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

TRACE = [
    ["GetSBlock", [], ["conv2d_nchw", "main"], ["b0"]],
    ["GetLoops", ["b0"], [], ["l1", "l2"]],
    ["SamplePerfectTile", ["l1"], [2, 64], ["v3", "v4"]],
    ["Split", ["l1", "v3", "v4"], [True, False], ["l5", "l6"]],
    ["EnterPostproc", [], [], []],
    ["Parallel", ["l5"], [], []],
]
# (family, name, key, flops, share, shapes, seconds of its records; none for a failure)
SUBGRAPHS: list[tuple[str, str, str, float, float, Any, list[float | None]]] = [
    ("conv2d", "fused_conv2d_add_relu", "00000000000000a1", 4e8, 0.8,
     [[1, 64, 56, 56], [64, 64, 3, 3], [1, 64, 56, 56]], [0.02, None, 0.004]),
    ("conv2d", "fused_conv2d1_add1_relu1", "00000000000000a2", 1e8, 0.2,
     [[1, 64, 28, 28], [64, 64, 3, 3], [1, 64, 28, 28]], [0.005]),
    ("copy", "reshape", "00000000000000a3", 1.0, 0.0, [[1, 1000], [1, 1000]], []),
]  # fmt: skip


def summary() -> dict[str, Any]:
    """The contents of its summary.json."""
    return {
        "model": "tiny",
        "target": '{"kind":"llvm","mcpu":"skylake","num-cores":2}',
        "device": "cpu",
        "versions": {"python": "3.11.7", "familyseer": "0.1.0", "apache-tvm": "0.27.0"},
        "seed": 7,
        "budget_s": 120.0,
        "trial_limit": None,
        "elapsed_s": 100.0,
        "elapsed_before_s": 0.0,
        "trials": 4,
        "build_errors": 1,
        "run_errors": 0,
        "subgraphs": 3,
        "covered": 2,
        "untuned_us": 30000.0,
        "tuned_us": 10000.0,
        "max_rel_error": 5.4e-7,
        "max_rel_error_onnxruntime": None,
        "onnxruntime": "not installed",
        "fell_back": {"reshape": "no candidate was measured in time"},
        "quarantined": [
            {"subgraph": "reshape", "reason": "wrong result: off", "file": "/x/quarantine/r.py"}
        ],
        "unchecked": ["fused_conv2d1_add1_relu1"],
        "stopped_by": "budget",
        "without": [],
        "warm_start": [],
        "fleet": None,
        "gpus": None,
        "precision": None,
        "phases_s": {"loading": 10.0, "search": 20.0, "build": 40.0, "train": 5.0},
        "inputs": [{"name": "x", "shape": [1, 64, 56, 56], "dtype": "float32"}],
    }


def families() -> dict[str, Any]:
    """The contents of its families.json."""
    found: dict[str, Any] = {}
    for index, (family, name, key, flops, share, shapes, _) in enumerate(SUBGRAPHS):
        one = found.setdefault(family, {"name": family, "reason": f"All {family}.", "share": 0.0})
        one["share"] += share
        one.setdefault("subgraphs", []).append(
            {
                "index": index,
                "key": key,
                "name": name,
                "weight": 2,
                "flops": flops,
                "share": share,
                "operations": ["conv2d"],
                "shapes": shapes,
                "dtypes": ["float32"] * len(shapes),
            }
        )
    return {
        "format": "familyseer-families",
        "version": 1,
        "method": "op",
        "families": list(found.values()),
    }


def history(last_us: float = 9000.0) -> str:
    """The contents of its history.csv."""
    rows = [
        "elapsed_s,trials,subgraph,family,best_us,estimated_model_us",
        "20.0,1,fused_conv2d_add_relu,conv2d,20000.0,",
        "30.0,2,fused_conv2d1_add1_relu1,conv2d,5000.0,50000.0",
        f"60.0,4,fused_conv2d_add_relu,conv2d,4000.0,{last_us}",
    ]
    return "\r\n".join(rows) + "\r\n"


def machine(peak_flops: float | None = 2e11) -> dict[str, Any]:
    """The contents of its tuning/machine.json."""
    return {
        "format": "familyseer-machine",
        "version": 1,
        "cpu": "A Processor",
        "system": "Linux x86_64",
        "cores": 2,
        "memory_bytes": 8 << 30,
        "peak_flops": peak_flops,
        "peak_bytes_s": None if peak_flops is None else 2e10,
    }


def failures() -> list[dict[str, Any]]:
    """The lines of its tuning/failures.jsonl."""
    name = "fused_conv2d_add_relu"
    reasons = ["took longer than its time limit of 0.7 s", "took longer than its time limit of 2 s"]
    return [
        {"subgraph": name, "trial": i, "phase": "build", "reason": reason, "trace": None}
        for i, reason in enumerate([*reasons, "exit code 1"])
    ]


def make_run(out: Path) -> Path:
    """Writes the folder and gives it back."""
    tuning = out / "tuning"
    tuning.mkdir(parents=True)
    write(out / "summary.json", summary())
    write(out / "families.json", families())
    (out / "history.csv").write_text(history(), newline="")
    write(tuning / "machine.json", machine())
    write(tuning / "run.json", {"model": "tiny", "elapsed_s": 100.0, "trials": 4})
    (tuning / "accuracy.csv").write_text(
        "elapsed_s,trials,family,accuracy\r\n40.0,3,conv2d,0.61\r\n60.0,4,conv2d,0.82\r\n"
    )
    lines(tuning / "failures.jsonl", failures())
    lines(tuning / "decisions.jsonl", [{"run": {"records": 0}}, {"run": {"records": 2}}])
    module = base64.b64encode(b"no module").decode()
    workloads = [[str(int(key, 16)), module + "A" * 4 * i] for i, key in enumerate(keys())]
    lines(tuning / "database_workload.json", workloads)
    records = [
        [owner, [[TRACE, [[2, [8, 4]]]], [seconds] if seconds else None, None, None]]
        for owner, one in enumerate(SUBGRAPHS)
        for seconds in one[-1]
    ]
    lines(tuning / "database_tuning_record.json", records)
    return out


def keys() -> list[str]:
    """Of the subgraphs, in order."""
    return [one[2] for one in SUBGRAPHS]


def write(path: Path, value: Any) -> None:
    """Writes a value as JSON."""
    path.write_text(json.dumps(value))


def lines(path: Path, values: list[Any]) -> None:
    """Writes values as JSON, a line each."""
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
