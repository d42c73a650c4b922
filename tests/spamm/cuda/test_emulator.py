"""The emulator: what it computes is what a GPU computes, and what a GPU forbids it refuses."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.spamm.cuda.emulator import EmulationError, Kernels, compile_kernels, needs_compiler

pytestmark = needs_compiler

_RIGHT = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
extern "C" __global__ void __launch_bounds__(128) neighbours(const float* x, float* y, int n,
                                                             float scale) {
    __shared__ float tile[128];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    tile[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    if (i < n) y[i] = scale * tile[threadIdx.x ^ 33];
}

extern "C" __global__ void lanes(int* out) {
    int lane = threadIdx.x;
    unsigned votes = __ballot_sync(0xffffffffu, lane % 3 == 0);
    int sum = lane;
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    long long wide = __shfl_sync(0xffffffffu, 1LL << 40 | lane, lane + 1);
    int up = __shfl_up_sync(0xffffffffu, lane, 1);
    int down = __shfl_down_sync(0xffffffffu, lane, 1, 8);
    int* row = out + 6 * lane;
    row[0] = (int)votes; row[1] = sum; row[2] = (int)(wide >> 40); row[3] = (int)wide;
    row[4] = up; row[5] = down;
}

extern "C" __global__ void queue(int* next, int* owner, int tiles) {
    __shared__ int tile;
    for (;;) {
        __syncthreads();
        if (threadIdx.x == 0) tile = atomicAdd(next, 1);
        __syncthreads();
        if (tile >= tiles) return;
        if (threadIdx.x == 0) owner[tile] = blockIdx.x;
    }
}

extern "C" __global__ void convert(const float* x, __half* h, __nv_bfloat16* b, float* back) {
    int i = threadIdx.x + blockIdx.x * blockDim.x;
    h[i] = __float2half_rn(x[i]);
    b[i] = __float2bfloat16_rn(x[i]);
    back[2 * i] = __half2float(h[i]);
    back[2 * i + 1] = __bfloat162float(b[i]);
}

extern "C" __global__ void rounding(const double* x, float* y) {
    y[0] = __double2float_ru(x[0]); y[1] = __double2float_rd(x[0]);
    y[2] = __fadd_ru(1.0f, 1e-10f); y[3] = __fmul_rd(1.0f + 1.2e-7f, 1.0f + 1.2e-7f);
    y[4] = (float)(__fma_ru(1e-10 * x[0], 1e-10, 1.0) > 1.0);
}

extern __shared__ __align__(128) unsigned char smem[];
extern "C" __global__ void stream(const float* x, float* y, int steps) {
    float4* stage = reinterpret_cast<float4*>(smem);
    const float4* from = reinterpret_cast<const float4*>(x);
    spamm_cp_async16(&stage[threadIdx.x], &from[threadIdx.x], true);
    spamm_cp_async_commit();
    for (int step = 0; step < steps; ++step) {
        int next = step + 1;
        spamm_cp_async16(&stage[next % 2 * 32 + threadIdx.x], &from[next * 32 + threadIdx.x],
                         next < steps);
        spamm_cp_async_commit();
        spamm_cp_async_wait<1>();
        __syncthreads();
        float4 v = stage[step % 2 * 32 + (threadIdx.x ^ 1)];
        reinterpret_cast<float4*>(y)[step * 32 + threadIdx.x] = v;
        __syncthreads();
    }
}
"""

