"""JSON that may come from elsewhere, read with limits.

Python's reader takes files of any size and depth, keys that come twice, NaN, integers of any
length and numbers that overflow to infinity. Each of these surprises whoever uses the value.
"""

from __future__ import annotations

import json
import math
import re
import stat
from pathlib import Path
from typing import Any

from familyseer.atomic import replacing
from familyseer.errors import UserError

SIZE_LIMIT = 64 << 20
DEPTH_LIMIT = 64
# what every reader can hold; wider ones would fail where they are turned into a float
_LARGEST = 2**64

# a string is one token, an unfinished one too, so that its brackets are not taken for nesting
_TOKEN = re.compile(r'"(?:[^"\\]|\\(?:.|\Z))*(?:"|\Z)|[\[{]|[\]}]', re.DOTALL)


def load_json(
    path: Path,
    *,
    what: str,
    limit: int = SIZE_LIMIT,
    error: type[Exception] = UserError,
) -> Any:
    """The value in a JSON file.

    Parameters
    ----------
    what
        What the file is expected to hold, for the message: "the summary of a tuning run".
    limit
        Most bytes that are read.
    error
        What is raised.

    Raises
    ------
    error
        The file is missing, is no regular file, is larger than `limit`, is not UTF-8, not JSON or
        not plain (see `parse_json`); one line that names the file and what was expected.
    """
    try:
        content = read_limited(path, limit)
    except OSError as failed:
        reason = failed.strerror or type(failed).__name__
        raise error(f"{path}: cannot be read ({reason}), expected {what}") from None
    except ValueError as refused:
        raise error(f"{path}: {refused}, expected {what}") from None
    try:
        return parse_json(content, what)
    except ValueError as refused:
        raise error(f"{path}: {refused}") from None


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of a regular file that has at most `limit`.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is no regular file, or larger.
    """
    status = path.stat()
    # a pipe or a device would be waited for, or never end
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size <= limit:
        with path.open("rb") as file:
            content = file.read(limit + 1)
        if len(content) <= limit:
            return content
    raise ValueError(f"larger than {limit} bytes")


def parse_json(content: bytes | str, what: str, depth: int = DEPTH_LIMIT) -> Any:
    """The value of a JSON text whose numbers are finite and whose keys are unique.

    Parameters
    ----------
    what
        What was expected, for the message.
    depth
        Most arrays and objects inside one another.

    Raises
    ------
    ValueError
        It is not UTF-8 or not JSON, is nested deeper, has a key twice, a number that is NaN,
        infinite or an integer of more than 64 bits, or half a surrogate pair; one line.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"not UTF-8, expected {what}") from None
    _check_depth(text, what, depth)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as bad:
        raise ValueError(f"not JSON ({bad.msg} in line {bad.lineno}), expected {what}") from None
    except _RefusedError as refused:
        raise ValueError(f"{refused}, expected {what}") from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"half a surrogate pair, expected {what}") from None
    return value


class _RefusedError(ValueError):
    pass


def _check_depth(text: str, what: str, limit: int) -> None:
    if text.count("[") + text.count("{") <= limit:
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        first = text[token.start()]
        if first in "[{":
            depth += 1
            if depth > limit:
                raise ValueError(f"nested deeper than {limit}, expected {what}")
        elif first != '"':
            depth -= 1


def _integer(digits: str) -> int:
    if len(digits) <= 21 and abs(value := int(digits)) < _LARGEST:
        return value
    raise _RefusedError("an integer of more than 64 bits")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isfinite(value):
        return value
    raise _RefusedError("a number that is not finite")


def _constant(name: str) -> float:
    raise _RefusedError(f"the number {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("a key that comes twice")
    return found


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_float,
    parse_constant=_constant,
)


def save_json(path: Path, value: Any) -> None:
    """Writes what `load_json` reads, whole and durable or not at all.

    Raises
    ------
    OSError
        It cannot be written.
    ValueError
        A number is not finite.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
