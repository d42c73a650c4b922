"""What a tile multiplies: its k-blocks, brought to shared memory a window at a time.

Both texts define ``WorkList`` (in shared memory), ``Walk`` (where a thread is in it),
``open_list``, ``next_entries`` (fills the list, gives the number of entries, 0 at the end), and
``kept`` (a mask of the tile's blocks of C that an entry belongs to). An entry is the first k of a
k-block; ``PAST`` stands for a k-block that is not there, and its elements are loaded as zeros.

``next_entries`` may be called while other warps still multiply the last stage: of the list they
read at most masks by then, and nobody changes masks or fills stages before a barrier inside.

Of thread blocks that share a tile (SPLIT), number e % SPLIT takes entry e of a window.
"""

from __future__ import annotations

ONE_BLOCK = """\
// The tile lies in one block of C: the plan's list of that block is the work.
struct WorkList {
  int start[LIST];
};
struct Walk {
  long long at;
  int left;
};

__device__ __forceinline__ Walk open_list(
    WorkList&, const long long* offsets, int row0, int col0, int, int blocks_n, int part) {
  const long long c = (long long)(row0 / BLOCK_M) * blocks_n + col0 / BLOCK_N;
  const int all = (int)(offsets[c + 1] - offsets[c]);
  return Walk{offsets[c] + part, (all + SPLIT - 1 - part) / SPLIT};
}

__device__ __forceinline__ int next_entries(
    WorkList& list, Walk& walk, const int* ks, int, int) {
  if (walk.left <= 0) return 0;
  const int count = walk.left < LIST ? walk.left : LIST;
  const int filled = (count + SLOTS - 1) / SLOTS * SLOTS;
  for (int e = threadIdx.x; e < filled; e += THREADS)
    list.start[e] = e < count ? ks[walk.at + (long long)e * SPLIT] * BLOCK_K : PAST;
  walk.at += (long long)LIST * SPLIT;
  walk.left -= LIST;
  __syncthreads();
  return count;
}

__device__ __forceinline__ unsigned kept(const WorkList&, int) { return ~0u; }
"""

UNION = """\
// The tile holds several blocks of C: the work is the union of their lists, and each entry has a
// bit for every block that keeps it. A window of k-blocks is merged at a time.
constexpr int GROUPS = LIST / 32;
struct WorkList {
  int start[LIST];
  unsigned mask[LIST];
  unsigned bits[LIST];
  int found[GROUPS];
  long long cursor[BLOCKS], end[BLOCKS];
};
struct Walk {
  int window;
};

__device__ __forceinline__ Walk open_list(
    WorkList& list, const long long* offsets, int row0, int col0, int blocks_m, int blocks_n, int) {
  const int s = threadIdx.x;
  if (s < BLOCKS) {
    const int i = row0 / BLOCK_M + s / BLOCKS_N, j = col0 / BLOCK_N + s % BLOCKS_N;
    const bool inside = i < blocks_m && j < blocks_n;
    const long long c = (long long)i * blocks_n + j;
    list.cursor[s] = inside ? offsets[c] : 0;
    list.end[s] = inside ? offsets[c + 1] : 0;
  }
  return Walk{0};
}

__device__ __forceinline__ void mark_window(WorkList& list, const int* ks, int first) {
  const int lane = threadIdx.x % 32, limit = first + LIST;
  for (int s = threadIdx.x / 32; s < BLOCKS; s += THREADS / 32) {
    long long at = list.cursor[s];
    const long long end = list.end[s];
    int found;
    do {
      found = 0;
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        const long long p = at + u * 32 + lane;
        const int block = p < end ? ks[p] : PAST;
        const bool in = block < limit;
        // each bit is added once, so the sum is the union
        if (in) atomicAdd(&list.bits[block - first], 1u << s);
        found += __popc(__ballot_sync(~0u, in));
      }
      at += found;
    } while (found == 128);
    if (lane == 0) list.cursor[s] = at;
  }
}

// Gives how many entries of the window are this thread block's.
__device__ __forceinline__ int compact_window(WorkList& list, int first, int part) {
  const int lane = threadIdx.x % 32;
  for (int g = threadIdx.x / 32; g < GROUPS; g += THREADS / 32) {
    const unsigned vote = __ballot_sync(~0u, list.bits[g * 32 + lane] != 0);
    if (lane == 0) list.found[g] = __popc(vote);
  }
  __syncthreads();
  int total = 0;
  for (int g = 0; g < GROUPS; ++g) {
    if (g % (THREADS / 32) == threadIdx.x / 32) {
      const unsigned bits = list.bits[g * 32 + lane];
      const unsigned vote = __ballot_sync(~0u, bits != 0);
      const int position = total + __popc(vote & ((1u << lane) - 1));
      if (bits != 0 && position % SPLIT == part) {
        list.start[position / SPLIT] = (first + g * 32 + lane) * BLOCK_K;
        list.mask[position / SPLIT] = bits;
      }
    }
    total += list.found[g];
  }
  return (total + SPLIT - 1 - part) / SPLIT;
}

__device__ __forceinline__ int next_entries(
    WorkList& list, Walk& walk, const int* ks, int blocks_k, int part) {
  int count = 0;
  while (count == 0 && walk.window < blocks_k) {
    for (int e = threadIdx.x; e < LIST; e += THREADS) list.bits[e] = 0;
    __syncthreads();
    mark_window(list, ks, walk.window);
    __syncthreads();
    count = compact_window(list, walk.window, part);
    const int filled = (count + SLOTS - 1) / SLOTS * SLOTS;
    for (int e = count + threadIdx.x; e < filled; e += THREADS) {
      list.start[e] = PAST;
      list.mask[e] = 0;
    }
    walk.window += LIST;
    __syncthreads();
  }
  return count;
}

__device__ __forceinline__ unsigned kept(const WorkList& list, int entry) {
  return list.mask[entry];
}
"""
