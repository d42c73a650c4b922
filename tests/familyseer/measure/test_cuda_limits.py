"""The occupancy calculator against NVIDIA's own, which is a C header."""

from __future__ import annotations

import ctypes
import dataclasses
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from familyseer.measure._cuda_limits import (
    _KNOWN,
    MOST_STACK_BYTES,
    Architecture,
    Kernel,
    Resources,
    architecture,
    cannot_launch,
    occupancy,
    refusal,
    resident_blocks,
)
from familyseer.toolchain import find_toolkit, wheel_folders

ARCHITECTURES = [one for name, one in _KNOWN.items() if name not in ("sm_70", "sm_72")]

THREADS = (1, 31, 32, 33, 64, 96, 128, 224, 256, 480, 512, 1000, 1024)

ORACLE = """
#include <stddef.h>
#include <limits.h>
#define __host__
#define __device__
#include "cuda_occupancy.h"
int blocks(int major, int minor, int threads, long shared, long optin, long reserved,
           int block, int registers, long fixed, long dynamic) {
  cudaOccDeviceProp device = {0};
  cudaOccFuncAttributes kernel = {0};
  cudaOccDeviceState state = {0};
  cudaOccResult result = {0};
  device.computeMajor = major;
  device.computeMinor = minor;
  device.maxThreadsPerBlock = 1024;
  device.maxThreadsPerMultiprocessor = threads;
  device.regsPerBlock = device.regsPerMultiprocessor = 65536;
  device.warpSize = 32;
  device.sharedMemPerBlock = 49152;
  device.sharedMemPerMultiprocessor = shared;
  device.numSms = 1;
  device.sharedMemPerBlockOptin = optin;
  device.reservedSharedMemPerBlock = reserved;
  kernel.maxThreadsPerBlock = 1024;
  kernel.numRegs = registers;
  kernel.sharedSizeBytes = fixed;
  kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
  kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
  kernel.maxDynamicSharedSizeBytes = dynamic;
  state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
  if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, block, dynamic))
    return -1;
  return result.activeBlocksPerMultiprocessor;
}
"""

Blocks = Callable[[Architecture, Kernel], int]


@pytest.fixture(scope="module")
def nvidias(tmp_path_factory: pytest.TempPathFactory) -> Blocks:
    toolkit = find_toolkit()
    roots = ([toolkit.root] if toolkit else []) + wheel_folders()
    headers = [f for root in roots for f in root.rglob("cuda_occupancy.h")]
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not headers or compiler is None:
        pytest.skip("cuda_occupancy.h or a C compiler is not installed")
    folder: Path = tmp_path_factory.mktemp("oracle")
    (folder / "oracle.c").write_text(ORACLE)
    library = folder / "oracle.so"
    include = f"-I{headers[0].parent}"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", include, "-o", library, folder / "oracle.c"],
        check=True,
    )
    oracle = ctypes.CDLL(str(library)).blocks
    longs = (ctypes.c_long,) * 3
    oracle.argtypes = (*(ctypes.c_int,) * 3, *longs, ctypes.c_int, ctypes.c_int, *longs[:2])

    def blocks(on: Architecture, kernel: Kernel) -> int:
        number = int(on.name[3:])
        return int(
            oracle(
                number // 10,
                number % 10,
                on.threads,
                on.shared_bytes,
                on.block_shared_bytes,
                on.reserved_bytes,
                kernel.threads,
                kernel.registers,
                kernel.static_bytes,
                kernel.dynamic_bytes,
            )
        )

    return blocks


def kernel(
    block: tuple[int, int, int] = (128, 1, 1),
    registers: int = 32,
    static_bytes: int = 0,
    dynamic_bytes: int = 0,
    stack_bytes: int = 0,
    grid: tuple[int, int, int] = (64, 1, 1),
) -> Kernel:
    return Kernel("k", grid, block, registers, stack_bytes, static_bytes, dynamic_bytes)


