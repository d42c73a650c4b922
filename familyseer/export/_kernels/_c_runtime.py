"""The C in a CPU library: what TVM's kernels call, and the functions that are exported.

Parallel loops run on a pool of threads. A launch is cut into several tasks a thread, which threads
take as they come: a thread that the system holds back delays only what it has begun, and one that
has begun nothing is not waited for. (OpenMP's threads all meet at the end of a loop: with other
work on the machine, loops of 0.3 ms were seen to take 8 ms.)
"""

from __future__ import annotations

from collections.abc import Sequence
from string import Template

from familyseer.export._kernels._c_text import NULL_ARGUMENT, declaration
from familyseer.export._kernels._choose import Tuned
from familyseer.kernels._cpu import SUPPORTED
from familyseer.kernels._manifest import Argument

# of all symbols, those that are visible from outside
EXPORTS = "{ global: fs_*; local: *; };\n"

_RUNTIME = Template(
    r"""#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* The part of TVM's runtime that its CPU kernels call (tvm/runtime/c_backend_api.h). */

typedef struct {
  void *sync_handle;
  int32_t num_task;
} parallel_environment;

typedef int (*parallel_body)(int task, parallel_environment *environment, void *data);

enum {
  TASKS_PER_THREAD = 4,
  MOST_THREADS = 1024,
  TUNED_THREADS = $threads,
  /* some tens of microseconds: sleeping and waking take about as long */
  SPINS = 1000
};

static struct {
  pthread_mutex_t use; /* held by the thread whose launch has the pool */
  int threads;         /* with the one that launches; 0 before the first launch */
  pthread_mutex_t lock;
  pthread_cond_t work, finished;
  atomic_uint generation; /* of the launch */
  int open;               /* whether threads may still join the launch */
  atomic_int active;      /* threads that have joined */
  parallel_body body;
  void *data;
  int tasks;
  atomic_int next, failed;
} pool = {.use = PTHREAD_MUTEX_INITIALIZER,
          .lock = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .finished = PTHREAD_COND_INITIALIZER};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_tasks(void) {
  parallel_environment environment = {NULL, pool.tasks};
  int task;
  while ((task = atomic_fetch_add(&pool.next, 1)) < pool.tasks)
    if (pool.body(task, &environment, pool.data) != 0) atomic_store(&pool.failed, 1);
}

static void *work(void *unused) {
  (void)unused;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < SPINS && atomic_load(&pool.generation) == seen; ++i) relax();
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.work, &pool.lock);
    seen = atomic_load(&pool.generation);
    const int joins = pool.open;
    if (joins) atomic_fetch_add(&pool.active, 1);
    pthread_mutex_unlock(&pool.lock);
    if (!joins) continue;
    run_tasks();
    if (atomic_fetch_sub(&pool.active, 1) == 1) {
      pthread_mutex_lock(&pool.lock);
      pthread_cond_signal(&pool.finished);
      pthread_mutex_unlock(&pool.lock);
    }
  }
  return NULL;
}

/* A forked child has none of its parent's threads, and starts its own. */
static void forget(void) {
  pthread_mutex_init(&pool.use, NULL);
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.work, NULL);
  pthread_cond_init(&pool.finished, NULL);
  pool.threads = pool.open = 0;
  atomic_store(&pool.active, 0);
}

static int wanted_threads(void) {
  cpu_set_t cpus;
  const char *text = getenv("FS_NUM_THREADS");
  long wanted = text != NULL ? strtol(text, NULL, 10) : 0;
  if (wanted < 1) {
    wanted = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    if (TUNED_THREADS > 0 && wanted > TUNED_THREADS) wanted = TUNED_THREADS;
  }
  return wanted > MOST_THREADS ? MOST_THREADS : (int)wanted;
}

static void start(void) {
  static int watched;
  const int wanted = wanted_threads();
  pool.threads = 1;
  if (!watched && pthread_atfork(NULL, NULL, forget) != 0) return;
  watched = 1;
  /* the program's signals are for its own threads */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.threads < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) break;
    pthread_detach(thread);
    ++pool.threads;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void launch(parallel_body body, void *data, int tasks) {
  pthread_mutex_lock(&pool.lock);
  pool.body = body;
  pool.data = data;
  pool.tasks = tasks;
  pool.open = 1;
  atomic_store(&pool.next, 0);
  atomic_store(&pool.failed, 0);
  atomic_fetch_add(&pool.generation, 1);
  pthread_cond_broadcast(&pool.work);
  pthread_mutex_unlock(&pool.lock);
  run_tasks();
  pthread_mutex_lock(&pool.lock);
  pool.open = 0;
  pthread_mutex_unlock(&pool.lock);
  for (int i = 0; i < SPINS && atomic_load(&pool.active) > 0; ++i) relax();
  pthread_mutex_lock(&pool.lock);
  while (atomic_load(&pool.active) > 0) pthread_cond_wait(&pool.finished, &pool.lock);
  pthread_mutex_unlock(&pool.lock);
}

int TVMBackendParallelLaunch(parallel_body body, void *data, int tasks) {
  /* a launch inside of another, or beside it, runs on its own thread alone */
  if (pthread_mutex_trylock(&pool.use) == 0) {
    if (pool.threads == 0) start();
    if (pool.threads > 1) {
      launch(body, data, tasks > 0 ? tasks : pool.threads * TASKS_PER_THREAD);
      const int failed = atomic_load(&pool.failed);
      pthread_mutex_unlock(&pool.use);
      return failed ? -1 : 0;
    }
    pthread_mutex_unlock(&pool.use);
  }
  parallel_environment alone = {NULL, 1};
  return body(0, &alone, data);
}

void *TVMBackendAllocWorkspace(int device_type, int device, uint64_t bytes, int code, int bits) {
  (void)device_type;
  (void)device;
  (void)code;
  (void)bits;
  const uint64_t alignment = 64;
  if (bytes > SIZE_MAX - alignment) return NULL;
  return aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
}

int TVMBackendFreeWorkspace(int device_type, int device, void *pointer) {
  (void)device_type;
  (void)device;
  free(pointer);
  return 0;
}

int TVMFFIEnvModRegisterSystemLibSymbol(const char *name, void *pointer) {
  (void)name;
  (void)pointer;
  return 0;
}

int $supported(void) {
  $checks
  return 1;
}
"""
)


def runtime_source(
    kernels: Sequence[tuple[str, Tuned, Sequence[Argument]]],
    features: Sequence[str],
    threads: int,
) -> str:
    """The source of everything in a CPU library that the code generator does not make.

    Parameters
    ----------
    kernels
        As `build_shared_object` takes them.
    features
        Instruction sets of x86 that the processor must have.
    threads
        Most threads that are used unasked, as many as the kernels were tuned for; 0 for one a CPU.
    """
    checks = "\n  ".join(f'if (!__builtin_cpu_supports("{one}")) return 0;' for one in features)
    parts = [_RUNTIME.substitute(supported=SUPPORTED, checks=checks, threads=threads)]
    for symbol, _, arguments in kernels:
        # the code generator's functions take every array as a pointer that may be written
        types = ", ".join("void *" for _ in arguments)
        given = ", ".join(f"(void *){argument.name}" for argument in arguments)
        nulls = " || ".join(f"{argument.name} == NULL" for argument in arguments)
        parts.append(
            f"int raw_{symbol}({types});\n\n"
            f"{declaration(symbol, arguments)} {{\n"
            f"  if ({nulls}) return {NULL_ARGUMENT};\n"
            f"  return raw_{symbol}({given});\n"
            "}\n"
        )
    return "\n".join(parts)
