"""Records the laboratory's tables: measured candidates of every subgraph of some networks.

    python scripts/record_tables.py squeezenet resnet18 mobilenetv2_0.5

Each network is one file in ``benchmarks/tables``. A network of 25 subgraphs takes about ten minutes
on two cores; keep the machine quiet meanwhile.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
from _results import machine

from familyseer.laboratory.record import Recorder
from familyseer.laboratory.tables import SUFFIX, NetworkTable, Recorded, save_table
from familyseer.measure._workers import warm_up
from familyseer.models import load_model
from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.target import resolve_target

TABLES = Path(__file__).resolve().parents[1] / "benchmarks" / "tables"


@click.command()
@click.argument("networks", nargs=-1, required=True)
@click.option("--candidates", type=click.IntRange(min=40), default=200, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=TABLES)
def main(networks: tuple[str, ...], candidates: int, seed: int, out: Path) -> None:
    """Record NETWORKS (names or model files), one table each."""
    warm_up()
    target = resolve_target(None)
    for network in networks:
        model = load_model(network, seed=seed)
        subgraphs = extract_subgraphs(fuse(model.mod, target), target)
        recorder = Recorder(target, candidates=candidates, seed=seed)
        began = time.monotonic()

        def told(one: Recorded, began: float = began, network: str = network) -> None:
            spent = time.monotonic() - began
            click.echo(
                f"{spent:6.0f} s  {network}  {one.name}: {len(one)} candidates, "
                f"best {one.best_s * 1e6:.1f} us"
            )

        try:
            recorded = recorder.record(subgraphs, told)
        finally:
            recorder.close()
        path = out / f"{model.name}{SUFFIX}"
        save_table(NetworkTable(model.name, {**machine(), "seed": seed}, recorded), path)
        click.echo(f"written: {path}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
