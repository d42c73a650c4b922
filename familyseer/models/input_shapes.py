"""Input shapes given on the command line, and binding them to a model's dynamic inputs.

A dimension of a declared input is an ``int`` (fixed), a ``str`` (a symbol, the same extent wherever
the name appears) or None (unknown).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from familyseer.errors import UserError

Dim = int | str | None
# None stands for an input whose very rank is unknown
DeclaredShape = Sequence[Dim] | None


def parse_input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``name=1,3,224,224`` to ``("name", (1, 3, 224, 224))``; ``name=`` is a scalar's shape.

    The name is everything before the last ``=``.

    Raises:
        UserError: there is no name, or an extent is not a positive whole number.
    """
    name, equals, extents = text.rpartition("=")
    name = name.strip()
    if not equals or not name:
        raise UserError(
            f"--input-shape {text}: expected NAME=EXTENT,EXTENT,... as in x=1,3,224,224"
        )
    shape: list[int] = []
    for extent in extents.split(",") if extents.strip() else []:
        word = extent.strip()
        if not (word.isascii() and word.isdigit()) or int(word) == 0:
            raise UserError(
                f"--input-shape {text}: {word or 'nothing'} is not an extent; "
                "expected whole numbers above 0, separated by commas"
            )
        shape.append(int(word))
    return name, tuple(shape)


def bind_shapes(
    source: str,
    declared: Mapping[str, DeclaredShape],
    given: Mapping[str, tuple[int, ...]] | None,
) -> dict[str, tuple[int, ...]]:
    """A static shape for every declared input.

    A symbol bound through one input is bound in all of them, so giving ``input_ids=1,128`` is
    enough for a model whose ``attention_mask`` has the same symbolic dims.

    Args:
        source: the model, for messages.
        declared: name to dims, in the model's order.
        given: name to the shape that the user wants.

    Raises:
        UserError: a given name is not an input; a given shape has the wrong rank, contradicts a
            fixed dim or gives one symbol two extents; an input stays unbound.
    """
    given = given or {}
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UserError(f"{source}: no input named {name}; its inputs are: {known}")
    symbols: dict[str, int] = {}
    for name, shape in given.items():
        _check(source, name, declared[name], shape, symbols)
    bound: dict[str, tuple[int, ...]] = {}
    for name, dims in declared.items():
        bound[name] = given[name] if name in given else _resolve(source, name, dims, symbols)
    return bound


def _check(
    source: str, name: str, dims: DeclaredShape, shape: tuple[int, ...], symbols: dict[str, int]
) -> None:
    wanted = ",".join(map(str, shape))
    if any(extent < 1 for extent in shape):
        raise UserError(f"{source}: input {name}={wanted}: expected extents above 0")
    if dims is None:
        return
    if len(dims) != len(shape):
        raise UserError(
            f"{source}: input {name}={wanted} has {len(shape)} dims; "
            f"expected {len(dims)}: {format_dims(dims)}"
        )
    for dim, extent in zip(dims, shape, strict=True):
        # setdefault binds a symbol at its first use, and answers with it at every later one
        expected = symbols.setdefault(dim, extent) if isinstance(dim, str) else dim
        if expected is not None and expected != extent:
            why = f" ({dim} is {expected} elsewhere)" if isinstance(dim, str) else ""
            raise UserError(
                f"{source}: input {name}={wanted} contradicts the model; "
                f"expected {format_dims(dims)}{why}"
            )


def _resolve(
    source: str, name: str, dims: DeclaredShape, symbols: Mapping[str, int]
) -> tuple[int, ...]:
    shape: list[int] = []
    for dim in dims if dims is not None else (None,):
        extent = symbols.get(dim) if isinstance(dim, str) else dim
        if extent is None:
            raise UserError(
                f"{source}: input {name} has dynamic dims {format_dims(dims)}; "
                f"give its shape with --input-shape {name}={_example(dims)}"
            )
        shape.append(extent)
    return tuple(shape)


def format_dims(dims: DeclaredShape) -> str:
    """Dims as a reader knows them: ``(batch, 3, ?, ?)``."""
    if dims is None:
        return "of unknown rank"
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in dims) + ")"


def _example(dims: DeclaredShape) -> str:
    if dims is None:
        return "EXTENT,..."
    return ",".join(str(dim) if isinstance(dim, int) else (dim or "?").upper() for dim in dims)
