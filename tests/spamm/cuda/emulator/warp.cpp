// What the lanes of a warp do together, cp.async, and arithmetic with a rounding of its own.
//
// Layouts of fragments are those of the PTX ISA: "Matrix Fragments for mma.m16n8k16", "... for
// mma.m16n8k8" and "ldmatrix". Products are exact, their sum is rounded to float32 after each.
#include <fenv.h>
#include <math.h>
#include <string.h>

#include "runtime.h"

using namespace emulate;

extern "C" {
float spamm_emulate_half[65536];
}

namespace {

float half_value(unsigned bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float magnitude = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? ldexpf(float(fraction), -24)
                                      : ldexpf(float(fraction + 1024), exponent - 25);
    return bits >> 15 ? -magnitude : magnitude;
}

__attribute__((constructor)) void fill_table() {
    for (unsigned bits = 0; bits < 65536; ++bits) spamm_emulate_half[bits] = half_value(bits);
}

template <class T>
T& operand(Thread& lane) {
    return *static_cast<T*>(lane.exchange.operand);
}

struct Shuffle {
    unsigned long long value, result;
    int kind, lane, width;
};

void shuffle_all(Thread* lanes, unsigned mask) {
    for (int lane = 0; lane < kWarp; ++lane) {
        if (!(mask >> lane & 1u)) continue;
        auto& own = operand<Shuffle>(lanes[lane]);
        int segment = lane & ~(own.width - 1), from = lane;
        if (own.kind == 0) from = segment + (own.lane & (own.width - 1));
        if (own.kind == 1) from = lane - own.lane < segment ? lane : lane - own.lane;
        if (own.kind == 2) from = lane + own.lane >= segment + own.width ? lane : lane + own.lane;
        if (own.kind == 3) from = (lane ^ own.lane) >= segment + own.width ? lane : lane ^ own.lane;
        if (!(mask >> from & 1u))
            fail("a shuffle in line %d: lane %d reads lane %d, which takes no part",
                 lanes[lane].exchange.line, lane, from);
        own.result = operand<Shuffle>(lanes[from]).value;
    }
}

void ballot_all(Thread* lanes, unsigned mask) {
    unsigned votes = 0;
    for (int lane = 0; lane < kWarp; ++lane)
        if (mask >> lane & 1u) votes |= unsigned(operand<unsigned>(lanes[lane]) != 0) << lane;
    for (int lane = 0; lane < kWarp; ++lane)
        if (mask >> lane & 1u) operand<unsigned>(lanes[lane]) = votes;
}

struct Ldmatrix {
    unsigned* r;
    const unsigned char* row;
    int matrices, transposed;
};

void whole_warp(unsigned mask, const char* what) {
    if (mask != 0xffffffffu) fail("%s needs all 32 lanes, not %08x", what, mask);
}

void ldmatrix_all(Thread* lanes, unsigned mask) {
    whole_warp(mask, "ldmatrix");
    int matrices = operand<Ldmatrix>(lanes[0]).matrices;
    uint16_t tiles[4][8][8];
    for (int lane = 0; lane < 8 * matrices; ++lane) {
        const unsigned char* row = operand<Ldmatrix>(lanes[lane]).row;
        if (reinterpret_cast<uintptr_t>(row) % 16)
            fail("misaligned: ldmatrix in line %d, row of lane %d at %p",
                 lanes[lane].exchange.line, lane, static_cast<const void*>(row));
        if (!is_shared(row, 16))
            fail("ldmatrix in line %d, row of lane %d: not in shared memory",
                 lanes[lane].exchange.line, lane);
        check(lanes[lane], row, 16, Access::read, nullptr);
        memcpy(tiles[lane / 8][lane % 8], row, 16);
    }
    for (int lane = 0; lane < kWarp; ++lane) {
        auto& own = operand<Ldmatrix>(lanes[lane]);
        for (int i = 0; i < matrices; ++i) {
            int row = lane / 4, column = lane % 4 * 2;
            unsigned low = own.transposed ? tiles[i][column][row] : tiles[i][row][column];
            unsigned high = own.transposed ? tiles[i][column + 1][row] : tiles[i][row][column + 1];
            own.r[i] = low | high << 16;
        }
    }
}

struct Mma {
    float* d;
    const unsigned *a, *b;
    int kind;
};

float bits_to_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Element i (0 or 1) of a register of two 16-bit numbers, or the tf32 in it.
float element(unsigned bits, int i, int kind) {
    if (kind == 2) return bits_to_float(bits & ~0x1fffu);
    unsigned sixteen = i ? bits >> 16 : bits & 0xffffu;
    return kind == 0 ? spamm_emulate_half[sixteen] : bits_to_float(sixteen << 16);
}

void mma_all(Thread* lanes, unsigned mask) {
    whole_warp(mask, "mma");
    int kind = operand<Mma>(lanes[0]).kind;
    int packed = kind == 2 ? 1 : 2, depth = kind == 2 ? 8 : 16;
    float a[16][16], b[16][8], d[16][8];
    for (int lane = 0; lane < kWarp; ++lane) {
        auto& own = operand<Mma>(lanes[lane]);
        int group = lane / 4, member = lane % 4;
        for (int r = 0; r < 4; ++r)
            for (int i = 0; i < packed; ++i)
                a[group + r % 2 * 8][r / 2 * depth / 2 + member * packed + i] =
                    element(own.a[r], i, kind);
        for (int r = 0; r < 2; ++r)
            for (int i = 0; i < packed; ++i)
                b[r * depth / 2 + member * packed + i][group] = element(own.b[r], i, kind);
        for (int i = 0; i < 4; ++i) d[group + i / 2 * 8][member * 2 + i % 2] = own.d[i];
    }
    for (int i = 0; i < 16; ++i)
        for (int k = 0; k < depth; ++k)
            for (int j = 0; j < 8; ++j) d[i][j] += a[i][k] * b[k][j];
    for (int lane = 0; lane < kWarp; ++lane)
        for (int i = 0; i < 4; ++i)
            operand<Mma>(lanes[lane]).d[i] = d[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
}

void land(const Thread& self, std::vector<Copy>& group) {
    for (auto& copy : group) {
        mark_pending(self, copy.to, 16, -1);
        check(self, copy.to, 16, Access::write, nullptr);
        if (copy.from)
            memcpy(copy.to, copy.from, 16);
        else
            memset(copy.to, 0, 16);
    }
}

template <class F>
auto rounded(int direction, F compute) {
    fesetround(direction);
    // the compiler moves arithmetic over calls: its operands and its result tie it here
    __asm__ volatile("" : "+m"(compute));
    auto result = compute();
    __asm__ volatile("" : "+m"(result));
    fesetround(FE_TONEAREST);
    return result;
}

}  // namespace

extern "C" {

void spamm_emulate_warp_barrier(unsigned mask, int line) {
    collect("__syncwarp", mask, line, nullptr, nullptr);
}

unsigned long long spamm_emulate_shuffle(unsigned mask, unsigned long long value, int kind,
                                         int lane, int width, int line) {
    Shuffle own{value, 0, kind, lane, width};
    collect("a shuffle", mask, line, &own, shuffle_all);
    return own.result;
}

unsigned spamm_emulate_ballot(unsigned mask, int predicate, int line) {
    unsigned own = predicate != 0;
    collect("a vote", mask, line, &own, ballot_all);
    return own;
}

void spamm_emulate_ldmatrix(unsigned* r, const void* row, int matrices, int transposed, int line) {
    Ldmatrix own{r, static_cast<const unsigned char*>(row), matrices, transposed};
    collect("ldmatrix", 0xffffffffu, line, &own, ldmatrix_all);
}

void spamm_emulate_mma(float* d, const unsigned* a, const unsigned* b, int kind, int line) {
    Mma own{d, a, b, kind};
    collect("mma", 0xffffffffu, line, &own, mma_all);
}

void spamm_emulate_cp_async16(void* shared, const void* global, int copies) {
    if (reinterpret_cast<uintptr_t>(shared) % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        fail("misaligned: cp.async of 16 bytes from %p to %p", global, shared);
    if (copies) {
        if (is_shared(global, 16)) fail("cp.async reads shared memory");
        check(*current, global, 16, Access::read, nullptr);
    }
    mark_pending(*current, shared, 16, 1);
    current->open.push_back({static_cast<unsigned char*>(shared),
                             copies ? static_cast<const unsigned char*>(global) : nullptr});
}

void spamm_emulate_cp_async_commit() {
    current->groups.push_back(std::move(current->open));
    current->open.clear();
}

void spamm_emulate_cp_async_wait(int newest) {
    auto& groups = current->groups;
    while (groups.size() > size_t(newest)) {
        land(*current, groups.front());
        groups.erase(groups.begin());
    }
}

unsigned short spamm_emulate_to_half(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    unsigned sign = bits >> 16 & 0x8000u;
    float magnitude = fabsf(value);
    if (isnan(value)) return 0x7fff;
    if (magnitude == 0.0f) return (unsigned short)sign;
    if (magnitude >= 65520.0f) return (unsigned short)(sign | 0x7c00u);
    int exponent = 0;
    frexpf(magnitude, &exponent);
    // the spacing of half numbers here; nearbyint rounds ties to even
    int spacing = exponent < -13 ? -24 : exponent - 11;
    int steps = int(nearbyintf(ldexpf(magnitude, -spacing)));
    unsigned half = spacing == -24 ? unsigned(steps) : unsigned(exponent + 13) * 1024u + unsigned(steps);
    return (unsigned short)(sign | half);
}

float __fadd_ru(float a, float b) { return rounded(FE_UPWARD, [=] { return a + b; }); }
float __fadd_rd(float a, float b) { return rounded(FE_DOWNWARD, [=] { return a + b; }); }
float __fmul_ru(float a, float b) { return rounded(FE_UPWARD, [=] { return a * b; }); }
float __fmul_rd(float a, float b) { return rounded(FE_DOWNWARD, [=] { return a * b; }); }
float __fmaf_ru(float a, float b, float c) {
    return rounded(FE_UPWARD, [=] { return fmaf(a, b, c); });
}
float __fsqrt_ru(float a) { return rounded(FE_UPWARD, [=] { return sqrtf(a); }); }
double __dadd_ru(double a, double b) { return rounded(FE_UPWARD, [=] { return a + b; }); }
double __dmul_ru(double a, double b) { return rounded(FE_UPWARD, [=] { return a * b; }); }
double __fma_ru(double a, double b, double c) {
    return rounded(FE_UPWARD, [=] { return fma(a, b, c); });
}
double __dsqrt_ru(double a) { return rounded(FE_UPWARD, [=] { return sqrt(a); }); }
float __double2float_ru(double a) { return rounded(FE_UPWARD, [=] { return float(a); }); }
float __double2float_rd(double a) { return rounded(FE_DOWNWARD, [=] { return float(a); }); }
}
