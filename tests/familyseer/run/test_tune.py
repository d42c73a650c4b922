"""Real tuning runs of small models, from the command line to plain TVM using what they left."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.models import load_model
from familyseer.options import TuneOptions
from familyseer.run import HISTORY_COLUMNS, tune
from familyseer.subgraphs import fuse
from familyseer.tvm_env import load_tvm
from tests.familyseer.cli.schemas import conforms

BUDGET_S = 40.0
# what a run may be late by: a tenth of its budget or ten seconds
LATE_S = 10.0


def command(*args: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "familyseer.cli", *args],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **kwargs,
    )


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], float]:
    """OUT of a run of the command line, its summary, and how long the command took."""
    out = tmp_path_factory.mktemp("mlp") / "out"
    began = time.monotonic()
    ran = command("tune", "mlp", "-o", str(out), "--budget", f"{BUDGET_S}s", "--json")
    took = time.monotonic() - began
    assert ran.returncode == 0, ran.stderr
    return out, json.loads(ran.stdout), took


def test_the_run_keeps_its_budget(tuned: tuple[Path, dict[str, Any], float]) -> None:
    _, summary, took = tuned
    assert took <= BUDGET_S + LATE_S
    assert summary["elapsed_s"] <= took
    assert summary["stopped_by"] in ("budget", "space exhausted")


def test_the_summary_says_what_was_measured(tuned: tuple[Path, dict[str, Any], float]) -> None:
    out, summary, _ = tuned
    assert json.loads((out / "summary.json").read_text()) == summary
    conforms(summary, "tune")
    assert summary["covered"] == summary["subgraphs"] == 3
    assert summary["trials"] > 3
    assert summary["untuned_us"] > 0
    assert summary["speedup"] == pytest.approx(summary["untuned_us"] / summary["tuned_us"])
    assert summary["speedup"] > 1
    assert summary["max_rel_error"] <= 1e-3
    assert summary["fell_back"] == {}


def test_history_has_a_line_a_round(tuned: tuple[Path, dict[str, Any], float]) -> None:
    out, summary, _ = tuned
    with (out / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == HISTORY_COLUMNS
    elapsed = [float(row["elapsed_s"]) for row in rows]
    assert elapsed == sorted(elapsed)
    assert int(rows[-1]["trials"]) == summary["trials"]
    estimates = [float(r["estimated_model_us"]) for r in rows if r["estimated_model_us"]]
    assert estimates == sorted(estimates, reverse=True)


def test_families_and_cost_models_are_left(tuned: tuple[Path, dict[str, Any], float]) -> None:
    from costmodels import FamilyCostModel
    from familyseer.families import load_families

    out, summary, _ = tuned
    method, families = load_families(out / "families.json")
    assert method == "op"
    assert sum(len(f.members) for f in families) == summary["subgraphs"]
    model = FamilyCostModel()
    model.load(str(out / "costmodels"))
    assert sum(model.samples(f.name) for f in families) > 0


def test_plain_tvm_runs_the_library(
    tuned: tuple[Path, dict[str, Any], float], tmp_path: Path
) -> None:
    out, summary, _ = tuned
    script = tmp_path / "plain.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            import numpy as np
            import tvm
            from tvm import relax
            lib, inputs, outputs = sys.argv[1:]
            vm = relax.VirtualMachine(tvm.runtime.load_module(lib), tvm.cpu())
            arrays = np.load(inputs)
            got = vm["main"](*[tvm.runtime.tensor(arrays[k]) for k in arrays.files])
            np.save(outputs, (got if hasattr(got, "numpy") else got[0]).numpy())
            assert not any(m.split(".")[0] in ("familyseer", "costmodels") for m in sys.modules)
            """
        )
    )
    spec = summary["inputs"][0]
    x = np.random.default_rng(1).standard_normal(spec["shape"]).astype(spec["dtype"])
    np.savez(tmp_path / "in.npz", **{spec["name"]: x})
    args = [out / "model.so", tmp_path / "in.npz", tmp_path / "plain.npy"]
    subprocess.run([sys.executable, str(script), *map(str, args)], check=True, timeout=120)
    ran = command("run", str(out), "-i", str(tmp_path / "in.npz"), "-o", str(tmp_path / "out.npz"))
    assert ran.returncode == 0, ran.stderr
    ours = np.load(tmp_path / "out.npz")
    name = summary["outputs"][0]["name"]
    np.testing.assert_array_equal(ours[name], np.load(tmp_path / "plain.npy"))


