"""CUDA candidates compiled by nvrtc, which needs no GPU."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from familyseer.measure import WarmBuilder
from familyseer.measure._cuda_build import (
    CudaCompileError,
    _compile,
    _cuobjdump,
    build_cuda,
    resources,
    with_cubin,
)
from familyseer.measure._cuda_headers import light_headers
from familyseer.measure._cuda_limits import Kernel, refusal
from familyseer.measure._measure import Measured, measure
from familyseer.tvm_env import load_tvm
from tests.familyseer.measure.cuda_modules import (
    calls_nothing,
    cuda_target,
    doubles,
    indexes,
    shares,
    spills,
)

pytest.importorskip("cuda.bindings.nvrtc", reason="the wheels of the nvrtc extra are not installed")

HELLO = 'extern "C" __global__ void f(float* x) { x[0] = 1; }'


def compiler() -> Any:
    return load_tvm().get_global_func("tvm_callback_cuda_compile")


@pytest.fixture(scope="module")
def builder() -> Iterator[WarmBuilder]:
    made = WarmBuilder(workers=1, timeout_s=120)
    yield made
    made.close()


def build(builder: WarmBuilder, mod: Any) -> Any:
    result, _ = builder.finish(builder.start(mod, cuda_target()))
    return result


def test_the_launch_and_the_compilers_figures_are_read(tmp_path: Path) -> None:
    (one,) = build_cuda(doubles(), cuda_target(), str(tmp_path / "candidate.so"))
    assert (one.name, one.grid, one.block) == ("main_kernel", (32, 1, 1), (128, 1, 1))
    assert 0 < one.registers < 64
    assert (one.stack_bytes, one.shared_bytes) == (0, 0)
    # nothing else is left beside it
    assert os.listdir(tmp_path) == ["candidate.so"]


def test_spilled_registers_are_told_from_arrays_that_are_indexed(tmp_path: Path) -> None:
    path = str(tmp_path / "candidate.so")
    (spilling,) = build_cuda(spills(80), cuda_target(), path)
    assert spilling.registers == 65536 // 1024
    assert spilling.spill_bytes > 0
    (indexing,) = build_cuda(indexes(100), cuda_target(), path)
    assert indexing.stack_bytes >= 400
    assert indexing.spill_bytes == 0
    assert refusal((indexing,), "sm_90") is None


def test_every_kernel_of_a_candidate_is_read_in_launch_order(tmp_path: Path) -> None:
    first, second = build_cuda(doubles(kernels=2), cuda_target(), str(tmp_path / "candidate.so"))
    assert [first.name, second.name] == ["main_kernel", "main_kernel_1"]


def test_dynamic_shared_memory_is_the_launchs(tmp_path: Path) -> None:
    (one,) = build_cuda(shares(1024), cuda_target(), str(tmp_path / "candidate.so"))
    assert (one.dynamic_bytes, one.static_bytes) == (4096, 0)


def test_the_library_holds_machine_code_and_no_source(tmp_path: Path) -> None:
    path = tmp_path / "candidate.so"
    build_cuda(doubles(), cuda_target(), str(path))
    library = path.read_bytes()
    # its own and the cubin's
    assert library.count(b"\x7fELF") == 2
    assert struct.pack("<Q", 5) + b"cubin" in library
    assert b"__global__" not in library


def test_the_code_for_the_host_is_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "candidate.so"
    build_cuda(doubles(), cuda_target(), str(path))
    symbols = subprocess.run(["nm", "-D", path], capture_output=True, text=True, check=True).stdout
    assert "__tvm_ffi_main" in symbols
    assert "__tvm_ffi__library_bin" in symbols


def test_a_blob_of_another_form_is_left_as_it_is() -> None:
    code = struct.pack("<Q", 4) + b"code"
    for blob in (b"", code, b"cuda" + code, struct.pack("<Q", 4) + b"cuda" + code):
        assert with_cubin(blob, b"code", b"cubin") == blob


@pytest.mark.parametrize(
    ("mod", "told"),
    [
        (indexes(300), "bytes of each thread in local memory, more than 1020"),
        (spills(80), "main_kernel spills: "),
        (shares(65536), "262144 bytes of shared memory a block, 232448 are possible"),
    ],
    ids=["indexed array", "spills", "shared memory"],
)
def test_a_candidate_not_worth_running_fails_its_build_and_keeps_its_worker(
    builder: WarmBuilder, mod: Any, told: str
) -> None:
    worker = builder.pool.submit(os.getpid).result(timeout=120)
    result = build(builder, mod)
    assert result.artifact_path is None
    assert str(result.error_msg).startswith("build failed: main_kernel ")
    assert told in str(result.error_msg)
    assert builder.pool.submit(os.getpid).result(timeout=120) == worker
    assert os.listdir(builder.folder) == []


@pytest.mark.parametrize(
    ("mod", "built"), [(doubles(), True), (spills(80), False)], ids=["built", "refused"]
)
def test_what_a_candidate_takes_is_told_whether_it_was_refused_or_not(
    builder: WarmBuilder, mod: Any, built: bool
) -> None:
    future = builder.start(mod, cuda_target())
    result, _ = builder.finish(future)
    assert (result.error_msg is None) == built
    used = builder.resources(future)
    assert used is not None
    assert (used.local_bytes > 0) == (not built)
    assert 0.0 < used.occupancy <= 1.0
    if built:
        shutil.rmtree(os.path.dirname(result.artifact_path))


def test_of_what_does_not_compile_and_of_a_cpu_nothing_is_told(
    builder: WarmBuilder, cpu: Any, make_dense: Any
) -> None:
    for mod, target in ((calls_nothing(), cuda_target()), (make_dense().mod, cpu)):
        future = builder.start(mod, target)
        builder.finish(future)
        assert builder.resources(future) is None
        builder.drop(future)


class _Timer:
    """In place of a GPU: says that every library takes a millisecond."""

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        ms = load_tvm().s_tir.meta_schedule
        return [
            ms.runner.RunnerFuture(
                f_done=lambda: True, f_result=lambda: ms.runner.RunnerResult([1e-3], None)
            )
            for _ in runner_inputs
        ]


def measured(
    builder: WarmBuilder, mods: list[Any], cutoff_s: float | None, *, spilling: bool = False
) -> list[Measured]:
    tvm = load_tvm(intrinsics=True)
    context = tvm.s_tir.meta_schedule.TuneContext(mod=mods[0], target=cuda_target())
    schedules = [tvm.s_tir.Schedule(mod) for mod in mods]
    done, _, _ = measure(
        schedules, context, builder, _Timer(), cutoff_s=cutoff_s, spilling=spilling
    )
    return done


def test_where_all_candidates_spill_the_least_spilling_one_is_measured_and_named(
    builder: WarmBuilder, caplog: pytest.LogCaptureFixture
) -> None:
    mods = [spills(96), calls_nothing(), spills(80), shares(65536)]
    done = measured(builder, mods, None)
    assert [one.build_failed for one in done] == [True, True, False, True]
    assert [one.spills for one in done] == [False, False, True, False]
    assert [one.resources is not None for one in done] == [True, False, True, True]
    (warning,) = caplog.messages
    assert warning.startswith("main: each of 2 candidates keeps registers in memory; ")
    assert os.listdir(builder.folder) == []


@pytest.mark.parametrize(
    ("mods", "cutoff_s"),
    [([spills(80), doubles()], None), ([spills(80)], 1e-3)],
    ids=["another candidate is good", "the subgraph has a schedule"],
)
def test_a_candidate_that_spills_is_not_measured_where_there_is_another_schedule(
    builder: WarmBuilder, mods: list[Any], cutoff_s: float | None
) -> None:
    assert measured(builder, mods, cutoff_s)[0].build_failed


def test_a_subgraph_that_has_nothing_but_spilling_schedules_is_tuned_on(
    builder: WarmBuilder,
) -> None:
    (one,) = measured(builder, [spills(80)], 1e-3, spilling=True)
    assert one.spills
    assert not one.build_failed


def test_stock_metaschedule_gets_the_least_spilling_candidate_of_a_round(
    builder: WarmBuilder,
) -> None:
    inputs = load_tvm().s_tir.meta_schedule.builder.BuilderInput
    results = builder.build([inputs(spills(n), cuda_target()) for n in (96, 80)])
    assert [result.error_msg is None for result in results] == [False, True]
    shutil.rmtree(os.path.dirname(str(results[1].artifact_path)))


def test_a_good_candidate_is_built_by_the_same_way(builder: WarmBuilder) -> None:
    result = build(builder, doubles())
    assert result.error_msg is None
    assert os.path.exists(result.artifact_path)
    shutil.rmtree(os.path.dirname(result.artifact_path))


def test_what_the_compiler_refuses_is_told_by_its_first_complaint(builder: WarmBuilder) -> None:
    worker = builder.pool.submit(os.getpid).result(timeout=120)
    told = str(build(builder, calls_nothing()).error_msg)
    assert builder.pool.submit(os.getpid).result(timeout=120) == worker
    assert "error" in told
    assert "no_such_function" in told
    assert len(told) <= 300


def test_the_light_headers_change_no_instruction(tmp_path: Path) -> None:
    tool = _cuobjdump()
    if tool is None:
        pytest.skip("cuobjdump is not installed")
    source = """
