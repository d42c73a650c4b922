"""The doctor's report, its probes, and how it takes what hangs, crashes or is missing."""

from __future__ import annotations

import importlib.metadata
import os
import re
import stat
import sys
import time
from pathlib import Path

import pytest

from familyseer.doctor import Check, Report, diagnose
from familyseer.doctor import _cuda as cuda
from familyseer.doctor import _host as host
from familyseer.doctor import _packages as packages
from familyseer.doctor._probe import ask, ask_python
from familyseer.machine import Cores


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def named(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def report() -> Report:
    return diagnose()


def test_this_machine_is_fit_to_run_the_tests(report: Report) -> None:
    assert report.healthy, report.lines()
    checks = named(list(report.checks))
    assert checks["apache-tvm"].value == importlib.metadata.version("apache-tvm")
    assert checks["default target"].value.startswith("llvm ")
    assert checks["C++ compiler"].status == "ok"


def test_every_piece_that_is_not_there_says_what_it_costs(report: Report) -> None:
    lacking = [check for check in report.checks if check.status != "ok"]
    assert all(check.cost for check in lacking)
    lines = report.lines()
    for check in lacking:
        assert any(check.name in line and check.cost in line for line in lines)


def test_a_report_is_healthy_only_with_everything_required() -> None:
    optional = Check("CUDA", "pycuda", "missing", "", False, "no kernels")
    required = Check("Compiler", "C++ compiler", "missing", "", True, "no libraries")
    assert Report((optional,)).healthy
    ill = Report((optional, required))
    assert not ill.healthy
    assert ill.lines()[-1] == "Not ready: C++ compiler."
    assert "  pycuda        missing, optional - no kernels" in ill.lines()
    assert "  C++ compiler  missing, required - no libraries" in ill.lines()


def test_the_required_packages_are_those_that_the_distribution_names() -> None:
    requirements = importlib.metadata.requires("familyseer") or []
    base = [text for text in requirements if "extra ==" not in text]
    assert set(packages.REQUIRED) == {re.split(r"[<>=~!; ]", text)[0] for text in base}


def test_a_missing_package_is_named_with_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name in ("xgboost", "xgboost-cpu"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = named(packages.check_packages())["xgboost"]
    assert (check.status, check.required) == ("missing", True)
    assert check.cost == "cost models cannot be trained"


def test_a_stand_in_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "xgboost-cpu":
            return "3.0.0"
        if name == "xgboost":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = named(packages.check_packages())["xgboost"]
    assert (check.status, check.value) == ("ok", "3.0.0 (xgboost-cpu)")


@pytest.mark.parametrize(
    ("versions", "at_fault"),
    [
        ({"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15"}, "apache-tvm-ffi"),
        ({"apache-tvm": "0.25.0", "apache-tvm-ffi": "0.1.14.post1"}, "apache-tvm"),
    ],
)
def test_versions_that_crash_together_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], at_fault: str
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name, "1"))
    checks = named(packages.check_packages())
    assert [n for n in versions if checks[n].status == "failed"] == [at_fault]
    assert checks[at_fault].required


def test_a_hung_program_is_given_up_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    hung = program(tmp_path / "hung", f"sleep 60 & echo $! > {note}; wait")
    began = time.monotonic()
    answer = ask([hung], timeout_s=0.5)
    assert time.monotonic() - began < 5
    assert answer.fault == "no answer in 0.5 s"
    pid = int(note.read_text())
    for _ in range(50):
        if not _alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the child of the hung program lives on")


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_program_that_is_not_there_or_fails_is_an_answer(tmp_path: Path) -> None:
    assert ask([str(tmp_path / "nothing")], 5).fault.startswith("cannot be run: ")
    assert ask([program(tmp_path / "ill", "echo oh no >&2; exit 3")], 5).fault == "oh no"
    assert ask([program(tmp_path / "mute", "exit 3")], 5).fault == "exit code 3"


