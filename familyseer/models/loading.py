"""From the MODEL argument of the command line, or a model in memory, to a Relax module."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from familyseer.errors import UserError
from familyseer.models import zoo
from familyseer.models.specs import InputSpec, LoadedModel

if TYPE_CHECKING:
    import onnx

    from familyseer.options import CompareOptions, TuneOptions

_SUFFIXES = (".onnx", ".pt2")


def load_model(
    spec: str,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    seed: int = 0,
    precision: str = "float32",
) -> LoadedModel:
    """Load an ``.onnx`` file, a ``.pt2`` file, or a network of the zoo by name.

    A zoo name wins over a file of the same name without a suffix. The weights of a huge network of
    the zoo are not allocated: its module takes them as inputs, for which `example_inputs` draws
    values.

    Args:
        spec: path or name.
        input_shapes: input name to extents, for inputs with dynamic dims.
        seed: weights of a zoo network; files bring their own.
        precision: ``float16`` or ``bfloat16`` converts a float32 model, as TVM's mixed precision
            does.

    Raises:
        UserError: nothing of that name, a file that is not a whole model, an operator that TVM
            cannot import, or shapes that do not fit; PyTorch is missing for a ``.pt2`` file;
            nothing to convert to the precision.
    """
    from familyseer.models._precision import in_precision

    return in_precision(_load(spec, input_shapes, seed), precision)


def load_asked(options: TuneOptions | CompareOptions) -> LoadedModel:
    """The model that a run's options name, as `load_model`."""
    return load_model(
        options.model,
        input_shapes=options.input_shapes or None,
        seed=options.seed,
        precision=options.precision,
    )


