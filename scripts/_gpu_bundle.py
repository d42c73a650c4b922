"""The bundle on the host: unpacked once, PyCUDA built from its source; standard library alone."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

CONTENTS, SDISTS = "bundle.json", "sdist"
_DONE = ".complete"
_SYSTEM_CUDA = Path("/usr/local/cuda")


class BundleError(Exception):
    """A bundle cannot be used; one line."""


def unpack(bundle: Path, dest: Path) -> Path:
    """Unpacks a bundle's packages into `dest`, unless they are there already.

    Returns
    -------
    Path
        `dest`, to be put on ``PYTHONPATH``.

    Raises
    ------
    BundleError
        The folder is no bundle, damaged, or for another Python.
    """
    try:
        contents = json.loads((bundle / CONTENTS).read_text("utf-8"))
        python, digests = str(contents["python"]), dict(contents["archives"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{bundle}: no bundle ({type(error).__name__}: {error}); "
            "expected what scripts/gpu_bundle.py writes"
        ) from None
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if python != here:
        raise BundleError(f"{bundle}: is for Python {python}, expected one for {here}")
    done, wanted = dest / _DONE, json.dumps(digests, sort_keys=True)
    if done.is_file() and done.read_text() == wanted:
        return dest
    for name, digest in digests.items():
        if not (bundle / name).is_file() or sha256(bundle / name) != digest:
            raise BundleError(f"{bundle / name}: damaged or missing; pack the bundle anew")
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir(parents=True)
    for name in digests:
        with lzma.open(bundle / name) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            # Python before 3.10.12 has no filters; the digest says whose archive it is
            if hasattr(tarfile, "data_filter"):
                tar.extractall(dest, filter="data")
            else:
                tar.extractall(dest)
    done.write_text(wanted)
    return dest


def build_pycuda(bundle: Path, dest: Path, environ: dict[str, str], limit_s: float) -> str:
    """Builds PyCUDA from its source in a bundle into `dest`, where Python has none.

    Returns
    -------
    str
        What came of it, in one line; the GPU is of use without PyCUDA as well.
    """
    if (
        subprocess.run(
            [sys.executable, "-c", "import pycuda.driver"],
            env=environ,
            capture_output=True,
            check=False,
        ).returncode
        == 0
    ):
        return "there"
    sources = sorted((bundle / SDISTS).glob("pycuda-*.tar.gz"))
    if not sources:
        return "missing: the bundle has no source of it"
    if shutil.which("g++") is None and shutil.which("c++") is None:
        return "missing: there is no C++ compiler to build it"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--no-compile", "--disable-pip-version-check"]
    command += ["--target", str(dest), "--upgrade", str(sources[-1])]
    log = dest / "pycuda-build.log"
    try:
        with log.open("w") as out:
            done = subprocess.run(
                command,
                env={**environ, **_build_environment(environ)},
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=limit_s,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return f"missing: building it took more than {limit_s:.0f} s"
    if done.returncode == 0:
        return f"built from {sources[-1].name}"
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "error" in line.lower()]
    return f"missing: it could not be built: {(errors or lines or ['no message'])[0][:200]}"


def _build_environment(environ: dict[str, str]) -> dict[str, str]:
    """Where PyCUDA's build finds CUDA, by nvcc on the path, and less work for the compiler."""
    path = environ.get("PATH", os.defpath)
    roots = [environ[name] for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    bins = [str(Path(root) / "bin") for root in (*roots, str(_SYSTEM_CUDA))]
    # its time is the GPU's, and nothing in it is slow
    return {"PATH": os.pathsep.join([path, *bins]), "CFLAGS": "-O1 -g0"}


def sha256(path: Path) -> str:
    """The digest of a file, in hex."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            found.update(part)
    return found.hexdigest()
