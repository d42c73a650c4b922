"""Kills tuning runs at random moments of every phase and looks for what was lost.

    python scripts/fault_campaign.py --kills 100

A run is started, killed with SIGKILL somewhere in a phase drawn by chance, inspected, and resumed;
after some kills it is resumed to its end. Every fourth kill, about, hits one of the run's worker
processes instead, which the run must survive. Lost means: a record that a finished round had
committed is gone or changed, or MetaSchedule's own database cannot read the files. Exits with code
1 if anything was lost, or a resumed run did not complete. Writes
``benchmarks/results/fault-campaign.json``.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click
import psutil
from _results import save

from familyseer.records import read_failures

PHASES = ("start", "loading", "untuned", "first pass", "tuning", "compiling", "checking")
RECORDS = Path("tuning") / "database_tuning_record.json"
WORKLOADS = Path("tuning") / "database_workload.json"
PATIENCE_S = 900.0
# of the kills, those that hit a worker
WORKER_SHARE = 0.25
# what a phase may last before its kill, until a whole run has told
FIRST_GUESS_S = 2.0


class Run:
    """One ``familyseer tune``, the phases that it tells of seen as they come."""

    def __init__(self, model: str, out: Path, trials: int, seed: int) -> None:
        self.began = {"start": time.monotonic()}
        self._changed = threading.Condition()
        self.lines: list[str] = []
        command = [sys.executable, "-m", "familyseer.cli", "tune", model, "-o", str(out)]
        self.process = subprocess.Popen(
            [*command, "--trials", str(trials), "--seed", str(seed), "--resume"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.strip())
            phase = line.split("] ", 1)[-1].strip()
            with self._changed:
                if phase in PHASES:
                    self.began.setdefault(phase, time.monotonic())
                self._changed.notify_all()
        with self._changed:
            self.began.setdefault("end", time.monotonic())
            self._changed.notify_all()

    def reaches(self, phase: str) -> bool:
        """Waits for a phase; False if the run ended without it."""
        with self._changed:
            self._changed.wait_for(
                lambda: phase in self.began or "end" in self.began, timeout=PATIENCE_S
            )
            return phase in self.began and self.process.poll() is None

    def phase(self) -> str:
        """The last phase that began."""
        return max(self.began, key=lambda name: self.began[name])

    def family(self) -> list[psutil.Process]:
        """The processes that the run started, and theirs."""
        try:
            found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
            return found
        except psutil.NoSuchProcess:
            return []

    def wait(self) -> int:
        """Waits for the end and gives the exit code."""
        code = self.process.wait(timeout=PATIENCE_S)
        self._reader.join(timeout=10.0)
        return code

    def lengths_s(self) -> dict[str, float]:
        """Seconds that each phase lasted."""
        order = sorted(self.began.items(), key=lambda pair: pair[1])
        return {a: t - s for (a, s), (_, t) in itertools.pairwise(order)}


@dataclass
class Tally:
    """What a campaign found."""

    kills: Counter[str] = field(default_factory=Counter)
    worker_kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    completed: int = 0
    records: int = 0
    faults: list[str] = field(default_factory=list)


class Campaign:
    """Kills and resumes runs in folders below one folder."""

    def __init__(self, model: str, folder: Path, trials: int, seed: int) -> None:
        self.model, self.folder, self.trials = model, folder, trials
        self.chance = random.Random(seed)
        self.tally = Tally()
        self.lengths_s = dict.fromkeys(PHASES, FIRST_GUESS_S)

    def run(self, kills: int, kills_a_run: int) -> Tally:
        """Makes so many kills."""
        number = 0
        while self.killed() < kills:
            out = self.folder / f"run-{number}"
            self._one(out, min(kills_a_run, kills - self.killed()), seed=number)
            shutil.rmtree(out, ignore_errors=True)
            number += 1
            click.echo(
                f"{self.killed()} kills, {self.tally.completed} of {self.tally.resumed} resumed "
                f"runs complete, {len(self.tally.faults)} faults"
            )
        return self.tally

    def killed(self) -> int:
        """Kills so far."""
        return sum(self.tally.kills.values()) + sum(self.tally.worker_kills.values())

    def _one(self, out: Path, kills: int, seed: int) -> None:
        known = b""
        for turn in range(kills):
            run = Run(self.model, out, self.trials, seed)
            phase = self.chance.choice(PHASES)
            if run.reaches(phase):
                time.sleep(self.chance.uniform(0.0, self.lengths_s[phase]))
            workers = run.family() if self.chance.random() < WORKER_SHARE else []
            if workers:
                # whatever a lost worker was doing, the run itself goes on to its end
                self._kill_worker(run, self.chance.choice(workers))
                self._ends_well(run, out, resumed=turn > 0)
            elif run.process.poll() is None:
                self.tally.kills[run.phase()] += 1
                run.process.send_signal(signal.SIGKILL)
                run.wait()
                self._expect(_all_gone(run), out, "processes outlived their run")
            known = self._inspect(out, known)
        self._ends_well(Run(self.model, out, self.trials, seed), out, resumed=True)
        known = self._inspect(out, known)
        self._expect(_readable(out) == known.count(b"\n"), out, "MetaSchedule reads fewer records")
        self.tally.records += known.count(b"\n")

    def _ends_well(self, run: Run, out: Path, *, resumed: bool) -> None:
        self.tally.resumed += resumed
        if run.wait() == 0 and (out / "model.so").is_file():
            self.tally.completed += resumed
            self.lengths_s.update({p: s for p, s in run.lengths_s().items() if p in PHASES})
        else:
            self.tally.faults.append(f"{out.name}: did not complete: {run.lines[-1:]}")

    def _kill_worker(self, run: Run, worker: psutil.Process) -> None:
        try:
            worker.kill()
            self.tally.worker_kills[run.phase()] += 1
        except psutil.NoSuchProcess:
            pass

    def _expect(self, holds: bool, out: Path, fault: str) -> None:
        if not holds:
            self.tally.faults.append(f"{out.name}: {fault}")

    def _inspect(self, out: Path, known: bytes) -> bytes:
        """Looks for what was lost, and gives the whole record lines that are there now."""
        records = (out / RECORDS).read_bytes() if (out / RECORDS).exists() else b""
        whole = records[: records.rfind(b"\n") + 1]
        self._expect(whole.startswith(known), out, "records of an earlier run are gone or changed")
        try:
            state = json.loads((out / "tuning" / "run.json").read_text())
        except FileNotFoundError:
            return whole
        self._expect(
            whole.count(b"\n") >= int(state["trials"]),
            out,
            f"{state['trials']} trials were committed, {whole.count(chr(10).encode())} are there",
        )
        if (out / "tuning" / "failures.jsonl").exists():
            list(read_failures(out / "tuning" / "failures.jsonl"))
        return whole


def _all_gone(run: Run) -> bool:
    """Whether a killed run's processes end by themselves."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        left = [p for p in psutil.process_iter(["pid"]) if _session(p.pid) == run.process.pid]
        if not left:
            return True
        time.sleep(0.2)
    return False


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _readable(out: Path) -> int:
    """Records that MetaSchedule's own database reads, told by a process of its own."""
    code = (
        "import sys; from familyseer.tvm_env import load_tvm; "
        "ms = load_tvm(intrinsics=True).s_tir.meta_schedule; "
        "print(len(ms.database.JSONDatabase(work_dir=sys.argv[1])))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(out / "tuning")],
        capture_output=True,
        text=True,
        check=False,
    )
    return int(ran.stdout.split()[-1]) if ran.returncode == 0 else -1


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="familyseer-faults-") as made:
        yield Path(made)


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True)
@click.option("--kills-a-run", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--model", default="mlp", show_default=True)
@click.option("--trials", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the runs are made.")
@click.option("--name", default="fault-campaign", show_default=True, help="Of the result file.")
@click.option("--no-result", is_flag=True, help="Write no result file.")
def main(
    kills: int,
    kills_a_run: int,
    model: str,
    trials: int,
    seed: int,
    folder: Path | None,
    name: str,
    no_result: bool,
) -> None:
    """Kill runs of MODEL and look for what was lost."""
    began = time.monotonic()
    with _folder(folder) as below:
        tally = Campaign(model, below, trials, seed).run(kills, kills_a_run)
    result = {
        "model": model,
        "trials": trials,
        "seed": seed,
        "kills_by_phase": dict(tally.kills),
        "worker_kills_by_phase": dict(tally.worker_kills),
        "resumed_runs": tally.resumed,
        "completed_runs": tally.completed,
        "records_checked": tally.records,
        "faults": tally.faults,
        "took_s": round(time.monotonic() - began, 1),
    }
    click.echo(json.dumps(result, indent=2))
    if not no_result:
        click.echo(f"written: {save(name, result)}")
    sys.exit(1 if tally.faults else 0)


if __name__ == "__main__":
    main()