# A (16 x k) row-major and B (k x 8) row-major in shared memory, as the multiply kernels hold them
_TENSOR = r"""
extern "C" __global__ void mma(const unsigned short* a, const unsigned short* b, float* c) {
    __shared__ __align__(16) unsigned short sa[16 * 16], sb[16 * 8];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) sa[i] = a[i];
    for (int i = lane; i < 128; i += 32) sb[i] = b[i];
    __syncwarp();
    unsigned ra[4], rb[2];
    float d[4];
    int row = lane / 4, column = lane % 4 * 2;
    for (int i = 0; i < 4; ++i) d[i] = c[(row + i / 2 * 8) * 8 + column + i % 2];
    spamm_ldmatrix_x4(ra, &sa[lane % 16 * 16 + lane / 16 * 8]);
    spamm_ldmatrix_x2_trans(rb, &sb[lane % 16 * 8]);
    MMA(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(row + i / 2 * 8) * 8 + column + i % 2] = d[i];
}
extern "C" __global__ void fragments(const unsigned short* a, unsigned* out, unsigned* trans) {
    __shared__ __align__(16) unsigned short sa[16 * 16];
    int lane = threadIdx.x;
    for (int i = lane; i < 256; i += 32) sa[i] = a[i];
    __syncwarp();
    unsigned r[4], t[4];
    spamm_ldmatrix_x4(r, &sa[lane % 16 * 16 + lane / 16 * 8]);
    spamm_ldmatrix_x4_trans(t, &sa[lane % 16 * 16 + lane / 16 * 8]);
    for (int i = 0; i < 4; ++i) out[4 * lane + i] = r[i];
    for (int i = 0; i < 4; ++i) trans[4 * lane + i] = t[i];
}
extern "C" __global__ void tf32(const float* a, const float* b, float* c) {
    int group = threadIdx.x / 4, member = threadIdx.x % 4;
    unsigned ra[4], rb[2];
    float d[4] = {0, 0, 0, 0};
    for (int i = 0; i < 4; ++i)
        ra[i] = spamm_to_tf32(a[(group + i % 2 * 8) * 8 + member + i / 2 * 4]);
    for (int i = 0; i < 2; ++i) rb[i] = spamm_to_tf32(b[(member + i * 4) * 8 + group]);
    spamm_mma_m16n8k8_tf32(d, ra, rb);
    for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = d[i];
}
"""

# each of these is wrong in one way; `n` is 0 where they are run
_WRONG = r"""
extern "C" __global__ void no_barrier(float* y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1.0f;
    y[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void overwritten(float* y) {
    __shared__ float tile[64];
    tile[threadIdx.x] = 1.0f;
    __syncthreads();
    y[threadIdx.x] = tile[63 - threadIdx.x];
    tile[threadIdx.x] = 2.0f;
}
extern "C" __global__ void same_lane_element(float* y) {
    __shared__ float tile[2];
    if (threadIdx.x < 32) tile[threadIdx.x / 16] = 1.0f;
}
extern "C" __global__ void blocks_share(float* y) { y[threadIdx.x] = 1.0f; }
extern "C" __global__ void past_end(float* y) { y[threadIdx.x + 1] = 1.0f; }
extern "C" __global__ void before_begin(float* y) { y[(int)threadIdx.x - 1] = 1.0f; }
extern "C" __global__ void misaligned(float* y) {
    float4 zero = {0, 0, 0, 0};
    if (threadIdx.x == 0) *reinterpret_cast<float4*>(y + 1) = zero;
}
extern "C" __global__ void read_only(const float* y) { const_cast<float*>(y)[0] = 1.0f; }
extern "C" __global__ void divergent(float* y) {
    if (threadIdx.x < 32) __syncthreads();
    else __syncthreads();
}
extern "C" __global__ void half_warp(float* y) {
    if (threadIdx.x < 16) __syncwarp();
}
extern "C" __global__ void register_index(float* y, int n) {
    float r[4] = {y[0], y[1], y[2], y[3]};
    y[threadIdx.x] = r[4 + n];
}
extern __shared__ __align__(128) unsigned char smem[];
extern "C" __global__ void too_little_shared(float* y) { smem[64 * 16 + threadIdx.x] = 1; }
extern "C" __global__ void not_waited(const float* x, float* y) {
    float* tile = reinterpret_cast<float*>(smem);
    spamm_cp_async16(tile + 4 * threadIdx.x, x, true);
    spamm_cp_async_commit();
    y[threadIdx.x] = tile[4 * threadIdx.x];
}
extern "C" __global__ void waited_alone(const float* x, float* y) {
    float* tile = reinterpret_cast<float*>(smem);
    spamm_cp_async16(tile + 4 * threadIdx.x, x, true);
    spamm_cp_async_commit();
    spamm_cp_async_wait<0>();
    y[threadIdx.x] = tile[4 * (threadIdx.x ^ 32)];
}
extern "C" __global__ void matrix_row(const float* x, float* y) {
    unsigned r[2];
    if (threadIdx.x < 32) spamm_ldmatrix_x2(r, smem + 8 * threadIdx.x);
}
extern "C" __global__ void counted_too_early(float* y) {
    __shared__ int count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    atomicAdd(&count, 1);
    y[threadIdx.x] = (float)count;
}
"""


