"""The main loop on tensor cores: mma.sync on fragments that ldmatrix loads a step ahead.

Fragments of step kk + 1 are loaded before those of step kk are multiplied, across the border of two
stages too, and the next stage's global loads are issued in between (the multistage pipeline of
NVIDIA's CUTLASS).

float16, bfloat16: B lies as k rows of n; ldmatrix transposes 8 x 8 pieces on the way.
TF32: there is no such transposition for 32 bits. A lane reads 4 neighbouring columns of B at once
and gives one to each of 4 fragments: fragment f's column j is the tile's column 4 j + f. So a lane
ends up with 8 neighbouring columns of C, in two runs of 4.
"""

from __future__ import annotations

_HEAD = """\
constexpr int STEP_K = 32 / (int)sizeof(Element);  // k of one mma
constexpr int STEPS_IN_STAGE = TILE_K / STEP_K;
constexpr int FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8;
// Fragments of a warp that lie in one block of C.
constexpr int SAME_M = (WARP_M < BLOCK_M ? WARP_M : BLOCK_M) / 16;
constexpr int SAME_N = (WARP_N < BLOCK_N ? WARP_N : BLOCK_N) / 8;
static_assert(STEPS_IN_STAGE % 2 == 0, "fragment sets alternate");

struct Fragments {
  unsigned a[FRAGMENTS_M][4], b[FRAGMENTS_N][2];
};
struct Sums {
  float c[FRAGMENTS_M][FRAGMENTS_N][4];
};

__device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
    for (int j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.c[i][j][e] = 0.0f;
}

__device__ __forceinline__ void load_fragments_a(
    Fragments& f, const unsigned char* stage, int warp_row, int kk) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
    spamm_ldmatrix_x4(f.a[i],
                      stage + LayoutA::at(warp_row + i * 16 + lane % 16, kk * 2 + lane / 16));
}
"""

_HALF = """\
__device__ __forceinline__ void load_fragments_b(
    Fragments& f, const unsigned char* stage, int warp_col, int kk) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N; j += 2) {
    unsigned both[4];
    spamm_ldmatrix_x4_trans(both, stage + A_BYTES +
        LayoutB::at(kk * 16 + lane % 16, warp_col / 8 + j + lane / 16));
    f.b[j][0] = both[0];
    f.b[j][1] = both[1];
    f.b[j + 1][0] = both[2];
    f.b[j + 1][1] = both[3];
  }
}

__device__ __forceinline__ void round_fragments(Fragments&) {}

template <bool WHOLE>
__device__ __forceinline__ void store(const Sums& sums, const Target& target, int row0, int col0) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < FRAGMENTS_N; ++j) {
        const float values[2] = {sums.c[i][j][half * 2], sums.c[i][j][half * 2 + 1]};
        store_run<WHOLE>(target, row0 + i * 16 + half * 8 + lane / 4,
                         col0 + j * 8 + lane % 4 * 2, values);
      }
}
"""

_TF32 = """\
__device__ __forceinline__ void load_fragments_b(
    Fragments& f, const unsigned char* stage, int warp_col, int kk) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N; j += 4)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const uint4 four = *(const uint4*)(stage + A_BYTES +
          LayoutB::at(kk * 8 + half * 4 + lane % 4, warp_col / 4 + j * 2 + lane / 4));
      f.b[j][half] = four.x;
      f.b[j + 1][half] = four.y;
      f.b[j + 2][half] = four.z;
      f.b[j + 3][half] = four.w;
    }
}

__device__ __forceinline__ void round_fragments(Fragments& f) {
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) f.a[i][e] = spamm_to_tf32(__uint_as_float(f.a[i][e]));
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N; ++j)
#pragma unroll
    for (int e = 0; e < 2; ++e) f.b[j][e] = spamm_to_tf32(__uint_as_float(f.b[j][e]));
}

template <bool WHOLE>
__device__ __forceinline__ void store(const Sums& sums, const Target& target, int row0, int col0) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int j = 0; j < FRAGMENTS_N; j += 4)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int at = half * 2 + e;
          const float values[4] = {sums.c[i][j][at], sums.c[i][j + 1][at], sums.c[i][j + 2][at],
                                   sums.c[i][j + 3][at]};
          store_run<WHOLE>(target, row0 + i * 16 + half * 8 + lane / 4,
                           col0 + j * 8 + lane % 4 * 8 + e * 4, values);
        }
}
"""

_LOOP = """\
__device__ __forceinline__ void multiply_fragments(
    Sums& sums, const Fragments& f, unsigned keeps, int warp_row, int warp_col) {
#pragma unroll
  for (int si = 0; si < FRAGMENTS_M; si += SAME_M)
#pragma unroll
    for (int sj = 0; sj < FRAGMENTS_N; sj += SAME_N) {
      const int bit = (warp_row + si * 16) / BLOCK_M * BLOCKS_N + (warp_col + sj * 8) / BLOCK_N;
      if (BLOCKS == 1 || (keeps >> bit & 1)) {
#pragma unroll
        for (int i = si; i < si + SAME_M; ++i)
#pragma unroll
          for (int j = sj; j < sj + SAME_N; ++j) SPAMM_MMA(sums.c[i][j], f.a[i], f.b[j]);
      }
    }
}

__device__ __forceinline__ void multiply_steps(
    Sums& sums, unsigned char* stages, const Matrices& x, int row0, int col0, const WorkList& list,
    int steps, int warp_row, int warp_col) {
  fill_stages(stages, x, row0, col0, list, steps);
  spamm_cp_async_wait<STAGES - 2>();
  __syncthreads();
  Fragments sets[2];
  load_fragments_a(sets[0], stages, warp_row, 0);
  load_fragments_b(sets[0], stages, warp_col, 0);
  int read = 0, write = STAGES - 1;
  for (int step = 0; step < steps; ++step) {
#pragma unroll
    for (int kk = 0; kk < STEPS_IN_STAGE; ++kk) {
      const int ahead = (kk + 1) % STEPS_IN_STAGE;
      if (ahead == 0) {
        // all have read this stage, and the next one is there (after the last: nothing is used)
        read = after(read);
        spamm_cp_async_wait<STAGES - 2>();
        __syncthreads();
      }
      Fragments& next = sets[(kk + 1) % 2];
      load_fragments_a(next, stages + read * STAGE_BYTES, warp_row, ahead);
      load_fragments_b(next, stages + read * STAGE_BYTES, warp_col, ahead);
      if (kk == 0) {
        if (step + STAGES - 1 < steps)
          load_stage(stages + write * STAGE_BYTES, x, row0, col0, list, step + STAGES - 1);
        spamm_cp_async_commit();
        write = after(write);
      }
      round_fragments(sets[kk % 2]);
      multiply_fragments(sums, sets[kk % 2], kept(list, entry_of(step, kk * STEP_K)), warp_row,
                         warp_col);
    }
  }
}
"""

_MMA = {
    "float16": "spamm_mma_m16n8k16_f16",
    "bfloat16": "spamm_mma_m16n8k16_bf16",
    "float32": "spamm_mma_m16n8k8_tf32",
}


def tensor_text(dtype: str) -> str:
    """The main loop and the store for elements of ``dtype``."""
    return "\n".join(
        [f"#define SPAMM_MMA {_MMA[dtype]}", _HEAD, _TF32 if dtype == "float32" else _HALF, _LOOP]
    )
