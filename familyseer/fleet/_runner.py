"""A MetaSchedule runner whose devices stand behind a TVM RPC tracker."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from familyseer.fleet._address import parse_tracker
from familyseer.fleet._dispatch import Dispatcher
from familyseer.fleet._errors import FleetGoneError
from familyseer.fleet._jobs import DeviceStatus
from familyseer.fleet._policy import Policy
from familyseer.fleet._session import Artifact
from familyseer.fleet._target import check_target
from familyseer.fleet._tracker import check_fleet
from familyseer.measure._jobs import hashable_args_info
from familyseer.measure._runner import finish_run, start_all
from familyseer.measure._timing import RunPlan
from familyseer.tvm_env import load_tvm

tvm = load_tvm()
ms = tvm.s_tir.meta_schedule
# named for the type checker, which cannot follow TVM's modules
_PyRunner: Any = ms.runner.PyRunner


@tvm.ir.utils.derived_object
class FleetRunner(_PyRunner):
    """Times candidates on every device of a key; use it as `runner=` of any MetaSchedule tuner.

    It stands in for `familyseer.measure.WarmRunner`. As many candidates run at a time as the
    tracker has devices for us; ``docs/fleet.md`` says how they are given out.

    Parameters
    ----------
    tracker
        ``HOST:PORT`` of a TVM RPC tracker.
    key
        The key that the devices' servers were started with.
    target
        Of the candidates, for the kernels that devices are compared by.
    timeout_s
        Longest time for one candidate, uploading included, in seconds.
    plan
        How long candidates are measured; its `cutoff_s` can be set for each call of `start`.
    policy
        Further limits; by default those of `Policy`.
    tolerance
        Devices whose reference kernels differ by less than this share are compared with each other.
    on_gone
        Told, from another thread, that the fleet is given up; end the run there.

    Attributes
    ----------
    gone
        Why the fleet was given up, or None.

    Raises
    ------
    UserError
        No tracker is at that address, it lists no device of that key, or the target is not one
        that this machine can run.
    """

    def __init__(
        self,
        tracker: str,
        key: str,
        *,
        target: Any,
        timeout_s: float = 10.0,
        plan: RunPlan | None = None,
        policy: Policy | None = None,
        tolerance: float = 0.05,
        on_gone: Callable[[FleetGoneError], None] = lambda _error: None,
    ) -> None:
        super().__init__()
        check_target(target)
        check_fleet(tracker, key)
        policy = policy or Policy()
        # a lease that is shorter than a few jobs would never be used
        lease_s = max(policy.lease_s, 3 * timeout_s)
        self.plan = plan or RunPlan()
        # candidates may be given while others build: they run elsewhere
        self.dispatches = True
        self._dispatcher = Dispatcher(
            parse_tracker(tracker),
            key,
            target,
            replace(policy, timeout_s=timeout_s, lease_s=lease_s),
            tolerance=tolerance,
            on_gone=on_gone,
        )

    @property
    def gone(self) -> FleetGoneError | None:
        """Why the fleet was given up, or None."""
        return self._dispatcher.gone

    def start(
        self,
        path: str,
        device_type: str,
        args_info: Any,
        cutoff_s: float | None = None,
        *,
        group: str | None = None,
        priority: float = 0.0,
    ) -> Future[Any]:
        """Starts one run; see `finish`.

        Parameters
        ----------
        group
            Names the subgraph, such as its `Subgraph.key`: times are compared within it, so one
            class of devices measures it. None stands for all candidates whose arguments have the
            same types and numbers of elements, which the candidates of one subgraph have.
        priority
            The higher, the earlier; such as the number of sibling subgraphs that wait for the
            result. Equal ones are run in the order in which they came.
        """
        args = hashable_args_info(args_info)
        return self._dispatcher.submit(
            Artifact(path, device_type, args),
            replace(self.plan, cutoff_s=cutoff_s),
            _likely_group(args) if group is None else group,
            priority,
        )

    def finish(self, future: Future[Any], time_left: Callable[[], float] = lambda: math.inf) -> Any:
        """Waits for a run and gives its `RunnerResult`.

        Raises
        ------
        OutOfTimeError
            `time_left()` came to nothing first; the run is given up.
        FleetGoneError
            There was no device for longer than the policy's limit. It is an `OutOfTimeError`.
        """
        return finish_run(future, time_left)

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        """Starts all inputs and gives a future for each, as MetaSchedule's runners do."""
        return start_all(self, runner_inputs)

    def devices(self) -> list[DeviceStatus]:
        """What is known of every device that was used, by name."""
        return self._dispatcher.devices()

    def warnings(self) -> list[str]:
        """What people should be told of the fleet, in order."""
        return self._dispatcher.warnings()

    def close(self) -> None:
        """Gives the devices back and stops the processes."""
        self._dispatcher.close()


def _likely_group(args_info: tuple[Any, ...]) -> tuple[Any, ...]:
    # element counts and not shapes: a schedule may change the layout of its weights
    return tuple((kind, dtype, math.prod(shape)) for kind, dtype, shape in args_info)
