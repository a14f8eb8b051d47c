"""A small module of somebody else's, a task for it, and a training loop as anybody writes it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from server.training.learned import LearnedDiff

STEPS = 80


class Net(nn.Module):
    """Matrices, vectors, and statistics that training moves."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(12, 40)
        self.norm = nn.BatchNorm1d(40)
        self.out = nn.Linear(40, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.norm(self.hidden(x))))


def new_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net()


def data(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(256, 12, generator=generator)
    return x, torch.sin(x[:, :6] * 1.5) + 0.3 * x[:, 6:]


def train(
    learned: LearnedDiff, steps: int = STEPS, rate: float = 2e-2, each: Callable | None = None
) -> float:
    """As usual; the loss of the last step."""
    optimizer = torch.optim.Adam(learned.free(), lr=rate)
    learned.attach(optimizer)
    x, y = data()
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(learned.model(x), y)
        loss.backward()
        optimizer.step()
        if each is not None:
            each(step + 1)
    return loss.item()


def plain_loss(model: nn.Module) -> float:
    """In evaluation, as a device runs it."""
    x, y = data()
    model.eval()
    with torch.no_grad():
        found = nn.functional.mse_loss(model(x), y).item()
    model.train()
    return found
