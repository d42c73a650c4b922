"""``manifest.json`` of a kernel library: what is in the folder, and how each kernel is called."""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from familyseer.safe_json import load_json

FORMAT = "familyseer-kernels"
VERSION = 1
NAME = "manifest.json"
KINDS = ("cpu", "cuda")
ITEM_BYTES = {"bool": 1, "bfloat16": 2} | {
    f"{kind}{bits}": bits // 8
    for kind, sizes in (
        ("float", (16, 32, 64)),
        ("int", (8, 16, 32, 64)),
        ("uint", (8, 16, 32, 64)),
    )
    for bits in sizes
}
_WHAT = "the manifest of a kernel library (familyseer export OUT --kernels DIR)"
_SIZE_LIMIT = 64 << 20
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# a name is one of a file beside the manifest, of a C function, or of an argument
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}\Z")
_MOST_ELEMENTS = 2**40
# what CUDA allows of any GPU
_MOST_BLOCKS = (2**31 - 1, 65535, 65535)
_MOST_THREADS = (1024, 1024, 64)
# what cuMemAlloc gives
_MOST_ALIGNMENT = 256
# kinds of numbers that a launch can pass, and their letters for PyCUDA
SCALARS = {"int32": "i", "int64": "q"}
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Argument:
    """An array that a kernel takes, row-major and without gaps.

    Attributes
    ----------
    name
        As in the C header.
    dtype
        NumPy's name of the element type, or ``bfloat16``.
    shape
        Extents, outermost first.
    output
        Whether the kernel writes it; it then reads nothing from it.
    fewer
        Whether an array that is shorter along its first axis is taken too.
    alignment
        Bytes that its address must be a multiple of, beside the size of an element.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    output: bool
    fewer: bool = False
    alignment: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}{' or shorter' if self.fewer else ''}"


@dataclass(frozen=True)
class Scalar:
    """A number that a launch passes by value: ``int32`` or ``int64``."""

    dtype: str
    value: int


@dataclass(frozen=True)
class Launch:
    """One launch of a CUDA function.

    Attributes
    ----------
    function
        Its name in the cubin.
    grid, block
        Blocks, and threads a block, along x, y and z.
    shared_bytes
        Dynamic shared memory of a block.
    arguments
        What to pass: a pointer, which is an argument's name, an offset in bytes into the kernel's
        workspace, or None for a null pointer; or a number.
    """

    function: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int
    arguments: tuple[str | int | Scalar | None, ...]


@dataclass(frozen=True)
class CudaCode:
    """How a kernel of a CUDA library is run.

    Attributes
    ----------
    cubin, ptx
        Files beside the manifest; `ptx` is None where there is none.
    ptx_arch
        The virtual architecture of `ptx`, such as ``compute_90``; GPUs from it on run it.
    workspace_bytes
        Device memory, of any content, that the launches share.
    launches
        In their order, on one stream.
    """

    cubin: str
    ptx: str | None
    ptx_arch: str | None
    workspace_bytes: int
    launches: tuple[Launch, ...]


@dataclass(frozen=True)
class Entry:
    """A kernel as the manifest has it: `symbol` in a CPU library, `cuda` in a CUDA library."""

    name: str
    arguments: tuple[Argument, ...]
    symbol: str | None
    cuda: CudaCode | None


@dataclass(frozen=True)
class Manifest:
    """The manifest of a kernel library.

    Attributes
    ----------
    kind
        ``cpu`` or ``cuda``.
    arch
        The CPU by LLVM's name, or the GPU architecture such as ``sm_90a``.
    machine, system
        What a CPU library runs on, as `this_machine` has it.
    library
        File of the shared object of a CPU library.
    files
        Name -> size in bytes and SHA-256 of every other file.
    """

    folder: Path
    kind: str
    arch: str
    machine: str
    system: str
    library: str | None
    files: Mapping[str, tuple[int, str]]
    entries: Mapping[str, Entry]


def this_machine() -> tuple[str, str]:
    """Processor family and operating system, such as ``("x86_64", "Linux")``."""
    return machine_name(platform.machine()), platform.system()


def machine_name(name: str) -> str:
    """One name for a processor family that has several."""
    return _MACHINES.get(name.lower(), name.lower())


def digest_of(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file.

    Raises
    ------
    OSError
        It cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Reads and checks a manifest; the other files are checked by `check_files`.

    Raises
    ------
    ValueError
        There is none, or it is not one of a kernel library of this version; one line.
    """
    path = folder / NAME
    content = load_json(path, what=_WHAT, limit=_SIZE_LIMIT, error=ValueError)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path}: not {_WHAT}")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(f"{path}: is of version {str(version)[:20]}, expected {VERSION}")
    try:
        return _manifest(folder, content)
    except _MalformedError as error:
        raise ValueError(f"{path}: {error}, expected {_WHAT}") from None


def check_files(manifest: Manifest) -> None:
    """Makes sure that the files are those that were exported.

    Raises
    ------
    ValueError
        One is missing, cut short or changed; one line that names it.
    """
    for name, (size, digest) in manifest.files.items():
        path = manifest.folder / name
        try:
            found_size, found_digest = digest_of(path)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(
                f"{path}: cannot be read ({reason}); export the kernels anew"
            ) from None
        if found_size != size:
            raise ValueError(
                f"{path}: has {found_size} bytes, {size} were exported; export the kernels anew"
            )
        if found_digest != digest:
            raise ValueError(f"{path}: is not what was exported; export the kernels anew")


class _MalformedError(Exception):
    pass