@pytest.mark.parametrize("on", ARCHITECTURES, ids=lambda on: on.name)
def test_as_many_blocks_are_resident_as_nvidia_says(on: Architecture, nvidias: Blocks) -> None:
    numbers = random.Random(0)
    seen = set()
    for _ in range(2000):
        one = kernel(
            block=(numbers.choice(THREADS), 1, 1),
            registers=numbers.randint(1, 255),
            static_bytes=numbers.choice((0, 1, 4096, 16384, 40000, 49152)),
            dynamic_bytes=numbers.choice((0, numbers.randint(0, 8192), numbers.randint(0, 240000))),
        )
        expected = nvidias(on, one)
        if expected < 0:
            # beyond every carve-out there: it gives no answer
            assert one.shared_bytes > on.block_shared_bytes
            expected = 0
        assert resident_blocks(one, on) == expected, one
        seen.add(expected)
    assert {0, 1, 2, 3} < seen


def test_occupancy_is_a_share_of_the_warps() -> None:
    on = architecture("sm_90")
    assert on is not None
    assert occupancy(kernel((256, 1, 1), registers=32), on) == 1.0
    assert occupancy(kernel((256, 1, 1), registers=64), on) == 0.5
    assert occupancy(kernel((1024, 1, 1), registers=65), on) == 0.0


def test_features_in_an_architectures_name_change_no_limit() -> None:
    assert architecture("sm_90a") == architecture("sm_90")
    assert architecture("sm_100f") == architecture("sm_100")
    assert architecture("sm_999") is None
    assert architecture("gfx90a") is None


@pytest.mark.parametrize(
    ("one", "told"),
    [
        (kernel((32, 33, 1)), "1056 threads a block, 1 to 1024 are possible"),
        (kernel((1, 1, 128)), "threads a block are (1, 1, 128) along x, y and z"),
        (kernel(grid=(1, 70000, 1)), "blocks are (1, 70000, 1) along x, y and z"),
        (
            kernel(static_bytes=1, dynamic_bytes=232448),
            "232449 bytes of shared memory a block, 232448",
        ),
        (kernel((512, 1, 1), registers=200), "200 registers for each of 512 threads"),
    ],
)
def test_what_a_gpu_cannot_launch_is_refused_with_the_reason(one: Kernel, told: str) -> None:
    why = refusal((kernel(), one), "sm_90")
    assert why is not None
    assert why.startswith("k cannot be launched on sm_90: ")
    assert told in why


def test_a_kernel_that_works_from_local_memory_is_refused() -> None:
    assert refusal((kernel(stack_bytes=MOST_STACK_BYTES),), "sm_90") is None
    why = refusal((kernel(stack_bytes=16432),), "sm_90")
    assert why == "k keeps 16432 bytes of each thread in local memory, more than 1020"
    # of an architecture that nothing is known of, too
    assert refusal((kernel(stack_bytes=16432),), "sm_999") == why


def test_a_kernel_that_spills_at_all_is_refused_wherever_it_could_be_launched() -> None:
    spilling = dataclasses.replace(kernel(stack_bytes=8), spill_bytes=16)
    told = "k spills: 16 bytes of each thread's registers"
    assert refusal((kernel(), spilling), "sm_90") == told
    assert cannot_launch((kernel(), spilling), "sm_90") is None
    # what cannot be launched is no last resort, so that is told first
    both = dataclasses.replace(spilling, grid=(1, 70000, 1))
    assert "cannot be launched" in str(refusal((both,), "sm_90"))


def test_nothing_else_is_refused_for_an_unknown_architecture() -> None:
    huge = dataclasses.replace(kernel(), dynamic_bytes=1 << 20)
    assert refusal((huge,), "sm_999") is None


def test_a_candidate_takes_the_most_of_its_kernels_and_fills_a_gpu_as_its_largest_one() -> None:
    small = Kernel("a", (1, 1, 1), (1024, 1, 1), 64, 16, 4096, 0)
    large = Kernel("b", (64, 1, 1), (128, 1, 1), 255, 0, 0, 1024, spill_bytes=8)
    for kernels in ((small, large), (large, small)):
        used = Resources.of(kernels, "sm_90")
        # four warps of 256 registers a thread leave room for one more block
        assert used == Resources(255, 24, 4096, 2 * 4 / 64)
    assert Resources.of((small,), "sm_1") == Resources(64, 16, 4096, 0.0)
    assert Resources.of((), "sm_90") is None
