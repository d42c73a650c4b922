"""Packs what a GPU host without a network lacks, into one folder to be carried there.

    python scripts/gpu_bundle.py .gpu-bundle
    python scripts/gpu_host.py --bundle .gpu-bundle        # there

The host is expected to have Python on x86-64 Linux with what comes with PyTorch (NumPy, SciPy,
networkx, setuptools), CUDA, onnx, click, rich, psutil, cloudpickle, matplotlib and pytest; what it
lacks of these is added by ``--with NAME``. TVM's compiler is 260 MB, of which a dictionary of that
size leaves a fifth; that takes some minutes of one core and 3 GB of memory. It is an archive of
its own, so that neither is larger than what may be carried at a time.
"""

from __future__ import annotations

import importlib.metadata
import json
import lzma
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import click
from _gpu_bundle import CONTENTS, SDISTS, sha256

# Packages whose version decides what a run does, and whose version here they get. XGBoost's own
# wheel needs NCCL, hundreds of MB for training on several GPUs.
PINNED = {
    "apache-tvm": "apache-tvm",
    "apache-tvm-ffi": "apache-tvm-ffi",
    "xgboost-cpu": "xgboost",
}
PACKAGES = (
    *PINNED,
    "onnxslim>=0.1.50",
    "colorama",
    # what PyCUDA needs, to be built and to be used
    "pytools",
    "siphash24",
    "platformdirs",
    "mako",
    "markupsafe",
)
# only compiled on the host, against its driver
SOURCES = ("pycuda",)
# sources and headers, for those who build TVM or against it
_UNUSED = ("3rdparty", "src", "include", "web", "licenses", "cmake", "lib64", "share")
_UNUSED_FILES = ("*.pyc", "*.pyx", "*.pyi", "*.cdx.json", "libtvm_ffi_testing.so")
_LARGE = "libtvm_compiler.so"
_LAST_GLIBC = 39
_DICTIONARY = 256 << 20


def platforms() -> list[str]:
    """The names of wheels for x86-64 Linux, the newest first; pip takes each by its very name."""
    numbered = [f"manylinux_2_{n}_x86_64" for n in range(_LAST_GLIBC, 4, -1)]
    return [*numbered, "manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]


def requirement(name: str) -> str:
    """A package as pip takes it, at this environment's version where that matters."""
    return f"{name}=={importlib.metadata.version(PINNED[name])}" if name in PINNED else name


def download_wheels(names: list[str], python: str, folder: Path) -> None:
    """Wheels for another Python than this one, without what they depend on."""
    command = [*_pip("download"), "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", python, "-d", str(folder)]
    for platform in platforms():
        command += ["--platform", platform]
    _run([*command, *map(requirement, names)])


def download_sources(names: tuple[str, ...], folder: Path) -> None:
    """Source distributions."""
    for name in names:
        _run([*_pip("download"), "--no-binary", name, "-d", str(folder), name])


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "-q", "--no-deps", "--disable-pip-version-check"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise click.ClickException((lines or done.stderr.splitlines() or ["pip failed"])[0])


def unpack_wheels(wheels: Path, site: Path) -> dict[str, str]:
    """Puts wheels together as an installation would, and gives their versions by name."""
    versions = {}
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        versions[name.replace("_", "-").lower()] = version
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    for package in ("tvm", "tvm_ffi"):
        for unused in _UNUSED:
            shutil.rmtree(site / package / unused, ignore_errors=True)
    return versions


def pack(site: Path, folder: Path, preset: int) -> dict[str, str]:
    """Writes what is in `site` as archives into `folder`, and gives their digests by name."""
    files = [p for p in site.rglob("*") if p.is_file() and not any(map(p.match, _UNUSED_FILES))]
    small = [p for p in files if p.name != _LARGE]
    large = [p for p in files if p.name == _LARGE]
    parts = {"site.tar.xz": small, "compiler.tar.xz": large}
    for name, members in parts.items():
        _archive(sorted(members), site, folder / name, preset)
    return {name: sha256(folder / name) for name in parts}


def _archive(files: list[Path], site: Path, archive: Path, preset: int) -> None:
    filters = [
        {"id": lzma.FILTER_X86},
        {"id": lzma.FILTER_LZMA2, "preset": preset, "dict_size": _DICTIONARY},
    ]
    with (
        lzma.open(archive, "wb", filters=filters) as stream,
        tarfile.open(fileobj=stream, mode="w|") as tar,
    ):
        for path in files:
            tar.add(path, path.relative_to(site), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime = 0
    return member


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option("--python", default="3.12", show_default=True, help="The host's Python.")
@click.option("--with", "more", multiple=True, metavar="NAME", help="Another package, as a wheel.")
@click.option("--preset", type=click.IntRange(0, 9), default=9, show_default=True, help="Of xz.")
def main(out: Path, python: str, more: tuple[str, ...], preset: int) -> None:
    """Write the bundle to OUT, whole or not at all."""
    if out.exists() and any(out.iterdir()) and not (out / CONTENTS).exists():
        raise click.UsageError(f"{out}: holds something else, expected a new or empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="familyseer-bundle-", dir=out.parent) as folder:
        work = Path(folder)
        draft = work / "bundle"
        (draft / SDISTS).mkdir(parents=True)
        click.echo("downloading", err=True)
        download_wheels([*PACKAGES, *more], python, work / "wheels")
        download_sources(SOURCES, draft / SDISTS)
        versions = unpack_wheels(work / "wheels", work / "site")
        click.echo("packing, which takes some minutes", err=True)
        digests = pack(work / "site", draft, preset | lzma.PRESET_EXTREME)
        contents = {"python": python, "packages": versions, "archives": digests}
        (draft / CONTENTS).write_text(json.dumps(contents, indent=2) + "\n")
        shutil.rmtree(out, ignore_errors=True)
        draft.rename(out)
    sizes = {p.name: p.stat().st_size / 2**20 for p in sorted(out.rglob("*")) if p.is_file()}
    parts = ", ".join(f"{name} {mib:.1f}" for name, mib in sizes.items())
    click.echo(f"{out}: {sum(sizes.values()):.1f} MiB ({parts}); {', '.join(sorted(versions))}")


if __name__ == "__main__":
    main()
