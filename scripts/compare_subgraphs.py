"""Where two runs differ: the best schedules of each subgraph, timed in turns.

    python scripts/compare_subgraphs.py OUT STOCK/stock

OUT is a folder of ours; the second folder holds MetaSchedule's JSON database of the same model, as
`familyseer compare` and `compare_budgets.py --keep` leave it. Each kernel is timed on the same data
again and again, and with as much touched in between as the model touches; in the model it lies
between the two. What it writes: ``benchmarks/results/NAME.json``.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import click
from _results import save
from _tuned_run import read_run

from familyseer.export._compile import best_records
from familyseer.measure._jobs import build_candidate, hashable_args_info, run_candidate
from familyseer.measure._timing import RunPlan, working_set_bytes
from familyseer.records import RecordBook
from familyseer.records._files import RECORDS, WORKLOADS
from familyseer.subgraphs import Subgraph, extract_subgraphs
from familyseer.tvm_env import load_tvm

OURS, THEIRS = "ours", "theirs"


def library_of(subgraph: Subgraph, record: Any, target: Any, folder: Path) -> str:
    """Path of a subgraph's library under a record's schedule."""
    schedule = load_tvm(intrinsics=True).s_tir.Schedule(subgraph.mod)
    record.trace.apply_to_schedule(schedule, remove_postproc=False)
    folder.mkdir()
    built: Any = build_candidate(schedule.mod, target, str(folder))
    return str(built.path)


def time_both(
    subgraph: Subgraph, paths: dict[str, str], device: str, touched_bytes: int, turns: int
) -> dict[str, float]:
    """Median microseconds of each library, on warm data and on cold."""
    arg_info = load_tvm(intrinsics=True).s_tir.meta_schedule.arg_info.ArgInfo
    infos = hashable_args_info(arg_info.from_entry_func(subgraph.mod, remove_preproc=True))
    plans = {"warm": RunPlan(), "cold": RunPlan(working_set_bytes=touched_bytes)}
    times: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, path in paths.items():
            for kind, plan in plans.items():
                times.setdefault(f"{name}_{kind}_us", []).extend(
                    s * 1e6 for s in run_candidate(path, device, infos, plan)
                )
    return {name: statistics.median(found) for name, found in times.items()}


@click.command()
@click.argument("out", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("database", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--turns", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("--name", help="Name of the result file.  [default: subgraphs-MODEL]")
def main(out: Path, database: Path, turns: int, name: str | None) -> None:
    """Time the best schedules of OUT and of DATABASE for each subgraph that both have."""
    json_database = load_tvm(intrinsics=True).s_tir.meta_schedule.database.JSONDatabase
    run = read_run(out)
    subgraphs = extract_subgraphs(run.fused, run.target)
    theirs = json_database(str(database / WORKLOADS), str(database / RECORDS))
    best = {
        OURS: best_records(RecordBook(out / "tuning"), subgraphs),
        THEIRS: best_records(theirs, subgraphs),
    }
    touched_bytes = working_set_bytes(subgraphs)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for subgraph in subgraphs:
            if not all(subgraph.index in records for records in best.values()):
                continue
            paths = {
                who: library_of(
                    subgraph,
                    records[subgraph.index][0],
                    run.target,
                    Path(folder) / f"{who}-{subgraph.index}",
                )
                for who, records in best.items()
            }
            found = time_both(subgraph, paths, run.device, touched_bytes, turns)
            rows.append({"subgraph": subgraph.name, "weight": subgraph.weight, **found})
            shown = "  ".join(f"{key} {us:8.1f}" for key, us in found.items())
            click.echo(f"{subgraph.name:>32} x{subgraph.weight}  {shown}")
    path = save(name or f"subgraphs-{run.name}", {"model": run.name, "subgraphs": rows})
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
