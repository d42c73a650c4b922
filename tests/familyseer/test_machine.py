"""Cores and their limits."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from familyseer import machine


def test_at_least_one_core_and_no_more_than_the_machine_has() -> None:
    found = machine.cores()
    assert 1 <= found.available <= found.physical <= found.logical
    assert found.affinity <= found.logical
    assert machine.cpu_model()


def test_a_quota_counts_in_whole_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 16 if logical else 8)
    monkeypatch.setattr(machine, "_affinity", lambda logical: set(range(logical)))
    monkeypatch.setattr(machine, "_distinct_cores", lambda cpus: 8)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda root, membership: 2.5)
    assert machine.cores() == machine.Cores(8, 16, 16, 2.5, 3)


def test_an_affinity_counts_in_physical_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.cpu_count", lambda logical: 16 if logical else 8)
    monkeypatch.setattr(machine, "_affinity", lambda logical: {0, 1, 8, 9})
    monkeypatch.setattr(machine, "_distinct_cores", lambda cpus: 2)
    monkeypatch.setattr(machine, "_cgroup_quota", lambda root, membership: None)
    assert machine.available_cores() == 2


@pytest.mark.parametrize(
    ("limits", "quota"),
    [
        ({"": "max 100000", "a": "max 100000", "a/b": "max 100000"}, None),
        ({"a": "150000 100000", "a/b": "max 100000"}, 1.5),
        ({"a": "150000 100000", "a/b": "50000 100000"}, 0.5),
        ({"a/b": "nonsense"}, None),
        ({}, None),
    ],
)
def test_the_tightest_quota_of_all_levels_holds(
    tmp_path: Path, limits: dict[str, str], quota: float | None
) -> None:
    root = tmp_path / "cgroup"
    (root / "a" / "b").mkdir(parents=True)
    for group, text in limits.items():
        (root / group / "cpu.max").write_text(text)
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")
    assert machine._cgroup_quota(root, membership) == quota


def test_the_older_control_groups_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("200000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert machine._cgroup_quota(tmp_path, tmp_path / "missing") == 2.0


def test_memory_is_at_most_the_machines() -> None:
    assert 0 < machine.memory_bytes() <= psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("limits", "membership", "memory"),
    [
        ({"a/memory.max": "max", "a/b/memory.max": "max"}, "0::/a/b", None),
        ({"a/memory.max": "1000", "a/b/memory.max": "max"}, "0::/a/b", 1000),
        ({"memory/a/memory.limit_in_bytes": "2000"}, "4:cpu,memory:/a\n0::/", 2000),
        # a container sees its own group as the root
        ({"memory/memory.limit_in_bytes": "3000"}, "4:memory:/of/the/host", 3000),
        ({"memory.max": "nonsense"}, "0::/", None),
        ({}, "", None),
    ],
)
def test_the_tightest_memory_limit_of_all_levels_holds(
    tmp_path: Path, limits: dict[str, str], membership: str, memory: int | None
) -> None:
    for name, text in limits.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    told = tmp_path / "membership"
    told.write_text(membership + "\n")
    assert machine._cgroup_memory(tmp_path / "cgroup", told) == memory
