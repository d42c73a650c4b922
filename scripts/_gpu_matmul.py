"""Tuned matrix products against cuBLAS: the share of its speed, both timed in the same way."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from _gpu_record import Parts

from familyseer.kernels._binaries import choose_binary
from familyseer.kernels._manifest import Entry, Manifest, read_manifest
from familyseer.kernels._multiprocessors import _LAUNCHES, _REPEATS, _Driver

# of random numbers of the size of one
_TOLERANCE = {"float16": 2e-3, "float32": 1e-5}
_CHECKED_ROWS = 64
# what a run takes beside its budget: the last round, checks, the final library
_AFTER_S = 120.0


class Product(NamedTuple):
    """A (m x k) times B (k x n), the latter a weight."""

    m: int
    n: int
    k: int
    precision: str

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.m}x{self.n}x{self.k} {self.precision}"


# a large one, and those of BERT-base with 128 tokens
PRODUCTS = (
    Product(4096, 4096, 4096, "float16"),
    Product(128, 3072, 768, "float16"),
    Product(128, 768, 3072, "float16"),
    Product(2048, 2048, 2048, "float32"),
)


def compare_products(
    products: tuple[Product, ...], parts: Parts, work: Path, budget_s: float, target: str
) -> None:
    """Tunes and times every product that `parts` does not hold yet.

    Raises
    ------
    RuntimeError
        Some could not be tuned, or their result is wrong; the others are measured all the same.
    """
    failed = []
    for product in products:

        def measured(product: Product = product) -> dict[str, Any]:
            folder = work / product.key.replace(" ", "-")
            kernels = tuned_kernels(product, folder, budget_s, target)
            return measure(product, kernels)

        try:
            print(product.key, parts.once(product.key, measured), flush=True)
        except (RuntimeError, ValueError, OSError) as error:
            failed.append(f"{product.key}: {error}")
    if failed:
        raise RuntimeError("; ".join(failed))


def tuned_kernels(product: Product, folder: Path, budget_s: float, target: str) -> Path:
    """Tunes a product and gives the folder of its kernel library."""
    from familyseer.export.kernels import export_kernels

    folder.mkdir(parents=True, exist_ok=True)
    write_model(product, folder / "model.onnx")
    out = folder / "out"
    if not (out / "summary.json").exists():
        command = [sys.executable, "-m", "familyseer.cli", "tune", str(folder / "model.onnx")]
        command += ["-o", str(out), "--target", target, "--precision", product.precision]
        command += ["--budget", f"{budget_s:.0f}s", "--resume"]
        done = subprocess.run(command, check=False, timeout=budget_s + _AFTER_S)
        if done.returncode:
            raise RuntimeError(f"familyseer tune ended with {done.returncode}")
    export_kernels(out, folder / "kernels")
    return folder / "kernels"


def write_model(product: Product, path: Path) -> None:
    """An ONNX model of the one product, in float32 as models are."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    weight = np.random.default_rng(0).standard_normal((product.k, product.n)).astype("float32")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [product.m, product.k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [product.m, product.n])],
        [numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", 17)
    save_model(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))


def product_of(manifest: Manifest, product: Product) -> Entry:
    """The kernel that multiplies: of a converted model there are others, which convert.

    Raises
    ------
    RuntimeError
        There is none.
    """
    for entry in manifest.entries.values():
        inputs = [one.shape for one in entry.arguments if not one.output]
        if inputs == [(product.m, product.k), (product.k, product.n)]:
            return entry
    raise RuntimeError(f"{manifest.folder}: has no kernel of a product {product.key}")


def measure(product: Product, kernels: Path) -> dict[str, Any]:
    """Microseconds of the tuned kernel and of cuBLAS, the median of both in turns.

    Raises
    ------
    RuntimeError
        The kernel's result is wrong, or the library has no such kernel.
    """
    manifest = read_manifest(kernels)
    entry = product_of(manifest, product)
    rng = np.random.default_rng(1)
    arrays = {one.name: rng.standard_normal(one.shape).astype(one.dtype) for one in entry.arguments}
    left, right = (arrays[one.name] for one in entry.arguments if not one.output)
    (out,) = (one.name for one in entry.arguments if one.output)
    theirs_us = cublas_us(left, right)
    ours_us, arrays[out][...] = kernel_us(manifest, entry, arrays, out)
    theirs_us = median([theirs_us, cublas_us(left, right), cublas_us(left, right)])
    rows = np.random.default_rng(2).integers(0, product.m, _CHECKED_ROWS)
    expected = left[rows].astype("float64") @ right.astype("float64")
    error = np.linalg.norm(arrays[out][rows] - expected) / np.linalg.norm(expected)
    if not error <= _TOLERANCE[product.precision]:
        raise RuntimeError(f"its result is wrong by {error:.1e}")
    return {
        **product._asdict(),
        "types": [one.dtype for one in entry.arguments],
        "ours_us": ours_us,
        "cublas_us": theirs_us,
        "share_of_cublas": theirs_us / ours_us,
        "teraflops": 2e-6 * product.m * product.n * product.k / ours_us,
        "rel_error": float(error),
    }


def kernel_us(
    manifest: Manifest, entry: Entry, arrays: dict[str, Any], out: str
) -> tuple[float, Any]:
    """Microseconds of one run of a kernel inside a CUDA graph, and its output."""
    code = entry.cuda
    if code is None:
        raise RuntimeError(f"{manifest.folder}: {entry.name} has no CUDA code")
    with _Driver(0) as driver, ExitStack() as stack:
        image = (manifest.folder / choose_binary(manifest, code, driver.capability)).read_bytes()
        sizes = [one.nbytes for one in entry.arguments]
        addresses = stack.enter_context(driver.memory([*sizes, code.workspace_bytes]))
        pointers = {one.name: at for one, at in zip(entry.arguments, addresses, strict=False)}
        for name, array in arrays.items():
            # an output that is not written shows as NaN
            value = np.full_like(array, np.nan) if name == out else array
            driver.call("cuMemcpyHtoD", pointers[name], value.ctypes.data, value.nbytes)
        seconds = driver.time(image, code, pointers, addresses[-1], driver.multiprocessors)
        found = np.empty_like(arrays[out])
        address = found.ctypes.data_as(ctypes.c_void_p).value
        driver.call("cuMemcpyDtoH", address, pointers[out], found.nbytes)
    return seconds * 1e6, found


def cublas_us(left: Any, right: Any) -> float:
    """Microseconds of PyTorch's product inside a CUDA graph, as `kernel_us` times."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.from_numpy(x).cuda() for x in (left, right))
    out = torch.empty((a.shape[0], b.shape[1]), dtype=a.dtype, device="cuda")
    return graph_us(lambda: torch.matmul(a, b, out=out), _LAUNCHES)


def graph_us(run: Any, launches: int) -> float:
    """Microseconds of a call of PyTorch's, so many in one CUDA graph, the median of replays."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(launches):
            run()
    graph.replay()
    times = []
    for _ in range(_REPEATS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3 / launches)
    return float(median(times))
