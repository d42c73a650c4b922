"""Small files of every kind that a run and the laboratory leave, written by the code itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from costmodels._resources import COLUMNS
from costmodels.features import FEATURE_LENGTH, Batch
from costmodels.learner import Learner
from costmodels.store import save_learner
from familyseer.decisions._log import DecisionLog, Told
from familyseer.export._manifest import write_manifest
from familyseer.families import families_json, form_families
from familyseer.laboratory.tables import NetworkTable, Recorded, save_table
from familyseer.options import TuneOptions
from familyseer.records import FailureLog, RecordBook
from familyseer.run._header import write_header
from familyseer.run._history import History
from familyseer.safe_json import save_json
from familyseer.search._decisions import TILE, Slot
from familyseer.subgraphs import Subgraph, subgraph_key
from familyseer.target import resolve_target
from familyseer.tvm_env import load_tvm


def make_learner() -> Learner:
    """Two families, one with a booster of its own, and some candidates compiled for a GPU."""
    rng = np.random.default_rng(0)
    learner = Learner({"ab" * 8: "conv2d", "cd" * 8: "matmul"})
    for key, count in (("ab" * 8, 40), ("cd" * 8, 5)):
        rows = rng.standard_normal((count, FEATURE_LENGTH)).astype(np.float32)
        batch = Batch(rows, rows[:, -1].astype(float), np.ones(count, dtype=np.bool_))
        learner.learn(key, batch, np.exp2(rows[:, 0].astype(float)))
    learner.resources.learn(rows, rows[:, :COLUMNS])
    return learner


def make_table() -> NetworkTable:
    """One subgraph of a few candidates."""
    rng, count = np.random.default_rng(0), 6
    one = Recorded(
        key="ab" * 8,
        name="dense",
        weight=2,
        flops=1e6,
        families={"op": "dense"},
        sketches=((Slot(TILE, "SamplePerfectTile", 0, 2, 64, 16),),),
        rows=rng.standard_normal((count, FEATURE_LENGTH)).astype(np.float32),
        seconds=rng.uniform(1e-4, 1e-3, count),
        build_s=np.ones(count),
        sketch=np.zeros(count, dtype=np.int64),
        decisions=np.full((count, 2), 8, dtype=np.int32),
        drawn=np.ones(count, dtype=np.bool_),
    )
    return NetworkTable("small", {"cpu": "imagined"}, [one])


def make_files(folder: Path) -> None:
    """What a run and the laboratory write, small."""
    tvm, target = load_tvm(intrinsics=True), resolve_target(None)
    ms = tvm.s_tir.meta_schedule
    book = RecordBook(folder / "tuning")
    subgraphs: list[Subgraph] = []
    log = FailureLog(folder / "tuning" / "failures.jsonl")
    for rows in (8, 16):
        mod = _make_add(tvm, rows)
        subgraphs.append(Subgraph(len(subgraphs), subgraph_key(mod), f"add_{rows}", mod, 1, 8.0))
        workload = book.commit_workload(mod)
        for factor in (1, 2, 4):
            schedule = tvm.s_tir.Schedule(mod)
            loop = schedule.get_loops(schedule.get_sblock("B"))[0]
            tiles = schedule.sample_perfect_tile(loop, 2, decision=[rows // factor, factor])
            schedule.vectorize(schedule.split(loop, tiles)[1])
            args = ms.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
            record = ms.database.TuningRecord(schedule.trace, workload, [0.5, 0.7], target, args)
            book.commit_tuning_record(record)
            trace = record.as_json()[0]
            log.add(subgraph="add", trial=factor, phase="run", reason="died", trace=trace)
    book.sync()
    log.sync()
    _make_journal(folder)
    spec = {"name": "x", "shape": [8, 8], "dtype": "float32", "index_bound": None}
    summary = {"device": "cpu", "inputs": [spec], "outputs": [spec], "target": str(target)}
    save_json(folder / "summary.json", summary)
    save_json(
        folder / "tuning" / "run.json", {"model": "add", "digest": "ab", "target": str(target)}
    )
    (folder / "model.so").write_bytes(b"\x7fELF")
    families = form_families(subgraphs, "op")
    save_json(folder / "families.json", families_json(families, subgraphs, "op"))
    write_manifest(folder, target=target, versions={"a": "1"}, model_digest="ab")
    save_learner(str(folder / "costmodels"), make_learner(), "0.27.0")
    save_table(make_table(), folder / "small.table.xz")


def _make_journal(folder: Path) -> None:
    """What a run of one round decided, and its history."""
    history = History(folder / "history.csv")
    history.append((1.5, 3, "add_8", "add", 2.5, 2.5))
    used = SimpleNamespace(unfinished_trials=0)
    run_folder = SimpleNamespace(history=history, resumed=False, used=used)
    decisions = DecisionLog(folder / "tuning")
    decisions.begin(write_header(TuneOptions(model="mlp", out=folder, trials=3), run_folder, 0))
    told = Told("add_8", 3, (0, 1, 2), (None, "run", None), (0.1, 0.2, 0.3), (0.5, 0.25))
    decisions.round([told], "nle", [1.0, 2.0, 3.0])
    decisions.end("trials", "s", [0.0])
    decisions.close()


def _make_add(tvm: Any, rows: int) -> Any:
    a = tvm.te.placeholder((rows, 8), name="A")
    b = tvm.te.compute((rows, 8), lambda i, j: a[i, j] + 1.0, name="B")
    func = tvm.te.create_prim_func([a, b]).with_attr("global_symbol", "main")
    return tvm.IRModule({"main": func})
