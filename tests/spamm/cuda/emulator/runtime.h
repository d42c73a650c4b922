// What the parts of the emulator share: threads, launches, and how an error ends one.
#pragma once
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

#include <vector>

namespace emulate {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
// 227 KiB: what one block may have on sm_90
constexpr size_t kMaxShared = 232448;

struct Dim {
    unsigned x, y, z;
};

struct Array {
    uintptr_t begin, end;
    size_t granule;  // bytes of an element: what a thread owns in the race check
    int writable;
    int index;       // of the kernel's argument
    struct Cell* cells;
};

// The library of the kernel: an address in its code, and its static shared memory.
struct Image {
    const void* code;
    unsigned char *shared_begin, *shared_end;
};

struct Copy {
    unsigned char* to;
    const unsigned char* from;
};

enum class State { ready, at_barrier, in_warp, done };

// What a lane brings to a collective and takes from it.
struct Exchange {
    const char* what;
    int line;
    unsigned mask;
    void* operand;
};

struct Thread {
    jmp_buf context;
    ucontext_t start;
    bool started = false;
    State state = State::done;
    int number = 0;
    Dim index{};
    int line = 0;
    Exchange exchange{};
    // cp.async: closed groups, oldest first, and the group still open
    std::vector<std::vector<Copy>> groups;
    std::vector<Copy> open;
};

struct Warp {
    uint32_t epoch = 1;  // grows at each collective: orders the lanes
};

extern Thread threads[kMaxThreads];
extern Warp warps[kMaxThreads / kWarp];
extern Thread* current;  // null in the scheduler
extern int thread_count;
extern uint32_t epoch;   // grows at each barrier, block and launch: orders the block
extern uint32_t launch_epoch, block_epoch;
extern uintptr_t stacks_begin, stacks_end;
extern "C" unsigned char smem[kMaxShared];
extern size_t dynamic_shared;

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
void yield();

// Runs `all(lanes, mask)` once every lane of the mask has come with the same operation.
using Collective = void (*)(Thread* lanes, unsigned mask);
void collect(const char* what, unsigned mask, int line, void* operand, Collective all);

// memory.cpp
void memory_launch(const Array* arrays, int count, const Image& image);
void memory_block();
void memory_end();
enum class Access { read, write, atomic };
void check(const Thread& thread, const void* address, size_t bytes, Access access,
           const void* caller);
void mark_pending(const Thread& thread, const void* address, size_t bytes, int change);
bool is_shared(const void* address, size_t bytes);

}  // namespace emulate