@pytest.fixture(scope="module")
def right() -> Kernels:
    return compile_kernels(_RIGHT)


@pytest.fixture(scope="module")
def wrong() -> Kernels:
    return compile_kernels(_WRONG)


@pytest.mark.parametrize("seed", [None, 1])
def test_threads_exchange_through_shared_memory(right: Kernels, seed: int | None) -> None:
    x = np.arange(300, dtype=np.float32)
    y = np.full(300, -1, np.float32)
    right.launch("neighbours", 3, 128, [x, y, np.int32(300), np.float32(2)], seed=seed)
    padded = np.zeros(384, np.float32)
    padded[:300] = x
    np.testing.assert_array_equal(y, 2 * padded[np.arange(300) ^ 33])


def test_lanes_vote_and_shuffle(right: Kernels) -> None:
    out = np.zeros((32, 6), np.int32)
    right.launch("lanes", 1, 32, [out], seed=5)
    lane = np.arange(32)
    votes = int(sum(1 << i for i in range(0, 32, 3)))
    assert (out[:, 0].view(np.uint32) == votes).all()
    assert (out[:, 1] == 496).all()
    assert (out[:, 2] == 256 >> 8).all()
    np.testing.assert_array_equal(out[:, 3], (lane + 1) % 32)
    np.testing.assert_array_equal(out[:, 4], np.maximum(lane - 1, 0))
    np.testing.assert_array_equal(out[:, 5], np.where(lane % 8 == 7, lane, lane + 1))


def test_persistent_blocks_take_each_tile_once(right: Kernels) -> None:
    counter, owner = np.zeros(1, np.int32), np.full(7, -1, np.int32)
    right.launch("queue", 3, 64, [counter, owner, np.int32(7)])
    # blocks run one after another here: the first takes all, the others find none
    assert counter[0] == 10
    assert (owner == 0).all()


