"""Builds what would be released, looks into it, and tries it on each Python outside the checkout.

    python scripts/check_release.py
    PYENV_VERSION=3.10.13:3.11.7:3.12.1 python scripts/check_release.py

The wheel and the sdist are made of the files that git tracks. For each Python that is found, the
wheel goes into a fresh virtual environment, and from an empty folder `familyseer` is asked for its
version, its doctor's report, a tuning run of 15 s, its benchmark, its result in Python and a
schema, and `spamm` for a product; then the same package is installed from the sdist. Needs the
network, some minutes and about 2 GB a Python.
"""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import click

from familyseer.cli._output import print_table

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("costmodels", "familyseer", "ops", "spamm")
PYTHONS = ("3.10", "3.11", "3.12")
_STEP_S = 600
_LIGHT = """
import familyseer, sys
loaded = {"tvm", "tvm_ffi", "numpy", "xgboost", "onnx", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
_RESULT = """
import numpy as np, familyseer
result = familyseer.load("out")
(output,) = result.run(np.zeros((1, 784), "float32")).values()
assert output.shape == (1, 10), output.shape
"""
_PRODUCT = """
import numpy as np, spamm
rng = np.random.default_rng(0)
near = np.abs(np.subtract.outer(np.arange(256), np.arange(256)))
a, b = (rng.standard_normal((256, 256)) * 0.8**near for _ in "ab")
exact = a @ b
error = np.linalg.norm(spamm.matmul(a, b, max_rel_error=1e-6) - exact) / np.linalg.norm(exact)
assert error <= 1e-6, error
"""


@dataclass(frozen=True)
class Distributions:
    """What a release consists of: the paths of its two files."""

    wheel: Path
    sdist: Path

    def wheel_files(self) -> set[str]:
        """Paths in the wheel but for its ``.dist-info``."""
        with zipfile.ZipFile(self.wheel) as archive:
            return {name for name in archive.namelist() if ".dist-info/" not in name}

    def sdist_files(self) -> set[str]:
        """Paths in the sdist, below its one folder."""
        with tarfile.open(self.sdist) as archive:
            names = [member.name for member in archive.getmembers() if member.isfile()]
        return {name.partition("/")[2] for name in names}

    def metadata(self) -> Message:
        """The wheel's ``METADATA``."""
        with zipfile.ZipFile(self.wheel) as archive:
            [name] = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
            return email.message_from_bytes(archive.read(name))


