"""What a run writes down for its report alone: the models' accuracy, and the machine."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from familyseer.report import AccuracyLog
from familyseer.report._machine import measure_peaks, note_machine, read_machine
from familyseer.report._rounds import read_accuracy
from tests.familyseer.report import made_run


def test_accuracy_is_noted_when_it_changes(tmp_path: Path) -> None:
    log = AccuracyLog(tmp_path)
    for elapsed_s, family, accuracy in (
        (1.0, "conv", None),
        (2.0, "conv", 0.5),
        (3.0, "a, b", 0.5),
        (4.0, "conv", 0.50001),
        (5.0, "conv", 0.75),
    ):
        log.add(elapsed_s, int(elapsed_s), family, accuracy)
    AccuracyLog(tmp_path).add(6.0, 6, "conv", 0.8)
    rows, missing = read_accuracy(tmp_path / "accuracy.csv")
    found = [(row.elapsed_s, row.family, row.accuracy) for row in rows]
    assert found == [(2, "conv", 0.5), (3, "a, b", 0.5), (5, "conv", 0.75), (6, "conv", 0.8)]
    assert missing == ""
    with (tmp_path / "accuracy.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["elapsed_s", "trials", "family", "accuracy"]


def test_accuracy_that_cannot_be_written_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = AccuracyLog(tmp_path / "gone")
    log.add(1.0, 1, "conv", 0.5)
    log.add(2.0, 2, "conv", 0.6)
    assert caplog.text.count("cannot be written") == 1


def test_a_cpu_has_its_peaks_measured(tmp_path: Path) -> None:
    note_machine(tmp_path, device="cpu", time_s=0.11)
    found, missing = read_machine(tmp_path)
    assert missing == ""
    assert found is not None
    assert found.cores >= 1
    assert found.cpu
    assert found.peak_flops
    assert found.peak_bytes_s


@pytest.mark.parametrize(("device", "time_s"), [("cuda", 1.0), ("cpu", 0.0), ("", 1.0)])
def test_other_devices_and_late_runs_have_no_peaks(
    tmp_path: Path, device: str, time_s: float
) -> None:
    note_machine(tmp_path, device=device, time_s=time_s)
    found, _ = read_machine(tmp_path)
    assert found is not None
    assert found.peak_flops is None


def test_of_two_runs_the_higher_peaks_stay(tmp_path: Path) -> None:
    made_run.write(tmp_path / "machine.json", made_run.machine(1e18))
    note_machine(tmp_path, device="cpu", time_s=0.11)
    found, _ = read_machine(tmp_path)
    assert found is not None
    assert found.peak_flops == 1e18


def test_peaks_are_counted_in_operations_and_bytes() -> None:
    flops_s, bytes_s = measure_peaks(1, 0.02)
    # any computer since 1990, and none before 2050
    assert 1e6 < flops_s < 1e15
    assert 1e6 < bytes_s < 1e14
