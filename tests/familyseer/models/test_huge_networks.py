"""Networks whose weights are inputs of their module: small ones stand in for the huge ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from familyseer.errors import UserError
from familyseer.models import InputSpec, LoadedModel, ModelCard, example_inputs, load_model, zoo
from familyseer.models.zoo import _registry
from familyseer.models.zoo.bert import BertConfig, bert
from familyseer.models.zoo.gpt2 import Gpt2Config, gpt2
from familyseer.models.zoo.vit import VitConfig, vit
from familyseer.subgraphs import extract_subgraphs, fuse
from familyseer.target import resolve_target

_IDS = InputSpec("input_ids", (1, 8), "int64", index_bound=100)
_MASK = InputSpec("attention_mask", (1, 8), "int64")
_IMAGE = InputSpec("image", (1, 3, 28, 28), "float32")
_GPT2 = Gpt2Config(layers=2, hidden=32, heads=2, sequence=8, vocabulary=100, positions=16)
_ROBERTA = BertConfig(2, 32, 2, 64, 8, 100, positions=12, token_types=1, first_position=2)
_VIT = VitConfig(layers=2, hidden=32, heads=2, intermediate=64, image=28, patch=14)

_SMALL: dict[str, tuple[tuple[InputSpec, ...], Any]] = {
    "gpt2": ((_IDS,), lambda g, ids: gpt2(g, ids, _GPT2)),
    "roberta": ((_IDS, _MASK), lambda g, ids, mask: bert(g, ids, mask, None, _ROBERTA)),
    "vit": ((_IMAGE,), lambda g, image: vit(g, image, _VIT)),
}


@pytest.fixture(autouse=True)
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each small network as itself and, with the size of a huge one in its card, as "huge NAME"."""
    for name, (inputs, draw) in _SMALL.items():
        for known, parameters in ((f"small {name}", 0), (f"huge {name}", 1 << 30)):
            card = ModelCard(known, "", parameters, inputs)
            monkeypatch.setitem(_registry.NETWORKS, known, _registry.Network(card, draw))


def run(model: LoadedModel, feed: dict[str, Any]) -> np.ndarray[Any, Any]:
    from familyseer.tvm_env import load_tvm

    tvm = load_tvm(intrinsics=True)
    machine = tvm.relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    result: Any = machine["main"](*[tvm.runtime.tensor(array) for array in feed.values()])
    return np.asarray(result.numpy())


@pytest.mark.parametrize("name", _SMALL)
def test_subgraphs_are_those_of_the_network_with_constants(name: str) -> None:
    target = resolve_target("llvm")
    held, taken = (load_model(f"{kind} {name}") for kind in ("small", "huge"))
    keys = [
        [(one.key, one.weight) for one in extract_subgraphs(fuse(model.mod, target), target)]
        for model in (held, taken)
    ]
    assert keys[0] == keys[1]
    assert taken.inputs[: len(held.inputs)] == held.inputs
    shapes = [tuple(map(int, param.ty.shape)) for param in taken.mod["main"].params]
    assert shapes == [one.shape for one in taken.inputs]
    assert all(one.weight is not None for one in taken.inputs[len(held.inputs) :])


def test_weights_given_as_inputs_compute_what_constants_compute() -> None:
    held, taken = load_model("small gpt2"), load_model("huge gpt2")
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in zoo.build("small gpt2").graph.initializer
    }
    feed = example_inputs(held.inputs)
    for spec in taken.inputs[1:]:
        # a cut of the positions, and the table as a head
        name, _, again = spec.name.partition(".")
        value = weights[name].T if again else weights[name]
        feed[spec.name] = np.ascontiguousarray(value[tuple(map(slice, spec.shape))])
    wanted = run(held, {"input_ids": feed["input_ids"]})
    np.testing.assert_allclose(run(taken, feed), wanted, rtol=1e-4, atol=1e-4)


def test_weights_made_up_keep_the_activations_of_the_network_alive() -> None:
    model = load_model("huge gpt2")
    outputs = run(model, example_inputs(model.inputs))
    assert np.isfinite(outputs).all()
    assert 0.1 < outputs.std() < 10


def test_made_up_weights_have_the_moments_that_they_name() -> None:
    spec = InputSpec("w", (400, 50), "float32", weight=(1.0, 0.25))
    values = example_inputs([spec])["w"]
    assert abs(values.mean() - 1) < 0.01
    assert abs(values.std() - 0.25) < 0.01


def test_digest_tells_seeds_of_a_huge_network_apart() -> None:
    digests = [load_model("huge vit", seed=seed).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_huge_network_is_tuned_and_timed_with_weights_made_up(tmp_path: Path) -> None:
    from familyseer.options import TuneOptions
    from familyseer.run import tune

    summary = tune(TuneOptions(model="huge gpt2", out=tmp_path / "out", trials=2))
    assert summary["max_rel_error"] < 1e-3
    assert len(summary["inputs"]) == len(load_model("huge gpt2").inputs)
    saved = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [one["weight"] is None for one in saved["inputs"]].count(True) == 1


def test_weights_that_do_not_fit_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    _, weights = zoo.outline("vit_huge")
    free = SimpleNamespace(available=4_000_000_000, total=8_000_000_000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    message = r"weights take 2\.5 GB .*15\.2 GB .*found 4\.0 GB"
    with pytest.raises(UserError, match=message) as caught:
        example_inputs([_IMAGE, *weights])
    assert "\n" not in str(caught.value)


def test_saved_huge_network_keeps_its_weights_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "gpt2.onnx"
    zoo.save("huge gpt2", path, seed=3)
    assert path.stat().st_size < (tmp_path / "gpt2.onnx.data").stat().st_size
    built, saved = zoo.build("huge gpt2", 3), onnx.load(path)
    assert saved.graph.node == built.graph.node
    for one, other in zip(saved.graph.initializer, built.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(other))
    assert len(load_model(str(path)).inputs) == 1


def test_families_of_the_hugest_are_formed_without_allocating_its_weights() -> None:
    program = (
        "import re, sys; from familyseer.cli.main import main\n"
        "try: main(['families', 'vit_huge', '--target', 'llvm', '--json'])\n"
        # not getrusage, which counts what this process held when it forked
        "finally: print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], "
        "file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    document = json.loads(done.stdout)
    assert sum(len(family["subgraphs"]) for family in document["families"]) == 16
    # in kB; the weights are 2.5 GB
    assert int(done.stderr.split()[-1]) < 1_000_000
