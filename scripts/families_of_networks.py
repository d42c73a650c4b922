"""What it takes to look at the networks of the FamilySeer paper: seconds and memory of each.

    python scripts/families_of_networks.py --save families-of-networks

Each network is imported, cut into subgraphs and formed into families in a process of its own, which
tells its seconds by step and the most memory it held: the weights of the huge ones are inputs, and
none is allocated. Exits with 1 where a network takes longer than it may.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

import click
from _results import save

PAPER = (
    "resnet50_v1",
    "resnet152_v2",
    "mobilenet_0.5",
    "mobilenetv2_0.5",
    "vit_huge",
    "bert_large",
    "roberta_large",
    "gpt2",
)
# wall-clock seconds of one network's process, on two cores
_LIMIT_S = 180.0


@click.command()
@click.argument("networks", nargs=-1)
@click.option("--one", hidden=True, help="Look at one network and print what was found.")
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(networks: tuple[str, ...], one: str | None, name: str | None) -> None:
    """Look at NETWORKS (default: those of the paper)."""
    if one is not None:
        click.echo(json.dumps(look_at(one)))
        return
    found: dict[str, Any] = {}
    for network in networks or PAPER:
        command = [sys.executable, __file__, "--one", network]
        began = time.monotonic()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        elapsed_s = time.monotonic() - began
        found[network] = {**json.loads(done.stdout.splitlines()[-1]), "process_s": elapsed_s}
        click.echo(
            f"{network}: {elapsed_s:.1f} s, {found[network]['peak_bytes'] / 1e9:.2f} GB, "
            f"{found[network]['subgraphs']} subgraphs in {found[network]['families']} families"
        )
    if name is not None:
        # other work on the machine shows in seconds, not in the processor's
        result = {"load_average": os.getloadavg(), "limit_s": _LIMIT_S, "networks": found}
        click.echo(f"written: {save(name, result)}")
    slow = [network for network, each in found.items() if each["process_s"] > _LIMIT_S]
    if slow:
        raise click.ClickException(f"longer than {_LIMIT_S:.0f} s: {', '.join(slow)}")


def look_at(network: str) -> dict[str, Any]:
    """Seconds by step, peak memory, subgraphs and families of a network.

    ``cpu_s`` is processor time of the whole process, ``peak_bytes`` its largest resident set.
    """
    import resource

    from familyseer.families import form_families
    from familyseer.models import load_model, zoo
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target

    target = resolve_target(None)
    marks = [time.monotonic()]
    model = load_model(network)
    marks.append(time.monotonic())
    subgraphs = extract_subgraphs(fuse(model.mod, target), target)
    marks.append(time.monotonic())
    families = form_families(subgraphs, "op")
    marks.append(time.monotonic())
    steps = ("import_s", "extraction_s", "families_s")
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "parameters": zoo.describe(network).parameters,
        **{step: marks[i + 1] - marks[i] for i, step in enumerate(steps)},
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "subgraphs": len(subgraphs),
        "families": len(families),
    }


if __name__ == "__main__":
    main()
