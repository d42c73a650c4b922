"""PyTorch's side: modules exported as they are called, and tensors shared by DLPack."""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from familyseer.api._library import Library
from familyseer.errors import UserError
from familyseer.models._onnx_file import first_line
from familyseer.models._torch_file import TRACING
from familyseer.safe_json import load_json, save_json

CALL_FILE = "torch.json"
_WHAT = "how a PyTorch model is called"
# what TVM's kernels may assume of the first element's address
_ALIGNMENT = 64

log = logging.getLogger(__name__)


def export_module(module: Any, example_inputs: Any) -> Any:
    """A module as a `torch.export.ExportedProgram` for inference, which leaves the module as it is.

    Parameters
    ----------
    module
        A `torch.nn.Module`; it is exported in evaluation mode, whatever mode it is in.
    example_inputs
        What it is called with: a tensor, a sequence of positional arguments, or a mapping of named
        ones. Their shapes are the ones that it is tuned for.

    Raises
    ------
    UserError
        There are no example inputs, or `torch.export` cannot export it.
    """
    torch = importlib.import_module("torch")
    name = type(module).__name__
    args, kwargs = _arguments(name, example_inputs, torch)
    with (
        TRACING,
        _in_evaluation(module),
        _without_fast_path(torch),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(module, args, kwargs)
        except Exception as error:  # tracing runs the user's code, which raises what it likes
            raise UserError(
                f"{name}: torch.export cannot export it: {first_line(error)}; expected a module "
                "that it can, and example_inputs that the module takes"
            ) from error


def _arguments(
    name: str, example_inputs: Any, torch: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, torch.Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, str):
        return tuple(example_inputs), {}
    found = "missing" if example_inputs is None else f"a {type(example_inputs).__name__}"
    raise UserError(
        f"{name}: example_inputs is {found}: expected a tensor, a tuple of the module's arguments "
        "or a dict of its named ones"
    )


@contextmanager
def _in_evaluation(module: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards for each part the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _without_fast_path(torch: Any) -> Iterator[None]:
    """Without PyTorch's fused operator for a whole layer of a transformer, which TVM has not."""
    mha = torch.backends.mha
    enabled = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(enabled)


class Call:
    """How a PyTorch model takes its arguments and gives its results: nested as the module does.

    Parameters
    ----------
    arguments, results
        PyTorch's own description of the nesting, as `torch.utils._pytree.treespec_dumps` has it.
    """

    def __init__(self, arguments: str, results: str) -> None:
        self._trees = importlib.import_module("torch.utils._pytree")
        self._texts = {"arguments": arguments, "results": results}
        self._arguments = self._trees.treespec_loads(arguments)
        self._results = self._trees.treespec_loads(results)
        positional, named = json.loads(arguments)[1]["children_spec"]
        self._positional = len(positional["children_spec"])
        self._named: list[str] = json.loads(named["context"])

    @classmethod
    def of(cls, program: Any) -> Call | None:
        """How an exported program is called; None if that cannot be written down."""
        trees = importlib.import_module("torch.utils._pytree")
        spec = program.call_spec
        try:
            return cls(trees.treespec_dumps(spec.in_spec), trees.treespec_dumps(spec.out_spec))
        except Exception as error:  # a class of the user's that PyTorch cannot name
            log.warning("results will not be nested as the module nests them: %s", error)
            return None

    def save(self, out: Path) -> None:
        """Writes it into a run's folder.

        Raises
        ------
        OSError
            It cannot be written.
        """
        save_json(out / CALL_FILE, self._texts)

    @classmethod
    def load(cls, out: Path) -> Call | None:
        """What `save` wrote; None where there is none, or PyTorch cannot make sense of it."""
        path = out / CALL_FILE
        if not path.exists():
            return None
        try:
            texts = load_json(path, what=_WHAT, limit=1 << 20)
            return cls(str(texts["arguments"]), str(texts["results"]))
        except Exception as error:  # whatever a damaged file or another PyTorch leads to
            log.warning("%s: is not used: %s", path, error)
            return None

    def tensors(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Any]:
        """The arguments in the order of the model's inputs.

        Raises
        ------
        UserError
            The arguments are nested otherwise than those that the model was exported with.
        """
        names = [name for name in self._named if name in kwargs]
        names += [name for name in kwargs if name not in names]
        leaves, nesting = self._trees.tree_flatten((args, {name: kwargs[name] for name in names}))
        if nesting != self._arguments:
            named = f" and {', '.join(self._named)}" if self._named else ""
            raise UserError(
                f"called with {len(args)} positional arguments"
                f"{' and ' + ', '.join(names) if names else ''}: expected {self._positional}"
                f"{named}, nested as in example_inputs"
            )
        return list(leaves)

    def results(self, tensors: list[Any]) -> Any:
        """The outputs, nested as the module nests them."""
        if self._results.num_leaves != len(tensors):
            return plain(tensors)
        return self._trees.tree_unflatten(tensors, self._results)


def plain(tensors: list[Any]) -> Any:
    """One output as it is, several as a tuple."""
    return tensors[0] if len(tensors) == 1 else tuple(tensors)


def run_torch(library: Library, inputs: Mapping[str, Any]) -> list[Any]:
    """Runs a library on PyTorch's tensors, in place where they are fit for it.

    A tensor is copied if it is not contiguous, does not begin at a multiple of 64 bytes (a slice of
    another), or is on another device than the library. The outputs are never copied, but where all
    inputs are on the CPU and the library is not.

    Raises
    ------
    UserError
        An input is no tensor, is missing, unknown, or of another shape or element type.
    """
    torch = importlib.import_module("torch")
    for name, value in inputs.items():
        if not isinstance(value, torch.Tensor):
            raise UserError(
                f"input {name!r} is a {type(value).__name__}: expected a torch.Tensor (run takes "
                "NumPy arrays)"
            )
    here = all(value.device.type == "cpu" for value in inputs.values())
    if not here:
        # what PyTorch has been asked to compute may not have been computed yet
        torch.cuda.synchronize()
    tensors = [_to_tvm(value, library, torch) for value in library.order(inputs)]
    outputs = library.run(tensors)
    if here:
        cpu = library.tvm.cpu()
        outputs = [one if one.device == cpu else one.copyto(cpu) for one in outputs]
    return [torch.from_dlpack(one) for one in outputs]


def _to_tvm(value: Any, library: Library, torch: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().contiguous()
    if value.data_ptr() % _ALIGNMENT:
        value = value.clone()
    tensor = library.tvm.runtime.from_dlpack(value)
    return tensor if tensor.device == library.device else tensor.copyto(library.device)
