"""A whole tuning run on a fleet whose devices come and go."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.familyseer.fleet.conftest import KEY

PATIENCE_S = 400.0
TRIALS = 120


def test_a_run_completes_while_a_device_is_killed_and_another_joins(
    tracker: Any, tmp_path: Path
) -> None:
    first = [tracker.add() for _ in range(3)]
    tracker.wait(*first)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "familyseer.cli", "tune", "mlp", "-o", str(out), "--json"]
    command += ["--trials", str(TRIALS), "--tracker", tracker.address, "--device-key", KEY]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        history, deadline = out / "history.csv", time.monotonic() + PATIENCE_S
        while not history.exists() or len(history.read_text().splitlines()) < 4:
            assert run.poll() is None, run.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        tracker.kill(first[0])
        late = tracker.add()
        tracker.wait(late)
        stdout, stderr = run.communicate(timeout=PATIENCE_S)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0, stderr
    summary = json.loads(stdout)
    assert summary["stopped_by"] in ("trials", "space exhausted")
    assert summary["trials"] > TRIALS // 2
    assert summary["run_errors"] == 0
    assert summary["fell_back"] == {}
    assert summary["covered"] == summary["subgraphs"]
    assert summary["speedup"] > 1
    timed = {device["name"]: device["done"] for device in summary["fleet"]["devices"]}
    assert sum(timed.values()) >= summary["trials"] - summary["build_errors"]
    # on a noisy machine servers that are alike are told apart, and the others of a class wait
    classes = {device["name"]: device["speed_class"] for device in summary["fleet"]["devices"]}
    busiest = max(timed, key=lambda name: timed[name])
    assert all(timed[name] > 0 for name in first[1:] if classes[name] == classes[busiest]), timed
