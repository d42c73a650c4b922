// Every load and store of a kernel: in bounds, and ordered against those of other threads.
//
// The compiler's thread sanitizer calls the functions named __tsan_* at each access; they are
// defined here instead of in its own runtime. A race is found as in the happens-before sense:
// barriers order a block, collectives order a warp, nothing orders two blocks of a launch.
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "runtime.h"

namespace emulate {

// Who last wrote and read a granule, and when.
struct Cell {
    uint32_t write_epoch, write_warp_epoch;
    uint32_t read_epoch, read_warp_epoch;
    uint16_t writer, reader;
    uint16_t pending;     // copies on the way to here
    uint8_t many_lanes;   // several lanes of one warp read in the same epochs
    uint8_t many_warps;   // several warps read in this epoch
    uint8_t atomic;       // the last write was one, and others may follow
};

namespace {

constexpr size_t kMaxStatic = 48 * 1024;
std::vector<Array> arrays;
Cell dynamic_cells[kMaxShared], static_cells[kMaxStatic];
// of the library that the kernel is in
uintptr_t image_begin, image_end, static_begin, static_end;

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

int find_image(dl_phdr_info* info, size_t, void* self) {
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& part = info->dlpi_phdr[i];
        if (part.p_type != PT_LOAD) continue;
        low = std::min<uintptr_t>(low, info->dlpi_addr + part.p_vaddr);
        high = std::max<uintptr_t>(high, info->dlpi_addr + part.p_vaddr + part.p_memsz);
    }
    if (number(self) < low || number(self) >= high) return 0;
    image_begin = low;
    image_end = high;
    return 1;
}

const char* place(const void* caller, char* text, size_t bytes) {
    // the driver turns +0x... into the kernel's line
    snprintf(text, bytes, caller ? "[+0x%zx]" : "", size_t(number(caller) - image_begin - 1));
    return text;
}

const char* verb(Access access) {
    return access == Access::read ? "reads" : access == Access::write ? "writes" : "updates";
}

[[noreturn]] void race(const Thread& thread, Access access, const char* before, int other,
                       const char* where, size_t offset, const void* caller) {
    char line[40];
    fail("race: thread %d %s what thread %d %s without a barrier between: %s %zu %s",
         thread.number, verb(access), other, before, where, offset,
         place(caller, line, sizeof line));
}

// True when the earlier access of `other` at these epochs is not ordered before one now.
bool unordered(const Thread& thread, int other, uint32_t at, uint32_t warp_at, bool global) {
    if (at < launch_epoch) return false;
    if (at < block_epoch) return global;  // another block of this launch
    if (at != epoch || other == thread.number) return false;
    int warp = thread.number / kWarp;
    return other / kWarp != warp || warp_at == warps[warp].epoch;
}

void update(const Thread& thread, Cell& cell, Access access, bool global, const char* where,
            size_t offset, const void* caller) {
    uint32_t warp_epoch = warps[thread.number / kWarp].epoch;
    if (cell.pending)
        fail("thread %d %s %s %zu before the cp.async that writes it was waited for",
             thread.number, verb(access), where, offset);
    if (!(cell.atomic && access == Access::atomic) &&
        unordered(thread, cell.writer, cell.write_epoch, cell.write_warp_epoch, global))
        race(thread, access, cell.atomic ? "updated" : "wrote", cell.writer, where, offset, caller);
    if (access != Access::read) {
        bool same = cell.read_epoch == epoch;
        bool lanes = same && cell.many_lanes &&
                     cell.read_warp_epoch == warps[cell.reader / kWarp].epoch &&
                     cell.reader / kWarp == thread.number / kWarp;
        if ((same && cell.many_warps) || lanes ||
            unordered(thread, cell.reader, cell.read_epoch, cell.read_warp_epoch, global))
            race(thread, access, "read", cell.reader, where, offset, caller);
        cell.atomic = access == Access::atomic;
        cell.write_epoch = epoch;
        cell.write_warp_epoch = warp_epoch;
        cell.writer = uint16_t(thread.number);
        return;
    }
    bool same = cell.read_epoch == epoch;
    bool same_warp = same && cell.reader / kWarp == thread.number / kWarp;
    cell.many_warps = same && (cell.many_warps || !same_warp);
    cell.many_lanes = same_warp && cell.read_warp_epoch == warp_epoch &&
                      (cell.many_lanes || cell.reader != thread.number);
    cell.read_epoch = epoch;
    cell.read_warp_epoch = warp_epoch;
    cell.reader = uint16_t(thread.number);
}

// The cells of shared memory at an address, or null; `where` and `offset` name it.
Cell* shared_cells(uintptr_t at, size_t bytes, const char*& where, size_t& offset) {
    if (at >= number(smem) && at < number(smem) + kMaxShared) {
        where = "dynamic shared memory at byte";
        offset = at - number(smem);
        if (offset + bytes > dynamic_shared)
            fail("out of bounds: %zu bytes at byte %zu of %zu of dynamic shared memory", bytes,
                 offset, dynamic_shared);
        return dynamic_cells + offset;
    }
    if (at < static_begin || at >= static_end) return nullptr;
    where = "static shared memory at byte";
    offset = at - static_begin;
    if (at + bytes > static_end)
        fail("out of bounds: %zu bytes at byte %zu of %zu of static shared memory", bytes, offset,
             size_t(static_end - static_begin));
    return static_cells + offset;
}

const Array& find_array(uintptr_t at, size_t bytes, const void* caller) {
    const Array* nearest = nullptr;
    uintptr_t distance = UINTPTR_MAX;
    for (const auto& array : arrays) {
        if (at >= array.begin && at + bytes <= array.end) return array;
        uintptr_t gap = at < array.begin ? array.begin - at : at + bytes - array.end;
        if (gap < distance) {
            distance = gap;
            nearest = &array;
        }
    }
    char line[40];
    place(caller, line, sizeof line);
    if (!nearest || distance > (1u << 24))
        fail("out of bounds: %zu bytes at %p, far from every array %s", bytes,
             reinterpret_cast<void*>(at), line);
    if (at < nearest->begin)
        fail("out of bounds: %zu bytes, %zu before argument %d %s", bytes,
             size_t(nearest->begin - at), nearest->index, line);
    fail("out of bounds: %zu bytes at byte %zu of %zu of argument %d %s", bytes,
         size_t(at - nearest->begin), size_t(nearest->end - nearest->begin), nearest->index, line);
}

}  // namespace

