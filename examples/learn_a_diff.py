"""Ship an update of somebody else's model in 20 KB: a transformer that learned two new classes.

    python examples/learn_a_diff.py

The model is any torch module (here a transformer encoder on made-up sequences), the loss any loss.
"""

import torch
from torch import nn

from diffcodec import apply, decode
from server.training.learned import wrap
from server.training.parameters import to_parameters

STEPS, CLASSES, KNOWN = 300, 6, 4


class Classifier(nn.Module):
    """Somebody else's model: nothing in it knows of diffs."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, 64) -> (B, classes)."""
        return self.head(self.encoder(x).mean(dim=1))


def batch(classes: int, generator: torch.Generator, size: int = 64) -> tuple[torch.Tensor, ...]:
    """Sequences that turn at a speed of their class's own."""
    labels = torch.randint(classes, (size,), generator=generator)
    turns = torch.arange(20)[None, :, None] * (labels[:, None, None] + 1) * 0.15
    waves = torch.sin(turns + torch.arange(64) * 0.7)
    return waves + torch.randn(size, 20, 64, generator=generator), labels


def train(model: nn.Module, optimizer: torch.optim.Optimizer, classes: int) -> None:
    """A training loop as anybody writes it."""
    generator = torch.Generator().manual_seed(classes)
    for _ in range(STEPS):
        x, y = batch(classes, generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()


def accuracy(model: nn.Module) -> float:
    """On sequences of all classes that it never saw."""
    x, y = batch(CLASSES, torch.Generator().manual_seed(99), size=500)
    with torch.no_grad():
        return (model.eval()(x).argmax(dim=1) == y).float().mean().item()


def main() -> None:
    """Generation 0 knows four classes; a diff of 20 KB teaches it two more."""
    torch.manual_seed(0)
    model = Classifier()
    train(model, torch.optim.Adam(model.parameters(), lr=1e-3), KNOWN)
    base = to_parameters(model)
    print(f"generation 0: {accuracy(model):.1%} of six classes, {base.layout.file_bytes:,} bytes")

    model.train()
    learned = wrap(model, budget="20KB", steps=STEPS)
    optimizer = torch.optim.Adam(learned.free(), lr=1e-3 * learned.speed)
    learned.attach(optimizer)
    train(model, optimizer, CLASSES)
    file = learned.encode()

    device = Classifier()  # elsewhere: the same base, and the file
    weights = apply(base, decode(file, base.layout))
    device.load_state_dict({name: torch.tensor(a) for name, a in weights.arrays.items()})
    print(f"generation 1: {accuracy(device):.1%}, sent as {len(file):,} bytes")


if __name__ == "__main__":
    main()
