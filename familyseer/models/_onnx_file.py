"""Reading ``.onnx`` files: every way such a file can be bad, told in one line."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import external_data_helper

from familyseer.errors import UserError

_LFS_POINTER = b"version https://git-lfs"
_OLDEST_IR = 3
_LONGEST = 200


def read_onnx(path: Path) -> tuple[onnx.ModelProto, str]:
    """The model in a file, its external weights loaded, and the SHA-256 (hex) of all their bytes.

    Raises:
        UserError: the file is not a whole ONNX model, or a file of external weights is missing,
            too short, or outside the model's folder.
    """
    data = read_bytes(path, "an ONNX model")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise UserError(f"{path}: {_what_else(data)}; expected a binary ONNX model") from error
    if not model.graph.node and not model.graph.output:
        raise UserError(f"{path}: {_what_else(data)}; expected a binary ONNX model with a graph")
    if model.ir_version < _OLDEST_IR:
        raise UserError(
            f"{path}: ONNX IR version {model.ir_version}; expected {_OLDEST_IR} (2017) or newer"
        )
    digest = hashlib.sha256(data)
    for weight in _load_external_weights(model, path):
        digest.update(weight.raw_data)
    return model, digest.hexdigest()


def digest_of(model: onnx.ModelProto) -> str:
    """SHA-256 (hex) of a model in memory, which may be larger than a serialised one can be."""
    head = onnx.ModelProto()
    head.ir_version = model.ir_version
    head.opset_import.extend(model.opset_import)
    parts = (
        head,
        *model.functions,
        *model.graph.input,
        *model.graph.output,
        *model.graph.node,
        *model.graph.sparse_initializer,
        *model.graph.initializer,
    )
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.SerializeToString(deterministic=True)).digest())
    return digest.hexdigest()


def check_weights_inside(model: onnx.ModelProto, source: str) -> None:
    """Sees to it that a model in memory has all its weights.

    Raises:
        UserError: some were left in a file.
    """
    for tensor in model.graph.initializer:
        if external_data_helper.uses_external_data(tensor):
            raise UserError(
                f"{source}: the weight {tensor.name} is in a file beside the model; expected the "
                "model's path, or a model from onnx.load with its external data"
            )


def read_bytes(path: Path, expected: str) -> bytes:
    """The bytes of a file that is not empty.

    Raises:
        UserError: there is no such file, it cannot be read, or it is empty; the message says that
            ``expected`` was wanted.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; expected {expected}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: is a folder; expected {expected}") from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); expected {expected}"
        ) from error
    if not data:
        raise UserError(f"{path}: is empty; expected {expected}")
    return data


def first_line(error: BaseException) -> str:
    """What an error of another library says, fit for a message of one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= _LONGEST else f"{lines[0][:_LONGEST]}..."


def _what_else(data: bytes) -> str:
    head = data[:4096]
    if head.startswith(_LFS_POINTER):
        return "is a Git LFS pointer, not the file itself (git lfs pull fetches it)"
    text = head.decode(errors="ignore")
    # the cut may fall inside a character, which is 4 bytes at most
    is_text = len(text.encode()) >= len(head) - 3 and all(
        letter.isprintable() or letter in "\t\n\r\f" for letter in text
    )
    return "is a text file" if is_text else "is truncated or not an ONNX model"


def _load_external_weights(model: onnx.ModelProto, path: Path) -> list[onnx.TensorProto]:
    external = [
        tensor
        for tensor in model.graph.initializer
        if external_data_helper.uses_external_data(tensor)
    ]
    for tensor in external:
        location = external_data_helper.ExternalDataInfo(tensor).location
        if not (path.parent / location).exists():
            raise UserError(
                f"{path}: its weights file {location} is missing; expected it in {path.parent}"
            )
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(
            f"{path}: its external weights cannot be read ({first_line(error)}); expected them "
            "whole and in the model's folder"
        ) from error
    return external