void memory_launch(const Array* given, int count, const Image& image) {
    dl_iterate_phdr(find_image, const_cast<void*>(image.code));
    static_begin = number(image.shared_begin);
    static_end = number(image.shared_end);
    size_t fixed = static_end - static_begin;
    if (fixed > kMaxStatic) fail("%zu bytes of static shared memory: 48 KiB at most", fixed);
    if (fixed + dynamic_shared > kMaxShared)
        fail("%zu bytes of shared memory: %zu at most", fixed + dynamic_shared, kMaxShared);
    arrays.assign(given, given + count);
    // an array given twice counts as writable if it is once
    std::stable_sort(arrays.begin(), arrays.end(),
                     [](const Array& a, const Array& b) { return a.writable > b.writable; });
    for (auto& array : arrays) {
        size_t cells = (array.end - array.begin) / array.granule + 1;
        array.cells =
            array.writable ? static_cast<Cell*>(calloc(cells, sizeof(Cell))) : nullptr;
    }
}

void memory_block() {
    // what nobody wrote is NaN in every floating type
    memset(smem, 0xff, dynamic_shared);
    if (static_begin) memset(reinterpret_cast<void*>(static_begin), 0xff, static_end - static_begin);
}

void memory_end() {
    for (auto& array : arrays) free(array.cells);
    arrays.clear();
    for (auto& cell : dynamic_cells) cell.pending = 0;
    for (auto& cell : static_cells) cell.pending = 0;
}

