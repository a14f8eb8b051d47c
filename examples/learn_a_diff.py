"""Ship an update of somebody else's model in 20 KB: a transformer learns two new classes.

    python examples/learn_a_diff.py [--steps 300] [--out DIR]

The model is any torch module (here a transformer encoder over made-up sentences), the loss any
loss. Beside the diff the same model is fine-tuned densely, to see what the budget costs. About a
minute on one core. docs/guides/learn-a-diff.md walks through `learn_update`.
"""

import argparse
import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from diffcodec import apply, decode
from diffcodec.weights import read_weights, write_weights
from server.training.learned import wrap
from server.training.parameters import load_parameters, to_parameters

CLASSES, KNOWN, WORDS, LENGTH = 6, 4, 400, 20
RATE = 1e-3

Batches = Iterable[tuple[Tensor, Tensor]]
"""Of word ids, int64 (B, T), and classes, int64 (B,)."""


class Classifier(nn.Module):
    """Somebody else's model: nothing in it knows of diffs."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, 64)
        self.positions = nn.Embedding(LENGTH, 64)
        layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
        self.head = nn.Linear(64, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) word ids -> (B, classes)."""
        embedded = self.words(ids) + self.positions(torch.arange(ids.shape[1]))
        return self.head(self.encoder(embedded).mean(dim=1))


def learn_update(model: nn.Module, batches: Batches, steps: int, budget: str, file: Path) -> None:
    """Train as usual; leave an update of the model that fits a budget."""
    learned = wrap(model, budget, steps)  # from now on the weights are F_t + G
    optimizer = torch.optim.AdamW(learned.free(), lr=RATE * learned.speed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    learned.attach(optimizer)

    model.train()
    for _, (x, y) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(learned.free(), 1.0)
        optimizer.step()
        schedule.step()

    file.write_bytes(learned.encode())


def update_device(base: Path, update: Path) -> nn.Module:
    """Elsewhere: `diffcodec apply` does the same with files."""
    weights = read_weights(base)
    model = Classifier()
    load_parameters(model, apply(weights, decode(update.read_bytes(), weights.layout)))
    return model


def fine_tune(model: nn.Module, batches: Batches, steps: int) -> None:
    """The same loop with every weight free."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    model.train()
    for _, (x, y) in zip(range(steps), batches, strict=False):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def sentences(classes: int, seed: int, size: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches: a class is which words follow which, here and there in a sentence."""
    generator = torch.Generator().manual_seed(seed)
    habits = torch.randint(WORDS, (CLASSES, WORDS), generator=torch.Generator().manual_seed(0))
    while True:
        labels = torch.randint(classes, (size,), generator=generator)
        words = torch.randint(WORDS // 8, (size, LENGTH), generator=generator)
        follows = torch.rand(size, LENGTH, generator=generator) < 0.3
        for at in range(1, LENGTH):
            following = habits[labels, words[:, at - 1]]
            words[:, at] = torch.where(follows[:, at], following, words[:, at])
        yield words, labels


def accuracy(model: nn.Module) -> float:
    """On sentences of all classes that it never saw."""
    x, y = next(sentences(CLASSES, seed=99, size=1_000))
    with torch.no_grad():
        return (model.eval()(x).argmax(dim=1) == y).float().mean().item()


def main(steps: int, folder: Path) -> None:
    """Generation 0 knows four classes; a diff of 20 KB teaches it two more."""
    torch.manual_seed(0)
    model = Classifier()
    fine_tune(model, sentences(KNOWN, seed=1), steps)
    write_weights(folder / "base.safetensors", to_parameters(model))
    dense_bytes = (folder / "base.safetensors").stat().st_size
    print(f"generation 0         {accuracy(model):6.1%} of six classes")

    tuned = copy.deepcopy(model)
    fine_tune(tuned, sentences(CLASSES, seed=2), steps)
    print(f"fine-tuned densely   {accuracy(tuned):6.1%}  {dense_bytes:9,} bytes to send")

    update = folder / "update.ndiff"
    learn_update(model, sentences(CLASSES, seed=2), steps, "20KB", update)
    device = update_device(folder / "base.safetensors", update)
    print(f"as a diff, on device {accuracy(device):6.1%}  {update.stat().st_size:9,} bytes to send")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ship an update of a transformer in 20 KB.")
    parser.add_argument("--steps", type=int, default=300, help="of each training")
    parser.add_argument("--out", type=Path, help="keep base.safetensors and update.ndiff there")
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        main(arguments.steps, arguments.out or Path(made))
