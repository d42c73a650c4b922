"""``scripts/gpu_host.py``: order, limits, resumption and failures of its steps."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


@pytest.fixture
def record(script: Any, tmp_path: Path) -> Any:
    return script("_gpu_record").Record(tmp_path / "results.json", {"gpu": "NVIDIA H200"})


def step(script: Any, name: str, code: str, limit_s: float = 60.0, least_s: float = 0.0) -> Any:
    return script("_gpu_plan").Step(name, (sys.executable, "-c", code), limit_s, least_s)


def run(script: Any, steps: list[Any], record: Any, seconds: float = 60.0) -> dict[str, str]:
    """Runs steps; what became of each."""
    script("_gpu_plan").run_steps(steps, record, record.path.parent / "logs", seconds=seconds)
    return {name: one["status"] for name, one in record.read()["steps"].items()}


def test_a_step_that_fails_is_noted_and_the_next_one_runs(
    script: Any, record: Any, tmp_path: Path
) -> None:
    order = tmp_path / "order"
    steps = [
        step(script, "first", f"open({str(order)!r}, 'a').write('1')"),
        step(script, "fails", "print('so far'); raise ValueError('out of luck')"),
        step(script, "lacks", "import sys; print('no PyTorch here'); sys.exit(2)"),
        step(script, "crashes", "import os; os.abort()"),
        step(script, "last", f"open({str(order)!r}, 'a').write('2')"),
    ]
    assert run(script, steps, record) == {
        "first": "done",
        "fails": "failed",
        "lacks": "missing",
        "crashes": "failed",
        "last": "done",
    }
    assert order.read_text() == "12"
    assert record.step("fails")["error"] == "ValueError: out of luck"
    assert record.step("lacks")["error"] == "no PyTorch here"
    assert record.step("crashes")["error"] == f"ended with {-signal.SIGABRT}"


def test_what_is_done_is_not_done_again(script: Any, record: Any, tmp_path: Path) -> None:
    calls, ready = tmp_path / "calls", tmp_path / "ready"
    count = f"open({str(calls)!r}, 'a').write('x')"
    waits = f"import os, sys; os.path.exists({str(ready)!r}) or sys.exit('not yet')"
    steps = [step(script, "counted", count), step(script, "later", waits)]
    assert run(script, steps, record) == {"counted": "done", "later": "failed"}
    ready.touch()
    assert run(script, steps, record) == {"counted": "done", "later": "done"}
    assert calls.read_text() == "x"
    assert record.step("later")["error"] is None


def test_a_step_ends_at_its_limit_with_all_it_started(
    script: Any, record: Any, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    began = time.monotonic()
    assert run(script, [step(script, "slow", code, limit_s=2.0)], record) == {"slow": "stopped"}
    assert time.monotonic() - began < 30
    assert "2 s" in record.step("slow")["error"]
    child = int(pid.read_text())
    for _ in range(100):
        with contextlib.suppress(OSError):
            # one that nobody waits for stays as a zombie
            if Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
                time.sleep(0.05)
                continue
        return
    os.kill(child, signal.SIGKILL)
    pytest.fail("what a stopped step had started ran on")


def test_a_step_that_does_not_fit_is_passed_over_for_one_that_does(
    script: Any, record: Any
) -> None:
    steps = [step(script, "long", "", least_s=50.0), step(script, "short", "", least_s=2.0)]
    assert run(script, steps, record, seconds=20.0) == {"long": "no time", "short": "done"}
    assert run(script, steps, record, seconds=60.0) == {"long": "done", "short": "done"}


PARTS = """
import sys
sys.path[:0] = [{root!r}, {scripts!r}]
from pathlib import Path
from _gpu_record import Parts, Record
parts = Parts(Record(Path({path!r})), "products")
def make(name):
    with open({made!r}, "a") as file:
        file.write(name)
    return {{"us": 1.5}}
for name in "abc":
    if name == "c" and not Path({ready!r}).exists():
        raise RuntimeError("interrupted")
    parts.once(name, lambda: make(name))
