"""Times what a user waits for before anything is tuned, in turns on the same cores.

    python scripts/startup.py --rounds 5 --save startup

Each command is run in a fresh process, all of them once a round, after a round that only fills the
disk's cache. The least of a command's times is what it needs; where its median is far above,
something else was running. Exits with 1 where one does not keep its limit.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

import click
from _results import save

from familyseer.cli._output import print_table


class Command(NamedTuple):
    """A command that a user waits for.

    Attributes
    ----------
    arguments
        Python's.
    limit_s
        Seconds that it may take on two idle cores; None where nothing is promised.
    """

    arguments: tuple[str, ...]
    limit_s: float | None = None


_CLI = ("-m", "familyseer.cli")
COMMANDS = {
    "python -c pass": Command(("-c", "pass")),
    "import familyseer": Command(("-c", "import familyseer")),
    "import spamm": Command(("-c", "import spamm")),
    "import tvm": Command(("-c", "import tvm")),
    "familyseer --help": Command((*_CLI, "--help"), 0.3),
    "familyseer tune --help": Command((*_CLI, "tune", "--help"), 0.3),
    "familyseer families mlp": Command((*_CLI, "families", "mlp")),
    "familyseer families squeezenet": Command((*_CLI, "families", "squeezenet"), 8.0),
}


def seconds(command: Command) -> float:
    """Wall-clock seconds of one run.

    Raises
    ------
    subprocess.CalledProcessError
        It fails.
    """
    began = time.perf_counter()
    subprocess.run([sys.executable, *command.arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--only", default="", help="Commands whose names hold this.")
@click.option("--save", "name", default=None, help="Writes benchmarks/results/NAME.json.")
def main(rounds: int, only: str, name: str | None) -> None:
    """Time the commands that a user waits for."""
    chosen = {title: command for title, command in COMMANDS.items() if only in title}
    for command in chosen.values():
        seconds(command)
    times: dict[str, list[float]] = {title: [] for title in chosen}
    for _ in range(rounds):
        for title, command in chosen.items():
            times[title].append(seconds(command))
    found: dict[str, dict[str, Any]] = {
        title: {
            "least_s": min(taken),
            "median_s": statistics.median(taken),
            "limit_s": chosen[title].limit_s,
        }
        for title, taken in times.items()
    }
    rows = [
        (title, f"{f['least_s']:.2f}", f"{f['median_s']:.2f}", str(f["limit_s"] or ""))
        for title, f in found.items()
    ]
    print_table(
        ("command", "least s", "median s", "limit s"), rows, ("left", "right", "right", "right")
    )
    if name is not None:
        result = {"rounds": rounds, "load_average": os.getloadavg(), "commands": found}
        click.echo(f"written: {save(name, result)}")
    slow = [t for t, f in found.items() if f["limit_s"] and f["least_s"] > f["limit_s"]]
    if slow:
        raise click.ClickException(f"slower than promised: {', '.join(slow)}")


if __name__ == "__main__":
    main()
