"""Where a run's candidates are measured: here, on this host's GPUs, or on a fleet of devices."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from familyseer.measure._measure import device_type
from familyseer.options import TuneOptions
from familyseer.progress import Observer
from familyseer.search import Clock


def make_runner(
    options: TuneOptions,
    target: Any,
    local: Any,
    clock: Clock,
    stack: ExitStack,
    observer: Observer,
) -> Any:
    """The runner of a run.

    Parameters
    ----------
    local
        The runner on this machine's processor, for want of anything else.
    clock
        Stopped when nothing is left to measure on.
    stack
        Closes what is made here.

    Raises
    ------
    UserError
        There is no such fleet, or the target is CUDA and this host has no GPU for it.
    """
    if options.tracker is not None and options.device_key is not None:
        from familyseer.fleet import FleetRunner, check_target

        check_target(target)
        fleet = FleetRunner(
            options.tracker,
            options.device_key,
            target=target,
            on_gone=lambda _error: clock.stop(),
        )
        stack.callback(fleet.close)
        return fleet
    if device_type(target) != "cuda":
        return local
    from familyseer.measure import GpuRunner

    gpus = GpuRunner(arch=str(target.attrs["arch"]), on_gone=lambda _error: clock.stop())
    stack.callback(gpus.close)
    for warning in gpus.warnings():
        observer.on_message(warning)
    return gpus


def why_gone(runner: Any, options: TuneOptions) -> str | None:
    """What ended a run whose devices are all gone, for ``stopped_by``; None if they are not."""
    if getattr(runner, "gone", None) is None:
        return None
    return "fleet gone" if options.tracker is not None else "GPUs gone"


def report_fleet(runner: Any, options: TuneOptions) -> dict[str, Any] | None:
    """The fleet as ``summary.json`` has it; None without one."""
    if options.tracker is None:
        return None
    return {
        "tracker": options.tracker,
        "device_key": options.device_key,
        "devices": [asdict(device) for device in runner.devices()],
        "warnings": runner.warnings(),
    }


def report_gpus(runner: Any) -> list[dict[str, Any]] | None:
    """This host's GPUs as ``summary.json`` has them; None where none measured."""
    report = getattr(runner, "gpus", None)
    return report() if report is not None else None
