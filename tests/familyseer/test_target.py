"""Targets from the text of ``--target``."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from familyseer.errors import UserError
from familyseer.machine import available_cores
from familyseer.target import describe_target, resolve_target


@pytest.mark.parametrize("text", [None, "llvm"])
def test_the_default_is_this_cpu_by_its_real_name(text: str | None) -> None:
    from tvm.target import codegen

    target = resolve_target(text)
    assert target.kind.name == "llvm"
    assert target.attrs["mcpu"] == codegen.llvm_get_system_cpu()
    assert target.attrs["num-cores"] == available_cores()


def test_an_llvm_target_gets_the_cores_that_it_lacks() -> None:
    target = resolve_target('{"kind": "llvm", "mcpu": "skylake"}')
    assert target.attrs["num-cores"] == available_cores()
    assert target.attrs["mcpu"] == "skylake"


def test_cores_given_by_hand_are_kept() -> None:
    target = resolve_target('{"kind": "llvm", "num-cores": 7}')
    assert target.attrs["num-cores"] == 7


def test_a_cuda_target_gets_a_host_and_the_limits_of_a_block() -> None:
    target = resolve_target('{"kind": "cuda", "arch": "sm_90"}')
    assert target.host.kind.name == "llvm"
    assert target.host.attrs["num-cores"] == available_cores()
    assert target.attrs["max_threads_per_block"] == 1024
    assert target.attrs["max_shared_memory_per_block"] == 49152
    assert target.attrs["thread_warp_size"] == 32


@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_90a", "sm_100f"])
def test_an_architecture_names_a_gpu(arch: str) -> None:
    target = resolve_target(arch)
    assert (target.kind.name, target.attrs["arch"]) == ("cuda", arch)
    assert target.attrs["registers_per_block"] == 65536
    assert target.host.kind.name == "llvm"
    # and is the same target as JSON
    assert str(target) == str(resolve_target(f'{{"kind": "cuda", "arch": "{arch}"}}'))


def test_a_host_given_by_hand_is_kept() -> None:
    target = resolve_target(
        '{"kind": "cuda", "arch": "sm_80", "host": {"kind": "llvm", "mcpu": "znver3"}}'
    )
    assert target.host.attrs["mcpu"] == "znver3"


@pytest.mark.parametrize(
    "text", ["nvidia/nvidia-h200", "nvidia/nvidia-h100", '{"tag": "nvidia/nvidia-h200"}']
)
def test_a_tag_names_a_gpu_of_another_machine(text: str) -> None:
    target = resolve_target(text)
    assert (target.kind.name, target.attrs["arch"]) == ("cuda", "sm_90a")
    assert target.host is not None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("bogus", "bogus"),
        ("", "target"),
        ("sm90", "an architecture such as sm_90"),
        ("llvm -mcpu=skylake", "llvm -mcpu=skylake"),
        ('{"kind": "llvm",', "not JSON"),
        ("[1]", "a JSON object with a kind or a tag"),
        ("{}", "a JSON object with a kind or a tag"),
        ('{"kind": "llvm", "mcpuu": "x"}', "mcpuu"),
        ('{"kind": "llvm", "num-cores": "two"}', "num-cores"),
        ('{"kind": "llvm", "mcpu": "notacpu"}', "notacpu"),
        ('{"kind": "cuda"}', "arch"),
        ('{"kind": "cuda", "arch": "90"}', "arch"),
    ],
)
def test_an_unknown_target_is_refused_in_one_line_that_names_it(text: str, named: str) -> None:
    with pytest.raises(UserError, match="expected") as refused:
        resolve_target(text)
    message = str(refused.value)
    assert text in message
    assert named in message
    assert "\n" not in message
    assert "/project/" not in message


def test_cuda_without_a_gpu_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm

    class NoGpu:
        exist = False

    monkeypatch.setattr(tvm, "cuda", lambda index: NoGpu())
    with pytest.raises(UserError, match="familyseer doctor"):
        resolve_target("cuda")


def test_this_machines_gpu_tells_its_own_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm

    told = {
        "exist": True,
        "max_shared_memory_per_block": 49152,
        "max_threads_per_block": 1024,
        "warp_size": 32,
        "compute_version": "8.9",
        "l2_cache_size_bytes": 72 << 20,
        "dlpack_device_type": lambda: 2,
    }
    gpu = SimpleNamespace(**told)
    monkeypatch.setattr(tvm, "cuda", lambda index: gpu)
    monkeypatch.setattr("tvm.target.detect_target.device", lambda name: gpu)
    target = resolve_target("cuda")
    assert target.attrs["arch"] == "sm_89"
    assert target.attrs["l2_cache_size_bytes"] == 72 << 20
    assert target.attrs["registers_per_block"] == 65536
    assert target.attrs["max_threads_per_block"] == 1024


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ('{"kind": "llvm", "mcpu": "skylake", "num-cores": 8}', "llvm skylake, 8 cores"),
        ('{"kind": "llvm", "mcpu": "skylake", "num-cores": 1}', "llvm skylake, 1 core"),
        ("nvidia/nvidia-h100", "cuda sm_90a"),
    ],
)
def test_a_target_is_described_in_a_few_words(text: str, described: str) -> None:
    assert describe_target(resolve_target(text)) == described