def _manifest(folder: Path, content: dict[str, Any]) -> Manifest:
    kind = _text(content, "kind")
    if kind not in KINDS:
        raise _MalformedError(f"its kind is {kind!r}")
    files = {}
    for name, described in _field(content, "files", dict).items():
        if not isinstance(described, dict):
            raise _MalformedError("a file is not described")
        size, digest = described.get("size"), described.get("sha256")
        if type(size) is not int or not isinstance(digest, str):
            raise _MalformedError("a file is not described")
        files[_plain(name)] = (size, digest)
    entries: dict[str, Entry] = {}
    for item in _each(content, "kernels", lambda one: _entry(one, kind, files)):
        if item.name in entries:
            raise _MalformedError(f"kernel {item.name!r} comes twice")
        entries[item.name] = item
    library = _text(content, "library") if kind == "cpu" else None
    if library is not None and library not in files:
        raise _MalformedError(f"{library[:40]!r} is not among its files")
    return Manifest(
        folder=folder,
        kind=kind,
        arch=_text(content, "arch"),
        machine=_text(content, "machine"),
        system=_text(content, "system"),
        library=library,
        files=files,
        entries=entries,
    )


def _entry(item: Any, kind: str, files: Mapping[str, Any]) -> Entry:
    arguments = tuple(_each(item, "arguments", _argument))
    names = [argument.name for argument in arguments]
    if len(set(names)) != len(names):
        raise _MalformedError("two arguments of a kernel have one name")
    return Entry(
        name=_text(item, "name"),
        arguments=arguments,
        symbol=_plain(_text(item, "symbol")) if kind == "cpu" else None,
        cuda=_cuda(item, names, files) if kind == "cuda" else None,
    )


def _argument(item: Any) -> Argument:
    dtype, role = _text(item, "dtype"), _text(item, "role")
    if dtype not in ITEM_BYTES:
        raise _MalformedError(f"an argument's element type is {dtype[:40]!r}")
    if role not in ("input", "output"):
        raise _MalformedError(f"an argument's role is {role[:40]!r}")
    shape = tuple(_each(item, "shape", lambda extent: _number(extent, 0, _MOST_ELEMENTS)))
    if math.prod(shape) > _MOST_ELEMENTS:
        raise _MalformedError("an argument is larger than any memory")
    fewer = item.get("fewer", False)
    if type(fewer) is not bool or (fewer and not shape):
        raise _MalformedError("an argument's length is not described")
    return Argument(
        _plain(_text(item, "name")),
        dtype,
        shape,
        role == "output",
        fewer,
        _number(item.get("alignment", 1), 1, _MOST_ALIGNMENT),
    )


def _cuda(item: Any, names: list[str], files: Mapping[str, Any]) -> CudaCode:
    cubin = _text(item, "cubin")
    ptx = None if item.get("ptx") is None else _text(item, "ptx")
    if cubin not in files or (ptx is not None and ptx not in files):
        raise _MalformedError("a kernel's binary is not among the files")
    workspace = _number(item.get("workspace_bytes"), 0, _MOST_ELEMENTS)
    launches = tuple(_each(item, "launches", lambda one: _launch(one, names, workspace)))
    if not launches:
        raise _MalformedError("a kernel is never launched")
    ptx_arch = None if ptx is None else _text(item, "ptx_arch")
    if ptx_arch is not None and not re.fullmatch(r"compute_\d{2,3}", ptx_arch):
        raise _MalformedError(f"the architecture of {ptx} is {ptx_arch[:40]!r}")
    return CudaCode(cubin, ptx, ptx_arch, workspace, launches)


def _launch(item: Any, names: list[str], workspace: int) -> Launch:
    def passed(value: Any) -> str | int | Scalar | None:
        if value is None or (isinstance(value, str) and value in names):
            return value
        if isinstance(value, dict) and len(value) == 1:
            ((kind, number),) = value.items()
            if kind == "workspace":
                return _number(number, 0, workspace - 1)
            if kind in SCALARS:
                limit = 2 ** (8 * ITEM_BYTES[kind] - 1)
                return Scalar(kind, _number(number, -limit, limit - 1))
        raise _MalformedError("a launch has an unknown argument")

    block = _extents(item, "block", _MOST_THREADS)
    if math.prod(block) > _MOST_THREADS[0]:
        raise _MalformedError(f"a block of {math.prod(block)} threads is larger than any GPU's")
    return Launch(
        function=_plain(_text(item, "function")),
        grid=_extents(item, "grid", _MOST_BLOCKS),
        block=block,
        shared_bytes=_number(item.get("shared_bytes"), 0, 1 << 20),
        arguments=tuple(_each(item, "arguments", passed)),
    )


def _extents(item: Any, name: str, most: tuple[int, int, int]) -> tuple[int, int, int]:
    values = _field(item, name, list)
    if len(values) != 3:
        raise _MalformedError(f"a launch's {name} has no three extents")
    x, y, z = (_number(value, 1, limit) for value, limit in zip(values, most, strict=True))
    return x, y, z


def _each(item: Any, name: str, read: Callable[[Any], _Item]) -> list[_Item]:
    return [read(one) for one in _field(item, name, list)]


def _field(item: Any, name: str, kind: type) -> Any:
    if not isinstance(item, dict) or not isinstance(item.get(name), kind):
        raise _MalformedError(f"{name} is missing or malformed")
    return item[name]


def _text(item: Any, name: str) -> str:
    return str(_field(item, name, str))


def _plain(name: str) -> str:
    if not _PLAIN_NAME.match(name):
        raise _MalformedError(f"{name[:40]!r} is no name")
    return name


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise _MalformedError(f"{str(value)[:40]} is not a number from {least} to {most}")
    return value
