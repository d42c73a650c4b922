"""Fleets and GPUs that are not there."""

from __future__ import annotations

import argparse
import json
import platform
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from familyseer.errors import RunError
from familyseer.fleet._target import check_target
from familyseer.fleet._tracker import check_fleet
from familyseer.measure import _gpu_runner
from familyseer.measure._gpus import Gpu
from familyseer.spamm_tasks import Problem
from familyseer.spamm_tasks._cuda import CudaKind
from familyseer.tvm_env import load_tvm
from tests.docs.messages import ROOT
from tests.docs.provocations import Place, command, provokes, refused

H200 = Gpu("0", "NVIDIA H200", "sm_90", 132)


@provokes("the-trackers-options")
def _options(place: Place) -> Iterator[str]:
    tune = ("tune", "mlp", "-o", place.folder / "out")
    yield command(*tune, "--tracker", "nowhere", "--device-key", "xeon")
    yield command(*tune, "--tracker", "127.0.0.1:9190")
    yield command(*tune, "--device-key", "xeon")


@contextmanager
def _tracker(greeting: int, summary: object) -> Iterator[str]:
    """Answers one client as a tracker does; the address."""

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4)
            client.sendall(struct.pack("<i", greeting))
            if client.recv(1000):
                text = json.dumps(summary).encode()
                client.sendall(struct.pack("<i", len(text)) + text)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10.0)


@provokes("the-tracker-or-its-devices-are-not-there")
def _no_tracker(_place: Place) -> Iterator[str]:
    load_tvm()
    from tvm.rpc import base

    with socket.create_server(("127.0.0.1", 0)) as once:
        free = f"127.0.0.1:{once.getsockname()[1]}"
    yield refused(check_fleet, free, "xeon")
    with _tracker(1, None) as address:
        yield refused(check_fleet, address, "xeon")
    answer = [base.TrackerCode.SUCCESS, {"queue_info": {}, "server_info": []}]
    with _tracker(base.RPC_TRACKER_MAGIC, answer) as address:
        yield refused(check_fleet, address, "xeon")


@provokes("the-target-of-a-fleet")
def _other_machines(_place: Place) -> Iterator[str]:
    target = load_tvm().target.Target
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    yield refused(check_target, target({"kind": "llvm", "mtriple": f"{other}-linux-gnu"}))
    # no machine of the tests has one
    yield refused(check_target, target("opencl"))


def _no_driver() -> None:
    raise RuntimeError("CUDA: no driver")


@provokes("no-gpu-to-measure-on")
def _no_gpu(place: Place) -> Iterator[str]:
    yield refused(_gpu_runner.GpuRunner, [])
    place.change.setattr(_gpu_runner, "list_gpus", _no_driver)
    yield refused(_gpu_runner._find)
    if load_tvm().cuda(0).exist:
        pytest.skip("this machine has a GPU")
    target = load_tvm().target.Target({"kind": "cuda", "arch": "sm_90"})
    yield refused(CudaKind, Problem((64, 64, 64), "float16", 0.3, None, ""), target)


@provokes("the-gpu-cannot-run-the-targets-code")
def _other_gpu(_place: Place) -> Iterator[str]:
    yield refused(_gpu_runner.GpuRunner, [H200], arch="sm_100")
    problem = Problem((64, 64, 64), "float16", 0.3, None, "")
    target = load_tvm().target.Target({"kind": "cuda", "arch": "sm_100"})
    yield refused(CudaKind, problem, target, (H200.model, H200.arch))


@provokes("a-cuda-kernel-does-not-compile")
def _refused_kernel(_place: Place) -> Iterator[str]:
    pytest.importorskip("cuda.bindings.nvrtc")
    load_tvm()
    from familyseer.export._kernels._cuda import _compile

    yield refused(_compile, "fs_conv", "no CUDA", "cubin", "sm_90", error=RunError)


@provokes("the-gpu-hosts-command")
def _gpu_host(place: Place) -> Iterator[str]:
    place.change.syspath_prepend(str(ROOT / "scripts"))
    import gpu_host

    def given(*more: str) -> argparse.Namespace:
        folders = ["--out", str(place.folder), "--work", str(place.folder / "work")]
        return gpu_host.parser().parse_args([*folders, *more])

    def nvidia_smi(text: str) -> None:
        tool = place.folder / "nvidia-smi"
        tool.write_text(f"#!{sys.executable}\n{text}\n")
        tool.chmod(0o755)

    place.change.setenv("PATH", str(place.folder))
    yield refused(gpu_host.run, given())
    nvidia_smi("raise SystemExit(9)")
    yield refused(gpu_host.run, given())
    yield refused(gpu_host.run, given("--minutes", "0"))
    nvidia_smi("print('NVIDIA H200')")
    yield refused(gpu_host.run, given("--steps", "dance"))
    (place.folder / "mine.json").write_text('{"gpu": "NVIDIA A100", "budget_s": 120}')
    yield refused(gpu_host.run, given("--name", "mine"))
