"""What server and device must agree on about speech: audio, features, tokens, corpora, cards.

Not for: models, training or inference. Depends on numpy, soundfile and soxr alone, so that the
device computes exactly the features that the model was trained on.

    >>> from speech import audio, features
    >>> frames = features.extract(audio.read_audio("hello.wav"))   # float32, (T, 192)
"""
