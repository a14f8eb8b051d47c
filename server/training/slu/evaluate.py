"""The server's own measure of a generation: accuracy with torch on the same features.

The device's measure (ONNX Runtime, one recording at a time) must agree with it, but for a model in
int8: a device rounds to int8 what the matrices are multiplied with, too, and here it is float32.
"""

import torch
from torch.func import functional_call

from diffcodec import ParameterSet
from server.training.grid import dequantise
from server.training.parameters import to_weights
from server.training.slu.examples import Examples, pad_phrases
from server.training.slu.model import ModelConfig, SpokenCommandModel
from speech.corpus import Corpus


@torch.no_grad()
def accuracy(
    parameters: ParameterSet, config: ModelConfig, corpus: Corpus, phrases: tuple[str, ...]
) -> float:
    """Share of utterances whose nearest phrase is theirs.

    Args:
        parameters: Weights in canonical layout.
        config: Sizes of the model that they belong to.
        corpus: Test utterances; one whose text is not among the phrases counts as wrong.
        phrases: What the model chooses from.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: the corpus is empty.
    """
    if not corpus.utterances:
        raise ValueError("expected test utterances, found none")
    known = tuple(sorted({*phrases, *corpus.phrases()}))
    examples = Examples.of(corpus, known)
    choices = torch.tensor([known.index(phrase) for phrase in phrases])
    model = SpokenCommandModel(config).eval()
    weights = to_weights(dequantise(parameters))
    texts = pad_phrases(phrases, config.tokens)
    correct = 0
    for features, labels in examples.in_order(batch_size=128):
        inputs = (features.values, features.lengths, texts.values, texts.lengths)
        speech, text = functional_call(model, weights, inputs)
        nearest = choices[(speech @ text.T).argmax(dim=1)]
        correct += int((nearest == labels).sum())
    return correct / len(examples)
