// The subset of CUDA C++ that this project's kernels use, for a host compiler.
//
// A kernel's text is compiled behind this header by g++ with -fsanitize=thread, whose calls at
// every load and store are answered by runtime.cpp: so each access is checked for bounds and
// races without a line of it in the kernel. A thread is a fiber; see runtime.cpp.
#pragma once
#define SPAMM_EMULATE 1

#include <math.h>
#include <stddef.h>
#include <string.h>

#include <utility>

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__
// One block runs at a time, so its memory can be static. Nothing else here is: .bss is static shared
// memory. The driver rewrites `extern __shared__`.
#define __shared__ static __attribute__((used))
#define __syncthreads() spamm_emulate_barrier(__LINE__)

struct uint3 {
    unsigned x, y, z;
};
#define SPAMM_VECTORS(base, type)             \
    struct alignas(2 * sizeof(type)) base##2 { \
        type x, y;                             \
    };                                         \
    struct alignas(16) base##4 {               \
        type x, y, z, w;                       \
    };                                         \
    static inline base##2 make_##base##2(type x, type y) { return {x, y}; } \
    static inline base##4 make_##base##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SPAMM_VECTORS(int, int)
SPAMM_VECTORS(uint, unsigned)
SPAMM_VECTORS(float, float)
#undef SPAMM_VECTORS
struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) longlong2 {
    long long x, y;
};
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }

extern "C" {
// constant as far as one thread can see, which is all a compiler may assume of them
extern const uint3 threadIdx, blockIdx, blockDim, gridDim;

void spamm_emulate_barrier(int line);
void spamm_emulate_warp_barrier(unsigned mask, int line);
// kind: 0 from lane, 1 up, 2 down, 3 xor
unsigned long long spamm_emulate_shuffle(unsigned mask, unsigned long long value, int kind,
                                         int lane, int width, int line);
unsigned spamm_emulate_ballot(unsigned mask, int predicate, int line);
void spamm_emulate_atomic(void* address, size_t bytes);

void spamm_emulate_cp_async16(void* shared, const void* global, int copies);
void spamm_emulate_cp_async_commit();
void spamm_emulate_cp_async_wait(int newest);
void spamm_emulate_ldmatrix(unsigned* r, const void* row, int matrices, int transposed, int line);
// kind: 0 f16 (k = 16), 1 bf16 (k = 16), 2 tf32 (k = 8)
void spamm_emulate_mma(float* d, const unsigned* a, const unsigned* b, int kind, int line);

float __fadd_ru(float, float);
float __fadd_rd(float, float);
float __fmul_ru(float, float);
float __fmul_rd(float, float);
float __fmaf_ru(float, float, float);
float __fsqrt_ru(float);
double __dadd_ru(double, double);
double __dmul_ru(double, double);
double __fma_ru(double, double, double);
double __dsqrt_ru(double);
float __double2float_ru(double);
float __double2float_rd(double);
unsigned short spamm_emulate_to_half(float);
extern const float spamm_emulate_half[65536];
}

static const int warpSize = 32;

template <class To, class From>
static inline To spamm_emulate_bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "bits are moved, not converted");
    To to;
    memcpy(&to, &value, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float v) { return spamm_emulate_bits<unsigned>(v); }
static inline int __float_as_int(float v) { return spamm_emulate_bits<int>(v); }
static inline float __uint_as_float(unsigned v) { return spamm_emulate_bits<float>(v); }
static inline float __int_as_float(int v) { return spamm_emulate_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return spamm_emulate_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return spamm_emulate_bits<double>(v); }

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __double2float_rn(double v) { return float(v); }

static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __clz(int v) { return v ? __builtin_clz(unsigned(v)) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }

#define SPAMM_MIN_MAX(type)                                          \
    static inline type min(type a, type b) { return b < a ? b : a; } \
    static inline type max(type a, type b) { return a < b ? b : a; }
SPAMM_MIN_MAX(int)
SPAMM_MIN_MAX(unsigned)
SPAMM_MIN_MAX(long long)
SPAMM_MIN_MAX(unsigned long long)
SPAMM_MIN_MAX(float)
SPAMM_MIN_MAX(double)
#undef SPAMM_MIN_MAX

