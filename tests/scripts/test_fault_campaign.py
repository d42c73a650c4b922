"""The short form of ``scripts/fault_campaign.py``: a few kills, nothing lost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fault_campaign.py"
KILLS = 4


def test_a_few_kills_lose_nothing_and_resumed_runs_complete(tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            *(sys.executable, str(SCRIPT), "--no-result", "--folder", str(tmp_path)),
            *("--kills", str(KILLS), "--kills-a-run", str(KILLS), "--trials", "16"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    found = json.loads(ran.stdout[ran.stdout.index("{") :])
    assert found["faults"] == []
    assert ran.returncode == 0, ran.stderr
    assert found["completed_runs"] == found["resumed_runs"] >= 1
    assert found["records_checked"] > 0
    hits = [*found["kills_by_phase"].values(), *found["worker_kills_by_phase"].values()]
    assert sum(hits) == KILLS