def test_metaschedule_applies_the_database_by_itself(
    tuned: tuple[Path, dict[str, Any], float], cpu: Any
) -> None:
    out, summary, _ = tuned
    tvm = load_tvm(intrinsics=True)
    fused = fuse(load_model("mlp").mod, cpu)
    with cpu:
        applied = tvm.relax.transform.MetaScheduleApplyDatabase(str(out / "tuning"))(fused)
    scheduled = [
        f
        for f in applied.functions.values()
        if isinstance(f, tvm.tirx.PrimFunc) and f.attrs.get("tirx.is_scheduled", False)
    ]
    assert len(scheduled) == summary["subgraphs"]


def test_bench_times_the_library(tuned: tuple[Path, dict[str, Any], float]) -> None:
    ran = command("bench", str(tuned[0]), "--repeat", "20", "--json")
    assert ran.returncode == 0, ran.stderr
    timed = json.loads(ran.stdout)
    assert timed["repeats"] == 20
    assert 0 < timed["min_us"] <= timed["median_us"] <= timed["p90_us"]
    assert timed["subgraphs"] is None


def test_bench_times_each_subgraph_in_the_library(
    tuned: tuple[Path, dict[str, Any], float],
) -> None:
    out, summary, _ = tuned
    ran = command("bench", str(out), "--repeat", "20", "--by-subgraph", "--json")
    assert ran.returncode == 0, ran.stderr
    rows = {row["name"]: row for row in json.loads(ran.stdout)["subgraphs"]}
    families = json.loads((out / "families.json").read_text())["families"]
    members = {one["name"]: one for family in families for one in family["subgraphs"]}
    assert len(members) == summary["subgraphs"]
    assert {name for name, row in rows.items() if row["family"]} == set(members)
    for name, one in members.items():
        assert rows[name]["calls"] == one["weight"]
        assert rows[name]["us"] > 0
        assert rows[name]["candidate_us"] > 0
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1)


def test_an_out_with_a_run_is_refused_without_resume(
    tuned: tuple[Path, dict[str, Any], float],
) -> None:
    same = command("tune", "mlp", "-o", str(tuned[0]), "--budget", "30s")
    assert (same.returncode, same.stdout) == (2, "")
    assert "--resume" in same.stderr.splitlines()[-1]
    other = command("tune", "squeezenet", "-o", str(tuned[0]), "--budget", "30s", "--resume")
    assert other.returncode == 2
    assert "another model (mlp)" in other.stderr.splitlines()[-1]


def test_resuming_keeps_what_was_found(
    tuned: tuple[Path, dict[str, Any], float], tmp_path: Path
) -> None:
    before, summary, _ = tuned
    out = tmp_path / "out"
    shutil.copytree(before, out)
    records = (out / "tuning" / "database_tuning_record.json").read_text()
    lines = (out / "history.csv").read_text()
    options = TuneOptions(model="mlp", out=out, trials=8, resume=True)
    again = tune(options)
    assert again["trials_before"] == summary["trials"]
    assert again["elapsed_before_s"] == pytest.approx(summary["elapsed_s"], abs=1.0)
    assert (out / "tuning" / "database_tuning_record.json").read_text().startswith(records)
    assert (out / "history.csv").read_text().startswith(lines)
    assert again["covered"] == again["subgraphs"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_run_with_a_library(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "familyseer.cli",
            "tune",
            "mlp",
            "-o",
            str(out),
            "--budget",
            "10m",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    history = out / "history.csv"
    for _ in range(600):
        if history.exists() and len(history.read_text().splitlines()) > 3:
            break
        time.sleep(0.1)
    began = time.monotonic()
    if number == signal.SIGINT:
        # a terminal sends it to every process of the foreground group
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    stdout, stderr = run.communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert run.returncode == 0, stderr
    assert json.loads(stdout)["stopped_by"] == "interrupt"
    assert (out / "model.so").is_file()


def test_a_budget_too_short_to_tune_still_leaves_a_complete_library(tmp_path: Path) -> None:
    out = tmp_path / "out"
    began = time.monotonic()
    ran = command("tune", "mlp", "-o", str(out), "--budget", "1s", "--json")
    assert ran.returncode == 0, ran.stderr
    assert time.monotonic() - began <= 1 + LATE_S + 5  # the process itself starts and ends too
    summary = json.loads(ran.stdout)
    assert set(summary["fell_back"].values()) == {"no candidate was measured in time"}
    assert (out / "model.so").is_file()


def test_a_file_in_place_of_out_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("mine")
    with pytest.raises(UserError, match="expected a folder"):
        tune(TuneOptions(model="mlp", out=out, trials=1))
    assert out.read_text() == "mine"
