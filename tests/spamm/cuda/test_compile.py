"""nvrtc without a GPU: generated kernels compile, and cubins tell what they use."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest

from spamm.cuda import _compile
from spamm.cuda._compile import CompileError, cache_folder, compile_cubin, resources, sass
from spamm.cuda._config import MultiplyConfig
from spamm.cuda._multiply import KERNEL_NAME, multiply_source
from spamm.cuda._space import DEFAULT_BLOCK, default, space

pytest.importorskip("cuda.bindings.nvrtc", reason="nvrtc is in the extra [nvrtc]")

ARCHS = ["sm_80", "sm_90"]
UNITS = [("float16", "tensor"), ("bfloat16", "tensor"), ("float32", "tensor"), ("float32", "cores")]
TINY = 'extern "C" __global__ void tiny(float* x) { x[threadIdx.x] += 1.0f; }\n'


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cubins")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(
    ("dtype", "unit", "block"),
    [*((*unit, DEFAULT_BLOCK) for unit in UNITS), ("float16", "tensor", (64, 32, 64))],
)
def test_defaults_keep_all_in_registers_and_use_their_unit(
    dtype: str, unit: str, block: Any, arch: str, cache: Path
) -> None:
    config = default(dtype, arch, block, unit=unit)
    cubin = compile_cubin(multiply_source(config), arch, cache=cache)
    used = resources(cubin)[KERNEL_NAME]
    assert not used.spills
    assert used.registers <= 255
    # the kernel's own static part; the driver keeps up to a kilobyte more on newer GPUs
    assert 0 <= used.shared_bytes - config.list_bytes <= 1024 + 128
    code = sass(cubin)
    assert ("HMMA" in code) == (unit == "tensor")
    assert "LDGSTS" in code
    assert ("LDSM" in code) == (unit == "tensor")


@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize(("dtype", "unit"), UNITS)
def test_a_sample_of_the_space_compiles(dtype: str, unit: str, arch: str, cache: Path) -> None:
    config = random.Random(f"{dtype} {unit} {arch}").choice(space(dtype, arch, unit=unit))
    used = resources(compile_cubin(multiply_source(config), arch, cache=cache))
    assert used[KERNEL_NAME].registers * config.threads <= 65536


@pytest.mark.parametrize("vector", [2, 8])
def test_variants_for_other_alignments_do_not_copy_asynchronously(vector: int, cache: Path) -> None:
    config = default("float16", "sm_90").for_alignment(vector)
    code = sass(compile_cubin(multiply_source(config), "sm_90", cache=cache))
    assert "LDGSTS" not in code
    assert "HMMA" in code


@pytest.mark.parametrize("block", [DEFAULT_BLOCK, (32, 16, 32)])
@pytest.mark.parametrize("arch", ARCHS)
def test_variants_for_other_alignments_keep_all_in_registers(
    arch: str, block: Any, cache: Path
) -> None:
    config = default("float32", arch, block, out="float32").for_alignment(4)
    assert not resources(compile_cubin(multiply_source(config), arch, cache=cache))[
        KERNEL_NAME
    ].spills


def test_split_sums_are_added_atomically(cache: Path) -> None:
    config = MultiplyConfig(
        "float32", "float32", "cores", (64, 16, 64), (64, 64, 32), (2, 2), 2, split_k=2
    )
    code = sass(compile_cubin(multiply_source(config), "sm_90", cache=cache))
    assert re.search(r"\bREDG?\b.*F32", code)


def test_a_refused_source_is_told_by_its_first_error(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"error: identifier \"wrong\" is undefined") as caught:
        compile_cubin(TINY.replace("1.0f", "wrong"), "sm_90", cache=tmp_path)
    assert "\n" not in str(caught.value)
    assert "1 error detected" in caught.value.log
    assert not list(tmp_path.rglob("*.cubin"))


def test_an_unknown_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="gpu-architecture"):
        compile_cubin(TINY, "sm_1", cache=tmp_path)


def test_the_same_text_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_cubin(TINY, "sm_80", cache=tmp_path)
    files = list(tmp_path.rglob("*"))
    assert [path.suffix for path in files if path.is_file()] == [".cubin"]

    def refuse(*_: Any) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(_compile, "_compile", refuse)
    assert compile_cubin(TINY, "sm_80", cache=tmp_path) == first
    for other in [(TINY, "sm_90", ()), (TINY + "\n", "sm_80", ()), (TINY, "sm_80", ("-G",))]:
        with pytest.raises(AssertionError, match="compiled again"):
            compile_cubin(*other, cache=tmp_path)


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert resources(compile_cubin(TINY, "sm_80", cache=blocked))["tiny"].registers > 0


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPAMM_CACHE", "here")
    assert cache_folder() == Path("here")
    monkeypatch.delenv("SPAMM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "there")
    assert cache_folder() == Path("there") / "spamm"


def test_spills_are_seen(cache: Path) -> None:
    source = """extern "C" __global__ void spilling(const float* x, float* y, const int* at) {
      float kept[64];
      for (int i = 0; i < 64; ++i) kept[i] = x[threadIdx.x + 64 * i];
      for (int i = 0; i < 64; ++i) y[threadIdx.x + 64 * i] = kept[at[i] & 63];
    }"""
    assert resources(compile_cubin(source, "sm_90", cache=cache))["spilling"].spills


def test_what_is_no_cubin_is_refused() -> None:
    with pytest.raises(RuntimeError, match="cuobjdump -res-usage"):
        resources(b"not a cubin")
