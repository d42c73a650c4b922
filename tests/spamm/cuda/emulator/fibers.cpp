// Threads of a block as fibers of one OS thread, blocks one after another.
//
// A thread runs until it waits: at a barrier of the block or for its warp. The order in which
// ready threads are resumed is that of their numbers, or a shuffled one drawn from a seed: code
// that lacks a barrier shows different results, besides what the race check finds.
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>

#include "runtime.h"

extern "C" {
// what the kernel's header declares constant
emulate::Dim threadIdx, blockIdx, blockDim, gridDim;
alignas(1024) unsigned char smem[emulate::kMaxShared];
}

namespace emulate {

Thread threads[kMaxThreads];
Warp warps[kMaxThreads / kWarp];
Thread* current;
int thread_count;
uint32_t epoch = 1, launch_epoch, block_epoch;
uintptr_t stacks_begin, stacks_end;
size_t dynamic_shared;

namespace {

constexpr size_t kStack = 64 * 1024, kGuard = 4096;
jmp_buf scheduler, abandoned;
char* message;
size_t message_bytes;
void (*kernel)(void**);
void** arguments;

void thread_main() {
    // entered once; a later block's thread goes round the loop
    for (;;) {
        kernel(arguments);
        Thread* self = current;
        // copies nobody waited for end with their thread
        for (auto& group : self->groups)
            for (auto& copy : group) mark_pending(*self, copy.to, 16, -1);
        for (auto& copy : self->open) mark_pending(*self, copy.to, 16, -1);
        self->groups.clear();
        self->open.clear();
        self->state = State::done;
        yield();
    }
}

bool make_stacks() {
    if (stacks_begin) return true;
    size_t bytes = kMaxThreads * kStack;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    for (int t = 0; t < kMaxThreads; ++t)
        mprotect(static_cast<char*>(memory) + t * kStack, kGuard, PROT_NONE);
    stacks_begin = reinterpret_cast<uintptr_t>(memory);
    stacks_end = stacks_begin + bytes;
    return true;
}

void resume(Thread& thread) {
    if (_setjmp(scheduler)) return;
    current = &thread;
    threadIdx = thread.index;
    if (thread.started) _longjmp(thread.context, 1);
    thread.started = true;
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp =
        reinterpret_cast<char*>(stacks_begin) + thread.number * kStack + kGuard;
    thread.start.uc_stack.ss_size = kStack - kGuard;
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, thread_main, 0);
    setcontext(&thread.start);
}

const char* doing(const Thread& thread, char* text, size_t bytes) {
    const char* what = thread.state == State::done         ? "has returned"
                       : thread.state == State::at_barrier ? "waits at __syncthreads()"
                                                           : "waits for its warp at";
    int line = thread.state == State::at_barrier ? thread.line : thread.exchange.line;
    if (thread.state == State::done)
        snprintf(text, bytes, "%s", what);
    else
        snprintf(text, bytes, "%s %s in line %d", what,
                 thread.state == State::in_warp ? thread.exchange.what : "", line);
    return text;
}

// Nobody can go on: either all that are left are at the same barrier, or they never will be.
void release_barrier() {
    auto alike = [](const Thread& a, const Thread& b) {
        return a.state == b.state && (a.state != State::at_barrier || a.line == b.line);
    };
    const Thread* end = threads + thread_count;
    const Thread* first =
        std::find_if(threads, threads + thread_count,
                     [](const Thread& thread) { return thread.state != State::done; });
    bool together = first->state == State::at_barrier &&
                    std::all_of(first, end, [&](const Thread& thread) {
                        return thread.state == State::done || alike(thread, *first);
                    });
    if (!together) {
        // at a barrier those that have returned are not missed
        const Thread* other = std::find_if(threads, threads + thread_count, [&](const Thread& t) {
            return !alike(t, *first) &&
                   (t.state != State::done || first->state != State::at_barrier);
        });
        char one[120], two[120];
        fail("divergence: thread %d %s, thread %d %s", first->number,
             doing(*first, one, sizeof one), int(other - threads),
             other == end ? "is not there" : doing(*other, two, sizeof two));
    }
    ++epoch;
    for (int t = 0; t < thread_count; ++t)
        if (threads[t].state == State::at_barrier) threads[t].state = State::ready;
}

void run_block(const std::vector<int>& order) {
    block_epoch = ++epoch;
    memory_block();
    for (int t = 0; t < thread_count; ++t) {
        Thread& thread = threads[t];
        thread.number = t;
        thread.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / blockDim.x / blockDim.y};
        thread.state = State::ready;
    }
    for (;;) {
        bool ran = false, left = false;
        for (int t : order) {
            left |= threads[t].state != State::done;
            if (threads[t].state != State::ready) continue;
            ran = true;
            resume(threads[t]);
            current = nullptr;
        }
        if (!left) return;
        if (!ran) release_barrier();
    }
}

}  // namespace

