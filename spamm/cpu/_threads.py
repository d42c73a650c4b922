"""The threads that CPU kernels run on.

Compiled functions are called from Python's threads, which leave the interpreter's lock while they
run, with chunks of work taken as threads become free. TVM's own pool would deal out the same
share to each thread, use half of the processors where it takes them for hyper-threads, keep the
size it had when something else in the process first used it, and change the caller's affinity.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

# Chunks for each thread: what is left to balance at the end is a fraction of one chunk
CHUNKS = 8


def count() -> int:
    """Threads to use: `OMP_NUM_THREADS` as in a BLAS, else the processors the process may use."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run(function: Callable[[int, int], object], bounds: Sequence[int]) -> None:
    """Calls ``function(first, last)`` for neighbouring bounds, several at a time.

    None is running when this returns or raises: functions write to memory of the caller's.
    """
    spans = [(first, last) for first, last in itertools.pairwise(bounds) if first < last]
    threads = count()
    if min(threads, len(spans)) <= 1:
        for span in spans:
            function(*span)
        return
    calls = [_pool(threads).submit(function, *span) for span in spans]
    try:
        for call in calls:
            call.result()
    finally:
        for call in calls:
            call.cancel()
        wait(calls)


@functools.lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spamm")


if hasattr(os, "register_at_fork"):
    # a forked child has the pool but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
