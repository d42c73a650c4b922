"""Kills, full disks, folders in use: what a run leaves, and that it goes on from there."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from familyseer.errors import RunError, UserError
from familyseer.options import TuneOptions
from familyseer.run import tune
from familyseer.run._folder import Identity, RunFolder, check_writable, hold

RECORDS = Path("tuning") / "database_tuning_record.json"
PATIENCE_S = 300.0


def _no_room(*_args: Any) -> None:
    """Takes the place of a build in a worker, by name."""
    raise OSError(errno.ENOSPC, "No space left on device")


@contextmanager
def running(out: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "familyseer.cli", "tune", "mlp", "-o", str(out), *args]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def wait_for_rounds(out: Path, run: subprocess.Popen[str], rounds: int) -> None:
    history, deadline = out / "history.csv", time.monotonic() + PATIENCE_S
    while not history.exists() or len(history.read_text().splitlines()) < rounds + 1:
        assert run.poll() is None, run.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_run_keeps_its_rounds_and_is_resumed_within_its_budget(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(out, "--trials", "60") as run:
        wait_for_rounds(out, run, 4)
        run.send_signal(signal.SIGKILL)
        run.wait()
    committed = json.loads((out / "tuning" / "run.json").read_text())
    records = (out / RECORDS).read_bytes()
    whole = records[: records.rfind(b"\n") + 1]
    assert whole.count(b"\n") >= committed["trials"] > 0
    # as a crash in the middle of a write leaves it
    with (out / RECORDS).open("ab") as file:
        file.write(whole.splitlines()[0][:100])
    summary = tune(TuneOptions(model="mlp", out=out, trials=60, budget_s=3000.0, resume=True))
    again = (out / RECORDS).read_bytes()
    assert again.startswith(whole)
    assert again.count(b"\n") == summary["trials"]
    assert summary["trials_before"] == whole.count(b"\n")
    # what the killed run had used of the 60 is not given a second time
    assert summary["trials"] <= 60 + whole.count(b"\n") - committed["trials"]
    assert summary["elapsed_before_s"] == pytest.approx(committed["elapsed_s"], abs=0.01)
    assert (out / "model.so").is_file()
    assert not list(out.glob(".*"))


def test_a_second_run_in_the_same_folder_is_told_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(out, "--budget", "5m") as first:
        wait_for_rounds(out, first, 1)
        with running(out, "--budget", "30s", "--resume") as second:
            _, stderr = second.communicate(timeout=PATIENCE_S)
        assert second.returncode == 2
        assert f"another run is using it (process {first.pid})" in stderr.splitlines()[-1]
        assert first.poll() is None


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    code = "import sys; from familyseer.run._folder import hold; from pathlib import Path\n"
    code += "with hold(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="another run is using it"), hold(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with hold(tmp_path):
        pass


def test_a_full_disk_ends_tuning_with_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with running(out, "--budget", "5m") as run:
        wait_for_rounds(out, run, 2)
        # every later write of a line fails as on a disk without room
        (out / "history.csv").rename(tmp_path / "history.csv")
        (out / "history.csv").symlink_to("/dev/full")
        _, stderr = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 1
    last = stderr.splitlines()[-1]
    assert "history.csv: cannot be written (No space left on device)" in last
    assert "--resume" in last
    (out / "history.csv").unlink()
    (tmp_path / "history.csv").rename(out / "history.csv")
    before = (out / RECORDS).read_bytes()
    assert before.endswith(b"\n")
    summary = tune(TuneOptions(model="mlp", out=out, trials=4, budget_s=3000.0, resume=True))
    assert summary["trials_before"] == before.count(b"\n")
    assert (out / RECORDS).read_bytes().startswith(before)


def test_a_temporary_folder_without_room_is_not_blamed_on_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from familyseer.measure import _builder
    from familyseer.run import _journal

    # a disk cannot be filled on demand everywhere: what is left of it is asked for, and builds fail
    class Full:
        free = 0

    monkeypatch.setattr(_journal.shutil, "disk_usage", lambda _folder: Full)
    monkeypatch.setattr(_builder, "build_candidate", _no_room)
    out = tmp_path / "out"
    with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)"):
        tune(TuneOptions(model="mlp", out=out, trials=60, budget_s=3000.0))
    assert (out / "model.so").is_file()
    assert not (out / RECORDS).exists()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that cannot be written")
def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(UserError, match=r"/proc/familyseer: cannot be written"):
        check_writable(Path("/proc/familyseer"))


@pytest.mark.parametrize("content", ["{", '["ab"]', "[[1, 2, 3]]", '{"a": 1}', "5"])
def test_damaged_notes_of_checks_cost_checking_again(tmp_path: Path, content: str) -> None:
    folder = RunFolder(tmp_path, Identity("mlp", "ab", "llvm"), resume=False)
    folder.save_checked([("b", "2"), ("a", "1")])
    assert folder.read_checked() == [("a", "1"), ("b", "2")]
    (tmp_path / "tuning" / "checked.json").write_text(content)
    assert folder.read_checked() == []


def test_cost_models_are_saved_on_the_way(tmp_path: Path, monkeypatch: Any) -> None:
    from familyseer.run import _journal

    monkeypatch.setattr(_journal, "LEAST_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(_journal, "SAVE_SHARE", 1e9)
    out, seen = tmp_path / "out", []

    from familyseer.progress import Observer

    class Looking(Observer):
        def on_round(self, _event: Any) -> None:
            seen.append((out / "costmodels" / "manifest.json").is_file())

    tune(TuneOptions(model="mlp", out=out, trials=12, budget_s=3000.0), observer=Looking())
    assert seen
    assert all(seen)
