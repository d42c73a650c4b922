"""What a worker process does for one leased device: connect, time candidates, hang up.

TVM's RPC calls block and cannot be interrupted, and a broken connection may take the process with
it. So each lease has a worker process of its own, which can be killed. Functions here are called
by name in that process; the session lives in it between calls.
"""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from familyseer.measure._timing import RunPlan, cold_options, make_arguments, time_kernel
from familyseer.tvm_env import load_tvm


@dataclass(frozen=True)
class Outcome:
    """How one call went.

    Attributes
    ----------
    seconds
        One figure a repeat; empty where it failed.
    fault
        Why it failed, in one line.
    lost
        Whether the session went with it.
    cold
        Whether the device's caches were emptied before each run.
    """

    seconds: tuple[float, ...] = ()
    fault: str | None = None
    lost: bool = False
    cold: bool = False


@dataclass(frozen=True)
class Artifact:
    """A built candidate as a worker needs it.

    Attributes
    ----------
    args_info
        As `familyseer.measure._jobs.hashable_args_info` makes it.
    """

    path: str
    device_type: str
    args_info: tuple[Any, ...]


@dataclass
class _Session:
    remote: Any
    arguments: dict[tuple[Any, ...], list[Any]] = field(default_factory=dict)


_session: _Session | None = None


def connect(host: str, port: int, match_key: str, lease_s: float) -> None:
    """Opens the session of this process; the server ends it after `lease_s` seconds."""
    global _session
    load_tvm()
    from tvm import rpc

    _session = _Session(rpc.connect(host, port, match_key, session_timeout=math.ceil(lease_s)))


def hang_up() -> None:
    """Closes the session in order, which lets the server take its next client at once."""
    global _session
    _session = None


def time_artifact(artifact: Artifact, plan: RunPlan) -> Outcome:
    """Uploads a candidate, times it as `plan` says and removes it again."""
    if _session is None:
        return Outcome(fault="the process that held the session died", lost=True)
    try:
        return _time(_session, artifact, plan)
    except Exception as error:  # what a candidate raises may be of any type
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        fault = f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"
        return Outcome(fault=fault, lost=not _alive(_session))


def time_references(references: Sequence[tuple[Artifact, RunPlan]]) -> tuple[float, ...] | Outcome:
    """Least seconds of each reference kernel, or how the first failure went."""
    best = []
    for artifact, plan in references:
        outcome = time_artifact(artifact, plan)
        if outcome.fault is not None:
            return outcome
        best.append(min(outcome.seconds))
    return tuple(best)


def _alive(session: _Session) -> bool:
    """Whether the server still answers: looking up a function is a round trip."""
    try:
        session.remote.get_function("tvm.rpc.server.workpath")
    except Exception:
        return False
    return True


def _time(session: _Session, artifact: Artifact, plan: RunPlan) -> Outcome:
    """As `familyseer.measure._jobs.run_candidate`, on the device."""
    remote = session.remote
    name = uuid.uuid4().hex + os.path.splitext(artifact.path)[1]
    remote.upload(artifact.path, name)
    try:
        lib = remote.load_module(name)
        device = remote.device(artifact.device_type, 0)
        arguments = _arguments(session, device, artifact.args_info)
        cold = cold_options(device, plan)
        seconds = time_kernel(lib, device, arguments, plan, cold)
        return Outcome(tuple(seconds), cold=bool(cold))
    finally:
        # a lost session has taken the file with it
        with contextlib.suppress(Exception):
            remote.remove(name)


def _arguments(session: _Session, device: Any, args_info: tuple[Any, ...]) -> list[Any]:
    """Tensors on the device for a subgraph's buffers, kept for its next candidate."""
    if args_info in session.arguments:
        return session.arguments[args_info]
    # one subgraph's at a time: a device may have little memory
    session.arguments.clear()
    fill = session.remote.get_function("tvm.contrib.random.random_fill_for_measure")
    made = make_arguments(device, args_info, fill)
    session.arguments[args_info] = made
    return made
