"""The joint network in blocks gives what the whole lattice of logits gives."""

import pytest
import torch
from torch import Tensor

from server.training.rnnt import joint
from server.training.rnnt.joint import emission_log_probs

T, B, U, E, V = 5, 3, 4, 6, 7
SIZES = [(5, 4), (2, 1), (4, 0)]


def random_inputs() -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shapes = [(T, B, E), (U + 1, B, E), (V, E), (V,)]
    learned = [torch.randn(*s, dtype=torch.float64, requires_grad=True) for s in shapes]
    frames, counts = torch.tensor(SIZES).T
    return learned, torch.randint(1, V, (U, B)), frames, counts


def materialised(learned: list[Tensor], pieces: Tensor) -> tuple[Tensor, Tensor]:
    encoded, predicted, weight, bias = learned
    hidden = torch.tanh(encoded.transpose(0, 1)[:, :, None] + predicted.transpose(0, 1)[:, None])
    log_probs = (hidden @ weight.T + bias).log_softmax(dim=-1)
    index = pieces.T[:, None, :, None].expand(-1, T, -1, -1)
    return log_probs[..., 0], log_probs[:, :, :U].gather(3, index)[..., 0]


@pytest.mark.parametrize("block", [1, 60, 1 << 24])
def test_values_and_gradients_are_those_of_the_whole(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(joint.BLOCK, "cpu", block)
    learned, pieces, frames, counts = random_inputs()
    inside = torch.zeros(B, T, U + 1, dtype=torch.bool)
    for b, (t, u) in enumerate(SIZES):
        inside[b, :t, : u + 1] = True
    has_piece = inside[:, :, 1:]
    blank, piece = emission_log_probs(*learned, pieces, frames, counts)
    expected = materialised(learned, pieces)
    torch.testing.assert_close(blank[inside], expected[0][inside])
    torch.testing.assert_close(piece[has_piece], expected[1][has_piece])
    assert not blank[~inside].any() and not piece[~has_piece].any()

    def weighted(of_blank: Tensor, of_piece: Tensor) -> Tensor:
        # Different weights for different cells.
        return (of_blank[inside].sin() + of_blank[inside] * 2).sum() + of_piece[
            has_piece
        ].cos().sum()

    found = torch.autograd.grad(weighted(blank, piece), learned)
    wanted = torch.autograd.grad(weighted(*expected), learned)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_gradients_agree_with_differences() -> None:
    learned, pieces, frames, counts = random_inputs()
    assert torch.autograd.gradcheck(
        lambda *x: emission_log_probs(*x, pieces, frames, counts), learned
    )


def test_autocast_gives_nearly_the_same_in_float32() -> None:
    learned, pieces, frames, counts = random_inputs()
    single = [x.detach().float().requires_grad_() for x in learned]
    exact = emission_log_probs(*single, pieces, frames, counts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = emission_log_probs(*single, pieces, frames, counts)
    for a, b in zip(rounded, exact, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=0.1, rtol=0.05)
    gradients = [torch.autograd.grad(sum(x.sum() for x in y), single) for y in (rounded, exact)]
    for a, b in zip(*gradients, strict=True):
        assert (a - b).norm() < 0.02 * b.norm()
