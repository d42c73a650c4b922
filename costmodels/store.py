"""Families on disk: XGBoost's own format, numpy archives without pickle, one manifest.

A folder holds ``manifest.json``, for each family ``samples-<slug>.npz`` and, once trained,
``model-<slug>.ubj``, and ``shared.ubj``, the model of all families. After tuning for a GPU
``resources.npz`` and ``resources.ubj`` are there too: what compiled candidates take of it, and the
model that foretells that. The manifest has the digest of every other file, so a truncated or
mixed-up folder is refused before its content reaches a parser; no file name is read from the
manifest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodels._booster import Booster, Training
from costmodels._family import Family
from costmodels._fusion import GRID, Fusion
from costmodels._resources import COLUMNS, WIDE, ResourceModel
from costmodels._samples import Samples
from costmodels._shared import Shared
from costmodels.features import FEATURE_LENGTH
from costmodels.learner import Learner
from costmodels.metrics import DecayingAccuracy
from familyseer.atomic import replacing
from familyseer.safe_arrays import read_arrays
from familyseer.safe_json import load_json, read_limited

FORMAT = 2
MANIFEST = "manifest.json"
SHARED = "shared.ubj"
RESOURCES, RESOURCE_MODEL = "resources.npz", "resources.ubj"
# bytes that are read of one file; a family of a million samples stays below
_FILE_LIMIT = 1 << 30
# in memory
_SAMPLES_LIMIT = 1 << 30
_COLUMNS: dict[str, tuple[str, Any]] = {
    "rows": ("f", np.float32),
    "prior": ("f", np.float64),
    "seconds": ("f", np.float64),
    "owner": ("iu", np.int64),
}


def slug(family: str) -> str:
    """A file name's part for a family: readable, and different for different names."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", family).strip("-").lower()[:40] or "family"
    return f"{readable}-{zlib.crc32(family.encode()):08x}"


