"""The main loop on CUDA cores: float32, a register tile for each lane.

A warp's lanes lie 4 x 8 on its tile. Lane (y, x) computes rows y + 4 i and, of each 32 columns,
the 4 from 4 x on: 8 lanes read a whole line of B, and the same 16 bytes of A.
"""

from __future__ import annotations

CORES = """\
constexpr int ROWS_OF_LANE = WARP_M / 4, RUNS_OF_LANE = WARP_N / 32;
// Rows and runs of a lane that lie in one block of C.
constexpr int SAME_M = (WARP_M < BLOCK_M ? WARP_M : BLOCK_M) / 4;
constexpr int SAME_N = (WARP_N < BLOCK_N ? WARP_N : BLOCK_N) / 32;

struct Sums {
  float c[ROWS_OF_LANE][RUNS_OF_LANE][4];
};

__device__ __forceinline__ void clear(Sums& sums) {
#pragma unroll
  for (int i = 0; i < ROWS_OF_LANE; ++i)
#pragma unroll
    for (int j = 0; j < RUNS_OF_LANE; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums.c[i][j][e] = 0.0f;
}

__device__ __forceinline__ void multiply_run(float (&c)[4], float a, const float4& b) {
  c[0] = fmaf(a, b.x, c[0]);
  c[1] = fmaf(a, b.y, c[1]);
  c[2] = fmaf(a, b.z, c[2]);
  c[3] = fmaf(a, b.w, c[3]);
}

// Four values of k from `k` on.
__device__ __forceinline__ void multiply_four(
    Sums& sums, const unsigned char* stage, int k, unsigned keeps, int warp_row, int warp_col) {
  const int y = threadIdx.x % 32 / 8, x = threadIdx.x % 8;
  float a[ROWS_OF_LANE][4];
#pragma unroll
  for (int i = 0; i < ROWS_OF_LANE; ++i) {
    const float4 four = *(const float4*)(stage + LayoutA::at(warp_row + y + 4 * i, k / 4));
    a[i][0] = four.x;
    a[i][1] = four.y;
    a[i][2] = four.z;
    a[i][3] = four.w;
  }
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    float4 b[RUNS_OF_LANE];
#pragma unroll
    for (int j = 0; j < RUNS_OF_LANE; ++j)
      b[j] = *(const float4*)(stage + A_BYTES + LayoutB::at(k + e, warp_col / 4 + 8 * j + x));
#pragma unroll
    for (int si = 0; si < ROWS_OF_LANE; si += SAME_M)
#pragma unroll
      for (int sj = 0; sj < RUNS_OF_LANE; sj += SAME_N) {
        const int bit = (warp_row + si * 4) / BLOCK_M * BLOCKS_N + (warp_col + sj * 32) / BLOCK_N;
        if (BLOCKS == 1 || (keeps >> bit & 1)) {
#pragma unroll
          for (int i = si; i < si + SAME_M; ++i)
#pragma unroll
            for (int j = sj; j < sj + SAME_N; ++j) multiply_run(sums.c[i][j], a[i][e], b[j]);
        }
      }
  }
}

__device__ __forceinline__ void multiply_steps(
    Sums& sums, unsigned char* stages, const Matrices& x, int row0, int col0, const WorkList& list,
    int steps, int warp_row, int warp_col) {
  fill_stages(stages, x, row0, col0, list, steps);
  int read = 0, write = STAGES - 1;
  for (int step = 0; step < steps; ++step) {
    spamm_cp_async_wait<STAGES - 2>();
    __syncthreads();
    if (step + STAGES - 1 < steps)
      load_stage(stages + write * STAGE_BYTES, x, row0, col0, list, step + STAGES - 1);
    spamm_cp_async_commit();
    write = after(write);
#pragma unroll 2
    for (int k = 0; k < TILE_K; k += 4)
      multiply_four(sums, stages + read * STAGE_BYTES, k, kept(list, entry_of(step, k)), warp_row,
                    warp_col);
    read = after(read);
  }
}

template <bool WHOLE>
__device__ __forceinline__ void store(const Sums& sums, const Target& target, int row0, int col0) {
  const int y = threadIdx.x % 32 / 8, x = threadIdx.x % 8;
#pragma unroll
  for (int i = 0; i < ROWS_OF_LANE; ++i)
#pragma unroll
    for (int j = 0; j < RUNS_OF_LANE; ++j)
      store_run<WHOLE>(target, row0 + y + 4 * i, col0 + 32 * j + 4 * x, sums.c[i][j]);
}
"""
