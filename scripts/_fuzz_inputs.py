"""Damaging files: cut, flipped, spliced, nested, with parts of another type, swapped or missing."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Trap:
    """Leaves a mark where somebody unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@dataclass
class Mutator:
    """Damages files.

    Parameters
    ----------
    rng
        Decides all, so that a seed tells an input.
    mark
        File that the code among the inputs would make if it ran.
    """

    rng: random.Random
    mark: Path

    def __post_init__(self) -> None:
        code = f"__import__('pathlib').Path({str(self.mark)!r}).touch()"
        self.values: list[Any] = [
            None, True, -1, 0, 2**31, 2**63, 2**64, 10**30, 1e308, -0.5, float("nan"), float("inf"),
            "", "x", "x" * 5000, "../../x", "\ud800", "\x00", code, [], {}, [[]], [None],
            {"format": 99}, {"kind": "llvm"}, [-1], [10**9, 10**9], [2**40],
        ]  # fmt: skip
        self.pieces = [
            b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b"1e999", b"NaN", b"\xff\xfe", b"\x00" * 64,
            b'"\\ud800"', b'"\\"', b"\n\n", b"]", b"}", b",", pickle.dumps(Trap(self.mark)),
            code.encode(), b"\x93NUMPY\x01\x00", b"PK\x05\x06",
        ]  # fmt: skip

    def damage(self, content: bytes, other: bytes) -> bytes:
        """A file made from two others."""
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            change = self.rng.choice(
                (self.cut, self.flip, self.remove, self.insert, self.splice, *(self.rewrite,) * 5)
            )
            content = change(content, other)
        return content

    def cut(self, content: bytes, _other: bytes) -> bytes:
        return content[: self.rng.randrange(len(content) + 1)]

    def flip(self, content: bytes, _other: bytes) -> bytes:
        found = bytearray(content)
        for _ in range(self.rng.choice((1, 2, 16)) if found else 0):
            found[self.rng.randrange(len(found))] = self.rng.randrange(256)
        return bytes(found)

    def remove(self, content: bytes, _other: bytes) -> bytes:
        at = self.rng.randrange(len(content) + 1)
        return content[:at] + content[at + self.rng.choice((1, 8, 200)) :]

    def insert(self, content: bytes, _other: bytes) -> bytes:
        at = self.rng.randrange(len(content) + 1)
        return content[:at] + self.rng.choice(self.pieces) + content[at:]

    def splice(self, content: bytes, other: bytes) -> bytes:
        at, start = self.rng.randrange(len(content) + 1), self.rng.randrange(len(other) + 1)
        return content[:at] + other[start : start + self.rng.choice((8, 200, 4000))] + content[at:]

    def rewrite(self, content: bytes, other: bytes) -> bytes:
        """Changes one line of JSON, which stays JSON."""
        lines = content.split(b"\n") if content.lstrip()[:1] == b"[" else [content]
        number = self.rng.randrange(len(lines))
        try:
            value = json.loads(lines[number])
        except (ValueError, RecursionError):
            return self.flip(content, other)
        return b"\n".join(
            [*lines[:number], json.dumps(self.change(value)).encode(), *lines[number + 1 :]]
        )

    def change(self, value: Any) -> Any:
        """A JSON value with one part of another type, swapped, missing or twice."""
        places = list(_places(value, self.rng))
        if not places or self.rng.random() < 0.02:
            return self.rng.choice(self.values)
        holder, key = self.rng.choice(places)
        kind = self.rng.randrange(5)
        if kind == 0:
            del holder[key]
        elif kind == 1:
            there, other = self.rng.choice(places)
            holder[key], there[other] = there[other], holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.append(holder[key])
        else:
            holder[key] = self.rng.choice(self.values)
        # what was swapped with a part of itself has no end
        try:
            json.dumps(value)
        except (ValueError, RecursionError):
            return self.rng.choice(self.values)
        return value


def _places(value: Any, rng: random.Random) -> Iterator[tuple[Any, Any]]:
    """Some of the parts of a JSON value, deep ones as likely as others."""
    if not isinstance(value, (dict, list)):
        return
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    for key in rng.sample(keys, min(len(keys), 6)):
        yield value, key
        yield from _places(value[key], rng)