void fail(const char* format, ...) {
    size_t used = 0;
    if (current)
        used = snprintf(message, message_bytes, "block (%u, %u, %u), thread (%u, %u, %u): ",
                        blockIdx.x, blockIdx.y, blockIdx.z, current->index.x, current->index.y,
                        current->index.z);
    else
        used = snprintf(message, message_bytes, "block (%u, %u, %u): ", blockIdx.x, blockIdx.y,
                        blockIdx.z);
    va_list values;
    va_start(values, format);
    vsnprintf(message + used, message_bytes - used, format, values);
    va_end(values);
    _longjmp(abandoned, 1);
}

void yield() {
    if (!_setjmp(current->context)) _longjmp(scheduler, 1);
}

void collect(const char* what, unsigned mask, int line, void* operand, Collective all) {
    Thread& self = *current;
    int warp = self.number / kWarp, lane = self.number % kWarp;
    Thread* lanes = threads + warp * kWarp;
    int present = std::min(kWarp, thread_count - warp * kWarp);
    if (present < kWarp) mask &= (1u << present) - 1;
    if (!(mask >> lane & 1u))
        fail("%s in line %d: the mask %08x lacks the calling lane %d", what, line, mask, lane);
    self.exchange = {what, line, mask, operand};
    self.state = State::in_warp;
    for (int other = 0; other < present; ++other) {
        if (!(mask >> other & 1u)) continue;
        const Thread& there = lanes[other];
        if (there.state != State::in_warp || there.exchange.mask != mask) return yield();
        if (strcmp(there.exchange.what, what) || there.exchange.line != line)
            fail("divergence: lane %d is at %s in line %d, lane %d at %s in line %d", lane, what,
                 line, other, there.exchange.what, there.exchange.line);
    }
    if (all) all(lanes, mask);
    ++warps[warp].epoch;
    for (int other = 0; other < present; ++other)
        if (mask >> other & 1u) lanes[other].state = State::ready;
    // the last to come goes on at once, and the others in their turn
}

}  // namespace emulate

using namespace emulate;

extern "C" void spamm_emulate_barrier(int line) {
    current->state = State::at_barrier;
    current->line = line;
    yield();
}

// 0, or 1 with what went wrong in `text`. seed < 0: threads in the order of their numbers.
extern "C" int spamm_emulate_launch(const Image* image, void (*thunk)(void**), void** args,
                                    const unsigned* grid, const unsigned* block, size_t shared,
                                    const Array* arrays, int array_count, long long seed,
                                    char* text, size_t bytes) {
    message = text;
    message_bytes = bytes;
    kernel = thunk;
    arguments = args;
    current = nullptr;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    dynamic_shared = shared;
    thread_count = int(block[0] * block[1] * block[2]);
    static std::vector<int> order;
    static std::mt19937_64 random;
    order.resize(thread_count);
    for (int t = 0; t < thread_count; ++t) order[t] = t;
    random.seed(uint64_t(seed));
    if (_setjmp(abandoned)) {
        current = nullptr;
        for (auto& thread : threads) {
            thread.started = false;
            thread.groups.clear();
            thread.open.clear();
        }
        memory_end();
        return 1;
    }
    blockIdx = {0, 0, 0};
    if (!make_stacks()) fail("no memory for the stacks of the threads");
    launch_epoch = ++epoch;
    memory_launch(arrays, array_count, *image);
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                if (seed >= 0) std::shuffle(order.begin(), order.end(), random);
                run_block(order);
            }
    memory_end();
    return 0;
}
