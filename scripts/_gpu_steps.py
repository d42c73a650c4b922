"""One step of `gpu_host.py`, in a process of its own: ``python _gpu_steps.py STEP RECORD WORK``."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from _gpu_plan import MISSING_CODE
from _gpu_record import Parts, Record

from familyseer.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
_QUERIES = (
    *("name", "driver_version", "memory.total", "power.limit", "temperature.gpu"),
    *("clocks.sm", "clocks.max.sm", "clocks.mem", "clocks.max.mem"),
)
# of a network's, those with the most time in it
_KERNELS = 12
# networks that are tuned, by what their results are called; of several the first that is built in
NETWORKS = {
    "resnet50": ("resnet50",),
    "bert": ("bert_base", "bert_small"),
    "mobilenet": ("mobilenetv2_0.5",),
}


@dataclass(frozen=True)
class Setting:
    """What every step gets.

    Attributes
    ----------
    parts
        Where its results go.
    work
        Folder for what steps leave to each other.
    budget_s
        Seconds that a tuner gets for a network.
    target
        As `familyseer.target.resolve_target` takes it.
    """

    parts: Parts
    work: Path
    budget_s: float
    target: str = "cuda"


def environment(setting: Setting) -> None:
    """What the host is, and whether all is there."""
    setting.parts.keep("gpu", nvidia_smi())
    told = subprocess.run(
        [sys.executable, "-m", "familyseer.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode not in (0, 1):
        raise RuntimeError(told.stderr.strip() or f"doctor ended with {told.returncode}")
    setting.parts.keep("doctor", json.loads(told.stdout))


def nvidia_smi() -> list[dict[str, str]]:
    """What ``nvidia-smi`` says of each GPU, in its own units."""
    asked = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(_QUERIES)}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = (line.split(", ") for line in asked.stdout.splitlines() if line.strip())
    return [dict(zip(_QUERIES, row, strict=False)) for row in rows]


def gpu_tests(setting: Setting) -> None:
    """``tests/gpu``, all of them."""
    run_tests(setting, ROOT / "tests" / "gpu")


def run_tests(setting: Setting, tests: Path) -> None:
    """Runs tests and keeps what became of them.

    Raises
    ------
    RuntimeError
        Some failed.
    UserError
        All were skipped.
    """
    report = setting.work / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider"]
    command.append(f"--junit-xml={report}")
    ended = subprocess.run(command, cwd=ROOT, check=False)
    if not report.is_file():
        raise RuntimeError(f"pytest ended with {ended.returncode} and reports nothing")
    found = read_report(report)
    setting.parts.keep("tests", found)
    if ended.returncode:
        broken = [f"{name}: {how}" for name, how in found.items() if how.startswith("failed")]
        raise RuntimeError(f"{len(broken)} of {len(found)} failed; {broken[0] if broken else ''}")
    if found and all(how.startswith("skipped") for how in found.values()):
        raise UserError(next(iter(found.values())))


def read_report(path: Path) -> dict[str, str]:
    """What became of each test in a report of pytest's: passed, or why not."""
    found = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        how = "passed"
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                verb = "skipped" if child.tag == "skipped" else "failed"
                how = f"{verb}: {(child.get('message') or '').splitlines()[0][:200]}"
        found[name] = how
    return found


def spamm(setting: Setting) -> None:
    """SpAMM against cuBLAS, and its error against its bound."""
    from _gpu_spamm import CASES, sweep
    from _spamm_gpu import find_device

    try:
        device = find_device()
    except RuntimeError as error:
        raise UserError(f"nothing to compare with: {error}") from None
    sweep(CASES, setting.parts, device)


def matmul(setting: Setting) -> None:
    """Tuned products against cuBLAS."""
    from _gpu_matmul import PRODUCTS, compare_products

    _need("torch", "cuda.bindings")
    compare_products(
        PRODUCTS, setting.parts, setting.work / "matmul", setting.budget_s / 4, setting.target
    )


def network(name: str, precision: str) -> Callable[[Setting], None]:
    """Our tuner and the stock one on a network."""

    def step(setting: Setting) -> None:
        from _gpu_network import compare_on

        from familyseer.models import zoo

        model = next(one for one in NETWORKS[name] if zoo.has(one))
        setting.parts.keep("model", model)
        folder = setting.work / f"{name}-{precision}"
        compare_on(model, precision, setting.parts, folder, setting.budget_s, setting.target)

    return step


def multiprocessors(setting: Setting) -> None:
    """The fewest multiprocessors that exported kernels need."""
    _need("cuda.bindings")
    runs = sorted(setting.work.glob("*-float*/familyseer-0/summary.json"))
    if not runs:
        raise UserError("no network was tuned yet; expected a step of a network before this one")
    for run in runs:
        out, folder = run.parent, setting.work / f"kernels-{run.parents[1].name}"
        setting.parts.once(run.parents[1].name, partial(_fewest, out, folder))


def _fewest(out: Path, folder: Path) -> dict[str, Any]:
    from familyseer.export.kernels import export_kernels
    from familyseer.kernels import measure_multiprocessors

    manifest = export_kernels(out, folder)
    names = [kernel["name"] for kernel in manifest["kernels"][:_KERNELS]]
    measure_multiprocessors(folder, names=names)
    written = json.loads((folder / "manifest.json").read_text("utf-8"))["kernels"]
    return {
        kernel["name"]: {**kernel["multiprocessors"], "tuned_us": kernel["tuned_us"]}
        for kernel in written
        if kernel["name"] in names
    }


def sanitizer(setting: Setting) -> None:
    """NVIDIA's compute-sanitizer on SpAMM's kernels."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"])
    tool = shutil.which("compute-sanitizer", path=places)
    if tool is None:
        raise UserError("no compute-sanitizer here; it comes with the CUDA toolkit")
    _need("pycuda")
    for kind in ("memcheck", "racecheck", "synccheck"):
        setting.parts.once(kind, partial(_sanitize, tool, kind))


def _sanitize(tool: str, kind: str) -> str:
    command = [tool, "--tool", kind, "--error-exitcode", "99", "--target-processes", "all"]
    command += [sys.executable, str(ROOT / "scripts" / "_gpu_small_products.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    print(text, flush=True)
    told = [line for line in text.splitlines() if "=========" in line]
    if done.returncode:
        lines = [line for line in told or text.splitlines() if line.strip("= ")]
        raise RuntimeError(f"{kind}: {(lines or ['no message'])[0]}")
    return told[-1].strip("= ") if told else "no error"


def _need(*modules: str) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"{module} cannot be imported ({error})") from None


STEPS: dict[str, Callable[[Setting], None]] = {
    "environment": environment,
    "tests": gpu_tests,
    "spamm": spamm,
    "matmul": matmul,
    **{
        f"{name}-{precision}": network(name, precision)
        for precision in ("float16", "float32")
        for name in ("resnet50", "bert")
    },
    "multiprocessors": multiprocessors,
    "sanitizer": sanitizer,
    "mobilenet-float16": network("mobilenet", "float16"),
    "mobilenet-float32": network("mobilenet", "float32"),
}


def main() -> int:
    """Runs the step that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("record", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--budget", type=float, required=True, help="Seconds for a network.")
    given = parser.parse_args()
    parts = Parts(Record(given.record), given.step)
    given.work.mkdir(parents=True, exist_ok=True)
    try:
        STEPS[given.step](Setting(parts, given.work, given.budget))
    except UserError as error:
        print(error, flush=True)
        return MISSING_CODE
    return 0


if __name__ == "__main__":
    sys.exit(main())
