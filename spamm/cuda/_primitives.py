"""The instructions that CUDA C++ has no words for, each wrapped in one device function.

All inline PTX of the generated kernels is here. With ``SPAMM_EMULATE`` defined the same names come
from a header that runs them on a CPU.

The layouts of fragments are those of the PTX ISA (mma.m16n8k16, mma.m16n8k8, ldmatrix): lane
``4 g + t`` of a warp holds, of A, rows g and g + 8; of B, column g; of C, rows g and g + 8 and
columns 2 t and 2 t + 1.
"""

from __future__ import annotations

_MMA = """\
__device__ __forceinline__ void spamm_mma_{name}(
    float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {{
  asm volatile(
      "mma.sync.aligned.{shape}.row.col.f32.{type}.{type}.f32 "
      "{{%0, %1, %2, %3}}, {{%4, %5, %6, %7}}, {{%8, %9}}, {{%0, %1, %2, %3}};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}}
"""

_LDMATRIX_X4 = """\
__device__ __forceinline__ void spamm_ldmatrix_x4{name}(unsigned (&r)[4], const void* row) {{
  asm volatile("ldmatrix.sync.aligned.m8n8.x4{type}.shared.b16 {{%0, %1, %2, %3}}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
}}
"""

_LDMATRIX_X2 = """\
__device__ __forceinline__ void spamm_ldmatrix_x2{name}(unsigned (&r)[2], const void* row) {{
  asm volatile("ldmatrix.sync.aligned.m8n8.x2{type}.shared.b16 {{%0, %1}}, [%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
}}
"""

_COPIES = """\
// Copies 16 bytes to shared memory without waiting, or writes zeros there. A group of such copies
// ends with a commit; wait<N> returns when all but the last N groups of this thread are there. To
// the compiler a copy writes no memory, so that it need not read other things again: it must lie
// between two barriers with nothing that reads its target.
__device__ __forceinline__ void spamm_cp_async16(void* to, const void* from, bool pred) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :: "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(pred ? 16 : 0));
}
__device__ __forceinline__ void spamm_cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void spamm_cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" :: "n"(N) : "memory");
}
"""

_TF32 = """\
// Rounds to the 10 mantissa bits of TF32, ties away from zero. What is below them is left as it
// is, because mma ignores it; masking it off would be a third instruction for each element.
__device__ __forceinline__ unsigned spamm_to_tf32(float x) {
  const unsigned bits = __float_as_uint(x);
  return fabsf(x) < __uint_as_float(0x7f800000u) ? bits + 0x1000u : bits;
}
"""

PRIMITIVES = "\n".join(
    [
        "#ifdef SPAMM_EMULATE",
        '#include "spamm_emulate.h"',
        "#else",
        _COPIES,
        _LDMATRIX_X4.format(name="", type=""),
        _LDMATRIX_X4.format(name="_trans", type=".trans"),
        _LDMATRIX_X2.format(name="", type=""),
        _LDMATRIX_X2.format(name="_trans", type=".trans"),
        _MMA.format(name="m16n8k16_f16", shape="m16n8k16", type="f16"),
        _MMA.format(name="m16n8k16_bf16", shape="m16n8k16", type="bf16"),
        _MMA.format(name="m16n8k8_tf32", shape="m16n8k8", type="tf32"),
        _TF32,
        "#endif",
        "",
    ]
)
"""CUDA C++ text that comes before every kernel which uses these functions."""
