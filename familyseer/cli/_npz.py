"""Arrays in and out of ``.npz`` archives, checked against what a library takes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from familyseer.errors import UserError
from familyseer.models import InputSpec

Array = NDArray[Any]


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an archive, by name. Pickled objects are refused, never loaded.

    Raises
    ------
    UserError
        The file is missing, is no archive of arrays, is damaged, or holds pickled objects.
    """
    expected = "expected an .npz archive of arrays, as numpy.savez writes it"
    try:
        if not zipfile.is_zipfile(path):
            # is_zipfile takes an unreadable file for no archive, so ask again
            path.open("rb").close()
            raise UserError(f"{path}: not an archive; {expected}")
        with np.load(path, allow_pickle=False) as archive:
            return {name: _array(path, archive, name, expected) for name in archive.files}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}; {expected}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); {expected}") from None


def _array(path: Path, archive: Any, name: str, expected: str) -> Array:
    try:
        value = archive[name]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path}: {name} holds pickled objects; {expected}") from None
        raise UserError(f"{path}: {name} is damaged ({error}); {expected}") from None
    if not isinstance(value, np.ndarray):
        raise UserError(f"{path}: {name} is no array; {expected}")
    return value


def match_inputs(
    path: Path, arrays: Mapping[str, Array], wanted: Sequence[InputSpec]
) -> dict[str, Array]:
    """The arrays that a library takes, in its order and of its element types.

    Weights that the library takes as inputs may be left out.

    An array of another element type is converted where its kind allows it (float64 to float32,
    int64 to an int32 that holds its values), and refused where it does not (floats to integers).

    Raises
    ------
    UserError
        An input is missing, an array is too many, or a shape, an element type or a value
        does not fit.
    """
    names = [spec.name for spec in wanted]
    missing = [spec.name for spec in wanted if spec.name not in arrays and spec.weight is None]
    extra = [name for name in arrays if name not in names]
    if missing or extra:
        faults = [f"lacks {', '.join(missing)}"] if missing else []
        faults += [f"has unknown {', '.join(extra)}"] if extra else []
        raise UserError(f"{path}: {' and '.join(faults)}; expected {_listed(wanted)}")
    given = [spec for spec in wanted if spec.name in arrays]
    return {spec.name: _fitted(path, spec, arrays[spec.name]) for spec in given}


def _listed(wanted: Sequence[InputSpec]) -> str:
    needed = [spec for spec in wanted if spec.weight is None]
    return ", ".join(f"{t.name} {list(t.shape)} {t.dtype}" for t in needed) or "no inputs"


def _fitted(path: Path, spec: InputSpec, array: Array) -> Array:
    if array.shape != spec.shape:
        raise UserError(
            f"{path}: {spec.name} has shape {list(array.shape)}; expected {list(spec.shape)}"
        )
    dtype = _dtype(spec.dtype)
    if array.dtype == dtype:
        return array
    if array.dtype.kind == "V" and array.dtype.itemsize == dtype.itemsize:
        # numpy writes the types of ml_dtypes, such as bfloat16, as raw bytes
        return array.view(dtype)
    if not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise UserError(f"{path}: {spec.name} is {array.dtype}; expected {spec.dtype}")
    converted = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(converted, array):
        raise UserError(f"{path}: {spec.name} has values that {spec.dtype} cannot hold")
    return converted


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes an archive under exactly this name, whatever its suffix.

    Raises
    ------
    UserError
        The file cannot be written.
    """
    try:
        with path.open("wb") as file:
            _write(file, arrays)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from None


def _write(file: Any, arrays: Mapping[str, Array]) -> None:
    # not numpy.savez, whose own parameter names an output may bear
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