def save_learner(folder: str, learner: Learner, tvm_version: str) -> None:
    """Writes all that was learnt into a folder, each file whole or not at all, the manifest last.

    Parameters
    ----------
    folder
        Made if missing; files of the same names are replaced.
    tvm_version
        The TVM whose features were learned from.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    entries = []
    for name, family in learner.families.items():
        files = {f"samples-{slug(name)}.npz": _samples_bytes(family.samples)}
        if family.booster is not None:
            files[f"model-{slug(name)}.ubj"] = family.booster.to_bytes()
        digests = _write_all(path, files)
        entries.append({"name": name, "files": digests, **_family_numbers(family)})
    manifest = {
        "format": FORMAT,
        "tvm": tvm_version,
        "feature_length": FEATURE_LENGTH,
        "families": entries,
        "shared": _save_shared(path, learner.shared),
        "assigned": dict(learner.assigned),
        **_save_resources(path, learner.resources),
    }
    _write(path / MANIFEST, json.dumps(manifest, indent=1, allow_nan=False).encode())


def load_learner(folder: str) -> Learner:
    """Reads what `save_learner` wrote.

    Raises
    ------
    ValueError
        A file is missing, damaged, from a newer version or for other features; the message is one
        line that names the file.
    """
    path = Path(folder)
    manifest = _manifest(path / MANIFEST)
    learner = Learner()
    _restore_resources(path, manifest.get("resources"), learner.resources)
    try:
        for entry in manifest["families"]:
            name = str(entry["name"])
            if name in learner.families:
                raise ValueError(f"family {name!r} is there twice")
            learner.families[name] = _family(path, entry, learner.resources)
        learner.assigned = {str(key): str(name) for key, name in manifest["assigned"].items()}
        shared = manifest["shared"]
        digests = dict(shared["files"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path / MANIFEST}: an entry is missing or malformed ({error})") from None
    if SHARED in digests:
        learner.shared.booster = _booster(
            path, SHARED, digests, shared, "the shared model", learner.resources
        )
        learner.shared.trained_at = sum(len(f.samples) for f in learner.families.values())
    return learner


def _save_shared(path: Path, shared: Shared) -> dict[str, Any]:
    if shared.booster is None:
        return {"files": {}, **_booster_numbers(None)}
    digests = _write_all(path, {SHARED: shared.booster.to_bytes()})
    return {"files": digests, **_booster_numbers(shared.booster)}


def _save_resources(path: Path, model: ResourceModel) -> dict[str, Any]:
    """Nothing where no candidate was compiled for a GPU."""
    if not len(model.rows) and model.booster is None:
        return {}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, rows=model.rows, figures=model.figures)
    files = {RESOURCES: buffer.getvalue()}
    if model.booster is not None:
        files[RESOURCE_MODEL] = bytes(model.booster.save_raw("ubj"))
    return {
        "resources": {
            "files": _write_all(path, files),
            "trained_at": model.trained_at,
            "trainings": model.trainings,
            "train_seconds": model.train_seconds,
        }
    }


def _booster_numbers(booster: Booster | None) -> dict[str, Any]:
    return {
        "line": None if booster is None else [booster.intercept, booster.slope],
        "training": None if booster is None else dataclasses.asdict(booster.training),
    }


def _write_all(path: Path, files: Mapping[str, bytes]) -> dict[str, str]:
    """The digests of the files that it writes."""
    for file, content in files.items():
        _write(path / file, content)
    return {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as draft:
        draft.write_bytes(content)


def _samples_bytes(samples: Samples) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        keys=np.asarray(samples.keys, dtype=np.str_),
        rows=samples.rows,
        prior=samples.prior,
        seconds=samples.seconds,
        owner=samples.owner,
    )
    return buffer.getvalue()


def _family_numbers(family: Family) -> dict[str, Any]:
    return {
        "keys": family.samples.keys,
        "accuracy": _fading(family.accuracy),
        "booster_accuracy": _fading(family.booster_accuracy),
        "prior_accuracy": _fading(family.prior_accuracy),
        "accuracy_on": {key: _fading(value) for key, value in family.accuracy_on.items()},
        "trained_at": family.trained_at,
        "trainings": family.trainings,
        "train_seconds": family.train_seconds,
        "fusion": [_fading(judged) for judged in family.fusion.judged],
        **_booster_numbers(family.booster),
    }


def _fading(accuracy: DecayingAccuracy) -> list[float]:
    return [accuracy.right, accuracy.total]


def _manifest(path: Path) -> dict[str, Any]:
    what = "a saved cost model's manifest"
    if not path.exists():
        raise ValueError(f"{path}: no such file, expected {what}")
    manifest = load_json(path, what=what, error=ValueError)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path}: no format version, expected {FORMAT}")
    if version != FORMAT:
        age = "newer" if version > FORMAT else "unknown older"
        raise ValueError(f"{path}: format version {version} is {age}, expected {FORMAT}")
    if manifest.get("feature_length") != FEATURE_LENGTH:
        raise ValueError(
            f"{path}: features of length {manifest.get('feature_length')}, "
            f"expected {FEATURE_LENGTH}"
        )
    return manifest


def _verified(path: Path, file: str, digests: Mapping[str, str]) -> bytes:
    try:
        content = read_limited(path / file, _FILE_LIMIT)
    except OSError:
        raise ValueError(f"{path / file}: no such file, but the manifest names it") from None
    except ValueError as error:
        raise ValueError(f"{path / file}: {error}") from None
    # archives that only look whole must not reach a parser, so the digest comes first
    if hashlib.sha256(content).hexdigest() != digests[file]:
        raise ValueError(f"{path / file}: damaged, its digest is not the manifest's")
    return content


def _family(path: Path, entry: Mapping[str, Any], resources: ResourceModel) -> Family:
    name, digests = str(entry["name"]), entry["files"]
    file = f"samples-{slug(name)}.npz"
    if file not in digests:
        raise ValueError(f"{path / MANIFEST}: family {name!r} has no {file}")
    family = Family(resources)
    family.samples = _samples(path / file, _verified(path, file, digests))
    try:
        _restore_numbers(family, entry)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path / MANIFEST}: family {name!r}: {error}") from None
    model = f"model-{slug(name)}.ubj"
    if model in digests:
        family.booster = _booster(path, model, digests, entry, f"family {name!r}", resources)
    return family


def _restore_resources(path: Path, entry: Any, model: ResourceModel) -> None:
    if entry is None:
        return
    try:
        digests = dict(entry["files"])
        model.trained_at = max(int(entry["trained_at"]), 0)
        model.trainings = int(entry["trainings"])
        model.train_seconds = float(entry["train_seconds"])
        if RESOURCES not in digests:
            raise ValueError(f"no {RESOURCES}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / MANIFEST}: resources: {error}") from None
    contents = {f: _verified(path, f, digests) for f in (RESOURCES, RESOURCE_MODEL) if f in digests}
    file = path / RESOURCES
    try:
        archive = read_arrays(contents[RESOURCES], _SAMPLES_LIMIT)
        model.rows, model.figures = (
            _numbers(archive[name], "f", np.float32) for name in ("rows", "figures")
        )
        n, shapes = len(model.rows), (model.rows.shape, model.figures.shape)
        if shapes != ((n, FEATURE_LENGTH), (n, COLUMNS)):
            raise ValueError(f"arrays of shapes {shapes}, expected rows of {FEATURE_LENGTH}")
        if not (np.isfinite(model.rows).all() and np.isfinite(model.figures).all()):
            raise ValueError("numbers that are not finite")
        if RESOURCE_MODEL in contents:
            file = path / RESOURCE_MODEL
            model.restore(contents[RESOURCE_MODEL])
    except KeyError as error:
        raise ValueError(f"{file}: no array {error}") from None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    model.trained_at = min(model.trained_at, len(model.rows))


def _booster(
    path: Path,
    file: str,
    digests: Mapping[str, str],
    entry: Mapping[str, Any],
    what: str,
    resources: ResourceModel,
) -> Booster:
    try:
        intercept, slope = _finite(entry["line"], 2)
        training = _training(entry["training"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path / MANIFEST}: {what}: {error}") from None
    raw = _verified(path, file, digests)
    widths = (FEATURE_LENGTH,) if resources.booster is None else (FEATURE_LENGTH, WIDE)
    try:
        return Booster.from_bytes(raw, intercept, slope, training, widths)
    except ValueError as error:
        raise ValueError(f"{path / file}: {error}") from None


def _training(entry: Mapping[str, Any]) -> Training:
    return Training(
        samples=int(entry["samples"]),
        held_out=int(entry["held_out"]),
        rounds=int(entry["rounds"]),
        seconds=float(entry["seconds"]),
        rmse=None if entry["rmse"] is None else float(entry["rmse"]),
    )


def _restore_numbers(family: Family, entry: Mapping[str, Any]) -> None:
    family.accuracy = _accuracy(entry["accuracy"])
    family.booster_accuracy = _accuracy(entry["booster_accuracy"])
    family.prior_accuracy = _accuracy(entry["prior_accuracy"])
    family.accuracy_on = {str(k): _accuracy(value) for k, value in entry["accuracy_on"].items()}
    family.fusion = Fusion([_accuracy(judged) for judged in _grid(entry["fusion"])])
    family.trained_at = min(max(int(entry["trained_at"]), 0), len(family.samples))
    family.trainings = int(entry["trainings"])
    family.train_seconds = float(entry["train_seconds"])


def _accuracy(values: Any) -> DecayingAccuracy:
    right, total = _finite(values, 2)
    # rounding apart, no more are right than there are
    if not 0 <= right <= total + 1e-6:
        raise ValueError(f"{right} of {total} pairs in the right order")
    return DecayingAccuracy(right, total)


def _grid(judged: Any) -> list[Any]:
    if len(judged) != len(GRID):
        raise ValueError(f"{len(judged)} weights of fusion, expected {len(GRID)}")
    return list(judged)


def _finite(values: Any, length: int) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != length or not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected {length} finite numbers, found {values!r:.80}")
    return numbers


def _numbers(array: npt.NDArray[Any], kinds: str, dtype: Any) -> npt.NDArray[Any]:
    if array.dtype.kind not in kinds or array.ndim < 1:
        raise ValueError(f"an array of {array.dtype} of {array.ndim} dimensions")
    return np.asarray(array, dtype=dtype)


def _samples(path: Path, content: bytes) -> Samples:
    try:
        archive = read_arrays(content, _SAMPLES_LIMIT)
        keys = archive["keys"]
        if keys.ndim != 1 or (keys.size and keys.dtype.kind != "U"):
            raise ValueError("keys that are no list of names")
        samples = Samples(
            [str(key) for key in keys],
            *(_numbers(archive[name], *column) for name, column in _COLUMNS.items()),
        )
    except KeyError as error:
        raise ValueError(f"{path}: no array {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    n = len(samples)
    shapes = (samples.rows.shape, samples.prior.shape, samples.owner.shape, samples.seconds.shape)
    if shapes != ((n, FEATURE_LENGTH), (n,), (n,), (n,)):
        raise ValueError(f"{path}: arrays of shapes {shapes}, expected n rows of {FEATURE_LENGTH}")
    if n and not (samples.owner.min() >= 0 and samples.owner.max() < len(samples.keys)):
        raise ValueError(f"{path}: a candidate of an unknown subgraph")
    finite = np.isfinite(samples.rows).all() and np.isfinite(samples.prior).all()
    if not finite or not (samples.seconds > 0).all():
        raise ValueError(f"{path}: numbers that are not finite, or times that are not positive")
    return samples
