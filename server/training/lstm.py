"""An LSTM layer whose parameters lie as ONNX's LSTM operator wants them.

What is learned, pruned or hashed here is what travels and what a device stores, so nobody
permutes anything on the way: W (1, 4H, D), R (1, 4H, H), B (1, 8H) or (1, 4H), gates i, o, f, c.
ONNX Runtime's DynamicQuantizeLSTM, for int8, wants both matrices the other way: W (1, D, 4H),
R (1, H, 4H).

Letters: T frames or tokens, B batch, D input size, H hidden units.
"""

import torch
from torch import Tensor, nn

State = tuple[Tensor, Tensor]
"""Hidden and cell state of one layer, each (1, B, H)."""

# ONNX gates i, o, f, c -> torch gates i, f, g (= c), o.
TORCH_GATES = [0, 2, 3, 1]


class OnnxLstmLayer(nn.Module):
    """One forward LSTM layer.

    Args:
        inputs: D.
        hidden: H.
        biases: 2 for the operator's pair of biases (input and recurrent, B is (1, 8H)), 1 for
            the input's alone (B is (1, 4H), and the graph appends zeros for the other).
        is_input_major: W and R lie as DynamicQuantizeLSTM wants them.
    """

    def __init__(
        self, inputs: int, hidden: int, biases: int = 2, *, is_input_major: bool = False
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self._is_input_major = is_input_major
        bound = hidden**-0.5

        def matrix(columns: int) -> nn.Parameter:
            shape = (1, columns, 4 * hidden) if is_input_major else (1, 4 * hidden, columns)
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))

        self.W, self.R = matrix(inputs), matrix(hidden)
        self.B = nn.Parameter(torch.empty(1, biases * 4 * hidden).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D) -> (T, B, H), starting from zero states."""
        return self.run(x, None)[0]

    def run(self, x: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Go on from a state: None is zeros.

        Returns:
            Outputs (T, B, H) and the state after the last of them.
        """
        h = self.hidden
        if state is None:
            zeros = x.new_zeros(1, x.shape[1], h)
            state = zeros, zeros
        # torch wants two biases; where there is one, the other is zero.
        input_bias, recurrent_bias = self.B[0, : 4 * h], self.B[0, 4 * h :]
        inputs, recurrent = self.W[0], self.R[0]
        if self._is_input_major:
            inputs, recurrent = inputs.T, recurrent.T
        weights = [
            _to_torch_gates(inputs, h),
            _to_torch_gates(recurrent, h),
            _to_torch_gates(input_bias, h),
            _to_torch_gates(recurrent_bias, h)
            if len(recurrent_bias)
            else input_bias.new_zeros(4 * h),
        ]
        out, hidden, cell = torch.lstm(x, state, weights, True, 1, 0.0, self.training, False, False)
        return out, (hidden, cell)


def _to_torch_gates(weight: Tensor, hidden: int) -> Tensor:
    return weight.reshape(4, hidden, -1)[TORCH_GATES].reshape(weight.shape)
