"""How a run bears size: many subgraphs, a large database.

    python scripts/load.py --subgraphs 500 --records 200000

A synthetic network of so many unlike dense layers is cut and formed into families, a database of so
many records is made for it (real traces of its design spaces, drawn times), opened and resumed, and
some rounds are planned and carried out on an emulated machine. The same is done at a quarter and at
half the size, so that the growth of each figure shows: `growth` is how many times more the full
size takes than the quarter, where 4 is linear. Seconds are of the processor. Writes
``benchmarks/results/load.json``.
"""

from __future__ import annotations

import itertools
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import click
import numpy as np
from _results import save

SCALES = (0.25, 0.5, 1.0)
TRACES_EACH = 4
ROUNDS = 40
NARROW, LEAST_WIDE = 16, 32


def synthetic_model(subgraphs: int) -> Any:
    """An ONNX chain of dense layers with ReLU, no two of the same extents."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    widths = [NARROW if i % 2 == 0 else LEAST_WIDE + i // 2 for i in range(subgraphs + 1)]
    nodes, weights, last = [], [], "x"
    for i, (k, m) in enumerate(itertools.pairwise(widths)):
        weight = (rng.standard_normal((k, m)) / np.sqrt(k)).astype("float32")
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"d{i}"]))
        nodes.append(helper.make_node("Relu", [f"d{i}"], [f"r{i}"]))
        last = f"r{i}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, widths[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [8, widths[-1]])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = min(made.ir_version, 9)
    onnx.checker.check_model(made)
    return made


class Watch:
    """Processor seconds of each step, and the most memory so far."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self._since = time.process_time()

    def lap(self, name: str, divisor: float = 1.0) -> None:
        """Books the time since the last lap."""
        now = time.process_time()
        self.figures[f"{name}_s"] = (now - self._since) / divisor
        peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.figures[f"{name}_peak_mib"] = peak_kib / 1024
        self._since = time.process_time()


def make_records(subgraphs: list[Any], target: Any, folder: Path, records: int) -> None:
    """A database whose traces are the design spaces' own and whose times are drawn."""
    from familyseer.records._book import plain
    from familyseer.search._proposals import new_context
    from familyseer.tvm_env import load_tvm

    ms = load_tvm(intrinsics=True).s_tir.meta_schedule
    chance = random.Random(0)
    folder.mkdir(parents=True)
    with (folder / "database_workload.json").open("w") as workloads:
        for subgraph in subgraphs:
            workload = ms.database.Workload(subgraph.mod)
            workloads.write(json.dumps(plain(workload.as_json())) + "\n")
    with (folder / "database_tuning_record.json").open("w") as file:
        for index, subgraph in enumerate(subgraphs):
            context = new_context(subgraph, target, index, 1)
            spaces = list(context.generate_design_space())
            workload = ms.database.Workload(subgraph.mod)
            args = ms.arg_info.ArgInfo.from_entry_func(subgraph.mod, True)
            drawn = []
            for turn in range(TRACES_EACH):
                trace = spaces[turn % len(spaces)].trace
                record = ms.database.TuningRecord(trace, workload, [1.0], target, args)
                drawn.append(plain(record.as_json()))
            for _ in range(records // len(subgraphs)):
                line = list(chance.choice(drawn))
                line[1] = [chance.lognormvariate(-9.0, 1.0)]
                file.write(json.dumps([index, line]) + "\n")


def measure_one(subgraphs_wanted: int, records_wanted: int, folder: Path) -> dict[str, float]:
    """Every figure at one size, in this process."""
    import onnx

    from familyseer.families import form_families
    from familyseer.laboratory.clock import ReplayClock
    from familyseer.laboratory.workers import ReplayBuilder, ReplayRunner
    from familyseer.models import load_model
    from familyseer.options import TuneOptions
    from familyseer.run._restore import open_database
    from familyseer.run._session import Earlier, make_rounds
    from familyseer.search import BudgetLoop
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target
    from familyseer.tvm_env import load_tvm

    class Drawn:
        """An emulated machine that needs no recorded tables."""

        def seconds(self, mod: Any) -> float:
            return 1e-5 * (1 + zlib.crc32(str(mod).encode()) % 1000 / 1000)

    path = folder / "chain.onnx"
    onnx.save(synthetic_model(subgraphs_wanted), path)
    load_tvm(intrinsics=True)
    target = resolve_target(None)
    watch = Watch()
    fused = fuse(load_model(str(path)).mod, target)
    watch.lap("load")
    subgraphs = extract_subgraphs(fused, target)
    watch.lap("extract")
    families = form_families(subgraphs, "op")
    watch.lap("families")
    make_records(subgraphs, target, folder / "tuning", records_wanted)
    watch.lap("unreported")
    database = open_database(folder / "tuning")
    watch.lap("open_database")
    clock = ReplayClock(None)
    machine: Any = Drawn()
    builder = ReplayBuilder(machine, clock)
    rounds = make_rounds(
        TuneOptions(model="chain", out=folder, trials=1),
        subgraphs,
        families,
        target,
        clock=clock,
        database=database,
        builder=builder,
        runner=ReplayRunner(builder),
        max_trials=8 * ROUNDS,
        earlier=Earlier(folder / "none", ()),
    )
    watch.lap("resume")
    done = [0]

    def count(_round: Any) -> None:
        done[0] += 1
        database.sync()

    BudgetLoop(rounds, on_round=count).run()
    watch.lap("round", max(1, done[0]))
    builder.close()
    found = {k: v for k, v in watch.figures.items() if not k.startswith("unreported")}
    return {"subgraphs": len(subgraphs), "records": records_wanted, "rounds": done[0], **found}


@click.command()
@click.option("--subgraphs", type=click.IntRange(min=8), default=500, show_default=True)
@click.option("--records", type=click.IntRange(min=8), default=200_000, show_default=True)
@click.option("--name", default="load", show_default=True, help="Of the result file.")
@click.option("--one", type=click.Path(path_type=Path), hidden=True)
def main(subgraphs: int, records: int, name: str, one: Path | None) -> None:
    """Report start-up, resumption, memory and time per round at three sizes."""
    if one is not None:
        click.echo(json.dumps(measure_one(subgraphs, records, one)))
        return
    sizes = []
    for scale in SCALES:
        with tempfile.TemporaryDirectory(prefix="familyseer-load-") as folder:
            ran = subprocess.run(
                [
                    *(sys.executable, __file__, "--one", folder),
                    *("--subgraphs", str(round(scale * subgraphs))),
                    *("--records", str(round(scale * records))),
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        sizes.append(json.loads(ran.stdout.splitlines()[-1]))
        click.echo(json.dumps(sizes[-1], indent=1))
    first, last = sizes[0], sizes[-1]
    growth = {k: round(last[k] / first[k], 2) for k in last if k.endswith(("_s", "_mib"))}
    click.echo(json.dumps({"growth": growth}, indent=1))
    click.echo(f"written: {save(name, {'sizes': sizes, 'growth': growth})}")


if __name__ == "__main__":
    main()
