"""What the commands of ``familyseer spamm`` share: their options, and matrices to work on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from familyseer.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DTYPES = ("float16", "bfloat16", "float32", "float64")
BACKENDS = ("auto", "cpu", "numpy")
DECAYS = ("exponential", "algebraic", "im2col")
# that of the largest case of the cuSpAMM paper; the dense product alone takes minutes there
_LARGEST = 32_768
# a matrix, its copy in another type, the other matrix and a product fit a machine at this share
_MEMORY_SHARE = 8

_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_PATH = click.Path(path_type=Path)


def _all(*decorators: _Decorator) -> _Decorator:
    """Several decorators as one, the first outermost."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


matrix_arguments: _Decorator = _all(
    click.argument("a", metavar="[A]", required=False, type=_PATH),
    click.argument("b", metavar="[B]", required=False, type=_PATH),
)
decay_options: _Decorator = _all(
    click.option(
        "--decay",
        type=click.Choice(DECAYS),
        help="Without A: make matrices that decay, or a convolution's.  [default: exponential]",
    ),
    click.option(
        "--size",
        type=click.IntRange(1, _LARGEST),
        metavar="N",
        help="Rows and columns of the matrices made.  [default: 2048]",
    ),
    click.option(
        "--rate",
        type=float,
        metavar="X",
        help="How fast they decay: the base, or the exponent if algebraic.  [default: 0.98, or 2]",
    ),
)
dtype_option: _Decorator = click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Convert the matrices to this type.  [default: as they are]",
)
block_option: _Decorator = click.option(
    "--block",
    metavar="N|BM,BK,BN",
    callback=lambda _ctx, _parameter, text: None if text is None else parse_block(text),
    help="Rows and columns of a block.  [default: the backend's]",
)
backend_option: _Decorator = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=BACKENDS[0],
    show_default=True,
    help="auto is cpu, the kernels that TVM compiles.",
)


def parse_block(text: str) -> tuple[int, int, int]:
    """Block sizes from one number or three.

    Raises
    ------
    UserError
        It is neither.
    """
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if len(sizes) == 1:
        sizes *= 3
    if len(sizes) != 3 or min(sizes) < 1:
        raise UserError(f"--block {text}: expected a number such as 64, or three: 64,64,128")
    return sizes[0], sizes[1], sizes[2]


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Takes what spamm says of its arguments for the user's errors, which they are here."""
    try:
        yield
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(str(error)) from error


def operands(
    a: Path | None,
    b: Path | None,
    decay: str | None,
    size: int | None,
    rate: float | None,
    dtype: str | None,
    seed: int,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The matrices that a command line names (`matrix_arguments`) or describes (`decay_options`).

    Raises
    ------
    UserError
        It does both, or as `read_operands`.
    """
    if a is None:
        return _made(decay or DECAYS[0], size, rate, dtype or "float32", seed)
    if (decay, size, rate) != (None, None, None):
        raise UserError(f"{a}: expected no --decay, --size or --rate with files")
    return read_operands(a, b, dtype)


def _made(
    decay: str, size: int | None, rate: float | None, dtype: str, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    from spamm.generators import algebraic_decay, exponential_decay, im2col_case

    if decay == "im2col":
        if size is not None or rate is not None:
            raise UserError("--decay im2col: expected no --size and no --rate, both are set")
        return im2col_case(dtype=dtype, seed=seed)
    n = 2048 if size is None else size
    with user_errors():
        if decay == "algebraic":
            exponent = 2.0 if rate is None else rate
            a, b = (
                algebraic_decay(n, exponent=exponent, dtype=dtype, seed=seed + i) for i in (0, 1)
            )
        else:
            base = 0.98 if rate is None else rate
            a, b = (exponential_decay(n, base=base, dtype=dtype, seed=seed + i) for i in (0, 1))
    return a, b


def read_operands(
    first: Path, second: Path | None, dtype: str | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two matrices of one type that can be multiplied; the first by itself if it is alone.

    Raises
    ------
    UserError
        A file is no matrix, or their shapes do not fit. Matrices of unlike types become the wider.
    """
    from familyseer.machine import memory_bytes
    from spamm.matrices import read_matrix

    with user_errors():
        most = memory_bytes() // _MEMORY_SHARE
        a = read_matrix(first, most_bytes=most)
        b = a if second is None else read_matrix(second, most_bytes=most)
    if a.shape[1] != b.shape[0]:
        pair = f"{first} times {second or 'itself'}"
        raise UserError(
            f"{pair}: {describe(a)} and {describe(b)}; expected as many rows as the first's columns"
        )
    kind = common_type(a.dtype, b.dtype) if dtype is None else named_type(dtype)
    converted = a.astype(kind, copy=False)
    return converted, converted if b is a else b.astype(kind, copy=False)


def common_type(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """The narrowest type that holds both; float32 for float16 and bfloat16."""
    import numpy as np

    if first == second:
        return first
    wide = max(first.itemsize, second.itemsize, 4)
    return np.dtype(np.float64 if wide == 8 else np.float32)


def named_type(name: str) -> np.dtype[Any]:
    """A NumPy type, or ml_dtypes' bfloat16."""
    import numpy as np

    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def resolve_backend(
    backend: str, block: tuple[int, int, int] | None, shape: tuple[int, int, int], dtype: Any
) -> tuple[str, tuple[int, int, int]]:
    """The backend's real name, and the block sizes that are its own where none are given.

    Raises
    ------
    UserError
        The backend lacks something on this machine, or cannot do these blocks or this type.
    """
    from spamm import _backends

    with user_errors():
        chosen = _backends.resolve(backend, block, dtype, shape)
    name = next(each for each in _backends.names() if _backends.load(each) is chosen.module)
    return name, chosen.block


def describe(array: Any) -> str:
    """A matrix's shape and type."""
    return f"{array.shape[0]} x {array.shape[1]} {array.dtype}"


def describe_block(block: tuple[int, int, int]) -> str:
    """Block sizes as the option takes them."""
    return str(block[0]) if len(set(block)) == 1 else ",".join(map(str, block))