#include <cuda/std/cstdint>
#include <cuda/std/type_traits>
#include <cuda_fp16.h>
namespace traits = cuda::std;
template <class T> __device__ int kind() {
  return traits::is_same_v<T, float> + 2 * traits::is_integral<const T>::value
       + 4 * traits::is_signed<T>::value + 8 * traits::is_unsigned<T>::value
       + 16 * traits::is_floating_point<T>::value
       + 32 * sizeof(typename traits::conditional<sizeof(T) == 4, char, double>::type);
}
extern "C" __global__ void f(int* out, float* x, half* h) {
  int64_t wide = uint8_t(x[2]) + int16_t(x[3]);
  out[0] = kind<float>(); out[1] = kind<unsigned char>(); out[2] = kind<char>();
  out[3] = kind<long long>(); out[4] = kind<bool>(); out[5] = kind<half>(); out[6] = kind<double>();
  x[0] = x[1] > 0 ? INFINITY : float(wide) * float(h[0]);
}
"""

    def instructions() -> str:
        file = tmp_path / "f.cubin"
        with cuda_target():
            file.write_bytes(bytes(compiler()(source)))
        return subprocess.run(
            [tool, "-sass", file], capture_output=True, text=True, check=True
        ).stdout

    plain = instructions()
    with light_headers(str(tmp_path)):
        light = instructions()
    assert "EXIT" in plain
    assert light == plain


def test_a_source_that_needs_the_whole_library_gets_it(tmp_path: Path) -> None:
    source = "#include <cuda/std/limits>\n" + HELLO.replace(
        "= 1", "= cuda::std::numeric_limits<short>::max()"
    )
    with cuda_target():
        with light_headers(str(tmp_path)), pytest.raises(RuntimeError):
            compiler()(source)
        assert bytes(_compile(compiler(), source, str(tmp_path))).startswith(b"\x7fELF")


def test_a_failed_build_leaves_tvms_compiler_as_it_was(tmp_path: Path) -> None:
    before = os.environ.get("TVM_CUDA_NVRTC_EXTRA_OPTS")
    with pytest.raises(CudaCompileError):
        build_cuda(calls_nothing(), cuda_target(), str(tmp_path / "candidate.so"))
    assert os.environ.get("TVM_CUDA_NVRTC_EXTRA_OPTS") == before
    with cuda_target(), pytest.raises(RuntimeError) as raised:
        compiler()("nonsense")
    assert not isinstance(raised.value, CudaCompileError)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_120"])
def test_static_shared_memory_is_without_what_the_driver_takes(arch: str, tmp_path: Path) -> None:
    source = """
