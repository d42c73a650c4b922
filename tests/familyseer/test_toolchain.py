"""CUDA's headers are found in a system's toolkit or in wheels, and TVM is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from familyseer import toolchain
from familyseer.toolchain import cuda_environment, find_toolkit, wheel_folders


def toolkit(root: Path) -> Path:
    (root / "include" / "cccl").mkdir(parents=True)
    (root / "include" / "cuda_runtime.h").touch()
    return root


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose only toolkit is in wheels."""

    def without_system(environ: dict[str, str]) -> list[toolchain.Toolkit]:
        return [toolchain.Toolkit(folder, "wheels") for folder in wheel_folders()]

    monkeypatch.setattr(toolchain, "_candidates", lambda environ: iter(without_system(environ)))


def test_what_the_user_names_counts_even_where_it_is_wrong(tmp_path: Path) -> None:
    found = find_toolkit({"CUDA_PATH": str(tmp_path), "CUDA_HOME": str(toolkit(tmp_path / "b"))})
    assert found is not None
    assert (found.root, found.origin, found.include) == (tmp_path, "CUDA_PATH", None)
    environ = {"CUDA_PATH": str(tmp_path)}
    assert cuda_environment(environ) is not None
    assert environ == {"CUDA_PATH": str(tmp_path)}


def test_tvm_is_told_where_it_would_not_look(tmp_path: Path) -> None:
    root = toolkit(tmp_path / "with space")
    environ = {"CUDA_HOME": str(root), "TVM_CUDA_NVRTC_EXTRA_OPTS": "--ftz=false"}
    cuda_environment(environ)
    assert environ["CUDA_PATH"] == str(root)
    assert environ["TVM_CUDA_NVRTC_EXTRA_OPTS"] == f"--ftz=false -I'{root}/include/cccl'"
    cuda_environment(environ)
    assert environ["TVM_CUDA_NVRTC_EXTRA_OPTS"].count("cccl") == 1


def test_nvcc_on_the_path_names_its_toolkit(tmp_path: Path) -> None:
    root = toolkit(tmp_path / "cuda")
    (root / "bin").mkdir()
    (root / "bin" / "nvcc").touch(mode=0o755)
    found = find_toolkit({"PATH": str(root / "bin")})
    assert found is not None
    assert (found.root, found.origin) == (root, "nvcc")


def test_headers_below_targets_are_found(tmp_path: Path) -> None:
    root = tmp_path / "cuda"
    (root / "targets" / "x86_64-linux" / "include").mkdir(parents=True)
    (root / "targets" / "x86_64-linux" / "include" / "cuda_runtime.h").touch()
    found = find_toolkit({"CUDA_PATH": str(root)})
    assert found is not None
    assert found.include == root / "targets" / "x86_64-linux" / "include"


@pytest.mark.parametrize("system_has_it", [True, False])
def test_the_runtime_of_wheels_is_loaded_beside_a_system_that_lacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system_has_it: bool
) -> None:
    library = tmp_path / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    loaded = []

    def load(name: str, mode: int) -> None:
        if name == library.name and not system_has_it:
            raise OSError(name)
        loaded.append((name, mode))

    monkeypatch.setattr(toolchain, "wheel_folders", lambda: [tmp_path / "cu13"])
    monkeypatch.setattr(toolchain.ctypes, "CDLL", load)
    cuda_environment({"CUDA_PATH": str(toolkit(tmp_path / "system"))})
    expected = library.name if system_has_it else str(library)
    assert loaded == [(expected, toolchain.ctypes.RTLD_GLOBAL)]


@pytest.mark.usefixtures("bare")
def test_wheels_alone_are_enough_to_compile_float16(tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    environ = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA", "TVM_CUDA"))}
    found = cuda_environment(environ)
    assert found is not None
    assert found.origin == "wheels"
    assert environ["CUDA_PATH"] == str(found.root)
    code = (
        "import tvm; from tvm.support.nvcc import compile_cuda\n"
        "code = '#include <cuda_fp16.h>\\n'\n"
        "code += 'extern \"C\" __global__ void f(half* x) { x[0] += x[1]; }'\n"
        "print(len(compile_cuda(code, target_format='cubin', arch='sm_90', compiler='nvrtc')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout.split()[-1]) > 0