"""


def test_the_parts_of_a_step_that_was_interrupted_are_kept(
    script: Any, record: Any, tmp_path: Path
) -> None:
    made, ready = tmp_path / "made", tmp_path / "ready"
    code = PARTS.format(
        root=str(ROOT),
        scripts=str(SCRIPTS),
        path=str(record.path),
        made=str(made),
        ready=str(ready),
    )
    assert run(script, [step(script, "products", code)], record) == {"products": "failed"}
    assert sorted(record.step("products")["found"]) == ["a", "b"]
    ready.touch()
    assert run(script, [step(script, "products", code)], record) == {"products": "done"}
    assert made.read_text() == "abc"
    assert record.step("products")["found"]["c"] == {"us": 1.5}


def test_a_part_that_no_longer_holds_is_made_again(script: Any, record: Any) -> None:
    parts = script("_gpu_record").Parts(record, "network")
    assert parts.once("ours", lambda: {"folder": "gone"}) == {"folder": "gone"}
    assert parts.once("ours", lambda: {"folder": "new"}, lambda found: False) == {"folder": "new"}
    assert parts.found() == {"ours": {"folder": "new"}}


def test_the_plan_begins_with_what_tells_most(script: Any, tmp_path: Path) -> None:
    host, steps = script("gpu_host"), script("_gpu_steps")
    plan = host.plan(tmp_path / "r.json", tmp_path, 120.0)
    names = [one.name for one in plan]
    assert names[:5] == ["environment", "matmul", "tests", "spamm", "resnet50-float16"]
    assert sorted(names) == sorted(steps.STEPS)
    # in 25 minutes the first network at least is compared, whatever comes before it takes
    before = sum(one.limit_s for one in plan[:4])
    assert before + plan[4].least_s < 25 * 60 < sum(one.limit_s for one in plan)
    for one in plan:
        assert 0 < one.least_s <= one.limit_s
    assert [one.name for one in host.chosen(plan, "sanitizer, tests")] == ["tests", "sanitizer"]


def test_what_needs_pycuda_waits_for_it_and_nothing_else_does(
    script: Any, record: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = script("gpu_host")
    built = tmp_path / "built"
    record_is_there = threading.Event()

    def build(*_args: Any) -> str:
        # not before a step that does without it is over
        assert record_is_there.wait(60)
        built.touch()
        return "built"

    monkeypatch.setattr(host, "build_pycuda", build)
    looks = (
        f"import os, sys; print('missing'); sys.exit(0 if os.path.exists({str(built)!r}) else 2)"
    )
    steps = [step(script, "matmul", looks), step(script, "tests", looks)]
    prepared = host.with_pycuda(steps, tmp_path, tmp_path, {})
    assert run(script, prepared[:1], record) == {"matmul": "missing"}
    record_is_there.set()
    assert run(script, prepared[1:], record) == {"matmul": "missing", "tests": "done"}


def test_results_are_named_after_the_gpu_and_the_day(script: Any) -> None:
    name = script("gpu_host").results_name("NVIDIA H200 (MIG)", datetime.date(2026, 3, 1))
    assert name == "nvidia-h200-mig-2026-03-01"


@pytest.fixture
def pretended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose driver tells of a GPU; nothing else of it is there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tool = folder / "nvidia-smi"
    tool.write_text(
        "#!/bin/sh\n"
        'case "$1" in --query-gpu=name) echo "NVIDIA H200";;'
        ' *) echo "NVIDIA H200, 580.1, 143771 MiB, 700.00 W, 31, 345 MHz, 1980 MHz";; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def command(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    places = ["--out", str(folder / "results"), "--work", str(folder / "work")]
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "gpu_host.py"), "--name", "here", *places, *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_runs_its_steps_and_writes_results_and_a_table(pretended: Path) -> None:
    done = command(pretended, "--steps", "environment,multiprocessors")
    # nothing was tuned whose kernels could be measured
    assert done.returncode == 1, done.stderr
    document = json.loads((pretended / "results" / "here.json").read_text())
    assert document["gpu"] == "NVIDIA H200"
    found = document["steps"]["environment"]["found"]
    assert found["gpu"][0]["driver_version"] == "580.1"
    assert found["doctor"]
    assert document["steps"]["multiprocessors"]["status"] == "missing"
    table = (pretended / "results" / "here.md").read_text()
    assert done.stdout.strip() == table.strip()
    assert "| environment | done |" in table
    assert "no network was tuned yet" in table

    again = command(pretended, "--steps", "environment")
    assert again.returncode == 0
    assert "environment: done before" in again.stderr
    other = command(pretended, "--steps", "environment", "--budget", "10m")
    assert other.returncode == 2
    assert "another GPU or budget" in other.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--steps", "fly"], "--steps fly: expected some of environment,"),
        (["--minutes", "0"], "--minutes 0: expected more than zero"),
        (["--budget", "soon"], "duration 'soon'"),
        (["--bundle", "/nowhere"], "/nowhere: no bundle"),
    ],
)
def test_wrong_use_is_refused_in_one_line(pretended: Path, options: list[str], told: str) -> None:
    done = command(pretended, *options)
    assert done.returncode == 2
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


def test_a_host_without_a_gpu_is_refused(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    given = argparse.Namespace(minutes=1.0, budget="1m", name=None)
    with pytest.raises(Exception, match="expected a host with an NVIDIA GPU"):
        script("gpu_host").run(given)


class HostArrays:
    """NumPy in the place of a GPU's library of arrays."""

    name = "NumPy"

    def put(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def get(self, array: Any) -> Any:
        return array.astype("float32")

    def empty(self, shape: tuple[int, int], like: Any) -> Any:
        return np.empty(shape, like.dtype)

    def dense(self, a: Any, b: Any, out: Any, tf32: bool) -> Any:
        out[...] = a.astype("float32") @ b.astype("float32")

    def wait(self) -> None:
        pass


def test_products_are_checked_against_their_bound(
    script: Any, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, parts = script("_gpu_spamm"), script("_gpu_record").Parts(record, "spamm")
    backend = {"cuda": "cpu"}
    real = {name: getattr(module.spamm, name) for name in ("plan", "multiply")}
    wrong = [False]

    def call(name: str) -> Any:
        def run(*args: Any, **how: Any) -> Any:
            found = real[name](*args, **{**how, "backend": backend[how["backend"]]})
            if name == "multiply" and wrong[0]:
                found[:1] += 100
            return found

        return run

    for name in real:
        monkeypatch.setattr(module.spamm, name, call(name))
    monkeypatch.setattr(module, "_SHORTEST_S", 1e-4)
    module.sweep([module.Shape(96, "float16", (0.3,))], parts, HostArrays())
    (case,) = [one for one in parts.found().values() if isinstance(one, dict)]
    assert case["right"]
    assert 0 < case["rel_error"] <= case["rel_error_bound"]
    assert case["speedup"] > 0
    wrong[0] = True
    with pytest.raises(RuntimeError, match=r"further off.*float16 0\.5"):
        module.sweep([module.Shape(96, "float16", (0.3, 0.5))], parts, HostArrays())
    assert [one["right"] for one in parts.found().values() if isinstance(one, dict)] == [
        True,
        False,
    ]


def test_small_products_are_right_wherever_they_run(script: Any) -> None:
    module = script("_gpu_small_products")
    errors = module.products("cpu")
    assert len(errors) == 6
    assert all(error <= module._TOLERANCE[name.split()[0]] for name, error in errors.items())


def test_the_share_of_a_gpu_is_the_mean_over_gpus(script: Any) -> None:
    share = script("_gpu_network").gpu_share
    assert share({"elapsed_s": 10.0, "gpus": [{"busy_s": 4.0}, {"busy_s": 2.0}]}) == 0.3
    assert share({"elapsed_s": 10.0, "gpus": None}) is None


def test_a_products_model_becomes_one_product_on_tensor_cores(script: Any, tmp_path: Path) -> None:
    from familyseer.models import load_model
    from familyseer.subgraphs import extract_subgraphs, fuse
    from familyseer.target import resolve_target
    from familyseer.tvm_env import load_tvm

    module = script("_gpu_matmul")
    product = module.Product(64, 96, 32, "float16")
    module.write_model(product, tmp_path / "model.onnx")
    target = resolve_target("nvidia/nvidia-h200")
    loaded = load_model(str(tmp_path / "model.onnx"), precision="float16")
    info = load_tvm().s_tir.meta_schedule.arg_info.ArgInfo
    found = [
        [tuple(map(int, argument.shape)) for argument in info.from_entry_func(one.mod, False)]
        for one in extract_subgraphs(fuse(loaded.mod, target), target)
    ]
    assert [(64, 32), (32, 96), (64, 96)] in found


def test_reports_of_tests_are_read(script: Any, record: Any, tmp_path: Path) -> None:
    tests = tmp_path / "test_some.py"
    tests.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2\n"
        "def test_none(): pytest.skip('no GPU here')\n"
    )
    steps = script("_gpu_steps")
    parts = script("_gpu_record").Parts(record, "tests")
    setting = steps.Setting(parts, tmp_path, 1.0)
    with pytest.raises(RuntimeError, match="1 of 3 failed"):
        steps.run_tests(setting, tests)
    found = {name.partition("::")[2]: how for name, how in parts.found()["tests"].items()}
    assert found["test_good"] == "passed"
    assert found["test_bad"].startswith("failed: ")
    assert found["test_none"] == "skipped: no GPU here"
    tests.write_text("import pytest\ndef test_none(): pytest.skip('no GPU here')\n")
    with pytest.raises(Exception, match="skipped: no GPU here"):
        steps.run_tests(setting, tests)
