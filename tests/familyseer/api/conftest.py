"""One small run that tests look at from all sides, and models to tune."""

from __future__ import annotations

from typing import Any

import pytest

import familyseer


@pytest.fixture(scope="session")
def torch() -> Any:
    return pytest.importorskip("torch", reason="needs the extra familyseer[torch]")


@pytest.fixture(scope="session")
def network(torch: Any) -> Any:
    """A convolutional network in training mode, whose outputs are nested."""

    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.norm = torch.nn.BatchNorm2d(8)
            self.norm.running_mean.normal_()
            self.pool = torch.nn.MaxPool2d(2)
            self.drop = torch.nn.Dropout()
            self.head = torch.nn.Linear(8 * 3 * 3, 5)

        def forward(self, x: Any, *, scale: Any) -> Any:
            pooled = self.pool(torch.relu(self.norm(self.conv(x))))
            return {"scores": self.head(self.drop(pooled.flatten(1))) * scale, "pooled": (pooled,)}

    torch.manual_seed(0)
    return Small().train()


@pytest.fixture(scope="session")
def arguments(torch: Any) -> dict[str, Any]:
    return {"scale": torch.tensor([2.0]), "x": torch.randn(2, 3, 8, 8)}


@pytest.fixture(scope="session")
def result(network: Any, arguments: dict[str, Any]) -> familyseer.Result:
    return familyseer.tune(network, arguments, trials=5)