def test_a_crash_names_its_signal() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert ask_python(code, 20) == ({}, "crashed (SIGSEGV)")


@pytest.mark.parametrize("code", ["print('no json')", "pass", "print('[1]')"])
def test_an_unreadable_answer_is_no_answer(code: str) -> None:
    assert ask_python(code, 20) == ({}, "no readable answer")


def test_chatter_before_the_answer_is_passed_over() -> None:
    assert ask_python("print('hello'); print('{\"a\": 1}')", 20) == ({"a": 1}, "")


def test_a_tvm_that_does_not_load_is_required_and_missing() -> None:
    check = named(host.check_cpu({}, "crashed (SIGSEGV)"))["TVM loads"]
    assert (check.status, check.value, check.required) == ("failed", "crashed (SIGSEGV)", True)


def test_no_compiler_at_all() -> None:
    (check,) = host.check_compiler(None, known=True)
    assert (check.status, check.required) == ("missing", True)
    assert "CXX" in check.cost


def test_a_compiler_that_cannot_link_fails(tmp_path: Path) -> None:
    broken = program(
        tmp_path / "cc",
        'case "$1" in --version) echo cc 1;; *) echo ld: not found >&2; exit 1;; esac',
    )
    check = named(host.check_compiler(broken, known=True))["C++ compiler"]
    assert (check.status, check.required) == ("failed", True)
    assert "ld: not found" in check.value


def test_a_compiler_that_writes_nothing_fails(tmp_path: Path) -> None:
    check = host.check_compiler(program(tmp_path / "cc", "exit 0"), known=True)[0]
    assert (check.status, "writes no library" in check.value) == ("failed", True)


def test_gpus_are_listed_with_memory_and_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = {"name": "NVIDIA H200", "memory_bytes": 150 * 2**30, "capability": "9.0"}
    facts = {"version": "13.0", "gpus": [gpu]}
    monkeypatch.setattr(cuda, "ask_python", lambda code, timeout_s: (facts, ""))
    monkeypatch.setattr("shutil.which", lambda name: None)
    checks = named(cuda._driver())
    assert checks["driver"].value == "CUDA 13.0"
    assert checks["GPU 0"].value == "NVIDIA H200, 150.0 GiB, compute capability 9.0"


def test_a_driver_without_a_gpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "ask_python", lambda *_: ({"version": "13.0", "gpus": []}, ""))
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert named(cuda._driver())["GPU"].status == "missing"


def test_a_hung_nvidia_smi_does_not_hang_the_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(tmp_path / "nvidia-smi", "sleep 60")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(cuda, "_TIMEOUT_S", 0.3)
    monkeypatch.setattr(cuda, "ask_python", lambda *_: ({"version": "13.0", "gpus": []}, ""))
    value = named(cuda._driver())["driver"].value
    assert value == "CUDA 13.0 (nvidia-smi: no answer in 0.3 s)"


def test_a_driver_in_trouble_is_failed_and_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "ask_python", lambda *_: ({}, "cuInit gives error 999"))
    (check,) = cuda._driver()
    assert (check.status, check.value, check.required) == (
        "failed",
        "cuInit gives error 999",
        False,
    )


def test_a_folder_without_headers_that_the_user_names_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    check = cuda._headers()
    assert check.status == "failed"
    assert f"CUDA_PATH names {tmp_path}" in check.value


def test_idle_cores_are_named_with_the_remedy() -> None:
    found = Cores(physical=4, logical=4, affinity=4, quota=None, available=4)
    assert host.describe_threads(4, found) == "4"
    assert host.describe_threads(2, found).startswith("2 of 4 cores; TVM_NUM_THREADS=4")


def test_kernels_compile_here_without_a_gpu() -> None:
    assert (cuda._headers().status, cuda._compiles().status) == ("ok", "ok")


def test_probes_run_in_this_very_python() -> None:
    facts, fault = ask_python("import json, sys; print(json.dumps({'at': sys.executable}))", 20)
    assert (facts["at"], fault) == (sys.executable, "")
