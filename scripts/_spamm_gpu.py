"""Dense and sparse products on a GPU, by cuBLAS and cuSPARSE, through PyTorch or CuPy."""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np


class Device(Protocol):
    """What the benchmark asks of an array library."""

    name: str

    def put(self, array: Any) -> Any: ...

    def get(self, array: Any) -> Any: ...

    def empty(self, shape: tuple[int, int], like: Any) -> Any: ...

    def dense(self, a: Any, b: Any, out: Any, tf32: bool) -> Any: ...

    def to_csr(self, array: Any) -> Any: ...

    def sparse(self, a: Any, b: Any) -> Any: ...

    def wait(self) -> None: ...


class Torch:
    """PyTorch's tensors; its sparse products are cuSPARSE's."""

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise RuntimeError("PyTorch sees no GPU")
        self._torch = torch
        device = torch.cuda.get_device_name()
        self.name = f"{device}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"

    def put(self, array: Any) -> Any:
        """A tensor on the GPU."""
        if array.dtype.name == "bfloat16":
            bits = self._torch.from_numpy(array.view(np.int16))
            return bits.view(self._torch.bfloat16).cuda()
        return self._torch.from_numpy(np.ascontiguousarray(array)).cuda()

    def get(self, array: Any) -> Any:
        """A NumPy array, of float32 for narrower types."""
        narrow = array.dtype in (self._torch.float16, self._torch.bfloat16)
        return (array.float() if narrow else array).cpu().numpy()

    def empty(self, shape: tuple[int, int], like: Any) -> Any:
        """A result's tensor."""
        return self._torch.empty(shape, dtype=like.dtype, device=like.device)

    def dense(self, a: Any, b: Any, out: Any, tf32: bool) -> Any:
        """cuBLAS."""
        self._torch.backends.cuda.matmul.allow_tf32 = tf32
        return self._torch.matmul(a, b, out=out)

    def to_csr(self, array: Any) -> Any:
        """Rows without what is zero."""
        return array.to_sparse_csr()

    def sparse(self, a: Any, b: Any) -> Any:
        """cuSPARSE."""
        return a @ b

    def wait(self) -> None:
        """Until all that was started is done."""
        self._torch.cuda.synchronize()


class CuPy:
    """CuPy's arrays; its sparse products are cuSPARSE's."""

    def __init__(self) -> None:
        import cupy

        self._cupy, self._sparse = cupy, importlib.import_module("cupyx.scipy.sparse")
        device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        runtime = cupy.cuda.runtime.runtimeGetVersion()
        self.name = f"{device}, CuPy {cupy.__version__}, CUDA {runtime}"

    def put(self, array: Any) -> Any:
        """An array on the GPU."""
        return self._cupy.asarray(array)

    def get(self, array: Any) -> Any:
        """A NumPy array, of float32 for narrower types."""
        found = self._cupy.asnumpy(array)
        return found if found.dtype.itemsize >= 4 else found.astype(np.float32)

    def empty(self, shape: tuple[int, int], like: Any) -> Any:
        """A result's array."""
        return self._cupy.empty(shape, like.dtype)

    def dense(self, a: Any, b: Any, out: Any, tf32: bool) -> Any:
        """cuBLAS; CuPy takes TF32 by an environment variable alone."""
        if tf32:
            raise NotImplementedError("TF32 needs PyTorch")
        return self._cupy.matmul(a, b, out=out)

    def to_csr(self, array: Any) -> Any:
        """Rows without what is zero."""
        return self._sparse.csr_matrix(array)

    def sparse(self, a: Any, b: Any) -> Any:
        """cuSPARSE."""
        return a @ b

    def wait(self) -> None:
        """Until all that was started is done."""
        self._cupy.cuda.Device().synchronize()


def find_device() -> Device:
    """The library that is there and sees a GPU, PyTorch first.

    Raises
    ------
    RuntimeError
        Neither does.
    """
    reasons = []
    for library in (Torch, CuPy):
        try:
            return library()
        except Exception as error:  # a library without its driver fails in its own ways
            reasons.append(f"{library.__name__}: {error}")
    raise RuntimeError("; ".join(reasons))