template <class T>
static inline T __ldg(const T* address) {
    return *address;
}
static inline void __threadfence() { __asm__ volatile("" ::: "memory"); }
static inline void __threadfence_block() { __asm__ volatile("" ::: "memory"); }

// -- what the lanes of a warp do together ------------------------------------------------------

static inline void __syncwarp(unsigned mask = 0xffffffffu, int line = __builtin_LINE()) {
    spamm_emulate_warp_barrier(mask, line);
}
static inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return spamm_emulate_ballot(mask, predicate, line);
}
static inline int __any_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return spamm_emulate_ballot(mask, predicate, line) != 0;
}
static inline int __all_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
    return spamm_emulate_ballot(mask, !predicate, line) == 0;
}
template <class T>
static inline T spamm_emulate_exchange(unsigned mask, T value, int kind, int lane, int width,
                                       int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a shuffle moves 4 or 8 bytes");
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = spamm_emulate_shuffle(mask, bits, kind, lane, width, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
#define SPAMM_SHUFFLE(name, kind)                                                         \
    template <class T>                                                                    \
    static inline T name(unsigned mask, T value, int lane, int width = 32,                \
                         int line = __builtin_LINE()) {                                   \
        return spamm_emulate_exchange(mask, value, kind, lane, width, line);              \
    }
SPAMM_SHUFFLE(__shfl_sync, 0)
SPAMM_SHUFFLE(__shfl_up_sync, 1)
SPAMM_SHUFFLE(__shfl_down_sync, 2)
SPAMM_SHUFFLE(__shfl_xor_sync, 3)
#undef SPAMM_SHUFFLE

// -- atomics: threads switch only at collective points, so a plain update is one ---------------

#define SPAMM_ATOMIC(name, type, updated)                                        \
    static inline __attribute__((no_sanitize("thread"))) type name(type* address, type value) { \
        spamm_emulate_atomic(address, sizeof(type));                             \
        type old = *address;                                                     \
        *address = updated;                                                      \
        return old;                                                              \
    }
#define SPAMM_ATOMICS(type)                                     \
    SPAMM_ATOMIC(atomicAdd, type, old + value)             \
    SPAMM_ATOMIC(atomicExch, type, value)
#define SPAMM_ORDERED_ATOMICS(type)                             \
    SPAMM_ATOMIC(atomicMax, type, (old < value ? value : old))  \
    SPAMM_ATOMIC(atomicMin, type, (value < old ? value : old))
#define SPAMM_BIT_ATOMICS(type)                                 \
    SPAMM_ATOMIC(atomicOr, type, old | value)               \
    SPAMM_ATOMIC(atomicAnd, type, old & value)  
SPAMM_ATOMICS(unsigned)
SPAMM_ATOMICS(unsigned long long)
SPAMM_ATOMICS(float)
SPAMM_ATOMIC(atomicAdd, double, old + value)
// as unsigned, where overflow wraps as the hardware's does
SPAMM_ATOMIC(atomicAdd, int, int(unsigned(old) + unsigned(value)))
SPAMM_ATOMIC(atomicExch, int, value)
SPAMM_ORDERED_ATOMICS(int)
SPAMM_ORDERED_ATOMICS(unsigned)
SPAMM_ORDERED_ATOMICS(long long)
SPAMM_ORDERED_ATOMICS(unsigned long long)
SPAMM_BIT_ATOMICS(int)
SPAMM_BIT_ATOMICS(unsigned)
SPAMM_BIT_ATOMICS(unsigned long long)
SPAMM_ATOMIC(atomicInc, unsigned, (old >= value ? 0u : old + 1u))
#undef SPAMM_ATOMIC
#undef SPAMM_ATOMICS
#undef SPAMM_ORDERED_ATOMICS
#undef SPAMM_BIT_ATOMICS

// -- what stands for inline PTX ----------------------------------------------------------------

static inline void spamm_cp_async16(void* shared, const void* global, bool copies) {
    spamm_emulate_cp_async16(shared, global, copies);
}
static inline void spamm_cp_async_commit() { spamm_emulate_cp_async_commit(); }
template <int newest>
static inline void spamm_cp_async_wait() {
    spamm_emulate_cp_async_wait(newest);
}
#define SPAMM_LDMATRIX(name, matrices, transposed)                                    \
    static inline void name(unsigned (&r)[matrices], const void* row,                 \
                            int line = __builtin_LINE()) {                            \
        spamm_emulate_ldmatrix(r, row, matrices, transposed, line);                   \
    }
SPAMM_LDMATRIX(spamm_ldmatrix_x2, 2, 0)
SPAMM_LDMATRIX(spamm_ldmatrix_x2_trans, 2, 1)
SPAMM_LDMATRIX(spamm_ldmatrix_x4, 4, 0)
SPAMM_LDMATRIX(spamm_ldmatrix_x4_trans, 4, 1)
#undef SPAMM_LDMATRIX
#define SPAMM_MMA(name, kind)                                                                \
    static inline void name(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],   \
                            int line = __builtin_LINE()) {                                   \
        spamm_emulate_mma(d, a, b, kind, line);                                              \
    }
SPAMM_MMA(spamm_mma_m16n8k16_f16, 0)
SPAMM_MMA(spamm_mma_m16n8k16_bf16, 1)
SPAMM_MMA(spamm_mma_m16n8k8_tf32, 2)
#undef SPAMM_MMA
// cvt.rna.tf32.f32: to nearest, ties away from zero
static inline unsigned spamm_to_tf32(float value) {
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return (bits & 0x7fffffu) ? 0x7fffe000u : bits;
    return (bits + 0x1000u) & ~0x1fffu;
}

// -- how the driver finds and calls a kernel ----------------------------------------------------

extern "C" {
extern unsigned char __bss_start[] __attribute__((visibility("hidden")));
extern unsigned char _end[] __attribute__((visibility("hidden")));
}
struct SpammImage {
    const void* code;
    unsigned char *shared_begin, *shared_end;
};
extern "C" const SpammImage spamm_image;
extern "C" const SpammImage spamm_image = {&spamm_image, __bss_start, _end};

// One letter a parameter: what it is, and for a pointer the size of what it points to ("c2" is a
// pointer to 2 constant bytes), so that the driver can refuse what the hardware would misread.
template <class T>
struct SpammPointee {
    static constexpr int bytes = sizeof(T);
};
template <>
struct SpammPointee<void> {
    static constexpr int bytes = 1;
};
template <>
struct SpammPointee<const void> {
    static constexpr int bytes = 1;
};
template <class T>
struct SpammParameter;
#define SPAMM_PARAMETER(type, letter)               \
    template <>                                     \
    struct SpammParameter<type> {                   \
        static constexpr char code[2] = {letter, 0}; \
    };
SPAMM_PARAMETER(int, 'i')
SPAMM_PARAMETER(unsigned, 'I')
SPAMM_PARAMETER(long long, 'q')
SPAMM_PARAMETER(unsigned long long, 'Q')
SPAMM_PARAMETER(float, 'f')
SPAMM_PARAMETER(double, 'd')
#undef SPAMM_PARAMETER
template <class T>
struct SpammParameter<T*> {
    static constexpr int bytes = SpammPointee<T>::bytes;
    static constexpr char code[4] = {'p', char('0' + bytes / 10), char('0' + bytes % 10), 0};
};
template <class T>
struct SpammParameter<const T*> {
    static constexpr int bytes = SpammPointee<T>::bytes;
    static constexpr char code[4] = {'c', char('0' + bytes / 10), char('0' + bytes % 10), 0};
};

template <class... P, size_t... I>
static __attribute__((no_sanitize("thread"))) void spamm_emulate_call(
    void (*kernel)(P...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_reference_t<std::remove_cv_t<P>>*>(args[I])...);
}
template <class... P>
static __attribute__((no_sanitize("thread"))) void spamm_emulate_call(void (*kernel)(P...),
                                                                      void** args) {
    spamm_emulate_call(kernel, args, std::index_sequence_for<P...>());
}
template <class... P>
static int spamm_emulate_signature(void (*)(P...), char* text) {
    text[0] = 0;
    (strcat(strcat(text, SpammParameter<std::remove_cv_t<P>>::code), " "), ...);
    return sizeof...(P);
}
#define SPAMM_EMULATE_KERNEL(name)                                                          \
    extern "C" __attribute__((no_sanitize("thread"))) void spamm_thunk_##name(void** args) { \
        spamm_emulate_call(&name, args);                                                    \
    }                                                                                       \
    extern "C" int spamm_signature_##name(char* text) { return spamm_emulate_signature(&name, text); }