def load_given(
    model: Any,
    name: str,
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    precision: str = "float32",
) -> LoadedModel:
    """Load a model that is in memory: it is left as it is.

    Args:
        model: an ``onnx.ModelProto``, a ``torch.export.ExportedProgram``, or a ``tvm.IRModule``
            whose only Relax function is ``main``.
        name: what messages and records call it.
        input_shapes: input name to extents, for inputs with dynamic dims.
        precision: as for `load_model`.

    Raises:
        UserError: it is none of these, or as `load_model`.
    """
    from familyseer.models._precision import in_precision

    if is_a(model, "onnx", "ModelProto"):
        loaded = _load_proto(model, name, input_shapes)
    elif is_a(model, "torch.export", "ExportedProgram"):
        from familyseer.models._torch_file import import_program

        loaded = _load_relax(import_program(model, name, input_shapes), name)
    elif is_a(model, "tvm", "IRModule"):
        from familyseer.models._relax import bind_extents, check_main

        check_main(model, name)
        loaded = _load_relax(bind_extents(model, name, input_shapes), name)
    else:
        raise UserError(
            f"model of type {type(model).__name__}: expected a path, a name from the zoo, an ONNX "
            "model, a program of torch.export, or a Relax module"
        )
    return in_precision(loaded, precision)


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether a value is of a class of a package, which is not imported to find out.

    Who has such a value has imported it.
    """
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _load(spec: str, input_shapes: Mapping[str, tuple[int, ...]] | None, seed: int) -> LoadedModel:
    path = Path(spec)
    if path.suffix == ".onnx":
        from familyseer.models._onnx_file import read_onnx

        model, digest = read_onnx(path)
        return _load_onnx(model, digest, spec, path.stem, input_shapes)
    if path.suffix == ".pt2":
        return _load_torch(path, spec, input_shapes)
    if zoo.has(spec):
        if zoo.is_huge(spec):
            return _load_huge(spec, input_shapes, seed)
        model = zoo.build(spec, seed)
        digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
        return _load_onnx(model, digest, spec, zoo.describe(spec).name, input_shapes)
    raise UserError(_unknown(spec, path))


def _unknown(spec: str, path: Path) -> str:
    expected = f"expected a file ending in {' or '.join(_SUFFIXES)}, or a name from the zoo"
    if path.is_dir():
        return f"{spec}: is a folder; {expected}"
    if path.exists():
        return f"{spec}: unknown kind of model file; {expected}"
    close = zoo.close_matches(spec)
    hint = f"did you mean {', '.join(close)}?" if close else f"which has {', '.join(zoo.names())}"
    return f"{spec}: no such model; {expected}" + (f"; {hint}" if close else f", {hint}")


def _load_onnx(
    model: onnx.ModelProto,
    content: str,
    spec: str,
    name: str,
    input_shapes: Mapping[str, tuple[int, ...]] | None,
) -> LoadedModel:
    mod, inputs = _import_onnx(model, spec, input_shapes)
    return _finish(mod, inputs, content, spec, name, model)


def _load_huge(
    spec: str, input_shapes: Mapping[str, tuple[int, ...]] | None, seed: int
) -> LoadedModel:
    from familyseer.models._relax import prepare_for_inference
    from familyseer.models._weight_inputs import lift_weights

    model, weights = zoo.outline(spec)
    outline = model.SerializeToString(deterministic=True)
    mod, inputs = _import_onnx(model, spec, input_shapes)
    own = inputs[: len(inputs) - len(weights)]
    mod, weights = lift_weights(prepare_for_inference(mod), own, weights)
    content = hashlib.sha256(outline + f" {seed}".encode()).hexdigest()
    return _finish(mod, [*own, *weights], content, spec, zoo.describe(spec).name, None)


def _import_onnx(
    model: onnx.ModelProto, spec: str, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> tuple[Any, list[InputSpec]]:
    from familyseer.models._from_onnx import import_onnx
    from familyseer.models._onnx_graph import bind_inputs, declared_inputs
    from familyseer.models.input_shapes import bind_shapes

    declared = declared_inputs(model, spec)
    dims = {key: shape for key, (shape, _) in declared.items()}
    shapes = bind_shapes(spec, dims, input_shapes)
    bind_inputs(model, shapes)
    inputs = [InputSpec(key, shapes[key], dtype) for key, (_, dtype) in declared.items()]
    return import_onnx(model, spec), inputs


def _load_torch(
    path: Path, spec: str, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> LoadedModel:
    from familyseer.models._torch_file import import_torch

    mod, data = import_torch(path, input_shapes)
    return _finish(mod, _inputs(mod), hashlib.sha256(data).hexdigest(), spec, path.stem, None)


def _load_proto(
    given: onnx.ModelProto, name: str, input_shapes: Mapping[str, tuple[int, ...]] | None
) -> LoadedModel:
    from onnx import ModelProto

    from familyseer.models._onnx_file import check_weights_inside, digest_of

    check_weights_inside(given, name)
    # what follows binds shapes in place
    model = ModelProto()
    model.CopyFrom(given)
    return _load_onnx(model, digest_of(given), name, name, input_shapes)


def _load_relax(mod: Any, name: str) -> LoadedModel:
    """A module whose weights are constants in it, and a part of its digest."""
    from familyseer.models._relax import content_digest

    return _finish(mod, _inputs(mod), content_digest(mod), name, name, None)


def _inputs(mod: Any) -> list[InputSpec]:
    return [
        InputSpec(param.name, tuple(int(extent) for extent in param.ty.shape), str(param.ty.dtype))
        for param in mod["main"].params
    ]


def _finish(
    mod: Any,
    inputs: Sequence[InputSpec],
    content: str,
    spec: str,
    name: str,
    model: onnx.ModelProto | None,
) -> LoadedModel:
    from familyseer.models._relax import index_bounds, prepare_for_inference

    mod = prepare_for_inference(mod)
    bounded = tuple(
        replace(one, index_bound=bound if "int" in one.dtype else None)
        for one, bound in zip(inputs, index_bounds(mod), strict=True)
    )
    return LoadedModel(name, spec, _digest(content, inputs), mod, bounded, model)


def _digest(content: str, inputs: Sequence[InputSpec]) -> str:
    shapes = json.dumps([[one.name, one.shape, one.dtype] for one in inputs])
    return hashlib.sha256(f"{content} {shapes}".encode()).hexdigest()