def test_conversions_round_as_numpy_does(right: Kernels) -> None:
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint32)
    half_ties = (np.arange(2048, dtype=np.uint32) << 12) + 0x38000000
    x = np.concatenate([bits, half_ties]).view(np.float32)
    x[:8] = [np.inf, -np.inf, 65519, 65520, 2**-25, 3 * 2**-25, 0, -0.0]
    x = x[~np.isnan(x)][:6016]
    half, brain = np.zeros(x.size, np.uint16), np.zeros(x.size, np.uint16)
    back = np.zeros((x.size, 2), np.float32)
    right.launch("convert", x.size // 64, 64, [x, half, brain, back])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(half[: half.size // 64 * 64], expected.view(np.uint16))
    np.testing.assert_array_equal(brain, x.astype(ml_dtypes.bfloat16).view(np.uint16))
    np.testing.assert_array_equal(back[:, 0], expected.astype(np.float32))


def test_directed_rounding_is_that_of_the_intrinsics(right: Kernels) -> None:
    y = np.zeros(5, np.float32)
    right.launch("rounding", 1, 1, [np.array([1 / 3]), y])
    third = np.float32(1 / 3)
    assert y[0] >= 1 / 3 >= y[1]
    assert y[0] == np.nextafter(y[1], np.float32(1))
    assert third in (y[0], y[1])
    assert y[2] == np.nextafter(np.float32(1), np.float32(2))
    up = np.float32(1 + 1.2e-7)
    assert y[3] <= float(up) ** 2
    assert y[4] == 1


@pytest.mark.parametrize("seed", [None, 2])
def test_asynchronous_copies_arrive_when_waited_for(right: Kernels, seed: int | None) -> None:
    x = np.random.default_rng(1).random((5, 32, 4), np.float32)
    y = np.zeros_like(x)
    right.launch("stream", 1, 32, [x, y, np.int32(5)], shared_bytes=1024, seed=seed)
    np.testing.assert_array_equal(y, x[:, np.arange(32) ^ 1])


@pytest.mark.parametrize(("dtype", "suffix"), [("float16", "f16"), ("bfloat16", "bf16")])
def test_fragments_of_sixteen_bits_multiply_as_matrices(dtype: str, suffix: str) -> None:
    kernels = compile_kernels(_TENSOR.replace("MMA", f"spamm_mma_m16n8k16_{suffix}"))
    kind: Any = np.float16 if dtype == "float16" else ml_dtypes.bfloat16
    rng = np.random.default_rng(2)
    a = rng.integers(-8, 8, (16, 16)).astype(kind)
    b = rng.integers(-8, 8, (16, 8)).astype(kind)
    c = rng.integers(-8, 8, (16, 8)).astype(np.float32)
    expected = a.astype(np.float64) @ b.astype(np.float64) + c
    kernels.launch("mma", 1, 32, [a.view(np.uint16), b.view(np.uint16), c])
    np.testing.assert_array_equal(c, expected)


def test_matrices_are_loaded_into_the_lanes_of_a_fragment() -> None:
    kernels = compile_kernels(_TENSOR.replace("MMA", "spamm_mma_m16n8k16_f16"))
    a = np.arange(256, dtype=np.uint16).reshape(16, 16)
    out, trans = np.zeros((32, 4), np.uint32), np.zeros((32, 4), np.uint32)
    kernels.launch("fragments", 1, 32, [a, out, trans])
    # PTX ISA, fragment A of mma.m16n8k16: elements a0 to a7 of each lane
    lane, i = np.arange(32)[:, None], np.arange(8)
    rows = np.where((i < 2) | ((i >= 4) & (i < 6)), lane // 4, lane // 4 + 8)
    columns = lane % 4 * 2 + (i & 1) + np.where(i >= 4, 8, 0)
    np.testing.assert_array_equal(out.view(np.uint16), a[rows, columns])
    # each of the four 8 x 8 matrices is transposed where it lies
    at_row, at_column = rows // 8 * 8 + columns % 8, columns // 8 * 8 + rows % 8
    np.testing.assert_array_equal(trans.view(np.uint16), a[at_row, at_column])


def test_tf32_fragments_multiply_rounded_inputs() -> None:
    kernels = compile_kernels(_TENSOR.replace("MMA", "spamm_mma_m16n8k16_f16"))
    rng = np.random.default_rng(4)
    a, b = rng.random((16, 8), np.float32), rng.random((8, 8), np.float32)
    c = np.zeros((16, 8), np.float32)
    kernels.launch("tf32", 1, 32, [a, b, c])

    def rounded(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return ((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32).astype(np.float64)

    np.testing.assert_allclose(c, rounded(a) @ rounded(b), rtol=1e-6)
    assert np.abs(c - a.astype(np.float64) @ b).max() > 1e-6


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ("no_barrier", "race: thread .* without a barrier between: static shared memory"),
        ("overwritten", "race: thread .* without a barrier between: static shared memory"),
        ("same_lane_element", "race: thread .* writes what thread .* wrote"),
        ("counted_too_early", "race: thread .* (reads what thread .* updated|updates what thread)"),
        ("past_end", "4 bytes at byte 256 of 256 of argument 0 in line 19: .*past_end"),
        ("before_begin", "4 bytes, 4 before argument 0"),
        ("misaligned", "misaligned: an access at .* in line 23"),
        ("divergent", "divergence: thread 0 waits at __syncthreads.* in line 27, thread 32"),
        (
            "half_warp",
            "divergence: thread 0 waits for its warp at __syncwarp in line 31, .* returned",
        ),
        ("too_little_shared", "1 bytes at byte .* of 1024 of dynamic shared memory"),
    ],
)
@pytest.mark.parametrize("seed", [None, 7])
def test_what_a_gpu_forbids_is_refused(
    wrong: Kernels, kernel: str, says: str, seed: int | None
) -> None:
    with pytest.raises(EmulationError, match=says):
        wrong.launch(kernel, 1, 64, [np.zeros(64, np.float32)], shared_bytes=1024, seed=seed)
    # and the next launch is none the worse for it
    y = np.zeros(64, np.float32)
    wrong.launch("blocks_share", 1, 64, [y])
    assert (y == 1).all()


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        ("not_waited", "thread 0 reads .* before the cp.async that writes it was waited for"),
        ("waited_alone", "race: thread .* without a barrier between: dynamic shared memory"),
        ("matrix_row", "misaligned: ldmatrix in line .* row of lane 1"),
    ],
)
def test_misused_copies_and_matrices_are_refused(wrong: Kernels, kernel: str, says: str) -> None:
    x, y = np.zeros(64, np.float32), np.zeros(64, np.float32)
    with pytest.raises(EmulationError, match=says):
        wrong.launch(kernel, 1, 64, [x, y], shared_bytes=1024)