extern "C" __global__ void f(float* x) {
  __shared__ float s[512];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[511 - threadIdx.x];
}
"""
    with cuda_target(arch), light_headers(str(tmp_path)):
        cubin = bytes(compiler()(source))
    ((name, (_, stack, shared)),) = resources(cubin, arch, str(tmp_path)).items()
    assert (name, stack, shared) == ("f", 0, 2048)


def test_without_cuobjdump_nothing_is_known_and_nothing_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from familyseer.measure import _cuda_build

    monkeypatch.setattr(_cuda_build, "_cuobjdump", lambda: None)
    kernels: tuple[Kernel, ...] = build_cuda(doubles(), cuda_target(), str(tmp_path / "a.so"))
    assert kernels == ()


LOADS = """
import sys
from familyseer.tvm_env import load_tvm
tvm = load_tvm()
if tvm.get_global_func("ffi.Module.load_from_bytes.cuda", allow_missing=True) is None:
    sys.exit("no CUDA runtime")
def refuse(code):
    raise AssertionError("it was compiled again")
tvm.register_global_func("tvm_callback_cuda_compile", refuse, override=True)
library = tvm.runtime.load_module(sys.argv[1])
assert [one.kind for one in library.imports] == ["cuda"]
assert library.get_function("main") is not None
assert library.imports[0].get_function("main_kernel") is not None
"""


def test_tvms_cuda_runtime_loads_the_library_and_compiles_nothing(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    runtime = Path(str(load_tvm().__file__)).parent / "lib" / "libtvm_runtime_cuda.so"
    if compiler is None or not runtime.exists():
        pytest.skip("no C compiler, or a TVM without CUDA")
    # the driver's library comes with a GPU; without one TVM's runtime loads with any of its names
    wanted = subprocess.run(
        ["nm", "-D", "--undefined-only", runtime], capture_output=True, text=True, check=True
    ).stdout.split()
    names = {name.partition("@")[0] for name in wanted if re.match(r"cu[A-Z]", name)}
    source = tmp_path / "driver.c"
    source.write_text("".join(f"int {name}(void) {{ return 100; }}\n" for name in sorted(names)))
    subprocess.run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-Wl,-soname,libcuda.so.1",
            "-o",
            tmp_path / "libcuda.so.1",
            source,
        ],
        check=True,
    )
    path = tmp_path / "candidate.so"
    build_cuda(doubles(), cuda_target(), str(path))
    folders = [str(tmp_path), os.environ.get("LD_LIBRARY_PATH", "")]
    ran = subprocess.run(
        [sys.executable, "-c", LOADS, path],
        env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(filter(None, folders))},
        capture_output=True,
        text=True,
        check=False,
    )
    if "no CUDA runtime" in ran.stderr:
        pytest.skip("TVM's CUDA runtime does not load: the CUDA runtime is not installed")
    assert ran.returncode == 0, ran.stderr
