"""Programs saved by torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from familyseer.errors import UserError
from familyseer.models import example_inputs, load_model
from familyseer.models._relax import calls

torch = pytest.importorskip("torch", reason="needs the extra familyseer[torch]")


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, bias=False)
            self.norm = torch.nn.BatchNorm2d(8)
            self.norm.running_mean.normal_()
            self.norm.running_var.uniform_(0.5, 2.0)
            self.rows = torch.nn.Embedding(20, 8)

        def forward(self, x: Any, ids: Any) -> Any:
            return torch.relu(self.norm(self.conv(x))).mean((2, 3)) + self.rows(ids).sum(1)

    return Network().eval()


def save(network: Any, path: Path, *, dynamic: bool) -> str:
    batch = {0: torch.export.Dim("batch", min=1, max=8)}
    shapes = {"x": batch, "ids": batch} if dynamic else None
    sample = (torch.randn(2, 3, 10, 10), torch.randint(0, 20, (2, 5)))
    torch.export.save(torch.export.export(network, sample, dynamic_shapes=shapes), path)
    return str(path)


def test_exported_program_computes_what_torch_computes(network: Any, tmp_path: Path) -> None:
    from familyseer.tvm_env import load_tvm

    model = load_model(
        save(network, tmp_path / "m.pt2", dynamic=True), input_shapes={"x": (3, 3, 10, 10)}
    )
    assert [(one.name, one.shape, one.index_bound) for one in model.inputs] == [
        ("x", (3, 3, 10, 10), None),
        ("ids", (3, 5), 20),
    ]
    tvm = load_tvm(intrinsics=True)
    feed = example_inputs(model.inputs)
    machine = tvm.relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    got = machine["main"](*[tvm.runtime.tensor(array) for array in feed.values()]).numpy()
    want = network(*[torch.from_numpy(array) for array in feed.values()]).detach().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_batch_norm_is_folded(network: Any, tmp_path: Path) -> None:
    model = load_model(save(network, tmp_path / "m.pt2", dynamic=False))
    names = [call.op.name for _, call in calls(model.mod)]
    assert names[:3] == ["relax.nn.conv2d", "relax.add", "relax.nn.relu"]


def test_unbound_batch_is_a_user_error(network: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"input x has dynamic dims.*--input-shape x="):
        load_model(save(network, tmp_path / "m.pt2", dynamic=True))


def test_archive_of_something_else_is_a_user_error(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "m.pt2")
    with pytest.raises(UserError, match=r"expected a program saved by torch\.export\.save"):
        load_model(str(tmp_path / "m.pt2"))


def test_batch_norm_goes_into_convolutions_with_and_without_a_bias(tmp_path: Path) -> None:
    from familyseer.tvm_env import load_tvm

    torch.manual_seed(1)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False),
        torch.nn.BatchNorm2d(8),
        torch.nn.Conv2d(8, 6, 3, bias=True),
        torch.nn.BatchNorm2d(6),
    ).eval()
    for norm in (network[1], network[3]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    sample = torch.randn(2, 3, 10, 10)
    torch.export.save(torch.export.export(network, (sample,)), tmp_path / "m.pt2")
    model = load_model(str(tmp_path / "m.pt2"))
    assert [call.op.name for _, call in calls(model.mod)] == ["relax.nn.conv2d", "relax.add"] * 2
    tvm = load_tvm(intrinsics=True)
    machine = tvm.relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    got = machine["main"](tvm.runtime.tensor(sample.numpy())).numpy()
    np.testing.assert_allclose(got, network(sample).detach().numpy(), rtol=1e-4, atol=1e-4)
