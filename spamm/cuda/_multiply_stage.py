"""A stage: the tiles of A and B for TILE_K values of k, brought to shared memory.

A tile is rows of 16-byte chunks. Lanes that read 8 rows at the same chunk (ldmatrix), or that write
8 chunks of a row, must meet 8 different groups of banks; the twist of a row, XORed onto the chunk,
makes both so, as does a padded row.
"""

from __future__ import annotations

STAGE = """\
template <int ROW_CHUNKS, int PADDING, bool DOWN_COLUMNS>
struct Layout {
  static constexpr int CHUNKS = ROW_CHUNKS;
  static constexpr int STRIDE = ROW_CHUNKS * 16 + PADDING;
  static __device__ __forceinline__ int twist(int row) {
    // TF32's fragments of B take two chunks from each of four rows
    if (DOWN_COLUMNS) return (row & 3) << 1;
    // shorter rows share a line of 128 bytes: rows of one line need no twist between them
    if (ROW_CHUNKS >= 8) return row & 7;
    return (row / (8 / ROW_CHUNKS)) & (ROW_CHUNKS - 1);
  }
  // Where a chunk of a row is, in bytes from the start of the tile.
  static __device__ __forceinline__ int at(int row, int chunk) {
    return row * STRIDE + (SWIZZLE ? chunk ^ twist(row) : chunk) * 16;
  }
};
typedef Layout<TILE_K / PACK, PADDING_A, false> LayoutA;
typedef Layout<TILE_N / PACK, PADDING_B, sizeof(Element) == 4> LayoutB;
constexpr int A_BYTES = TILE_M * LayoutA::STRIDE;
constexpr int STAGE_BYTES = A_BYTES + TILE_K * LayoutB::STRIDE;
// Narrow loads wait in registers, which are scarce: a chunk at a time.
constexpr int UNROLLED = SPAMM_LOAD_BYTES == 16 ? TILE_M + TILE_K : 1;

struct Matrices {
  const Element *A, *B;
  long long lda, ldb;
  int m, k, n;
};

// Brings a chunk, zeros where it is outside; `left` elements are there up to the end of the row.
__device__ __forceinline__ void copy_chunk(
    unsigned char* to, const Element* from, bool inside, int left) {
#if SPAMM_LOAD_BYTES == 16
  spamm_cp_async16(to, from, inside && left > 0);
#else
  constexpr int PIECES = 16 / SPAMM_LOAD_BYTES, PER_PIECE = PACK / PIECES;
  Piece pieces[PIECES];
#pragma unroll
  for (int p = 0; p < PIECES; ++p) {
    pieces[p] = Piece();
    if (inside && p * PER_PIECE < left) pieces[p] = ((const Piece*)from)[p];
  }
  memcpy(to, pieces, 16);
#endif
}

// Which k is in a stage's place p: `start` are the entries that the stage begins with, `within` how
// far into the first it begins.
__device__ __forceinline__ int k_of(const int* start, int within, int p) {
  return SLOTS == 1 ? start[0] + within + p : start[p / BLOCK_K] + p % BLOCK_K;
}

__device__ __forceinline__ void load_a(
    unsigned char* stage, const Matrices& x, int row0, const int* start, int within) {
  constexpr int ROWS = THREADS / LayoutA::CHUNKS;
  const int chunk = threadIdx.x % LayoutA::CHUNKS, row = threadIdx.x / LayoutA::CHUNKS;
  const int k = k_of(start, within, chunk * PACK);
  const Element* from = x.A + (row0 + row) * x.lda + k;
#pragma unroll UNROLLED
  for (int i = 0; i < TILE_M / ROWS; ++i) {
    copy_chunk(stage + LayoutA::at(row + i * ROWS, chunk), from, row0 + row + i * ROWS < x.m,
               x.k - k);
    from += ROWS * x.lda;
  }
}

__device__ __forceinline__ void load_b(
    unsigned char* stage, const Matrices& x, int col0, const int* start, int within) {
  constexpr int ROWS = THREADS / LayoutB::CHUNKS;
  const int chunk = threadIdx.x % LayoutB::CHUNKS, row = threadIdx.x / LayoutB::CHUNKS;
  const int column = col0 + chunk * PACK;
#if SPAMM_LOAD_BYTES == 16
  // the list is read before the first copy: the compiler would read it again after each
  int k[TILE_K / ROWS];
#pragma unroll
  for (int i = 0; i < TILE_K / ROWS; ++i) k[i] = k_of(start, within, row + i * ROWS);
  const Element* from = x.B + k[0] * x.ldb + column;
#pragma unroll
  for (int i = 0; i < TILE_K / ROWS; ++i) {
    copy_chunk(stage + A_BYTES + LayoutB::at(row + i * ROWS, chunk),
               SLOTS == 1 ? from : x.B + k[i] * x.ldb + column, k[i] < x.k, x.n - column);
    from += ROWS * x.ldb;
  }
#else
#pragma unroll 1
  for (int r = row; r < TILE_K; r += ROWS) {
    const int k = k_of(start, within, r);
    copy_chunk(stage + A_BYTES + LayoutB::at(r, chunk), x.B + k * x.ldb + column, k < x.k,
               x.n - column);
  }
#endif
}

__device__ __forceinline__ void load_stage(
    unsigned char* stage, const Matrices& x, int row0, int col0, const WorkList& list, int step) {
  const int* start = list.start + step / STEPS * SLOTS;
  const int within = step % STEPS * TILE_K;
  load_a(stage, x, row0, start, within);
  load_b(stage, x, col0, start, within);
}

// The entry of the list that values of k from `k` on, within a stage, belong to.
__device__ __forceinline__ int entry_of(int step, int k) {
  return step / STEPS * SLOTS + k / BLOCK_K;
}

// Fills all stages but one.
__device__ __forceinline__ void fill_stages(
    unsigned char* stages, const Matrices& x, int row0, int col0, const WorkList& list, int steps) {
#pragma unroll
  for (int s = 0; s < STAGES - 1; ++s) {
    if (s < steps) load_stage(stages + s * STAGE_BYTES, x, row0, col0, list, s);
    spamm_cp_async_commit();
  }
}

__device__ __forceinline__ int after(int stage) { return stage + 1 == STAGES ? 0 : stage + 1; }
"""
