"""A MetaSchedule builder whose workers stay: the import of TVM is paid once, not every round."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from familyseer.machine import available_cores
from familyseer.measure._cuda_limits import Resources
from familyseer.measure._failures import describe_failure, one_line
from familyseer.measure._jobs import Refused, build_candidate
from familyseer.measure._measure import OutOfTimeError, await_future
from familyseer.measure._workers import WorkerPool
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PyBuilder: Any = ms.builder.PyBuilder

# a cancelled build's worker is killed well within it
REMOVE_S = 1.0


@tvm.ir.utils.derived_object
class WarmBuilder(_PyBuilder):
    """Builds candidates in warm processes; use it as `builder=` of any MetaSchedule tuner.

    Parameters
    ----------
    workers
        Builds at a time; by default one a physical core.
    timeout_s
        Longest time for one build, in seconds. A build that takes longer fails and its worker is
        replaced.
    memory_mib
        Most memory of one build, linker and all, in MiB; see `WorkerPool`.
    vector_math
        Whether candidates for processors compute exp and the like in vectors, as the libraries that
        FamilySeer ships do. Where TVM compiles what was tuned, give it
        `familyseer.vector_math.vectorisable` of the scheduled module, or leave this off.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        timeout_s: float = 30.0,
        memory_mib: int | None = None,
        vector_math: bool = False,
    ) -> None:
        super().__init__()
        self.timeout_s = timeout_s
        self.vector_math = vector_math
        self.pool = WorkerPool(
            workers or available_cores(), calls_per_worker=200, memory_mib=memory_mib
        )
        self.folder = tempfile.mkdtemp(prefix="familyseer-build-")

    def start(
        self, mod: Any, target: Any, timeout_s: float | None = None, *, spilling: bool = False
    ) -> Future[Any]:
        """Starts one build; see `finish`.

        Parameters
        ----------
        spilling
            Whether a CUDA candidate may spill registers, for want of one that does not.
        """
        limit = self.timeout_s if timeout_s is None else min(timeout_s, self.timeout_s)
        # made here, so that what a build that is killed has written can be found
        own = tempfile.mkdtemp(dir=self.folder)
        future = self.pool.submit(
            build_candidate, mod, target, own, spilling, self.vector_math, timeout_s=limit
        )

        def clear_away(done: Future[Any]) -> None:
            failed = done.cancelled() or done.exception() is not None
            if failed or isinstance(done.result(), Refused):
                _remove(own)

        future.add_done_callback(clear_away)
        return future

    def drop(self, future: Future[Any]) -> None:
        """Gives a build up that `start` began, and removes what it has built."""

        def remove(done: Future[Any]) -> None:
            built = not done.cancelled() and done.exception() is None
            if built and not isinstance(done.result(), Refused):
                _remove(os.path.dirname(done.result()[0]))

        future.cancel()
        future.add_done_callback(remove)

    def finish(
        self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf
    ) -> tuple[Any, float]:
        """Waits for a build.

        Returns the `BuilderResult` and the seconds the build took, 0 if it failed.

        Raises
        ------
        OutOfTimeError
            `time_left()` came to nothing first; the build is given up.
        """
        try:
            answer = await_future(future, time_left)
            if isinstance(answer, Refused):
                why = one_line(f"build failed: {answer.reason}")
                return ms.builder.BuilderResult(None, why), 0.0
            path, seconds = answer[:2]
        except OutOfTimeError:
            raise
        except Exception as error:  # a candidate's failure is a result, whatever its type
            return ms.builder.BuilderResult(None, describe_failure("build", error)), 0.0
        return ms.builder.BuilderResult(path, None), seconds

    def local_bytes(self, future: Future[Any]) -> int:
        """How much a finished build was refused for spilling, in bytes; 0 if for anything else."""
        answer = _answer(future)
        return answer.local_bytes if isinstance(answer, Refused) else 0

    def resources(self, future: Future[Any]) -> Resources | None:
        """What a finished build's candidate takes of a GPU, refused or not; None if unknown."""
        found: Resources | None = getattr(_answer(future), "resources", None)
        return found

    def build(self, build_inputs: list[Any]) -> list[Any]:
        """Builds all inputs; a failed one has its `error_msg` set.

        Where all that could run spill, the one that does least is built all the same.
        """
        futures = [self.start(one.mod, one.target) for one in build_inputs]
        results = [self.finish(future)[0] for future in futures]
        sizes = {i: size for i, one in enumerate(futures) if (size := self.local_bytes(one))}
        if sizes and all(result.error_msg is not None for result in results):
            least = min(sizes, key=lambda i: sizes[i])
            one = build_inputs[least]
            results[least] = self.finish(self.start(one.mod, one.target, spilling=True))[0]
        return results

    def close(self) -> None:
        """Stops the workers and removes what they built."""
        self.pool.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _answer(future: Future[Any]) -> Any:
    """What a build ended with; None for one that is under way, was given up or failed."""
    if future.cancelled() or not future.done() or future.exception() is not None:
        return None
    return future.result()


def _remove(folder: str) -> None:
    """Removes a folder in which a worker that is about to be killed may still write."""
    until = time.monotonic() + REMOVE_S
    shutil.rmtree(folder, ignore_errors=True)
    while os.path.exists(folder) and time.monotonic() < until:
        time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)
