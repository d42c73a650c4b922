"""PyTorch's modules in, callables for PyTorch's tensors out."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import familyseer
from familyseer.errors import UserError
from familyseer.tvm_env import load_tvm


def evaluated(network: Any, **arguments: Any) -> Any:
    network.eval()
    try:
        return network(**arguments)
    finally:
        network.train()


def assert_same(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-4)


def test_the_result_is_called_as_the_module_is(
    result: familyseer.Result, network: Any, arguments: dict[str, Any]
) -> None:
    got, want = result(**arguments), evaluated(network, **arguments)
    assert list(got) == ["scores", "pooled"]
    assert isinstance(got["pooled"], tuple)
    assert_same(got["scores"], want["scores"])
    assert_same(got["pooled"][0], want["pooled"][0])
    swapped = result(x=arguments["x"], scale=arguments["scale"])
    assert_same(swapped["scores"], want["scores"])


def test_the_module_stays_in_its_mode(result: familyseer.Result, network: Any) -> None:
    assert result.summary["model"] == "Small"
    assert all(part.training for part in network.modules())


def test_parts_of_a_module_keep_their_own_modes(torch: Any) -> None:
    from familyseer.api._torch import export_module

    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)).train()
    module[1].eval()
    export_module(module, torch.ones(2, 4))
    assert [part.training for part in module.modules()] == [True, True, False]


def test_tensors_go_in_and_out_without_a_copy(
    torch: Any, result: familyseer.Result, arguments: dict[str, Any]
) -> None:
    from familyseer.api._torch import _to_tvm, run_torch

    library = result._library
    x = arguments["x"]
    assert _to_tvm(x, library, torch).data_ptr() == x.data_ptr()
    made: list[Any] = []
    run = library.run

    def note(tensors: Any) -> list[Any]:
        made.extend(run(tensors))
        return made

    library.run = note  # type: ignore[method-assign]
    try:
        outputs = run_torch(library, arguments)
    finally:
        del library.run  # type: ignore[method-assign]
    assert [one.data_ptr() for one in outputs] == [one.data_ptr() for one in made]
    # what one call gave is not what the next one writes into
    kept = [one.clone() for one in outputs]
    result(x=x + 1, scale=arguments["scale"])
    assert all(torch.equal(one, copy) for one, copy in zip(outputs, kept, strict=True))


@pytest.mark.parametrize("kind", ["strided", "misaligned", "with gradients"])
def test_tensors_that_cannot_be_shared_are_copied(
    kind: str, torch: Any, result: familyseer.Result, network: Any, arguments: dict[str, Any]
) -> None:
    x = {
        "strided": lambda: torch.randn(2, 8, 8, 3).permute(0, 3, 1, 2),
        "misaligned": lambda: torch.randn(2 * 3 * 8 * 8 + 1)[1:].view(2, 3, 8, 8),
        "with gradients": lambda: torch.randn(2, 3, 8, 8, requires_grad=True),
    }[kind]()
    got = result(x=x, scale=arguments["scale"])["scores"]
    assert_same(got, evaluated(network, x=x, scale=arguments["scale"])["scores"])


def test_threads_may_call_one_result(
    result: familyseer.Result, network: Any, arguments: dict[str, Any]
) -> None:
    inputs = [arguments["x"] * factor for factor in range(4)]
    wrong: list[int] = []

    def call(index: int) -> None:
        want = evaluated_once[index]
        for _ in range(20):
            got = result(x=inputs[index], scale=arguments["scale"])["scores"].numpy()
            if not np.allclose(got, want, rtol=1e-4, atol=1e-4):
                wrong.append(index)

    evaluated_once = [
        evaluated(network, x=x, scale=arguments["scale"])["scores"].detach().numpy() for x in inputs
    ]
    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_saved_result_is_called_alike(
    result: familyseer.Result, arguments: dict[str, Any], tmp_path: Path
) -> None:
    again = familyseer.load(result.save(tmp_path / "kept"))
    got, want = again(**arguments), result(**arguments)
    assert list(got) == list(want)
    assert_same(got["pooled"][0], want["pooled"][0])


def test_without_what_torch_knows_of_the_call_outputs_are_a_tuple(
    result: familyseer.Result, arguments: dict[str, Any], tmp_path: Path
) -> None:
    folder = result.save(tmp_path / "kept")
    (folder / "torch.json").write_text('{"arguments": "[1, {}]", "results": 3}')
    got = familyseer.load(folder)(arguments["scale"], x=arguments["x"])
    assert isinstance(got, tuple)
    assert_same(got[0], result(**arguments)["scores"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "input 'x' is a NoneType: expected a torch.Tensor"),
        ({"x": np.zeros((2, 3, 8, 8), "float32")}, "input 'x' is a ndarray: expected a torch"),
        ({"extra": 1}, "positional arguments and scale, x, extra: expected 0 and scale, x, nested"),
    ],
)
def test_a_call_with_other_arguments_is_refused(
    change: dict[str, Any], message: str, result: familyseer.Result, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=message):
        result(**{**arguments, **change})


def test_a_tensor_of_another_shape_is_refused(
    torch: Any, result: familyseer.Result, arguments: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"input 'x' is float32\[1, 3, 8, 8\]: expected float32\["):
        result(x=torch.zeros(1, 3, 8, 8), scale=arguments["scale"])
    with pytest.raises(UserError, match=r"input 'x' is float64\[2, 3, 8, 8\]: expected float32\["):
        result(x=arguments["x"].double(), scale=arguments["scale"])


def test_a_module_without_example_inputs_is_refused(network: Any) -> None:
    with pytest.raises(UserError, match=r"Small: example_inputs is missing: expected a tensor"):
        familyseer.tune(network, trials=1)


def test_a_module_that_torch_cannot_export_is_refused(torch: Any) -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(UserError, match=r"^Branching: torch\.export cannot export it: [^\n]*$"):
        familyseer.tune(Branching(), torch.ones(2), trials=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [((True,), "argument 2 is True; expected tensors"), ((None,), "result 2 is None; expected")],
)
def test_what_is_no_tensor_is_refused(torch: Any, given: Any, message: str) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: Any, flag: Any = None) -> Any:
            return (x * 2, None) if flag is None else (x, x)

    sample = (torch.ones(2),) if given == (None,) else (torch.ones(2), *given)
    with pytest.raises(UserError, match=message):
        familyseer.tune(Odd(), sample, trials=1)


class TestTransformer:
    """A transformer as Hugging Face builds them, from a config, with random weights."""

    @pytest.fixture(scope="class")
    def encoder(self, torch: Any) -> Any:
        nn = torch.nn
        config = {"vocabulary": 60, "hidden": 16, "heads": 2, "layers": 1, "positions": 8}

        class Encoder(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                hidden = config["hidden"]
                self.words = nn.Embedding(config["vocabulary"], hidden)
                self.places = nn.Embedding(config["positions"], hidden)
                layer = nn.TransformerEncoderLayer(
                    hidden, config["heads"], 4 * hidden, activation="gelu", batch_first=True
                )
                self.layers = nn.TransformerEncoder(layer, config["layers"])
                self.pooler = nn.Linear(hidden, hidden)

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                places = torch.arange(input_ids.shape[1])
                x = self.words(input_ids) + self.places(places)
                x = self.layers(x, src_key_padding_mask=attention_mask == 0)
                return {
                    "last_hidden_state": x,
                    "pooler_output": torch.tanh(self.pooler(x[:, 0])),
                    "first": input_ids[:, 0],
                }

        torch.manual_seed(1)
        return Encoder().train()

    def test_it_computes_what_torch_computes(self, torch: Any, encoder: Any) -> None:
        from familyseer.api._torch import Call, export_module
        from familyseer.models import example_inputs, load_given

        ids = torch.randint(0, 60, (2, 8))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        program = export_module(encoder, inputs)
        model = load_given(program, "encoder")
        assert [(one.dtype, one.index_bound) for one in model.inputs] == [
            ("int64", 60),
            ("int64", None),
        ]
        assert set(np.unique(example_inputs(model.inputs)["attention_mask"])) == {1}
        call = Call.of(program)
        assert call is not None
        tvm = load_tvm(intrinsics=True)
        vm = tvm.relax.VirtualMachine(tvm.compile(model.mod, "llvm"), tvm.cpu())
        inputs["attention_mask"] = (torch.arange(8) < 6).long().expand(2, 8).contiguous()
        tensors = [tvm.runtime.from_dlpack(one) for one in call.tensors((), inputs)]
        got = call.results([torch.from_dlpack(one) for one in vm["main"](*tensors)])
        want = evaluated(encoder, **inputs)
        assert list(got) == list(want)
        # PyTorch drops what is padding or leaves it undefined, by the path it takes
        assert_same(got["last_hidden_state"][:, :6], want["last_hidden_state"][:, :6])
        assert_same(got["pooler_output"], want["pooler_output"])
        assert torch.equal(got["first"], ids[:, 0])
        assert encoder.training

    def test_the_fast_path_is_as_it_was(self, torch: Any, encoder: Any) -> None:
        from familyseer.api._torch import export_module

        ids = torch.zeros((1, 4), dtype=torch.int64)
        before = torch.backends.mha.get_fastpath_enabled()
        export_module(encoder, (ids, ids + 1))
        assert torch.backends.mha.get_fastpath_enabled() == before
