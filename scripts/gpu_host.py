"""Everything that needs a GPU, by one command on a host that has one.

    python scripts/gpu_host.py --minutes 25
    python scripts/gpu_host.py --bundle .gpu-bundle      # a host without a network

Runs the tests and the benchmarks for GPUs, what tells most first, each in a process of its own with
a time limit; a step that fails is noted, and the next one runs. Results are written as they come,
as ``GPU-DATE.json`` and a table in Markdown, so that it may be stopped at any time; called again on
the same day, it goes on where it stopped. Needs nothing but Python's standard library by itself.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from _gpu_bundle import BundleError, build_pycuda, unpack  # noqa: E402
from _gpu_plan import DONE, Step, run_steps  # noqa: E402
from _gpu_record import Record  # noqa: E402
from _gpu_table import table  # noqa: E402

from familyseer.duration import parse_duration  # noqa: E402
from familyseer.errors import UserError  # noqa: E402

_PYCUDA_S = 300.0
# beside its two tuners' budgets, a network's step makes and times libraries
_BESIDE_S = 300.0
_TUNED = ("resnet50-float16", "bert-float16", "resnet50-float32", "bert-float32")
_LATER = ("mobilenet-float16", "mobilenet-float32")
# what runs kernels by PyCUDA, which may have to be built first
_BY_PYCUDA = ("tests", "spamm", "sanitizer")


def plan(record: Path, work: Path, budget_s: float) -> list[Step]:
    """The steps, what tells most first.

    Parameters
    ----------
    budget_s
        Seconds that each tuner gets for a network.
    """
    script = str(ROOT / "scripts" / "_gpu_steps.py")

    def step(name: str, limit_s: float, least_s: float) -> Step:
        command = (sys.executable, script, name, str(record), str(work), "--budget", str(budget_s))
        return Step(name, command, limit_s, least_s)

    def network(name: str) -> Step:
        # our run alone is worth starting for
        return step(name, 2 * budget_s + _BESIDE_S, budget_s + 60)

    return [
        step("environment", 90, 5),
        # needs the driver alone, and is a figure by itself
        step("matmul", 2 * budget_s + 180, budget_s / 4 + 60),
        step("tests", 420, 30),
        step("spamm", 300, 30),
        *map(network, _TUNED),
        step("multiprocessors", 180, 30),
        step("sanitizer", 240, 30),
        *map(network, _LATER),
    ]


def gpu_name() -> str:
    """The first GPU's name.

    Raises
    ------
    UserError
        There is none.
    """
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(
            f"nvidia-smi: {type(error).__name__}; expected a host with an NVIDIA GPU"
        ) from None
    lines = told.stdout.split("\n")
    if told.returncode or not lines[0].strip():
        raise UserError("nvidia-smi: finds no GPU; expected a host with an NVIDIA GPU")
    return lines[0].strip()


def results_name(gpu: str, day: datetime.date) -> str:
    """Of a GPU's results of a day, such as ``nvidia-h200-2026-11-22``."""
    return f"{re.sub('[^a-z0-9]+', '-', gpu.lower()).strip('-')}-{day.isoformat()}"


def chosen(steps: Sequence[Step], names: str | None) -> list[Step]:
    """The steps of those names, in the order of the plan; all for None.

    Raises
    ------
    UserError
        There is no such step.
    """
    if names is None:
        return list(steps)
    wanted = [name.strip() for name in names.split(",")]
    known = [step.name for step in steps]
    for name in wanted:
        if name not in known:
            raise UserError(f"--steps {name}: expected some of {','.join(known)}")
    return [step for step in steps if step.name in wanted]


def host_environment(bundle: Path | None, work: Path) -> dict[str, str]:
    """The environment of all steps: this project, and the bundle's packages where there is one."""
    places = [str(ROOT)]
    if bundle is not None:
        places.append(str(unpack(bundle, work / "site")))
    given = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places + ([given] if given else []))}


def with_pycuda(
    steps: Sequence[Step], bundle: Path, work: Path, environ: dict[str, str]
) -> list[Step]:
    """Builds the bundle's PyCUDA while steps run that do without; the others wait for it.

    Returns
    -------
    list[Step]
        The steps, of which those by PyCUDA need it.
    """

    def build() -> None:
        came_of_it = build_pycuda(bundle, work / "site", environ, _PYCUDA_S)
        print(f"PyCUDA: {came_of_it}", file=sys.stderr, flush=True)

    # where this is ended it is not waited for
    building = Thread(target=build, daemon=True)
    building.start()
    return [replace(one, needs=building.join) if one.name in _BY_PYCUDA else one for one in steps]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--minutes", type=float, default=25.0, help="for all of it (25)")
    made.add_argument("--budget", default="2m", help="of each tuner for a network (2m)")
    made.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    made.add_argument("--work", type=Path, default=ROOT / "out" / "gpu-host")
    made.add_argument("--bundle", type=Path, help="what scripts/gpu_bundle.py has packed")
    made.add_argument("--steps", metavar="A,B", help="these alone")
    made.add_argument("--name", help="of the results, instead of the GPU's and the day's")
    return made


def run(given: argparse.Namespace) -> int:
    """Runs the steps; 1 if one of them is not done in the end.

    Raises
    ------
    UserError, BundleError
        It cannot begin.
    """
    began = time.monotonic()
    if not given.minutes > 0:
        raise UserError(f"--minutes {given.minutes:g}: expected more than zero")
    budget_s = parse_duration(given.budget)
    gpu, today = gpu_name(), datetime.date.today()
    name = given.name or results_name(gpu, today)
    for folder in (given.out, given.work):
        folder.mkdir(parents=True, exist_ok=True)
    path = (given.out / f"{name}.json").resolve()
    steps = chosen(plan(path, given.work.resolve(), budget_s), given.steps)
    head = {"gpu": gpu, "date": today.isoformat(), "budget_s": budget_s}
    record = Record(path, head)
    document = record.read()
    if (document.get("gpu"), document.get("budget_s")) != (gpu, budget_s):
        raise UserError(f"{path}: is of another GPU or budget; expected --name with another name")
    environ = host_environment(given.bundle, given.work.resolve())
    if given.bundle is not None:
        steps = with_pycuda(steps, given.bundle, given.work.resolve(), environ)

    def write_table() -> None:
        path.with_suffix(".md").write_text(table(record.read()), "utf-8")

    write_table()
    left = 60 * given.minutes - (time.monotonic() - began)
    run_steps(steps, record, given.work / "logs", seconds=left, environ=environ, after=write_table)
    print(table(record.read()))
    print(f"written: {path}", file=sys.stderr)
    return 0 if all(record.step(step.name).get("status") == DONE for step in steps) else 1


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(1)


def main() -> int:
    """The command."""
    # so that a step ends with us
    signal.signal(signal.SIGTERM, _leave)
    try:
        return run(parser().parse_args())
    except (UserError, BundleError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
