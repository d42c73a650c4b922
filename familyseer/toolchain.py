"""CUDA's compiler and headers, wherever they are: a system's own toolkit or the wheels from PyPI.

TVM looks for a system toolkit only. The wheels hold the same files, and TVM uses them once it is
told of their folder through the environment, which worker processes inherit.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_HEADER = "cuda_runtime.h"
_NVRTC_OPTIONS = "TVM_CUDA_NVRTC_EXTRA_OPTS"


@dataclass(frozen=True)
class Toolkit:
    """A folder with CUDA's headers.

    Attributes
    ----------
    root
        The folder that holds ``include``.
    origin
        What named it: ``CUDA_PATH``, ``CUDA_HOME``, ``nvcc``, ``system`` or ``wheels``.
    """

    root: Path
    origin: str

    @property
    def include(self) -> Path | None:
        """The folder of the headers; None where they are not there."""
        places = [self.root / "include", *sorted(self.root.glob("targets/*/include"))]
        return next((place for place in places if (place / _HEADER).is_file()), None)


def find_toolkit(environ: Mapping[str, str] = os.environ) -> Toolkit | None:
    """The toolkit that kernels are compiled with: the user's, the system's, then the wheels'.

    A folder that the user names counts even where it holds no headers: using another one behind
    their back would hide the mistake.
    """
    return next(_candidates(environ), None)


def _candidates(environ: Mapping[str, str]) -> Iterator[Toolkit]:
    for name in ("CUDA_PATH", "CUDA_HOME"):
        if environ.get(name):
            yield Toolkit(Path(environ[name]), name)
            return
    compiler = shutil.which("nvcc", path=environ.get("PATH"))
    found = []
    if compiler is not None:
        found.append(Toolkit(Path(os.path.realpath(compiler)).parent.parent, "nvcc"))
    found.append(Toolkit(Path("/usr/local/cuda"), "system"))
    found += [Toolkit(folder, "wheels") for folder in wheel_folders()]
    yield from (toolkit for toolkit in found if toolkit.include is not None)


def wheel_folders() -> list[Path]:
    """Folders of CUDA wheels, such as ``site-packages/nvidia/cu13``, the newest first."""
    spec = importlib.util.find_spec("nvidia")
    places = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    return sorted((f for place in places for f in place.glob("cu[0-9]*")), reverse=True)


def cuda_environment(environ: MutableMapping[str, str] | None = None) -> Toolkit | None:
    """Tells TVM of the toolkit where it would not find it by itself, and gives that toolkit.

    Parameters
    ----------
    environ
        Where it is told; by default this process's environment.
    """
    environ = os.environ if environ is None else environ
    toolkit = find_toolkit(environ)
    _load_runtime(system_first=toolkit is None or toolkit.origin != "wheels")
    if toolkit is None or toolkit.include is None:
        return toolkit
    # TVM looks for these headers below ``targets`` only
    option = f"-I{shlex.quote(str(toolkit.include / 'cccl'))}"
    given = environ.get(_NVRTC_OPTIONS, "")
    if (toolkit.include / "cccl").is_dir() and option not in given:
        environ[_NVRTC_OPTIONS] = f"{given} {option}".strip()
    # TVM reads the first of these only, and else takes the folder above nvcc's, which may hold a
    # link to nvcc and nothing more
    environ.setdefault("CUDA_PATH", str(toolkit.root))
    environ.setdefault("CUDA_HOME", str(toolkit.root))
    return toolkit


@lru_cache(maxsize=1)
def cuda_environment_once() -> Toolkit | None:
    """As `cuda_environment`, for this process and looked up once."""
    return cuda_environment()


def _load_runtime(*, system_first: bool) -> None:
    """Loads the CUDA runtime, which TVM's own library for GPUs asks the loader for by name.

    Beside a system's toolkit of another version, the one of the wheels may be the only one of the
    version that TVM asks for; PyTorch brings it, which is not loaded everywhere that TVM is.
    """
    for library in (each for f in wheel_folders() for each in sorted(f.glob("lib/libcudart.so.*"))):
        for name in (library.name, str(library)) if system_first else (str(library),):
            try:
                ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return