def test_blocks_that_write_the_same_element_are_refused(wrong: Kernels) -> None:
    with pytest.raises(EmulationError, match="race: thread 0 writes what thread 0 wrote"):
        wrong.launch("blocks_share", 2, 64, [np.zeros(64, np.float32)])


def test_constant_arrays_and_registers_are_guarded(wrong: Kernels) -> None:
    y = np.zeros(64, np.float32)
    with pytest.raises(EmulationError, match="argument 0, which is read-only"):
        wrong.launch("read_only", 1, 1, [y])
    with pytest.raises(EmulationError, match="index 4 of an array in line 35"):
        wrong.launch("register_index", 1, 64, [y, np.int32(0)])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (lambda x: [x, x, np.int64(300), np.float32(2)], "argument 2 .* not a numpy int32"),
        (lambda x: [x, x, 300, np.float32(2)], "argument 2 .* not a numpy int32"),
        (lambda x: [x, x.astype(float), np.int32(1), np.float32(2)], "4 bytes, .* float64"),
        (lambda x: [x, x], "takes 4 arguments, not 2"),
    ],
)
def test_arguments_the_hardware_would_misread_are_refused(
    right: Kernels, args: Any, says: str
) -> None:
    with pytest.raises(EmulationError, match=says):
        right.launch("neighbours", 1, 128, args(np.zeros(128, np.float32)))


def test_a_null_pointer_and_a_view_have_their_own_bounds(right: Kernels) -> None:
    whole = np.zeros(256, np.float32)
    view = whole[:100]
    args = [view, np.zeros(128, np.float32), np.int32(128), np.float32(1)]
    with pytest.raises(EmulationError, match="byte 400 of 400 of argument 0"):
        right.launch("neighbours", 1, 128, args)
    with pytest.raises(EmulationError, match="out of bounds: 4 bytes at \\(nil\\)"):
        right.launch("neighbours", 1, 128, [None, *args[1:]])


def test_a_text_that_does_not_compile_says_so() -> None:
    with pytest.raises(EmulationError, match="does not compile"):
        compile_kernels('extern "C" __global__ void broken(float* y) { y[0] = missing; }')