bool is_shared(const void* address, size_t bytes) {
    const char* where;
    size_t offset;
    return shared_cells(number(address), bytes, where, offset) != nullptr;
}

void mark_pending(const Thread& thread, const void* address, size_t bytes, int change) {
    const char* where;
    size_t offset;
    Cell* cells = shared_cells(number(address), bytes, where, offset);
    if (!cells) fail("cp.async of thread %d writes outside shared memory", thread.number);
    for (size_t i = 0; i < bytes; ++i) {
        // a write now, and one again when it lands: both ends must be ordered
        if (change > 0) update(thread, cells[i], Access::write, false, where, offset + i, nullptr);
        cells[i].pending = uint16_t(cells[i].pending + change);
    }
}

void check(const Thread& thread, const void* address, size_t bytes, Access access,
           const void* caller) {
    uintptr_t at = number(address);
    if (at >= stacks_begin && at < stacks_end) return;
    const char* where;
    size_t offset;
    if (Cell* cells = shared_cells(at, bytes, where, offset)) {
        for (size_t i = 0; i < bytes; ++i)
            update(thread, cells[i], access, false, where, offset + i, caller);
        return;
    }
    if (at >= image_begin && at < image_end && access == Access::read) return;  // constants
    const Array& array = find_array(at, bytes, caller);
    if (!array.writable) {
        char line[40];
        if (access != Access::read)
            fail("a write to argument %d, which is read-only %s", array.index,
                 place(caller, line, sizeof line));
        return;
    }
    size_t first = (at - array.begin) / array.granule;
    size_t last = (at + bytes - 1 - array.begin) / array.granule;
    char name[40];
    snprintf(name, sizeof name, "argument %d at element", array.index);
    for (size_t i = first; i <= last; ++i)
        update(thread, array.cells[i], access, true, name, i, caller);
}

}  // namespace emulate

using emulate::Access;
using emulate::check;
using emulate::current;
using emulate::fail;

extern "C" {

void spamm_emulate_atomic(void* address, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(address) % bytes)
        fail("misaligned: an atomic of %zu bytes at %p", bytes, address);
    check(*current, address, bytes, Access::atomic, __builtin_return_address(0));
}

// no current thread: code around a kernel, as the description of its parameters
static void plain(void* address, size_t bytes, Access access, const void* caller) {
    if (current) check(*current, address, bytes, access, caller);
}

#define ACCESS(name, bytes, kind)                                          \
    void __tsan_##name(void* address) {                                    \
        plain(address, bytes, Access::kind, __builtin_return_address(0)); \
    }
#define ACCESSES(bytes)                        \
    ACCESS(read##bytes, bytes, read)          \
    ACCESS(write##bytes, bytes, write)          \
    ACCESS(unaligned_read##bytes, bytes, read) \
    ACCESS(unaligned_write##bytes, bytes, write)
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* address, size_t bytes) {
    plain(address, bytes, Access::read, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
    plain(address, bytes, Access::write, __builtin_return_address(0));
}
void __tsan_init() {}

// -fsanitize=alignment,bounds,shift,integer-divide-by-zero: where is a file, line and column
struct Place {
    const char* file;
    unsigned line, column;
};
void __ubsan_handle_type_mismatch_v1_abort(Place* place, void* address) {
    fail("misaligned: an access at %p in line %u", address, place->line);
}
void __ubsan_handle_out_of_bounds_abort(Place* place, size_t index) {
    fail("out of bounds: index %zd of an array in line %u", ptrdiff_t(index), place->line);
}
void __ubsan_handle_shift_out_of_bounds_abort(Place* place, size_t, size_t by) {
    fail("a shift by %zd in line %u", ptrdiff_t(by), place->line);
}
void __ubsan_handle_divrem_overflow_abort(Place* place, size_t, size_t) {
    fail("a division by zero in line %u", place->line);
}
}