def tracked_files() -> list[str]:
    """What git tracks, as paths below the repository's root."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def build(folder: Path, *, isolated: bool = True) -> Distributions:
    """Builds the sdist, and the wheel from it.

    Parameters
    ----------
    folder
        An empty folder; the two are left in its ``dist``.
    isolated
        Fetch what builds them, and not take what is installed here.

    Raises
    ------
    subprocess.CalledProcessError
        They cannot be built.
    """
    # not in the checkout, where an earlier build's folder would be packed again
    source = folder / "source"
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--outdir", str(folder / "dist"), str(source)]
    subprocess.run(
        command + ([] if isolated else ["--no-isolation"]),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    [wheel], [sdist] = (list((folder / "dist").glob(each)) for each in ("*.whl", "*.tar.gz"))
    return Distributions(wheel, sdist)


def problems(made: Distributions, tracked: list[str]) -> list[str]:
    """What is missing from the distributions or should not be there, a line each."""
    packaged = {name for name in tracked if name.split("/")[0] in PACKAGES and "/" in name}
    visible = {name for name in tracked if not name.startswith(".")}
    in_wheel, in_sdist = made.wheel_files(), made.sdist_files()
    found = [f"{name}: not in the wheel" for name in sorted(packaged - in_wheel)]
    found += [f"{name}: in the wheel, of no package" for name in sorted(in_wheel - packaged)]
    found += [f"{name}: not in the sdist" for name in sorted(visible - in_sdist)]
    metadata = made.metadata()
    if "LICENSE" in tracked and metadata.get_all("License-File") != ["LICENSE"]:
        found.append("metadata: no License-File")
    if not str(metadata.get_payload()).startswith("# FamilySeer"):
        found.append("metadata: the description is not the README")
    return found


def interpreters() -> dict[str, str]:
    """The Pythons on the path that work, by version; a shim of one that is not chosen does not."""
    found = {}
    for version in PYTHONS:
        path = shutil.which(f"python{version}")
        if (
            path is not None
            and subprocess.run([path, "-c", ""], capture_output=True).returncode == 0
        ):
            found[version] = path
    return found


def trials(base: str, environment: Path, made: Distributions) -> Iterator[tuple[str, list[str]]]:
    """The steps on one Python, in order: what each is called, and its command.

    Parameters
    ----------
    base
        The Python.
    environment
        Where its virtual environment goes.
    """
    python, familyseer = (str(environment / "bin" / name) for name in ("python", "familyseer"))
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    yield "venv", [base, "-m", "venv", str(environment)]
    yield "install", [*pip, "install", str(made.wheel)]
    yield "pip check", [*pip, "check"]
    yield "version", [familyseer, "--version"]
    yield "import", [python, "-c", _LIGHT]
    yield "doctor", [familyseer, "doctor"]
    yield "tune 15s", [familyseer, "tune", "mlp", "-o", "out", "--budget", "15s", "--quiet"]
    yield "bench", [familyseer, "bench", "out"]
    yield "result", [python, "-c", _RESULT]
    yield "schema", [familyseer, "schema", "tune"]
    yield "spamm", [python, "-c", _PRODUCT]
    yield "sdist", [*pip, "install", "--force-reinstall", "--no-deps", str(made.sdist)]
    yield "families", [familyseer, "families", "mlp"]


def try_on(python: str, made: Distributions, folder: Path) -> list[tuple[str, float, str]]:
    """The steps on one Python: name, seconds and the last line of what failed ("" if none did).

    The first failure ends it.
    """
    empty = folder / "empty"
    empty.mkdir(parents=True)
    variables = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = []
    for name, command in trials(python, folder / "venv", made):
        began = time.monotonic()
        fault = _run(command, empty, variables)
        done.append((name, time.monotonic() - began, fault))
        if fault:
            break
    return done


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_S,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {_STEP_S} s"
    if done.returncode == 0:
        return ""
    said = done.stdout.strip().splitlines()
    return said[-1] if said else f"exit code {done.returncode}"


@click.command()
@click.option(
    "--python", "chosen", multiple=True, help="Of PYTHONS, such as 3.10; may be repeated."
)
@click.option("--isolation/--no-isolation", default=True, help="Build with what is fetched for it.")
@click.option("--out", type=click.Path(path_type=Path), help="Keeps the wheel and the sdist here.")
def main(chosen: tuple[str, ...], isolation: bool, out: Path | None) -> None:
    """Build a release and try it; exits with 1 where something is wrong."""
    with tempfile.TemporaryDirectory(prefix="familyseer-release-") as top:
        folder = Path(top)
        made = build(folder, isolated=isolation)
        wrong = problems(made, tracked_files())
        rows = []
        for version, python in interpreters().items():
            if chosen and version not in chosen:
                continue
            for name, seconds, fault in try_on(python, made, folder / version):
                click.echo(f"{version} {name}: {fault or 'ok'}", err=True)
                rows.append((version, name, f"{seconds:.1f}", fault or "ok"))
                wrong += [f"Python {version}, {name}: {fault}"] if fault else []
            shutil.rmtree(folder / version)
        missing = sorted({*(chosen or PYTHONS)} - {row[0] for row in rows})
        wrong += [f"Python {version}: not found, or it does not run" for version in missing]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for path in (made.wheel, made.sdist):
                shutil.copy2(path, out)
    print_table(("python", "step", "s", "result"), rows, align=("left", "left", "right"))
    for line in wrong:
        click.echo(line, err=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
